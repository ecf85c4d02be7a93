"""The command line: each command parses, calls the public surface and prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; see `docs/cli.md` for what each one means.

    Args:
        args: What stands behind the program's name; that of this process unless given.
    """
    try:
        from bucketlog.cli.app import app
        from bucketlog.cli.run import run
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f'bucketlog: {err.name} is missing; run: pip install "bucketlog[cli]"', file=sys.stderr)  # noqa: T201
        return 2
    if sys.stdout is None:  # closed by whoever started us: `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (open for as long as the process is)
    return run(app, args)
