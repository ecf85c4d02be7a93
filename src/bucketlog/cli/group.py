"""Groups of commands that share the place they work on: `bucketlog GROUP URL COMMAND`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from typer.core import TyperGroup


class Commands(NamedTuple):
    """What a group is made of.

    Attributes:
        take_url: The callback: its docstring is the group's help, and it keeps the URL for the commands.
        example: Of the group's help.
        commands: In the order of the help, each with its example.
    """

    take_url: Callable[..., None]
    example: str
    commands: dict[str, tuple[Callable[..., None], str]]


class UrlFirst(TyperGroup):
    """Says where the URL belongs, when it was forgotten or stands behind the command as it does elsewhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  (its class moved between versions)
        """Take the URL, and leave the command and what follows it."""
        first, second = [*args, "", ""][:2]
        if first in self.commands and second not in self.commands:
            if second in ctx.help_option_names:
                return super().parse_args(ctx, ["URL", *args])  # which help does not look at
            url = "URL" if second.startswith("-") else second or "URL"
            ctx.fail(f"The URL comes before the command: {ctx.command_path} {url} {first}")
        if first and not first.startswith("-") and not second:
            ctx.fail(f"Say what to do with {first!r}: {', '.join(self.commands)}")
        return super().parse_args(ctx, args)
