"""The modelled errors of Greengrass IPC."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConflictError",
    "FailedUpdateConditionCheckError",
    "InvalidArgumentsError",
    "IpcError",
    "ResourceNotFoundError",
    "ServiceError",
    "UnauthorizedError",
]


class IpcError(Exception):
    """An error that the client raises under the name of the class.

    `fields` are the further members of the error's shape, by their names on the wire.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class ConflictError(IpcError): ...


class FailedUpdateConditionCheckError(IpcError): ...


class InvalidArgumentsError(IpcError): ...


class ResourceNotFoundError(IpcError): ...


class ServiceError(IpcError): ...


class UnauthorizedError(IpcError): ...
