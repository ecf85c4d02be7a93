"""Measure bucketlog against its peers: `python -m benchmarks.run [--size quick] [NAME …]`.

Each line is one comparison, both sides in the same run, on the same disk and the same events. Files are written below
`$BUCKETLOG_BENCH_DIR`, or below the current directory, which should be on a real disk (/tmp may be in memory).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bucketlog.errors import BucketlogError

from . import appending, figure, replaying, report, s3, scaling, signals, starting
from .fresh import ProbeError
from .sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .harness import Result
    from .sizes import Size

    Subject = Callable[[Path, Size], Iterator[Result]]

FOLDER = Path(os.environ.get("BUCKETLOG_BENCH_DIR", Path.cwd()))

curves: list[dict[str, object]] = []  # what the figure is drawn from

SUBJECTS: dict[str, Subject] = {
    "import": starting.imports,
    "append": appending.single,
    "batch": appending.batched,
    "ids": appending.random_ids,
    "replay": replaying.replays,
    "scaling": partial(scaling.scaling, curves=curves),
    "signals": signals.signals,
    "s3": s3.s3,
}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--size", choices=SIZES, default="full", help="how much is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--figure", type=Path, metavar="FILE.svg", help="draw the scaling curves in this file")
    parser.add_argument("--events-max", type=int, metavar="N", help="leave larger logs out of the scaling curves")
    options = parser.parse_args()
    if unknown := set(options.names) - SUBJECTS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")

    size, facts = SIZES[options.size], report.machine(FOLDER)
    if options.events_max is not None:
        size = size.up_to(options.events_max)
        if not size.curve:
            parser.error(f"no log of the scaling curves has so few events: --events-max {options.events_max}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # folders are removed then, and servers stopped
    results: list[Result] = []
    failed: list[str] = []
    print(report.told(facts), report.HEADER, sep="\n\n", flush=True)
    for name in options.names or SUBJECTS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".bench-") as folder:
            try:
                for result in SUBJECTS[name](Path(folder), size):
                    results.append(result)
                    report.show_rows([result])
            except (ProbeError, BucketlogError) as err:  # the other benchmarks are worth having
                failed.append(name)
                print(f"… {name} FAILED: {err}", file=sys.stderr, flush=True)
        print(f"… {name} took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"\n{report.summary(results, largest=max(size.curve))}")
    if options.json:
        report.write_json(options.json, results, curves, facts=facts, size=size.name)
    if options.figure and curves:
        options.figure.write_text(figure.draw(curves, about=report.told(facts)), encoding="utf-8")
    if failed:
        sys.exit(f"failed, and not measured to the end: {', '.join(failed)}")


if __name__ == "__main__":
    main()
