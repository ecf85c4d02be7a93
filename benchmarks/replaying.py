"""Full replays of a local log, live and compacted, beside those of all peers."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import bucketlog

from . import peers
from .data import SOURCES, batches, departures
from .harness import Result, compare
from .upkeep import NotThereYetError, compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog import EventStore, Stream

    from .peers import Peer
    from .sizes import Size

ENVELOPES_TARGET = "at-least 1000000"
ONE_CORE_TARGET = "at-least 750000"
_DECODED_TARGETS = {"sqlite": "ratio 4", "umadb": "ratio 1"}


def replays(folder: Path, size: Size) -> Iterator[Result]:
    """All events in order: envelopes only, then with their data, then event by event."""
    with bucketlog.open(folder / "replayed") as store:
        for source in SOURCES:
            for batch in batches(SOURCES[source](size.replayed)):
                store.stream(source).append(batch)
        opened: dict[str, Peer] = {}
        missing: dict[str, str] = {}
        try:
            for name in peers.ALL:
                try:
                    opened[name] = peers.open_peer(name, folder / f"replayed-{name}")
                except peers.MissingPeerError as reason:
                    missing[name] = str(reason)
                    continue
                for batch in batches(departures(size.replayed)):
                    opened[name].append(batch)
            yield from _envelopes(store, opened["sqlite"], size, "live")
            yield from _decoded(store, opened, missing, size, "live")
            try:
                for source in SOURCES:
                    compact(store.stream(source))
            except NotThereYetError as reason:
                yield from _not_compacted(str(reason))
            else:
                yield from _envelopes(store, opened["sqlite"], size, "compacted")
                yield from _decoded(store, opened, missing, size, "compacted")
        finally:
            for peer in opened.values():
                peer.close()


def envelopes(stream: Stream) -> int:
    """Replay a stream without touching its data."""
    return sum(len(batch.events) for batch in stream.read_batches())


def with_data(stream: Stream) -> int:
    """Replay a stream and touch the data of every event, which decodes it."""
    count = 0
    for batch in stream.read_batches():
        for event in batch.events:
            event.data  # noqa: B018
        count += len(batch.events)
    return count


def _envelopes(store: EventStore, sqlite: Peer, size: Size, state: str) -> Iterator[Result]:
    for source in SOURCES:
        stream = store.stream(source)
        stats = stream.stats()
        title = f"replay, read_batches, {state}, {source}"
        note = f"{stats.bytes / stats.events:.0f} bytes an event {'in the file' if state == 'live' else 'packed'}"

        def ours(stream: Stream = stream) -> int:
            return envelopes(stream)

        real = source == "departures"  # which is what the peers contain
        yield compare(
            title,
            ours=ours,
            theirs=sqlite.replay if real else None,
            peer="SQLite + json.loads" if real else "",
            target=ENVELOPES_TARGET,
            rounds=size.long_rounds,
            note=note,
        )
        with one_core() as pinned:
            if pinned:
                yield compare(
                    f"{title}, one core",
                    ours=ours,
                    theirs=None,
                    peer="",
                    target=ONE_CORE_TARGET,
                    rounds=size.long_rounds,
                    note=note,
                )
            else:
                why = "this system cannot hold a process to one core"
                yield Result(f"{title}, one core", "", "events/s", None, target=ONE_CORE_TARGET, note=why)


def _decoded(
    store: EventStore, opened: dict[str, Peer], missing: dict[str, str], size: Size, state: str
) -> Iterator[Result]:
    stream = store.stream("departures")
    for name in peers.ALL if state == "live" else _DECODED_TARGETS:
        title, target = f"replay with data decoded, {state}", _DECODED_TARGETS.get(name, "")
        if name in missing:
            yield Result(title, name, "events/s", None, target=target, note=missing[name])
            continue
        yield compare(
            title,
            ours=lambda: with_data(stream),
            theirs=opened[name].replay,
            peer=f"{opened[name].label}, json.loads",
            target=target,
            rounds=size.long_rounds,
        )
    yield compare(
        f"replay event by event, read, {state}",
        ours=lambda: sum(1 for _ in stream.read()),
        theirs=opened["sqlite"].replay,
        peer="SQLite + json.loads",
        rounds=size.long_rounds,
    )


def _not_compacted(note: str) -> Iterator[Result]:
    for source in SOURCES:
        title = f"replay, read_batches, compacted, {source}"
        yield Result(title, "", "events/s", None, target=ENVELOPES_TARGET, note=note)
        yield Result(f"{title}, one core", "", "events/s", None, target=ONE_CORE_TARGET, note=note)
    for name, target in _DECODED_TARGETS.items():
        yield Result("replay with data decoded, compacted", name, "events/s", None, target=target, note=note)


@contextmanager
def one_core() -> Iterator[bool]:
    """Pin this process's threads, including later ones, to one processor; yield whether that is possible."""
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    before = os.sched_getaffinity(0)
    _hold_all_threads({min(before)})
    try:
        yield True
    finally:
        _hold_all_threads(before)


def _hold_all_threads(processors: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():  # the call itself is for one thread only
        os.sched_setaffinity(int(thread.name), processors)
