"""Entry point: chooses the adapters and the engine, wires them, runs until told to stop."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from s3downloader.app import connections
from s3downloader.app.arguments import Arguments, parse
from s3downloader.app.daemon import Daemon
from s3downloader.app.process import run_until_stopped
from s3downloader.core.aio import stop, unless
from s3downloader.core.clock import SystemClock
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd, installed_binary
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from s3downloader.sources.s3.source import S3Source

_INSTALLER = Path(__file__).parent / "install_s5cmd.sh"


async def serve(arguments: Arguments) -> None:
    """Serve until cancelled, or raise what makes that impossible."""
    over = {"greengrass": connections.over_greengrass, "mqtt": connections.over_mqtt}
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(over[arguments.messaging](arguments))
        live, clock = connection.live(), SystemClock()
        version, folder, endpoint_url = live.s5cmd_version, Path(live.state_dir), live.endpoint_url
        credentials = Credentials(os.environ, clock, connection.locate_credentials)
        binary = installed_binary(version, folder)
        tool = S5cmd(endpoint_url=endpoint_url, binary=binary, environment=credentials.environment)
        adopting = tool.adopt(version, installer=_INSTALLER, folder=folder, clock=clock)
        stack.push_async_callback(stop, asyncio.create_task(adopting))
        heads = ObjectMetadata(endpoint_url, credentials)
        stack.callback(heads.close)
        ranged = RangedEngine(
            endpoint_url=endpoint_url, credentials=credentials, heads=heads, clock=clock
        )
        daemon = Daemon(
            thing_name=arguments.thing_name,
            live=connection.live,
            bus=connection.bus,
            shadow=connection.shadow,
            source=S3Source(heads, clock),
            engine=AutoEngine(s5cmd=S5cmdEngine(tool, clock, heads), ranged=ranged),
            clock=clock,
            transient=connection.transient,
        )
        await connection.watch(daemon.reconfigure, daemon.defer_update, daemon.warn)
        await unless(daemon.serve(connection.report_running), credentials.wait_lost())


if __name__ == "__main__":
    given = parse(sys.argv[1:], os.environ)
    run_until_stopped(serve(given), by_nucleus=given.messaging == "greengrass")
