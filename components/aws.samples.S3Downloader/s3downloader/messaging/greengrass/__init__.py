"""Messaging through the Greengrass nucleus."""
