"""Group commit: appends that arrive while a commit is in flight go out together as the next one.

A caller that finds no commit in flight leads: it takes the requests that are waiting and commits them. Then the first
request that arrived in the meantime leads the next group. This module knows nothing of storage.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from bucketlog.errors import OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bucketlog.commit import Commit
    from bucketlog.log.commit_rule import Request


class GroupCommit:
    """Gathers the requests of several threads into groups.

    Args:
        commit: Commits a group: sets `commit` or `error` of each of its requests, or raises, which is the outcome of
            all those that it did not settle.
        bytes_max: The most that the lines of one group may take; a request that takes more goes alone.
    """

    def __init__(self, commit: Callable[[list[Request]], None], *, bytes_max: int) -> None:
        self._commit = commit
        self._bytes_max = bytes_max
        self._mutex = threading.Lock()  # guards the two below
        self._queue: deque[Request] = deque()
        self._leading = False

    def append(self, request: Request) -> Commit:
        """Commit a request, alone or in a group; return when it is durable, or raise its error."""
        with self._mutex:
            if self._leading:
                request.done = threading.Event()
            else:
                self._leading = True
            self._queue.append(request)
        if request.done is not None:
            try:
                request.done.wait()
            except BaseException:  # Ctrl-C: leave the queue in order for the others
                self._withdraw(request)
                raise
        if request.commit is None and request.error is None:
            self._lead()
        if request.error is not None:
            raise request.error
        assert request.commit is not None  # the leader settles every request of its group
        return request.commit

    def _withdraw(self, request: Request) -> None:
        with self._mutex:
            leads = request.done is not None and request.done.is_set()
            if not leads:
                with contextlib.suppress(ValueError):  # a leader has taken it already
                    self._queue.remove(request)
        if leads and request.commit is None and request.error is None:
            self._lead()

    def _lead(self) -> None:
        """Take what waits, commit it, and let the first of those who arrived meanwhile lead the next group."""
        with self._mutex:
            group = [self._queue.popleft()]
            size = len(group[0].lines)
            while self._queue and size + len(self._queue[0].lines) <= self._bytes_max:
                size += len(self._queue[0].lines)
                group.append(self._queue.popleft())
        try:
            self._commit(group)
        except BaseException as err:  # noqa: BLE001  (each caller of the group gets it, the leader too)
            for request in group:
                if request.commit is None and request.error is None:
                    request.error = err if request is group[0] else _copied(err)
        finally:
            with self._mutex:
                if self._queue:
                    following = self._queue[0].done
                else:
                    following, self._leading = None, False
            if following is not None:
                following.set()
            for request in group[1:]:
                if request.done is not None:
                    request.done.set()


def _copied(err: BaseException) -> BaseException:
    """Return an exception for another thread; raised twice, one traceback would hold both."""
    if not isinstance(err, Exception):
        return OutcomeUnknownError("append: the thread that was committing this group was interrupted")
    copied = type(err).__new__(type(err), *err.args)
    copied.args = err.args
    copied.__dict__.update(err.__dict__)
    copied.__cause__ = err
    return copied
