"""Marks that follow from the fixtures of a test, so that `-m "not servers"` and `-n 2 --dist loadgroup` work.

In a parallel run all tests of one server run in one process, so each server is started once. Tests that measure time or
memory share a process too, so that none of them disturbs another.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SERVERS = ("ceph_rgw", "minio", "moto", "own_server")
TIMEOUT_SECONDS = 300
_MEASURED = tuple(Path(__file__).parent / name for name in ("unit", "simulation/test_histories.py"))

# Declared here for an installation that lacks the plugins, such as one with nothing but `bucketlog[testing]`.
_MARKS_OF_PLUGINS = (
    "no_cover: is not measured for coverage",
    "timeout(seconds): how long it may take",
    "xdist_group(name): runs in one process with others of this name",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in _MARKS_OF_PLUGINS:
        config.addinivalue_line("markers", line)


# First, as pytest selects by marks in this hook, and xdist reads the groups in it.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if " at 0x" in item.nodeid:
            msg = f"{item.nodeid}: an address is another one in each process; give the parameter an id"
            raise pytest.UsageError(msg)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))
        servers = servers_of(item)
        # Measuring takes about as long as testing, so it is done for the quick tests of the core alone.
        if servers or item.get_closest_marker("slow") or not any(map(item.path.is_relative_to, _MEASURED)):
            item.add_marker("no_cover")
        if "local" in parameters_of(item):
            item.add_marker("disk")
        if servers:
            item.add_marker("servers")
            item.add_marker(pytest.mark.xdist_group(servers[0]))
        elif item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.xdist_group("timed"))


def servers_of(item: pytest.Item) -> list[str]:
    """Return the servers that a test asks for: by their fixtures, or as the parameter of one that chooses."""
    asked = {*getattr(item, "fixturenames", ()), *parameters_of(item)}
    return [server for server in SERVERS if server in asked]


def parameters_of(item: pytest.Item) -> list[str]:
    """Return the parameters of a test that are texts, such as the name of a storage or a server."""
    if not hasattr(item, "callspec"):
        return []
    return [value for value in item.callspec.params.values() if isinstance(value, str)]
