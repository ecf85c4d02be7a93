"""What a backend says about itself, and single objects: put, get, head, delete, upload."""

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
    """What a backend says about itself, and the life of one object."""

    # -- identity ------------------------------------------------------------------------------------------------------

    def test_backend_has_all_methods_of_the_protocol(self, backend: Backend) -> None:
        """A backend has all methods of `Backend`. It need not inherit from anything."""
        assert isinstance(backend, Backend)

    def test_name_can_be_part_of_a_key(self, backend: Backend) -> None:
        """`name` is a short lower-case word: the store keeps the probe's result in `capabilities/<name>.json`."""
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", backend.name)

    def test_url_names_the_place_without_credentials(self, backend: Backend) -> None:
        """`url` appears in messages, so it contains no user, password or query."""
        scheme, separator, place = backend.url.partition("://")

        assert scheme
        assert separator
        assert "@" not in place
        assert "?" not in place

    def test_handles_on_one_root_agree_about_themselves(self, backend: Backend, other: Backend) -> None:
        """All handles on a root have the same name, URL and capabilities."""
        assert (other.name, other.url, other.capabilities) == (backend.name, backend.url, backend.capabilities)

    def test_append_is_declared_or_refused(self, backend: Backend) -> None:
        """A backend that declares `append` is an `AppendBackend`.

        One that does not has no method `append`, or one that raises `CapabilityError`.
        """
        if backend.capabilities.append:
            assert isinstance(backend, AppendBackend)
        elif isinstance(backend, AppendBackend):
            with pytest.raises(CapabilityError):
                backend.append("a/0", b"bytes", expected_size=0)

    def test_watch_is_declared_or_refused(self, backend: Backend) -> None:
        """A backend that declares `watch` is a `WatchBackend`.

        One that does not has no method `watch`, or one that raises `CapabilityError`.
        """
        if backend.capabilities.watch:
            assert isinstance(backend, WatchBackend)
        elif isinstance(backend, WatchBackend):
            with pytest.raises(CapabilityError):
                backend.watch("a/")

    def test_closing_twice_does_nothing(self, backend: Backend) -> None:
        """`close` may be called more than once."""
        backend.put("a", b"bytes")

        backend.close()
        backend.close()

    def test_closing_one_handle_leaves_the_others_open(self, backend: Backend, other: Backend) -> None:
        """Closing a handle affects neither other handles nor the objects it stored."""
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
        """`get` returns the bytes unchanged, as `bytes`, including those of an empty object."""
        backend.put("folder/key", data)

        content = backend.get("folder/key")

        assert type(content.data) is bytes
        assert content.data == data

    def test_put_replaces_the_object(self, backend: Backend) -> None:
        """A put without a condition replaces the whole object, even if the new one is shorter."""
        backend.put("a", b"a longer text than the next")
        backend.put("a", b"short")

        assert backend.get("a").data == b"short"
        assert backend.head("a").size == 5

    def test_put_get_and_head_agree_about_the_version(self, backend: Backend) -> None:
        """Until the object changes, `get` and `head` return the version that `put` returned."""
        version = backend.put("a", b"bytes")

        assert version
        assert isinstance(version, str)
        assert backend.get("a").version == version
        assert backend.head("a").version == version

    def test_range_has_the_version_of_the_whole_object_or_none(self, backend: Backend) -> None:
        """A range comes with the version of the whole object, or "" if finding it would mean reading the rest."""
        version = backend.put("a", b"bytes")

        assert backend.get("a", 1, 3).version in (version, "")

    def test_head_returns_the_size(self, backend: Backend) -> None:
        """`head` returns the size in bytes, 0 for an empty object."""
        backend.put("empty", b"")
        backend.put("full", b"x" * 12_345)

        assert backend.head("empty").size == 0
        assert backend.head("full").size == 12_345

    def test_head_returns_an_aware_utc_time(self, backend: Backend) -> None:
        """`modified` is timezone-aware UTC, and a later put does not move it back."""
        backend.put("a", b"first")
        first = backend.head("a").modified
        backend.put("a", b"second")

        assert first.utcoffset() == timedelta(0)
        assert backend.head("a").modified >= first

    @pytest.mark.parametrize("key", ["missing", "folder/missing", "folder/deeper/missing", "folder"])
    def test_missing_key_is_not_found(self, backend: Backend, key: str) -> None:
        """`get`, with or without a range, and `head` raise `NotFoundError` naming the key. A folder is not a key."""
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
        """`get(key, start, end)` returns the bytes `[start, end)`; without `end`, up to the end of the object."""
        backend.put("a", b"0123456789")

        assert backend.get("a", start, end).data == b"0123456789"[start:end]

    @pytest.mark.parametrize(("start", "end"), [(0, 11), (4, 1000), (10, 11), (10, None), (11, 12), (1000, None)])
    def test_range_is_cut_off_at_the_end(self, backend: Backend, start: int, end: int | None) -> None:
        """A range that ends or starts past the end of the object returns the bytes that exist, possibly none."""
        backend.put("a", b"0123456789")

        assert backend.get("a", start, end).data == b"0123456789"[start:end]

    @pytest.mark.parametrize(("start", "end"), [(0, None), (0, 1), (1, None), (5, 9)])
    def test_range_of_an_empty_object_is_empty(self, backend: Backend, start: int, end: int | None) -> None:
        """Every range of an empty object is empty, without an error."""
        backend.put("a", b"")

        assert backend.get("a", start, end).data == b""

    def test_big_object_comes_back_whole(self, backend: Backend) -> None:
        """An object of `big_object_bytes`, stored by one put, reads back in full, in ranges, and with its size."""
        block = EVERY_BYTE[::-1] + b"bucketlog"  # of odd length, so that a misplaced part shows
        data = (block * (self.big_object_bytes // len(block) + 1))[: self.big_object_bytes]
        middle = len(data) // 2

        backend.put("big", data)

        assert backend.head("big").size == len(data)
        assert backend.get("big", middle, middle + 100_000).data == data[middle : middle + 100_000]
        assert backend.get("big", len(data) - 10).data == data[-10:]
        assert backend.get("big").data == data, "the size is right, the content is not"  # the diff would be unreadable

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
    def test_key_is_used_verbatim(self, backend: Backend, other: Backend, key: str) -> None:
        """Percent signs are not decoded, and each part of a key may be 255 bytes long. Listings return the same key."""
        backend.put(key, b"bytes")

        assert other.get(key).data == b"bytes"
        assert [entry.key for entry in self._listed(other, "")] == [key]

        other.delete([key])

        assert self._listed(backend, "") == []

    def test_keys_that_differ_by_percent_signs_are_distinct(self, backend: Backend) -> None:
        """`%41`, `A` and `%2541` are three keys."""
        for key in ("a/%41", "a/A", "a/%2541"):
            backend.put(key, key.encode())

        assert [backend.get(key).data for key in ("a/%41", "a/A", "a/%2541")] == [b"a/%41", b"a/A", b"a/%2541"]

    # -- visibility ----------------------------------------------------------------------------------------------------

    def test_put_is_visible_to_other_handles_at_once(self, backend: Backend, other: Backend) -> None:
        """Once a put has returned, `get`, `head` and `list` on every handle show it, the first time and every time."""
        for number in range(3):
            data = b"x" * (number + 1)

            version = backend.put("a/0", data)

            assert other.get("a/0") == Content(data, version)
            assert other.head("a/0")[:2] == (len(data), version)
            assert [(entry.key, entry.size) for entry in self._listed(other, "a/")] == [("a/0", len(data))]

    def test_deleted_object_is_gone_for_other_handles_at_once(self, backend: Backend, other: Backend) -> None:
        """Once a delete has returned, the object is gone for every handle, even one that has just read it."""
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

    def test_missing_key_is_visible_once_it_is_put(self, backend: Backend, other: Backend) -> None:
        """A handle does not remember that a key or folder was missing."""
        with pytest.raises(NotFoundError):
            other.get("new/0")
        assert self._listed(other, "new/") == []

        backend.put("new/0", b"bytes")

        assert other.get("new/0").data == b"bytes"
        assert [entry.key for entry in self._listed(other, "new/")] == ["new/0"]

    # -- delete --------------------------------------------------------------------------------------------------------

    def test_delete_of_a_missing_key_is_no_error(self, backend: Backend) -> None:
        """Deleting a missing key does nothing: a second time, or in a folder that never existed."""
        backend.put("a/0", b"bytes")

        backend.delete(["missing", "a/missing", "never/was/here"])
        backend.delete(["a/0"])
        backend.delete(["a/0"])

        assert self._listed(backend, "") == []

    def test_delete_takes_any_iterable(self, backend: Backend) -> None:
        """The keys may come from a generator, even an empty one."""
        self._fill(backend, ["a/0", "a/1", "a/2"])

        backend.delete(f"a/{number}" for number in (0, 2))
        backend.delete(iter(()))

        assert [entry.key for entry in self._listed(backend, "")] == ["a/1"]

    def test_delete_removes_any_number_of_keys(self, backend: Backend) -> None:
        """One call removes any number of keys, whether or not some of them are missing."""
        keys = [f"a/{number:05}" for number in range(self.many_keys)]
        there = [*keys[:3], *keys[len(keys) // 2 :][:3], *keys[-3:]]
        self._fill(backend, [*there, "a/stays"])

        backend.delete(keys)

        assert [entry.key for entry in self._listed(backend, "")] == ["a/stays"]

    def test_delete_leaves_the_neighbours(self, backend: Backend) -> None:
        """Only the named keys are removed, not keys with the same beginning or in a neighbouring folder."""
        self._fill(backend, ["a/0", "a/00", "a/0.json", "ab/0", "b/a/0"])

        backend.delete(["a/0"])

        assert [entry.key for entry in self._listed(backend, "")] == ["a/0.json", "a/00", "ab/0", "b/a/0"]

    # -- upload --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 1_000_000], ids=["nothing", "a byte", "a million"])
    def test_upload_stores_all_of_a_file(self, uploader: UploadBackend, other: Backend, size: int) -> None:
        """An upload stores everything in its source, even nothing, and replaces the object under the key."""
        data = (EVERY_BYTE * 4_000)[:size]
        other.put("a/blob", b"before")

        uploader.upload("a/blob", io.BytesIO(data))

        assert other.head("a/blob").size == size
        assert other.get("a/blob").data == data

    def test_upload_starts_at_the_current_position(self, uploader: UploadBackend) -> None:
        """Bytes before the source's current position are not stored."""
        source = io.BytesIO(b"header,content")
        source.seek(7)

        uploader.upload("a/blob", source)

        assert uploader.get("a/blob").data == b"content"

    def test_upload_may_be_larger_than_a_put(self, uploader: UploadBackend) -> None:
        """An upload may be larger than the largest put, and reads back in full."""
        data = EVERY_BYTE[::-1] * (self.big_object_bytes // 256 + 1) + b"end"

        uploader.upload("a/blob", io.BytesIO(data))

        assert uploader.head("a/blob").size == len(data)
        assert uploader.get("a/blob").data == data, "the size is right, the content is not"

    def test_upload_of_a_failing_source_changes_nothing(self, uploader: UploadBackend, other: Backend) -> None:
        """If reading the source fails, the caller gets the error and readers see nothing of the upload."""
        other.put("a/there", b"before")

        for key in ("a/there", "a/new"):
            with pytest.raises(Exception, match="the source broke"):
                uploader.upload(key, _BreakingSource(EVERY_BYTE * 100_000))

        assert other.get("a/there").data == b"before"
        assert [entry.key for entry in self._listed(other, "")] == ["a/there"]


class _BreakingSource(io.BytesIO):
    """A file whose second read fails."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() or size is None or size < 0 or size >= len(self.getvalue()):
            msg = "the source broke"
            raise OSError(msg)
        return super().read(size)

    def readinto(self, buffer: Buffer, /) -> int:
        data = self.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(data)] = data
        return len(data)
