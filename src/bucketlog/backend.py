"""The backend protocol: moving bytes under keys. Order, commits and names live above it.

A backend answers one hard question: when several callers write under the same condition, who won? Everything else is
plain reading and writing. To write a backend, implement `Backend`, declare its `Capabilities` truthfully, and run
`bucketlog.testing.BackendSuite` against it. The optional abilities are protocols of their own: `AppendBackend`,
`UploadBackend`, `VersioningBackend` and `WatchBackend`.

A key is a relative path of ASCII parts joined by `/`. No part is empty, `.` or `..`, and no key is the folder of
another key. Every method may be called from several threads at once.

Besides the errors that it lists, every method may raise:
    BackendUnavailableError: The storage could not be reached, and certainly nothing was written.
    AccessDeniedError: The storage refused the credentials or the permissions.
    StorageFullError: The storage has no room.
    StoreNotFoundError: The root itself, such as the bucket, does not exist.
"""

from __future__ import annotations

import difflib
import enum
import importlib
import itertools
import os
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, Protocol, runtime_checkable

from bucketlog.errors import InvalidOptionError, InvalidURLError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime
    from importlib.metadata import EntryPoints

ENTRY_POINT_GROUP = "bucketlog.backends"
PUT_BYTES_MAX = 64 * 1024 * 1024

Version = str
"""An opaque string that changes whenever the bytes under a key change."""


class Precondition(enum.Enum):
    """The conditions of a put other than a version.

    Attributes:
        ANY: Write unconditionally.
        ABSENT: Write only if nothing is stored under the key.
    """

    ANY = "any"
    ABSENT = "absent"

    def __repr__(self) -> str:
        return self.name


ANY: Literal[Precondition.ANY] = Precondition.ANY
ABSENT: Literal[Precondition.ABSENT] = Precondition.ABSENT

Condition = Version | Precondition
"""When a put may write: `ANY`, `ABSENT`, or the version that must still be stored under the key."""


class Content(NamedTuple):
    """What `get` returns.

    Attributes:
        data: The bytes asked for.
        version: The version of the whole object. It may be empty for a range, if the backend would have to read the
            rest of the object to know it.
    """

    data: bytes
    version: Version


class Stat(NamedTuple):
    """What `head` returns.

    Attributes:
        size: The size in bytes.
        version: The version of the object.
        modified: When the object was last written, by the server's clock, as an aware UTC time.
    """

    size: int
    version: Version
    modified: datetime


