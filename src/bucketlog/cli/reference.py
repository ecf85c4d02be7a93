"""The reference page of the command line, made from the commands themselves.

python -m bucketlog.cli.reference docs/cli.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main

from bucketlog.cli.app import COMMANDS, EXAMPLE, GROUPS, HELP, app

_BAR = "\\|"  # what a bar is within a table
_HEAD = """\
<!-- Made by `python -m bucketlog.cli.reference docs/cli.md` from the help of the commands; a test compares. -->

# The command line

`pip install "bucketlog[cli]"` installs the program `bucketlog`. Data go to standard output, talk and progress to
standard error; `--json` prints one object a line. Every command takes the URL of a store first, and `-o KEY=VALUE` for
what the storage has to be told; every error is one line. With the commands of an application the URL stands before the
command: `bucketlog signals URL recent`.

| exit code | |
|---|---|
| 0 | done |
| 1 | the answer is no: damage was found, or there is nothing of this name |
| 2 | wrong usage |
| 3 | it failed; the line on standard error says why, and what to do |
| 130 | Ctrl-C |
| 141 | the program that read the output has gone (as with `head`) |
"""


def reference() -> str:
    """Return the page."""
    group: Any = typer.main.get_command(app)
    parts = [_HEAD, HELP.partition("\n\n")[0] + "\n", _code(EXAMPLE)]
    for name, command in group.commands.items():
        if name in COMMANDS:
            parts += _section(f"bucketlog {name}", command, COMMANDS[name][1])
            continue
        _, example, commands = GROUPS[name]
        parts += _section(f"bucketlog {name} URL", command, example, " COMMAND …")
        for below, (_, example_below) in commands.items():
            parts += _section(f"bucketlog {name} URL {below}", command.commands[below], example_below)
    return "\n".join(parts)


def _section(call: str, command: Any, example: str, end: str = "") -> list[str]:  # noqa: ANN401  (Typer's own class)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one not in arguments]
    words = [one.metavar if one.required else f"[{one.metavar}]" for one in arguments if one.metavar not in call]
    usage = " ".join([call, *(["[OPTIONS]"] if options else []), *words])
    rows = [_row(one) for one in [*arguments, *options]]
    head = [f"{'##' if ' URL ' not in call else '###'} {call}\n", f"{command.help}\n", _code(usage + end)]
    return [*head, "| | |\n|---|---|", *rows, "", _code(example)]


def _row(parameter: Any) -> str:  # noqa: ANN401  (Typer's own class, whose module is private)
    name = parameter.metavar
    if parameter.param_type_name == "option":
        name = ", ".join(parameter.opts) + ("" if parameter.is_flag else f" {parameter.metavar}")
    cells = (f"`{name}`", f"{parameter.help}{_default(parameter)}")
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


def _default(parameter: Any) -> str:  # noqa: ANN401
    if parameter.required and parameter.param_type_name == "option":
        return " Required."
    if isinstance(parameter.show_default, str):
        return f" Default: {parameter.show_default}."
    if not parameter.show_default or parameter.default in (None, False):
        return ""
    return f" Default: `{getattr(parameter.default, 'value', parameter.default)}`."


def _code(text: str) -> str:
    return f"```sh\n{text}\n```\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
