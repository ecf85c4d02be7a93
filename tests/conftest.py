"""Servers that speak S3, for all tests that need one: moto's, MinIO, Ceph RGW, and one that the environment names."""

from __future__ import annotations

import itertools
import os
import uuid
from typing import TYPE_CHECKING

import pytest
from tests import parallel, reports, thorough
from tests.servers import MissingServerError, Server, keep
from tests.servers import minio as minio_server
from tests.servers.facts import measure
from tests.servers.own import VARIABLE, from_environment
from tests.servers.settings import in_ci

from bucketlog.storage import root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.client import BaseClient

    from bucketlog.backend import Backend
    from bucketlog.clock import Clock
    from bucketlog.storage.probe import Proof

OWN = ["own_server"] if os.environ.get(VARIABLE) else []
# moto stands in where MinIO is missing. Both pass and skip the same tests, and each row takes a minute or more.
STAND_IN = [] if minio_server.is_there() else ["moto"]
_numbers = itertools.count()
_proofs: dict[tuple[str, str], Proof] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks of this folder's modules."""
    for plugin in (parallel, reports, thorough):
        config.pluginmanager.register(plugin)


def _kept(name: str, config: pytest.Config) -> Iterator[Server]:
    try:
        with keep(name) as server:
            config.stash[reports.VERSIONS][name] = server.version
            yield server
    except MissingServerError as reason:
        if in_ci():
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def moto(pytestconfig: pytest.Config) -> Iterator[Server]:
    """Return moto's server, which is there always."""
    yield from _kept("moto", pytestconfig)


@pytest.fixture(scope="session")
def minio(pytestconfig: pytest.Config) -> Iterator[Server]:
    """Return a MinIO; without one its tests are skipped, and fail in CI."""
    yield from _kept("minio", pytestconfig)


@pytest.fixture(scope="session")
def ceph_rgw(pytestconfig: pytest.Config) -> Iterator[Server]:
    """Return a Ceph with its S3 gateway; without one its tests are skipped, and fail in CI."""
    yield from _kept("ceph_rgw", pytestconfig)


@pytest.fixture(scope="session")
def own_server() -> Server:
    """Return the server that the environment names."""
    server = from_environment(os.environ)
    if server is None:
        pytest.skip(f"{VARIABLE} is not set")
    return server


@pytest.fixture(params=["minio", "ceph_rgw", *OWN])
def real_server(request: pytest.FixtureRequest) -> Server:
    """Return each of the servers that stand for what users have."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["moto", "minio", "ceph_rgw", *OWN])
def any_server(request: pytest.FixtureRequest) -> Server:
    """Return each of the servers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[*STAND_IN, "minio", "ceph_rgw", *OWN])
def suite_server(request: pytest.FixtureRequest) -> Server:
    """Return each of the servers that the conformance suites run on."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[*STAND_IN, "minio"])
def quick_server(request: pytest.FixtureRequest) -> Server:
    """Return the quickest of the servers, where one is enough."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def real_url(real_server: Server) -> Iterator[str]:
    """Return a URL on `real_server` under which nothing is, for each test."""
    yield from _url_on(real_server)


@pytest.fixture
def suite_url(suite_server: Server) -> Iterator[str]:
    """Return a URL on `suite_server` under which nothing is, for each test."""
    yield from _url_on(suite_server)


@pytest.fixture
def quick_url(quick_server: Server) -> Iterator[str]:
    """Return a URL on `quick_server` under which nothing is, for each test."""
    yield from _url_on(quick_server)


def _url_on(server: Server) -> Iterator[str]:
    path = f"bucketlog-test-{uuid.uuid4()}"
    yield server.url(path)
    if not server.ours:
        server.remove(path)


@pytest.fixture
def proven_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Probe a server through a backend once in a run; a probe is 42 requests, and not what these tests are about."""
    probe = root.probe
    server = ", ".join(parallel.servers_of(request.node))

    def probe_once(backend: Backend, clock: Clock) -> Proof:
        key = (server, backend.name)
        if key not in _proofs:
            _proofs[key] = probe(backend, clock)
        _proofs[key].apply(backend)
        return _proofs[key]

    monkeypatch.setattr(root, "probe", probe_once)


@pytest.fixture(scope="session")
def facts_of(request: pytest.FixtureRequest) -> Callable[[Server], dict[str, str]]:
    """Return what measures a server, once in a run; all that was measured is printed at the end."""
    columns = request.config.stash[reports.FACTS]

    def measure_once(server: Server) -> dict[str, str]:
        title = f"{server.name} {server.version}".strip()
        if title not in columns:
            columns[title] = measure(server)
        return columns[title]

    return measure_once


@pytest.fixture(scope="session")
def moto_url(moto: Server) -> str:
    """Return the endpoint of moto's server."""
    return moto.endpoint_url


@pytest.fixture(scope="session")
def moto_s3(moto: Server) -> BaseClient:
    """Return boto3's client of moto's server, to make buckets and to see what is stored."""
    return moto.client()


@pytest.fixture
def s3_url(moto_s3: BaseClient) -> str:
    """Return the URL of a bucket on moto's server that is new and empty for each test."""
    bucket = f"bucketlog-test-{next(_numbers)}"
    moto_s3.create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture
def s3_bucket(moto: Server, s3_url: str) -> dict[str, object]:
    """Return the options with which `s3_url` is opened."""
    del s3_url  # asked for so that there is a bucket
    return dict(moto.options)
