"""What others do with the same events: one module for each peer, used as its documentation recommends.

A peer that is not installed, or does not start, is missing; the table says why.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bucketlog import Event

ALL = ("sqlite", "eventsourcing", "umadb", "deltalake")


class MissingPeerError(Exception):
    """A peer cannot be measured here; the message is one line that says why."""


class Peer(Protocol):
    """A log of events in a folder of its own."""

    label: str  # its name, version and settings, for the table

    def append(self, events: Sequence[Event]) -> None:
        """Append events in one transaction; return when they are as durable as the peer makes them."""
        ...

    def replay(self) -> int:
        """Read all events in order, their data decoded; return how many there are."""
        ...

    def close(self) -> None:
        """Release files, connections and servers."""
        ...


def open_peer(name: str, folder: Path) -> Peer:
    """Open a peer on a new folder.

    Raises:
        MissingPeerError: It is not installed, or does not start.
    """
    try:
        module = import_module(f".{name}", __name__)
    except ImportError as err:
        msg = f"{name} is not installed ({err}); `make bench` installs it"
        raise MissingPeerError(msg) from err
    folder.mkdir(parents=True)
    opened: Peer = module.open_peer(folder)
    return opened
