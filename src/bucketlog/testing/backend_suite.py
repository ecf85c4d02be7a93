"""The conformance suite of the backend protocol: what `bucketlog.backend` promises, as tests to inherit.

Subclass `BackendSuite`, supply the fixture `open_backend`, and run pytest. The docstrings of the tests are the
specification; a backend that passes carries a store. Abilities that a backend does not declare are tested from the
other side: that it does not pretend to have them.
"""

from __future__ import annotations

import io
import itertools
import re
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest

from bucketlog.backend import (
    ABSENT,
    PUT_BYTES_MAX,
    AppendBackend,
    Backend,
    Condition,
    Content,
    Entry,
    UploadBackend,
    Version,
    Watch,
    WatchBackend,
)
from bucketlog.clock import SystemClock
from bucketlog.errors import CapabilityError, ConflictError, NotFoundError, OutcomeUnknownError
from bucketlog.storage.root import open_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from bucketlog.storage.root import Root

T = TypeVar("T")
BackendT = TypeVar("BackendT", bound=Backend)

_EVERY_BYTE = bytes(range(256))
_LONG_PART = "%C3%BC" * 42 + "abc"  # 255 bytes, the longest part that bucketlog writes


class BackendSuite:
    """Inherit this in a class that pytest collects, and define `open_backend`.

    Attributes:
        writers: How many writers race for one key.
        race_rounds: How often they do. Lower it for a slow server, though a short race proves little.
        many_keys: How many keys the listing of many keys takes; more than one page of the server.
        big_object_bytes: Size of the largest object that is put; bucketlog puts up to 64 MiB.
        timeout_seconds: How long one test waits for threads that do not end.
        blocked_seconds: How long a test watches somebody who must not get a lock.
    """

    writers: ClassVar[int] = 8
    race_rounds: ClassVar[int] = 40
    many_keys: ClassVar[int] = 1_100
    big_object_bytes: ClassVar[int] = PUT_BYTES_MAX
    timeout_seconds: ClassVar[float] = 120.0
    blocked_seconds: ClassVar[float] = 0.2

    # -- fixtures ------------------------------------------------------------------------------------------------------

    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        """Return what opens one more handle on one root, which is new and empty for each test. Define this one."""
        pytest.fail(f"{type(self).__name__} must define the fixture open_backend")

    @pytest.fixture
    def open_handle(self, open_backend: Callable[[], Backend]) -> Iterator[Callable[[], Backend]]:
        """Return `open_backend`, but close behind the test what it opened."""
        opened: list[Backend] = []

        def open_one() -> Backend:
            handle = open_backend()
            opened.append(handle)
            return handle

        yield open_one
        for handle in opened:
            handle.close()

    @pytest.fixture
    def backend(self, open_handle: Callable[[], Backend]) -> Backend:
        """Return a handle."""
        return open_handle()

    @pytest.fixture
    def other(self, open_handle: Callable[[], Backend]) -> Backend:
        """Return another handle on the same root."""
        return open_handle()

    @pytest.fixture
    def rivals(self, backend: Backend, open_handle: Callable[[], Backend]) -> list[Backend]:
        """Return one handle for each writer of a race."""
        return [backend, *(open_handle() for _ in range(self.writers - 1))]

    @pytest.fixture
    def appender(self, backend: Backend) -> AppendBackend:
        """Return the handle `backend`, which can append; skips the test when that is not declared."""
        return _appending(backend)

    @pytest.fixture
    def other_appender(self, other: Backend) -> AppendBackend:
        """Return the handle `other`, which can append."""
        return _appending(other)

    @pytest.fixture
    def appending_rivals(self, rivals: list[Backend]) -> list[AppendBackend]:
        """Return one handle that can append for each writer of a race."""
        return [_appending(handle) for handle in rivals]

    @pytest.fixture
    def watcher(self, backend: Backend) -> WatchBackend:
        """Return the handle `backend`, which can watch; skips the test when that is not declared."""
        _needs(backend, "watch")
        assert isinstance(backend, WatchBackend)
        return backend

    @pytest.fixture
    def uploader(self, backend: Backend) -> UploadBackend:
        """Return the handle `backend`, which can upload; skips the test when it cannot."""
        if not isinstance(backend, UploadBackend):
            pytest.skip(f"{backend.name} has no upload")
        return backend

    # -- what it is ----------------------------------------------------------------------------------------------------

    def test_backend_has_all_methods_of_the_protocol(self, backend: Backend) -> None:
        """A backend is whatever has the methods of `Backend`; it inherits from nothing."""
        assert isinstance(backend, Backend)

    def test_name_can_be_part_of_a_key(self, backend: Backend) -> None:
        """`name` is a short lower-case word: what was proven is kept under `capabilities/<name>.json`."""
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", backend.name)

    def test_url_names_the_place_without_credentials(self, backend: Backend) -> None:
        """`url` stands in messages, so that it has neither a user, nor a password, nor a query."""
        scheme, separator, place = backend.url.partition("://")

        assert scheme
        assert separator
        assert "@" not in place
        assert "?" not in place

    def test_handles_on_one_root_agree_about_themselves(self, backend: Backend, other: Backend) -> None:
        """Name, URL and capabilities are the same for every handle of a root."""
        assert (other.name, other.url, other.capabilities) == (backend.name, backend.url, backend.capabilities)

    def test_append_is_declared_by_those_who_have_it(self, backend: Backend) -> None:
        """With `capabilities.append` a backend is an `AppendBackend`; without, appending is `CapabilityError`."""
        if backend.capabilities.append:
            assert isinstance(backend, AppendBackend)
        elif isinstance(backend, AppendBackend):
            with pytest.raises(CapabilityError):
                backend.append("a/0", b"bytes", expected_size=0)

    def test_watch_is_declared_by_those_who_have_it(self, backend: Backend) -> None:
        """With `capabilities.watch` a backend is a `WatchBackend`; without, watching is `CapabilityError`."""
        if backend.capabilities.watch:
            assert isinstance(backend, WatchBackend)
        elif isinstance(backend, WatchBackend):
            with pytest.raises(CapabilityError):
                backend.watch("a/")

    def test_closing_twice_does_nothing(self, backend: Backend) -> None:
        """`close` may be called again."""
        backend.put("a", b"bytes")

        backend.close()
        backend.close()

    def test_closing_one_handle_leaves_the_others_open(self, backend: Backend, other: Backend) -> None:
        """Handles are independent, and what was put stays when its handle is closed."""
        backend.put("a", b"bytes")

        backend.close()

        assert other.get("a").data == b"bytes"

    # -- put, get, head ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "data",
        [b"", b"\n", _EVERY_BYTE, b'{"type":"order.placed"}\n' * 1000],
        ids=["nothing", "newline", "every byte", "lines"],
    )
    def test_get_returns_the_bytes_that_were_put(self, backend: Backend, data: bytes) -> None:
        """Bytes come back unchanged, as `bytes`, an empty object too."""
        backend.put("folder/key", data)

        content = backend.get("folder/key")

        assert type(content.data) is bytes
        assert content.data == data

    def test_put_replaces_what_was_there(self, backend: Backend) -> None:
        """A put without a condition replaces, also with something shorter."""
        backend.put("a", b"a longer text than the next")
        backend.put("a", b"short")

        assert backend.get("a").data == b"short"
        assert backend.head("a").size == 5

    def test_put_get_and_head_agree_about_the_version(self, backend: Backend) -> None:
        """The version that `put` returns is the one that `get` and `head` tell until the next change."""
        version = backend.put("a", b"bytes")

        assert version
        assert isinstance(version, str)
        assert backend.get("a").version == version
        assert backend.head("a").version == version

    def test_range_tells_the_version_of_the_whole_object_or_none(self, backend: Backend) -> None:
        """With a range comes the version of the whole object, or "" where the rest would have to be read for it."""
        version = backend.put("a", b"bytes")

        assert backend.get("a", 1, 3).version in (version, "")

    def test_head_tells_the_size(self, backend: Backend) -> None:
        """`head` tells the size in bytes, 0 for an empty object."""
        backend.put("empty", b"")
        backend.put("full", b"x" * 12_345)

        assert backend.head("empty").size == 0
        assert backend.head("full").size == 12_345

    def test_head_tells_an_aware_utc_time(self, backend: Backend) -> None:
        """`modified` is aware and in UTC, and does not go back when the object is put again later."""
        backend.put("a", b"first")
        first = backend.head("a").modified
        backend.put("a", b"second")

        assert first.utcoffset() == timedelta(0)
        assert backend.head("a").modified >= first

    @pytest.mark.parametrize("key", ["missing", "folder/missing", "folder/deeper/missing", "folder"])
    def test_missing_key_is_not_found(self, backend: Backend, key: str) -> None:
        """`get`, whole or in part, and `head` raise `NotFoundError` naming the key, also for a folder's name."""
        backend.put("folder/there", b"bytes")

        with pytest.raises(NotFoundError, match=re.escape(key)):
            backend.get(key)
        with pytest.raises(NotFoundError, match=re.escape(key)):
            backend.get(key, 3, 5)
        with pytest.raises(NotFoundError, match=re.escape(key)):
            backend.head(key)

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, None), (0, 10), (0, 4), (3, 7), (3, None), (9, 10), (9, None), (0, 0), (5, 5), (10, 10)],
    )
    def test_range_returns_exactly_its_bytes(self, backend: Backend, start: int, end: int | None) -> None:
        """`get(key, start, end)` returns the bytes `[start, end)`, to the end of the object without `end`."""
        backend.put("a", b"0123456789")

        assert backend.get("a", start, end).data == b"0123456789"[start:end]

    @pytest.mark.parametrize(("start", "end"), [(0, 11), (4, 1000), (10, 11), (10, None), (11, 12), (1000, None)])
    def test_range_past_the_end_has_no_bytes_there(self, backend: Backend, start: int, end: int | None) -> None:
        """Past the end of an object there are no bytes, and asking for them is no error."""
        backend.put("a", b"0123456789")

        assert backend.get("a", start, end).data == b"0123456789"[start:end]

    @pytest.mark.parametrize(("start", "end"), [(0, None), (0, 1), (1, None), (5, 9)])
    def test_range_of_an_empty_object_is_empty(self, backend: Backend, start: int, end: int | None) -> None:
        """An empty object has no bytes in any range, and that is no error."""
        backend.put("a", b"")

        assert backend.get("a", start, end).data == b""

    def test_big_object_comes_back_whole(self, backend: Backend) -> None:
        """An object of `big_object_bytes` is put in one call and read back whole, in ranges, and by its size."""
        block = _EVERY_BYTE[::-1] + b"bucketlog"  # of an odd length, so that a part put in the wrong place shows
        data = (block * (self.big_object_bytes // len(block) + 1))[: self.big_object_bytes]
        middle = len(data) // 2

        backend.put("big", data)

        assert backend.head("big").size == len(data)
        assert backend.get("big", middle, middle + 100_000).data == data[middle : middle + 100_000]
        assert backend.get("big", len(data) - 10).data == data[-10:]
        assert backend.get("big").data == data, "another content, although of the right size"  # the diff is unreadable

    @pytest.mark.parametrize(
        "key",
        [
            "plain",
            "a/b/c/d/e/f",
            "streams/100%25/0/00000000000000000000.jsonl",
            "..%2F..%2Fetc/%2E%2E",
            "%41%2f%2F/%",
            "a-b_c.d/UPPER.lower",
            "snapshots/system_state__2026-02-05T120000Z.json",
            ".probe/scratch",
            "x" * 255,
            f"{_LONG_PART}/{_LONG_PART}/{'0' * 249}.jsonl",
        ],
    )
    def test_key_is_taken_as_it_is(self, backend: Backend, other: Backend, key: str) -> None:
        """Percent signs are not decoded, and parts may be 255 bytes long: a key comes back as it was given."""
        backend.put(key, b"bytes")

        assert other.get(key).data == b"bytes"
        assert [entry.key for entry in self._listed(other, "")] == [key]

        other.delete([key])

        assert self._listed(backend, "") == []

    def test_percent_signs_tell_keys_apart(self, backend: Backend) -> None:
        """`%41`, `A` and `%2541` are three keys."""
        for key in ("a/%41", "a/A", "a/%2541"):
            backend.put(key, key.encode())

        assert [backend.get(key).data for key in ("a/%41", "a/A", "a/%2541")] == [b"a/%41", b"a/A", b"a/%2541"]

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
        _needs(backend, "exclusive_create")
        version = backend.put("a/0", b"first", if_version=ABSENT)

        assert backend.get("a/0") == Content(b"first", version)

    @pytest.mark.parametrize("there", [b"first", b""], ids=["bytes", "empty"])
    def test_put_if_absent_replaces_nothing(self, backend: Backend, other: Backend, there: bytes) -> None:
        """With `ABSENT` a put raises `ConflictError` where an object is, even an empty or an equal one."""
        _needs(backend, "exclusive_create")
        version = backend.put("a/0", there)

        with pytest.raises(ConflictError):
            other.put("a/0", b"second", if_version=ABSENT)
        with pytest.raises(ConflictError):
            backend.put("a/0", there, if_version=ABSENT)

        assert other.get("a/0") == Content(there, version)

    def test_put_if_absent_after_a_delete_makes_the_object_again(self, backend: Backend, other: Backend) -> None:
        """A deleted object is absent, for every handle."""
        _needs(backend, "exclusive_create")
        backend.put("a/0", b"first", if_version=ABSENT)
        other.delete(["a/0"])

        backend.put("a/0", b"second", if_version=ABSENT)

        assert other.get("a/0").data == b"second"

    def test_put_with_the_current_version_replaces(self, backend: Backend, other: Backend) -> None:
        """With the version that is there a put succeeds, whichever handle told that version."""
        _needs(backend, "compare_and_set")
        backend.put("a", b"first")

        second = other.put("a", b"second", if_version=backend.head("a").version)
        third = backend.put("a", b"third", if_version=second)

        assert other.get("a") == Content(b"third", third)

    def test_put_with_a_stale_version_changes_nothing(self, backend: Backend, other: Backend) -> None:
        """With a version whose bytes are no longer there a put raises `ConflictError`."""
        _needs(backend, "compare_and_set")
        stale = backend.put("a", b"first")
        current = other.put("a", b"second")

        with pytest.raises(ConflictError):
            backend.put("a", b"third", if_version=stale)

        assert backend.get("a") == Content(b"second", current)

    def test_put_with_a_version_that_never_was_changes_nothing(self, backend: Backend) -> None:
        """With the version of another object, or none that ever was, a put raises `ConflictError`."""
        _needs(backend, "compare_and_set")
        version = backend.put("a", b"first")
        elsewhere = backend.put("b", b"elsewhere")

        for wrong in (elsewhere, f"0{version}"):  # Ceph RGW 16 overlooks what stands behind a right one
            with pytest.raises(ConflictError):
                backend.put("a", b"second", if_version=wrong)

        assert backend.get("a") == Content(b"first", version)

    def test_put_with_a_version_needs_an_object(self, backend: Backend) -> None:
        """With a version a put raises `ConflictError` where nothing is, and makes nothing."""
        _needs(backend, "compare_and_set")
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
        _needs(backend, "compare_and_set")
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
        if _refuses_several_writers(backend, "exclusive_create", "compare_and_set"):
            _open_store(other, single_writer=True).close()
            return

        made = _open_store(backend, single_writer=False)
        opened = _open_store(open_handle(), single_writer=False)

        assert made.store_id == opened.store_id
        made.close()
        opened.close()

    # -- races ---------------------------------------------------------------------------------------------------------

    def test_race_to_make_an_object_has_one_winner(self, rivals: list[Backend]) -> None:
        """Of any number of callers with `ABSENT`, exactly one returns, and the object holds its bytes.

        A loser gets `ConflictError`, or `OutcomeUnknownError` when the server would not say.
        """
        if _refuses_several_writers(rivals[0], "exclusive_create"):
            return

        rounds = self._race(rivals, lambda handle, number, data: _try_put(handle, f"race/{number:04}", data, ABSENT))

        for number, attempts in enumerate(rounds):
            _check_one_winner(attempts, rivals[0].get(f"race/{number:04}"))

    def test_race_to_replace_an_object_has_one_winner(self, rivals: list[Backend]) -> None:
        """Of any number of callers with the same version, exactly one returns, and the object holds its bytes."""
        if _refuses_several_writers(rivals[0], "compare_and_set"):
            return
        versions = [rivals[0].put(f"race/{number:04}", b"before") for number in range(self.race_rounds)]

        rounds = self._race(
            rivals, lambda handle, number, data: _try_put(handle, f"race/{number:04}", data, versions[number])
        )

        for number, attempts in enumerate(rounds):
            _check_one_winner(attempts, rivals[0].get(f"race/{number:04}"))

    def test_compare_and_set_in_a_loop_loses_no_update(self, rivals: list[Backend]) -> None:
        """Writers who each read, add a line and put with the version they read find all their lines in the end."""
        if _refuses_several_writers(rivals[0], "compare_and_set"):
            return
        rivals[0].put("log", b"")
        each = max(1, self.race_rounds // len(rivals))

        def write(writer: int) -> list[bytes]:
            lines = [f"{writer}-{number}\n".encode() for number in range(each)]
            for line in lines:
                while line not in (there := rivals[writer].get("log")).data.splitlines(keepends=True):
                    _try_put(rivals[writer], "log", there.data + line, there.version)
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

    # -- seeing what others did ----------------------------------------------------------------------------------------

    def test_what_one_handle_put_every_other_sees_at_once(self, backend: Backend, other: Backend) -> None:
        """After a put has returned, `get`, `head` and `list` of any handle show it, the first time and later."""
        for number in range(3):
            data = b"x" * (number + 1)

            version = backend.put("a/0", data)

            assert other.get("a/0") == Content(data, version)
            assert other.head("a/0")[:2] == (len(data), version)
            assert [(entry.key, entry.size) for entry in self._listed(other, "a/")] == [("a/0", len(data))]

    def test_what_one_handle_deleted_no_other_sees(self, backend: Backend, other: Backend) -> None:
        """After a delete has returned, the object is gone for every handle, also for one that had just read it."""
        backend.put("a/0", b"bytes")
        backend.put("a/1", b"bytes")
        assert other.get("a/0").data == b"bytes"
        assert len(self._listed(other, "a/")) == 2

        backend.delete(["a/0"])

        with pytest.raises(NotFoundError):
            other.get("a/0")
        with pytest.raises(NotFoundError):
            other.head("a/0")
        assert [entry.key for entry in self._listed(other, "a/")] == ["a/1"]

    def test_what_was_missing_is_seen_once_it_is_put(self, backend: Backend, other: Backend) -> None:
        """That a key or folder was missing is not remembered."""
        with pytest.raises(NotFoundError):
            other.get("new/0")
        assert self._listed(other, "new/") == []

        backend.put("new/0", b"bytes")

        assert other.get("new/0").data == b"bytes"
        assert [entry.key for entry in self._listed(other, "new/")] == ["new/0"]

    # -- list ----------------------------------------------------------------------------------------------------------

    def test_list_of_nothing_is_empty(self, backend: Backend) -> None:
        """An empty root and a folder that does not exist list as empty, and are no error."""
        assert self._listed(backend, "") == []
        assert self._listed(backend, "missing/") == []
        assert self._listed(backend, "missing/deeper/", delimiter=True) == []
        assert self._listed(backend, "missing/", start_after="missing/0") == []

    def test_list_is_ascending_by_the_whole_key(self, backend: Backend) -> None:
        """Keys ascend as ASCII texts: `a-b/…` and `a.b` come before `a/…`, capitals before small letters."""
        keys = [
            "C/x",
            "a%2Fb",
            "a-b/c",
            "a.b",
            "a/b",
            "a/b-c",
            "a/b.c/d",
            "a0",
            "a_",
            "aB",
            "b/0",
            "b/00",
            "b/1",
            "b/10",
        ]
        self._fill(backend, reversed(keys))

        assert [entry.key for entry in self._listed(backend, "")] == sorted(keys)

    def test_list_takes_a_prefix_as_a_folder(self, backend: Backend) -> None:
        """Below `a/` lie no keys of `ab/`, `a-b` or `a`-something: the prefix ends with `/`, and so is compared."""
        self._fill(backend, ["a-b", "a/0", "a/b/0", "a/b/c/0", "a0/0", "ab/0", "b/a/0", "x/a/b/0"])

        assert [entry.key for entry in self._listed(backend, "a/")] == ["a/0", "a/b/0", "a/b/c/0"]
        assert [entry.key for entry in self._listed(backend, "a/b/")] == ["a/b/0", "a/b/c/0"]

    def test_list_tells_sizes_and_times(self, backend: Backend) -> None:
        """An entry tells size and, aware and in UTC, time of its object, as `head` does."""
        backend.put("a/0", b"")
        backend.put("a/1", b"x" * 1_000)

        entries = self._listed(backend, "a/")

        assert [entry.size for entry in entries] == [0, 1_000]
        for entry in entries:
            assert entry.modified is not None
            assert entry.modified.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        ("start_after", "expected"),
        [
            ("", ["a/0", "a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/", ["a/0", "a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/0", ["a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/1", ["a/10", "a/b/0", "a/b/1"]),
            ("a/05", ["a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/10", ["a/b/0", "a/b/1"]),
            ("a/b", ["a/b/0", "a/b/1"]),
            ("a/b/0", ["a/b/1"]),
            ("a/b/00", ["a/b/1"]),
            ("a/b/1", []),
            ("a/c", []),
            ("0", ["a/0", "a/1", "a/10", "a/b/0", "a/b/1"]),
            ("b", []),
        ],
    )
    def test_list_starts_behind_a_key(self, backend: Backend, start_after: str, expected: list[str]) -> None:
        """With `start_after` only keys greater than it, as whole keys, are listed; it need not exist itself."""
        self._fill(backend, ["Z", "a/0", "a/1", "a/10", "a/b/0", "a/b/1", "b/0"])

        assert [entry.key for entry in self._listed(backend, "a/", start_after=start_after)] == expected

    def test_list_of_one_level_shows_folders_once(self, backend: Backend) -> None:
        """With `delimiter` deeper keys show once, as their folder with `/` behind it, ascending among the others."""
        self._fill(backend, ["a-", "a/0", "a/b-", "a/b/0", "a/b/1", "a/b/c/0", "a/b0", "a/d/e/f", "ab/0"])

        assert [entry.key for entry in self._listed(backend, "", delimiter=True)] == ["a-", "a/", "ab/"]
        assert [entry.key for entry in self._listed(backend, "a/", delimiter=True)] == [
            "a/0",
            "a/b-",
            "a/b/",
            "a/b0",
            "a/d/",
        ]
        assert Entry("a/b/", 0, None) in self._listed(backend, "a/", delimiter=True)

    def test_list_of_one_level_starts_behind_a_key(self, backend: Backend) -> None:
        """`delimiter` and `start_after` work together."""
        self._fill(backend, ["a/0", "a/1", "a/b/0", "a/c", "a/d/0"])

        assert [entry.key for entry in self._listed(backend, "a/", start_after="a/0", delimiter=True)] == [
            "a/1",
            "a/b/",
            "a/c",
            "a/d/",
        ]
        assert [entry.key for entry in self._listed(backend, "a/", start_after="a/c", delimiter=True)] == ["a/d/"]

    def test_folder_without_keys_is_not_listed(self, backend: Backend, other: Backend) -> None:
        """A folder exists by its keys alone: once they are deleted it is gone from every listing."""
        self._fill(backend, ["a/b/0", "a/b/c/0", "a/d"])

        other.delete(["a/b/0", "a/b/c/0"])

        assert [entry.key for entry in self._listed(backend, "a/", delimiter=True)] == ["a/d"]
        assert self._listed(backend, "a/b/", delimiter=True) == []

    def test_list_of_many_keys_is_whole(self, backend: Backend, other: Backend) -> None:
        """A listing goes on past the pages in which a server hands it out, with and without `delimiter`."""
        keys = [f"many/{number:05}/0" for number in range(self.many_keys)]
        self._fill(backend, keys)

        assert [entry.key for entry in self._listed(other, "many/")] == keys
        assert [entry.key for entry in self._listed(other, "many/", start_after=keys[40])] == keys[41:]
        assert [entry.key for entry in self._listed(other, "many/", start_after=keys[-41])] == keys[-40:]
        assert [entry.key for entry in self._listed(other, "many/", delimiter=True)] == [
            key.removesuffix("0") for key in keys
        ]

    def test_list_is_lazy(self, backend: Backend) -> None:
        """`list` returns an iterator, which may be left before its end, and used beside other calls."""
        keys = [f"a/{number:02}" for number in range(20)]
        self._fill(backend, keys)

        listing = backend.list("a/")

        assert iter(listing) is listing
        assert next(listing).key == keys[0]
        assert backend.get(keys[5]).data == b"x"
        assert next(listing).key == keys[1]
        del listing
        assert [entry.key for entry in self._listed(backend, "a/")] == keys

    def test_list_keeps_what_stays_while_other_keys_go(self, backend: Backend, other: Backend) -> None:
        """Keys deleted while a listing is under way do not make it skip or repeat those that stay."""
        keys = [f"a/{number:03}" for number in range(60)]
        self._fill(backend, keys)

        listing = backend.list("a/")
        first = [next(listing).key for _ in range(20)]
        other.delete([*keys[:15], *keys[40::2]])
        rest = [entry.key for entry in itertools.islice(listing, len(keys))]

        assert first == keys[:20]
        assert rest == sorted(set(rest))
        assert set(rest) >= {*keys[20:40], *keys[41::2]}

    # -- delete --------------------------------------------------------------------------------------------------------

    def test_delete_of_a_missing_key_is_no_error(self, backend: Backend) -> None:
        """Deleting what is not there does nothing, also twice, and in a folder that never was."""
        backend.put("a/0", b"bytes")

        backend.delete(["missing", "a/missing", "never/was/here"])
        backend.delete(["a/0"])
        backend.delete(["a/0"])

        assert self._listed(backend, "") == []

    def test_delete_takes_any_iterable(self, backend: Backend) -> None:
        """Keys may come from a generator, and from an empty one."""
        self._fill(backend, ["a/0", "a/1", "a/2"])

        backend.delete(f"a/{number}" for number in (0, 2))
        backend.delete(iter(()))

        assert [entry.key for entry in self._listed(backend, "")] == ["a/1"]

    def test_delete_of_many_keys_removes_those_that_are_there(self, backend: Backend) -> None:
        """One call removes any number of keys, the last ones too, whether or not others among them are missing."""
        keys = [f"a/{number:05}" for number in range(self.many_keys)]
        there = [*keys[:3], *keys[len(keys) // 2 :][:3], *keys[-3:]]
        self._fill(backend, [*there, "a/stays"])

        backend.delete(keys)

        assert [entry.key for entry in self._listed(backend, "")] == ["a/stays"]

    def test_delete_leaves_the_neighbours(self, backend: Backend) -> None:
        """Only the keys named are removed, not those that begin alike or lie in a folder beside them."""
        self._fill(backend, ["a/0", "a/00", "a/0.json", "ab/0", "b/a/0"])

        backend.delete(["a/0"])

        assert [entry.key for entry in self._listed(backend, "")] == ["a/0.json", "a/00", "ab/0", "b/a/0"]

    # -- append --------------------------------------------------------------------------------------------------------

    def test_append_at_zero_makes_the_object(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """With `expected_size=0` an append makes the object, which then is listed and read as any other."""
        appender.append("p/0.jsonl", b"first\n", expected_size=0)

        assert other_appender.get("p/0.jsonl").data == b"first\n"
        assert other_appender.head("p/0.jsonl").size == 6
        assert [(entry.key, entry.size) for entry in self._listed(other_appender, "p/")] == [("p/0.jsonl", 6)]
        with pytest.raises(ConflictError):
            other_appender.put("p/0.jsonl", b"rival", if_version=ABSENT)

    def test_append_adds_to_the_end(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """With the object's size as `expected_size` an append adds its bytes, whoever made the object."""
        appender.append("p/0", b"first,", expected_size=0)
        other_appender.append("p/0", b"second,", expected_size=6)
        appender.append("p/0", b"third", expected_size=13)

        assert other_appender.get("p/0").data == b"first,second,third"

    def test_growth_is_seen_by_other_handles_at_once(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """After an append has returned, every handle sees the new size, bytes and version, synced or not."""
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
        """When the object's size is not `expected_size`, an append raises `ConflictError`, on any handle."""
        appender.append("p/0", b"first", expected_size=0)

        for handle in (appender, other_appender):
            with pytest.raises(ConflictError):
                handle.append("p/0", b"second", expected_size=expected_size)

        assert other_appender.get("p/0").data == b"first"

    def test_append_to_a_missing_object_makes_it_at_zero_only(self, appender: AppendBackend) -> None:
        """With an `expected_size` above 0 an append raises `ConflictError` where there is no object, and makes none."""
        with pytest.raises(ConflictError):
            appender.append("p/0", b"second", expected_size=5)

        with pytest.raises(NotFoundError):
            appender.head("p/0")

    def test_append_goes_on_after_a_conflict(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """Whoever lost reads the size again and appends there."""
        appender.append("p/0", b"first,", expected_size=0)
        other_appender.append("p/0", b"second,", expected_size=6)
        with pytest.raises(ConflictError):
            appender.append("p/0", b"third", expected_size=6)

        appender.append("p/0", b"third", expected_size=appender.head("p/0").size)

        assert other_appender.get("p/0").data == b"first,second,third"

    def test_append_to_a_replaced_object_is_a_conflict(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """An object made anew under the key is not the one a handle appended to, even at the same size."""
        appender.append("p/0", b"first", expected_size=0)
        other_appender.delete(["p/0"])
        other_appender.append("p/0", b"other", expected_size=0)

        with pytest.raises(ConflictError):
            appender.append("p/0", b"second", expected_size=5)

        assert other_appender.get("p/0").data == b"other"
        appender.append("p/0", b", again", expected_size=5)
        assert other_appender.get("p/0").data == b"other, again"

    def test_sealed_object_never_grows(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """After `seal` an append raises `ConflictError` on every handle; the object is read as before."""
        appender.append("p/0", b"first", expected_size=0)
        other_appender.append("p/0", b"second", expected_size=5)

        appender.seal("p/0")

        for handle in (appender, other_appender):
            with pytest.raises(ConflictError):
                handle.append("p/0", b"third", expected_size=11)
        assert other_appender.get("p/0").data == b"firstsecond"

    def test_seal_is_seen_by_other_handles_and_may_be_repeated(
        self, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """`is_sealed` is False before and True after, for every handle; sealing twice is no error."""
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
        """Sealing keeps an object from growing, not from being removed."""
        appender.append("p/0", b"first", expected_size=0)
        appender.seal("p/0")

        other_appender.delete(["p/0"])

        assert self._listed(appender, "") == []
        assert not appender.is_sealed("p/0")

    def test_sync_makes_an_unsynced_append_durable(self, appender: AppendBackend) -> None:
        """`sync` works on an object that grows, again when nothing is left to do, and on a sealed one."""
        appender.append("p/0", b"first", expected_size=0, sync=False)

        appender.sync("p/0")
        appender.sync("p/0")
        appender.seal("p/0")
        appender.sync("p/0")

        assert appender.get("p/0").data == b"first"

    def test_sync_of_a_missing_object_is_not_found(self, appender: AppendBackend) -> None:
        """`sync` raises `NotFoundError` naming the key where nothing is stored."""
        with pytest.raises(NotFoundError, match="p/missing"):
            appender.sync("p/missing")

    def test_cut_keeps_the_rest_aside(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """`cut` shortens an object for every handle, and what lay past the size is under the key `aside`."""
        appender.append("p/0", b"whole,torn", expected_size=0)

        other_appender.cut("p/0", 6, aside="p/.torn-1")

        assert appender.get("p/0").data == b"whole,"
        assert appender.get("p/.torn-1").data == b"torn"
        with pytest.raises(ConflictError):
            appender.append("p/0", b"next", expected_size=10)
        appender.append("p/0", b"next", expected_size=6)
        assert other_appender.get("p/0").data == b"whole,next"

    def test_cut_without_aside_keeps_nothing(self, appender: AppendBackend) -> None:
        """With `aside=None` what lay past the size is gone."""
        appender.append("p/0", b"whole,torn", expected_size=0)

        appender.cut("p/0", 6, aside=None)

        assert appender.get("p/0").data == b"whole,"
        assert [entry.key for entry in self._listed(appender, "")] == ["p/0"]

    def test_race_to_append_at_one_size_has_one_winner(self, appending_rivals: list[AppendBackend]) -> None:
        """Of any number of callers that believe the same size, exactly one appends, at every size."""
        appending_rivals[0].append("p/0", b"", expected_size=0)

        def attempt(handle: AppendBackend, number: int, data: bytes) -> _Attempt:
            try:
                handle.append("p/0", data, expected_size=number * _RECORD_BYTES)
            except ConflictError:
                return _Attempt(data, None)
            return _Attempt(data, "appended")

        rounds = self._race(appending_rivals, attempt)

        for number, attempts in enumerate(rounds):
            stored = appending_rivals[0].get("p/0", number * _RECORD_BYTES, (number + 1) * _RECORD_BYTES)
            _check_one_winner(attempts, Content(stored.data, "appended"))
        assert appending_rivals[0].head("p/0").size == self.race_rounds * _RECORD_BYTES

    def test_appends_under_the_lock_never_conflict_or_mix(self, appending_rivals: list[AppendBackend]) -> None:
        """Writers who read the size and append under one lock all succeed, and every record stands whole."""

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
        assert len(stored) == len(written) * _RECORD_BYTES
        found = [stored[at : at + _RECORD_BYTES] for at in range(0, len(stored), _RECORD_BYTES)]
        assert sorted(found) == sorted(written)

    def test_readers_see_an_object_grow_in_order(
        self, appender: AppendBackend, open_handle: Callable[[], Backend]
    ) -> None:
        """What a reader gets while an object grows is always its beginning, and never gets shorter."""
        readers = [open_handle() for _ in range(3)]
        appender.append("p/0", b"", expected_size=0)
        done = threading.Event()

        def write() -> list[bytes]:
            data = b""
            try:
                for number in range(self.race_rounds):
                    more = _record(number)
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
        """Of the handles on a root, one at a time holds a folder's lock."""
        assert self._count_under_lock(appending_rivals) == len(appending_rivals) * self.race_rounds

    def test_lock_excludes_other_threads_of_its_handle(self, appender: AppendBackend) -> None:
        """Of the threads of one handle, too, one at a time holds a folder's lock."""
        assert self._count_under_lock([appender] * self.writers) == self.writers * self.race_rounds

    def test_lock_is_reentrant_in_a_thread(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """A thread that holds a lock takes it again, and appends; it is free only when the first is released."""

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

        self._together([lambda: _take_lock(other_appender)])

    def test_locks_of_two_folders_are_independent(self, appender: AppendBackend, other_appender: AppendBackend) -> None:
        """The lock of one partition does not keep anyone out of another."""

        def hold_both() -> None:
            with appender.lock("p/"):
                self._together([lambda: _take_lock(other_appender, folder="q/")])

        self._together([hold_both])

    def test_shared_locks_exclude_exclusive_ones_only(
        self, appender: AppendBackend, other_appender: AppendBackend, open_handle: Callable[[], Backend]
    ) -> None:
        """Where something is stored any number hold a shared lock together, and nobody the exclusive one meanwhile."""
        appender.append("p/0", b"first", expected_size=0)
        writer = _appending(open_handle())
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
        """While one holds the exclusive lock, a shared one waits."""

        def hold() -> Future[None]:
            with appender.lock("p/"):
                return self._check_kept_out(other_appender, shared=True)

        self._join(self._together([hold]))

    def test_lock_is_not_listed(self, appender: AppendBackend) -> None:
        """What a backend keeps for itself is neither listed nor makes a folder."""
        appender.append("p/0", b"first", expected_size=0)
        with appender.lock("p/"), appender.lock("q/"):
            inside = [entry.key for entry in self._listed(appender, "")]

        assert inside == ["p/0"]
        assert [entry.key for entry in self._listed(appender, "", delimiter=True)] == ["p/"]

    # -- watch ---------------------------------------------------------------------------------------------------------

    def test_watch_wakes_on_a_change_by_another_handle(self, watcher: WatchBackend, other: Backend) -> None:
        """A waiter wakes when another handle puts, replaces or deletes below the prefix, however deep."""
        watch = watcher.watch("a/")
        try:
            for change in (
                lambda: other.put("a/0", b"first"),
                lambda: other.put("a/0", b"second"),
                lambda: other.put("a/b/c/0", b"deeper"),
                lambda: other.delete(["a/0"]),
            ):
                self._settle(watch)
                woken = self._together([lambda: watch.wait(self.timeout_seconds / 4), change])[0]
                assert woken is True
        finally:
            watch.close()

    def test_watch_wakes_on_growth(
        self, watcher: WatchBackend, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """A waiter wakes when an object below the prefix grows."""
        appender.append("a/0", b"first", expected_size=0)
        watch = watcher.watch("a/")
        try:
            self._settle(watch)
            other_appender.append("a/0", b"second", expected_size=5)
            assert self._together([lambda: watch.wait(self.timeout_seconds / 4)]) == [True]
        finally:
            watch.close()

    def test_watch_remembers_a_change_before_the_wait(self, watcher: WatchBackend, other: Backend) -> None:
        """A change between `watch` and `wait`, or between two waits, wakes the next one, in a new folder too."""
        watch = watcher.watch("new/folder/")
        try:
            for number in range(3):
                other.put(f"new/folder/{number}", b"bytes")
                assert self._together([lambda: watch.wait(self.timeout_seconds / 4)]) == [True]
        finally:
            watch.close()

    def test_watch_sleeps_while_nothing_changes(self, watcher: WatchBackend) -> None:
        """Without changes `wait` returns False when its time is over; waking for nothing does not go on forever."""
        watcher.put("a/0", b"bytes")
        watch = watcher.watch("a/")
        try:
            assert self._settle(watch)
        finally:
            watch.close()

    def test_closing_a_watch_wakes_its_waiter(self, watcher: WatchBackend) -> None:
        """`close` from another thread ends a wait at once, and may be called again."""
        watch = watcher.watch("a/")
        self._settle(watch)
        begun = threading.Event()

        def wait_for_nothing() -> float:
            started = time.monotonic()
            begun.set()
            watch.wait(self.timeout_seconds)
            return time.monotonic() - started

        def close() -> float:
            assert begun.wait(self.timeout_seconds)
            watch.close()
            watch.close()
            return 0.0

        assert self._together([wait_for_nothing, close])[0] < self.timeout_seconds / 2

    # -- upload --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 1_000_000], ids=["nothing", "a byte", "a million"])
    def test_upload_stores_all_of_a_file(self, uploader: UploadBackend, other: Backend, size: int) -> None:
        """An upload stores what its source holds, an empty one too, and replaces what was there."""
        data = (_EVERY_BYTE * 4_000)[:size]
        other.put("a/blob", b"before")

        uploader.upload("a/blob", io.BytesIO(data))

        assert other.head("a/blob").size == size
        assert other.get("a/blob").data == data

    def test_upload_starts_where_the_source_stands(self, uploader: UploadBackend) -> None:
        """What was read from the source before is not stored."""
        source = io.BytesIO(b"header,content")
        source.seek(7)

        uploader.upload("a/blob", source)

        assert uploader.get("a/blob").data == b"content"

    def test_upload_takes_more_than_one_put(self, uploader: UploadBackend) -> None:
        """An upload may be larger than the largest put; it comes back whole."""
        data = _EVERY_BYTE[::-1] * (self.big_object_bytes // 256 + 1) + b"end"

        uploader.upload("a/blob", io.BytesIO(data))

        assert uploader.head("a/blob").size == len(data)
        assert uploader.get("a/blob").data == data, "another content, although of the right size"

    def test_upload_of_a_failing_source_changes_nothing(self, uploader: UploadBackend, other: Backend) -> None:
        """When the source fails on the way the error reaches the caller, and readers see nothing of the upload."""
        other.put("a/there", b"before")

        for key in ("a/there", "a/new"):
            with pytest.raises(Exception, match="the source broke"):
                uploader.upload(key, _BreakingSource(_EVERY_BYTE * 100_000))

        assert other.get("a/there").data == b"before"
        assert [entry.key for entry in self._listed(other, "")] == ["a/there"]

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _fill(self, backend: Backend, keys: Iterable[str]) -> None:
        """Put one byte under each key, with several threads."""
        left = iter(list(keys))
        taking = threading.Lock()

        def fill() -> None:
            while True:
                with taking:
                    key = next(left, None)
                if key is None:
                    return
                backend.put(key, b"x")

        self._together([fill] * self.writers)

    def _listed(self, backend: Backend, prefix: str, *, start_after: str = "", delimiter: bool = False) -> list[Entry]:
        """List to the end, and fail when there is none: a page handed out again and again would go on forever."""
        limit = 2 * self.many_keys + 1_000
        entries = list(itertools.islice(backend.list(prefix, start_after=start_after, delimiter=delimiter), limit))
        assert len(entries) < limit, f"list of {prefix!r} does not come to an end"
        return entries

    def _together(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run tasks in a thread each, and return their results; fails when one does not end in time."""
        return self._join([_start(task) for task in tasks])

    def _join(self, futures: Sequence[Future[T]]) -> list[T]:
        """Wait for threads, and return their results or raise the error of one."""
        if wait(futures, timeout=self.timeout_seconds).not_done:
            pytest.fail(f"a thread was still waiting after {self.timeout_seconds:g} seconds")
        errors = [error for future in futures if (error := future.exception()) is not None]
        # A broken barrier only says that another one failed.
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]

    def _race(self, handles: Sequence[BackendT], attempt: Callable[[BackendT, int, bytes], T]) -> list[list[T]]:
        """Let every handle try at the same moment, round by round; return what came of it, by round and handle."""
        barrier = threading.Barrier(len(handles))

        def run(writer: int) -> list[T]:
            results = []
            try:
                for number in range(self.race_rounds):
                    barrier.wait(self.timeout_seconds)
                    results.append(attempt(handles[writer], number, _record(number * len(handles) + writer)))
            except BaseException:
                barrier.abort()
                raise
            return results

        by_writer = self._together([partial(run, writer) for writer in range(len(handles))])
        return [list(one_round) for one_round in zip(*by_writer, strict=True)]

    def _count_under_lock(self, handles: Sequence[AppendBackend]) -> int:
        """Count all rounds of a race with a plain variable, under the lock: it falls short if two were inside."""
        count = 0

        def add_one(handle: AppendBackend, _number: int, _data: bytes) -> None:
            nonlocal count
            with handle.lock("p/"):
                before = count
                time.sleep(0.0002)  # lets whoever the lock does not keep out come in between
                count = before + 1

        self._race(handles, add_one)
        return count

    def _check_kept_out(self, handle: AppendBackend, *, shared: bool = False) -> Future[None]:
        """Check that another thread does not get the lock while this one holds it; it does when that is over."""
        taking = _start(partial(_take_lock, handle, shared=shared))
        assert wait([taking], timeout=self.blocked_seconds).not_done, "a lock was taken that somebody else held"
        return taking

    def _settle(self, watch: Watch) -> bool:
        """Take the wake-ups that come late for what was done before; tell whether they came to an end."""
        return self._together([lambda: any(not watch.wait(0.1) for _ in range(30))])[0]


def _refusals(*, declared: bool) -> tuple[type[Exception], ...]:
    return (ConflictError,) if declared else (ConflictError, CapabilityError)


def _refuses_several_writers(backend: Backend, *needed: str) -> bool:
    """Tell whether an ability is not declared: then a store opens for several writers with `CapabilityError` only."""
    if all(getattr(backend.capabilities, ability) for ability in needed):
        return False
    with pytest.raises(CapabilityError, match="single_writer=True"):
        _open_store(backend, single_writer=False)
    return True


def _open_store(backend: Backend, *, single_writer: bool) -> Root:
    return open_root(
        backend, create=True, read_only=False, single_writer=single_writer, sync="always", clock=SystemClock()
    )


# -- what a race leaves ------------------------------------------------------------------------------------------------

_RECORD_BYTES = 512


def _record(number: int) -> bytes:
    return (f"{number:011},".encode() * _RECORD_BYTES)[: _RECORD_BYTES - 1] + b"\n"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one writer of a race was told: a version, an error that says no, or neither."""

    data: bytes
    version: Version | None
    unknown: bool = False


def _try_put(backend: Backend, key: str, data: bytes, condition: Condition) -> _Attempt:
    try:
        return _Attempt(data, backend.put(key, data, if_version=condition))
    except ConflictError:
        return _Attempt(data, None)
    except OutcomeUnknownError:
        return _Attempt(data, None, unknown=True)


def _check_one_winner(attempts: Sequence[_Attempt], stored: Content) -> None:
    winners = [attempt for attempt in attempts if attempt.version is not None]
    assert len(winners) <= 1, f"{len(winners)} of {len(attempts)} writers were told that they won"
    if winners:
        assert stored == Content(winners[0].data, winners[0].version or "")
    else:
        unknown = [attempt.data for attempt in attempts if attempt.unknown]
        assert stored.data in unknown, "every writer was told that it lost"


# -- threads and sources -----------------------------------------------------------------------------------------------


class _ExpectedError(Exception):
    pass


class _BreakingSource(io.BytesIO):
    """A file that fails in the middle."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() or size is None or size < 0 or size >= len(self.getvalue()):
            msg = "the source broke"
            raise OSError(msg)
        return super().read(size)

    def readinto(self, buffer: Buffer, /) -> int:
        data = self.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(data)] = data
        return len(data)


def _needs(backend: Backend, ability: str) -> None:
    """Skip a test of an ability that is not declared; the other side is tested for itself."""
    if not getattr(backend.capabilities, ability):
        pytest.skip(f"{backend.name} does not declare {ability}")


def _appending(backend: Backend) -> AppendBackend:
    _needs(backend, "append")
    assert isinstance(backend, AppendBackend)
    return backend


def _take_lock(handle: AppendBackend, *, folder: str = "p/", shared: bool = False) -> None:
    with handle.lock(folder, shared=shared):
        pass


def _start(task: Callable[[], T]) -> Future[T]:
    """Run a task in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(task())
        except BaseException as err:  # noqa: BLE001  (handed to whoever asks for the result)
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future
