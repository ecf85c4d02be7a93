"""Running a command: how errors, Ctrl-C and a closed pipe end it."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import ParamSpec

import typer

from bucketlog.cli.output import say
from bucketlog.errors import BucketlogError

NO = 1
USAGE = 2
FAILED = 3
INTERRUPTED = 130  # 128 + SIGINT, and below 128 + SIGPIPE: as a shell reports them for other programs
PIPE_CLOSED = 141

P = ParamSpec("P")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Return a command that ends with an exit code and a one-line message instead of a traceback."""

    @functools.wraps(command)
    def run_guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            try:
                command(*args, **kwargs)
            finally:
                sys.stdout.flush()  # here, where a failure can still be reported
        except BucketlogError as err:
            say(f"bucketlog: {err}")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(PIPE_CLOSED) from None
        except OSError as err:  # from our own files and streams; the storage's errors are bucketlog's classes
            _discard_stdout()
            say(f"bucketlog: {err}")
            raise typer.Exit(FAILED) from None

    return run_guarded


def run(app: typer.Typer, args: Sequence[str] | None) -> int:
    """Run an app of guarded commands; return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a character must not cause an error
    try:
        app(args=args, prog_name="bucketlog")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _discard_stdout() -> None:
    """Redirect stdout to the null device, so that flushing it when the interpreter exits cannot fail."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
