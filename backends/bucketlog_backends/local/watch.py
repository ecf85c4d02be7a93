"""Watching a folder of the local filesystem: wakes a reader within milliseconds of a change below it.

Changes come from the system's own notifications, through watchfiles. Where the system has none left, the folder's
contents are compared ten times a second instead. A network filesystem reports no changes of other machines, so readers
also look on their own from time to time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

_STEP_MS = 5  # how often watchfiles looks for changes: 0.8 % of a core, and a reader wakes after about 9 ms
_WAIT_SECONDS_MAX = 1.0  # then the folder itself is checked: it may have been replaced
_ABSENT_SECONDS = 0.05  # between two looks for a folder that does not exist yet
_POLL_SECONDS = 0.1  # between two comparisons, where there are no notifications
_DELETED = 3  # watchfiles.Change.deleted, as its raw number

_NO_NOTIFICATIONS = (OSError, RuntimeError)  # the limit on watches or on instances of inotify, or none in this system
_OTHER_INTERFACE = (ImportError, AttributeError, TypeError)  # a watchfiles that differs from the versions we allow

_Raised = set[tuple[int, str]] | Literal["signal", "stop", "timeout"]

_log = logging.getLogger("bucketlog")


class LocalWatch:
    """Wakes when something below a folder changes, or when the folder is created."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._closed = threading.Event()
        self._turn = threading.Lock()  # one waiter at a time
        self._source: _Notifications | _Comparisons | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._begin()

    def wait(self, timeout: float) -> bool:
        """Return True on a change since the last call; False after `timeout` seconds, or if the watch was closed."""
        deadline = time.monotonic() + timeout
        with self._turn:
            if self._pid != os.getpid():  # the thread that collects notifications is in the parent
                self._source, self._pid = None, os.getpid()
            while not self._closed.is_set():
                remaining = max(0.0, deadline - time.monotonic())
                if self._source is None:
                    if self._begin():
                        return True
                    self._closed.wait(min(remaining, _ABSENT_SECONDS))
                elif self._look(min(remaining, _WAIT_SECONDS_MAX)):
                    return not self._closed.is_set()
                if time.monotonic() >= deadline:
                    break
            return False

    def close(self) -> None:
        """Wake the waiting thread and release all resources. Another thread may call this."""
        self._closed.set()
        with self._turn:
            self._end()

    def _begin(self) -> bool:
        """Watch the folder if it exists now; return whether it does."""
        self._identity = _identity(self._folder)
        if self._identity is None:
            return False
        try:
            self._source = _Notifications(self._folder)
        except FileNotFoundError:
            return False
        except _NO_NOTIFICATIONS:
            self._source = _Comparisons(self._folder)
        except _OTHER_INTERFACE as err:
            _warn_of_interface(repr(err))
            self._source = _Comparisons(self._folder)
        return True

    def _look(self, timeout: float) -> bool:
        """Wait for a change, and stop watching a folder that was removed or replaced."""
        assert self._source is not None
        try:
            changed, gone = self._source.wait(timeout, self._closed)
        except (*_NO_NOTIFICATIONS, *_OTHER_INTERFACE) as err:  # such as too many watches, because of a new folder
            if isinstance(err, _OTHER_INTERFACE):
                _warn_of_interface(repr(err))
            self._end()
            self._source = _Comparisons(self._folder)
            return True
        if gone or _identity(self._folder) != self._identity:
            self._end()
            return True
        return changed

    def _end(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


class _Notifications:
    """The system's notifications about a folder, from the moment that this is made.

    This uses watchfiles' Rust interface, not `watchfiles.watch`. That generator begins to watch at the first wait, so
    it would lose what changed before; and its timeout is fixed, so a wait would have to be cut into short ones.
    """

    def __init__(self, folder: str) -> None:
        from watchfiles._rust_notify import RustNotify

        self._folder = folder
        self._notify: RustNotify = RustNotify(
            [folder], debug=False, force_polling=False, poll_delay_ms=0, recursive=True, ignore_permission_denied=True
        )

    def wait(self, timeout: float, closed: threading.Event) -> tuple[bool, bool]:
        """Return whether something changed, and whether the folder itself was removed."""
        timeout_ms = max(1, int(timeout * 1000))  # 0 would mean no timeout
        if threading.current_thread() is threading.main_thread():
            raised = self._wait_beside(timeout_ms, closed)
        else:
            raised = self._notify.watch(_STEP_MS, _STEP_MS, timeout_ms, closed)
        if isinstance(raised, str):
            return False, False
        return True, (_DELETED, self._folder) in raised

    def _wait_beside(self, timeout_ms: int, closed: threading.Event) -> _Raised:
        """Wait in another thread. In the main one, watchfiles would swallow what a signal handler raises."""
        stop = _Either(closed)
        done = threading.Event()
        raised: list[_Raised] = []
        failed: list[Exception] = []

        def watch() -> None:
            try:
                raised.append(self._notify.watch(_STEP_MS, _STEP_MS, timeout_ms, stop))
            except (*_NO_NOTIFICATIONS, *_OTHER_INTERFACE) as err:
                failed.append(err)
            finally:
                done.set()

        thread = threading.Thread(target=watch, name="bucketlog-watch", daemon=True)
        thread.start()
        try:
            done.wait()
        finally:
            stop.set()
            thread.join()
        if failed:
            raise failed[0]
        return raised[0]

    def close(self) -> None:
        self._notify.close()


class _Either:
    """An event that is set when its own event or another one is set."""

    def __init__(self, other: threading.Event) -> None:
        self._own, self._other = threading.Event(), other

    def is_set(self) -> bool:
        return self._own.is_set() or self._other.is_set()

    def set(self) -> None:
        self._own.set()


class _Comparisons:
    """The content of a folder, compared repeatedly."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen = _contents(folder)

    def wait(self, timeout: float, closed: threading.Event) -> tuple[bool, bool]:
        """Return whether something changed, and False: the removal of the folder changes its content, too."""
        deadline = time.monotonic() + timeout
        while True:
            now = _contents(self._folder)
            if now != self._seen:
                self._seen = now
                return True, False
            remaining = deadline - time.monotonic()
            if remaining <= 0 or closed.wait(min(remaining, _POLL_SECONDS)):
                return False, False

    def close(self) -> None:
        """Do nothing: there are no resources."""


@cache
def _warn_of_interface(why: str) -> None:
    """Log, once in a process, that notifications cannot be used."""
    _log.warning(
        "watchfiles has another interface than bucketlog knows (%s): readers wake after up to %g s; install a version "
        "that bucketlog allows",
        why,
        _POLL_SECONDS,
    )


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)  # noqa: PTH116  (called after every wait; a Path would double the cost)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _contents(folder: str) -> set[tuple[str, int, int, int]]:
    """Return the path, inode, size and time of everything below a folder."""
    found: set[tuple[str, int, int, int]] = set()
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    stat = entry.stat()
                    found.add((entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            continue  # removed meanwhile, which the next comparison shows
    return found
