"""Switches that make the nucleus fail, to test how a component handles that."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Faults"]


@dataclass
class Faults:
    """The faults of a nucleus. Each stays in force until its attribute is set back."""

    refuse_connections: bool = False
    """Refuse all new connections."""
    cut_handshakes: int = 0
    """Refuse only so many of the next connections."""
    fail_configuration: bool = False
    """Answer operations on the configuration with ServiceError."""
    drop_messages: bool = False
    """Deliver no messages from IoT Core to components."""
    fail_publishes: bool = False
    """Answer PublishToIoTCore with ServiceError."""
    ack_delay: float = 0.0
    """The seconds between a publish and its response."""
