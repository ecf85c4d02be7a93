"""Bad input and bad storage: each gets its own error, nothing is written, nothing is lost, no secret is told."""

import os
import shutil
import subprocess
import time
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import bucketlog
from bucketlog import Event
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    CapabilityError,
    CorruptCheckpointError,
    CorruptSegmentError,
    InvalidEventError,
    InvalidNameError,
    InvalidOptionError,
    InvalidURLError,
    InvalidValueError,
    OutcomeUnknownError,
    StorageFullError,
    StoreNotFoundError,
    StreamSettingsError,
    UnsupportedFormatError,
    UnwrittenEventsError,
)

from .fake_server import SILENT, FakeServer, refusal
from .stores import KINDS, event, ids, opened_storage

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYSECRETKEY"
TOKEN = "FwoGZXIvYXdzSESSIONTOKEN"


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


def told(error):
    """Return all that a program may show of an error: its message, its repr, notes and causes."""
    return "".join([str(error), repr(error), repr(error.__dict__), *traceback.format_exception(error)])


def check_no_secret(error):
    for secret in (SECRET, TOKEN, "hunter2"):
        assert secret not in told(error)


# -- events ------------------------------------------------------------------------------------------------------------


def nested(depth):
    data = 0
    for _ in range(depth):
        data = [data]
    return data


def holding_itself():
    data = {}
    data["self"] = data
    return data


class Text(str):
    """Not a plain text, but one all the same."""

    __slots__ = ()


