"""The program, assembled from its commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

import bucketlog
from bucketlog.cli import (
    append,
    checkpoints,
    compact,
    conformance,
    doctor,
    import_,
    read,
    recent,
    signals,
    snapshots,
    stats,
    streams,
    tail,
    truncate,
    vacuum,
    verify,
)
from bucketlog.cli.group import Commands, UrlFirst
from bucketlog.cli.output import print_text
from bucketlog.cli.run import guarded

HELP = (
    "An append-only event log in a directory, a bucket or memory.\n\nExit codes: 0 success; 1 the answer is no (damage "
    "found, nothing with this name); 2 wrong usage; 3 failure, explained on stderr; 130 interrupted (Ctrl-C); 141 the "
    "output was closed (as by `head`)."
)
EXAMPLE = """\
bucketlog append ./events orders '{"total": 42}' --type order.placed
bucketlog tail ./events orders"""

# Commands and their examples, in the order of the help.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "import": (import_.import_, import_.EXAMPLE),
    "append": (append.append, append.EXAMPLE),
    "read": (read.read, read.EXAMPLE),
    "tail": (tail.tail, tail.EXAMPLE),
    "recent": (recent.recent, recent.EXAMPLE),
    "streams": (streams.streams, streams.EXAMPLE),
    "stats": (stats.stats, stats.EXAMPLE),
    "verify": (verify.verify, verify.EXAMPLE),
    "compact": (compact.compact, compact.EXAMPLE),
    "vacuum": (vacuum.vacuum, vacuum.EXAMPLE),
    "truncate": (truncate.truncate, truncate.EXAMPLE),
    "checkpoints": (checkpoints.checkpoints, checkpoints.EXAMPLE),
    "snapshots": (snapshots.snapshots, snapshots.EXAMPLE),
    "doctor": (doctor.doctor, doctor.EXAMPLE),
    "conformance": (conformance.conformance, conformance.EXAMPLE),
}
# The commands of applications; here the URL comes before the command.
GROUPS: dict[str, Commands] = {"signals": signals.SIGNALS}

app = typer.Typer(
    name="bucketlog",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _epilog(example: str) -> str:
    """Return an example for the end of a command's help, with its line breaks kept and its markup escaped."""
    lines = example.replace("[", r"\[").splitlines()
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def _print_version(wanted: bool) -> None:
    if wanted:
        print_text(f"bucketlog {bucketlog.__version__}")
        raise typer.Exit


@app.callback(help=HELP, epilog=_epilog(EXAMPLE))
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare the options of the program itself."""


def _texts(documented: Callable[..., None], example: str) -> dict[str, Any]:
    """Return a command's help, made from its docstring and its example."""
    paragraphs = [text.replace("\n", " ") for text in inspect.cleandoc(documented.__doc__ or "").split("\n\n")]
    return {"help": "\n\n".join(paragraphs), "short_help": paragraphs[0], "epilog": _epilog(example)}


def _add(to: typer.Typer, commands: dict[str, tuple[Callable[..., None], str]]) -> None:
    for name, (command, example) in commands.items():
        to.command(name, **_texts(command, example))(guarded(command))


_add(app, COMMANDS)
for _name, _group in GROUPS.items():
    _commands = typer.Typer(cls=UrlFirst, no_args_is_help=True, rich_markup_mode="rich")
    _commands.callback(**_texts(_group.take_url, _group.example))(_group.take_url)
    _add(_commands, _group.commands)
    app.add_typer(_commands, name=_name)