class Entry(NamedTuple):
    """One line of a listing: an object, or with `delimiter` a folder.

    Attributes:
        key: The key of the object. The key of a folder ends with `/`.
        size: The size in bytes; 0 for a folder.
        modified: When the object was last written; None for a folder, or if the listing does not say.
    """

    key: str
    size: int = 0
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend claims to support.

    A probe proves all of these except `watch` before the first write, and fails if a claim is false.

    Attributes:
        exclusive_create: `put` with `if_version=ABSENT` has one winner.
        compare_and_set: `put` with a version has one winner.
        append: Objects can grow; the backend is an `AppendBackend`.
        watch: Readers can be woken; the backend is a `WatchBackend`.
        ranges: `get` with a range returns exactly that range.
    """

    exclusive_create: bool = True
    compare_and_set: bool = True
    append: bool = False
    watch: bool = False
    ranges: bool = True


@runtime_checkable
class Backend(Protocol):
    """Moves bytes under keys. Every backend has these methods."""

    @property
    def name(self) -> str:
        """The short name of this kind of backend, such as `s3`. Probe results are stored under it."""
        ...

    @property
    def url(self) -> str:
        """The root, for messages: without credentials and without a query."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this backend claims to support."""
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` of an object.

        A range is cut off at the end of the object: if it begins there or later, the result is empty.

        Args:
            key: The key of the object.
            start: The first byte to return.
            end: The byte after the last one to return; None for the end of the object.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def head(self, key: str) -> Stat:
        """Return the size, version and time of an object.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key, atomically and durably, and return the new version.

        Readers see either the old object or the new one, never a mix. If several callers race with
        `if_version=ABSENT`, or with the same version, exactly one of them succeeds.

        A backend sends a conditional put once and never retries it, because a retry can be refused on account of its
        own first attempt. The caller decides whether to try again.

        Args:
            key: The key, relative to the root of the store.
            data: The whole content, at most 64 MiB.
            if_version: `ANY`, `ABSENT`, or the version that must still be stored under the key.

        Raises:
            ConflictError: The condition did not hold, or the server says so. Read the key back to see whose object is
                stored.
            OutcomeUnknownError: There was no clear answer, such as a timeout or a 5xx status. Read the key back before
                you try again.
        """
        ...

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix`, lazily and in ascending order of their keys.

        Every object that was stored before the call is listed. One that is stored or deleted while the listing runs may
        be listed or not. A key whose last part begins with a dot may be left out.

        Args:
            prefix: Empty, or ending with `/`.
            start_after: Yield only keys greater than this whole key.
            delimiter: Yield only the level directly below the prefix. All deeper keys of a folder appear as one entry
                for that folder.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing key is not an error."""
        ...

    def close(self) -> None:
        """Release connections, files and locks. Calling it again has no effect."""
        ...


@runtime_checkable
class AppendBackend(Backend, Protocol):
    """A backend whose objects can grow, so that one segment takes many commits: the capability `append`.

    Every folder has one lock, which guards the growing objects in it. A folder holds one partition.
    """

    def lock(self, folder: str, *, shared: bool = False) -> AbstractContextManager[object]:
        """Return a context manager that holds a folder's lock against all other handles and processes.

        The lock is reentrant within a thread, and it is released when its process dies. A shared lock excludes
        appends, but not other shared locks.

        Args:
            folder: The folder, ending with `/`.
            shared: Whether to take the shared lock instead of the exclusive one.
        """
        ...

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        """Append to a growing object, under its folder's lock.

        If the write or the sync fails, the object is cut back to `expected_size`.

        Args:
            key: The key of the object.
            data: The bytes to append.
            expected_size: The size that the object must have; 0 also creates an object that does not exist.
            sync: Whether to make the object durable before returning.

        Raises:
            ConflictError: The size is not `expected_size`, the object is sealed, or another object has taken the place
                of the one that this handle appended to.
            OutcomeUnknownError: The sync failed. Nothing past `expected_size` can be relied on.
            StorageFullError: There is no room, and the object is unchanged.
        """
        ...

    def sync(self, key: str) -> None:
        """Make the name and the current content of an object durable. Cheap if both already are.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def seal(self, key: str) -> None:
        """Make an object durable, then refuse all further appends to it. Sealing it again has no effect.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def is_sealed(self, key: str) -> bool:
        """Return True if the object is sealed, and False if it is not or does not exist."""
        ...

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Truncate an object to `size` bytes, after a torn write.

        Args:
            key: The key of the object.
            size: The size to keep. An object that is no longer than this stays as it is.
            aside: The key under which to keep the removed bytes, durably and before they are cut off. If it is taken,
                a number is appended to it. None discards the bytes.

        Raises:
            NotFoundError: Nothing is stored under the key.
            ConflictError: The object is sealed.
        """
        ...


@runtime_checkable
class UploadBackend(Backend, Protocol):
    """A backend that can store an object of any size from an open file, without a condition."""

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store the rest of `source`, from its current position. Readers see the whole object or nothing."""
        ...


@runtime_checkable
class VersioningBackend(Backend, Protocol):
    """A backend for servers that may keep old versions of objects, and may accept only one form of ETag.

    The probe finds out about both and sets the attributes. While `versioned` is False, a conditional put whose answer
    has a version id raises an error instead of returning: versioning was enabled since the probe, and some servers
    ignore conditions in a versioned bucket.
    """

    etag_form: Literal["unquoted", "quoted"]
    """How to send a version as a condition. Start with `unquoted`, which most servers accept."""

    versioned: bool
    """Whether the server answered the probe's put with a version id."""

    def put_version_id(self, key: str, data: bytes) -> str | None:
        """Store bytes under a scratch key without a condition, and return the answer's version id, or None.

        Raises:
            OutcomeUnknownError: There was no clear answer.
        """
        ...


class Watch(Protocol):
    """Wakes a reader when something below a prefix may have changed.

    It may wake a reader without a change, but it must not miss one.
    """

    def wait(self, timeout: float) -> bool:
        """Wait for a change since the last call.

        Args:
            timeout: The longest time to wait, in seconds.

        Returns:
            True if something may have changed; False after the timeout, or if the watch was closed.
        """
        ...

    def close(self) -> None:
        """Wake the waiting thread and release all resources. Another thread may call this."""
        ...