BAD_EVENTS = {
    "nan": ({"data": float("nan")}, "data"),
    "nan inside": ({"data": {"a": [1, {"b": float("nan")}]}}, "data"),
    "infinity": ({"data": [float("inf")]}, "data"),
    "minus infinity": ({"data": {"x": float("-inf")}}, "data"),
    "set": ({"data": {"x": {1, 2}}}, "data"),
    "bytes": ({"data": b"bytes"}, "data"),
    "object": ({"data": object()}, "data"),
    "datetime": ({"data": {"at": datetime(2026, 1, 1, tzinfo=UTC)}}, "data"),
    "complex": ({"data": 1j}, "data"),
    "key that is a number": ({"data": {1: "x"}}, "data"),
    "key that is none": ({"data": {"a": {None: 1}}}, "data"),
    "surrogate": ({"data": "\ud800"}, "data"),
    "surrogate inside": ({"data": {"a": ["\udfff"]}}, "data"),
    "surrogate in a key": ({"data": {"\ud800": 1}}, "data"),
    "too deep": ({"data": nested(1000)}, "data"),
    "holding itself": ({"data": holding_itself()}, "data"),
    "too large": ({"data": "x" * (8 * 1024 * 1024)}, "data"),
    "naive time": ({"time": datetime(2026, 1, 1)}, "time"),  # noqa: DTZ001  (the mistake tested here)
    "no time": ({"time": None}, "time"),
    "time as text": ({"time": "2026-01-01T00:00:00Z"}, "time"),
    "time before year 1": ({"time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, "time"),
    "empty type": ({"type": ""}, "type"),
    "no type": ({"type": None}, "type"),
    "surrogate in the type": ({"type": "\ud800"}, "type"),
    "empty id": ({"id": ""}, "id"),
    "id that is a number": ({"id": 7}, "id"),
    "surrogate in the id": ({"id": "a\udc00"}, "id"),
    "subject that is a number": ({"subject": 7}, "subject"),
    "surrogate in the subject": ({"subject": "\ud800"}, "subject"),
    "surrogate in the source": ({"source": "\ud800"}, "source"),
    "tag that is a number": ({"tags": ("a", 1)}, "tags"),
    "surrogate in a tag": ({"tags": ("\ud800",)}, "tags"),
    "nan in meta": ({"meta": {"a": float("nan")}}, "meta"),
    "nested meta": ({"meta": {"a": {"b": 1}}}, "meta"),
    "surrogate in meta": ({"meta": {"a": "\ud800"}}, "meta"),
}


@pytest.mark.parametrize("partition_by", ["single", "day"])
@pytest.mark.parametrize("name", BAD_EVENTS)
def test_impossible_event_is_named_and_nothing_written(storage, name, partition_by):
    fields, field = BAD_EVENTS[name]
    store = storage.open()
    store.stream("there", partition_by=partition_by).append(event(0))
    before = storage.contents()

    for stream in (store.stream("there"), store.stream("new", partition_by=partition_by)):
        for batch, index in (([event(1, **fields)], 0), ([event(1), event(2), event(3, **fields), event(4)], 2)):
            with pytest.raises(InvalidEventError) as caught:
                stream.append(batch)
            assert (caught.value.index, caught.value.field) == (index, field)
            assert f"event {index}" in str(caught.value)
            assert isinstance(caught.value, ValueError)
            assert len(str(caught.value)) < 1000

    assert storage.contents() == before
    assert ids(store.stream("there").read()) == ["e0"]


@pytest.mark.parametrize("wrong", ["text", {"type": "x"}, 7, None, object()], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_event_is_refused(storage, wrong):
    store = storage.open()
    before = storage.contents()

    with pytest.raises(InvalidEventError) as caught:
        store.stream("orders").append([event(0), wrong])
    with pytest.raises((InvalidEventError, TypeError)):
        store.stream("orders").append(wrong)

    assert caught.value.index == 1
    assert storage.contents() == before


def test_unusual_but_possible_events_are_taken(storage):
    """What only looks wrong: subclasses of text and numbers, tuples, the deepest nesting, the largest numbers."""
    stream = storage.open().stream("orders")
    given = [
        Event(type=Text("type"), data=Text("text")),
        Event(type="x", data=(1, (2, 3))),
        Event(type="x", data=nested(150)),
        Event(type="x", data=[2**63, -(2**63), 1e308, 5e-324, -0.0]),
        Event(type="x", data={"": ""}, id=" ", subject=" "),
        Event(type="\0", id="\0", data="\0", tags=("\0",)),
        Event(type="x", time=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59)))),
    ]

    stream.append(given)

    found = list(stream.read())
    assert [one.id for one in found] == [one.id for one in given]
    assert found[1].data == [1, [2, 3]]
    assert [found[number].data for number in (0, 2, 3, 4, 5)] == [given[number].data for number in (0, 2, 3, 4, 5)]
    assert stream.verify().ok


def test_values_that_are_no_json_are_refused_by_documents(storage):
    store = storage.open()
    before = storage.contents()

    for value in (float("nan"), {1}, b"x", {"a": object()}, "\ud800", {1: 2}, nested(1000), holding_itself(), 2**70):
        with pytest.raises(InvalidValueError):
            store.checkpoints.save("a", value)
        with pytest.raises(InvalidValueError):
            store.snapshots.save("a", value, at="k")
    with pytest.raises(InvalidValueError):
        store.snapshots.save("a", {}, at=datetime(2026, 1, 1))  # noqa: DTZ001  (the mistake tested here)

    assert storage.contents() == before


# -- names -------------------------------------------------------------------------------------------------------------

PATHS = [
    "..",
    "../..",
    "../../etc/passwd",
    "/etc/passwd",
    "\\..\\..",
    "%2e%2e%2f",
    "%2F",
    "con",
    "nul.txt",
    ".",
    "a/../b",
]


@pytest.mark.slow
def test_names_that_try_paths_never_leave_the_root(tmp_path):
    root = tmp_path / "deep" / "below" / "store"
    with bucketlog.open(root) as store:
        outside = {path for path in tmp_path.rglob("*") if root not in (path, *path.parents)}
        for name in PATHS:
            store.stream(name).append(event(0), partition=name)
            store.checkpoints.save(name, name)
            store.snapshots.save(name, name, at=name)
            with store.subscribe(name, name):
                pass

        assert store.streams() == sorted(PATHS)
        assert {name for name in store.checkpoints.list() if not name.startswith("subscription")} == set(PATHS)
        for name in PATHS:
            assert [one.partition for one in store.stream(name).read()] == [name]
            assert store.checkpoints.load(name).value == store.snapshots.load(name, name).state == name
    assert {path for path in tmp_path.rglob("*") if root not in (path, *path.parents)} == outside
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "a//b", "/a", "a/", ""])
def test_paths_of_objects_never_leave_the_root(tmp_path, path):
    root = tmp_path / "deep" / "store"
    with bucketlog.open(root) as store:
        try:
            store.objects.put(path, b"bytes")
        except InvalidNameError:
            assert store.objects.list() == []
        else:
            assert store.objects.list() == [path]
            assert store.objects.get(path) == b"bytes"
    assert {one.name for one in tmp_path.iterdir()} == {"deep"}
    assert {one.name for one in (tmp_path / "deep").iterdir()} == {"store"}


# -- URLs and options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        "s4://bucket/prefix",
        "memory:name",
        "://x",
        "file://host/path",
        "s3://",
        "s3:///prefix",
        "a\0b",
        7,
        None,
    ],
    ids=repr,
)
def test_wrong_url_is_told(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidURLError) as caught:
        bucketlog.open(url)

    assert str(caught.value).startswith("open")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"s3://user:hunter2@bucket/x?secret_access_key={SECRET}&regionn=x", {}),
        ("s3://bucket/x", {"secret_access_key": SECRET, "session_token": TOKEN, "regionn": "x"}),
        (f"s4://user:hunter2@bucket/x?secret_access_key={SECRET}", {}),
        (f"s3://bucket/x?{SECRET}", {}),
        (f"s3://bucket/x?secret_access_key={SECRET}&endpoint_url=not a url&access_key_id=a", {}),
        ("s3://bucket/x", {"storage_options": [SECRET]}),
        ("memory://x", {"password": SECRET}),
        ("memory://x", {"storage_options": {"token": TOKEN}}),
    ],
)
def test_wrong_options_are_told_without_the_secrets_beside_them(url, options):
    with pytest.raises(InvalidURLError) as caught:
        bucketlog.open(url, **options)

    check_no_secret(caught.value)


def test_nearest_option_is_named():
    with pytest.raises(InvalidOptionError, match="endpoint_url") as caught:
        bucketlog.open("s3://bucket/x", endpoint_ulr="http://127.0.0.1:1")

    assert caught.value.option == "endpoint_ulr"


# -- servers -----------------------------------------------------------------------------------------------------------


def s3_options(server):
    pytest.importorskip("obstore")
    return {
        "endpoint_url": server,
        "access_key_id": "AKIAEXAMPLE",
        "secret_access_key": SECRET,
        "session_token": TOKEN,
        "region": "us-east-1",
    }


def test_missing_bucket_is_told(s3_bucket, moto_s3):
    for create in (True, False):
        with pytest.raises(StoreNotFoundError, match="bucket") as caught:
            bucketlog.open("s3://no-such-bucket-here/x", create=create, **s3_bucket)
        assert isinstance(caught.value, FileNotFoundError)

    assert "no-such-bucket-here" not in [one["Name"] for one in moto_s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (401, ""),
        (400, "ExpiredToken"),
    ],
)
def test_refused_credentials_are_told(status, code):
    with FakeServer([refusal(status, code)]) as server:
        with pytest.raises(AccessDeniedError) as caught:
            bucketlog.open("s3://bucket/x", **s3_options(server.url))

        assert isinstance(caught.value, PermissionError)
        check_no_secret(caught.value)
        assert {request.method for request in server.requests} == {"GET"}


