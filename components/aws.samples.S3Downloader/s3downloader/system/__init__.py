"""What the operating system gives: child processes, memory, directories, files."""
