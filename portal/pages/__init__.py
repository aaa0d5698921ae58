"""Pages of the portal: each module has a function `routes(site)`."""
