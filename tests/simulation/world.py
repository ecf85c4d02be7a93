"""A world to break a log in: one storage, any number of processes, each with its own faults and its own clock."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import bucketlog
from bucketlog.backend import ABSENT, ANY, Capabilities, Condition, Content, Entry, Stat
from bucketlog.location import parse
from bucketlog.testing.clocks import FakeClock
from bucketlog.testing.faults import with_faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bucketlog.testing.faults import FaultyBackend, Plan

_numbers = itertools.count()


class ObjectStore:
    """The memory backend without its ability to append: one put a commit, as on S3."""

    name = "simulated"
    capabilities = Capabilities()

    def __init__(self, url: str) -> None:
        self._inner = parse(url, None, {}).open_backend(create=True)
        self.url = url

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        return self._inner.get(key, start, end)

    def head(self, key: str) -> Stat:
        return self._inner.head(key)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> str:
        return self._inner.put(key, data, if_version=if_version)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        return self._inner.list(prefix, start_after=start_after, delimiter=delimiter)

    def delete(self, keys: Iterable[str]) -> None:
        self._inner.delete(keys)

    def close(self) -> None:
        self._inner.close()


class World:
    """One storage in memory, `"put"` (an object store) or `"append"` (a directory)."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.url = f"memory://world-{next(_numbers)}"
        self._seeds = itertools.count(1)
        self.clock = FakeClock()
        self.open().close()  # the store is made, and proven, before anything goes wrong

    def backend(self):
        """One more handle without faults."""
        return ObjectStore(self.url) if self.mode == "put" else parse(self.url, None, {}).open_backend(create=True)

    def open(self, plan: Plan | None = None, *, clock: FakeClock | None = None, **options: object) -> Process:
        """Start a process: a store handle with faults, and a clock of its own."""
        clock = clock or FakeClock(seed=next(self._seeds))
        faulty = with_faults(self.backend())
        store = bucketlog.open(faulty, clock=clock, **options)
        if plan is not None:
            faulty.plan = plan
        return Process(store, faulty, clock)

    def events(self, stream: str = "s") -> list[bucketlog.Event]:
        """Read all there is, as a fresh process would."""
        with self.open() as fresh:
            return list(fresh.stream(stream).read())

    def ids(self, stream: str = "s") -> list[str]:
        return [event.id for event in self.events(stream)]

    def problems(self, stream: str = "s") -> tuple[object, ...]:
        with self.open() as fresh:
            return fresh.stream(stream).verify().problems


class Process:
    """A store handle, and the levers to break it."""

    def __init__(self, store: bucketlog.EventStore, faulty: FaultyBackend, clock: FakeClock) -> None:
        self.store, self.faulty, self.clock = store, faulty, clock

    def stream(self, name: str = "s", **options):
        return self.store.stream(name, **options)

    @property
    def checkpoints(self):
        return self.store.checkpoints

    def plan(self, plan: Plan) -> None:
        self.faulty.plan = plan

    def calm(self) -> None:
        self.faulty.plan = lambda call: None

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def event(event_id: str, **values: object) -> bucketlog.Event:
    return bucketlog.Event(**{"type": "e", "id": event_id, **values})


__all__ = ["ABSENT", "ObjectStore", "Process", "World", "event"]
