"""S3 and stores that speak its API: listing, metadata, credentials, what an answer proves."""
