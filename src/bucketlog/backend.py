"""The backend protocol: what moves bytes. Order, commits and names live above it.

A backend answers one hard question, who won, and otherwise moves bytes under keys. A key is a relative path of ASCII
parts joined by `/`; no part is empty, `.` or `..`, and no key is ever the folder of another. Every method may be called
from several threads.

Errors, besides those that each method names: `BackendUnavailableError` (could not be reached; surely nothing was
written), `AccessDeniedError`, `StorageFullError`, `StoreNotFoundError` (the bucket itself is missing).
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
"""An opaque text that changes whenever the bytes under a key do."""


class Precondition(enum.Enum):
    """Conditions of a put that are not a version."""

    ANY = "any"
    ABSENT = "absent"

    def __repr__(self) -> str:
        return self.name


ANY: Literal[Precondition.ANY] = Precondition.ANY
ABSENT: Literal[Precondition.ABSENT] = Precondition.ABSENT

Condition = Version | Precondition


class Content(NamedTuple):
    """What `get` returns: the bytes asked for, and the version of the whole object.

    With a range the version may be "", where a backend would have to read the rest for it.
    """

    data: bytes
    version: Version


class Stat(NamedTuple):
    """What `head` returns. `size` in bytes; `modified` is aware UTC, by the server's clock."""

    size: int
    version: Version
    modified: datetime


