"""How staged files come to their destination: publish, replace, retained versions."""
