"""What the tests of a backend have in common."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest

from bucketlog.backend import (
    AppendBackend,
    Backend,
    Condition,
    Content,
    Entry,
    Version,
    Watch,
)
from bucketlog.clock import SystemClock
from bucketlog.errors import CapabilityError, ConflictError, OutcomeUnknownError
from bucketlog.storage.root import open_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bucketlog.storage.root import Root

T = TypeVar("T")
BackendT = TypeVar("BackendT", bound=Backend)
_EVERY_BYTE = bytes(range(256))
_LONG_PART = "%C3%BC" * 42 + "abc"  # 255 bytes, the longest part that bucketlog writes


class BackendTests:
    """Base of the parts of `BackendSuite`."""

    writers: ClassVar[int]
    race_rounds: ClassVar[int]
    many_keys: ClassVar[int]
    big_object_bytes: ClassVar[int]
    timeout_seconds: ClassVar[float]
    blocked_seconds: ClassVar[float]

    def _fill(self, backend: Backend, keys: Iterable[str]) -> None:
        """Put one byte under each key, with several threads."""
        left = iter(list(keys))
        taking = threading.Lock()

        def fill() -> None:
            while True:
                with taking:
                    key = next(left, None)
                if key is None:
                    return
                backend.put(key, b"x")

        self._together([fill] * self.writers)

    def _listed(self, backend: Backend, prefix: str, *, start_after: str = "", delimiter: bool = False) -> list[Entry]:
        """List to the end, and fail when there is none: a page handed out again and again would go on forever."""
        limit = 2 * self.many_keys + 1_000
        entries = list(itertools.islice(backend.list(prefix, start_after=start_after, delimiter=delimiter), limit))
        assert len(entries) < limit, f"list of {prefix!r} does not come to an end"
        return entries

    def _together(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run tasks in a thread each, and return their results; fails when one does not end in time."""
        return self._join([_start(task) for task in tasks])

    def _join(self, futures: Sequence[Future[T]]) -> list[T]:
        """Wait for threads, and return their results or raise the error of one."""
        if wait(futures, timeout=self.timeout_seconds).not_done:
            pytest.fail(f"a thread was still waiting after {self.timeout_seconds:g} seconds")
        errors = [error for future in futures if (error := future.exception()) is not None]
        # A broken barrier only says that another one failed.
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]

    def _race(self, handles: Sequence[BackendT], attempt: Callable[[BackendT, int, bytes], T]) -> list[list[T]]:
        """Let every handle try at the same moment, round by round; return what came of it, by round and handle."""
        barrier = threading.Barrier(len(handles))

        def run(writer: int) -> list[T]:
            results = []
            try:
                for number in range(self.race_rounds):
                    barrier.wait(self.timeout_seconds)
                    results.append(attempt(handles[writer], number, _record(number * len(handles) + writer)))
            except BaseException:
                barrier.abort()
                raise
            return results

        by_writer = self._together([partial(run, writer) for writer in range(len(handles))])
        return [list(one_round) for one_round in zip(*by_writer, strict=True)]

    def _count_under_lock(self, handles: Sequence[AppendBackend]) -> int:
        """Count all rounds of a race with a plain variable, under the lock: it falls short if two were inside."""
        count = 0

        def add_one(handle: AppendBackend, _number: int, _data: bytes) -> None:
            nonlocal count
            with handle.lock("p/"):
                before = count
                time.sleep(0.0002)  # lets whoever the lock does not keep out come in between
                count = before + 1

        self._race(handles, add_one)
        return count

    def _check_kept_out(self, handle: AppendBackend, *, shared: bool = False) -> Future[None]:
        """Check that another thread does not get the lock while this one holds it; it does when that is over."""
        taking = _start(partial(_take_lock, handle, shared=shared))
        assert wait([taking], timeout=self.blocked_seconds).not_done, "a lock was taken that somebody else held"
        return taking

    def _settle(self, watch: Watch) -> bool:
        """Take the wake-ups that come late for what was done before; tell whether they came to an end."""
        return self._together([lambda: any(not watch.wait(0.1) for _ in range(30))])[0]


def _refusals(*, declared: bool) -> tuple[type[Exception], ...]:
    return (ConflictError,) if declared else (ConflictError, CapabilityError)


def _refuses_several_writers(backend: Backend, *needed: str) -> bool:
    """Tell whether an ability is not declared: then a store opens for several writers with `CapabilityError` only."""
    if all(getattr(backend.capabilities, ability) for ability in needed):
        return False
    with pytest.raises(CapabilityError, match="single_writer=True"):
        _open_store(backend, single_writer=False)
    return True


def _open_store(backend: Backend, *, single_writer: bool) -> Root:
    return open_root(
        backend, create=True, read_only=False, single_writer=single_writer, sync="always", clock=SystemClock()
    )


# -- what a race leaves ------------------------------------------------------------------------------------------------

_RECORD_BYTES = 512


def _record(number: int) -> bytes:
    return (f"{number:011},".encode() * _RECORD_BYTES)[: _RECORD_BYTES - 1] + b"\n"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one writer of a race was told: a version, an error that says no, or neither."""

    data: bytes
    version: Version | None
    unknown: bool = False


def _try_put(backend: Backend, key: str, data: bytes, condition: Condition) -> _Attempt:
    try:
        return _Attempt(data, backend.put(key, data, if_version=condition))
    except ConflictError:
        return _Attempt(data, None)
    except OutcomeUnknownError:
        return _Attempt(data, None, unknown=True)


def _check_one_winner(attempts: Sequence[_Attempt], stored: Content) -> None:
    winners = [attempt for attempt in attempts if attempt.version is not None]
    assert len(winners) <= 1, f"{len(winners)} of {len(attempts)} writers were told that they won"
    if winners:
        assert stored == Content(winners[0].data, winners[0].version or "")
    else:
        unknown = [attempt.data for attempt in attempts if attempt.unknown]
        assert stored.data in unknown, "every writer was told that it lost"


# -- threads and sources -----------------------------------------------------------------------------------------------


class _ExpectedError(Exception):
    pass


def _needs(backend: Backend, ability: str) -> None:
    """Skip a test of an ability that is not declared; the other side is tested for itself."""
    if not getattr(backend.capabilities, ability):
        pytest.skip(f"{backend.name} does not declare {ability}")


def _appending(backend: Backend) -> AppendBackend:
    _needs(backend, "append")
    assert isinstance(backend, AppendBackend)
    return backend


def _take_lock(handle: AppendBackend, *, folder: str = "p/", shared: bool = False) -> None:
    with handle.lock(folder, shared=shared):
        pass


def _start(task: Callable[[], T]) -> Future[T]:
    """Run a task in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(task())
        except BaseException as err:  # noqa: BLE001  (handed to whoever asks for the result)
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future
