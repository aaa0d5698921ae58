"""How the portal is served: deadlines and budgets of connections, addresses behind proxies, live streams."""
