"""Running a probe in a fresh process, and watching its memory from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LOOK_SECONDS = 0.01
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProbeError(Exception):
    """A probe failed; the message is what it wrote."""


def environment() -> dict[str, str]:
    """Return the environment of an installed program: bytecode is kept, so no module is compiled again."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_fresh(probe: str, **arguments: object) -> dict[str, Any]:
    """Run a probe of `probes.py`, and return what it found.

    The result also has `peak_bytes`, the peak of all resident memory (shared libraries, mapped files and heap), and
    `anonymous_bytes`, the highest value seen for the heap alone; 0 where the system does not report it.

    Raises:
        ProbeError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.probes", probe, json.dumps(arguments)]
    anonymous = 0
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while True:
            try:
                output, said = process.communicate(timeout=_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                anonymous = max(anonymous, _anonymous_bytes(process.pid))
            else:
                break
    if process.returncode:
        msg = f"probe {probe} of {arguments.get('url')} failed:\n{said.strip()}"
        raise ProbeError(msg)
    return {**json.loads(output), "anonymous_bytes": anonymous}


def _anonymous_bytes(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES if len(fields) > 2 else 0
