"""Switches that make the nucleus misbehave, for tests of how a component copes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Faults"]


@dataclass
class Faults:
    """Set an attribute, and it holds until it is set back.

    `refuse_connections` turns new clients away, `cut_handshakes` the next so many alone;
    `fail_publishes` answers PublishToIoTCore with ServiceError, `fail_configuration` the operations
    on configuration; `deaf` delivers nothing of IoT Core; `ack_delay` seconds pass between a
    publish and its response.
    """

    refuse_connections: bool = False
    cut_handshakes: int = 0
    fail_configuration: bool = False
    deaf: bool = False
    fail_publishes: bool = False
    ack_delay: float = 0.0
