"""What a program pays before it does anything."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from .fresh import environment
from .harness import Result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .sizes import Size

_PROGRAM = "import time; t = time.perf_counter(); import bucketlog; print((time.perf_counter() - t) * 1000)"


def imports(folder: Path, size: Size) -> Iterator[Result]:
    """`import bucketlog` in fresh processes."""
    took = [
        float(
            subprocess.run(
                [sys.executable, "-c", _PROGRAM],
                cwd=folder,
                env=environment(),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(1 + size.rounds)
    ][1:]  # the first one compiles
    yield Result("import bucketlog", "median of fresh processes", "ms", statistics.median(took), target="at-most 150")
