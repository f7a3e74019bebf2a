"""Building and publishing the components; none of this is on a device."""
