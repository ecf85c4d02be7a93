"""`bucketlog signals URL import-workspace`: import a workspace of metaspn-store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bucketlog.cli.arguments import AsJson, SingleWriter, StorageOptions
from bucketlog.cli.output import print_json, print_table, print_text, say
from bucketlog.cli.progress import ByteProgress
from bucketlog.cli.run import INTERRUPTED
from bucketlog.cli.signals.arguments import open_to_write

EXAMPLE = """\
bucketlog signals ./workspace import-workspace ./workspace
bucketlog signals s3://acme-events/workspace import-workspace ./workspace"""

_STREAMS = ("signals", "emissions")


def import_workspace(
    context: typer.Context,
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="The workspace of metaspn-store: the directory that contains `store`."),
    ],
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Import the signals and emissions that metaspn-store wrote to a workspace.

    URL may be that workspace itself or another one. The files are not changed. The first of several records with one id
    counts, and records that are already stored are skipped, so you can run the command again to resume after an
    interruption or to import new records. The import stops at a line that is not a record; all records before it are
    imported. An unfinished last line is left for the next run. Prints the number of records read.

    If URL is another workspace, checkpoints, documents and everything that bucketlog itself wrote to PATH are not
    copied.
    """
    _check(path)
    try:
        with (
            ByteProgress(f"import {path}") as progress,
            open_to_write(context, option, single_writer=single_writer, progress=progress.part()) as store,
        ):
            taken = store.import_workspace(path, progress=progress.part())
    except KeyboardInterrupt:
        say("interrupted; the records read before are stored; run the same command again to resume")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        for file in taken:
            print_json({"file": file.file, "records": file.records})
    elif taken:
        rows = []
        for stream in _STREAMS:
            counts = [file.records for file in taken if file.file.startswith(f"{stream}/")]
            rows.append([stream, len(counts), sum(counts)])
        print_table(["stream", "files", "records"], rows)
    else:
        print_text(f"nothing new in {path}")


def _check(path: str) -> None:
    """Check that a path is a workspace of metaspn-store."""
    workspace = Path(path)
    hint = "'PATH'"
    if "://" in path:
        msg = f"{path} is not a local directory; a workspace in a bucket is imported when it is opened"
        raise typer.BadParameter(msg, param_hint=hint)
    if not workspace.is_dir():
        msg = f"{path} {'is not a directory' if workspace.exists() else 'does not exist'}"
        raise typer.BadParameter(msg, param_hint=hint)
    folders = [workspace / "store" / stream for stream in _STREAMS]
    if not any(folder.is_dir() for folder in folders):
        msg = f"{path} is not a workspace of metaspn-store: it contains neither store/signals nor store/emissions"
        if any((workspace / stream).is_dir() for stream in _STREAMS):
            msg = f"{path} is the store inside a workspace; use the workspace: {workspace.absolute().parent}"
        raise typer.BadParameter(msg, param_hint=hint)
