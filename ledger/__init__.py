"""What must survive: arrived instances as files (`spool`), and the state of every case as rows (`store` and its modules)."""
