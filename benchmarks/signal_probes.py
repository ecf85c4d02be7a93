"""What is measured of signals in a separate process: `python -m benchmarks.signal_probes NAME '{"workspace": …}'`.

A probe does the same with both stores, and prints one JSON object. What it imports first is not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bucketlog.signals import EntityRef, SignalEnvelope, SignalStore

from .fresh import ROOT, ProbeError, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    Opener = Callable[[Path], Any]

LIMIT = 20
_SECONDS_MAX = 3.0  # for all questions of a kind, where each reads much
PLATFORM = "nycflights13"  # of all references


def run_fresh(probe: str, **arguments: object) -> dict[str, Any]:
    """Run a probe in a fresh process, with the peer if `peer=True`, and return what it found.

    Raises:
        ProbeError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.signal_probes", probe, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"probe {probe} of {arguments.get('workspace')} failed:\n{done.stderr.strip()}"
        raise ProbeError(msg)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def first_write(open_store: Opener, workspace: str) -> dict[str, object]:
    """Open a workspace and write a signal of now."""
    signal = SignalEnvelope(f"first/{uuid.uuid4()}", datetime.now(UTC), "benchmark", "First", {"number": 1})
    started = time.perf_counter()
    open_store(Path(workspace)).write_signal(signal)
    return {"seconds": time.perf_counter() - started}


def recents(open_store: Opener, workspace: str, *, questions: dict[str, list[str]]) -> dict[str, object]:
    """Ask for the newest signals of carriers, aircraft and sources; return how long each question took."""
    store = open_store(Path(workspace))
    took: dict[str, list[float]] = {kind: [] for kind in questions}
    for kind, named in questions.items():
        for one in named:
            took[kind].append(_timed(_question(store, kind, one)))
            if sum(took[kind]) > _SECONDS_MAX:
                break
    return {**took}


def _question(store: Any, kind: str, name: str) -> Callable[[], list[SignalEnvelope]]:
    if kind == "source":
        return lambda: store.get_recent_signals_by_source(source=name, limit=LIMIT)
    ref = EntityRef(kind, name, platform=PLATFORM)
    return lambda: store.get_recent_signals_by_entity(entity_ref=ref, limit=LIMIT)


def _timed(ask: Callable[[], list[SignalEnvelope]]) -> float:
    started = time.perf_counter()
    found = ask()
    seconds = time.perf_counter() - started
    if not found:
        sys.exit("found no signals")
    return seconds


PROBES: dict[str, Callable[..., dict[str, object]]] = {one.__name__: one for one in (first_write, recents)}


def main() -> None:
    arguments = json.loads(sys.argv[2])
    open_store: Opener = SignalStore
    if arguments.pop("peer", False):
        from .peers.metaspn import open_store
    print(json.dumps(PROBES[sys.argv[1]](open_store, **arguments)), flush=True)
    # Nothing is closed: live days must stay live, and a first write begins to compact the days before it.
    os._exit(0)


if __name__ == "__main__":
    main()
