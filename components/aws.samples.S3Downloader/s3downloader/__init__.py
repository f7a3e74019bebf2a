"""Downloads large models from S3 to edge devices under MQTT command."""

__version__ = "1.0.0"
