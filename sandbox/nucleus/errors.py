"""The errors of Greengrass IPC."""

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
    """The base class of errors; the client raises an error with the name of the subclass.

    `fields` are the other members of the error's JSON, by their names there.
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
