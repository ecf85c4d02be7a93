"""The reference page of the command line, made from the commands themselves.

python -m bucketlog.cli.reference docs/cli.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main

from bucketlog.cli.app import COMMANDS, EXAMPLE, HELP, app

_BAR = "\\|"  # what a bar is within a table
_HEAD = """\
<!-- Made by `python -m bucketlog.cli.reference docs/cli.md` from the help of the commands; a test compares. -->

# The command line

`pip install "bucketlog[cli]"` installs the program `bucketlog`. Data go to standard output, talk and progress to
standard error; `--json` prints one object a line. Every command takes the URL of a store first, and `-o KEY=VALUE` for
what the storage has to be told; every error is one line.

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
        parts.append(f"## bucketlog {name}\n")
        parts.append(f"{command.help}\n")
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        words = [one.metavar if one.required else f"[{one.metavar}]" for one in arguments]
        parts.append(_code(f"bucketlog {name} [OPTIONS] {' '.join(words)}"))
        parts.append("| | |\n|---|---|")
        parts.extend(_row(one) for one in [*arguments, *(one for one in command.params if one not in arguments)])
        parts.append("")
        parts.append(_code(COMMANDS[name][1]))
    return "\n".join(parts)


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
