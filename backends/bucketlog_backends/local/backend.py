"""The local backend: a store in a directory of this machine, shared safely by any number of processes.

A key is a file. Each folder has one lock: flock on its file `.lock`, which is created once and never replaced or
removed. Every change to the files of a folder takes that lock; reading takes none. Files whose names begin with a dot
(locks, unfinished files, removed torn ends) are never listed. Symbolic links are followed, even out of the root.
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

    It inherits from `GrowingObjects` instead of owning one, because forwarding would cost every append a call.
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
        """Return the bytes `[start, end)` of an object.

        The version is the digest of the whole object, so it is empty for a range.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        return self._reader.get(key, start, end)

    def head(self, key: str) -> Stat:
        """Return the size, version and time of an object. This reads all of it, because the version is its digest.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        return self._reader.head(key)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix`, lazily and in ascending order of their keys.

        Files whose names begin with a dot are left out, and so are folders that contain nothing else, and objects that
        disappear while the listing runs.
        """
        return self._reader.list(prefix, start_after, delimiter=delimiter)

    # -- storing whole objects -----------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key, atomically and durably, and return the new version.

        Raises:
            ConflictError: The condition did not hold, and nothing was written.
            InvalidNameError: The key is a folder, is below another key, or is too long.
            OutcomeUnknownError: The new name could not be made durable.
            RuntimeError: This thread holds the folder's shared lock.
        """
        return self._replacer.put(key, data, if_version)

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store the rest of `source`, from its current position. Readers see the whole object or nothing.

        Raises:
            InvalidNameError: The key is a folder, is below another key, or is too long.
            OutcomeUnknownError: The new name could not be made durable.
            RuntimeError: This thread holds the folder's shared lock.
        """
        self._replacer.upload(key, source)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing key is not an error.

        Raises:
            RuntimeError: This thread holds the folder's shared lock.
        """
        self._replacer.delete(keys)

    # -- locks, watches, forks -----------------------------------------------------------------------------------------

    def lock(self, folder: str, *, shared: bool = False) -> AbstractContextManager[object]:
        """Return a context manager that holds a folder's lock against all other handles and processes.

        The lock is reentrant within a thread. If there is no lock file and none can be created, a shared lock needs
        none: writers create the file first, so nothing has been written there yet.

        Raises:
            RuntimeError: On entry, if this thread holds the shared lock and asks for the exclusive one.
            CapabilityError: On entry, if the filesystem has no locks.
        """
        return self._locks.hold(folder.removesuffix("/"), shared=shared)

    def watch(self, prefix: str) -> LocalWatch:
        """Start to watch the keys below a prefix. Nothing needs to be stored below it yet."""
        folder = prefix.removesuffix("/")
        return LocalWatch(self._keys.path(folder, "watch") if folder else self._keys.root)

    def close(self) -> None:
        """Wait for the calls of other threads, then close every file."""
        self._locks.close()

    def begin_in_child(self) -> None:
        """Close the files that a forked child inherited, without unlocking: the locks still belong to its parent."""
        self._appended = {}
        self._locks.begin_in_child()
