"""The engine s5cmd: runs the program s5cmd."""
