"""`bucketlog stats`: how much there is."""

from __future__ import annotations

import typer

from bucketlog.cli.arguments import AsJson, SomeStream, StorageOptions, Url, open_to_read
from bucketlog.cli.output import print_json, print_table, say
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog stats ./events
bucketlog stats ./events orders --json | jq .events"""

_COUNTS = ("segments", "bytes", "compacted_segments", "compacted_bytes")


def stats(url: Url, stream: SomeStream = None, as_json: AsJson = False, option: StorageOptions = None) -> None:
    """Count events, segments and bytes.

    A line for each stream, or for each partition of one; of the segments and bytes, how many are compacted. Exit code 1
    when there is no stream of this name.
    """
    with open_to_read(url, option) as store:
        if stream is None:
            found = [store.stream(name).stats() for name in store.streams()]
            rows = [
                {
                    "stream": one.stream,
                    "partition_by": one.partition_by,
                    "partitions": len(one.partitions),
                    "events": one.events,
                    **_stored(one),
                }
                for one in found
            ]
        else:
            rows = [
                {
                    "stream": stream,
                    "partition": one.partition,
                    "start": one.start,
                    "next_offset": one.next_offset,
                    "events": one.events,
                    **_stored(one),
                }
                for one in store.stream(stream).stats().partitions
            ]
            if not rows:
                say(f"bucketlog: there is no stream {stream!r} in {store.url}; `bucketlog streams` lists them")
                raise typer.Exit(NO)
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_table([title.replace("_", " ") for title in rows[0]], [list(row.values()) for row in rows])


def _stored(stats: object) -> dict[str, int]:
    return {count: getattr(stats, count) for count in _COUNTS}
