"""Stores in a directory of this machine: files below a root, safe for any number of processes at once.

A key is a file; a folder has one lock, flock on its file `.lock`, which is made once and then neither replaced nor
removed. What changes a folder's files takes that lock; reading takes none. Files whose names begin with a dot (the
lock, unfinished files, what was cut off) are never listed. Symbolic links are followed as the system does: who links a
folder to another disk has it there, and who links out of the root leaves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from bucketlog.backend import ANY, Capabilities, Condition, Content, Entry, Stat, Version, after_fork_in_child
from bucketlog_backends.local.growing import GrowingObjects
from bucketlog_backends.local.reading import ObjectReader
from bucketlog_backends.local.replacing import ObjectReplacer
from bucketlog_backends.local.root import LocalRoot
from bucketlog_backends.local.watch import LocalWatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager


class LocalBackend(GrowingObjects):
    """One handle on a directory.

    It is a `GrowingObjects`, and does not have one: to pass on every append would cost each of them a call.
    """

    name = "local"
    capabilities = Capabilities(append=True, watch=True)

    def __init__(self, path: str) -> None:
        root = LocalRoot(path)
        super().__init__(root)
        self.url = root.keys.url
        self._reader = ObjectReader(root)
        self._replacer = ObjectReplacer(root, self._reader)
        after_fork_in_child(self.begin_in_child)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` under a key; the version only with the whole object, being its digest.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        return self._reader.get(key, start, end)

    def head(self, key: str) -> Stat:
        """Return size, version and time of what is stored under a key; reads all of it, as the version is its digest.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        return self._reader.head(key)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield what lies under keys that begin with `prefix`, ascending by key, lazily.

        Files whose names begin with a dot are not listed, nor folders in which there is nothing else. What vanishes
        while it is listed is left out.
        """
        return self._reader.list(prefix, start_after, delimiter=delimiter)

    # -- storing whole objects -----------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key, all of them or none, durably, and return the new version.

        Raises:
            ConflictError: The condition did not hold; nothing was written.
            InvalidNameError: The key is a folder, lies below another key, or is too long.
            OutcomeUnknownError: The new name could not be made durable.
            RuntimeError: This thread holds the folder's shared lock.
        """
        return self._replacer.put(key, data, if_version)

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store all that `source` holds from where it stands; readers see all of it or nothing.

        Raises:
            InvalidNameError: The key is a folder, lies below another key, or is too long.
            OutcomeUnknownError: The new name could not be made durable.
            RuntimeError: This thread holds the folder's shared lock.
        """
        self._replacer.upload(key, source)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys; one that is missing is no error.

        Raises:
            RuntimeError: This thread holds the folder's shared lock.
        """
        self._replacer.delete(keys)

    # -- locks, watches, forks -----------------------------------------------------------------------------------------

    def lock(self, folder: str, *, shared: bool = False) -> AbstractContextManager[object]:
        """Hold a folder's lock against every other handle and process; reentrant in a thread.

        A shared lock is held without a lock file where there is none and none can be made: whoever writes makes one
        first, so nobody has written there yet.

        Raises:
            RuntimeError: On entering: this thread holds the shared lock and asks for the exclusive one.
            CapabilityError: On entering: the filesystem has no locks.
        """
        return self._locks.hold(folder.removesuffix("/"), shared=shared)

    def watch(self, prefix: str) -> LocalWatch:
        """Begin to watch the keys below a prefix, which need not exist yet."""
        folder = prefix.removesuffix("/")
        return LocalWatch(self._keys.path(folder, "watch") if folder else self._keys.root)

    def close(self) -> None:
        """Close every file, having waited for what other threads are doing."""
        self._locks.close()

    def begin_in_child(self) -> None:
        """Close what a forked child inherited, and unlock nothing: the locks are still its parent's."""
        self._appended = {}
        self._locks.begin_in_child()
