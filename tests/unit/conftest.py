"""One storage, in memory or in a directory, and any number of processes on it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from bucketlog.storage.root import Root, open_root
from bucketlog.testing.clocks import FakeClock
from bucketlog.testing.faults import Plan, with_faults
from bucketlog_backends.local import open_local
from bucketlog_backends.memory import open_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from bucketlog.backend import Backend

_numbers = itertools.count()


class Place:
    """A storage. Each `open` is one more process on it, with faults and a clock of its own."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self.open_backend = open_backend
        self.backend = open_backend()  # without faults, to look at what is stored
        self._roots: list[Root] = []
        self.open()  # the store is made and proven before anything is counted or goes wrong

    def open(self, plan: Plan | None = None, *, read_only: bool = False) -> Root:
        clock = FakeClock(seed=len(self._roots) + 1)
        faulty = with_faults(self.open_backend())
        root = open_root(faulty, create=True, read_only=read_only, single_writer=False, sync="always", clock=clock)
        self._roots.append(root)
        if plan is not None:
            faulty.plan = plan
        return root

    def stored(self, prefix: str = "") -> list[str]:
        return [entry.key for entry in self.backend.list(prefix)]

    def close(self) -> None:
        for root in self._roots:
            root.close()
            root.backend.close()
        self.backend.close()


@pytest.fixture(params=["memory", "local"])
def place(request, tmp_path):
    if request.param == "memory":
        url = f"memory://place-{next(_numbers)}"
        made = Place(lambda: open_memory(url, {}, create=True))
    else:
        made = Place(lambda: open_local(str(tmp_path / "store"), {}, create=True))
    yield made
    made.close()
