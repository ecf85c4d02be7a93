"""Blobs: bytes of any size, named by their BLAKE3 digest, stored once, and checked whenever they are read.

The name follows from the bytes, so it does not matter who stores them, how often, or how late a PUT is applied.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from blake3 import blake3

from bucketlog.backend import ABSENT, PUT_BYTES_MAX, UploadBackend
from bucketlog.errors import (
    CapabilityError,
    ConflictError,
    CorruptBlobError,
    InvalidNameError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    UnprovenStorageError,
)
from bucketlog.storage.conditional_put import put_and_settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.backend import Content
    from bucketlog.storage.root import Root

FOLDER = "blobs/"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1024 * 1024
_SPOOL_BYTES = 8 * 1024 * 1024  # a stream is kept in memory up to this size, then in a temporary file


@dataclass(frozen=True, slots=True)
class Blob:
    """The BLAKE3 digest of stored bytes, as 64 hex digits, and their size in bytes."""

    digest: str
    size: int


class Blobs:
    """The blobs of a store."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def put(self, source: bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO) -> Blob:
        """Store bytes unless they are stored already.

        A file or stream of any size takes at most 64 MiB of memory, or twice that if another writer stores the same
        bytes at the same moment.

        Args:
            source: The bytes; or the path of a file, which may be a str; or a binary stream, which is read from its
                current position to its end.

        Raises:
            InvalidValueError: `source` is something else, such as a text stream.
            ConflictError: The file changed while it was read. Nothing was stored; put it again.
            CorruptBlobError: Other bytes are stored under the digest.
            CapabilityError: The bytes are over 64 MiB, which this backend cannot store.
            OutcomeUnknownError: The storage gave no clear answer. Putting the same bytes again is safe.
            ReadOnlyError: The store was opened read-only.
            OSError: The file or stream cannot be read.
        """
        self._root.check_writable(f"put a blob in {self._root.url}")
        if isinstance(source, (bytes, bytearray, memoryview)):
            return self._put_bytes(bytes(source))
        if isinstance(source, (str, os.PathLike)):
            with Path(source).open("rb") as file:
                return self._put_file(file, str(source))
        if not hasattr(source, "read"):
            msg = f"put a blob in {self._root.url}: give bytes, a path or a binary stream, not {type(source).__name__}"
            raise InvalidValueError(msg)
        return self._put_stream(source)

    def get(self, digest: str) -> bytes:
        """Return a blob's bytes. To read a large blob in parts, use `open`.

        Raises:
            NotFoundError: It is not stored.
            CorruptBlobError: The stored bytes do not match the digest.
            InvalidNameError: `digest` is not a valid digest.
        """
        key = _key(digest)
        try:
            data = self._root.backend.get(key).data
        except NotFoundError:
            raise self._missing("get", digest) from None
        if blake3(data).hexdigest() != digest:
            raise _corrupt(self._root.url, key, f"its {len(data)} bytes have another digest")
        return data

    def open(self, digest: str) -> BinaryIO:
        """Open a blob as a buffered, seekable file that fetches ranges.

        The bytes are checked if you read from the start to the end: instead of the last bytes, a read then raises
        CorruptBlobError if they do not match the digest.

        Raises:
            NotFoundError: It is not stored.
            InvalidNameError: `digest` is not a valid digest.
        """
        return io.BufferedReader(_BlobReader(self._root, digest, self.stat(digest).size), _CHUNK_BYTES)

    def exists(self, digest: str) -> bool:
        """Return True if a blob is stored.

        Raises:
            InvalidNameError: `digest` is not a valid digest.
        """
        return self._size(_key(digest)) is not None

    def stat(self, digest: str) -> Blob:
        """Return a blob's digest and size, without reading it.

        Raises:
            NotFoundError: It is not stored.
            InvalidNameError: `digest` is not a valid digest.
        """
        size = self._size(_key(digest))
        if size is None:
            raise self._missing("stat", digest)
        return Blob(digest, size)

    def list(self) -> Iterator[Blob]:
        """Yield the stored blobs, in the order of their digests."""
        for entry in self._root.backend.list(FOLDER):
            digest = entry.key.rpartition("/")[2]
            if _DIGEST.fullmatch(digest) and entry.key == _key(digest):
                yield Blob(digest, entry.size)

    def delete(self, digest: str) -> None:
        """Remove a blob. A missing one is not an error.

        Raises:
            InvalidNameError: `digest` is not a valid digest.
            ReadOnlyError: The store was opened read-only.
        """
        key = _key(digest)
        self._root.check_writable(f"delete blob {digest} in {self._root.url}")
        self._root.backend.delete([key])

    # -- storing -------------------------------------------------------------------------------------------------------

    def _put_bytes(self, data: bytes) -> Blob:
        blob = Blob(blake3(data).hexdigest(), len(data))
        if len(data) > PUT_BYTES_MAX:
            self._upload(blob, io.BytesIO(data))
        elif not self._is_stored(blob):
            self._put_absent(blob, data)
        return blob

    def _put_file(self, file: BinaryIO, name: str) -> Blob:
        data = file.read(PUT_BYTES_MAX + 1)
        if len(data) <= PUT_BYTES_MAX:
            return self._put_bytes(data)
        del data
        file.seek(0)
        blob = _digest(file)
        file.seek(0)
        checked = _CheckedFile(file, blob)
        try:
            self._upload(blob, cast("BinaryIO", checked))
        except Exception as err:
            if not checked.has_changed:
                raise
            msg = f"put {name!r} as a blob in {self._root.url}: the file changed while it was read; put it again"
            raise ConflictError(msg) from err
        return blob

    def _put_stream(self, stream: BinaryIO) -> Blob:
        # The size of a stream is unknown, and it cannot be read twice.
        with SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            hasher, size = blake3(), 0
            while chunk := self._read_bytes(stream):
                hasher.update(chunk)
                size += len(chunk)
                spool.write(chunk)
            spool.seek(0)
            if size <= PUT_BYTES_MAX:
                return self._put_bytes(spool.read())
            blob = Blob(hasher.hexdigest(), size)
            self._upload(blob, cast("BinaryIO", spool))
            return blob

    def _read_bytes(self, stream: BinaryIO) -> bytes:
        chunk: object = stream.read(_CHUNK_BYTES)
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            msg = (
                f"put a blob in {self._root.url}: the stream returned {type(chunk).__name__}, not bytes; open it in "
                "binary, blocking mode"
            )
            raise InvalidValueError(msg)
        return bytes(chunk)

    def _put_absent(self, blob: Blob, data: bytes) -> None:
        key = _key(blob.digest)

        def resolve(content: Content | None, /, *, unclear: bool) -> bool:  # noqa: ARG001  (both wrote the same bytes)
            if content is not None and content.data != data:
                raise _corrupt(self._root.url, key, f"its {len(content.data)} bytes have another digest")
            return content is not None

        doing = f"put blob {blob.digest} in {self._root.url}"
        try:
            put_and_settle(self._root, key, data, if_version=ABSENT, resolve=resolve, doing=doing)
        except UnprovenStorageError:
            raise
        except OutcomeUnknownError as err:
            raise self._unknown(blob) from err

    def _upload(self, blob: Blob, source: BinaryIO) -> None:
        backend = self._root.backend
        if not isinstance(backend, UploadBackend):
            msg = (
                f"put a blob of {blob.size} bytes in {self._root.url}: this backend stores at most {PUT_BYTES_MAX} "
                "bytes at once; use a local or s3 store for larger blobs"
            )
            raise CapabilityError(msg)
        if self._is_stored(blob):
            return
        try:
            backend.upload(_key(blob.digest), source)
        except UnprovenStorageError:
            raise
        except OutcomeUnknownError as err:
            if not self._is_stored(blob):
                raise self._unknown(blob) from err

    def _is_stored(self, blob: Blob) -> bool:
        key = _key(blob.digest)
        size = self._size(key)
        if size is not None and size != blob.size:
            raise _corrupt(self._root.url, key, f"{size} bytes are stored, expected {blob.size}")
        return size is not None

    # -- shared steps --------------------------------------------------------------------------------------------------

    def _size(self, key: str) -> int | None:
        try:
            return self._root.backend.head(key).size
        except NotFoundError:
            return None

    def _missing(self, doing: str, digest: str) -> NotFoundError:
        return NotFoundError(f"{doing} blob {digest} in {self._root.url}: it is not stored")

    def _unknown(self, blob: Blob) -> OutcomeUnknownError:
        key = _key(blob.digest)
        msg = (
            f"put blob {blob.digest} in {self._root.url}: the storage gave no clear answer, and the blob is not there; "
            "the PUT may still be applied: putting the same bytes again is safe"
        )
        return OutcomeUnknownError(msg, key=key)


