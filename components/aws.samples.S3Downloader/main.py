"""Entry point: chooses messaging, source and engines, connects them, and runs until stopped."""

import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from s3downloader.app import connections
from s3downloader.app.arguments import Arguments, parse
from s3downloader.app.daemon import Daemon
from s3downloader.app.process import MayEnd, run_until_stopped
from s3downloader.core.aio import background, stop, unless
from s3downloader.core.clock import SystemClock
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd, installed_binary
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata

_INSTALLER = Path(__file__).parent / "install_s5cmd.sh"


async def serve(arguments: Arguments, may_end: MayEnd) -> None:
    """Run the daemon until cancelled. Raises DownloaderError if it cannot start or continue."""
    transports = {"greengrass": connections.over_greengrass, "mqtt": connections.over_mqtt}
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(transports[arguments.messaging](arguments))
        live, clock = connection.live(), SystemClock()
        version, state_dir, endpoint = live.s5cmd_version, Path(live.state_dir), live.endpoint_url
        credentials = Credentials(os.environ, clock, connection.locate_credentials, may_end)
        binary = installed_binary(version, state_dir)
        s5cmd = S5cmd(endpoint_url=endpoint, binary=binary, environment=credentials.environment)
        installing = s5cmd.use_version(version, installer=_INSTALLER, folder=state_dir, clock=clock)
        stack.push_async_callback(stop, background(installing))
        client = S3Client(endpoint, credentials)
        stack.callback(client.transport.close_idle)
        sources = sources_over(ObjectMetadata(client), clock)
        ranged = RangedEngine(client=client, sources=sources, clock=clock)
        daemon = Daemon(
            thing_name=arguments.thing_name,
            live=connection.live,
            bus=connection.bus,
            shadow=connection.shadow,
            sources=sources,
            engine=AutoEngine(s5cmd=S5cmdEngine(s5cmd, clock, sources), ranged=ranged),
            clock=clock,
            transient=connection.transient,
        )
        await connection.watch(daemon.reconfigure, daemon.defer_update, daemon.warn)
        await unless(daemon.serve(connection.report_running), credentials.wait_lost())


if __name__ == "__main__":
    command_line = parse(sys.argv[1:], os.environ)
    by_nucleus = command_line.messaging == "greengrass"
    run_until_stopped(lambda may_end: serve(command_line, may_end), by_nucleus=by_nucleus)
