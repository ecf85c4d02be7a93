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
    """Conditional puts, alone and under contention."""

    # -- versions and conditions ---------------------------------------------------------------------------------------

    def test_version_changes_whenever_the_bytes_do(self, backend: Backend) -> None:
        """Different bytes get a different version, even with the same size and modification time."""
        versions = [backend.put("a", f"{number:04}".encode()) for number in range(50)]

        assert len(set(versions)) == 50

    def test_version_changes_when_an_object_is_created_again(self, backend: Backend) -> None:
        """Different bytes get a different version, even if the object was deleted in between."""
        first = backend.put("a", b"first")
        backend.delete(["a"])

        assert backend.put("a", b"other") != first

    def test_put_if_absent_creates_an_object(self, backend: Backend) -> None:
        """A put with `ABSENT` succeeds if nothing is stored, and returns the object's version."""
        needs(backend, "exclusive_create")
        version = backend.put("a/0", b"first", if_version=ABSENT)

        assert backend.get("a/0") == Content(b"first", version)

    @pytest.mark.parametrize("there", [b"first", b""], ids=["bytes", "empty"])
    def test_put_if_absent_replaces_nothing(self, backend: Backend, other: Backend, there: bytes) -> None:
        """A put with `ABSENT` raises `ConflictError` if an object exists, even an empty or identical one."""
        needs(backend, "exclusive_create")
        version = backend.put("a/0", there)

        with pytest.raises(ConflictError):
            other.put("a/0", b"second", if_version=ABSENT)
        with pytest.raises(ConflictError):
            backend.put("a/0", there, if_version=ABSENT)

        assert other.get("a/0") == Content(there, version)

    def test_put_if_absent_after_a_delete_creates_the_object_again(self, backend: Backend, other: Backend) -> None:
        """A deleted object is absent for every handle."""
        needs(backend, "exclusive_create")
        backend.put("a/0", b"first", if_version=ABSENT)
        other.delete(["a/0"])

        backend.put("a/0", b"second", if_version=ABSENT)

        assert other.get("a/0").data == b"second"

    def test_put_with_the_current_version_replaces(self, backend: Backend, other: Backend) -> None:
        """A put with the current version succeeds, whichever handle read that version."""
        needs(backend, "compare_and_set")
        backend.put("a", b"first")

        second = other.put("a", b"second", if_version=backend.head("a").version)
        third = backend.put("a", b"third", if_version=second)

        assert other.get("a") == Content(b"third", third)

    def test_put_with_a_stale_version_changes_nothing(self, backend: Backend, other: Backend) -> None:
        """A put with the version of bytes that were replaced raises `ConflictError`."""
        needs(backend, "compare_and_set")
        stale = backend.put("a", b"first")
        current = other.put("a", b"second")

        with pytest.raises(ConflictError):
            backend.put("a", b"third", if_version=stale)

        assert backend.get("a") == Content(b"second", current)

    def test_put_with_a_foreign_version_changes_nothing(self, backend: Backend) -> None:
        """A put with the version of another object, or one that never existed, raises `ConflictError`."""
        needs(backend, "compare_and_set")
        version = backend.put("a", b"first")
        elsewhere = backend.put("b", b"elsewhere")

        for wrong in (elsewhere, f"0{version}"):  # Ceph RGW 16 ignores text around a correct ETag
            with pytest.raises(ConflictError):
                backend.put("a", b"second", if_version=wrong)

        assert backend.get("a") == Content(b"first", version)

    def test_put_with_a_version_needs_an_object(self, backend: Backend) -> None:
        """A put with a version raises `ConflictError` if nothing is stored, and creates nothing."""
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
        """If the same bytes are stored again, their version may or may not return.

        A condition holds exactly if the version is equal.
        """
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
        """Without `exclusive_create`, a put with `ABSENT` checks first or raises `CapabilityError`."""
        version = backend.put("a", b"first")

        with pytest.raises(_refusals(declared=backend.capabilities.exclusive_create)):
            backend.put("a", b"second", if_version=ABSENT)

        assert backend.get("a") == Content(b"first", version)

    def test_version_is_never_ignored(self, backend: Backend) -> None:
        """Without `compare_and_set`, a put with a version checks first or raises `CapabilityError`."""
        stale = backend.put("a", b"first")
        current = backend.put("a", b"second")

        with pytest.raises(_refusals(declared=backend.capabilities.compare_and_set)):
            backend.put("a", b"third", if_version=stale)

        assert backend.get("a") == Content(b"second", current)

    def test_store_needs_both_conditions_or_a_single_writer(
        self, backend: Backend, other: Backend, open_handle: Callable[[], Backend]
    ) -> None:
        """A store opens on a backend that declares both conditions; on others only with `single_writer=True`.

        Creating the store runs the probe, which refuses a backend that does not do what it declares.
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

    def test_race_to_create_an_object_has_one_winner(self, rivals: list[Backend]) -> None:
        """Of any number of callers racing with `ABSENT`, exactly one returns, and the object holds its bytes.

        The others get `ConflictError`, or `OutcomeUnknownError` if the server gives no clear answer.
        """
        if refuses_several_writers(rivals[0], "exclusive_create"):
            return

        rounds = self._race(rivals, lambda handle, number, data: try_put(handle, f"race/{number:04}", data, ABSENT))

        for number, attempts in enumerate(rounds):
            check_one_winner(attempts, rivals[0].get(f"race/{number:04}"))

    def test_race_to_replace_an_object_has_one_winner(self, rivals: list[Backend]) -> None:
        """Of any number of callers racing with the same version, exactly one returns, and its bytes are stored."""
        if refuses_several_writers(rivals[0], "compare_and_set"):
            return
        versions = [rivals[0].put(f"race/{number:04}", b"before") for number in range(self.race_rounds)]

        rounds = self._race(
            rivals, lambda handle, number, data: try_put(handle, f"race/{number:04}", data, versions[number])
        )

        for number, attempts in enumerate(rounds):
            check_one_winner(attempts, rivals[0].get(f"race/{number:04}"))

    def test_compare_and_set_in_a_loop_loses_no_update(self, rivals: list[Backend]) -> None:
        """Writers that each read, add a line and put with the version they read lose no line."""
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
        """While an object is created and replaced, a reader gets all bytes of one put together with its version."""
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
                    assert not made, "an object was missing while it was being replaced"
                    continue
                if not seen or content != seen[-1]:
                    seen.append(content)
            return seen

        tasks: list[Callable[[], list[Content]]] = [write, *(partial(read, reader) for reader in readers)]
        found = self._together(tasks)

        for content in itertools.chain(*found):
            assert content.version in versions, "a reader got a version that no put returned"
            assert content.data == versions[content.version], (
                f"a reader got {len(content.data)} bytes, but not those of the put that returned their version"
            )

    def test_one_handle_serves_many_threads(self, backend: Backend) -> None:
        """Every method of a handle may be called from several threads at once."""

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
