"""The table on standard output, the same as JSON with what the machine was, and as Markdown for docs/performance.md.

`python -m benchmarks.report bench.json` prints the Markdown of a saved run.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bucketlog

from .harness import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SIGNS = {"at-least": ">=", "at-most": "<="}
_PROMISED_EVENTS = 10_000_000
HEADER = f"{'what':72} {'ours':>12} {'peer':>12} {'ratio':>7}  {'target':>12} {'':8} unit; peer or how it is counted"


def machine(folder: Path) -> dict[str, object]:
    """Describe the machine: figures mean little without it."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "bucketlog": bucketlog.__version__,
    }


def told(facts: dict[str, object]) -> str:
    """Return a machine's facts in one line."""
    gigabytes = int(str(facts["memory_bytes"])) / 1024**3
    return (
        f"{facts['processor']}, {facts['cores']} cores, {gigabytes:.0f} GiB; {facts['filesystem']}; {facts['system']}; "
        f"{facts['python']}; bucketlog {facts['bucketlog']}"
    )


def show(results: Iterable[Result], *, as_json: bool = False) -> None:
    """Print results as they come: a table, or one JSON object for each line."""
    if as_json:
        for one in results:
            print(json.dumps(as_object(one)), flush=True)
        return
    print(HEADER, flush=True)
    show_rows(results)


def show_rows(results: Iterable[Result]) -> None:
    """Print lines of the table without its header."""
    for one in results:
        print(row(one), flush=True)


def row(one: Result) -> str:
    """Return one line of the table."""
    met = one.met()
    mark = "" if not one.target else "unknown" if met is None else "met" if met else "MISSED"
    about = "; ".join(filter(None, (one.unit, one.peer, one.note)))
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
    figures = f"{_figure(one.ours):>12} {_figure(one.theirs):>12} {ratio:>7}  {_bound(one):>12}"
    return f"{one.name:72} {figures} {mark:8} {about}".rstrip()


def summary(results: Sequence[Result], *, largest: int) -> str:
    """Return how many targets were met, and which were not; `largest` is the size of the largest log."""
    judged = [one for one in results if one.target]
    missed = [one for one in judged if one.met() is False]
    unknown = [one for one in judged if one.met() is None]
    lines = [f"{len(judged) - len(missed) - len(unknown)} of {len(judged)} targets met"]
    lines += [f"  MISSED: {_titled(one)}" for one in missed]
    lines += [f"  not measured: {_titled(one)}: {one.note}" for one in unknown]
    if largest < _PROMISED_EVENTS:
        lines.append(f"The targets are for logs of {_PROMISED_EVENTS:,} events; the largest one here had {largest:,}.")
    return "\n".join(lines)


def as_object(one: Result) -> dict[str, object]:
    """Return a line of the table for JSON."""
    return asdict(one) | {"met": one.met()}


def write_json(
    path: Path,
    results: Sequence[Result],
    curves: Sequence[dict[str, object]],
    *,
    facts: dict[str, object],
    size: str,
) -> None:
    """Write everything measured: `results` as in the table, `curves` as one object for each log."""
    whole = {
        "format": "bucketlog.bench/1",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": size,
        "machine": facts,
        "results": [as_object(one) for one in results],
        "curves": list(curves),
    }
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def markdown(measured: dict[str, Any]) -> str:
    """Return a run that was read from its JSON as a table for the docs."""
    lines = ["| work | ours | peer | ratio | target |", "|---|---|---|---|---|"]
    for found in measured["results"]:
        found.pop("met")
        one = Result(**found)
        met = one.met()
        about = one.peer if one.theirs is None else f"{_figure(one.theirs)} ({one.peer})"
        bound = _bound(one) if met is None else f"{_bound(one)}, {'met' if met else '**missed**'}"
        ours = one.note if one.ours is None else f"{_figure(one.ours)} {one.unit}"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        lines.append(f"| {one.name} | {ours} | {about} | {ratio} | {bound} |")
    return "\n".join([*lines, "", f"{told(measured['machine'])}, {measured['finished'][:10]}."])


def _titled(one: Result) -> str:
    return f"{one.name} ({one.peer})" if one.peer else one.name


def _bound(one: Result) -> str:
    kind, _, value = one.target.partition(" ")
    return "" if not kind else f"{value} x" if kind == "ratio" else f"{_SIGNS[kind]} {_figure(float(value))}"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """Return the kind of filesystem that a folder is on, if Linux reports it."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown filesystem"
    fields = (line.split() for line in mounts.read_text(encoding="utf-8").splitlines())
    around = [(len(where), kind) for _, where, kind, *_ in fields if folder.resolve().is_relative_to(where)]
    return max(around)[1]


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