class _Reads(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _CheckedFile(io.RawIOBase):
    """Reads a file that was hashed before; fails before the end if the bytes are no longer those that were hashed."""

    def __init__(self, file: _Reads, expected: Blob) -> None:
        self.has_changed = False
        self._file = file
        self._expected = expected
        self._hasher = blake3()
        self._sent = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._expected.size - self._sent
        wanted = left + 1 if size is None or size < 0 else size
        chunk = self._file.read(wanted)
        self._hasher.update(chunk)
        self._sent += len(chunk)
        # Storage discards an upload that breaks off and keeps one that ends. So the last bytes are withheld until all
        # bytes are known to be right.
        is_complete = self._sent >= self._expected.size
        is_short = len(chunk) < min(wanted, left)
        if is_short or (is_complete and self._found() != self._expected):
            self.has_changed = True
            msg = "the file changed while it was read"
            raise ConflictError(msg)
        return chunk

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # a plain buffer cannot be written to
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        return self.read()

    def _found(self) -> Blob:
        return Blob(self._hasher.hexdigest(), self._sent)


class _BlobReader(io.RawIOBase):
    """Reads a blob by ranges, and hashes the bytes it returns while they are contiguous from the start."""

    def __init__(self, root: Root, digest: str, size: int) -> None:
        self._root = root
        self._key = _key(digest)
        self._digest = digest
        self._size = size
        self._position = 0
        self._hasher = blake3()
        self._hashed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            msg = f"seek in blob {self._digest} to {base + offset}: give a position of 0 or more"
            raise InvalidValueError(msg)
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # a plain buffer cannot be written to
        chunk = self._fetch(min(self._position + len(buffer), self._size))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        return self._fetch(self._size)

    def _fetch(self, end: int) -> bytes:
        start = self._position
        chunk = b""
        if start < end:
            chunk = self._root.backend.get(self._key, start, end).data
            if len(chunk) != end - start:
                raise _corrupt(self._root.url, self._key, f"it ends before byte {end} of {self._size}")
        if start <= self._hashed <= end:
            self._hasher.update(chunk[self._hashed - start :])
            self._hashed = end
            if end == self._size and self._hasher.hexdigest() != self._digest:
                raise _corrupt(self._root.url, self._key, f"its {self._size} bytes have another digest")
        self._position += len(chunk)
        return chunk


def _digest(source: _Reads) -> Blob:
    hasher, size = blake3(), 0
    while chunk := source.read(_CHUNK_BYTES):
        hasher.update(chunk)
        size += len(chunk)
    return Blob(hasher.hexdigest(), size)


def _key(digest: object) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        msg = f"blob {digest!r:.80} is not a valid digest; give 64 lower-case hex digits"
        raise InvalidNameError(msg, name=str(digest)[:80])
    return f"{FOLDER}{digest[:2]}/{digest}"


def _corrupt(url: str, key: str, why: str) -> CorruptBlobError:
    msg = f"read blob {key} in {url}: the stored bytes do not match its name, {why}; delete it and put a copy again"
    return CorruptBlobError(msg, key=key)
