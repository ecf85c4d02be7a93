"""Doing things ahead of time: a window of calls that run while the ones before them are being used."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

T = TypeVar("T")
R = TypeVar("R")


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
