"""Every kind of store that we ship passes the suite of the event store."""

import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from tests.servers import Server

import bucketlog
from bucketlog.testing import OpenStore, StoreSuite


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


class TestS3(StoreSuite):
    row, server = "s3", "moto"

    @pytest.fixture
    def open_store(self, s3_url: str, s3_bucket: dict[str, object]) -> OpenStore:
        return partial(bucketlog.open, f"{s3_url}/a/root", storage_options=s3_bucket)


class TestS3OnRealServers(StoreSuite):
    row, server = "s3", "real_server"

    @pytest.fixture
    def open_store(self, real_server: Server, real_url: str) -> OpenStore:
        return partial(bucketlog.open, real_url, storage_options=real_server.options)


class TestS3fsClientOnRealServers(StoreSuite):
    row, server = "s3fs", "real_server"

    @pytest.fixture
    def open_store(self, real_server: Server, real_url: str) -> OpenStore:
        return partial(bucketlog.open, real_url, storage_options=real_server.options, client="s3fs")


class TestS3fs(StoreSuite):
    row, server = "s3fs", "moto"

    @pytest.fixture
    def open_store(self, s3_url: str, s3_bucket: dict[str, object]) -> OpenStore:
        filesystem = fsspec.filesystem(
            "s3",
            endpoint_url=s3_bucket["endpoint_url"],
            key=s3_bucket["access_key_id"],
            secret=s3_bucket["secret_access_key"],
        )
        return partial(bucketlog.open, DirFileSystem(f"{s3_url.removeprefix('s3://')}/a/root", fs=filesystem))


class TestFsspecLocal(StoreSuite):
    """Asked for by way of fsspec, a directory is opened by the local backend, which is safer."""

    row, server = "fsspec local", ""
    appends_each = 25
    forks = True

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        filesystem = DirFileSystem(str(tmp_path / "store"), fs=fsspec.filesystem("file", auto_mkdir=True))
        return partial(bucketlog.open, filesystem, single_writer=True)


class TestFsspecMemory(StoreSuite):
    row, server = "fsspec memory", ""
    several_writers = False

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        memory = fsspec.filesystem("memory")
        folder = f"/{uuid.uuid4()}"
        yield partial(bucketlog.open, DirFileSystem(folder, fs=memory), single_writer=True)
        with suppress(FileNotFoundError):
            memory.rm(folder, recursive=True)
