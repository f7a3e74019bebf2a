"""Decides what is fetched, and whether it may be: admission, plan, paths, checksums, reuse."""
