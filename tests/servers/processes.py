"""The child processes of a keeper: started in their own group, and ended with the keeper."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .server import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

READY_SECONDS = 60
_STOP_SECONDS = 5
_PR_SET_PDEATHSIG = 1
_MEMORY = "/dev/shm"
_ROOM_BYTES = 4 * 1024**3


def free_port() -> int:
    """Return a port on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """The processes of one server, and their temporary folder."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"bucketlog-{name}-", dir=_memory()))
        self._log = self.folder / "output.log"
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
        """Start a process, and keep its output for an error message."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder), **(environment or {})},
                start_new_session=True,  # Ctrl-C must only reach the keeper, and a group can be killed as a whole
                preexec_fn=_ending_with_parent(),  # safe: a keeper has a single thread
            )
        self._running.append(process)

    def wait_until_ready(self, url: str) -> None:
        """Wait until a URL answers with status 200.

        Raises:
            ServerStartError: A process ended, or there was no answer in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(url):
            ended = self.ended()
            if ended or time.monotonic() > deadline:
                raise ServerStartError(
                    f"{ended or f'no answer at {url} after {READY_SECONDS} s'}; it wrote:\n{self._tail()}"
                )
            time.sleep(0.05)

    def ended(self) -> str:
        """Return which process has ended on its own; empty while all run."""
        for process in self._running:
            if process.poll() is not None:
                return f"{Path(process.args[0]).name} ended with {process.returncode}"
        return ""

    def close(self) -> None:
        """Stop all processes, kill those that do not stop, and remove the folder."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # including the children that it left
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])


def _memory() -> str | None:
    """Return a folder in memory, where files are written and removed faster; None if there is none with enough room.

    `TMPDIR` wins, if it is set.
    """
    if "TMPDIR" in os.environ:
        return None
    try:
        return _MEMORY if shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES and os.access(_MEMORY, os.W_OK) else None
    except OSError:
        return None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _ending_with_parent() -> Callable[[], None] | None:
    """Return a function that makes the kernel end a child with its parent, even if that is killed. Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask
