"""`bucketlog tail`: print the newest events, then new ones as they arrive."""

from __future__ import annotations

import contextlib
import select
import sys
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from bucketlog.cli.arguments import (
    After,
    AsJson,
    Source,
    StorageOptions,
    StreamName,
    Subject,
    Tags,
    Types,
    Url,
    open_to_read,
)
from bucketlog.cli.output import print_events
from bucketlog.cli.run import PIPE_CLOSED

EXAMPLE = """\
bucketlog tail ./events orders --type order.placed
bucketlog tail ./events orders -n 0 --json | jq --unbuffered .data.total"""

_LOOK_SECONDS = 0.5


def tail(
    url: Url,
    stream: StreamName,
    n: Annotated[
        int,
        typer.Option("-n", min=0, metavar="N", help="Start with the newest N events; ignored with --after."),
    ] = 10,
    after: After = None,
    type_: Types = None,
    subject: Subject = None,
    source: Source = None,
    tag: Tags = None,
    poll: Annotated[
        float,
        typer.Option(min=0.01, metavar="SECONDS", help="Polling interval, for storage without change notifications."),
    ] = 1.0,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print the newest events, then new ones as they arrive.

    Prints the oldest first, and runs until Ctrl-C or until its output is closed. The stream need not exist yet.
    """
    with open_to_read(url, option) as store:
        followed = store.stream(stream)
        if after is None:
            after = followed.cursor()
            newest = followed.recent(n, types=type_ or None, subject=subject, source=source, tags=tag or None)
            # The tail prints events that were stored after the cursor was taken.
            known = [event for event in newest if (event.offset or 0) < after.get(event.partition or "", 0)]
            print_events(known[::-1], as_json=as_json)
            sys.stdout.flush()
        with (
            followed.tail(
                after,
                poll=poll,
                types=type_ or None,
                subjects=None if subject is None else [subject],
                sources=None if source is None else [source],
                tags=tag or None,
            ) as events,
            _OutputGuard(events.close) as guard,
        ):
            for event in events:
                print_events([event], as_json=as_json)
                sys.stdout.flush()
    if guard.found_closed:
        raise typer.Exit(PIPE_CLOSED)


class _OutputGuard(contextlib.AbstractContextManager["_OutputGuard"]):
    """A thread that notices when our output is closed, even while there is nothing to write."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self.found_closed = False
        self._on_closed = on_closed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bucketlog-output-guard", daemon=True)

    def __enter__(self) -> _OutputGuard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        watched = select.poll()
        try:
            watched.register(sys.stdout, 0)  # poll always reports errors and hang-ups
        except (OSError, ValueError):  # no file descriptor, so it cannot be closed from outside
            return
        while not self._ended.wait(_LOOK_SECONDS):
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0)):
                self.found_closed = True
                self._on_closed()
                return