@pytest.mark.slow
@pytest.mark.timed
def test_unreachable_server_is_told_soon():
    with FakeServer() as server:
        closed = server.url
    began = time.monotonic()

    with pytest.raises(BackendUnavailableError) as caught:
        bucketlog.open("s3://bucket/x", **s3_options(closed))

    assert time.monotonic() - began < 10
    assert isinstance(caught.value, ConnectionError)
    check_no_secret(caught.value)


@pytest.mark.timed
@pytest.mark.slow
def test_silent_server_is_told_within_ten_seconds():
    with FakeServer([SILENT]) as server:
        began = time.monotonic()

        with pytest.raises(BackendUnavailableError) as caught:
            bucketlog.open("s3://bucket/x", **s3_options(server.url))

        assert time.monotonic() - began < 10.5
        check_no_secret(caught.value)


# -- directories -------------------------------------------------------------------------------------------------------


@contextmanager
def tmpfs(path, options):
    """Mount a filesystem in memory, or skip where that is not allowed."""
    path.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a filesystem")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a filesystem cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", path], check=True)


@contextmanager
def read_only(path):
    """Make all below a path unwritable: by a mount for root, whom permissions do not bind, else by permissions."""
    if os.geteuid() == 0:
        with tmpfs(path.with_name("mounted"), "size=16m") as mount:
            kept = path.with_name("mounted") / "kept"
            shutil.copytree(path, kept)
            subprocess.run([mount, "-o", "remount,ro", kept.parent], check=True)
            yield kept
        return
    folders = [path, *(one for one in path.rglob("*") if one.is_dir())]
    modes = {one: one.stat().st_mode for one in path.rglob("*")} | {path: path.stat().st_mode}
    for one in [*path.rglob("*"), *folders]:
        one.chmod(0o555 if one.is_dir() else 0o444)
    try:
        yield path
    finally:
        for one, mode in sorted(modes.items()):
            one.chmod(mode)


def below(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_store_in_a_read_only_directory_can_be_read_and_refuses_writes(tmp_path):
    with bucketlog.open(tmp_path / "store") as store:
        store.stream("orders").append([event(0), event(1)])
        store.checkpoints.save("a", 1)
    before = below(tmp_path / "store")

    with read_only(tmp_path / "store") as path, bucketlog.open(path) as store:
        refused = [
            lambda: store.stream("orders").append(event(2)),
            lambda: store.stream("new").append(event(2)),
            lambda: store.checkpoints.save("a", 2),
            lambda: store.objects.put("x", b"bytes"),
            lambda: store.blobs.put(b"bytes"),
            lambda: store.snapshots.save("s", 1),
        ]
        for write in refused:
            with pytest.raises(AccessDeniedError) as caught:
                write()
            assert str(path) in str(caught.value)
        assert ids(store.stream("orders").read()) == ["e0", "e1"]
        assert store.checkpoints.load("a").value == 1
        assert ids(store.stream("orders").recent(1)) == ["e1"]
        assert below(path) == before


def test_no_store_is_made_in_a_read_only_directory(tmp_path):
    (tmp_path / "empty").mkdir()

    with read_only(tmp_path / "empty") as path:
        for place in (path, path / "store"):
            with pytest.raises(AccessDeniedError) as caught:
                bucketlog.open(place)
            assert isinstance(caught.value, PermissionError)
        with pytest.raises(StoreNotFoundError):
            bucketlog.open(path / "store", create=False)
        assert list(path.iterdir()) == []


def test_path_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")

    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BucketlogError) as caught:
            bucketlog.open(place)
        assert str(tmp_path / "file") in str(caught.value)

    assert (tmp_path / "file").read_bytes() == b"precious"


