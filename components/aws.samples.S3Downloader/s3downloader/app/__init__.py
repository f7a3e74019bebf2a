"""Everything put together: the daemon, its connections, its process and its arguments."""
