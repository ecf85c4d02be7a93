"""`bucketlog signals URL import-workspace`: what metaspn-store wrote, taken in."""

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
        str, typer.Argument(metavar="PATH", help="The workspace of metaspn-store: the directory that holds its store.")
    ],
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Take in the signals and emissions that metaspn-store wrote to a workspace.

    URL may be that workspace itself or any other. The files are left as they are. Of several records with one id the
    first counts, and one that is stored already is passed over; so the same command goes on after an interruption, and
    takes in what was added since. A line that is no record stops it, with all before it taken in; an unfinished last
    line is left for the next time. Shows how many records it read.

    Elsewhere checkpoints, documents, and what bucketlog itself wrote to PATH are left behind.
    """
    _check(path)
    try:
        with (
            ByteProgress(f"import {path}") as progress,
            open_to_write(context, option, single_writer=single_writer, progress=progress.part()) as store,
        ):
            taken = store.import_workspace(path, progress=progress.part())
    except KeyboardInterrupt:
        say("interrupted; what was read before is stored; run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        for one in taken:
            print_json({"file": one.file, "records": one.records})
    elif taken:
        rows = []
        for stream in _STREAMS:
            counts = [one.records for one in taken if one.file.startswith(f"{stream}/")]
            rows.append([stream, len(counts), sum(counts)])
        print_table(["stream", "files", "records"], rows)
    else:
        print_text(f"nothing new in {path}")


def _check(path: str) -> None:
    """Make sure that this is a workspace of metaspn-store."""
    workspace = Path(path)
    hint = "'PATH'"
    if "://" in path:
        msg = f"{path} is no directory of this machine; a workspace that lies in a bucket is taken in when it is opened"
        raise typer.BadParameter(msg, param_hint=hint)
    if not workspace.is_dir():
        msg = f"{path} is {'no directory' if workspace.exists() else 'not there'}"
        raise typer.BadParameter(msg, param_hint=hint)
    folders = [workspace / "store" / stream for stream in _STREAMS]
    if not any(folder.is_dir() for folder in folders):
        msg = f"{path} is no workspace of metaspn-store: it holds neither store/signals nor store/emissions"
        if any((workspace / stream).is_dir() for stream in _STREAMS):
            msg = f"{path} is the store within a workspace; give the workspace: {workspace.absolute().parent}"
        raise typer.BadParameter(msg, param_hint=hint)
