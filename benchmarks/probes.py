"""What is measured in a separate process: `python -m benchmarks.probes NAME '{"url": …}'`.

A probe prints one JSON object: what it found, and the peak of its memory. It imports little, as all of it would count.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

import bucketlog

if TYPE_CHECKING:
    from collections.abc import Callable

STREAM = "events"


def build(url: str, *, count: int, ids: str, known: int) -> dict[str, object]:
    """Make a log of departures in commits of 1,000; return some of its ids."""
    from .data import batches, departures

    kept: list[str] = []
    started = time.perf_counter()
    with bucketlog.open(url) as store:
        stream = store.stream(STREAM)
        for number, batch in enumerate(batches(departures(count, ids=ids))):
            stream.append(batch)
            if number * len(batch) * known // count >= len(kept):
                kept.append(batch[number % len(batch)].id)
    return {"seconds": time.perf_counter() - started, "ids": kept}


def replay(url: str) -> dict[str, object]:
    """Read the whole log, envelopes decoded."""
    with bucketlog.open(url, create=False, read_only=True) as store:
        started = time.perf_counter()
        count = sum(len(batch.events) for batch in store.stream(STREAM).read_batches())
        return {"count": count, "seconds": time.perf_counter() - started}


def first_append(url: str) -> dict[str, object]:
    """Open the log and append one event: bucketlog was imported, nothing else was done before."""
    started = time.perf_counter()
    with bucketlog.open(url, create=False) as store:
        store.stream(STREAM).append(bucketlog.Event(type="benchmark.first", subject="N00000"))
        return {"seconds": time.perf_counter() - started}


def first_append_sqlite(path: str) -> dict[str, object]:
    """Do the same with a table in SQLite."""
    from .peers.sqlite import EventTable

    event = bucketlog.Event(type="benchmark.first", subject="N00000")
    started = time.perf_counter()
    table = EventTable(Path(path))
    table.append([event])
    seconds = time.perf_counter() - started
    table.close()
    return {"seconds": seconds}


def append(url: str, *, single: int, batches: int, ids: str) -> dict[str, object]:
    """Append single events, then batches of 1,000."""
    from .data import BATCH, departures, fresh

    events = list(departures(max(single, BATCH), ids=ids, years=1))
    with bucketlog.open(url, create=False) as store:
        stream = store.stream(STREAM)
        took = []
        given = fresh(events[:single], ids=ids)
        for event in given:
            started = time.perf_counter()
            stream.append(event)
            took.append(time.perf_counter() - started)
        many = [fresh(events[:BATCH], ids=ids) for _ in range(batches)]
        started = time.perf_counter()
        for batch in many:
            stream.append(batch)
        batched_seconds = time.perf_counter() - started
    first, later = took[0], sorted(took[1:])
    return {
        "first_seconds": first,
        "p50_seconds": _at(later, 0.5),
        "p99_seconds": _at(later, 0.99),
        "single_per_second": len(later) / sum(later),
        "batched_per_second": batches * BATCH / batched_seconds,
    }


def write(url: str, *, ids: str, count: int) -> dict[str, object]:
    """Append a little in a cold process that holds no other data: its memory is that of a writer."""
    from uuid import uuid4

    with bucketlog.open(url, create=False) as store:
        stream = store.stream(STREAM)
        for number in range(count):
            event = bucketlog.Event(type="benchmark.written", data={"number": number})
            stream.append(replace(event, id=str(uuid4())) if ids == "random" else event)
    return {}


def recent(url: str, *, subjects: list[str], seconds_max: float) -> dict[str, object]:
    """Ask for the newest 20 events of one subject after the other, in one process."""
    with bucketlog.open(url, create=False, read_only=True) as store:
        stream = store.stream(STREAM)
        return _timed(lambda subject: stream.recent(20, subject=subject), subjects, seconds_max)


def get(url: str, *, ids: list[str], seconds_max: float) -> dict[str, object]:
    """Ask for one event after the other by its id."""
    with bucketlog.open(url, create=False, read_only=True) as store:
        stream = store.stream(STREAM)
        return _timed(stream.get, ids, seconds_max)


def compact(url: str) -> dict[str, object]:
    """Compact the log."""
    from .upkeep import NotThereYetError
    from .upkeep import compact as compact_stream

    with bucketlog.open(url, create=False) as store:
        stream = store.stream(STREAM)
        started = time.perf_counter()
        try:
            done = compact_stream(stream)
        except NotThereYetError as reason:
            return {"missing": str(reason)}
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes_before": done.bytes_before, "bytes_after": done.bytes_after}


def _timed(call: Callable[[str], object], arguments: list[str], seconds_max: float) -> dict[str, object]:
    took: list[float] = []
    for argument in arguments:
        started = time.perf_counter()
        found = call(argument)
        took.append(time.perf_counter() - started)
        if not found:
            sys.exit(f"found nothing for {argument}")
        if sum(took) > seconds_max:
            break
    first, later = took[0], sorted(took[1:] or took)
    return {
        "first_seconds": first,
        "p50_seconds": _at(later, 0.5),
        "p99_seconds": _at(later, 0.99),
        "queries": len(later),
    }


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _peak_bytes() -> int:
    """Return the peak of resident memory, including pages of mapped files."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss is inherited from the process that started this one
        line = next(one for one in status.read_text(encoding="utf-8").splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


PROBES = {
    one.__name__: one for one in (build, replay, first_append, first_append_sqlite, append, write, recent, get, compact)
}

if __name__ == "__main__":
    answer = PROBES[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps({**answer, "peak_bytes": _peak_bytes()}))
