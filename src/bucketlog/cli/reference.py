"""The reference page of the command line, generated from the commands.

python -m bucketlog.cli.reference docs/cli.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main

from bucketlog.cli.app import COMMANDS, EXAMPLE, GROUPS, HELP, app

_BAR = "\\|"  # an escaped bar inside a table
_HEAD = """\
<!-- Generated from the commands' help by `python -m bucketlog.cli.reference docs/cli.md`; a test checks it. -->

# The command line

`pip install "bucketlog[cli]"` installs the program `bucketlog`. Data goes to standard output, messages and progress go
to standard error; `--json` prints one object per line. Every command takes the URL of a store first, and options for
the storage as `-o KEY=VALUE`. Every error is one line. For the commands of an application the URL comes before the
command: `bucketlog signals URL recent`.

| exit code | |
|---|---|
| 0 | success |
| 1 | the answer is no: damage was found, or there is nothing with this name |
| 2 | wrong usage |
| 3 | failure; the line on standard error explains it and says what to do |
| 130 | interrupted (Ctrl-C) |
| 141 | the output was closed (as by `head`) |
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
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param not in arguments]
    words = [arg.metavar if arg.required else f"[{arg.metavar}]" for arg in arguments if arg.metavar not in call]
    usage = " ".join([call, *(["[OPTIONS]"] if options else []), *words])
    rows = [_row(param) for param in [*arguments, *options]]
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
