"""Durable appends on a local disk, one event at a time and in batches, beside those of all peers."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING, Any

import bucketlog

from . import peers
from .data import BATCH, SOURCES, batches, departures, fresh, line_bytes
from .harness import Result, Work, compare
from .peers.bare import BareFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bucketlog import Event, Stream

    from .sizes import Size

_TRAILER_BYTES = 51
_SINGLE_TARGETS = {"sqlite": "ratio 1"}
_BATCH_TARGETS = {"sqlite": "ratio 1.5"}
_SLOW = {"deltalake": 20}  # a fraction of the events is enough where a commit takes tens of milliseconds


def single(folder: Path, size: Size) -> Iterator[Result]:
    """One event for each commit."""
    name = "durable single append, local"
    events = list(departures(size.single))
    with bucketlog.open(folder / "single") as store, closing(BareFile(folder / "bare")) as bare:
        stream = store.stream("departures")
        ours = Work(lambda: fresh(events), lambda given: _one_by_one(stream, given))
        line = b"x" * (line_bytes(events[0]) + _TRAILER_BYTES)

        def write() -> int:
            for _ in events:
                bare.append(line)
            return len(events)

        yield compare(name, ours=ours, theirs=write, peer=bare.label, target="ratio 0.9", rounds=size.rounds)
        for peer in peers.ALL:
            fewer = events[: -(-len(events) // _SLOW.get(peer, 1))]
            yield _beside(peer, folder, name, ours, fewer, 1, target=_SINGLE_TARGETS.get(peer, ""), rounds=size.rounds)


def batched(folder: Path, size: Size) -> Iterator[Result]:
    """A thousand events for each commit: real ones beside all peers, generated ones beside SQLite."""
    for source in SOURCES:
        name = f"durable append in batches of {BATCH:,}, {source}"
        events = list(SOURCES[source](BATCH * size.batches))
        with bucketlog.open(folder / f"batches-{source}") as store:
            ours = _in_batches(store.stream(source), events)
            for peer in peers.ALL if source == "departures" else ("sqlite",):
                yield _beside(
                    peer, folder, name, ours, events, BATCH, target=_BATCH_TARGETS.get(peer, ""), rounds=size.rounds
                )


def random_ids(folder: Path, size: Size) -> Iterator[Result]:
    """What ids cost that do not contain their time, on a small log."""
    events = list(departures(BATCH * size.batches))
    with bucketlog.open(folder / "ids-random") as store, bucketlog.open(folder / "ids-uuid7") as other:
        yield compare(
            f"append in batches of {BATCH:,} with random ids, new log",
            ours=_in_batches(store.stream("departures"), events, ids="random"),
            theirs=_in_batches(other.stream("departures"), events),
            peer="bucketlog with UUIDv7 ids",
            target="ratio 0.5",
            rounds=size.rounds,
        )


def _in_batches(
    log: Stream | peers.Peer, events: Sequence[Event], *, ids: str = "uuid7", size: int = BATCH
) -> Work[list[list[Event]]]:
    def append(given: list[list[Event]]) -> int:
        for batch in given:
            log.append(batch)
        return sum(map(len, given))

    return Work(lambda: list(batches(fresh(events, ids=ids), size)), append)


def _one_by_one(stream: Stream, events: Sequence[Event]) -> int:
    for event in events:
        stream.append(event)
    return len(events)


_folders = itertools.count()


def _beside(
    name: str,
    folder: Path,
    title: str,
    ours: Work[Any],
    events: Sequence[Event],
    size: int,
    *,
    target: str,
    rounds: int,
) -> Result:
    try:
        opened = peers.open_peer(name, folder / f"{name}-{next(_folders)}")
    except peers.MissingPeerError as reason:
        return Result(title, name, "events/s", None, target=target, note=str(reason))
    with closing(opened):
        theirs = _in_batches(opened, events, size=size)
        return compare(title, ours=ours, theirs=theirs, peer=opened.label, target=target, rounds=rounds)
