"""Entry point: reads the settings, chooses the adapters, runs until told to stop."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack

from s3downloader import connections, logs
from s3downloader.arguments import Arguments, parse
from s3downloader.clock import SystemClock
from s3downloader.daemon import Daemon
from s3downloader.engines.s5cmd import S5cmdEngine
from s3downloader.errors import DownloaderError
from s3downloader.messaging.bus import MessagingError
from s3downloader.s5cmd import S5cmd
from s3downloader.sources import S3Source

STOPPED, LOST, REFUSED = 0, 1, 2


async def run(arguments: Arguments) -> int:
    """Serve until SIGTERM or SIGINT, or until messaging is lost for good."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        over = {"greengrass": connections.over_greengrass, "mqtt": connections.over_mqtt}
        connection = await stack.enter_async_context(over[arguments.messaging](arguments))
        tool = S5cmd(endpoint_url=connection.live().endpoint_url)
        clock = SystemClock()
        daemon = Daemon(
            thing_name=arguments.thing_name,
            live=connection.live,
            bus=connection.bus,
            shadow=connection.shadow,
            source=S3Source(tool),
            engine=S5cmdEngine(tool, clock),
            clock=clock,
        )
        await connection.watch(daemon.reconfigure)
        return STOPPED if await daemon.serve(stopping) else LOST


def main() -> int:
    """Return the exit status."""
    logs.configure("INFO")
    try:
        return asyncio.run(run(parse(sys.argv[1:], os.environ)))
    except MessagingError as error:
        logs.fatal(error)
        return LOST
    except DownloaderError as error:
        logs.fatal(error)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
