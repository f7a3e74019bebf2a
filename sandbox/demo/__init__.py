"""The demo of `make run`: downloads a model from S3 to a device, shows and checks each step."""
