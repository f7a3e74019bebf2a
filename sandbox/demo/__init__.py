"""What a newcomer runs first: a model on its way from S3 to a device, shown and checked."""
