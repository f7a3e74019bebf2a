"""What becomes of a damaged state: found, salvaged row by row, and told."""
