"""Ours and the peer's in turn, several rounds in one run; the ratio is the median of the rounds' ratios."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        name: What is measured.
        peer: What it is measured against, or how.
        unit: Of both figures.
        ours: The median of the rounds; None if it could not be measured, and `note` says why.
        theirs: The same for the peer; None if there is none, or it is missing, and `note` says why.
        ratio: How many times as fast ours is, whether the figures are rates or times.
        target: `ratio 0.9`, `at-least 1000000` or `at-most 200`; empty where nothing was promised.
        note: What is missing and why, or what is counted.
    """

    name: str
    peer: str
    unit: str
    ours: float | None
    theirs: float | None = None
    ratio: float | None = None
    target: str = ""
    note: str = ""

    def met(self) -> bool | None:
        """Whether the ratio (or our figure, where the target names one) reaches the target; None if unknown."""
        kind, _, value = self.target.partition(" ")
        figure = self.ratio if kind == "ratio" else self.ours
        if not self.target or figure is None:
            return None
        return figure <= float(value) if kind == "at-most" else figure >= float(value)


@dataclass(frozen=True)
class Work(Generic[T]):
    """What to time: `run` gets what `prepare` made, which is not timed, and returns how many things it did."""

    prepare: Callable[[], T]
    run: Callable[[T], int]


def compare(
    name: str,
    *,
    ours: Callable[[], int] | Work[Any],
    theirs: Callable[[], int] | Work[Any] | None,
    peer: str,
    unit: str = "events/s",
    target: str = "",
    rounds: int = ROUNDS,
    note: str = "",
) -> Result:
    """Compare the rates of two pieces of work, ABAB…, after one warm-up of each."""
    _rate(ours)
    if theirs is None:
        return Result(name, peer, unit, statistics.median(_rate(ours) for _ in range(rounds)), target=target, note=note)
    _rate(theirs)
    rates = [(_rate(ours), _rate(theirs)) for _ in range(rounds)]
    return Result(
        name,
        peer,
        unit,
        statistics.median(a for a, _ in rates),
        statistics.median(b for _, b in rates),
        statistics.median(a / b for a, b in rates),
        target,
        note,
    )


def compare_times(
    name: str,
    *,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    peer: str,
    unit: str = "ms",
    target: str = "",
    rounds: int = ROUNDS,
    note: str = "",
) -> Result:
    """Compare two calls that time themselves and return figures where less is better, ABAB…."""
    times = [(ours(), theirs()) for _ in range(rounds)]
    return Result(
        name,
        peer,
        unit,
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
        target,
        note,
    )


def _rate(work: Callable[[], int] | Work[Any]) -> float:
    if isinstance(work, Work):
        given = work.prepare()
        gc.collect()
        started = time.perf_counter()
        done = work.run(given)
    else:
        gc.collect()
        started = time.perf_counter()
        done = work()
    return done / (time.perf_counter() - started)
