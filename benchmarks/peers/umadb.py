"""UmaDB, from the PyPI package of that name: its server runs on loopback, its client in this process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import umadb
from tests.servers.processes import Processes, free_port

from . import MissingPeerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bucketlog import Event

_START_SECONDS = 20


class Server:
    """A server that only this uses; it makes two fdatasync calls for each commit."""

    label = f"UmaDB {version('umadb')}, server on loopback"

    def __init__(self, folder: Path) -> None:
        self._processes = Processes("umadb")
        try:
            self._client = self._start(folder)
        except BaseException:
            self._processes.close()
            raise

    def append(self, events: Sequence[Event]) -> None:
        """Append events in one request."""
        self._client.append([_event(event) for event in events])

    def replay(self) -> int:
        """Read all in order, decoding their data."""
        count = 0
        answer = self._client.read()
        while batch := answer.next_batch():
            for one in batch:
                json.loads(one.event.data)
            count += len(batch)
        return count

    def close(self) -> None:
        """Stop the server."""
        self._client.close()
        self._processes.close()

    def _start(self, folder: Path) -> umadb.Client:
        beside = Path(sys.executable).with_name("umadb")
        program = str(beside) if beside.exists() else shutil.which("umadb")
        if program is None:
            msg = "the program `umadb` of the package is not on the path"
            raise MissingPeerError(msg)
        address = f"127.0.0.1:{free_port()}"
        self._processes.start([program, "--listen", address, "--db-path", folder.resolve()])
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                client = umadb.Client(f"http://{address}")
                client.head()
            except (RuntimeError, OSError, ValueError) as err:
                ended = self._processes.ended()
                if ended or time.monotonic() > deadline:
                    msg = f"its server does not start: {ended or err}"
                    raise MissingPeerError(msg) from err
                time.sleep(0.02)
            else:
                return client


def open_peer(folder: Path) -> Server:
    """Start a server on a folder."""
    try:
        return Server(folder)
    except subprocess.SubprocessError as err:
        msg = f"its server does not start: {err}"
        raise MissingPeerError(msg) from err


def _event(event: Event) -> umadb.Event:
    return umadb.Event(
        event.type,
        json.dumps(event.data).encode(),
        list(event.tags),
        uuid.UUID(event.id),
        {"source": event.source or "", "subject": event.subject or "", "time": event.time.isoformat()},
    )
