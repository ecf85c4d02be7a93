"""Groups of commands that work on one location: `bucketlog GROUP URL COMMAND`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from typer.core import TyperGroup


class Commands(NamedTuple):
    """The parts of a group.

    Attributes:
        take_url: The callback that stores the URL for the commands; its docstring is the group's help.
        example: The example in the group's help.
        commands: The commands and their examples, in the order of the help.
    """

    take_url: Callable[..., None]
    example: str
    commands: dict[str, tuple[Callable[..., None], str]]


class UrlFirst(TyperGroup):
    """Explains where the URL belongs if it is missing, or follows the command as it does elsewhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  (its class moved between versions)
        """Parse the URL, and leave the command and its arguments."""
        first, second = [*args, "", ""][:2]
        if first in self.commands and second not in self.commands:
            if second in ctx.help_option_names:
                return super().parse_args(ctx, ["URL", *args])  # help needs no real URL
            url = "URL" if second.startswith("-") else second or "URL"
            ctx.fail(f"The URL comes before the command: {ctx.command_path} {url} {first}")
        if first and not first.startswith("-") and not second:
            ctx.fail(f"Missing command for {first!r}: {', '.join(self.commands)}")
        return super().parse_args(ctx, args)
