"""The settings that the tests and the compose files share, read from docker/.env as compose does."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


@cache
def settings() -> Mapping[str, str]:
    """Return the settings by name."""
    lines = (DOCKER / ".env").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return MappingProxyType({name: value for name, _, value in pairs})


def in_ci() -> bool:
    """Return True in a CI run, where a missing server is an error."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
