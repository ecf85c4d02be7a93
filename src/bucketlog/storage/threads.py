"""Threads of one store handle: concurrent requests, and syncs that may wait a moment."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from bucketlog.errors import BucketlogError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class RequestPool(ThreadPoolExecutor):
    """An executor whose calls may themselves use it.

    A call that one of its own threads submits runs at once in that thread. If all threads waited for a free one, the
    pool would deadlock.
    """

    def __init__(self, threads: int) -> None:
        self._own = threading.local()
        super().__init__(threads, thread_name_prefix="bucketlog", initializer=self._mark)

    def _mark(self) -> None:
        self._own.here = True

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call in a thread of the pool: in this one if it belongs to the pool."""
        if not getattr(self._own, "here", False):
            return super().submit(fn, *args, **kwargs)
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as err:  # noqa: BLE001  (the future raises it)
            future.set_exception(err)
        return future


class Syncer:
    """Syncs keys within an interval. Its thread runs only while there are keys to sync."""

    def __init__(
        self, sync: Callable[[str], None], interval_seconds: float, failed: Callable[[BucketlogError], None]
    ) -> None:
        self._sync, self._interval_seconds, self._failed = sync, interval_seconds, failed
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._keys: set[str] = set()

    def soon(self, key: str) -> None:
        """Sync a key within the interval; if that fails, `failed` is called with the error."""
        with self._lock:
            self._keys.add(key)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bucketlog-sync", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Sync the waiting keys now, and end the thread."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._closing.wait(self._interval_seconds)
            with self._lock:
                keys, self._keys = self._keys, set()
                if not keys:
                    self._thread = None
                    return
            for key in sorted(keys):
                try:
                    with suppress(NotFoundError):  # sealed, compacted and removed since, so durable elsewhere
                        self._sync(key)
                except BucketlogError as err:
                    self._failed(err)


def map_ahead(executor: Executor, call: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Yield `call(item)` in the order of the items, running up to `ahead` calls at a time."""
    running: deque[Future[R]] = deque()
    try:
        for item in items:
            running.append(executor.submit(call, item))
            if len(running) >= ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
