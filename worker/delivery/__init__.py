"""Delivery of one result to one destination, with its own state, retries and digests."""
