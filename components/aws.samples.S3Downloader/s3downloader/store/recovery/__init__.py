"""Detects a damaged state, salvages its sound rows, and reports what is lost."""
