"""Carries each command out and makes its response."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from msgspec import UNSET

from ..contract import commands, encode, responses
from ..contract.commands import Command
from ..contract.paging import (
    DOWNLOADS,
    LIMITS,
    MODELS,
    files_of,
    item_after,
    objects_of,
    page_token,
)
from ..core.aio import batches
from ..core.clock import Clock
from ..core.errors import from_system
from ..core.objects import ObjectRef, SourceRef
from ..core.records import ACTIVE, FINISHED, Download, FileRecord
from ..core.settings import Settings
from ..downloads.active_download import ActiveDownload
from ..downloads.manager import DownloadManager
from ..downloads.planning.path_safety import check_source
from ..downloads.policy.bandwidth import Bandwidth
from ..downloads.state_machine import CommandContext
from ..downloads.views import (
    details_view,
    disk_usage,
    download_view,
    file_view,
    limit_view,
    object_view,
)
from ..models.registry import Registry
from ..sources.registry import Sources
from ..store import Store
from ..store.outbox import Outbox

__all__ = ["Handlers"]

_PAGE = 200
"""Items that are read for a page of files or objects. As many of them as fit are sent."""


class Handlers:
    """Carries commands out. Each response is on disk, under its command's id, before it is sent.

    Responses to commands that only read are also sent if they cannot be recorded.
    """

    def __init__(
        self,
        *,
        device_id: str,
        store: Store,
        outbox: Outbox,
        manager: DownloadManager,
        bandwidth: Bandwidth,
        registry: Registry,
        sources: Sources,
        settings: Callable[[], Settings],
        clock: Clock,
    ) -> None:
        self._device_id = device_id
        self._store = store
        self._outbox = outbox
        self._manager = manager
        self._bandwidth = bandwidth
        self._registry = registry
        self._sources = sources
        self._settings = settings
        self._clock = clock
        self._table: dict[type[Command], Callable[[Any], Awaitable[None]]] = {
            commands.Download: self._download,
            commands.Pause: partial(self._change_download, manager.pause, "paused"),
            commands.Resume: partial(self._change_download, manager.resume, "resumed"),
            commands.Cancel: partial(self._change_download, manager.cancel, "cancelled"),
            commands.List: self._list,
            commands.Details: self._details,
            commands.Status: self._status,
            commands.DiskSpace: self._disk_space,
            commands.Limits: self._limits,
            commands.ModelList: self._model_list,
            commands.ModelGet: self._model_get,
            commands.ModelAdd: self._model_add,
            commands.ModelDelete: self._model_delete,
            commands.ModelRollback: self._model_rollback,
        }

    async def handle(self, command: Command) -> None:
        """Carry `command` out and send its response. Raises DownloaderError to refuse it."""
        if isinstance(command, commands.List | commands.Details | commands.Status):
            await self._manager.save_progress()
        try:
            await self._table[type(command)](command)
        except (OSError, RuntimeError, MemoryError) as error:
            if known := from_system(error):
                raise known from error
            raise

    def status(self, since: float = math.inf) -> responses.Status:
        """Return the present status.

        `since` is a time of the monotonic clock. Downloads whose state has changed since then come
        first, then the active ones, so that these remain if the list is cut.
        """

        def rank(active: ActiveDownload) -> tuple[bool, bool]:
            has_changed = active.entered is not None and active.entered >= since
            return not has_changed, active.download.state not in ACTIVE

        shown = [
            active for active in self._manager.downloads if active.download.state not in FINISHED
        ]
        shown.sort(key=rank)
        return responses.Status(
            device_id=self._device_id,
            timestamp=self._clock.now(),
            active_downloads=sum(active.download.state in ACTIVE for active in shown),
            downloads=[download_view(active) for active in shown],
            disk_space=disk_usage(self._settings().download_dir),
        )

    async def _download(self, command: commands.Download) -> None:
        await self._manager.start(command, partial(self._download_response, command, "accepted"))

    async def _change_download(
        self,
        change: Callable[[str, CommandContext], Awaitable[None]],
        what: str,
        command: commands.Pause | commands.Resume | commands.Cancel,
    ) -> None:
        context = CommandContext(
            command.command_id, partial(self._download_response, command, what)
        )
        await change(command.download_id, context)

    def _download_response(self, command: Command, what: str, download: Download) -> bytes:
        return self._encode(
            responses.DownloadResponse(
                **_common_fields(command),
                message=f"download {download.download_id} {what}",
                download_id=download.download_id,
                status=download.state,
            )
        )

    async def _list(self, command: commands.List) -> None:
        if command.list_type == "s3":
            await self._list_objects(command)
        elif command.list_type == "models":
            await self._model_list(command)
        else:
            await self._list_downloads(command)

    async def _list_downloads(self, command: commands.List) -> None:
        downloads = self._downloads_after(DOWNLOADS, command.next_token)
        await self._respond(
            responses.DownloadsResponse(
                **_common_fields(command),
                message=_count(len(downloads), "download"),
                downloads=[download_view(active) for active in downloads],
            )
        )

    def _downloads_after(self, listing: str, token: str | None) -> list[ActiveDownload]:
        downloads = self._manager.downloads
        if token:
            last = self._manager.find(item_after(listing, token, str))
            downloads = downloads[downloads.index(last) + 1 :]
        return downloads

    async def _list_objects(self, command: commands.List) -> None:
        assert command.bucket is not None
        source = SourceRef("s3", command.bucket, command.key)
        check_source(source, self._settings().allowed_sources)
        listing, token = objects_of(command.bucket, command.key), command.next_token
        after = item_after(listing, token, str) if token else ""
        found = await self._objects(source, after)
        listed, more = found[:_PAGE], len(found) > _PAGE
        response = responses.ObjectsResponse(
            **_common_fields(command),
            message=_count(len(listed), "object") + (" and more" if more else ""),
            bucket=command.bucket,
            key=command.key,
            objects=[object_view(each) for each in listed],
            next_token=page_token(listing, listed[-1].name) if more else UNSET,
        )
        await self._respond(response)

    async def _objects(self, source: SourceRef, after: str) -> list[ObjectRef]:
        """Return the objects of a page, and the one after them if there are more."""
        limit = _PAGE + 1
        listed = self._sources.open(source).list(after=after, page=limit)
        return await anext(batches(listed, limit), [])

    async def _details(self, command: commands.Details) -> None:
        active = self._manager.find(command.download_id)
        listing, token = files_of(command.download_id), command.next_token
        after = item_after(listing, token, int) if token else 0
        files = self._store.files(command.download_id, after=after)
        page: list[FileRecord] = await anext(batches(files, _PAGE), [])
        await self._respond(
            responses.DetailsResponse(
                **_common_fields(command),
                message=f"download {command.download_id} is {active.download.state.value}",
                download_id=command.download_id,
                status=active.download.state,
                details=details_view(active),
                files=[file_view(file, active.download.state) for file in page],
                next_token=page_token(listing, page[-1].number) if len(page) == _PAGE else UNSET,
            )
        )

    async def _status(self, command: commands.Status) -> None:
        status = self.status()
        await self._respond(
            responses.StatusResponse(
                **_common_fields(command),
                message=_count(status.active_downloads, "active download"),
                device_id=status.device_id,
                timestamp=status.timestamp,
                active_downloads=status.active_downloads,
                downloads=status.downloads,
                disk_space=status.disk_space,
            )
        )

    async def _disk_space(self, command: commands.DiskSpace) -> None:
        usage = disk_usage(self._settings().download_dir)
        await self._respond(
            responses.DiskSpaceResponse(
                **_common_fields(command), message=f"{usage.free} bytes free", disk_space=usage
            )
        )

    async def _limits(self, command: commands.Limits) -> None:
        limit = command.max_bandwidth
        if limit is UNSET:
            await self._respond(self._current_limits(command))
        elif command.download_id is None:
            await self._bandwidth.choose(
                limit, lambda: self._responses(self._current_limits(command))
            )
        else:
            context = CommandContext(
                command.command_id,
                lambda record: self._encode(self._current_limits(command, record)),
            )
            await self._manager.limit(command.download_id, limit, context)

    def _current_limits(
        self, command: commands.Limits, record: Download | None = None
    ) -> responses.LimitsResponse:
        """Return the limits in force. `record` is the download's record with its new limit."""
        if command.download_id:
            active = self._manager.find(command.download_id)
            shown = [limit_view(active, record or active.download)]
        else:
            downloads = self._downloads_after(LIMITS, command.next_token)
            shown = [limit_view(a, a.download) for a in downloads if a.download.state in ACTIVE]
        limit = self._bandwidth.limit()
        return responses.LimitsResponse(
            **_common_fields(command),
            message=f"the device's limit is {limit} bytes per second" if limit else "no limit",
            max_bandwidth=limit,
            configured_max_bandwidth=self._bandwidth.configured(),
            downloads=shown,
        )

    async def _model_list(self, command: commands.ModelList | commands.List) -> None:
        models = self._registry.models()
        if command.next_token:
            after = item_after(MODELS, command.next_token, str)
            models = [model for model in models if model["model_id"] > after]
        await self._respond(
            responses.ModelsResponse(
                **_common_fields(command), message=_count(len(models), "model"), models=models
            )
        )

    async def _model_get(self, command: commands.ModelGet) -> None:
        model = self._registry.get(command.model_id)
        await self._respond(_model_response(command, "found", model))

    async def _model_add(self, command: commands.ModelAdd) -> None:
        def make_responses(model: dict[str, Any]) -> list[tuple[str, bytes]]:
            return self._responses(_model_response(command, "registered", model))

        await self._registry.add(command.model_meta, make_responses)

    async def _model_delete(self, command: commands.ModelDelete) -> None:
        response = responses.ModelResponse(
            **_common_fields(command),
            message=f"model {command.model_id} deleted; its files are kept",
            model_id=command.model_id,
        )
        await self._manager.delete_model(command.model_id, lambda _: self._responses(response))

    async def _model_rollback(self, command: commands.ModelRollback) -> None:
        def make_responses(model: dict[str, Any]) -> list[tuple[str, bytes]]:
            version = model.get("model_version", "the previous version")
            what = f"rolled back; it is now {version}"
            return self._responses(_model_response(command, what, model))

        await self._manager.roll_back(command.model_id, make_responses)

    async def _respond(self, response: responses.Response) -> None:
        """Respond to a command that only reads, even if the response cannot be recorded."""
        await self._outbox.respond(response.command_id, self._encode(response))

    def _responses(self, response: responses.Response) -> list[tuple[str, bytes]]:
        return [(response.command_id, self._encode(response))]

    def _encode(self, message: responses.Message) -> bytes:
        return encode(message, self._settings().max_payload_bytes)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _common_fields(command: Command) -> dict[str, Any]:
    return {"command_id": command.command_id, "command": command.command}


def _model_response(command: Command, what: str, model: dict[str, Any]) -> responses.ModelResponse:
    return responses.ModelResponse(
        **_common_fields(command),
        message=f"model {model['model_id']} {what}",
        model_id=model["model_id"],
        model=model,
    )
