"""The fsspec backend: any `AbstractFileSystem`.

Conditions are claimed only where they were tested: for s3fs, through its own calls to the server, and for the local
filesystem, which becomes the local backend. Other filesystems accept a mode and ignore it, or check before they write,
and wrappers such as `simplecache::` pass no conditions on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bucketlog.backend import ABSENT, ANY, Backend, Capabilities, Condition, Content, Entry, Stat, Version
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    CapabilityError,
    ConflictError,
    InvalidOptionError,
    InvalidURLError,
    NotFoundError,
    OutcomeUnknownError,
    StorageFullError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_COPY_BYTES = 8 * 1024 * 1024
_UPLOADS = ".uploads"


# -- opening -----------------------------------------------------------------------------------------------------------


def open_fsspec(url: str, options: Mapping[str, object], *, create: bool) -> Backend:
    """Open a URL that fsspec knows, without any request to the storage.

    Args:
        url: Any fsspec URL, including chained ones.
        options: All of them are passed to the filesystem.
        create: Only used for local directories, which the local backend opens.

    Raises:
        InvalidURLError: fsspec does not know the scheme.
        InvalidOptionError: The filesystem does not accept these options.
        CapabilityError: A library is missing.
        StoreNotFoundError: The local directory does not exist.
    """
    place = _without_user(url)
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        msg = f'open {place}: fsspec is not installed; pip install "bucketlog[fsspec]"'
        raise CapabilityError(msg) from None
    try:
        fs, path = url_to_fs(url, **options)
    except ImportError as err:
        msg = f"open {place}: {err}; install it as well"
        raise CapabilityError(msg) from err
    except TypeError as err:
        msg = f"open {place}: the filesystem does not accept these options: {', '.join(sorted(options))}"
        raise InvalidOptionError(msg) from err
    except ValueError as err:
        msg = f"open {place}: fsspec cannot open it ({type(err).__name__}); fix the URL or the options"
        raise InvalidURLError(msg) from err
    return _wrap(fs, path, place, create=create)


def from_object(obj: object) -> Backend | None:
    """Return a backend for a filesystem, or for a pair of filesystem and path; None for any other object.

    A `LocalFileSystem` becomes the local backend. A `DirFileSystem` is replaced by the filesystem and path it wraps.

    Raises:
        InvalidURLError: A filesystem of the whole machine, or of all buckets, was given without a path.
    """
    spec = sys.modules.get("fsspec.spec")
    if spec is None:
        return None
    fs, path = obj if isinstance(obj, tuple) and len(obj) == 2 else (obj, "")
    if not isinstance(fs, spec.AbstractFileSystem) or not isinstance(path, (str, os.PathLike)):
        return None
    path = os.fspath(path)
    place = _without_user(fs.unstrip_protocol(path)) if path else f"{_protocol(fs)}://"
    return _wrap(fs, fs._strip_protocol(path) if path else "", place, create=True)  # noqa: SLF001  (as url_to_fs does)


def _wrap(fs: Any, path: str, place: str, *, create: bool) -> Backend:  # noqa: ANN401  (fsspec has no types)
    while _is_exactly(fs, "fsspec.implementations.dirfs", "DirFileSystem"):
        path = fs._join(path).rstrip("/")  # noqa: SLF001  (it is how the filesystem itself maps a path)
        fs = fs.fs
        place = _without_user(fs.unstrip_protocol(path))
    local = _is_exactly(fs, "fsspec.implementations.local", "LocalFileSystem")
    s3 = _is_exactly(fs, "s3fs.core", "S3FileSystem")
    if (local or s3) and not path.strip("/"):
        msg = f"open {type(fs).__name__}: on which path? Give the pair (filesystem, path)"
        raise InvalidURLError(msg)
    if local:
        from bucketlog_backends.local import open_local

        return open_local(Path(path).absolute().as_uri(), {}, create=create)
    if s3:
        from bucketlog_backends.s3.s3fs import S3fsBackend

        return S3fsBackend(fs, path.strip("/"))
    return FsspecBackend(fs, path, place)


def _is_exactly(fs: object, module: str, name: str) -> bool:
    """Compare the class itself, because a caching filesystem claims to be an instance of the one it wraps."""
    kind = type(fs)
    return (kind.__module__, kind.__qualname__) == (module, name)


def _protocol(fs: Any) -> str:  # noqa: ANN401  (fsspec has no types)
    protocol = fs.protocol
    return str(protocol if isinstance(protocol, str) else protocol[0])


def _without_user(url: str) -> str:
    # The second form is for passwords that contain a slash. A colon before digits is a port.
    return re.sub(r"//(?:[^/@]*@|[^/@:]+:(?!\d+(?:/|$))[^@]*@)", "//", url)


# -- any filesystem ----------------------------------------------------------------------------------------------------


class FsspecBackend:
    """One handle on a path of any filesystem.

    It claims neither exclusive creation nor compare-and-set: it checks a condition before the write, which only
    protects the threads of this handle from each other. A put that is interrupted leaves what the filesystem leaves.
    """

    capabilities = Capabilities(exclusive_create=False, compare_and_set=False)

    def __init__(self, fs: Any, path: str, url: str) -> None:  # noqa: ANN401  (fsspec has no types)
        self.name = f"fsspec-{re.sub('[^a-z0-9]+', '-', _protocol(fs).lower()).strip('-')}"
        self.url = url.partition("?")[0]
        self._fs = fs
        self._root = path.rstrip("/")
        self._checking = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` of an object.

        Without ETags the version is the digest of the whole object, so it is empty for a range.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        path = self._path(key)
        with _translating(f"get {key!r} from {self.url}"):
            # The version first: one older than the bytes lets a condition fail, a newer one would let it hold wrongly.
            info = self._info(path)
            version = _etag(info)
            if not start and end is None:
                data = bytes(self._fs.cat_file(path))
                return Content(data, version or _digest(data))
            last = int(info["size"]) if end is None else min(end, int(info["size"]))
            data = bytes(self._fs.cat_file(path, start=start, end=last)) if start < last else b""
            return Content(data, version or "")

    def head(self, key: str) -> Stat:
        """Return the size, version and time of an object. Without ETags, this reads all of it.

        Raises:
            NotFoundError: Nothing is stored under the key.
            CapabilityError: The filesystem does not record times.
        """
        path = self._path(key)
        with _translating(f"look at {key!r} in {self.url}"):
            info = self._info(path)
            modified = _modified(info) or _aware(self._fs.modified(path))
            version = _etag(info) or _digest(bytes(self._fs.cat_file(path)))
            return Stat(int(info["size"]), version, modified)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix`, in ascending order of their keys.

        fsspec cannot list from a key on, so every call first lists everything below the prefix.
        """
        folder = ""
        for entry in self._found(prefix):
            name, slash, _ = entry.key[len(prefix) :].partition("/")
            if entry.key <= start_after:
                continue
            if not (delimiter and slash):
                yield entry
            elif folder != name:
                folder = name
                yield Entry(f"{prefix}{folder}/")

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key and return the new version.

        Raises:
            ConflictError: The condition did not hold when it was checked.
            OutcomeUnknownError: The filesystem failed during the write.
        """
        doing, path = f"put {key!r} to {self.url}", self._path(key)
        with self._checking, _translating(doing, writing=key):
            if if_version is not ANY:
                self._check(doing, path, if_version)
            self._in_folder(path, lambda: self._fs.pipe_file(path, data))
            return _etag(self._info(path)) or _digest(data)

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store the rest of `source` under a scratch name, then move it to the key.

        Raises:
            OutcomeUnknownError: The filesystem failed during the write.
        """
        doing, path = f"upload {key!r} to {self.url}", self._path(key)
        scratch = self._path(f"{_UPLOADS}/{secrets.token_hex(8)}")
        try:
            with _translating(doing, writing=key):
                target = self._in_folder(scratch, lambda: self._fs.open(scratch, "wb"))
            try:
                while chunk := source.read(_COPY_BYTES):
                    with _translating(doing, writing=key):
                        target.write(chunk)
            finally:
                with _translating(doing, writing=key):
                    target.close()
            with _translating(doing, writing=key):
                self._in_folder(path, lambda: self._fs.mv(scratch, path))
        except BaseException:
            with suppress(Exception):  # the first error says more
                self._fs.rm_file(scratch)
            raise

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing key is not an error."""
        for key in keys:
            with suppress(NotFoundError), _translating(f"delete {key!r} from {self.url}"):
                self._fs.rm_file(self._path(key))

    def close(self) -> None:
        """Do nothing: a filesystem may have other users."""

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _info(self, path: str) -> dict[str, Any]:
        self._fs.invalidate_cache()  # other writers may have changed what the filesystem caches
        info: dict[str, Any] = self._fs.info(path)
        if info.get("type") == "directory":
            raise FileNotFoundError(path)
        return info

    def _found(self, prefix: str) -> Iterator[Entry]:
        """Return the objects below a prefix, sorted by key."""
        base = f"{self._root}/".lstrip("/")  # some filesystems list paths with a leading slash, some without
        found = []
        with suppress(NotFoundError), _translating(f"list {prefix!r} in {self.url}"):
            self._fs.invalidate_cache()
            for path, info in self._fs.find(self._path(prefix).rstrip("/"), detail=True).items():
                key = path.lstrip("/").removeprefix(base)
                if key.startswith(prefix):
                    found.append(Entry(key, int(info["size"] or 0), _modified(info)))
        return iter(sorted(found))

    def _check(self, doing: str, path: str, condition: Condition) -> None:
        there: Version | None = None
        with suppress(FileNotFoundError):
            there = _etag(self._info(path)) or _digest(bytes(self._fs.cat_file(path)))
        if (there is not None) if condition is ABSENT else (there != condition):
            found = "nothing" if there is None else "another version" if isinstance(condition, str) else "an object"
            msg = f"{doing}: the condition does not hold, found {found}; read it and decide again"
            raise ConflictError(msg)

    def _in_folder(self, path: str, act: Callable[[], Any]) -> Any:  # noqa: ANN401  (fsspec has no types)
        """Run `act` on a path, and if its folder is missing, create it and run `act` again."""
        try:
            return act()
        except FileNotFoundError:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            return act()


def _etag(info: Mapping[str, Any]) -> Version | None:
    """Return the ETag of an object, if there is one. A time is not a version, because two writes may share it."""
    for name in ("ETag", "etag", "e_tag"):
        if info.get(name):
            return str(info[name])
    return None


def _digest(data: bytes) -> Version:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _modified(info: Mapping[str, Any]) -> datetime | None:
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        if info.get(name) is not None:
            return _aware(info[name])
    return None


def _aware(time: object) -> datetime:
    match time:
        case datetime():
            found = time
        case int() | float():
            return datetime.fromtimestamp(time, UTC)
        case _:
            found = datetime.fromisoformat(str(time))
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


# -- errors ------------------------------------------------------------------------------------------------------------


@contextmanager
def _translating(doing: str, *, writing: str | None = None) -> Iterator[None]:
    """Translate any exception of a filesystem: each brings its own classes."""
    try:
        yield
    except BucketlogError:
        raise
    except Exception as err:
        raise _translated(err, doing, writing) from err


def _translated(err: Exception, doing: str, writing: str | None) -> BucketlogError:
    why = f"{doing}: the filesystem failed ({type(err).__name__})"
    match err:
        case FileNotFoundError():
            return NotFoundError(f"{doing}: nothing is stored there")
        case PermissionError():
            return AccessDeniedError(f"{doing}: the filesystem refused it; check credentials and permissions")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return StorageFullError(f"{doing}: there is no room; free some space")
        case NotImplementedError():
            return CapabilityError(f"{doing}: this filesystem does not support the operation; use another")
        case ConnectionRefusedError() | socket.gaierror():
            return BackendUnavailableError(f"{why}: it cannot be reached; try again later")
    if writing is not None:
        return OutcomeUnknownError(f"{why}; it may have been written: read it back", key=writing)
    return BackendUnavailableError(f"{why}; try again later")
