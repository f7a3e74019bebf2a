"""Sources: what lists, reads and describes objects."""
