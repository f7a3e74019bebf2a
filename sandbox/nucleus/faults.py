"""Switches that make the nucleus misbehave, for tests of how a component copes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Faults"]


@dataclass
class Faults:
    """Set an attribute, and it holds until it is set back.

    `refuse_connections` turns new clients away; `fail_publishes` answers PublishToIoTCore with
    ServiceError; `ack_delay` seconds pass between a publish and its response.
    """

    refuse_connections: bool = False
    fail_publishes: bool = False
    ack_delay: float = 0.0
