"""Histories: interleavings that break nothing, and that fail when the rule that prevents the damage is removed."""

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
    """`play` asserts a promise. `without` removes the rule that keeps it."""

    play: Callable[[Patch], None]
    without: Callable[[Patch], None]

    def is_noticed(self, patch: Patch) -> bool:
        """Return True if `play` fails without its rule. Otherwise it would prove nothing."""
        self.without(patch)
        try:
            self.play(patch)
        except (AssertionError, errors.BucketlogError, pytest.fail.Exception, KeyError):
            return True
        return False


class Histories(list[History]):
    """The histories of one module."""

    def history(self, *, without: Callable[[Patch], None]):
        """Register a function whose name and docstring describe the interleaving."""

        def register(play: Callable[[Patch], None]) -> Callable[[Patch], None]:
            self.append(History(play, without))
            return play

        return register


def named(history: History) -> str:
    return history.play.__name__
