"""`bucketlog stats`: count what is stored."""

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

    Prints one line per stream, or per partition if you name a stream. The compacted share of segments and bytes is
    shown separately. Exits with 1 if there is no such stream.
    """
    with open_to_read(url, option) as store:
        if stream is None:
            found = [store.stream(name).stats() for name in store.streams()]
            rows = [
                {
                    "stream": stats.stream,
                    "partition_by": stats.partition_by,
                    "partitions": len(stats.partitions),
                    "events": stats.events,
                    **_stored(stats),
                }
                for stats in found
            ]
        else:
            rows = [
                {
                    "stream": stream,
                    "partition": stats.partition,
                    "start": stats.start,
                    "next_offset": stats.next_offset,
                    "events": stats.events,
                    **_stored(stats),
                }
                for stats in store.stream(stream).stats().partitions
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
