"""Entry point: chooses the adapters and the engine, wires them, runs until told to stop."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from s3downloader import connections
from s3downloader.aio import stop
from s3downloader.arguments import Arguments, parse
from s3downloader.clock import SystemClock
from s3downloader.daemon import Daemon
from s3downloader.engines.s5cmd import S5cmdEngine
from s3downloader.process import run_until_stopped
from s3downloader.s5cmd import S5cmd, installed_binary
from s3downloader.sources import S3Source

_S5CMD_INSTALLER = Path(__file__).parent / "install_s5cmd.sh"


async def serve(arguments: Arguments) -> None:
    """Serve until cancelled, or raise what makes that impossible."""
    over = {"greengrass": connections.over_greengrass, "mqtt": connections.over_mqtt}
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(over[arguments.messaging](arguments))
        live, clock = connection.live(), SystemClock()
        version, folder = live.s5cmd_version, Path(live.state_dir)
        tool = S5cmd(endpoint_url=live.endpoint_url, binary=installed_binary(version, folder))
        adopting = asyncio.create_task(
            tool.adopt(version, installer=_S5CMD_INSTALLER, folder=folder, clock=clock)
        )
        stack.push_async_callback(stop, adopting)
        daemon = Daemon(
            thing_name=arguments.thing_name,
            live=connection.live,
            bus=connection.bus,
            shadow=connection.shadow,
            source=S3Source(tool),
            engine=S5cmdEngine(tool, clock),
            clock=clock,
            transient=connection.transient,
        )
        await connection.watch(daemon.reconfigure)
        await daemon.serve()


if __name__ == "__main__":
    run_until_stopped(serve(parse(sys.argv[1:], os.environ)))
