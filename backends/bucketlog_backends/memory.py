"""The memory backend: each name is one store, shared by all its handles until the process ends.

Nothing is synced, because nothing survives the process. Everything else behaves as in the local backend. A forked child
has its own copy.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, insort
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from bucketlog.backend import (
    ABSENT,
    ANY,
    Capabilities,
    Condition,
    Content,
    Entry,
    Stat,
    Version,
    after_fork_in_child,
    check_options,
)
from bucketlog.errors import ConflictError, InvalidURLError, NotFoundError, StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

_LIST_CHUNK = 1000  # keys read per visit, so that a long listing does not block writers
_AFTER_SLASH = "0"  # the character that follows "/": no key below a folder reaches folder + "0"


def open_memory(url: str, options: Mapping[str, object], *, create: bool) -> MemoryBackend:
    """Open `memory://name`: another handle on the store with this name.

    Args:
        url: `memory://` and any name.
        options: Must be empty: there are none.
        create: Whether to create the store if nothing is stored under this name.

    Raises:
        InvalidURLError: The URL does not begin with `memory://`.
        InvalidOptionError: An option was given.
        StoreNotFoundError: Nothing is stored under this name, and `create` is False.
    """
    scheme, separator, name = url.partition("://")
    if scheme != "memory" or not separator:
        msg = f"open {url}: the URL of a store in memory is memory://name; fix it"
        raise InvalidURLError(msg)
    check_options(url, options, ())
    name = name.rstrip("/")
    with _roots_lock:
        root = _roots.get(name)
        if not create and (root is None or not root.objects):
            msg = f"open {url}: nothing is stored in memory under this name; fix the name, or open with create=True"
            raise StoreNotFoundError(msg)
        if root is None:
            root = _roots[name] = _Root()
    return MemoryBackend(root, f"memory://{name}")


class MemoryBackend:
    """One handle on a store in memory."""

    name = "memory"
    capabilities = Capabilities(append=True, watch=True)

    def __init__(self, root: _Root, url: str) -> None:
        self.url = url
        self._root = root
        self._growing: dict[str, tuple[str, _Object]] = {}  # by folder: what this handle appended to last

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` of an object, and its version.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        with self._root.mutex:
            found = self._find(key, "read")
            return Content(bytes(memoryview(found.data)[start:end]), found.version)

    def head(self, key: str) -> Stat:
        """Return the size, version and time of an object.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        with self._root.mutex:
            found = self._find(key, "look at")
            return Stat(len(found.data), found.version, found.modified)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key and return the new version.

        Raises:
            ConflictError: The condition did not hold, and nothing was written.
        """
        with self._exclusive(_folder_of(key)):
            there = self._root.objects.get(key)
            if if_version is ABSENT:
                if there is not None:
                    msg = f"put to {self.url}, key {key!r}: something is stored there already; read it and decide again"
                    raise ConflictError(msg)
            elif if_version is not ANY and (there is None or there.version != if_version):
                found = "nothing" if there is None else "another version"
                msg = (
                    f"put to {self.url}, key {key!r}: expected version {if_version}, found {found}; read it and decide "
                    "again"
                )
                raise ConflictError(msg)
            new = _Object(bytes(data))
            self._root.store(key, new)
            return new.version

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store the rest of `source`, from its current position."""
        self.put(key, source.read())

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix`, lazily and in ascending order of their keys.

        A key whose last part begins with a dot is left out.
        """
        bound: str | None = max(prefix, start_after + "\0" if start_after else "")
        while bound is not None:
            chunk, bound = self._root.entries(prefix, bound, delimiter=delimiter)
            yield from chunk

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing key is not an error."""
        for key in keys:
            with self._exclusive(_folder_of(key)):
                self._root.remove(key)

    def close(self) -> None:
        """Close this handle. The store keeps its content."""
        self._growing.clear()

    # -- growing objects -----------------------------------------------------------------------------------------------

    def lock(self, folder: str, *, shared: bool = False) -> AbstractContextManager[object]:
        """Return a context manager that holds a folder's lock against all other handles, reentrant within a thread.

        Raises:
            RuntimeError: On entry, if this thread holds the shared lock and asks for the exclusive one.
        """
        return self._hold(folder.rstrip("/"), shared=shared)

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:  # noqa: ARG002  (nothing is ever synced in memory)
        """Append to a growing object.

        Raises:
            ConflictError: The size is not `expected_size`, the object is sealed, or another object has taken the place
                of the one that this handle appended to.
            RuntimeError: This thread holds the folder's shared lock.
        """
        folder = _folder_of(key)
        with self._exclusive(folder):
            there = self._root.objects.get(key)
            believed_key, believed = self._growing.get(folder, ("", None))
            if there is None and expected_size == 0 and believed_key != key:
                there = _Object(bytearray())
                self._root.store(key, there)
            wrong = _why_not_to_grow(there, expected_size, believed if believed_key == key else there)
            if there is None or wrong:
                self._growing.pop(folder, None)
                msg = f"append to {self.url}, key {key!r}: {wrong}; read the new data and decide again"
                raise ConflictError(msg)
            grown = there.data if isinstance(there.data, bytearray) else bytearray(there.data)
            grown += data
            there.change(grown)
            self._growing[folder] = (key, there)
            self._root.changed(key)

    def sync(self, key: str) -> None:
        """Do nothing, except to check that the object exists.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        with self._root.mutex:
            self._find(key, "sync")

    def seal(self, key: str) -> None:
        """Refuse all further appends to an object.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        with self._exclusive(_folder_of(key)):
            self._find(key, "seal").sealed = True
            self._root.changed(key)

    def is_sealed(self, key: str) -> bool:
        """Return True if the object is sealed, and False if it is not or does not exist."""
        with self._root.mutex:
            found = self._root.objects.get(key)
            return found is not None and found.sealed

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Truncate an object to `size` bytes, and keep the rest under the key `aside`, or `aside-1`, and so on.

        Raises:
            NotFoundError: Nothing is stored under the key.
            ConflictError: The object is sealed.
        """
        with self._exclusive(_folder_of(key)):
            found = self._find(key, "cut")
            if found.sealed:
                msg = f"cut {key!r} in {self.url}: it is sealed, and sealed objects never change; read it again"
                raise ConflictError(msg)
            if len(found.data) <= size:
                return
            if aside is not None:
                names = itertools.chain((aside,), (f"{aside}-{count}" for count in itertools.count(1)))
                free = next(name for name in names if name not in self._root.objects)
                self._root.store(free, _Object(bytes(found.data[size:])))
            found.change(bytearray(found.data[:size]))
            self._root.changed(key)

    # -- watching ------------------------------------------------------------------------------------------------------

    def watch(self, prefix: str) -> MemoryWatch:
        """Start to watch the keys below a prefix. Nothing needs to be stored below it yet."""
        return MemoryWatch(self._root, prefix)

    # -- shared steps --------------------------------------------------------------------------------------------------

    def _find(self, key: str, doing: str) -> _Object:
        found = self._root.objects.get(key)
        if found is None:
            msg = f"{doing} {key!r} in {self.url}: nothing is stored under this key"
            raise NotFoundError(msg)
        return found

    @contextmanager
    def _exclusive(self, folder: str) -> Iterator[None]:
        """Hold the mutex, once no other owner holds the folder. A short step needs no more of the lock than that."""
        root, owner = self._root, (id(self), threading.get_ident())
        with root.mutex:
            held = root.folder(folder)
            held.wait(owner, root.unlocked, shared=False)
            yield

    @contextmanager
    def _hold(self, folder: str, *, shared: bool) -> Iterator[None]:
        root, owner = self._root, (id(self), threading.get_ident())
        with root.mutex:
            held = root.folder(folder)
            held.wait(owner, root.unlocked, shared=shared)
            held.take(owner, shared=shared)
        try:
            yield
        finally:
            with root.mutex:
                held.release(owner)
                root.unlocked.notify_all()


class MemoryWatch:
    """Wakes when an object below its prefix is stored, grows, or is sealed, cut or deleted."""

    def __init__(self, root: _Root, prefix: str) -> None:
        self.prefix = prefix
        self.woken = False
        self._closed = False
        self._root = root
        with root.mutex:
            self.condition = threading.Condition(root.mutex)
            root.watches.add(self)

    def wait(self, timeout: float) -> bool:
        """Return True on a change since the last call; False after `timeout` seconds, or if the watch was closed."""
        with self._root.mutex:
            self.condition.wait_for(lambda: self.woken or self._closed, timeout)
            woken, self.woken = self.woken, False
            return woken and not self._closed

    def close(self) -> None:
        """Wake the waiting thread. Another thread may call this."""
        with self._root.mutex:
            self._closed = True
            self._root.watches.discard(self)
            self.condition.notify_all()


_Owner = tuple[int, int]  # handle, thread


class _Object:
    """The object under one key. While it grows, its data is a bytearray, which is never returned."""

    __slots__ = ("data", "modified", "sealed", "version")

    def __init__(self, data: bytes | bytearray) -> None:
        self.sealed = False
        self.change(data)

    def change(self, data: bytes | bytearray) -> None:
        self.data = data
        self.version = format(next(_versions), "x")
        self.modified = datetime.now(UTC)


class _FolderLock:
    """The owners of a folder: one, or any number that share it. The mutex of the root guards this."""

    __slots__ = ("owners", "shared")

    def __init__(self) -> None:
        self.owners: dict[_Owner, int] = {}
        self.shared = False

    def wait(self, owner: _Owner, unlocked: threading.Condition, *, shared: bool) -> None:
        if owner in self.owners:
            if self.shared and not shared:
                msg = "this thread holds the folder's shared lock; release it before asking for the exclusive one"
                raise RuntimeError(msg)
            return
        while self.owners and not (shared and self.shared):
            unlocked.wait()

    def take(self, owner: _Owner, *, shared: bool) -> None:
        if not self.owners:
            self.shared = shared
        self.owners[owner] = self.owners.get(owner, 0) + 1

    def release(self, owner: _Owner) -> None:
        self.owners[owner] -= 1
        if not self.owners[owner]:
            del self.owners[owner]


class _Root:
    """The store with one name. `mutex` guards everything in it."""

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self.watches: set[MemoryWatch] = set()
        self._keys: list[str] = []  # of `objects`, sorted
        self._folders: dict[str, _FolderLock] = {}
        self._make_locks()

    def _make_locks(self) -> None:
        self.mutex = threading.RLock()
        self.unlocked = threading.Condition(self.mutex)

    def folder(self, folder: str) -> _FolderLock:
        return self._folders.setdefault(folder, _FolderLock())

    def store(self, key: str, new: _Object) -> None:
        if key not in self.objects:
            insort(self._keys, key)
        self.objects[key] = new
        self.changed(key)

    def remove(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
            self.changed(key)

    def changed(self, key: str) -> None:
        for watch in self.watches:
            if key.startswith(watch.prefix):
                watch.woken = True
                watch.condition.notify_all()

    def entries(self, prefix: str, bound: str, *, delimiter: bool) -> tuple[list[Entry], str | None]:
        """Return some entries from `bound` on, and the bound of the next ones; None at the end of the listing."""
        found: list[Entry] = []
        with self.mutex:
            at = bisect_left(self._keys, bound)
            while at < len(self._keys) and self._keys[at].startswith(prefix):
                if len(found) == _LIST_CHUNK:
                    return found, bound
                key = self._keys[at]
                below, slash, _ = key[len(prefix) :].partition("/")
                if _is_hidden(key):
                    bound = key + "\0"
                elif delimiter and slash:
                    found.append(Entry(prefix + below + slash))
                    bound = prefix + below + _AFTER_SLASH
                else:
                    found.append(Entry(key, len(self.objects[key].data), self.objects[key].modified))
                    bound = key + "\0"
                at = bisect_left(self._keys, bound, at)
            return found, None

    def begin_in_child(self) -> None:
        """Replace the locks in a forked child: another thread of the parent may have held the inherited ones."""
        self._make_locks()
        self._keys = sorted(self.objects)  # the fork may have come between the changes to the two
        me = threading.get_ident()
        for held in self._folders.values():
            held.owners = {owner: depth for owner, depth in held.owners.items() if owner[1] == me}
        for watch in self.watches:
            watch.condition = threading.Condition(self.mutex)


def _why_not_to_grow(there: _Object | None, expected_size: int, believed: _Object | None) -> str:
    if there is None:
        return f"expected size {expected_size}, there is no such object"
    if len(there.data) != expected_size:
        return f"expected size {expected_size}, it is {len(there.data)}"
    if there.sealed:
        return "it is sealed"
    if there is not believed:
        return "it was replaced by another"
    return ""


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0]


def _is_hidden(key: str) -> bool:
    return key[key.rfind("/") + 1 :].startswith(".")


_versions = itertools.count(1)
_roots: dict[str, _Root] = {}
_roots_lock = threading.Lock()


def _begin_in_child() -> None:
    global _roots_lock
    _roots_lock = threading.Lock()  # a thread of the parent may hold the inherited one
    for root in _roots.values():
        root.begin_in_child()


after_fork_in_child(_begin_in_child)
