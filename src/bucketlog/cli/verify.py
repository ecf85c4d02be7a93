"""`bucketlog verify`: check everything that is stored."""

from __future__ import annotations

from dataclasses import asdict

import typer

from bucketlog.cli.arguments import AsJson, SomeStream, StorageOptions, Url, open_to_read
from bucketlog.cli.output import print_json, print_text, say
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog verify ./events && echo all is well"""


def verify(url: Url, stream: SomeStream = None, as_json: AsJson = False, option: StorageOptions = None) -> None:
    """Read everything and check it for damage.

    Verifies checksums, offsets and ids. Exits with 1 if something is wrong, or if there is no such stream.
    """
    sound = True
    with open_to_read(url, option) as store:
        if stream is not None and stream not in store.streams():
            say(f"bucketlog: there is no stream {stream!r} in {store.url}; `bucketlog streams` lists them")
            raise typer.Exit(NO)
        for name in store.streams() if stream is None else [stream]:
            report = store.stream(name).verify()
            sound = sound and report.ok
            if as_json:
                print_json({"ok": report.ok, **asdict(report)})
                continue
            for problem in report.problems:
                print_text(f"{name!r}, partition {problem.partition!r}: {problem.what}")
            print_text(
                f"{name!r}: {'ok' if report.ok else f'{len(report.problems)} PROBLEMS'}; {report.events:,} events "
                f"in {report.commits:,} commits, {report.segments:,} segments, {report.partitions:,} partitions"
            )
    if not sound:
        raise typer.Exit(NO)
