"""What the parts of `BackendSuite` share: attributes, races, and small helpers."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest

from bucketlog.backend import AppendBackend, Backend, Content
from bucketlog.clock import SystemClock
from bucketlog.errors import CapabilityError, ConflictError, OutcomeUnknownError
from bucketlog.storage.root import open_root
from bucketlog.testing.threads import ThreadedTests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bucketlog.backend import Condition, Entry, Version
    from bucketlog.storage.root import Root

T = TypeVar("T")
BackendT = TypeVar("BackendT", bound=Backend)

EVERY_BYTE = bytes(range(256))
RECORD_BYTES = 512


class BackendTests(ThreadedTests):
    """Base of the parts of `BackendSuite`, which documents the attributes and defines the fixtures."""

    writers: ClassVar[int]
    race_rounds: ClassVar[int]
    many_keys: ClassVar[int]
    big_object_bytes: ClassVar[int]
    blocked_seconds: ClassVar[float]

    def _fill(self, backend: Backend, keys: Iterable[str]) -> None:
        """Put one byte under each key, from several threads."""
        remaining = iter(list(keys))
        mutex = threading.Lock()

        def fill() -> None:
            while True:
                with mutex:
                    key = next(remaining, None)
                if key is None:
                    return
                backend.put(key, b"x")

        self._together([fill] * self.writers)

    def _listed(self, backend: Backend, prefix: str, *, start_after: str = "", delimiter: bool = False) -> list[Entry]:
        """Return a whole listing. Fail if it does not end, as when a backend repeats a page."""
        limit = 2 * self.many_keys + 1_000
        entries = list(itertools.islice(backend.list(prefix, start_after=start_after, delimiter=delimiter), limit))
        assert len(entries) < limit, f"list of {prefix!r} does not end"
        return entries

    def _race(self, handles: Sequence[BackendT], attempt: Callable[[BackendT, int, bytes], T]) -> list[list[T]]:
        """Run `attempt(handle, round, record)` for all handles at once, round by round.

        Returns the results by round, then by handle.
        """
        barrier = threading.Barrier(len(handles))

        def run(writer: int) -> list[T]:
            results = []
            try:
                for number in range(self.race_rounds):
                    barrier.wait(self.timeout_seconds)
                    results.append(attempt(handles[writer], number, race_record(number * len(handles) + writer)))
            except BaseException:
                barrier.abort()
                raise
            return results

        by_writer = self._together([partial(run, writer) for writer in range(len(handles))])
        return [list(results) for results in zip(*by_writer, strict=True)]


# -- races -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RaceAttempt:
    """The outcome of one writer's attempt in a race: a version if it won, otherwise lost or unknown."""

    data: bytes
    version: Version | None
    unknown: bool = False


def race_record(number: int) -> bytes:
    """Return `RECORD_BYTES` bytes that no other number gives."""
    return (f"{number:011},".encode() * RECORD_BYTES)[: RECORD_BYTES - 1] + b"\n"


def try_put(backend: Backend, key: str, data: bytes, condition: Condition) -> RaceAttempt:
    """Put once and return the outcome instead of raising."""
    try:
        return RaceAttempt(data, backend.put(key, data, if_version=condition))
    except ConflictError:
        return RaceAttempt(data, None)
    except OutcomeUnknownError:
        return RaceAttempt(data, None, unknown=True)


def check_one_winner(attempts: Sequence[RaceAttempt], stored: Content) -> None:
    """Check that exactly one attempt is stored: the one that won, or one of unknown outcome if none did."""
    winners = [attempt for attempt in attempts if attempt.version is not None]
    assert len(winners) <= 1, f"put returned to {len(winners)} of {len(attempts)} writers: more than one won"
    if winners:
        assert stored == Content(winners[0].data, winners[0].version or "")
    else:
        unknown = [attempt.data for attempt in attempts if attempt.unknown]
        assert stored.data in unknown, "every writer got ConflictError, so none won"


# -- capabilities ------------------------------------------------------------------------------------------------------


def needs(backend: Backend, capability: str) -> None:
    """Skip the test if the backend does not declare a capability. Another test covers that case."""
    if not getattr(backend.capabilities, capability):
        pytest.skip(f"{backend.name} does not declare {capability}")


def appending(backend: Backend) -> AppendBackend:
    """Return the backend if it declares `append`; skip the test otherwise."""
    needs(backend, "append")
    assert isinstance(backend, AppendBackend)
    return backend


def refuses_several_writers(backend: Backend, *needed: str) -> bool:
    """Return False if all needed capabilities are declared; otherwise check that a store requires a single writer."""
    if all(getattr(backend.capabilities, capability) for capability in needed):
        return False
    with pytest.raises(CapabilityError, match="single_writer=True"):
        make_store(backend, single_writer=False)
    return True


def make_store(backend: Backend, *, single_writer: bool) -> Root:
    """Open a store on a backend, creating it if needed."""
    return open_root(
        backend, create=True, read_only=False, single_writer=single_writer, sync="always", clock=SystemClock()
    )
