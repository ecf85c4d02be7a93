"""`bucketlog compact`: fewer, smaller segments that are quick to search."""

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be merged.")] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Merge segments into compacted ones, which take less room and are quick to search.

    The newest segment is closed and included. Others may write, read and compact meanwhile, and it does no harm to
    interrupt it: what was done until then counts. What was merged stays stored until a vacuum removes it.

    Shows what was merged, and what it became: a line for each stream, or for each partition of one, where there was
    something to do; with --json always a line for each partition. Exit code 1 when there is no stream of this name.
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
                    # Listing all beforehand costs little beside reading it, and then the bar knows where it ends.
                    progress.expect(
                        sum(one.bytes_before for name in names for one in store.stream(name).compact(dry_run=True))
                    )
                for name in names:
                    done[name] = store.stream(name).compact(dry_run=dry_run, progress=progress.part())
        finally:  # what was done counts, whatever became of the rest
            counts = _COUNTS_BEFORE if dry_run else _COUNTS
            if as_json:
                for name, partitions in done.items():
                    for one in partitions:
                        print_json({"stream": name, "partition": one.partition, **_of(one, counts)})
            else:
                _print(done, counts, by_partition=stream is not None)
    if not as_json and not any(one.segments_before for partitions in done.values() for one in partitions):
        print_text("nothing to compact")


def _of(one: Compaction, counts: Sequence[str]) -> dict[str, int]:
    return {name: getattr(one, name) for name in counts}


def _sum(found: Iterable[Compaction], counts: Sequence[str]) -> list[int]:
    return [sum(column) for column in zip(*(_of(one, counts).values() for one in found), strict=True)]


def _print(done: dict[str, list[Compaction]], counts: Sequence[str], *, by_partition: bool) -> None:
    """Print a line for each stream or partition in which there was something to do, and the total of several."""
    changed = {name: [one for one in partitions if one.segments_before] for name, partitions in done.items()}
    everything = [one for partitions in changed.values() for one in partitions]
    rows: list[list[object]]
    if by_partition:
        titles = ["partition"]
        rows = [[one.partition, *_of(one, counts).values()] for one in everything]
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
