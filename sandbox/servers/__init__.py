"""Real servers that stand in for the cloud, on 127.0.0.1.

Each is an async context manager around `start` and `stop`. A server that was stopped can be started
again: it keeps its ports.
"""

from .broker import Broker
from .s3 import ApiServer, ObjectServer, S3Server

__all__ = ["ApiServer", "Broker", "ObjectServer", "S3Server"]
