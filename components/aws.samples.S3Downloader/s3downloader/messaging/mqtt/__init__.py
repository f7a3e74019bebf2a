"""Messaging through an MQTT 5 broker."""
