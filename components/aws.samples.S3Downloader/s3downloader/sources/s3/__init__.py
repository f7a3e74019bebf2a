"""The source for S3 and compatible object stores: listing, metadata, credentials, responses."""
