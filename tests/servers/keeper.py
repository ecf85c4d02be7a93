"""The keeper: a process that runs a server for another process, and cleans up after that one ends."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import ceph_rgw, minio, moto
from .processes import Processes
from .server import MissingServerError, Server, ServerStartError
from .settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVERS = {module.NAME: module for module in (moto, minio, ceph_rgw)}
_STOP_SECONDS = 120  # a busy disk takes a minute to remove the data of 12,000 objects in MinIO
_MISSING, _FAILED = 3, 4


@contextmanager
def keep(name: str) -> Iterator[Server]:
    """Start a server in a keeper. It stops, and its data is removed, when the block or this process ends.

    Raises:
        MissingServerError: The server is not available on this machine.
        ServerStartError: The server does not start.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", __package__, "keep", name],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # its end tells the keeper that this process is gone, even if it was killed
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C must not reach the server, which the tests need until they end
    )
    with keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        try:
            line = keeper.stdout.readline()
            if not line:
                said = keeper.stderr.read().strip()
                raise {_MISSING: MissingServerError}.get(keeper.wait(_STOP_SECONDS), ServerStartError)(said)
            yield Server.from_json(json.loads(line))
        finally:
            keeper.stdin.close()
            keeper.wait(_STOP_SECONDS)


def run(name: str, *, port: int | None, ready: Callable[[Server], None], until_end_of_input: bool) -> int:
    """Run a server until Ctrl-C, SIGTERM or the end of input, and return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Processes(name) as processes:
            server = SERVERS[name].start(processes, port)
            server.client().create_bucket(Bucket=server.bucket)
            ready(server)
            while not (ended := processes.ended()):
                given, _, _ = select.select([sys.stdin] if until_end_of_input else [], [], [], 0.5)
                if given and not sys.stdin.buffer.read1():
                    return 0
            print(f"{name}: {ended}", file=sys.stderr)
            return _FAILED
    except KeyboardInterrupt:
        return 0
    except MissingServerError as reason:
        print(f"{name}: {reason}", file=sys.stderr)
        return _MISSING
    except ServerStartError as reason:
        print(f"{name} does not start: {reason}", file=sys.stderr)
        return _FAILED
