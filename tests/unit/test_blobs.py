"""Blobs are named by their bytes, stored once, and never returned damaged."""

import io
import os
import random

import pytest
from blake3 import blake3

from bucketlog.backend import PUT_BYTES_MAX
from bucketlog.errors import (
    BackendUnavailableError,
    CapabilityError,
    ConflictError,
    CorruptBlobError,
    InvalidNameError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    ReadOnlyError,
    UnprovenStorageError,
)
from bucketlog.state import blobs as module
from bucketlog.state.blobs import Blob, Blobs
from bucketlog.testing.faults import Fail, Hold, LoseAnswer, on

DATA = b"attached"
DIGEST = blake3(DATA).hexdigest()
KEY = f"blobs/{DIGEST[:2]}/{DIGEST}"


@pytest.fixture
def blobs(place):
    return Blobs(place.open())


@pytest.fixture
def small_puts(monkeypatch):
    """As if one put took 1000 bytes, so that a test of larger ones need not move 64 MiB."""
    monkeypatch.setattr(module, "PUT_BYTES_MAX", 1000)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 300)
    monkeypatch.setattr(module, "_SPOOL_BYTES", 500)


SIZES = [0, 1, 299, 300, 1000, 1001, 2500]


def _bytes(size):
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["bytes", "bytearray", "memoryview", "str", "path", "file", "stream", "raw"])
def test_bytes_of_any_size_come_back_however_they_were_given(place, blobs, small_puts, tmp_path, size, how):
    data = _bytes(size)
    path = tmp_path / "source"
    path.write_bytes(data)
    source = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "str": lambda: str(path),
        "path": lambda: path,
        "file": lambda: path.open("rb"),
        "stream": lambda: io.BytesIO(data),
        "raw": lambda: path.open("rb", buffering=0),
    }[how]()

    blob = blobs.put(source)
    if hasattr(source, "close"):
        source.close()

    assert blob == Blob(blake3(data).hexdigest(), size)
    assert blobs.get(blob.digest) == data
    assert place.stored("blobs/") == [f"blobs/{blob.digest[:2]}/{blob.digest}"]


def test_a_stream_is_read_from_where_it_stands(blobs):
    stream = io.BytesIO(b"skipped" + DATA)
    stream.seek(len(b"skipped"))

    assert blobs.put(stream).digest == DIGEST


@pytest.mark.parametrize("size", [len(DATA), 2500])
def test_bytes_that_are_stored_already_are_not_sent_again(place, small_puts, size):
    data = _bytes(size)
    Blobs(place.open()).put(data)
    root = place.open()

    assert Blobs(root).put(data) == Blobs(root).put(io.BytesIO(data)) == Blob(blake3(data).hexdigest(), size)
    assert root.backend.count("put", "upload") == 0


@pytest.mark.parametrize("source", [None, 17, io.StringIO("text"), ["a"]])
def test_what_holds_no_bytes_is_refused(place, blobs, source):
    with pytest.raises(InvalidValueError, match="put a blob in"):
        blobs.put(source)

    assert place.stored("blobs/") == []


def test_a_missing_file_is_the_caller_s_own_error(blobs, tmp_path):
    with pytest.raises(FileNotFoundError):
        blobs.put(tmp_path / "missing")


def test_a_stream_that_fails_stores_nothing(place, blobs, small_puts):
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            if size > 0 and not hasattr(self, "begun"):
                self.begun = True
                return b"x" * size
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        blobs.put(Broken())

    assert place.stored("blobs/") == []


@pytest.mark.parametrize("change", ["other", "shorter", "longer"])
def test_a_file_that_changes_while_it_is_read_stores_nothing(place, small_puts, tmp_path, change):
    path = tmp_path / "source"
    data = _bytes(2500)
    path.write_bytes(data)
    root = place.open()
    upload = root.backend.upload
    changed = {"other": b"x" + data[1:], "shorter": data[:2000], "longer": data + b"x"}[change]

    def slow(key, source):
        path.write_bytes(changed)
        upload(key, source)

    root.backend.upload = slow

    with pytest.raises(ConflictError, match="the file changed while it was read"):
        Blobs(root).put(path)

    assert place.stored("blobs/") == []


def test_a_failed_upload_of_an_unchanged_file_raises_its_own_error(place, small_puts, tmp_path):
    (tmp_path / "source").write_bytes(_bytes(2500))

    with pytest.raises(BackendUnavailableError):
        Blobs(place.open(on("upload", Fail()))).put(tmp_path / "source")


