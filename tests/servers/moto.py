"""moto's server: S3 in memory, installed with the libraries of the tests."""

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
_SERVER = Path(__file__).with_name("moto_server.py")  # run with -P, or it would import the module `moto` in this folder


def prepare() -> str:
    """Return the installed version.

    Raises:
        MissingServerError: moto is not installed.
    """
    try:
        return version("moto")
    except PackageNotFoundError:
        raise MissingServerError("moto is not installed; install the dependency group `dev`") from None


def start(processes: Processes, port: int | None) -> Server:
    """Start the server and wait until it accepts requests.

    Raises:
        MissingServerError: moto is not installed.
        ServerStartError: The server does not start.
    """
    installed = prepare()
    port = port or free_port()
    processes.start([sys.executable, "-P", str(_SERVER), "-H", "127.0.0.1", "-p", str(port)])
    processes.wait_until_ready(f"http://127.0.0.1:{port}/moto-api/")
    return Server.started(NAME, f"http://127.0.0.1:{port}", version=installed)
