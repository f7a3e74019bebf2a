"""Builds and publishes the components. Nothing of this is on a device."""
