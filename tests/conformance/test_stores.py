"""Every kind of store that we ship passes the suite of the event store."""

import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.servers import Server

import bucketlog
from bucketlog.testing import OpenStore, StoreSuite


def fsspec_in(path: str, protocol: str, **options: object):
    """Return a filesystem of fsspec whose root is a path of another one."""
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.dirfs import DirFileSystem

    return DirFileSystem(path, fs=fsspec.filesystem(protocol, **options))


class TestMemory(StoreSuite):
    row, server = "memory", ""
    appends_each = 25

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return partial(bucketlog.open, f"memory://{uuid.uuid4()}")


class TestLocal(StoreSuite):
    row, server = "local", ""
    appends_each = 25
    forks = True

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return partial(bucketlog.open, tmp_path / "store")


@pytest.mark.usefixtures("proven_once")
class TestS3(StoreSuite):
    row, server = "s3", "suite_server"

    @pytest.fixture
    def open_store(self, suite_server: Server, suite_url: str) -> OpenStore:
        return partial(bucketlog.open, suite_url, storage_options=suite_server.options)


@pytest.mark.usefixtures("proven_once")
class TestS3fsClient(StoreSuite):
    row, server = "s3fs", "suite_server"

    @pytest.fixture
    def open_store(self, suite_server: Server, suite_url: str) -> OpenStore:
        return partial(bucketlog.open, suite_url, storage_options=suite_server.options, client="s3fs")


@pytest.mark.usefixtures("proven_once")
class TestFsspecS3fs(StoreSuite):
    row, server = "fsspec s3fs", "quick_server"

    @pytest.fixture
    def open_store(self, quick_server: Server, quick_url: str) -> OpenStore:
        filesystem = fsspec_in(
            f"{quick_url.removeprefix('s3://')}/a/root",
            "s3",
            endpoint_url=quick_server.options["endpoint_url"],
            key=quick_server.options["access_key_id"],
            secret=quick_server.options["secret_access_key"],
        )
        return partial(bucketlog.open, filesystem)


class TestFsspecLocal(StoreSuite):
    """Asked for by way of fsspec, a directory is opened by the local backend, which is safer."""

    row, server = "fsspec local", ""
    appends_each = 25
    forks = True

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        filesystem = fsspec_in(str(tmp_path / "store"), "file", auto_mkdir=True)
        return partial(bucketlog.open, filesystem, single_writer=True)


class TestFsspecMemory(StoreSuite):
    row, server = "fsspec memory", ""
    several_writers = False

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        folder = f"/{uuid.uuid4()}"
        filesystem = fsspec_in(folder, "memory")
        yield partial(bucketlog.open, filesystem, single_writer=True)
        with suppress(FileNotFoundError):
            filesystem.fs.rm(folder, recursive=True)
