"""The command line: each command parses its arguments, calls the public API and prints the result."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; `docs/cli.md` lists the exit codes.

    Args:
        args: The arguments after the program's name; those of this process by default.
    """
    _open_closed_streams()
    try:
        import rich  # noqa: F401  (without it, Typer fails later, while printing its help)

        from bucketlog.cli.app import app
        from bucketlog.cli.run import run
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f'bucketlog: {err.name} is missing; run: pip install "bucketlog[cli]"', file=sys.stderr)  # noqa: T201
        return 2
    return run(app, args)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that the parent process closed, as with `>&-`."""
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_WRONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))
