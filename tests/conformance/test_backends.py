"""Every backend that we ship passes the suite, and so does each wrapper of `bucketlog.testing` around one."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers import Server

from bucketlog.backend import Backend
from bucketlog.testing import BackendSuite, PowerCutDisk, with_faults
from bucketlog_backends.fsspec import open_fsspec
from bucketlog_backends.local import open_local
from bucketlog_backends.memory import open_memory
from bucketlog_backends.s3 import open_s3

from .dict_backend import DictBackend, Root


class TestDict(BackendSuite):
    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        root = Root()
        return lambda: DictBackend(root)


class TestFaultsWithoutAPlan(BackendSuite):
    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        root = Root()
        return lambda: with_faults(DictBackend(root))


class TestDiskWithoutAPowerCut(BackendSuite):
    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        root = Root()
        return PowerCutDisk(lambda: DictBackend(root)).open


class TestMemory(BackendSuite):
    row, server = "memory", ""

    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        url = f"memory://{uuid.uuid4()}"
        return lambda: open_memory(url, {}, create=True)


class TestLocal(BackendSuite):
    row, server = "local", ""

    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Callable[[], Backend]:
        url = (tmp_path / "store").as_uri()
        return lambda: open_local(url, {}, create=True)


class TestS3(BackendSuite):
    row, server = "s3", "suite_server"

    @pytest.fixture
    def open_backend(self, suite_server: Server, suite_url: str) -> Callable[[], Backend]:
        return lambda: open_s3(suite_url, suite_server.options, create=True)


class TestS3fsClient(BackendSuite):
    row, server = "s3fs", "suite_server"

    @pytest.fixture
    def open_backend(self, suite_server: Server, suite_url: str) -> Callable[[], Backend]:
        return lambda: open_s3(suite_url, {**suite_server.options, "client": "s3fs"}, create=True)


class TestFsspecS3fs(BackendSuite):
    row, server = "fsspec s3fs", "quick_server"

    @pytest.fixture
    def open_backend(self, quick_server: Server, quick_url: str) -> Callable[[], Backend]:
        options = {
            "endpoint_url": quick_server.options["endpoint_url"],
            "key": quick_server.options["access_key_id"],
            "secret": quick_server.options["secret_access_key"],
        }
        return lambda: open_fsspec(f"{quick_url}/a/root", options, create=True)


class TestFsspecLocal(BackendSuite):
    """Asked for by way of fsspec, a directory is opened by the local backend, which is safer."""

    row, server = "fsspec local", ""

    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Callable[[], Backend]:
        url = (tmp_path / "store").as_uri()
        return lambda: open_fsspec(url, {}, create=True)


class TestFsspecMemory(BackendSuite):
    row, server = "fsspec memory", ""

    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        url = f"memory://{uuid.uuid4()}"
        return lambda: open_fsspec(url, {}, create=True)
