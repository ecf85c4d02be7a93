"""A simulated world: one storage and any number of processes, each with faults and a clock of its own."""

from __future__ import annotations

import itertools
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import TYPE_CHECKING

import bucketlog
from bucketlog import errors
from bucketlog.backend import ABSENT, ANY, Condition, Stat
from bucketlog.maintenance import compaction
from bucketlog.storage.wrapper import BackendWrapper
from bucketlog.testing.clocks import FakeClock
from bucketlog.testing.faults import with_faults
from bucketlog_backends.memory import MemoryBackend, open_memory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from bucketlog.backend import Backend
    from bucketlog.storage.root import Root
    from bucketlog.testing.faults import FaultyBackend, Plan

HOUR = 3600.0
DAY = 24 * HOUR
FOLDER = "streams/s/0/"  # of the partition under test

_numbers = itertools.count()


class ServerTimes:
    """The clock of the storage, which a test controls, and the time at which each key was stored."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._stored: dict[str, datetime] = {}

    def stored(self, key: str) -> None:
        self._stored[key] = self.clock.now()

    def apply_to(self, key: str, stat: Stat) -> Stat:
        return stat._replace(modified=self._stored.get(key, stat.modified))


class Directory(MemoryBackend):
    """The memory backend, with times from the clock of the storage."""

    def __init__(self, url: str, times: ServerTimes) -> None:
        super().__init__(open_memory(url, {}, create=True)._root, url)
        self._times = times

    def head(self, key: str) -> Stat:
        return self._times.apply_to(key, super().head(key))

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> str:
        version = super().put(key, data, if_version=if_version)
        self._times.stored(key)
        return version


class ObjectStore(BackendWrapper):
    """The memory backend without `append`: each commit is one PUT, as on S3."""

    name = "simulated"

    def __init__(self, url: str, times: ServerTimes | None = None) -> None:
        super().__init__(Directory(url, times or ServerTimes()))


class World:
    """One storage in memory, `"put"` (an object store) or `"append"` (a directory)."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.url = f"memory://world-{next(_numbers)}"
        self._seeds = itertools.count(1)
        self.clock = FakeClock()
        self.times = ServerTimes()
        self.open().close()  # the store is created and probed before anything fails

    def backend(self):
        """Return another handle, without faults."""
        return (ObjectStore if self.mode == "put" else Directory)(self.url, self.times)

    def pass_time(self, seconds: float) -> None:
        """Advance the clock of the storage. Each process has a clock of its own."""
        self.times.clock.advance(seconds)

    def names(self, stream: str = "s") -> list[str]:
        """List the names in partition `0` of a stream."""
        folder = f"streams/{stream}/0/"
        return [entry.key.removeprefix(folder) for entry in self.backend().list(folder)]

    def open(
        self,
        plan: Plan | None = None,
        *,
        clock: FakeClock | None = None,
        backend: Backend | None = None,
        **options: object,
    ) -> Process:
        """Start a process: a store handle on a backend of this world, with faults and a clock of its own."""
        clock = clock or FakeClock(seed=next(self._seeds))
        faulty = with_faults(backend or self.backend())
        store = bucketlog.open(faulty, clock=clock, **options)
        if plan is not None:
            faulty.plan = plan
        return Process(store, faulty, clock)

    def compact(self, first: int, following: int) -> None:
        """Compact the segments that start between two offsets, in another process."""
        with self.open() as compactor:
            reader = compactor.stream()._state.reader("0")
            inside = [segment for segment in reader.list_segments() if first <= segment.first < following]
            compaction.merge(reader, inside, first=first, progress=lambda size: None)

    def vacuum(self, **how: object) -> bucketlog.VacuumReport:
        with self.open() as process:
            return process.stream().vacuum(**how)

    def remove_compacted(self) -> None:
        """Compact everything, then remove the live segments by two vacuums more than a day apart."""
        with self.open() as process:
            process.stream().compact()
        self.vacuum()
        self.pass_time(DAY + HOUR)
        self.vacuum()

    def is_locked(self) -> bool:
        """Return True if a handle holds a lock."""
        return any(held.owners for held in open_memory(self.url, {}, create=True)._root._folders.values())

    def events(self, stream: str = "s") -> list[bucketlog.Event]:
        """Read all events, as a new process would."""
        with self.open(read_only=True) as fresh:
            fresh.use_one_thread()
            return list(fresh.stream(stream).read())

    def ids(self, stream: str = "s") -> list[str]:
        return [event.id for event in self.events(stream)]

    def problems(self, stream: str = "s") -> tuple[object, ...]:
        with self.open() as fresh:
            return fresh.stream(stream).verify().problems


class Process:
    """A store handle and the means to make it fail."""

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

    def use_one_thread(self) -> None:
        """Run concurrent and deferred work at once, so that a history can be replayed."""
        self.store._root._executor = AtOnce()
        self.store._root._syncer = ByHand(self.store._root)

    def sync(self) -> None:
        """Do what `sync="interval"` does after its interval."""
        self.store._root._syncer.run()

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AtOnce(Executor):
    """Runs each call when it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as err:  # noqa: BLE001  (an executor passes on any exception)
            future.set_exception(err)
        return future


class ByHand:
    """Syncs keys when the test asks for it."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._keys: list[str] = []

    def soon(self, key: str) -> None:
        self._keys.append(key)

    def run(self) -> None:
        keys, self._keys = sorted(set(self._keys)), []
        for key in keys:
            try:
                with suppress(
                    errors.NotFoundError
                ):  # like the real one: the segment may have been compacted and removed
                    self._root._sync_now(key)
            except errors.BucketlogError as err:
                self._root._fail(err)

    def close(self) -> None:
        self.run()


def event(event_id: str, **values: object) -> bucketlog.Event:
    return bucketlog.Event(**{"type": "e", "id": event_id, **values})


def ids_of(events: Iterable[bucketlog.Event]) -> list[str]:
    return [each.id for each in events]


__all__ = ["ABSENT", "ANY", "DAY", "FOLDER", "HOUR", "ObjectStore", "Process", "World", "event", "ids_of"]
