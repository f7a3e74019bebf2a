"""The models on the device: their registry, and the shadow that follows it."""
