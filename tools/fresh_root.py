"""Tests the built component in a minimal Debian: `python -m tools.fresh_root`.

Makes a minimal Debian with Python by debootstrap. The local nucleus carries out install and run of
the recipe in it, as a user without privileges. Then the component downloads a model.

With --vendor, Debian has neither pip nor python3-venv, and install has no network. With --image,
the Dockerfile is carried out in it instead, and its entry point runs in MQTT mode.

Needs root, for chroot, and debootstrap. Takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.device import DeployedDevice, unpack
from sandbox.nucleus import Nucleus, RunningComponent
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer

from .build import ARTIFACT, build
from .dockerfile import Image, carry_out
from .project import ROOT, Component, components

__all__ = ["in_root", "main_job", "make_root"]

USER = 10_001
_DEBIAN, _PYTHON = "bookworm", "3.11"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

_ENTER = """
root=$1 shared=$2 work=$3; shift 3
mkdir -p "$root$shared" && mount --bind "$shared" "$root$shared" &&
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" || exit 125
exec chroot --userspec="$SANDBOX_USER" "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$work" "$@"
"""


def make_root(root: Path, *packages: str) -> None:
    """Make a minimal Debian with these packages in the folder `root`."""
    include = f"--include={','.join(packages)}"
    command = ["debootstrap", "--variant=minbase", include, _DEBIAN, str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        shutil.copy(name, root / name[1:])
    if _CERTIFICATES.exists():  # this machine may need that of a proxy
        (root / _CERTIFICATES.parent.relative_to("/")).mkdir(parents=True, exist_ok=True)
        shutil.copy(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))


def in_root(root: Path, *, shared: Path, work: Path, network: bool, user: int = USER) -> list[str]:
    """Return the words before a command that run it in `root`, in the folder `work`.

    `shared` is a folder of this machine that is mounted in `root` at the same path.
    """
    return [
        *("env", f"SANDBOX_USER={user}:{user}", "unshare", "--mount"),
        *(() if network else ("--net",)),
        *("/bin/sh", "-c", _ENTER, "enter", str(root), str(shared), str(work)),
    ]


async def main_job(operator: Operator, server: ObjectServer, destination: Path) -> None:
    """Download and register a model. Raises AssertionError or TimeoutError if that fails."""
    content = os.urandom(4 << 20)
    await server.put("deployed/weights.bin", content)
    response = await operator.ask(
        "download",
        bucket="models",
        key="deployed/",
        destination=str(destination),
        download_id="deployed",
        model_meta={"model_id": "deployed"},
    )
    assert response["success"], response
    await operator.event("download_completed", "deployed")
    await operator.event("model_added", "deployed")
    [model] = (await operator.ask("model_list"))["models"]
    assert model["local_path"] == str(destination)
    assert (destination / "weights.bin").read_bytes() == content


async def _try_image(image: Image, directory: Path) -> None:
    shared = directory / "shared"
    (shared / "models").mkdir(parents=True)
    async with (
        Broker(directory / "broker") as broker,
        ObjectServer(directory / "s3") as server,
        Operator(broker.port, "fresh") as operator,
    ):
        _give_away(shared)
        options = ["--thing-name=fresh", f"--mqtt-url=mqtt://127.0.0.1:{broker.port}"]
        running = await RunningComponent.start(
            "exec " + shlex.join([*image.entrypoint, *options]),
            cwd=directory,
            environment={
                **server.environment,
                "PATH": os.environ["PATH"],
                "AWS_ENDPOINT_URL_S3": server.endpoint,
                "S3DOWNLOADER_ALLOWED_DESTINATIONS": str(shared),
                "S3DOWNLOADER_MIN_FREE_BYTES": "0",
            },
            log=directory / "log",
            wrapper=in_root(image.root, shared=shared, work=image.workdir, network=True),
        )
        try:
            await operator.wait_for(lambda received: received.topic == "status", within=30)
            await main_job(operator, server, shared / "models" / "deployed")
        finally:
            status = await running.stop()
    assert status == 0, (directory / "log").read_text()


async def _try(component: Component, directory: Path, root: Path, *, network: bool) -> None:
    shared = directory / "shared"
    for folder in (shared, shared / "nucleus", shared / "models"):
        folder.mkdir()
    async with (
        Broker(directory / "broker") as broker,
        ObjectServer(directory / "s3") as server,
        Operator(broker.port, "fresh") as operator,
        Nucleus(
            thing_name="fresh",
            directory=shared / "nucleus",
            broker_port=broker.port,
            credentials=server.environment,
        ) as nucleus,
    ):
        work = nucleus.work_folder(component.name)
        device = DeployedDevice(
            shared / "device",
            {"AWS_ENDPOINT_URL_S3": server.endpoint, **_pip_settings()},
            nucleus=nucleus,
            recipe=component.built_recipe,
            artifacts=unpack(component.build_folder, shared / "artifacts"),
            configuration={"AllowedDestinations": [str(shared)], "MinFreeBytes": 0},
            wrappers={
                "install": in_root(root, shared=shared, work=work, network=network),
                "run": in_root(root, shared=shared, work=work, network=True),
            },
        )
        _give_away(shared)
        begin = time.monotonic()
        try:
            await device.start()
            print(f"installed and started after {time.monotonic() - begin:.1f} s", flush=True)
            await operator.wait_for(lambda received: received.topic == "status", within=30)
            await main_job(operator, server, shared / "models" / "deployed")
            assert await device.terminate() == 0
            for number in range(1, 6):
                operator.received.clear()
                await device.start()
                begin = time.monotonic()
                await operator.wait_for(lambda received: received.topic == "status", within=30)
                print(f"start {number}: subscribed after {time.monotonic() - begin:.2f} s")
                assert await device.terminate() == 0
        finally:
            await device.stop()
    _print_sizes(component, work)


def _pip_settings() -> Mapping[str, str]:
    return {"PIP_CERT": str(_CERTIFICATES)} if _CERTIFICATES.exists() else {}


def _give_away(folder: Path) -> None:
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(folder)], check=True)
    for path in [folder, *folder.parents]:
        if path != Path("/tmp") and path != Path("/"):  # noqa: S108
            path.chmod(path.stat().st_mode | 0o755)


def _print_sizes(component: Component, work: Path) -> None:
    artifact = (component.artifacts_folder / ARTIFACT).stat().st_size
    du = ["du", "--summarize", "--block-size=1", str(work / "venv")]
    used = int(subprocess.run(du, check=True, capture_output=True).stdout.split()[0])
    print(f"artifact: {artifact:,} bytes; installed: {used / 1e6:.1f} MB on the disk")


def main(given: Sequence[str]) -> int:
    """Run the test that the arguments choose; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.fresh_root", description=__doc__)
    parser.add_argument(
        "--vendor", action="store_true", help="install wheels from the artifact, without a network"
    )
    parser.add_argument("--image", action="store_true", help="test the Dockerfile, not the recipe")
    arguments = parser.parse_args(given)
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("fresh_root: run it as root, and install debootstrap", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="fresh-root-") as name:
        directory = Path(name)
        root = directory / "root"
        make_root(root, "python3", *(() if arguments.vendor else ("python3-venv",)))
        print(f"made a minimal Debian {_DEBIAN} with Python", flush=True)
        [component] = [c for c in components() if c.name == "aws.samples.S3Downloader"]
        if arguments.image:
            dockerfile = ROOT / "docker" / "Dockerfile"
            image = carry_out(dockerfile, context=component.folder, base=root, stages=directory)
            asyncio.run(_try_image(image, directory))
        else:
            build(
                component,
                vendor=arguments.vendor,
                platforms=[platform.machine()],
                pythons=[_PYTHON],
            )
            asyncio.run(_try(component, directory, root, network=not arguments.vendor))
    print("a model was downloaded and registered")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
