"""The fsspec backend: s3fs by its own calls, and every other filesystem without conditions."""

import errno
import io
import itertools
import os
import socket

import pytest

pytest.importorskip("fsspec")

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import bucketlog
from bucketlog.backend import ABSENT, ANY, VersioningBackend
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    CapabilityError,
    ConflictError,
    InvalidURLError,
    NotFoundError,
    OutcomeUnknownError,
    StorageFullError,
    StoreNotFoundError,
    UnprovenStorageError,
)
from bucketlog_backends.fsspec import FsspecBackend, from_object, open_fsspec
from bucketlog_backends.local import LocalBackend
from bucketlog_backends.s3 import open_s3, s3fs
from bucketlog_backends.s3.s3fs import S3fsBackend

from .fake_server import DROPPED, SILENT, STORED, FakeServer, answer, found, refusal

KEYS = {"access_key_id": "AKEY", "secret_access_key": "a-secret", "region": "us-east-1"}
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    """Hide the settings of this machine."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def root():
    return f"memory://fsspec-{next(_numbers)}/root"


@pytest.fixture
def backend(s3_url, s3_bucket):
    return open_s3(f"{s3_url}/prefix", {**s3_bucket, "client": "s3fs"}, create=True)


def open_at(server, **options):
    return open_s3("s3://bucket/prefix", {"endpoint_url": server.url, **KEYS, **options, "client": "s3fs"}, create=True)


# -- filesystems and their backends ------------------------------------------------------------------------------------


def test_s3fs_is_known_by_url_by_object_and_by_pair(s3_bucket, s3_url):
    fs = fsspec.filesystem(
        "s3",
        key=s3_bucket["access_key_id"],
        secret=s3_bucket["secret_access_key"],
        endpoint_url=s3_bucket["endpoint_url"],
    )
    bucket = s3_url.removeprefix("s3://")

    backends = [
        open_fsspec(f"{s3_url}/a/b", dict(fs.storage_options), create=True),
        from_object((fs, f"{bucket}/a/b")),
        from_object((fs, f"{s3_url}/a/b/")),
        from_object(DirFileSystem(path=f"{bucket}/a/b", fs=fs)),
    ]

    for number, backend in enumerate(backends):
        assert isinstance(backend, S3fsBackend)
        assert backend.url == f"{s3_url}/a/b"
        backend.put(str(number), b"bytes", if_version=ABSENT)
    assert [entry.key for entry in backends[0].list("")] == ["0", "1", "2", "3"]


def test_local_filesystems_become_the_local_backend(tmp_path):
    for backend in (
        open_fsspec(f"local://{tmp_path}/store", {}, create=True),
        from_object((LocalFileSystem(), tmp_path / "store")),
        from_object(DirFileSystem(path=str(tmp_path / "store"), fs=LocalFileSystem())),
    ):
        assert isinstance(backend, LocalBackend)
        assert backend.url == (tmp_path / "store").as_uri()

    with pytest.raises(StoreNotFoundError):
        open_fsspec(f"local://{tmp_path}/missing", {}, create=False)


@pytest.mark.slow
def test_filesystem_of_everything_needs_a_path():
    for fs in (LocalFileSystem(), fsspec.filesystem("s3", key="k", secret="s")):
        with pytest.raises(InvalidURLError, match=r"pair \(filesystem, path\)"):
            from_object(fs)


@pytest.mark.parametrize("other", ["memory://x", ("a", "b"), (1, 2, 3), object()])
def test_other_objects_are_not_wrapped(other):
    assert from_object(other) is None


def test_filesystems_whose_conditions_were_not_tested_claim_none(root):
    from obstore.fsspec import FsspecStore

    for backend in (
        open_fsspec(root, {}, create=True),
        open_fsspec(f"simplecache::{root}", {}, create=True),
        from_object((FsspecStore("s3", region="us-east-1"), "bucket/prefix")),
        from_object(MemoryFileSystem()),
    ):
        assert isinstance(backend, FsspecBackend)
        assert not backend.capabilities.exclusive_create
        assert not backend.capabilities.compare_and_set


def test_caches_around_s3fs_claim_nothing(s3_bucket, s3_url):
    inner = {
        "key": s3_bucket["access_key_id"],
        "secret": s3_bucket["secret_access_key"],
        "endpoint_url": s3_bucket["endpoint_url"],
    }

    backend = open_fsspec(f"filecache::{s3_url}/a", {"s3": inner}, create=True)

    assert backend.name == "fsspec-filecache"
    assert not backend.capabilities.exclusive_create


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nothing://a/b", InvalidURLError, "nothing://a/b"),
        ("gs://bucket/prefix", CapabilityError, "gcsfs"),
        ("sftp://user:hidden@host/path", CapabilityError, "paramiko"),
    ],
)
def test_url_that_cannot_be_opened_says_what_to_do(url, error, message):
    with pytest.raises(error, match=message) as caught:
        open_fsspec(url, {}, create=True)

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://user:hidden@host/path", "sftp://host/path"),
        ("sftp://user:hid/den@host/path", "sftp://host/path"),
        ("sftp://host:22/pa@th", "sftp://host:22/pa@th"),
        ("simplecache::sftp://user:hidden@host/path", "simplecache::sftp://host/path"),
        ("abfs://container/path?token=hidden", "abfs://container/path"),
    ],
)
def test_url_is_shown_without_credentials(monkeypatch, url, shown):
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_, **__: (MemoryFileSystem(), "/path"))

    assert open_fsspec(url, {}, create=True).url == shown


# -- any filesystem ----------------------------------------------------------------------------------------------------


class Etags(MemoryFileSystem):
    """Counts writes, and uses the count as the ETag, like an object store."""

    cachable = False
    writes = 0

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        type(self).writes += 1
        super().pipe_file(path, value, mode=mode, **kwargs)
        self.store[self._strip_protocol(path)].etag = f"etag-{self.writes}"

    def info(self, path, **kwargs):
        info = super().info(path, **kwargs)
        return {**info, "etag": self.store[path].etag} if info["type"] == "file" else info


def test_version_is_the_etag_where_there_is_one(root):
    backend = from_object((Etags(), root))

    versions = [backend.put("a", b"bytes"), backend.put("a", b"bytes")]

    assert versions[1] != versions[0]
    assert backend.get("a").version == backend.get("a", 1, 3).version == backend.head("a").version == versions[1]
    assert backend.get("a", 1, 30).data == b"ytes"
    assert backend.get("a", 9).data == b""


def test_condition_is_looked_at_before_the_write(root):
    backend = open_fsspec(root, {}, create=True)
    version = backend.put("a", b"first", if_version=ABSENT)

    with pytest.raises(ConflictError, match="found an object"):
        backend.put("a", b"other", if_version=ABSENT)
    with pytest.raises(ConflictError, match="found another version"):
        backend.put("a", b"other", if_version="never")
    with pytest.raises(ConflictError, match="found nothing"):
        backend.put("b", b"other", if_version=version)

    backend.put("a", b"second", if_version=version)
    assert backend.get("a").data == b"second"


class Failing(MemoryFileSystem):
    """Fails with a given error."""

    cachable = False
    error = None

    def _fail(self, *_, **__):
        raise self.error

    info = cat_file = pipe_file = find = rm_file = open = _fail


@pytest.mark.parametrize(
    ("raised", "reading", "writing"),
    [
        (FileNotFoundError("a"), NotFoundError, NotFoundError),
        (PermissionError("a"), AccessDeniedError, AccessDeniedError),
        (OSError(errno.ENOSPC, "full"), StorageFullError, StorageFullError),
        (ConnectionRefusedError("a"), BackendUnavailableError, BackendUnavailableError),
        (socket.gaierror("a"), BackendUnavailableError, BackendUnavailableError),
        (TimeoutError("a"), BackendUnavailableError, OutcomeUnknownError),
        (ConnectionResetError("a"), BackendUnavailableError, OutcomeUnknownError),
        (RuntimeError("of the filesystem's own library"), BackendUnavailableError, OutcomeUnknownError),
        (NotImplementedError("a"), CapabilityError, CapabilityError),
    ],
)
def test_error_of_a_filesystem_becomes_the_one_that_fits(root, raised, reading, writing):
    fs = Failing()
    fs.error = raised
    backend = from_object((fs, root))

    for attempt in (lambda: backend.get("a"), lambda: backend.head("a")):
        with pytest.raises(reading, match="'a'") as caught:
            attempt()
        assert caught.value.__cause__ is raised
    for attempt in (lambda: backend.put("a", b"bytes"), lambda: backend.upload("a", io.BytesIO(b"bytes"))):
        with pytest.raises(writing, match="'a'") as caught:
            attempt()
        assert caught.value.__cause__ is raised
    if reading is not NotFoundError:
        with pytest.raises(reading):
            list(backend.list(""))
        with pytest.raises(reading):
            backend.delete(["a"])


# -- s3fs --------------------------------------------------------------------------------------------------------------


def test_key_is_stored_byte_for_byte(backend, moto_s3, s3_url):
    key = "streams/a%2Fb/%2E%2E/x%25y+z=.json"

    backend.put(key, b"bytes", if_version=ABSENT)

    stored = moto_s3.list_objects_v2(Bucket=s3_url.removeprefix("s3://"))["Contents"]
    assert [entry["Key"] for entry in stored] == [f"prefix/{key}"]
    assert [entry.key for entry in backend.list("")] == [key]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "SignatureDoesNotMatch", AccessDeniedError),
        (404, "NoSuchBucket", StoreNotFoundError),
        (409, "ConditionalRequestConflict", ConflictError),
        (412, "PreconditionFailed", ConflictError),
        (500, "InternalError", OutcomeUnknownError),
        (501, "NotImplemented", CapabilityError),
        (503, "SlowDown", OutcomeUnknownError),
    ],
)
@pytest.mark.parametrize("condition", [ABSENT, "version"], ids=["absent", "version"])
def test_conditional_put_is_sent_once_whatever_the_answer(status, code, error, condition):
    with FakeServer([refusal(status, code)]) as server, pytest.raises(error, match="'a'"):
        open_at(server).put("a", b"bytes", if_version=condition)

    assert len(server.requests) == 1


@pytest.mark.slow
def test_condition_is_sent_in_the_form_that_the_server_takes():
    with FakeServer([STORED]) as server:
        backend = open_at(server)
        version = backend.put("a", b"bytes", if_version=ABSENT)
        backend.put("a", b"bytes", if_version=version)
        backend.etag_form = "quoted"
        backend.put("a", b"bytes", if_version=version)

    assert server.requests[0].headers["if-none-match"] == "*"
    assert [request.headers.get("if-match") for request in server.requests] == [None, "an-etag", '"an-etag"']


def test_version_that_is_gone_is_a_conflict():
    with FakeServer([refusal(404, "NoSuchKey")]) as server, pytest.raises(ConflictError):
        open_at(server).put("a", b"bytes", if_version="version")


@pytest.mark.slow
@pytest.mark.parametrize("condition", [ANY, ABSENT, "version"], ids=["any", "absent", "version"])
def test_put_whose_answer_is_lost_leaves_the_outcome_open(condition):
    with FakeServer([DROPPED]) as server, pytest.raises(OutcomeUnknownError) as caught:
        open_at(server).put("a", b"bytes", if_version=condition)

    assert caught.value.key == "a"
    assert {request.body for request in server.requests} == {b"bytes"}


@pytest.mark.slow
def test_put_that_never_left_says_so():
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    backend = open_s3("s3://bucket", {"endpoint_url": endpoint, **KEYS, "client": "s3fs"}, create=True)

    with pytest.raises(BackendUnavailableError, match="EndpointConnectionError"):
        backend.put("a", b"bytes", if_version=ABSENT)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [SILENT, found("bytes" * 1000)[:-2500]], ids=["silent", "cut in the answer"])
def test_read_outlives_a_connection_that_is_lost(trouble, monkeypatch):
    with FakeServer([found("first"), trouble, found("bytes")]) as server:
        backend = open_at(server)
        backend.get("a")  # connect, which also takes time
        monkeypatch.setattr(s3fs, "_ANSWER_SECONDS", 0.5)

        assert backend.get("a").data == b"bytes"
        assert len(server.requests) == 3


@pytest.mark.slow
def test_listing_outlives_a_connection_that_stays_silent(monkeypatch):
    with FakeServer([found("first"), SILENT, answer(200, "<ListBucketResult/>")]) as server:
        backend = open_at(server)
        backend.get("a")
        monkeypatch.setattr(s3fs, "_ANSWER_SECONDS", 0.5)

        assert list(backend.list("")) == []


@pytest.mark.slow
def test_silent_server_is_given_up(monkeypatch):
    assert 2 * s3fs._ANSWER_SECONDS < 10, "reported within 10 seconds"
    monkeypatch.setattr(s3fs, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(s3fs, "_PUT_SECONDS", 0.5)
    with FakeServer([SILENT]) as server:
        backend = open_at(server)

        with pytest.raises(BackendUnavailableError):
            backend.get("a")
        with pytest.raises(OutcomeUnknownError):
            backend.put("a", b"bytes", if_version=ABSENT)


def test_missing_credentials_are_reported():
    with FakeServer([STORED]) as server:
        options = {"endpoint_url": server.url, "region": "us-east-1", "client": "s3fs"}
        backend = open_s3("s3://bucket", options, create=True)

        with pytest.raises(AccessDeniedError, match="no credentials"):
            backend.get("a")

    assert server.requests == []


@pytest.mark.slow
def test_delete_that_was_refused_for_one_key_is_reported():
    body = (
        "<DeleteResult><Error><Key>prefix/b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    with FakeServer([answer(200, body)]) as server, pytest.raises(AccessDeniedError, match="delete 'a' and 1 more"):
        open_at(server).delete(["a", "b"])


def test_listing_is_never_an_old_one(s3_bucket, s3_url, moto_s3):
    bucket = s3_url.removeprefix("s3://")
    fs = fsspec.filesystem(
        "s3",
        key=s3_bucket["access_key_id"],
        secret=s3_bucket["secret_access_key"],
        endpoint_url=s3_bucket["endpoint_url"],
        use_listings_cache=True,
    )
    moto_s3.put_object(Bucket=bucket, Key="a/0", Body=b"")
    assert fs.ls(f"{bucket}/a") == [f"{bucket}/a/0"]

    moto_s3.put_object(Bucket=bucket, Key="a/1", Body=b"")

    assert fs.ls(f"{bucket}/a") == [f"{bucket}/a/0"], "the filesystem itself remembers"
    assert [entry.key for entry in from_object((fs, bucket)).list("a/")] == ["a/0", "a/1"]


def test_conditional_put_is_not_acknowledged_when_versioning_was_switched_on(backend, moto_s3, s3_url):
    assert isinstance(backend, VersioningBackend)
    assert backend.put_version_id("scratch", b"bytes") is None
    enabled = {"Status": "Enabled"}
    moto_s3.put_bucket_versioning(Bucket=s3_url.removeprefix("s3://"), VersioningConfiguration=enabled)

    assert backend.put_version_id("scratch", b"bytes")
    with pytest.raises(UnprovenStorageError, match="versioning was switched on"):
        backend.put("new", b"bytes", if_version=ABSENT)

    backend.versioned = True
    assert backend.put("newer", b"bytes", if_version=ABSENT)


def test_store_is_opened_on_a_ready_filesystem_and_a_path_in_it(tmp_path):
    filesystem = fsspec.filesystem("file")
    with pytest.raises(InvalidURLError, match=r"Give the pair \(filesystem, path\)"):
        bucketlog.open(filesystem)

    with bucketlog.open((filesystem, str(tmp_path / "events"))) as store:
        store.stream("s").append(bucketlog.Event(type="e", id="0"))

    with bucketlog.open(tmp_path / "events") as store:
        assert [event.id for event in store.stream("s").read()] == ["0"]
