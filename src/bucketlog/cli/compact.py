"""`bucketlog compact`: merge segments into fewer, smaller ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from bucketlog import Compaction
from bucketlog.cli.arguments import (
    AsJson,
    SingleWriter,
    SomeStream,
    StorageOptions,
    Url,
    open_to_maintain,
    open_to_read,
)
from bucketlog.cli.output import print_json, print_table, print_text, say
from bucketlog.cli.progress import ByteProgress
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog compact ./events --dry-run
bucketlog compact s3://acme-events/prod orders"""

_COUNTS_BEFORE = ("segments_before", "bytes_before")
_COUNTS = ("events", "segments_before", "segments_after", "bytes_before", "bytes_after")


def compact(
    url: Url,
    stream: SomeStream = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be merged, without doing it.")] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Merge segments into compacted ones, which take less space and are faster to search.

    The newest segment is closed and included. Readers, writers and other compactions can run at the same time. You can
    interrupt the command at any time; finished work is kept. The merged segments stay stored until `vacuum` removes
    them.

    Prints segments and bytes before and after, one line per stream, or per partition if you name a stream; streams and
    partitions with nothing to merge are left out. With --json, prints one line for every partition. Exits with 1 if
    there is no such stream.
    """
    done: dict[str, list[Compaction]] = {}
    opened = open_to_read(url, option) if dry_run else open_to_maintain(url, option, single_writer=single_writer)
    with opened as store:
        streams = store.streams()
        if stream is not None and stream not in streams:
            say(f"bucketlog: there is no stream {stream!r} in {store.url}; `bucketlog streams` lists them")
            raise typer.Exit(NO)
        names = streams if stream is None else [stream]
        try:
            with ByteProgress(f"compact {store.url}") as progress:
                if progress.is_shown and not dry_run:
                    # Listing everything first costs little compared to reading it, and gives the bar its total.
                    progress.expect(
                        sum(merge.bytes_before for name in names for merge in store.stream(name).compact(dry_run=True))
                    )
                for name in names:
                    done[name] = store.stream(name).compact(dry_run=dry_run, progress=progress.part())
        finally:  # report the finished work even if the rest failed
            counts = _COUNTS_BEFORE if dry_run else _COUNTS
            if as_json:
                for name, partitions in done.items():
                    for merge in partitions:
                        print_json({"stream": name, "partition": merge.partition, **_of(merge, counts)})
            else:
                _print(done, counts, by_partition=stream is not None)
    if not as_json and not any(merge.segments_before for partitions in done.values() for merge in partitions):
        print_text("nothing to compact")


def _of(merge: Compaction, counts: Sequence[str]) -> dict[str, int]:
    return {name: getattr(merge, name) for name in counts}


def _sum(merges: Iterable[Compaction], counts: Sequence[str]) -> list[int]:
    return [sum(column) for column in zip(*(_of(merge, counts).values() for merge in merges), strict=True)]


def _print(done: dict[str, list[Compaction]], counts: Sequence[str], *, by_partition: bool) -> None:
    """Print a line for each stream or partition with something to merge, and the total of several."""
    changed = {name: [merge for merge in partitions if merge.segments_before] for name, partitions in done.items()}
    everything = [merge for partitions in changed.values() for merge in partitions]
    rows: list[list[object]]
    if by_partition:
        titles = ["partition"]
        rows = [[merge.partition, *_of(merge, counts).values()] for merge in everything]
        total: list[object] = ["total"]
    else:
        titles = ["stream", "partitions"]
        rows = [
            [name, len(partitions), *_sum(partitions, counts)] for name, partitions in changed.items() if partitions
        ]
        total = ["total", len(everything)]
    if len(rows) > 1:
        rows.append([*total, *_sum(everything, counts)])
    if rows:
        print_table([*titles, *(title.replace("_", " ") for title in counts)], rows)
