"""Sends HTTP requests to any server. It knows nothing of S3."""
