"""moto's server: S3 in memory, installed with the other libraries of the tests."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import free_port
from .server import MissingServerError, Server

if TYPE_CHECKING:
    from .processes import Processes

NAME = "moto"
_SERVER = Path(__file__).with_name("moto_server.py")  # run with -P, as `moto` beside it is not moto


def prepare() -> str:
    """Say which version is installed.

    Raises:
        MissingServerError: None is.
    """
    try:
        return version("moto")
    except PackageNotFoundError:
        raise MissingServerError("moto is not installed; install the dependency group `dev`") from None


def start(processes: Processes, port: int | None) -> Server:
    """Start it and wait until it takes requests.

    Raises:
        MissingServerError: It is not installed.
        ServerStartError: It does not start.
    """
    installed = prepare()
    port = port or free_port()
    processes.start([sys.executable, "-P", str(_SERVER), "-H", "127.0.0.1", "-p", str(port)])
    processes.wait_until_ready(f"http://127.0.0.1:{port}/moto-api/")
    return Server.started(NAME, f"http://127.0.0.1:{port}", version=installed)
