"""What a backend is, and what becomes of one object: put, get, head, delete, upload."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bucketlog.backend import (
    AppendBackend,
    Backend,
    Content,
    UploadBackend,
    WatchBackend,
)
from bucketlog.errors import CapabilityError, NotFoundError
from bucketlog.testing.backend.harness import (
    EVERY_BYTE,
    BackendTests,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LONG_PART = "%C3%BC" * 42 + "abc"  # 255 bytes, the longest part that bucketlog writes


class ObjectTests(BackendTests):
    """Objects come back as they were put, for every handle."""

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
        [b"", b"\n", EVERY_BYTE, b'{"type":"order.placed"}\n' * 1000],
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
        block = EVERY_BYTE[::-1] + b"bucketlog"  # of an odd length, so that a part put in the wrong place shows
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

    # -- upload --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 1_000_000], ids=["nothing", "a byte", "a million"])
    def test_upload_stores_all_of_a_file(self, uploader: UploadBackend, other: Backend, size: int) -> None:
        """An upload stores what its source holds, an empty one too, and replaces what was there."""
        data = (EVERY_BYTE * 4_000)[:size]
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
        data = EVERY_BYTE[::-1] * (self.big_object_bytes // 256 + 1) + b"end"

        uploader.upload("a/blob", io.BytesIO(data))

        assert uploader.head("a/blob").size == len(data)
        assert uploader.get("a/blob").data == data, "another content, although of the right size"

    def test_upload_of_a_failing_source_changes_nothing(self, uploader: UploadBackend, other: Backend) -> None:
        """When the source fails on the way the error reaches the caller, and readers see nothing of the upload."""
        other.put("a/there", b"before")

        for key in ("a/there", "a/new"):
            with pytest.raises(Exception, match="the source broke"):
                uploader.upload(key, _BreakingSource(EVERY_BYTE * 100_000))

        assert other.get("a/there").data == b"before"
        assert [entry.key for entry in self._listed(other, "")] == ["a/there"]


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
