"""Moves staged files to their destination: publish, replace, retained versions."""
