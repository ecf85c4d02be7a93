"""Ceph with its S3 gateway: the distribution's programs, run by the same script as in the container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from .processes import free_port
from .server import MissingServerError, Server
from .settings import DOCKER, settings

if TYPE_CHECKING:
    from .processes import Processes

NAME = "ceph_rgw"
SCRIPT = DOCKER / "ceph" / "start.sh"
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")


def find() -> str:
    """Return the installed version.

    Raises:
        MissingServerError: A program is missing.
    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        packages = settings()["CEPH_PACKAGES"]
        raise MissingServerError(f"{', '.join(missing)} not installed; as root: apt-get install {packages}")
    said = subprocess.run(["ceph", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    return found[0] if found else said.strip()


def prepare() -> str:
    """Install the packages if they are missing, and return their version.

    Raises:
        MissingServerError: They cannot be installed: no apt-get, not root, or apt-get failed.
    """
    try:
        return find()
    except MissingServerError as missing:
        if shutil.which("apt-get") is None:
            raise MissingServerError("no apt-get to install it with; use docker/compose.ceph.yaml") from None
        if os.geteuid() != 0:
            raise MissingServerError(f"{missing}, or use docker/compose.ceph.yaml") from None
    install = ["install", "--yes", "--no-install-recommends", *settings()["CEPH_PACKAGES"].split()]
    for arguments in (["update"], install):
        done = subprocess.run(
            ["apt-get", "--quiet", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise MissingServerError(f"apt-get {arguments[0]} failed: {said}")
    return find()


def environment(address: str, port: int | str) -> dict[str, str]:
    """Return the environment variables of the script, here and in the container."""
    return {
        "S3_ACCESS_KEY_ID": settings()["S3_ACCESS_KEY_ID"],
        "S3_SECRET_ACCESS_KEY": settings()["S3_SECRET_ACCESS_KEY"],
        "CEPH_RGW_ENDPOINT": f"{address}:{port}",
    }


READY_PATH = "/"


def start(processes: Processes, port: int | None) -> Server:
    """Start the server and wait until it accepts requests.

    Raises:
        MissingServerError: The server is not installed.
        ServerStartError: The server does not start.
    """
    version, port = find(), port or free_port()
    own = {"CEPH_DATA": str(processes.folder), "CEPH_MON_PORT": str(free_port())}
    processes.start(["bash", SCRIPT], environment={**environment("127.0.0.1", port), **own})
    processes.wait_until_ready(f"http://127.0.0.1:{port}{READY_PATH}")
    return Server.started(NAME, f"http://127.0.0.1:{port}", version=version)
