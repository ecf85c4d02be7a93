"""Ours and the peer's in turn, several rounds in one run; the ratio is the median of the rounds' ratios."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7


@dataclass(frozen=True)
class Result:
    """One comparison: medians of both sides in `unit`; `ratio` says how many times as fast ours is."""

    name: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    target: str

    def met(self) -> bool | None:
        """Whether the ratio (or our figure, where the target names one) reaches the target."""
        kind, _, value = self.target.partition(" ")
        if kind == "ratio":
            return self.ratio >= float(value)
        if kind == "at-least":
            return self.ours >= float(value)
        return self.ours <= float(value) if kind == "at-most" else None


def compare(
    name: str,
    *,
    ours: Callable[[], int],
    theirs: Callable[[], int] | None,
    peer: str,
    unit: str = "events/s",
    target: str = "",
    rounds: int = ROUNDS,
) -> Result:
    """Time two callables that return how many things they did, ABAB…, after one warm-up of each.

    What a callable needs afresh is made by its attribute `prepare`, outside the time that is measured.
    """
    _rate(ours)
    if theirs is not None:
        _rate(theirs)
    rates = [(_rate(ours), _rate(theirs) if theirs is not None else float("nan")) for _ in range(rounds)]
    return Result(
        name,
        peer,
        unit,
        statistics.median(a for a, _ in rates),
        statistics.median(b for _, b in rates),
        statistics.median(a / b for a, b in rates),
        target,
    )


def _rate(call: Callable[[], int]) -> float:
    getattr(call, "prepare", lambda: None)()
    gc.collect()
    started = time.perf_counter()
    done = call()
    return done / (time.perf_counter() - started)


def show(results: list[Result], *, as_json: bool) -> None:
    """Print a table on standard output, or one JSON object a line."""
    if as_json:
        for one in results:
            print(json.dumps(asdict(one) | {"met": one.met()}))
        return
    print(f"{'benchmark':44} {'ours':>12} {'peer':>12} {'ratio':>7}  target     ", "")
    for one in results:
        met = one.met()
        mark = "" if met is None else "met" if met else "MISSED"
        theirs = "" if one.theirs != one.theirs else f"{one.theirs:12,.0f}"
        ratio = "" if one.ratio != one.ratio else f"{one.ratio:7.2f}"
        print(
            f"{one.name:44} {one.ours:12,.0f} {theirs:>12} {ratio:>7}  {one.target:16} {mark:7} {one.unit}; {one.peer}"
        )
    sys.stdout.flush()
