"""Workspaces on each kind of storage."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from tests.conftest import STAND_IN

from bucketlog.signals import SignalStore


class Place(NamedTuple):
    """A workspace that was not opened yet, and how to open it."""

    kind: str
    workspace: Any
    options: dict[str, object]


@pytest.fixture(params=["file", "memory", *STAND_IN, "minio", "ceph_rgw"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "file":
        return Place("file", request.getfixturevalue("tmp_path") / "workspace", {})
    if request.param == "memory":
        return Place("memory", f"memory://signals-{uuid.uuid4()}/workspace", {})
    request.getfixturevalue("proven_once")
    server = request.getfixturevalue(request.param)
    return Place("s3", server.url(f"signals-{uuid.uuid4()}/workspace"), dict(server.options))


@pytest.fixture
def open_store(place: Place) -> Iterator[Callable[..., SignalStore]]:
    """Return a function that opens the workspace; each call returns a new handle."""
    opened = []

    def open_one(**options: object) -> SignalStore:
        opened.append(SignalStore(place.workspace, **{**place.options, **options}))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def store(open_store: Callable[..., SignalStore]) -> SignalStore:
    return open_store()
