"""Carries commands out, and sends responses, events, status and notices."""
