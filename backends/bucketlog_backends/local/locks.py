"""Folder locks of the local backend: one flock on a folder's file, shared out among the threads of a handle.

flock, and not lockf: the lock belongs to an open file, so that two handles of one process exclude each other, and
closing another handle's file lets go of nothing. A forked child closes what it inherited and opens anew; it never
unlocks, as that would unlock its parent's lock.
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

LOCK_NAME = ".lock"  # made once in each folder, then never replaced or removed
_FOLDERS_MAX = 128  # with a lock and perhaps a segment open in each: a process may often open 1024 files, or 256

_ticks = itertools.count(1)  # orders folders by when they were used last


class FolderLocks:
    """The folders that a handle has locked lately, kept open."""

    def __init__(self, path_of: Callable[[str], str], make: Callable[[str], None]) -> None:
        """Begin with none.

        Args:
            path_of: Returns a folder's path, with a slash at its end.
            make: Makes a folder and those above it.
        """
        self._path_of, self._make = path_of, make
        self._closed = False
        self._mutex = threading.Lock()  # guards which folders there are
        self._folders: dict[str, Folder] = {}

    def hold(self, name: str, *, shared: bool) -> Hold:
        """Return a folder's lock, to be entered."""
        return Hold(self, name, shared=shared)

    def enter(self, name: str, *, shared: bool = False, may_make: bool = True) -> Folder | None:
        """Take a folder's lock, which `leave` gives back; None where there is no folder and none may be made."""
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
                if folder.is_idle() and folder.lock_fd >= 0:  # interrupted, perhaps just after it was locked
                    with suppress(OSError):
                        _flock(folder.lock_fd, _UNLOCK)
                folder.gate.release()
                raise
            folder.gate.release()  # it was closed in the meantime
        folder.used = next(_ticks)
        if shared and not folder.exclusive_depth:
            folder.add_sharer()
            folder.gate.release()
        else:
            folder.exclusive_depth += 1  # and the gate stays shut
        return folder

    def leave(self, folder: Folder) -> None:
        """Give back what `enter` took."""
        if folder.closed:
            return  # this is a forked child, which holds nothing of what its parent had entered
        if folder.exclusive_depth:  # by this thread: nobody shares beside it
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
        """Open a file, `making_room` for it."""
        return self.making_room(lambda: os.open(path, flags | os.O_CLOEXEC, 0o666), keep=keep)

    def making_room(self, call: Callable[[], T], *, keep: Folder | None = None) -> T:
        """Do what opens a file; where too many are open, close folders that are not in use and do it again."""
        try:
            return call()
        except OSError as err:
            if err.errno != errno.EMFILE:
                raise
        self._drop_idle(keep)
        return call()

    def close(self) -> None:
        """Close every folder, having waited for what other threads are doing."""
        self._closed = True
        for folder in [*self._folders.values()]:
            with folder.gate:
                if folder.is_idle():  # else whoever leaves it closes it
                    self._drop(folder)

    def begin_in_child(self) -> None:
        """Close what a forked child inherited, and unlock nothing."""
        for folder in self._folders.values():
            folder.close()
        self._folders = {}
        self._mutex = threading.Lock()

    def _lock_file(self, folder: Folder, *, shared: bool, may_make: bool) -> bool:
        """Lock the folder's file; False where there is no folder and none may be made."""
        try:
            while True:
                if folder.lock_fd < 0:
                    folder.lock_fd = self._open_lock(folder, may_make=may_make and not shared, must_be=not shared)
                    if folder.lock_fd < 0:
                        return shared
                _flock(folder.lock_fd, _SHARED if shared else _EXCLUSIVE)
                # The whole store may have been removed or moved away and made anew since. A segment that is kept open
                # shows that by itself, as every append looks at it.
                if folder.growing is not None or files.is_file_at(folder.lock_fd, folder.path + LOCK_NAME):
                    return True
                folder.close_lock()
        except BucketlogError:
            raise
        except OSError as err:
            if err.errno in files.NO_LOCKS:
                msg = f"lock {folder.path}: the filesystem has no locks ({err.strerror}); keep the store on another"
                raise CapabilityError(msg) from err
            raise files.translated(err, f"lock {folder.path}") from err

    def _open_lock(self, folder: Folder, *, may_make: bool, must_be: bool) -> int:
        """Open a folder's lock file, making it and perhaps its folder; -1 where there is none."""
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
        """Close the folders that were not used for longest: a quarter of them."""
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
    """A folder's lock in this handle: one thread that writes, or any number that share.

    The thread that writes owns `gate` all the while; those that share only pass through it.
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
        """Lock it for one append, if its object `key` is kept open: what every append does, in the fewest steps."""
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
        """Give back an exclusive lock."""
        self.exclusive_depth -= 1
        if not self.exclusive_depth:
            _flock(self.lock_fd, _UNLOCK)
        self.gate.release()

    def is_idle(self) -> bool:
        """Tell whether no thread of this handle holds it."""
        return not self.exclusive_depth and not self.sharers

    def wait(self, *, shared: bool) -> bool:
        """Wait until the lock can be had as far as this handle goes; False if the folder was closed."""
        if self.sharers and not shared:
            if threading.get_ident() in self.sharers:
                msg = f"lock {self.path}: this thread holds the shared lock; release it before asking for the exclusive"
                raise RuntimeError(msg)
            while self.sharers:
                self._idle.wait()
        return not self.closed

    def add_sharer(self) -> None:
        """Count this thread among those that share, once more."""
        me = threading.get_ident()
        self.sharers[me] = self.sharers.get(me, 0) + 1

    def remove_sharer(self) -> bool:
        """Take back one `add_sharer`; return whether nobody shares any more."""
        me = threading.get_ident()
        self.sharers[me] -= 1
        if not self.sharers[me]:
            del self.sharers[me]
        if not self.sharers:
            self._idle.notify_all()
        return not self.sharers

    def close_growing(self) -> None:
        """Forget the object that was appended to last."""
        growing, self.growing = self.growing, None
        if growing is not None:
            os.close(growing.fd)

    def close_lock(self) -> None:
        """Close the lock's file, which unlocks it unless a forked process has it open too."""
        fd, self.lock_fd = self.lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Close both files for good."""
        self.closed = True
        self.close_growing()
        self.close_lock()


class Growing:
    """The object of a folder that was appended to last, kept open."""

    __slots__ = ("fd", "key", "made", "named")

    def __init__(self, key: str, fd: int, *, made: bool, named: bool) -> None:
        self.key, self.fd = key, fd
        self.made = made  # by the handle that has it open
        self.named = named  # durably, as far as that handle knows


class Hold:
    """A folder's lock, to be entered by `with`, as often and in as many threads as one likes."""

    def __init__(self, locks: FolderLocks, folder_name: str, *, shared: bool) -> None:
        self._locks, self._folder_name, self._shared = locks, folder_name, shared
        self._folder: Folder | None = None  # the same one until the last has left

    def __enter__(self) -> None:
        self._folder = self._locks.enter(self._folder_name, shared=self._shared)

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._locks.leave(self._folder)