def test_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path):
    with tmpfs(tmp_path / "small", "size=2m"):
        path = tmp_path / "small" / "store"
        ballast = tmp_path / "small" / "ballast"
        ballast.write_bytes(b"x" * 600_000)
        with bucketlog.open(path) as store:
            stream = store.stream("orders")
            acknowledged = []

            def fill():
                for number in range(100_000):
                    stream.append(event(number, data="x" * 3000))
                    acknowledged.append(f"e{number}")

            with pytest.raises(StorageFullError) as caught:
                fill()
            assert isinstance(caught.value, OSError)
            assert str(path) in str(caught.value)
            assert len(acknowledged) > 100
            assert ids(stream.read()) == acknowledged
            for write in (lambda: store.blobs.put(b"x" * 100_000), lambda: store.objects.put("x", b"x" * 100_000)):
                with pytest.raises(StorageFullError):
                    write()
            assert list(store.blobs.list()) == []
            assert store.objects.list() == []
            with pytest.raises(UnwrittenEventsError) as unwritten, stream.writer() as writer:
                writer.append([event(10**6 + number, data="x" * 3000) for number in range(10)])
            assert len(unwritten.value.events) == 10

            ballast.unlink()
            stream.append(unwritten.value.events)

        with bucketlog.open(path) as again:
            stream = again.stream("orders")
            assert ids(stream.read()) == acknowledged + [f"e{10**6 + number}" for number in range(10)]
            assert stream.verify().ok


def test_store_is_not_half_made_on_a_full_disk(tmp_path):
    with tmpfs(tmp_path / "small", "size=1m"):
        ballast = tmp_path / "small" / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        path = tmp_path / "small" / "store"

        with pytest.raises(StorageFullError):
            bucketlog.open(path)

        ballast.unlink()
        with bucketlog.open(path) as store:
            store.stream("orders").append(event(0))
            assert ids(store.stream("orders").read()) == ["e0"]


# -- what is stored ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"format":"bucketlog/2","store_id":"x","mode":"append"}', UnsupportedFormatError),
        (b'{"format":"bucketlog/10","something":"else"}', UnsupportedFormatError),
        (b'{"format":"another program/1"}', UnsupportedFormatError),
        (b"", CorruptCheckpointError),
        (b"{", CorruptCheckpointError),
        (b"\xff\xfe", CorruptCheckpointError),
        (b"[]", CorruptCheckpointError),
        (b"null", CorruptCheckpointError),
        (b'{"format":"bucketlog/1"}', CorruptCheckpointError),
        (b'{"format":"bucketlog/1","store_id":"","mode":"put"}', CorruptCheckpointError),
        (b'{"format":"bucketlog/1","store_id":"x","mode":"both"}', CorruptCheckpointError),
    ],
    ids=repr,
)
def test_store_that_cannot_be_understood_is_left_alone(storage, data, error):
    storage.open().stream("orders").append(event(0))
    storage.backend.delete(["bucketlog.json"])
    storage.backend.put("bucketlog.json", data)
    before = storage.contents()

    for options in ({}, {"create": False}, {"read_only": True}):
        with pytest.raises(error, match=storage.backend.url.split("://")[0]) as caught:
            storage.open(**options)
        assert isinstance(caught.value, ValueError)

    assert storage.contents() == before


def test_garbage_in_what_was_proven_is_found_out_again(storage):
    storage.open().stream("orders").append(event(0))
    [key] = storage.contents("capabilities/")
    for garbage in (b"", b"{", b"[]", b'{"version": 7}'):
        storage.backend.put(key, garbage)

        storage.open().stream("orders").append(Event(type="x"))

    assert storage.open().stream("orders").verify().events == 5


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b"{}",
        b'{"partition_by":"week","grace_seconds":86400.0}',
        b'{"partition_by":7,"grace_seconds":86400.0}',
        b'{"partition_by":"single"}',
        b'{"partition_by":"single","grace_seconds":"long"}',
        b'{"partition_by":"single","grace_seconds":-1}',
        b'{"partition_by":"single","grace_seconds":0.5}',
    ],
    ids=repr,
)
def test_garbage_in_the_settings_of_a_stream_is_told(storage, garbage):
    storage.open().stream("orders").append([event(0), event(1)])
    storage.backend.put("streams/orders/stream.json", garbage)
    before = storage.contents()
    stream = storage.open().stream("orders")

    for call in (
        lambda: stream.append(event(2)),
        lambda: list(stream.read()),
        lambda: list(stream.read_batches()),
        lambda: stream.recent(1),
        lambda: stream.get("e0"),
        stream.cursor,
        stream.stats,
        lambda: next(stream.tail()),
    ):
        with pytest.raises(CorruptCheckpointError) as caught:
            call()
        assert caught.value.key == "streams/orders/stream.json"
    report = stream.verify()

    assert [problem.key for problem in report.problems] == ["streams/orders/stream.json"]
    assert report.events == 2
    assert storage.contents() == before