class Entry(NamedTuple):
    """One line of a listing. A folder (with `delimiter`) has a key that ends with `/`, size 0 and no time."""

    key: str
    size: int = 0
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend claims. The probe proves `exclusive_create`, `compare_and_set`, `append` and `ranges`."""

    exclusive_create: bool = True
    compare_and_set: bool = True
    append: bool = False
    watch: bool = False
    ranges: bool = True


@runtime_checkable
class Backend(Protocol):
    """Moves bytes under keys; order and commits live above it."""

    @property
    def name(self) -> str:
        """Short name of the kind, such as `s3`; what was proven through it is stored under that name."""
        ...

    @property
    def url(self) -> str:
        """Where this is, for messages: without credentials and query."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this backend claims to do."""
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` under a key; past the end of the object there are none.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def head(self, key: str) -> Stat:
        """Return size, version and time of what is stored under a key.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key, all of them or none, durably, and return the new version.

        Of any number of callers racing with `if_version=ABSENT`, or with the same version, exactly one returns.
        A conditional put is sent once: the caller above decides about another attempt.

        Args:
            key: Path below the store's root, with `/` between its parts.
            data: The whole content, at most 64 MiB.
            if_version: `ANY`, `ABSENT`, or the version that must still be there.

        Raises:
            ConflictError: The condition did not hold, or the server says so; read the key back to be sure whose it is.
            OutcomeUnknownError: No clear answer came (timeout, 5xx). Read the key back before trying again.
        """
        ...

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield what lies under keys that begin with `prefix`, ascending by key, lazily.

        A key whose last part begins with a dot may be left out.

        Args:
            prefix: Empty, or ending with `/`.
            start_after: Only keys greater than this one (a whole key, not a part).
            delimiter: Only the level right below the prefix; deeper keys appear once as their folder.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys; one that is missing is no error."""
        ...

    def close(self) -> None:
        """Release what is held. Calling it again does nothing."""
        ...


@runtime_checkable
class AppendBackend(Backend, Protocol):
    """A backend whose objects can grow: the ability `append`, by which one segment takes many commits.

    All of it works on the files of one folder, the partition, which has one lock.
    """

    def lock(self, folder: str, *, shared: bool = False) -> AbstractContextManager[object]:
        """Hold a folder's lock (`folder` ends with `/`) against every other handle and process; reentrant in a thread.

        A shared lock keeps out appends, not other shared locks. It dies with its process.
        """
        ...

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        """Append to a growing object under its folder's lock, and make it durable unless told otherwise.

        With `expected_size=0` the object is made if there is none. When the write or the sync fails the object is cut
        back to `expected_size`.

        Raises:
            ConflictError: The object's size is not `expected_size`, it is sealed, or it is not the one opened before.
            OutcomeUnknownError: The sync failed; nothing past `expected_size` may be believed.
            StorageFullError: No room; the object is as it was.
        """
        ...

    def sync(self, key: str) -> None:
        """Make durable what an object holds now, and its name. Cheap when it is already.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        ...

    def seal(self, key: str) -> None:
        """Sync an object, then let it never grow again. Sealing twice is no error."""
        ...

    def is_sealed(self, key: str) -> bool:
        """Tell whether an object was sealed; False for one that is missing."""
        ...

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Cut an object back to `size` bytes, having first kept what lies past it, durably, under the key `aside`."""
        ...


@runtime_checkable
class UploadBackend(Backend, Protocol):
    """A backend that can store an object of any size from an open file, without a condition."""

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store all that `source` holds from where it stands; readers see all of it or nothing."""
        ...


@runtime_checkable
class VersioningBackend(Backend, Protocol):
    """A backend over a server whose buckets may keep old versions, and which may want an ETag in one form only.

    The probe reads and sets both attributes. Where `versioned` is False, a put that is answered with a version id is
    not acknowledged: versioning was switched on since, and some servers ignore conditions in a versioned bucket.
    """

    etag_form: Literal["unquoted", "quoted"]
    """How a version is sent as a condition; backends begin with `unquoted`, which most servers take."""

    versioned: bool
    """Whether the bucket was seen to answer a put with a version id."""

    def put_version_id(self, key: str, data: bytes) -> str | None:
        """Store bytes under a scratch key without a condition; return the version id in the answer, if there is one.

        Raises:
            OutcomeUnknownError: No clear answer came.
        """
        ...


class Watch(Protocol):
    """Wakes when something below a prefix may have changed. A wake-up too many is harmless, one too few is not."""

    def wait(self, timeout: float) -> bool:
        """Wait until something changed since the last call (True), or `timeout` seconds went by or it was closed."""
        ...

    def close(self) -> None:
        """Wake the waiter and release what is held; may be called from another thread."""
        ...


@runtime_checkable
class WatchBackend(Backend, Protocol):
    """A backend that can wake its readers: the ability `watch`."""

    def watch(self, prefix: str) -> Watch:
        """Begin to watch the keys below a prefix (which ends with `/`, and need not exist yet)."""
        ...


class BackendFactory(Protocol):
    """What an entry point of the group `bucketlog.backends` names: makes a backend from a URL."""

    def __call__(self, url: str, options: Mapping[str, object], *, create: bool) -> Backend:
        """Open `url`, whose query is already part of `options`.

        Args:
            url: As the user wrote it, without its query.
            options: Everything that the user gave besides the options of `bucketlog.open` itself.
            create: Whether the root (a directory, not a bucket) may be made.

        Raises:
            InvalidOptionError: An option that this backend does not know (see `check_options`).
            StoreNotFoundError: There is no such place.
        """
        ...


# The entry points of this distribution: to read those of all that are installed takes 10 to 30 ms.
SHIPPED = {
    "memory": "bucketlog_backends.memory:open_memory",
    "file": "bucketlog_backends.local:open_local",
    "s3": "bucketlog_backends.s3:open_s3",
    "fsspec": "bucketlog_backends.fsspec:open_fsspec",
}


def installed_backends() -> EntryPoints:
    """Return the entry points of all installed backends, by URL scheme."""
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINT_GROUP)


def find_factory(scheme: str) -> BackendFactory:
    """Find the backend for a URL scheme among the installed distributions.

    Raises:
        InvalidURLError: No backend is installed for it.
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
    known = ", ".join(sorted({f"{one.name}://" for one in found}))
    msg = f"open {scheme}://…: no backend is installed for this scheme (there are {known}); mend the URL"
    raise InvalidURLError(msg)


def check_options(url: str, options: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse an option that is not known, naming the nearest one that is.

    Raises:
        InvalidOptionError: See above.
    """
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known)) or 'none'}"
            msg = f"open {url}: unknown option {option!r}; {hint}"
            raise InvalidOptionError(msg, option=option)


# -- forks -------------------------------------------------------------------------------------------------------------

_after_fork: dict[int, Callable[[], Callable[[], None] | None]] = {}  # what returns the callbacks, oldest first
_after_fork_numbers = itertools.count()


def after_fork_in_child(callback: Callable[[], None]) -> None:
    """Call `callback` in each process that is forked from this one.

    A forked child has a single thread, and locks that other threads of its parent may have held. An object that owns a
    lock, a thread or an open file passes the method that replaces them. Callbacks run in the order in which they were
    registered, so what an object was built on is ready before the object itself. One that raises is reported as an
    unraisable exception, and the others still run.

    Args:
        callback: A method, of which only a weak reference is kept: it goes with its object. Or a function, which stays.
    """
    number, forget = next(_after_fork_numbers), _after_fork.pop
    if not isinstance(callback, MethodType):
        _after_fork[number] = lambda: callback
        return
    method = callback.__func__
    # Not a WeakMethod, which complains if its object is among the last things that an interpreter lets go of.
    reference = weakref.ref(callback.__self__, lambda _: forget(number, None))
    _after_fork[number] = lambda: None if (owner := reference()) is None else MethodType(method, owner)


def _run_after_fork() -> None:  # pragma: no cover  (coverage does not follow the fork that a test makes)
    callbacks = [find() for find in list(_after_fork.values())]
    with ExitStack() as stack:  # which runs them all, even if one raises
        for callback in reversed(callbacks):
            if callback is not None:
                stack.callback(callback)


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_run_after_fork)
