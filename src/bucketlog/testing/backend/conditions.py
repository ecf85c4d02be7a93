"""Versions, conditional puts, and races."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bucketlog.backend import (
    ABSENT,
    Backend,
    Content,
    Version,
)
from bucketlog.errors import CapabilityError, ConflictError, NotFoundError
from bucketlog.testing.backend.harness import (
    BackendTests,
    check_one_winner,
    make_store,
    needs,
    refuses_several_writers,
    try_put,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class ConditionTests(BackendTests):
    """Of any number of writers one wins."""

    # -- versions and conditions ---------------------------------------------------------------------------------------

    def test_version_changes_whenever_the_bytes_do(self, backend: Backend) -> None:
        """Other bytes have another version, also when size and time of the change are the same."""
        versions = [backend.put("a", f"{number:04}".encode()) for number in range(50)]

        assert len(set(versions)) == 50

    def test_version_changes_when_an_object_is_made_anew(self, backend: Backend) -> None:
        """Other bytes have another version, also when the object was deleted in between."""
        first = backend.put("a", b"first")
        backend.delete(["a"])

        assert backend.put("a", b"other") != first

    def test_put_if_absent_makes_an_object(self, backend: Backend) -> None:
        """With `ABSENT` a put succeeds where nothing is stored, and its version is the object's."""
        needs(backend, "exclusive_create")
        version = backend.put("a/0", b"first", if_version=ABSENT)

        assert backend.get("a/0") == Content(b"first", version)

    @pytest.mark.parametrize("there", [b"first", b""], ids=["bytes", "empty"])
    def test_put_if_absent_replaces_nothing(self, backend: Backend, other: Backend, there: bytes) -> None:
        """With `ABSENT` a put raises `ConflictError` where an object is, even an empty or an equal one."""
        needs(backend, "exclusive_create")
        version = backend.put("a/0", there)

        with pytest.raises(ConflictError):
            other.put("a/0", b"second", if_version=ABSENT)
        with pytest.raises(ConflictError):
            backend.put("a/0", there, if_version=ABSENT)

        assert other.get("a/0") == Content(there, version)

    def test_put_if_absent_after_a_delete_makes_the_object_again(self, backend: Backend, other: Backend) -> None:
        """A deleted object is absent, for every handle."""
        needs(backend, "exclusive_create")
        backend.put("a/0", b"first", if_version=ABSENT)
        other.delete(["a/0"])

        backend.put("a/0", b"second", if_version=ABSENT)

        assert other.get("a/0").data == b"second"

    def test_put_with_the_current_version_replaces(self, backend: Backend, other: Backend) -> None:
        """With the version that is there a put succeeds, whichever handle told that version."""
        needs(backend, "compare_and_set")
        backend.put("a", b"first")

        second = other.put("a", b"second", if_version=backend.head("a").version)
        third = backend.put("a", b"third", if_version=second)

        assert other.get("a") == Content(b"third", third)

    def test_put_with_a_stale_version_changes_nothing(self, backend: Backend, other: Backend) -> None:
        """With a version whose bytes are no longer there a put raises `ConflictError`."""
        needs(backend, "compare_and_set")
        stale = backend.put("a", b"first")
        current = other.put("a", b"second")

        with pytest.raises(ConflictError):
            backend.put("a", b"third", if_version=stale)

        assert backend.get("a") == Content(b"second", current)

    def test_put_with_a_version_that_never_was_changes_nothing(self, backend: Backend) -> None:
        """With the version of another object, or none that ever was, a put raises `ConflictError`."""
        needs(backend, "compare_and_set")
        version = backend.put("a", b"first")
        elsewhere = backend.put("b", b"elsewhere")

        for wrong in (elsewhere, f"0{version}"):  # Ceph RGW 16 overlooks what stands behind a right one
            with pytest.raises(ConflictError):
                backend.put("a", b"second", if_version=wrong)

        assert backend.get("a") == Content(b"first", version)

    def test_put_with_a_version_needs_an_object(self, backend: Backend) -> None:
        """With a version a put raises `ConflictError` where nothing is, and makes nothing."""
        needs(backend, "compare_and_set")
        version = backend.put("a", b"first")
        backend.delete(["a"])

        with pytest.raises(ConflictError):
            backend.put("a", b"second", if_version=version)
        with pytest.raises(ConflictError):
            backend.put("never", b"second", if_version=version)

        with pytest.raises(NotFoundError):
            backend.head("a")
        with pytest.raises(NotFoundError):
            backend.head("never")

    def test_version_that_comes_back_stands_for_its_bytes(self, backend: Backend, other: Backend) -> None:
        """When bytes come back their version may or may not; a condition holds exactly if the version is the same."""
        needs(backend, "compare_and_set")
        first = backend.put("a", b"bytes")
        between = other.put("a", b"other")
        again = other.put("a", b"bytes")

        with pytest.raises(ConflictError):
            backend.put("a", b"late", if_version=between)
        if again == first:
            backend.put("a", b"late", if_version=first)
        else:
            with pytest.raises(ConflictError):
                backend.put("a", b"late", if_version=first)

        assert backend.get("a").data == (b"late" if again == first else b"bytes")

    def test_absent_is_never_ignored(self, backend: Backend) -> None:
        """Without `exclusive_create` a put with `ABSENT` looks first, or is refused with `CapabilityError`."""
        version = backend.put("a", b"first")

        with pytest.raises(_refusals(declared=backend.capabilities.exclusive_create)):
            backend.put("a", b"second", if_version=ABSENT)

        assert backend.get("a") == Content(b"first", version)

    def test_version_is_never_ignored(self, backend: Backend) -> None:
        """Without `compare_and_set` a put with a version looks first, or is refused with `CapabilityError`."""
        stale = backend.put("a", b"first")
        current = backend.put("a", b"second")

        with pytest.raises(_refusals(declared=backend.capabilities.compare_and_set)):
            backend.put("a", b"third", if_version=stale)

        assert backend.get("a") == Content(b"second", current)

    def test_store_can_be_made_by_as_many_writers_as_is_declared(
        self, backend: Backend, other: Backend, open_handle: Callable[[], Backend]
    ) -> None:
        """A store opens on what declares both conditions, and else with `single_writer=True` only.

        Making it runs the probe, which refuses a backend that claims what it does not do.
        """
        if refuses_several_writers(backend, "exclusive_create", "compare_and_set"):
            make_store(other, single_writer=True).close()
            return

        made = make_store(backend, single_writer=False)
        opened = make_store(open_handle(), single_writer=False)

        assert made.store_id == opened.store_id
        made.close()
        opened.close()

    # -- races ---------------------------------------------------------------------------------------------------------

    def test_race_to_make_an_object_has_one_winner(self, rivals: list[Backend]) -> None:
        """Of any number of callers with `ABSENT`, exactly one returns, and the object holds its bytes.

        A loser gets `ConflictError`, or `OutcomeUnknownError` when the server would not say.
        """
        if refuses_several_writers(rivals[0], "exclusive_create"):
            return

        rounds = self._race(rivals, lambda handle, number, data: try_put(handle, f"race/{number:04}", data, ABSENT))

        for number, attempts in enumerate(rounds):
            check_one_winner(attempts, rivals[0].get(f"race/{number:04}"))

    def test_race_to_replace_an_object_has_one_winner(self, rivals: list[Backend]) -> None:
        """Of any number of callers with the same version, exactly one returns, and the object holds its bytes."""
        if refuses_several_writers(rivals[0], "compare_and_set"):
            return
        versions = [rivals[0].put(f"race/{number:04}", b"before") for number in range(self.race_rounds)]

        rounds = self._race(
            rivals, lambda handle, number, data: try_put(handle, f"race/{number:04}", data, versions[number])
        )

        for number, attempts in enumerate(rounds):
            check_one_winner(attempts, rivals[0].get(f"race/{number:04}"))

    def test_compare_and_set_in_a_loop_loses_no_update(self, rivals: list[Backend]) -> None:
        """Writers who each read, add a line and put with the version they read find all their lines in the end."""
        if refuses_several_writers(rivals[0], "compare_and_set"):
            return
        rivals[0].put("log", b"")
        each = max(1, self.race_rounds // len(rivals))

        def write(writer: int) -> list[bytes]:
            lines = [f"{writer}-{number}\n".encode() for number in range(each)]
            for line in lines:
                while line not in (there := rivals[writer].get("log")).data.splitlines(keepends=True):
                    try_put(rivals[writer], "log", there.data + line, there.version)
            return lines

        written = self._together([partial(write, writer) for writer in range(len(rivals))])

        assert sorted(rivals[0].get("log").data.splitlines(keepends=True)) == sorted(itertools.chain(*written))

    def test_readers_see_a_put_whole_or_not_at_all(self, backend: Backend, open_handle: Callable[[], Backend]) -> None:
        """While an object is made and replaced, readers get all of one put, with that put's version, or of none."""
        readers = [open_handle() for _ in range(3)]
        begin, done = threading.Barrier(1 + len(readers)), threading.Event()
        versions: dict[Version, bytes] = {}

        def write() -> list[Content]:
            begin.wait(self.timeout_seconds)
            try:
                for number in range(self.race_rounds):
                    data = bytes([number % 256]) * (50_000 + 70_000 * (number % 3))
                    versions[backend.put("a/0", data)] = data
            finally:
                done.set()
            return []

        def read(reader: Backend) -> list[Content]:
            seen: list[Content] = []
            begin.wait(self.timeout_seconds)
            while not done.is_set():
                made = bool(versions)
                try:
                    content = reader.get("a/0")
                except NotFoundError:
                    assert not made, "an object was gone while it was being replaced"
                    continue
                if not seen or content != seen[-1]:
                    seen.append(content)
            return seen

        tasks: list[Callable[[], list[Content]]] = [write, *(partial(read, reader) for reader in readers)]
        found = self._together(tasks)

        for content in itertools.chain(*found):
            assert content.version in versions, "a reader got a version that no put returned"
            assert content.data == versions[content.version], (
                f"a reader got {len(content.data)} bytes that are not those of the put with this version"
            )

    def test_one_handle_serves_many_threads(self, backend: Backend) -> None:
        """Every method may be called from several threads at once, on one handle."""

        def work(writer: int) -> None:
            folder = f"thread-{writer}/"
            for number in range(max(1, self.race_rounds // 4)):
                key, data = f"{folder}{number:04}", f"{writer}, {number}".encode() * 100
                version = backend.put(key, data)
                assert backend.get(key) == Content(data, version)
                assert backend.head(key).version == version
                assert [entry.key for entry in self._listed(backend, folder)] == [key]
                backend.delete([key])

        self._together([partial(work, writer) for writer in range(self.writers)])

        assert self._listed(backend, "") == []


def _refusals(*, declared: bool) -> tuple[type[Exception], ...]:
    return (ConflictError,) if declared else (ConflictError, CapabilityError)
