"""Folder locks: one flock on a file of the folder, which the threads of a handle share.

flock rather than lockf, because its lock belongs to the open file: two handles in one process exclude each other, and
closing the file of one handle releases no lock of another. A forked child closes the files that it inherited and opens
its own. It never unlocks them, because that would release its parent's lock.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from bucketlog.errors import BucketlogError, CapabilityError
from bucketlog_backends.local import files

if os.name == "posix":
    from fcntl import LOCK_EX as _EXCLUSIVE
    from fcntl import LOCK_SH as _SHARED
    from fcntl import LOCK_UN as _UNLOCK
    from fcntl import flock as _flock

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOCK_NAME = ".lock"  # created once in each folder, then never replaced or removed
_FOLDERS_MAX = 128  # each with a lock and perhaps a segment open; the usual limits are 1024 or 256 files a process

_ticks = itertools.count(1)  # orders folders by their last use


class FolderLocks:
    """The folders that a handle has locked recently, kept open."""

    def __init__(self, path_of: Callable[[str], str], make: Callable[[str], None]) -> None:
        """Start with no folders.

        Args:
            path_of: Returns the path of a folder, with a slash at its end.
            make: Creates a folder and its parents.
        """
        self._path_of, self._make = path_of, make
        self._closed = False
        self._mutex = threading.Lock()  # guards additions to `_folders`
        self._folders: dict[str, Folder] = {}

    def hold(self, name: str, *, shared: bool) -> Hold:
        """Return a context manager for the lock of a folder."""
        return Hold(self, name, shared=shared)

    def enter(self, name: str, *, shared: bool = False, may_make: bool = True) -> Folder | None:
        """Take the lock of a folder; None if the folder does not exist and may not be created."""
        while True:
            folder = self._folders.get(name) or self._add_folder(name)
            folder.gate.acquire()
            try:
                if folder.wait(shared=shared):
                    if folder.is_idle() and not self._lock_file(folder, shared=shared, may_make=may_make):
                        folder.gate.release()
                        return None
                    break
            except BaseException:
                if folder.is_idle() and folder.lock_fd >= 0:  # interrupted, perhaps just after locking
                    with suppress(OSError):
                        _flock(folder.lock_fd, _UNLOCK)
                folder.gate.release()
                raise
            folder.gate.release()  # another thread has closed it
        folder.used = next(_ticks)
        if shared and not folder.exclusive_depth:
            folder.add_sharer()
            folder.gate.release()
        else:
            folder.exclusive_depth += 1  # and this thread keeps the gate
        return folder

    def leave(self, folder: Folder) -> None:
        """Release the lock that `enter` took."""
        if folder.closed:
            return  # in a forked child, which does not hold the locks of its parent
        if folder.exclusive_depth:  # by this thread, so no other thread shares it
            if self._closed and folder.exclusive_depth == 1:
                self._folders.pop(folder.name, None)
                folder.gate.acquire()
                folder.leave_exclusive()
                folder.close()
                folder.gate.release()
            else:
                folder.leave_exclusive()
        else:
            with folder.gate:
                if folder.remove_sharer():
                    if folder.lock_fd >= 0:
                        _flock(folder.lock_fd, _UNLOCK)
                    if self._closed:
                        self._drop(folder)

    def open_file(self, path: str, flags: int, *, keep: Folder | None = None) -> int:
        """Open a file, and `making_room` for it if too many are open."""
        return self.making_room(lambda: os.open(path, flags | os.O_CLOEXEC, 0o666), keep=keep)

    def making_room(self, call: Callable[[], T], *, keep: Folder | None = None) -> T:
        """Run `call`. If too many files are open, close idle folders and retry once."""
        try:
            return call()
        except OSError as err:
            if err.errno != errno.EMFILE:
                raise
        self._drop_idle(keep)
        return call()

    def close(self) -> None:
        """Wait for the calls of other threads, then close every folder."""
        self._closed = True
        for folder in [*self._folders.values()]:
            with folder.gate:
                if folder.is_idle():  # else the last thread to leave closes it
                    self._drop(folder)

    def begin_in_child(self) -> None:
        """Close the files that a forked child inherited, without unlocking them."""
        for folder in self._folders.values():
            folder.close()
        self._folders = {}
        self._mutex = threading.Lock()

    def _lock_file(self, folder: Folder, *, shared: bool, may_make: bool) -> bool:
        """Lock the file of a folder; return False if the folder does not exist and may not be created."""
        try:
            while True:
                if folder.lock_fd < 0:
                    folder.lock_fd = self._open_lock(folder, may_make=may_make and not shared, must_be=not shared)
                    if folder.lock_fd < 0:
                        return shared
                _flock(folder.lock_fd, _SHARED if shared else _EXCLUSIVE)
                # The whole store may have been removed or moved, and created again. An open segment shows that anyway,
                # because every append checks it.
                if folder.growing is not None or files.is_file_at(folder.lock_fd, folder.path + LOCK_NAME):
                    return True
                folder.close_lock()
        except BucketlogError:
            raise
        except OSError as err:
            if err.errno in files.NO_LOCKS:
                msg = f"lock {folder.path}: the filesystem has no locks ({err.strerror}); use another filesystem"
                raise CapabilityError(msg) from err
            raise files.translated(err, f"lock {folder.path}") from err

    def _open_lock(self, folder: Folder, *, may_make: bool, must_be: bool) -> int:
        """Open the lock file of a folder, creating both if necessary; return -1 if there is none."""
        path = folder.path + LOCK_NAME
        flags = os.O_RDWR | os.O_CREAT
        try:
            return self.open_file(path, flags, keep=folder)
        except (FileNotFoundError, NotADirectoryError):
            if not may_make:
                return -1
            self._make(folder.name)
            return self.open_file(path, flags, keep=folder)
        except OSError as err:
            if err.errno not in files.REFUSED:
                raise
            try:
                return self.open_file(path, os.O_RDONLY, keep=folder)
            except FileNotFoundError:
                if must_be:
                    raise err from None
                return -1

    def _add_folder(self, name: str) -> Folder:
        path = self._path_of(name)
        with self._mutex:
            if name not in self._folders:
                if len(self._folders) >= _FOLDERS_MAX:
                    self._drop_idle()
                self._folders[name] = Folder(name, path, used=next(_ticks))
            return self._folders[name]

    def _drop_idle(self, keep: Folder | None = None) -> None:
        """Close the least recently used quarter of the folders."""
        oldest_first = sorted(self._folders.values(), key=lambda folder: folder.used)
        for folder in oldest_first[: max(1, len(oldest_first) // 4)]:
            if folder.gate.acquire(blocking=False):
                if folder.is_idle() and not folder.closed and folder is not keep:
                    self._drop(folder)
                folder.gate.release()

    def _drop(self, folder: Folder) -> None:
        self._folders.pop(folder.name, None)
        folder.close()


class Folder:
    """The lock of a folder in this handle: held by one writing thread, or by any number of sharing threads.

    A writing thread owns `gate` for as long as it holds the lock. Sharing threads only pass through it.
    """

    __slots__ = ("_idle", "closed", "exclusive_depth", "gate", "growing", "lock_fd", "name", "path", "sharers", "used")

    def __init__(self, name: str, path: str, *, used: int) -> None:
        self.name, self.path, self.used = name, path, used
        self.gate = threading.RLock()
        self.lock_fd = -1
        self.growing: Growing | None = None
        self.exclusive_depth = 0
        self.closed = False
        self._idle = threading.Condition(self.gate)
        self.sharers: dict[int, int] = {}

    def __del__(self) -> None:
        self.close()

    def enter_growing(self, key: str) -> bool:
        """Lock the folder for an append if its object `key` is open. Every append does this, so it takes few steps."""
        gate = self.gate
        gate.acquire()
        growing = self.growing
        if growing is None or growing.key != key or self.sharers:
            gate.release()
            return False
        if not self.exclusive_depth:
            try:
                _flock(self.lock_fd, _EXCLUSIVE)
            except BaseException:
                gate.release()
                raise
        self.exclusive_depth += 1
        self.used = next(_ticks)
        return True

    def leave_exclusive(self) -> None:
        """Release an exclusive lock."""
        self.exclusive_depth -= 1
        if not self.exclusive_depth:
            _flock(self.lock_fd, _UNLOCK)
        self.gate.release()

    def is_idle(self) -> bool:
        """Return True if no thread of this handle holds the lock."""
        return not self.exclusive_depth and not self.sharers

    def wait(self, *, shared: bool) -> bool:
        """Wait for the conflicting threads of this handle; return False if the folder was closed meanwhile."""
        if self.sharers and not shared:
            if threading.get_ident() in self.sharers:
                msg = f"lock {self.path}: this thread holds the shared lock; release it before asking for the exclusive"
                raise RuntimeError(msg)
            while self.sharers:
                self._idle.wait()
        return not self.closed

    def add_sharer(self) -> None:
        """Count one more shared lock of this thread."""
        me = threading.get_ident()
        self.sharers[me] = self.sharers.get(me, 0) + 1

    def remove_sharer(self) -> bool:
        """Undo one `add_sharer`; return True if no thread shares the lock now."""
        me = threading.get_ident()
        self.sharers[me] -= 1
        if not self.sharers[me]:
            del self.sharers[me]
        if not self.sharers:
            self._idle.notify_all()
        return not self.sharers

    def close_growing(self) -> None:
        """Close the object that was appended to last."""
        growing, self.growing = self.growing, None
        if growing is not None:
            os.close(growing.fd)

    def close_lock(self) -> None:
        """Close the lock file. This unlocks it, unless a forked process has it open too."""
        fd, self.lock_fd = self.lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Close both files. The folder is not used again."""
        self.closed = True
        self.close_growing()
        self.close_lock()


class Growing:
    """The object in a folder that was appended to last, and stays open."""

    __slots__ = ("fd", "key", "made", "named")

    def __init__(self, key: str, fd: int, *, made: bool, named: bool) -> None:
        self.key, self.fd = key, fd
        self.made = made  # created by this handle
        self.named = named  # whether this handle knows the name to be durable


class Hold:
    """A context manager for the lock of a folder, reusable and usable by several threads at once."""

    def __init__(self, locks: FolderLocks, folder_name: str, *, shared: bool) -> None:
        self._locks, self._folder_name, self._shared = locks, folder_name, shared
        self._folder: Folder | None = None  # the same one until the last thread has left

    def __enter__(self) -> None:
        self._folder = self._locks.enter(self._folder_name, shared=self._shared)

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._locks.leave(self._folder)
