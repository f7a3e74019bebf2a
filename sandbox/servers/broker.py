"""Runs the MQTT broker mosquitto."""

from __future__ import annotations

import getpass
from pathlib import Path

from ..processes import Process, accepts, find_program, free_ports
from .base import Server

__all__ = ["Broker"]


class Broker(Server):
    """mosquitto with its files in `directory`, on 127.0.0.1:`port`, without authentication.

    With `tls` it also listens on `tls_port`, for clients that have a certificate of its own
    certificate authority. `ca`, `cert` and `key` are the PEM files that such a client needs. With
    `persistence` it keeps sessions and retained messages over a restart.
    """

    def __init__(self, directory: Path, *, tls: bool = False, persistence: bool = False) -> None:
        super().__init__()
        directory.mkdir(parents=True, exist_ok=True)
        self.port, self.tls_port = free_ports(2)
        self.ca = directory / "ca.pem"
        self.cert = directory / "client.pem"
        self.key = directory / "client.key"
        self._log = directory / "mosquitto.log"
        self._config = directory / "mosquitto.conf"
        settings = [
            f"user {getpass.getuser()}",  # as root it would switch to a user without access
            "allow_anonymous true",
            "max_inflight_messages 1000",
            "set_tcp_nodelay true",
            "max_queued_messages 100000",
            f"persistence {str(persistence).lower()}",
            f"persistence_location {directory}/",
            f"listener {self.port} 127.0.0.1",
        ]
        if tls:
            from .certificates import make_certificates  # needs cryptography, of the extra dev

            make_certificates(directory)
            settings += [
                f"listener {self.tls_port} 127.0.0.1",
                f"cafile {self.ca}",
                f"certfile {directory / 'server.pem'}",
                f"keyfile {directory / 'server.key'}",
                "require_certificate true",
            ]
        self._config.write_text("\n".join(settings) + "\n")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def _launch(self) -> Process:
        mosquitto = find_program("mosquitto", hint="install it: sudo apt-get install mosquitto")
        return await Process.start(
            [mosquitto, "-c", str(self._config)],
            log=self._log,
            ready=lambda: accepts(self.port),
        )
