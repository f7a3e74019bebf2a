"""The program: the daemon and its parts, its connections, process and arguments."""