def test_stream_with_another_partitioning_is_refused(storage):
    storage.open().stream("orders", partition_by="day").append(event(0))
    before = storage.contents()
    store = storage.open()

    for wrong in ("single", "subject", "source", "hash:4", lambda _: "0"):
        with pytest.raises(StreamSettingsError, match="day"):
            store.stream("orders", partition_by=wrong).append(event(1, subject="s", source="s"))

    assert storage.contents() == before
    assert ids(store.stream("orders", partition_by="subject").read()) == ["e0"]


@pytest.mark.parametrize(
    "garbage", [b"{", b"[]", b"\xff", b'{"name":"a"}', b'{"name":"a","version":"1","value":1}'], ids=repr
)
def test_garbage_in_a_checkpoint_is_told_and_kept(storage, garbage):
    store = storage.open()
    saved = store.checkpoints.save("a", 1)
    store.checkpoints.save("b", 2)
    storage.backend.put("checkpoints/a.json", garbage)
    before = storage.contents()

    with pytest.raises(CorruptCheckpointError) as caught:
        store.checkpoints.load("a")
    with pytest.raises(CorruptCheckpointError):
        store.checkpoints.save("a", 2, expected_version=saved.version)

    assert caught.value.key == "checkpoints/a.json"
    assert storage.contents() == before
    assert store.checkpoints.load("a", default="anew").value == "anew"
    assert store.checkpoints.load("b").value == 2
    assert store.checkpoints.list() == ["a", "b"]
    assert store.checkpoints.save("a", 3).value == 3


# -- bit flips ---------------------------------------------------------------------------------------------------------


def with_segments(storage):
    """Fill a log of three commits, one of them of two events; return its segments and the ids in order."""
    stream = storage.open().stream("orders")
    stream.append(event(0))
    stream.append([event(1), event(2)])
    stream.append(event(3))
    return storage.contents("streams/orders/0/"), ["e0", "e1", "e2", "e3"]


def flipped(segments, step):
    """Yield every damaged version of the segments: one bit of each byte, another one as it goes on."""
    for key, data in segments.items():
        for place in range(0, len(data), step):
            damaged = bytearray(data)
            damaged[place] ^= 1 << (place % 8)
            yield key, place, bytes(damaged)


def replace(storage, key, data):
    storage.backend.delete([key])
    storage.backend.put(key, data)


def test_flipped_bit_anywhere_in_a_segment_is_found(storage):
    """No reader hands out a changed event, or fewer than were acknowledged without saying so."""
    segments, everything = with_segments(storage)
    reader = storage.open(read_only=True)
    for key, place, damaged in flipped(segments, 1 if storage.kind != "local" else 7):
        replace(storage, key, damaged)
        found = []
        with pytest.raises(CorruptSegmentError) as caught:  # noqa: PT012  (what came before the error counts)
            for one in reader.stream("orders").read():
                found.append(one.id)  # noqa: PERF401
            pytest.fail(f"bit {place % 8} of byte {place} of {key}: nobody noticed, and read {found}")
        assert caught.value.key == key, place
        assert caught.value.byte <= place
        assert found == everything[: len(found)]
        replace(storage, key, segments[key])
    assert ids(storage.open().stream("orders").read()) == everything


