"""Runs real servers on 127.0.0.1 in place of the cloud: S3 servers and an MQTT broker.

Each is an async context manager around `start` and `stop`. A stopped server can be started again
on the same ports.
"""

from .broker import Broker
from .s3 import ApiServer, ObjectServer, S3Server

__all__ = ["ApiServer", "Broker", "ObjectServer", "S3Server"]
