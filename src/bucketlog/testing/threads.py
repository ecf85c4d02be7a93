"""Threads for tests: a test whose threads hang fails after a timeout, and the process still exits."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class ThreadedTests:
    """Base of test classes that start threads."""

    timeout_seconds: ClassVar[float]

    def _together(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run each task in a thread of its own and return their results; see `_join`."""
        return self._join([start(task) for task in tasks])

    def _join(self, futures: Sequence[Future[T]]) -> list[T]:
        """Wait for threads and return their results, or raise the error of one. Fail the test on a timeout."""
        if wait(futures, timeout=self.timeout_seconds).not_done:
            pytest.fail(f"a thread was still waiting after {self.timeout_seconds:g} seconds")
        errors = [error for future in futures if (error := future.exception()) is not None]
        # A broken barrier only shows that another thread failed.
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]


def start(task: Callable[[], T]) -> Future[T]:
    """Run a task in a daemon thread."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = task()
        except BaseException as err:  # noqa: BLE001  (raised again in the thread that asks for the result)
            future.set_exception(err)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future