def test_a_checked_file_can_be_read_in_every_way(tmp_path):
    data = _bytes(5000)
    blob = Blob(blake3(data).hexdigest(), len(data))

    def checked():
        return module._CheckedFile(io.BytesIO(data), blob)

    assert checked().read() == checked().readall() == checked().read(None) == data
    buffered = io.BufferedReader(checked())
    assert b"".join(iter(lambda: buffered.read(700), b"")) == data
    one = checked()
    assert one.readable()
    assert one.read(5000) + one.read(10) + one.read() == data


def test_a_large_stream_takes_little_memory(place, small_puts, monkeypatch):
    reads = []

    class Endless(io.RawIOBase):
        left = 20_000

        def read(self, size=-1):
            reads.append(size)
            size = min(size, self.left)
            self.left -= size
            return b"x" * size

    blob = Blobs(place.open()).put(Endless())

    assert blob.size == 20_000
    assert set(reads) == {300}


def test_more_than_one_put_takes_needs_a_backend_that_uploads(place, small_puts):
    root = place.open()

    class NoUpload:
        def __init__(self, inner):
            self.name, self.url, self.capabilities = inner.name, inner.url, inner.capabilities
            self.get, self.head, self.put = inner.get, inner.head, inner.put
            self.list, self.delete, self.close = inner.list, inner.delete, inner.close

    root.backend = NoUpload(root.backend)

    assert Blobs(root).put(_bytes(1000)).size == 1000
    with pytest.raises(CapabilityError, match="at most 1000 bytes at once"):
        Blobs(root).put(_bytes(1001))


def test_one_put_takes_64_mib():
    assert module.PUT_BYTES_MAX == PUT_BYTES_MAX == 64 * 1024 * 1024


# -- unclear outcomes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [LoseAnswer(), Fail(OutcomeUnknownError("500")), LoseAnswer(ConflictError("412")), Fail(ConflictError("409"))],
)
def test_an_unclear_put_is_settled_by_looking_and_sent_again_when_it_is_not_there(place, fault):
    blob = Blobs(place.open(on("put", fault))).put(DATA)

    assert Blobs(place.open()).get(blob.digest) == DATA


def test_an_outcome_that_stays_unclear_is_reported_and_harmless(place):
    root = place.open(lambda call: Hold() if call.method == "put" else None)

    with pytest.raises(OutcomeUnknownError, match="putting the same bytes again is safe") as caught:
        Blobs(root).put(DATA)

    assert caught.value.key == KEY
    Blobs(place.open()).put(DATA)
    root.backend.release()
    assert Blobs(place.open()).get(DIGEST) == DATA


def test_other_bytes_that_another_writer_stored_under_the_digest_are_reported(place):
    def plan(call):
        if call.method == "put":
            place.backend.put(KEY, DATA[::-1])

    with pytest.raises(CorruptBlobError, match="its 8 bytes have another digest") as caught:
        Blobs(place.open(plan)).put(DATA)

    assert caught.value.key == KEY


def test_an_upload_whose_answer_is_lost_is_settled_by_looking(place, small_puts):
    data = _bytes(2500)

    assert Blobs(place.open(on("upload", LoseAnswer()))).put(data).size == 2500
    Blobs(place.open()).delete(blake3(data).hexdigest())
    with pytest.raises(OutcomeUnknownError, match="may still be applied"):
        Blobs(place.open(on("upload", Fail(OutcomeUnknownError("500"))))).put(data)


def test_storage_that_is_no_longer_as_proven_acknowledges_nothing(place, small_puts):
    for size, method in ((10, "put"), (2500, "upload")):
        with pytest.raises(UnprovenStorageError):
            Blobs(place.open(on(method, LoseAnswer(UnprovenStorageError("versioned"))))).put(_bytes(size))


# -- reading -----------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_blob(place, blobs):
    assert blobs.exists(DIGEST) is False
    assert list(blobs.list()) == []

    blob = blobs.put(DATA)
    other = blobs.put(b"")
    place.backend.put(f"blobs/{DIGEST[:2]}/note.txt", b"foreign")
    place.backend.put(f"blobs/zz/{DIGEST}", b"foreign")

    assert blobs.exists(DIGEST) is True
    assert blobs.stat(DIGEST) == blob
    assert list(blobs.list()) == sorted([blob, other], key=lambda one: one.digest)