@runtime_checkable
class WatchBackend(Backend, Protocol):
    """A backend that can wake its readers: the capability `watch`."""

    def watch(self, prefix: str) -> Watch:
        """Start to watch the keys below a prefix.

        Args:
            prefix: The prefix, ending with `/`. Nothing needs to be stored below it yet.
        """
        ...


class BackendFactory(Protocol):
    """The callable that an entry point of the group `bucketlog.backends` names. Its name is the URL scheme."""

    def __call__(self, url: str, options: Mapping[str, object], *, create: bool) -> Backend:
        """Open a backend.

        Args:
            url: The URL as the user wrote it, without its query.
            options: The options in the query, and all options of `bucketlog.open` that it does not use itself.
            create: Whether to create the root if it does not exist, such as a directory. Buckets are never created.

        Raises:
            InvalidOptionError: The backend does not know an option (see `check_options`).
            StoreNotFoundError: The root does not exist.
        """
        ...


# The entry points of this distribution. Reading those of all installed distributions takes 10 to 30 ms.
SHIPPED = {
    "memory": "bucketlog_backends.memory:open_memory",
    "file": "bucketlog_backends.local:open_local",
    "s3": "bucketlog_backends.s3:open_s3",
    "fsspec": "bucketlog_backends.fsspec:open_fsspec",
}


def installed_backends() -> EntryPoints:
    """Return the entry points of all installed backends. Each is named after its URL scheme."""
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINT_GROUP)


def find_factory(scheme: str) -> BackendFactory:
    """Return the factory for a URL scheme.

    Raises:
        InvalidURLError: No installed distribution has a backend for the scheme.
    """
    factory: BackendFactory
    if scheme in SHIPPED:
        module, _, name = SHIPPED[scheme].partition(":")
        factory = getattr(importlib.import_module(module), name)
        return factory
    found = installed_backends()
    for entry_point in found.select(name=scheme):
        factory = entry_point.load()
        return factory
    known = ", ".join(sorted({f"{entry_point.name}://" for entry_point in found}))
    msg = f"open {scheme}://…: no backend is installed for this scheme (installed: {known}); fix the URL"
    raise InvalidURLError(msg)


def check_options(url: str, options: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse unknown options, and suggest the closest known one.

    Args:
        url: The URL that the options belong to, for the message.
        options: The options to check.
        known: The options that the backend knows.

    Raises:
        InvalidOptionError: An option is unknown.
    """
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known)) or 'none'}"
            msg = f"open {url}: unknown option {option!r}; {hint}"
            raise InvalidOptionError(msg, option=option)


# -- forks -------------------------------------------------------------------------------------------------------------

_after_fork: dict[int, Callable[[], Callable[[], None] | None]] = {}  # each returns its callback, or None; oldest first
_after_fork_numbers = itertools.count()


def after_fork_in_child(callback: Callable[[], None]) -> None:
    """Call `callback` in every process forked from this one.

    A forked child has only one thread, but it inherits locks that other threads of its parent may have held. An object
    that owns locks, threads or open files registers the method that replaces them.

    Callbacks run in the order in which they were registered, so an object can rely on those that it was built on. If
    one raises, Python reports it as unraisable, and the others still run.

    Args:
        callback: A bound method, which is dropped together with its object, or a function, which is kept.
    """
    number, forget = next(_after_fork_numbers), _after_fork.pop
    if not isinstance(callback, MethodType):
        _after_fork[number] = lambda: callback
        return
    method = callback.__func__
    # Not a WeakMethod: it prints an error if its object dies while the interpreter exits.
    reference = weakref.ref(callback.__self__, lambda _: forget(number, None))
    _after_fork[number] = lambda: None if (owner := reference()) is None else MethodType(method, owner)


def _run_after_fork() -> None:  # pragma: no cover  (coverage does not follow the fork that a test makes)
    callbacks = [find() for find in list(_after_fork.values())]
    with ExitStack() as stack:  # it runs all of them, even if one raises
        for callback in reversed(callbacks):
            if callback is not None:
                stack.callback(callback)


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_run_after_fork)
