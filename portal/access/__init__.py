"""Who uses the portal, how they signed in, and what they may do."""
