"""MinIO: the program on PATH, or one built from source, which is cached outside the checkout."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import free_port
from .server import MissingServerError, Server
from .settings import settings

if TYPE_CHECKING:
    from .processes import Processes

NAME = "minio"
SOURCE = "github.com/minio/minio"


def find() -> Path:
    """Return the path of the program.

    Raises:
        MissingServerError: It is neither on PATH nor built.
    """
    on_path = shutil.which("minio")
    if on_path is not None:
        return Path(on_path)
    if _cached().exists():
        return _cached()
    raise MissingServerError(
        "minio is neither on PATH nor built; run `python -m tests.servers prepare`, which builds it with Go"
    )


def is_there() -> bool:
    """Return True if the program is on this machine."""
    try:
        find()
    except MissingServerError:
        return False
    return True


def prepare() -> str:
    """Build the program if it is missing, which takes Go and a few minutes, and return its path.

    Raises:
        MissingServerError: Go is missing or cannot build it.
    """
    try:
        return str(find())
    except MissingServerError:
        pass
    go = shutil.which("go")
    if go is None:
        raise MissingServerError(
            "no Go to build it with; install Go, put minio on PATH, or use docker/compose.minio.yaml"
        )
    _cached().parent.mkdir(parents=True, exist_ok=True)
    with (_cached().parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building it
        if not _cached().exists():
            _build(go)
    return str(_cached())


def _build(go: str) -> None:
    target = f"{SOURCE}@{settings()['MINIO_VERSION']}"
    with tempfile.TemporaryDirectory(dir=_cached().parent) as folder:
        built = subprocess.run(
            ["nice", go, "install", "-ldflags=-s -w", target],
            env={**os.environ, "GOBIN": folder, "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            said = (built.stderr.strip().splitlines() or ["nothing"])[-1]
            raise MissingServerError(f"go install {target} failed: {said}")
        (Path(folder) / "minio").replace(_cached())


def _cached() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "bucketlog" / "servers" / f"minio-{settings()['MINIO_VERSION']}" / "minio"


def environment() -> dict[str, str]:
    """Return the environment variables of the server."""
    return {
        "MINIO_ROOT_USER": settings()["S3_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": settings()["S3_SECRET_ACCESS_KEY"],
        "MINIO_BROWSER": "off",
    }


def arguments(data: str, address: str) -> list[str]:
    """Return the command line arguments of the server."""
    return ["server", data, "--address", address]


READY_PATH = "/minio/health/ready"


def start(processes: Processes, port: int | None) -> Server:
    """Start the server and wait until it accepts requests.

    Raises:
        MissingServerError: The server is not installed.
        ServerStartError: The server does not start.
    """
    program, port = find(), port or free_port()
    data = processes.folder / "data"
    processes.start([program, *arguments(str(data), f"127.0.0.1:{port}")], environment=environment())
    processes.wait_until_ready(f"http://127.0.0.1:{port}{READY_PATH}")
    return Server.started(NAME, f"http://127.0.0.1:{port}", version=_version(program))


def release() -> str:
    """Return the day of the release that the settings name."""
    day = settings()["MINIO_VERSION"].split("-")[1]
    return f"{day[:4]}-{day[4:6]}-{day[6:8]}"


def _version(program: Path) -> str:
    if program == _cached():
        return release()
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"RELEASE\.(\S{10})", said)
    return found[1] if found else "of unknown version"
