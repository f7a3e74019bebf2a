"""Wrappers of the operating system: child processes, memory, directories, files."""
