"""The engine that fetches ranges of objects and goes on inside a file."""
