"""How staged files come to their destination: publish, replace, kept versions."""
