"""The engine ranged: requests ranges of objects, and continues inside a file."""
