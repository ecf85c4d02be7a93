"""What a history is: an interleaving that breaks nothing, and that is noticed when the rule against it is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bucketlog import errors

if TYPE_CHECKING:
    from collections.abc import Callable

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class History:
    """`play` asserts a promise, `without` takes the rule out that keeps it."""

    play: Callable[[Patch], None]
    without: Callable[[Patch], None]

    def is_noticed(self, patch: Patch) -> bool:
        """Tell whether it fails without its rule; else it would prove nothing."""
        self.without(patch)
        try:
            self.play(patch)
        except (AssertionError, errors.BucketlogError, pytest.fail.Exception, KeyError):
            return True
        return False


class Histories(list[History]):
    """The histories of one module."""

    def history(self, *, without: Callable[[Patch], None]):
        """Add a function; its name and docstring tell the interleaving."""

        def register(play: Callable[[Patch], None]) -> Callable[[Patch], None]:
            self.append(History(play, without))
            return play

        return register


def named(one: History) -> str:
    return one.play.__name__
