"""`bucketlog recent`: print the newest events."""

from __future__ import annotations

from typing import Annotated

import typer

from bucketlog.cli.arguments import (
    AsJson,
    Since,
    Source,
    StorageOptions,
    StreamName,
    Subject,
    Tags,
    Types,
    Until,
    Url,
    open_to_read,
)
from bucketlog.cli.output import print_events

EXAMPLE = "bucketlog recent ./events orders -n 5 --subject o-17"


def recent(
    url: Url,
    stream: StreamName,
    n: Annotated[int, typer.Option("-n", "--limit", min=0, metavar="N", help="Print at most N events.")] = 10,
    type_: Types = None,
    subject: Subject = None,
    source: Source = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print the newest events, newest first.

    Events are ordered by their time, not by their offset.
    """
    with open_to_read(url, option) as store:
        found = store.stream(stream).recent(
            n,
            types=type_ or None,
            subject=subject,
            source=source,
            tags=tag or None,
            since=since,
            until=until,
        )
        print_events(found, as_json=as_json)
