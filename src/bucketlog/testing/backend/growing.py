"""Objects that grow: append, seal, cut and locks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bucketlog.backend import (
    ABSENT,
    AppendBackend,
    Backend,
    Content,
)
from bucketlog.errors import ConflictError, NotFoundError
from bucketlog.testing.backend.harness import (
    RECORD_BYTES,
    BackendTests,
    RaceAttempt,
    appending,
    check_one_winner,
    race_record,
)
from bucketlog.testing.threads import start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future


class GrowingTests(BackendTests):
    """Objects that grow, for backends that declare `append`."""

    # -- append --------------------------------------------------------------------------------------------------------

    def test_append_at_zero_creates_the_object(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """With `expected_size=0` an append creates the object, which is listed and read like any other."""
        appender.append("p/0.jsonl", b"first\n", expected_size=0)

        assert other_appender.get("p/0.jsonl").data == b"first\n"
        assert other_appender.head("p/0.jsonl").size == 6
        assert [(entry.key, entry.size) for entry in self._listed(other_appender, "p/")] == [("p/0.jsonl", 6)]
        with pytest.raises(ConflictError):
            other_appender.put("p/0.jsonl", b"rival", if_version=ABSENT)

    def test_append_adds_to_the_end(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """With the current size as `expected_size` an append adds its bytes, whichever handle created the object."""
        appender.append("p/0", b"first,", expected_size=0)
        other_appender.append("p/0", b"second,", expected_size=6)
        appender.append("p/0", b"third", expected_size=13)

        assert other_appender.get("p/0").data == b"first,second,third"

    def test_append_is_visible_to_other_handles_at_once(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """Once an append has returned, every handle sees the new size, bytes and version, synced or not."""
        appender.append("p/0", b"first", expected_size=0)
        before = other_appender.get("p/0")

        appender.append("p/0", b"second", expected_size=5, sync=False)

        assert other_appender.get("p/0", 5).data == b"second"
        assert other_appender.get("p/0", 3, 7).data == b"stse"
        assert other_appender.head("p/0").size == 11
        assert other_appender.head("p/0").version == other_appender.get("p/0").version != before.version

    @pytest.mark.parametrize("expected_size", [0, 4, 6, 1000])
    def test_append_at_another_size_changes_nothing(
        self, appender: AppendBackend, other_appender: AppendBackend, expected_size: int
    ) -> None:
        """If the object's size is not `expected_size`, an append on any handle raises `ConflictError`."""
        appender.append("p/0", b"first", expected_size=0)

        for handle in (appender, other_appender):
            with pytest.raises(ConflictError):
                handle.append("p/0", b"second", expected_size=expected_size)

        assert other_appender.get("p/0").data == b"first"

    def test_append_creates_an_object_at_zero_only(self, appender: AppendBackend) -> None:
        """With an `expected_size` above 0, an append to a missing object raises `ConflictError` and creates nothing."""
        with pytest.raises(ConflictError):
            appender.append("p/0", b"second", expected_size=5)

        with pytest.raises(NotFoundError):
            appender.head("p/0")

    def test_append_succeeds_at_the_new_size_after_a_conflict(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """A handle that lost reads the size again and appends there."""
        appender.append("p/0", b"first,", expected_size=0)
        other_appender.append("p/0", b"second,", expected_size=6)
        with pytest.raises(ConflictError):
            appender.append("p/0", b"third", expected_size=6)

        appender.append("p/0", b"third", expected_size=appender.head("p/0").size)

        assert other_appender.get("p/0").data == b"first,second,third"

    def test_append_to_a_replaced_object_is_a_conflict(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """A handle does not append to an object created again under the same key, even at the same size.

        It gets `ConflictError` once, and appends to the new object after that.
        """
        appender.append("p/0", b"first", expected_size=0)
        other_appender.delete(["p/0"])
        other_appender.append("p/0", b"other", expected_size=0)

        with pytest.raises(ConflictError):
            appender.append("p/0", b"second", expected_size=5)

        assert other_appender.get("p/0").data == b"other"
        appender.append("p/0", b", again", expected_size=5)
        assert other_appender.get("p/0").data == b"other, again"

    def test_sealed_object_never_grows(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """After `seal` an append raises `ConflictError` on every handle. Reads are unaffected."""
        appender.append("p/0", b"first", expected_size=0)
        other_appender.append("p/0", b"second", expected_size=5)

        appender.seal("p/0")

        for handle in (appender, other_appender):
            with pytest.raises(ConflictError):
                handle.append("p/0", b"third", expected_size=11)
        assert other_appender.get("p/0").data == b"firstsecond"

    def test_seal_is_visible_to_other_handles_and_may_be_repeated(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """`is_sealed` is False before `seal` and True after, on every handle. Sealing twice is not an error."""
        appender.append("p/0", b"first", expected_size=0)
        appender.append("p/1", b"first", expected_size=0)
        assert not other_appender.is_sealed("p/0")
        assert not other_appender.is_sealed("p/missing")

        appender.seal("p/0")
        appender.seal("p/0")
        other_appender.seal("p/0")

        assert appender.is_sealed("p/0")
        assert other_appender.is_sealed("p/0")
        assert not other_appender.is_sealed("p/1")

    def test_sealed_object_can_be_deleted(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """A sealed object cannot grow, but can be deleted."""
        appender.append("p/0", b"first", expected_size=0)
        appender.seal("p/0")

        other_appender.delete(["p/0"])

        assert self._listed(appender, "") == []
        assert not appender.is_sealed("p/0")

    def test_sync_makes_an_unsynced_append_durable(self, appender: AppendBackend) -> None:
        """`sync` succeeds on a growing object, again when nothing is left to write, and on a sealed one."""
        appender.append("p/0", b"first", expected_size=0, sync=False)

        appender.sync("p/0")
        appender.sync("p/0")
        appender.seal("p/0")
        appender.sync("p/0")

        assert appender.get("p/0").data == b"first"

    def test_sync_of_a_missing_object_is_not_found(self, appender: AppendBackend) -> None:
        """`sync` of a missing key raises `NotFoundError` naming the key."""
        with pytest.raises(NotFoundError, match="p/missing"):
            appender.sync("p/missing")

    def test_cut_keeps_the_rest_aside(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """`cut` shortens an object for every handle and stores the bytes past the new size under the key `aside`."""
        appender.append("p/0", b"whole,torn", expected_size=0)

        other_appender.cut("p/0", 6, aside="p/.torn-1")

        assert appender.get("p/0").data == b"whole,"
        assert appender.get("p/.torn-1").data == b"torn"
        with pytest.raises(ConflictError):
            appender.append("p/0", b"next", expected_size=10)
        appender.append("p/0", b"next", expected_size=6)
        assert other_appender.get("p/0").data == b"whole,next"

    def test_cut_without_aside_keeps_nothing(self, appender: AppendBackend) -> None:
        """With `aside=None` the bytes past the new size are discarded."""
        appender.append("p/0", b"whole,torn", expected_size=0)

        appender.cut("p/0", 6, aside=None)

        assert appender.get("p/0").data == b"whole,"
        assert [entry.key for entry in self._listed(appender, "")] == ["p/0"]

    def test_race_to_append_at_one_size_has_one_winner(self, appending_rivals: list[AppendBackend]) -> None:
        """Of any number of callers racing with the same `expected_size`, exactly one appends."""
        appending_rivals[0].append("p/0", b"", expected_size=0)

        def attempt(handle: AppendBackend, number: int, data: bytes) -> RaceAttempt:
            try:
                handle.append("p/0", data, expected_size=number * RECORD_BYTES)
            except ConflictError:
                return RaceAttempt(data, None)
            return RaceAttempt(data, "appended")

        rounds = self._race(appending_rivals, attempt)

        for number, attempts in enumerate(rounds):
            stored = appending_rivals[0].get("p/0", number * RECORD_BYTES, (number + 1) * RECORD_BYTES)
            check_one_winner(attempts, Content(stored.data, "appended"))
        assert appending_rivals[0].head("p/0").size == self.race_rounds * RECORD_BYTES

    def test_appends_under_the_lock_never_conflict_or_mix(self, appending_rivals: list[AppendBackend]) -> None:
        """Writers that read the size and append under one lock all succeed, and every record is intact."""

        def write(handle: AppendBackend, _number: int, data: bytes) -> bytes:
            with handle.lock("p/"):
                try:
                    size = handle.head("p/0").size
                except NotFoundError:
                    size = 0
                handle.append("p/0", data, expected_size=size, sync=False)
            return data

        written = [record for one_round in self._race(appending_rivals, write) for record in one_round]

        stored = appending_rivals[0].get("p/0").data
        assert len(stored) == len(written) * RECORD_BYTES
        found = [stored[at : at + RECORD_BYTES] for at in range(0, len(stored), RECORD_BYTES)]
        assert sorted(found) == sorted(written)

    def test_readers_see_an_object_grow_in_order(
        self, appender: AppendBackend, open_handle: Callable[[], Backend]
    ) -> None:
        """While an object grows, a reader always gets a prefix of it, never shorter than before."""
        readers = [open_handle() for _ in range(3)]
        appender.append("p/0", b"", expected_size=0)
        done = threading.Event()

        def write() -> list[bytes]:
            data = b""
            try:
                for number in range(self.race_rounds):
                    more = race_record(number)
                    appender.append("p/0", more, expected_size=len(data), sync=False)
                    data += more
            finally:
                done.set()
            return [data]

        def read(reader: Backend) -> list[bytes]:
            seen = [b""]
            while not done.is_set():
                data = reader.get("p/0").data
                if data != seen[-1]:
                    seen.append(data)
            return seen

        tasks: list[Callable[[], list[bytes]]] = [write, *(partial(read, reader) for reader in readers)]
        [whole], *found = self._together(tasks)

        for seen in found:
            assert all(whole.startswith(data) for data in seen)
            assert [len(data) for data in seen] == sorted(len(data) for data in seen)

    # -- locks ---------------------------------------------------------------------------------------------------------

    def test_lock_excludes_other_handles(self, appending_rivals: list[AppendBackend]) -> None:
        """One handle at a time holds the lock of a folder."""
        assert self._count_under_lock(appending_rivals) == len(appending_rivals) * self.race_rounds

    def test_lock_excludes_other_threads_of_its_handle(self, appender: AppendBackend) -> None:
        """One thread at a time holds the lock of a folder, also among threads that share a handle."""
        assert self._count_under_lock([appender] * self.writers) == self.writers * self.race_rounds

    def test_lock_is_reentrant_in_a_thread(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """A thread may acquire a lock that it holds, and append. The outermost release frees the lock."""

        def nest() -> Future[None]:
            with appender.lock("p/"):
                with appender.lock("p/"):
                    appender.append("p/0", b"first", expected_size=0)
                return self._check_kept_out(other_appender)

        self._join(self._together([nest]))

    def test_lock_is_released_by_an_error(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """An exception that leaves the block releases the lock."""

        def fail() -> None:
            with appender.lock("p/"):
                raise _ExpectedError

        with pytest.raises(_ExpectedError):
            self._together([fail])

        self._together([lambda: take_lock(other_appender)])

    def test_locks_of_two_folders_are_independent(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """Holding the lock of one folder does not block another."""

        def hold_both() -> None:
            with appender.lock("p/"):
                self._together([lambda: take_lock(other_appender, folder="q/")])

        self._together([hold_both])

    def test_shared_locks_exclude_exclusive_ones_only(
        self, appender: AppendBackend, other_appender: AppendBackend, open_handle: Callable[[], Backend]
    ) -> None:
        """In a folder that exists, any number of threads hold a shared lock together. It excludes the exclusive one."""
        appender.append("p/0", b"first", expected_size=0)
        writer = appending(open_handle())
        both_inside = threading.Barrier(2)

        def read(handle: AppendBackend) -> None:
            with handle.lock("p/", shared=True):
                both_inside.wait(self.timeout_seconds / 4)

        def read_while_another_would_write() -> Future[None]:
            with appender.lock("p/", shared=True):
                both_inside.wait(self.timeout_seconds / 4)
                return self._check_kept_out(writer)

        tasks: list[Callable[[], Future[None] | None]] = [read_while_another_would_write, partial(read, other_appender)]
        kept_out = self._together(tasks)[0]

        assert kept_out is not None
        self._join([kept_out])

    def test_exclusive_lock_keeps_shared_ones_out(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """A shared lock waits while another handle holds the exclusive one."""

        def hold() -> Future[None]:
            with appender.lock("p/"):
                return self._check_kept_out(other_appender, shared=True)

        self._join(self._together([hold]))

    def test_lock_is_not_listed(self, appender: AppendBackend) -> None:
        """Files that the backend keeps for itself are not listed and create no folder."""
        appender.append("p/0", b"first", expected_size=0)
        with appender.lock("p/"), appender.lock("q/"):
            inside = [entry.key for entry in self._listed(appender, "")]

        assert inside == ["p/0"]
        assert [entry.key for entry in self._listed(appender, "", delimiter=True)] == ["p/"]

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _count_under_lock(self, handles: Sequence[AppendBackend]) -> int:
        """Increment a plain variable under the lock, in a race. The sum falls short if two threads held the lock."""
        count = 0

        def add_one(handle: AppendBackend, _number: int, _data: bytes) -> None:
            nonlocal count
            with handle.lock("p/"):
                before = count
                time.sleep(0.0002)  # gives way to a thread that the lock fails to exclude
                count = before + 1

        self._race(handles, add_one)
        return count

    def _check_kept_out(self, handle: AppendBackend, *, shared: bool = False) -> Future[None]:
        """Check that another thread waits for the lock that this one holds. The future is done once it has it."""
        waiting = start(partial(take_lock, handle, shared=shared))
        assert wait([waiting], timeout=self.blocked_seconds).not_done, "a lock was taken while another thread held it"
        return waiting


def take_lock(handle: AppendBackend, *, folder: str = "p/", shared: bool = False) -> None:
    """Acquire a lock and release it."""
    with handle.lock(folder, shared=shared):
        pass


class _ExpectedError(Exception):
    pass
