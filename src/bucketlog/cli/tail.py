"""`bucketlog tail`: the newest events, then those that come."""

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
        int, typer.Option("-n", min=0, metavar="N", help="Begin with the newest N; nothing to do with --after.")
    ] = 10,
    after: After = None,
    type_: Types = None,
    subject: Subject = None,
    source: Source = None,
    tag: Tags = None,
    poll: Annotated[
        float,
        typer.Option(
            min=0.01, metavar="SECONDS", help="The longest wait between two looks, where the storage cannot wake us."
        ),
    ] = 1.0,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print the newest events, then those that come.

    Oldest first, until Ctrl-C. The stream need not exist yet. Ends too when the program that reads its output has gone.
    """
    with open_to_read(url, option) as store:
        followed = store.stream(stream)
        if after is None:
            after = followed.cursor()
            newest = followed.recent(n, types=type_ or None, subject=subject, source=source, tags=tag or None)
            # What came after the cursor was taken is the tail's to print.
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
    """Notices that the reader of our output has gone while there is nothing to write, in a thread of its own."""

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
            watched.register(sys.stdout, 0)  # errors and hang-ups are told unasked
        except (OSError, ValueError):  # no file descriptor: nobody can go away
            return
        while not self._ended.wait(_LOOK_SECONDS):
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0)):
                self.found_closed = True
                self._on_closed()
                return