def test_writer_leaves_a_damaged_segment_alone(storage):
    segments, everything = with_segments(storage)
    for key, _, damaged in flipped(segments, 53):
        replace(storage, key, damaged)
        before = storage.contents()

        with pytest.raises(CorruptSegmentError):
            storage.open().stream("orders").append(event(4))

        assert storage.contents() == before
        replace(storage, key, segments[key])
    assert ids(storage.open().stream("orders").read()) == everything


def test_verify_reports_each_flipped_bit(storage):
    segments, _ = with_segments(storage)
    stream = storage.open(read_only=True).stream("orders")
    assert stream.verify().ok
    for key, place, damaged in flipped(segments, 11):
        replace(storage, key, damaged)

        report = stream.verify()

        assert [problem.key for problem in report.problems] == [key], place
        assert report.problems[0].byte <= place
        replace(storage, key, segments[key])


def test_trailer_that_an_event_imitates_is_no_trailer(storage):
    """Text in an event that looks like the end of a commit neither hides damage nor makes some."""
    stream = storage.open().stream("orders")
    imitation = ',"commit":"00000001-01-0123456789abcdef-00000000"}\n'
    stream.append([event(0, data=imitation), event(1, subject=imitation, id=imitation), event(2, tags=(imitation,))])

    assert [one.data for one in storage.open().stream("orders").read()] == [imitation, 1, 2]
    assert storage.open().stream("orders").get(imitation).offset == 1
    assert stream.verify().ok


def test_foreign_lines_that_pass_their_checksum_are_told(storage):
    """Another program wrote a commit whose lines are no events."""
    from bucketlog.format.segments import ALL_BEFORE_SYNCED, seal_commit

    stream = storage.open().stream("orders")
    stream.append(event(0))
    [(key, data)] = storage.contents("streams/orders/0/").items()
    foreign = seal_commit(b'{"no":"event"}\n', events=1, flags=ALL_BEFORE_SYNCED, write_id="0" * 16)
    if storage.kind == "put":
        storage.backend.put("streams/orders/0/00000000000000000001.jsonl", foreign)
    else:
        storage.backend.append(key, foreign, expected_size=len(data))

    with pytest.raises(CorruptSegmentError) as caught:
        list(storage.open().stream("orders").read({"0": 1}))
    assert caught.value.offset <= 1
    with pytest.raises(CorruptSegmentError):
        storage.open().stream("orders").append(event(1))
    assert not storage.open().stream("orders").verify().ok


# -- the classes -------------------------------------------------------------------------------------------------------


def test_every_error_is_caught_as_the_library_s_and_as_a_built_in():
    for kind, built_in in (
        (InvalidEventError, ValueError),
        (InvalidNameError, ValueError),
        (InvalidURLError, ValueError),
        (StreamSettingsError, ValueError),
        (StoreNotFoundError, FileNotFoundError),
        (AccessDeniedError, PermissionError),
        (StorageFullError, OSError),
        (BackendUnavailableError, ConnectionError),
        (OutcomeUnknownError, TimeoutError),
        (CapabilityError, NotImplementedError),
        (UnsupportedFormatError, ValueError),
        (CorruptCheckpointError, ValueError),
    ):
        assert issubclass(kind, BucketlogError)
        assert issubclass(kind, built_in)
        assert str(kind("as it was said")) == "as it was said"


def test_repr_of_stores_and_streams_holds_no_secret(s3_url, s3_bucket, tmp_path):
    options = {**s3_bucket, "secret_access_key": SECRET}
    with bucketlog.open(f"{s3_url}/x?session_token={TOKEN}", **options) as store:
        stream = store.stream("orders")
        shown = [repr(store), repr(stream), repr(store.backend), store.url, stream.url("0"), store.objects.url("a")]
        stream.append(event(0))
        shown += [str(data) for data in [stream.stats(), stream.verify()]]

    assert not any(secret in text for text in shown for secret in (SECRET, TOKEN))
    assert Path(tmp_path).exists()
