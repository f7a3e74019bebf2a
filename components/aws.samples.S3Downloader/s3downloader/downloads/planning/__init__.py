"""What is to be fetched, and whether it may be: admission, plan, paths, checksums, reuse."""
