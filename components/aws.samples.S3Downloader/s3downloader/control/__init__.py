"""What may ask the device to act, and what the device says: service, handlers, status."""