def test_a_deleted_blob_is_missing_and_can_be_put_again(blobs):
    blobs.put(DATA)

    blobs.delete(DIGEST)
    blobs.delete(DIGEST)

    assert not blobs.exists(DIGEST)
    for act in (blobs.get, blobs.open, blobs.stat):
        with pytest.raises(NotFoundError, match=DIGEST):
            act(DIGEST)
    assert blobs.put(DATA).digest == DIGEST


@pytest.mark.parametrize(
    "digest", ["", "abc", DIGEST.upper(), DIGEST + "\n", DIGEST[:-1] + "g", "../" + DIGEST[3:], None, b"x"]
)
def test_what_is_no_digest_is_refused(blobs, digest):
    for act in (blobs.get, blobs.open, blobs.stat, blobs.exists, blobs.delete):
        with pytest.raises(InvalidNameError, match="64 lower-case hex digits"):
            act(digest)


@pytest.mark.parametrize("stored", [b"attacheD", b"attached and more", b"att", b""])
def test_wrong_bytes_are_never_returned_whole(place, blobs, stored):
    place.backend.put(KEY, stored)

    with pytest.raises(CorruptBlobError, match="put a copy again") as caught:
        blobs.get(DIGEST)
    assert caught.value.key == KEY
    with blobs.open(DIGEST) as file, pytest.raises(CorruptBlobError):
        file.read()
    with blobs.open(DIGEST) as file, pytest.raises(CorruptBlobError):
        list(file)


def test_a_blob_of_another_size_is_not_taken_for_stored(place, blobs):
    place.backend.put(KEY, b"short")

    with pytest.raises(CorruptBlobError, match="5 bytes are stored, expected 8"):
        blobs.put(DATA)
    blobs.delete(DIGEST)
    assert blobs.put(DATA).digest == DIGEST


def test_a_blob_that_shrinks_while_it_is_read_is_reported(place, blobs):
    blobs.put(DATA)
    file = blobs.open(DIGEST)
    place.backend.put(KEY, b"att")

    with file, pytest.raises(CorruptBlobError, match="it ends before byte 8 of 8"):
        file.read()


@pytest.mark.parametrize("size", [0, 1, 700, 5000])
@pytest.mark.parametrize("step", [-1, 1, 299, 300, 301, 4096])
def test_an_open_blob_reads_as_a_file_does(blobs, small_puts, size, step):
    data = _bytes(size)
    with blobs.open(blobs.put(data).digest) as file:
        assert b"".join(iter(lambda: file.read(step), b"")) == data
        assert file.read() == b""
        assert file.seek(0) == 0
        assert file.read() == data
        assert file.seek(0, os.SEEK_END) == size == file.tell()
        assert file.seek(size + 5) == size + 5
        assert file.read(3) == b""
        file.seek(size // 2)
        assert file.seek(0, os.SEEK_CUR) == size // 2
        assert file.read(7) == data[size // 2 :][:7]
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_an_open_blob_reads_only_the_ranges_asked_for(place, small_puts):
    data = _bytes(5000)
    digest = Blobs(place.open()).put(data).digest
    root = place.open()
    spans = []
    get = root.backend.get
    root.backend.get = lambda key, start=0, end=None: spans.append((start, end)) or get(key, start, end)

    with Blobs(root).open(digest) as file:
        file.seek(4000)
        assert file.read(10) == data[4000:4010]

    assert spans == [(4000, 4300)]


def test_a_seek_before_the_start_is_refused(blobs):
    with blobs.open(blobs.put(DATA).digest) as file, pytest.raises(InvalidValueError, match="0 or more"):
        file.seek(-9, os.SEEK_END)


def test_bytes_read_out_of_order_are_checked_as_far_as_they_connect(place, blobs, small_puts):
    data = _bytes(1000)
    digest = blobs.put(data).digest
    place.backend.put(f"blobs/{digest[:2]}/{digest}", data[:-1] + b"?")

    with blobs.open(digest) as file:
        assert file.read(100) == data[:100]
        file.seek(900)
        assert file.read(50) == data[900:950]  # nothing connects it to the start, so nothing is claimed of it
        file.seek(200)
        with pytest.raises(CorruptBlobError):
            file.read()


def test_a_store_opened_for_reading_reads_and_never_writes(place):
    Blobs(place.open()).put(DATA)
    reader = Blobs(place.open(read_only=True))

    assert reader.get(DIGEST) == DATA
    for act in (lambda: reader.put(b"new"), lambda: reader.delete(DIGEST)):
        with pytest.raises(ReadOnlyError):
            act()
    assert reader.exists(DIGEST)
