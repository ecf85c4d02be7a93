"""Several writers of one store: handles, threads and processes."""

from __future__ import annotations

import os
import random
import threading
import warnings
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bucketlog.errors import (
    OffsetConflictError,
)
from bucketlog.testing.store.harness import (
    OpenStore,
    StoreTests,
    ids_of,
    make_event,
    one_commit,
)
from bucketlog.testing.threads import start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bucketlog.commit import Commit
    from bucketlog.event import Event
    from bucketlog.store import EventStore
    from bucketlog.stream import Stream


class ContentionTests(StoreTests):
    """Several writers at once: handles, threads and processes."""

    # -- several writers -----------------------------------------------------------------------------------------------

    def test_handles_that_append_at_once_lose_and_repeat_nothing(
        self, store: EventStore, open_handle: OpenStore
    ) -> None:
        """Each of several handles racing for a partition gets offsets of its own, contiguous and in its own order."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]

        commits = self._append_at_once([handle.stream("orders") for handle in handles])

        self._check_log(store.stream("orders"), commits)

    def test_threads_of_one_handle_append_safely(self, store: EventStore) -> None:
        """Any number of threads may use one handle and one stream. Each append returns its own result."""
        stream = store.stream("orders")

        commits = self._append_at_once([stream] * self.writers)

        self._check_log(stream, commits)

    def test_waiting_appends_are_committed_together(self, store: EventStore) -> None:
        """Appends that arrive during a commit are committed together. Each batch stays contiguous."""
        stream = store.stream("orders")
        stream.append(make_event(0, id="first"))
        appended, rounds = 1, 0

        while rounds < 40 and stream.verify().commits == appended:
            rounds += 1
            batches = [
                [make_event(number, id=f"{rounds}-{thread}-{number}") for number in range(300)] for thread in range(8)
            ]
            barrier = threading.Barrier(len(batches))

            def append(batch: list[Event], barrier: threading.Barrier = barrier) -> Commit:
                barrier.wait(self.timeout_seconds)
                return one_commit(stream.append(batch))

            commits = self._together([partial(append, batch) for batch in batches])
            appended += len(batches)
            for batch, commit in zip(batches, commits, strict=True):
                assert commit.offsets == tuple(range(commit.first_offset, commit.first_offset + len(batch)))

        report = stream.verify()
        assert report.ok
        assert report.events == 1 + rounds * 8 * 300
        assert report.commits < appended, f"{appended} appends made {report.commits} commits"

    def test_ids_that_race_are_stored_once(self, store: EventStore, open_handle: OpenStore) -> None:
        """Of writers racing with the same id, one stores it. The others get its offset."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]
        barrier = threading.Barrier(len(handles))

        def append(handle: EventStore) -> list[Commit]:
            stream = handle.stream("orders")
            made = []
            for number in range(self.appends_each):
                barrier.wait(self.timeout_seconds)
                made.append(one_commit(stream.append(make_event(number), on_duplicate="return")))
            return made

        results = self._together([partial(append, handle) for handle in handles])

        places = {event.id: event.offset for event in store.stream("orders").read()}
        assert places == {f"e{number}": number for number in range(self.appends_each)}
        for number in range(self.appends_each):
            assert {made[number].offsets for made in results} == {(number,)}
            assert sum(not made[number].duplicates for made in results) == 1

    def test_expected_offsets_that_race_have_one_winner(self, store: EventStore, open_handle: OpenStore) -> None:
        """Of writers racing with the same `expected_offset`, exactly one appends."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]
        barrier = threading.Barrier(len(handles))

        def append(handle: EventStore, writer: int) -> int:
            stream = handle.stream("orders")
            won = 0
            for number in range(self.appends_each):
                barrier.wait(self.timeout_seconds)
                with suppress(OffsetConflictError):
                    stream.append(make_event(number, id=f"{writer}-{number}"), expected_offset=number)
                    won += 1
            return won

        won = self._together([partial(append, handle, writer) for writer, handle in enumerate(handles)])

        assert sum(won) == self.appends_each
        assert len(list(store.stream("orders").read())) == self.appends_each

    def test_partitions_of_one_stream_are_appended_at_once(self, store: EventStore, open_handle: OpenStore) -> None:
        """Writers of different partitions do not conflict, even when they create the stream."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]
        barrier = threading.Barrier(len(handles))

        def append(handle: EventStore, writer: int) -> None:
            barrier.wait(self.timeout_seconds)
            for number in range(self.appends_each):
                handle.stream("orders").append(make_event(number), partition=f"p{writer}")

        self._together([partial(append, handle, writer) for writer, handle in enumerate(handles)])

        assert store.stream("orders").cursor() == {f"p{writer}": self.appends_each for writer in range(self.writers)}
        assert store.stream("orders").verify().ok

    def test_reader_beside_writers_sees_a_growing_prefix(self, store: EventStore, open_handle: OpenStore) -> None:
        """While others append, every read sees the log from its start, without a gap and never shorter than before."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [open_handle() for _ in range(3)]
        reader = store.stream("orders")
        done = threading.Event()

        def read() -> int:
            longest, last = 0, False
            while not last:
                last = done.is_set()
                found = list(reader.read())
                assert [event.offset for event in found] == list(range(len(found)))
                assert len(found) >= longest
                longest = len(found)
            return longest

        def append(handle: EventStore, writer: int) -> None:
            for number in range(self.appends_each):
                handle.stream("orders").append([make_event(n, id=f"{writer}-{number}-{n}") for n in range(3)])

        reading = start(read)
        try:
            self._together([partial(append, handle, writer) for writer, handle in enumerate(handles)])
        finally:
            done.set()

        assert self._join([reading]) == [3 * self.appends_each * 3]

    def test_forked_child_appends_beside_its_parent(self, store: EventStore) -> None:
        """A forked child may use the handle it inherited: no event is lost, duplicated or mixed with another."""
        if not self.forks or not hasattr(os, "fork"):
            pytest.skip("this store does not declare forks")
        stream = store.stream("orders")
        stream.append(make_event(0, id="before"))
        rounds = 20

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests may still be ending
            child = os.fork()
        name = "child" if child == 0 else "parent"
        try:
            for number in range(rounds):
                stream.append(make_event(number, id=f"{name}-{number}"))
        except BaseException:
            if child == 0:
                os._exit(1)
            raise
        if child == 0:
            os._exit(0)
        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        found = ids_of(stream.read())
        assert len(found) == len(set(found)) == 1 + 2 * rounds
        for writer in ("child", "parent"):
            own = [event_id for event_id in found if event_id.startswith(writer)]
            assert own == [f"{writer}-{number}" for number in range(rounds)]
        assert stream.verify().ok

    def _append_at_once(self, streams: Sequence[Stream]) -> list[list[Commit]]:
        """Append from one thread per stream, single events and batches, and return each thread's commits."""
        barrier = threading.Barrier(len(streams))

        def append(writer: int) -> list[Commit]:
            chance = random.Random(writer)
            made = []
            barrier.wait(self.timeout_seconds)
            for number in range(self.appends_each):
                count = chance.choice([1, 1, 4])
                batch = [make_event(n, id=f"{writer}-{number}-{n}", subject=f"w{writer}") for n in range(count)]
                made.append(one_commit(streams[writer].append(batch)))
            return made

        return self._together([partial(append, writer) for writer in range(len(streams))])

    def _check_log(self, stream: Stream, commits: Sequence[Sequence[Commit]]) -> None:
        """Check that the log holds exactly the acknowledged events, at their offsets, in each writer's order."""
        found = list(stream.read())
        promised = {
            f"{writer}-{number}-{n}": offset
            for writer, made in enumerate(commits)
            for number, commit in enumerate(made)
            for n, offset in enumerate(commit.offsets)
        }
        assert [event.offset for event in found] == list(range(len(found)))
        assert {event.id: event.offset for event in found} == promised
        assert len(found) == len(promised)
        for made in commits:
            offsets = [offset for commit in made for offset in commit.offsets]
            assert offsets == sorted(offsets)
            for commit in made:
                assert commit.offsets == tuple(range(commit.first_offset, commit.next_offset))
        assert stream.verify().ok
