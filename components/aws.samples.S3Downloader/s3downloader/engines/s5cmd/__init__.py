"""The engine that runs s5cmd."""
