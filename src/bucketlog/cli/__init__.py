"""The command line: each command parses, calls the public surface and prints."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; see `docs/cli.md` for what each one means.

    Args:
        args: What stands behind the program's name; that of this process unless given.
    """
    _open_closed_streams()
    try:
        import rich  # noqa: F401  (without it, Typer fails later, in the middle of its help)

        from bucketlog.cli.app import app
        from bucketlog.cli.run import run
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f'bucketlog: {err.name} is missing; run: pip install "bucketlog[cli]"', file=sys.stderr)  # noqa: T201
        return 2
    return run(app, args)


def _open_closed_streams() -> None:
    """Put something in the place of what was closed by whoever started us, as with `>&-`."""
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_WRONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))
