"""Opening a root: its requests, its errors, and which handles may write."""

import io
import itertools
import os
import threading
import uuid
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import orjson
import pytest

from bucketlog.backend import ABSENT, ANY, AppendBackend, Capabilities, UploadBackend
from bucketlog.clock import SystemClock
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    CapabilityError,
    ConflictError,
    CorruptCheckpointError,
    InvalidOptionError,
    NotFoundError,
    OutcomeUnknownError,
    ReadOnlyError,
    StoreNotFoundError,
    UnsupportedFormatError,
)
from bucketlog.storage import root as root_module
from bucketlog.storage.root import open_root
from bucketlog.storage.threads import RequestPool, Syncer
from bucketlog.storage.wrapper import BackendWrapper
from bucketlog_backends.memory import MemoryBackend, open_memory

_names = itertools.count()


class PutBackend(BackendWrapper):
    """The memory backend without `append`, counting its requests."""

    name = "putting"

    def __init__(self, inner: MemoryBackend) -> None:
        super().__init__(inner)
        self.requests: Counter[str] = Counter()
        self.closed = False

    def get(self, key, start=0, end=None):
        self.requests[f"get {key}"] += 1
        return super().get(key, start, end)

    def head(self, key):
        self.requests[f"head {key}"] += 1
        return super().head(key)

    def put(self, key, data, *, if_version=ANY):
        self.requests[f"put {key}"] += 1
        return super().put(key, data, if_version=if_version)

    def list(self, prefix, *, start_after="", delimiter=False):
        self.requests[f"list {prefix}"] += 1
        return super().list(prefix, start_after=start_after, delimiter=delimiter)

    def delete(self, keys):
        self.requests["delete"] += 1
        super().delete(keys)

    def close(self):
        self.closed = True


class Unconditional(PutBackend):
    """Storage that does not claim conditions."""

    capabilities = Capabilities(exclusive_create=False, compare_and_set=False)

    def put(self, key, data, *, if_version=ANY):
        if if_version is not ANY:
            raise CapabilityError("no conditions here")
        return super().put(key, data)


class UnconditionalUpload(Unconditional):
    def upload(self, key, source):
        self.put(key, source.read())


class Overwrites(PutBackend):
    """Storage that claims conditions and ignores them."""

    def put(self, key, data, *, if_version=ANY):
        return super().put(key, data)


@pytest.fixture
def memory() -> MemoryBackend:
    return open_memory(f"memory://root-{next(_names)}", {}, create=True)


@pytest.fixture
def putting(memory) -> PutBackend:
    return PutBackend(memory)


def opened(backend, *, create=True, read_only=False, single_writer=False, sync="always", clock=None):
    return open_root(
        backend,
        create=create,
        read_only=read_only,
        single_writer=single_writer,
        sync=sync,
        clock=clock or SystemClock(),
    )


# -- making and opening ------------------------------------------------------------------------------------------------


def test_a_new_store_says_what_it_is(memory):
    root = opened(memory)

    store = orjson.loads(memory.get("bucketlog.json").data)
    assert store == {
        "format": "bucketlog/1",
        "store_id": root.store_id,
        "mode": "append",
        "created": store["created"],
    }
    assert uuid.UUID(root.store_id).version == 4
    assert datetime.fromisoformat(store["created"]).utcoffset() == datetime.now(UTC).utcoffset()
    assert (root.url, root.appender, root.writable, root.read_only) == (memory.url, memory, True, False)


def test_a_backend_that_cannot_append_makes_a_store_of_puts(putting):
    root = opened(putting)

    assert orjson.loads(putting.get("bucketlog.json").data)["mode"] == "put"
    assert root.appender is None
    assert root.writable


def test_opening_again_finds_the_same_store(putting):
    assert opened(putting).store_id == opened(putting).store_id


def test_opening_a_proven_store_costs_two_gets(putting):
    opened(putting)
    putting.requests.clear()

    root = opened(putting)
    root.check_writable("append")

    assert putting.requests == {"get bucketlog.json": 1, "get capabilities/putting.json": 1}


def test_opening_for_reading_costs_one_get(putting):
    opened(putting)
    putting.requests.clear()

    opened(putting, read_only=True)

    assert putting.requests == {"get bucketlog.json": 1}


def test_the_probe_leaves_only_what_a_store_is_made_of(putting):
    opened(putting)

    assert [entry.key for entry in putting.list("")] == ["bucketlog.json", "capabilities/putting.json"]


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_no_store_is_made_where_none_may_be(putting, options):
    with pytest.raises(StoreNotFoundError, match=f"open {putting.url}: there is no store here"):
        opened(putting, **options)

    assert list(putting.inner.list("")) == []


def test_of_two_that_make_a_store_at_once_both_open_the_winners(putting):
    class Late(PutBackend):
        """Another process creates the store between our GET and our PUT."""

        def put(self, key, data, *, if_version=ANY):
            if key == "bucketlog.json":
                first.append(opened(putting))
            return super().put(key, data, if_version=if_version)

    first: list[root_module.Root] = []

    root = opened(Late(putting.inner))

    assert root.store_id == first[0].store_id
    assert root.writable


class RecordedClock(SystemClock):
    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds):
        self.slept.append(seconds)


def test_a_lost_answer_while_making_a_store_is_settled_by_reading_back(memory):
    class LosesAnswer(PutBackend):
        def put(self, key, data, *, if_version=ANY):
            version = super().put(key, data, if_version=if_version)
            if key == "bucketlog.json":
                raise OutcomeUnknownError(key)
            return version

    backend, clock = LosesAnswer(memory), RecordedClock()

    root = opened(backend, clock=clock)

    assert orjson.loads(memory.get("bucketlog.json").data)["store_id"] == root.store_id
    assert clock.slept == []


def test_a_lost_request_while_making_a_store_is_sent_again_with_the_same_bytes(memory):
    sent: list[bytes] = []

    class LosesRequest(PutBackend):
        def put(self, key, data, *, if_version=ANY):
            if key == "bucketlog.json":
                sent.append(data)
                if len(sent) < 3:
                    raise OutcomeUnknownError(key)
            return super().put(key, data, if_version=if_version)

    clock = RecordedClock()

    root = opened(LosesRequest(memory), clock=clock)

    assert root.writable
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert len(clock.slept) == 2


def test_a_storage_that_never_answers_while_a_store_is_made_leaves_it_unknown(memory):
    class Mute(PutBackend):
        def put(self, key, data, *, if_version=ANY):
            if key == "bucketlog.json":
                raise OutcomeUnknownError(key)
            return super().put(key, data, if_version=if_version)

    with pytest.raises(OutcomeUnknownError, match="open it again") as caught:
        opened(Mute(memory), clock=RecordedClock())

    assert caught.value.key == "bucketlog.json"


def test_errors_of_the_storage_come_through(memory):
    class Denied(PutBackend):
        def get(self, key, start=0, end=None):
            raise AccessDeniedError("no s3:GetObject")

    with pytest.raises(AccessDeniedError, match="s3:GetObject"):
        opened(Denied(memory))


# -- what bucketlog.json may hold --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_name", "says"), [("bucketlog/2", "upgrade bucketlog"), ("otherlog/1", "check what other program")]
)
def test_a_store_of_another_format_is_refused(putting, format_name, says):
    putting.put("bucketlog.json", orjson.dumps({"format": format_name}))

    with pytest.raises(UnsupportedFormatError, match=says):
        opened(putting, read_only=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"format":1}',
        b'{"format":"bucketlog/1","store_id":"","mode":"put"}',
        b'{"format":"bucketlog/1","store_id":"x","mode":"both"}',
        b'{"format":"bucketlog/1","mode":"put"}',
    ],
)
def test_garbage_in_bucketlog_json_is_reported_and_kept(putting, data):
    putting.put("bucketlog.json", data)

    with pytest.raises(CorruptCheckpointError, match=f"{putting.url}/bucketlog.json") as caught:
        opened(putting)

    assert caught.value.key == "bucketlog.json"
    assert putting.get("bucketlog.json").data == data


def test_members_that_a_later_release_added_are_left_alone(putting):
    store = {"format": "bucketlog/1", "store_id": "abc", "mode": "put", "created": "2026-01-01T00:00:00Z", "more": 1}
    putting.put("bucketlog.json", orjson.dumps(store))

    assert opened(putting).store_id == "abc"


# -- who may write -----------------------------------------------------------------------------------------------------


def test_a_store_opened_for_reading_refuses_writes_and_says_why(putting):
    opened(putting)

    root = opened(putting, read_only=True)

    assert (root.read_only, root.writable) == (True, False)
    with pytest.raises(ReadOnlyError) as caught:
        root.check_writable("append to stream 'orders'")
    assert str(caught.value).startswith(f"append to stream 'orders': the store {putting.url} cannot be written: ")
    assert "read_only=True" in str(caught.value)


def test_two_protocols_one_directory_a_store_of_puts_is_not_appended_to(memory, putting):
    opened(putting)

    root = opened(memory)

    assert (root.read_only, root.writable, root.appender) == (True, False, None)
    with pytest.raises(ReadOnlyError, match=r"mode 'put', backend 'memory' in mode 'append'"):
        root.check_writable("append")


def test_two_protocols_one_directory_a_growing_store_gets_no_puts(memory, putting):
    opened(memory)

    root = opened(putting, single_writer=True)

    assert (root.read_only, root.writable, root.appender) == (True, False, None)
    with pytest.raises(ReadOnlyError, match=r"mode 'append', backend 'putting' in mode 'put'"):
        root.check_writable("append")


def test_a_store_that_was_not_proven_through_this_backend_is_proven_by_the_first_write(putting):
    opened(putting)
    putting.delete(["capabilities/putting.json"])

    root = opened(putting)
    assert not root.writable
    assert root.proof is None
    putting.requests.clear()

    root.check_writable("append")
    probed = putting.requests.total()
    root.check_writable("append")

    assert root.writable
    assert probed > 8
    assert putting.requests.total() == probed
    assert opened(putting).writable


def test_threads_that_write_first_prove_once(putting):
    opened(putting)
    putting.delete(["capabilities/putting.json"])
    root = opened(putting)
    putting.requests.clear()
    threads = [threading.Thread(target=root.check_writable, args=("append",)) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert root.writable
    assert putting.requests["put capabilities/putting.json"] == 1


@pytest.mark.parametrize("data", [b"garbage", b"{}"])
def test_an_unreadable_proof_is_made_again(putting, data):
    opened(putting)
    putting.put("capabilities/putting.json", data)

    root = opened(putting)
    assert not root.writable
    root.check_writable("append")

    assert opened(putting).writable


def test_a_proof_by_an_older_release_is_made_again_and_one_by_a_newer_is_believed(putting, monkeypatch):
    monkeypatch.setattr("bucketlog.storage.probe.__version__", "2.0.0")
    opened(putting)

    monkeypatch.setattr(root_module, "__version__", "1.9.0")
    assert opened(putting).writable
    monkeypatch.setattr(root_module, "__version__", "2.0.1")
    assert not opened(putting).writable


def test_a_proof_whose_keeping_was_not_answered_still_counts(memory):
    class LosesProof(PutBackend):
        def put(self, key, data, *, if_version=ANY):
            if key.startswith("capabilities/"):
                raise OutcomeUnknownError(key)
            return super().put(key, data, if_version=if_version)

    assert opened(LosesProof(memory)).writable


# -- storage that is not safe ------------------------------------------------------------------------------------------


def test_storage_that_ignores_conditions_gets_no_store(memory):
    with pytest.raises(CapabilityError) as caught:
        opened(Overwrites(memory))

    message = str(caught.value)
    assert message.startswith(f"create a store at {memory.url}: backend 'putting' at {memory.url} is not safe")
    assert "exclusive_create 8 of 8 rivals" in message
    assert "single_writer=True" in message
    assert list(memory.list("")) == []


def test_storage_that_stopped_keeping_conditions_is_refused_at_the_first_write(memory, putting):
    opened(putting)
    putting.delete(["capabilities/putting.json"])

    root = opened(Overwrites(memory))

    with pytest.raises(CapabilityError, match="append to stream 'x': backend 'putting'"):
        root.check_writable("append to stream 'x'")
    assert not root.writable


def test_a_bad_proof_of_yesterday_does_not_refuse_storage_that_was_mended(memory, putting):
    opened(Overwrites(memory), single_writer=True)

    root = opened(putting)
    assert not root.writable
    root.check_writable("append")

    assert opened(putting).writable


def test_the_error_for_a_versioned_bucket_without_conditions_says_so(memory):
    class Versioned(Overwrites):
        etag_form = "unquoted"
        versioned = False

        def put_version_id(self, key, data):
            self.put(key, data)
            return "3sL4"

    with pytest.raises(CapabilityError, match="use a bucket without versioning"):
        opened(Versioned(memory))


def test_the_next_handle_reads_what_was_proven(memory):
    class Versioned(PutBackend):
        etag_form = "unquoted"
        versioned = False

        def put_version_id(self, key, data):
            self.put(key, data)
            return "3sL4"

        def put(self, key, data, *, if_version=ANY):
            if isinstance(if_version, str) and self.etag_form != "quoted":
                raise ConflictError(key)
            return super().put(key, data, if_version=if_version)

    opened(Versioned(memory))
    second = Versioned(memory)

    opened(second)

    assert (second.etag_form, second.versioned) == ("quoted", True)


def test_storage_that_lists_wrongly_is_refused_to_a_single_writer_too(memory):
    class Unsorted(PutBackend):
        def list(self, prefix, *, start_after="", delimiter=False):
            return iter([*super().list(prefix, start_after=start_after)][::-1])

    with pytest.raises(CapabilityError, match="cannot hold a store: list keys are not listed"):
        opened(Unsorted(memory), single_writer=True)


# -- a single writer ---------------------------------------------------------------------------------------------------


def test_a_single_writer_may_use_storage_that_ignores_conditions(memory):
    root = opened(Overwrites(memory), single_writer=True)

    assert root.writable
    assert root.single_writer
    assert opened(Overwrites(memory), single_writer=True).writable


def test_a_single_writer_keeps_the_conditions_that_its_storage_has_not(memory):
    root = opened(Unconditional(memory), single_writer=True)
    backend = root.backend

    first = backend.put("a", b"1", if_version=ABSENT)
    second = backend.put("a", b"2", if_version=first)

    assert backend.capabilities == Capabilities()
    assert (backend.name, backend.url) == ("putting", memory.url)
    for condition in (ABSENT, first):
        with pytest.raises(ConflictError, match="key 'a': expected"):
            backend.put("a", b"3", if_version=condition)
    with pytest.raises(ConflictError, match="found nothing"):
        backend.put("b", b"3", if_version=second)
    assert backend.get("a") == (b"2", second)
    assert backend.head("a").version == second
    assert [entry.key for entry in backend.list("", start_after="a")] == ["bucketlog.json", "capabilities/putting.json"]
    backend.put("a", b"4")
    backend.delete(["a"])
    with pytest.raises(NotFoundError):
        backend.get("a")


def test_of_a_single_writers_threads_one_creates(memory):
    backend = opened(Unconditional(memory), single_writer=True).backend
    won: list[bytes] = []

    def create(data: bytes) -> None:
        with suppress(ConflictError):
            backend.put("contended", data, if_version=ABSENT)
            won.append(data)

    threads = [threading.Thread(target=create, args=(bytes([number]),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [backend.get("contended").data] == won


def test_a_single_writer_keeps_the_optional_abilities(memory):
    with_upload = opened(UnconditionalUpload(memory), single_writer=True).backend
    without = opened(Unconditional(memory), single_writer=True).backend

    assert isinstance(with_upload, UploadBackend)
    with_upload.upload("blob", io.BytesIO(b"bytes"))
    assert with_upload.get("blob").data == b"bytes"
    assert not isinstance(without, (UploadBackend, AppendBackend))


def test_closing_a_single_writers_store_closes_its_backend(memory):
    backend = Unconditional(memory)

    opened(backend, single_writer=True).close()

    assert backend.closed


def test_good_storage_is_not_wrapped_for_a_single_writer(putting, memory):
    assert opened(putting, single_writer=True).backend is putting


def test_storage_without_conditions_needs_the_promise(memory):
    with pytest.raises(CapabilityError, match="exclusive_create is not claimed; compare_and_set is not claimed"):
        opened(Unconditional(memory))


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["sometimes", "", None, True])
def test_an_unknown_sync_mode_is_refused_before_anything_is_asked(putting, sync):
    with pytest.raises(InvalidOptionError, match="'always', 'interval', 'never'") as caught:
        opened(putting, sync=sync)

    assert caught.value.option == "sync"
    assert not putting.requests


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_the_sync_mode_is_kept(putting, sync):
    assert opened(putting, sync=sync).sync == sync


def test_the_url_is_shown_without_secrets(memory):
    memory.url = "sftp://user:wJalrX@host/path?key=wJalrX"

    with pytest.raises(StoreNotFoundError) as caught:
        opened(memory, create=False)

    assert "wJalrX" not in str(caught.value)
    assert "sftp://host/path" in str(caught.value)


# -- in the background -------------------------------------------------------------------------------------------------


def test_requests_run_side_by_side_and_end_with_the_store(putting):
    before = set(threading.enumerate())
    root = opened(putting)
    together = threading.Barrier(4)

    waited = [root.executor.submit(together.wait, 30) for _ in range(4)]
    assert sorted(future.result() for future in waited) == [0, 1, 2, 3]
    root.close()
    root.close()

    assert putting.closed
    assert not [one for one in threading.enumerate() if one.name.startswith("bucketlog_") and one not in before]


def test_requests_that_make_requests_do_not_wait_for_each_other():
    with RequestPool(2) as pool:
        together = threading.Barrier(2)

        def outer(number: int) -> int:
            together.wait(30)
            return pool.submit(lambda: number + pool.submit(int, "1").result()).result()

        assert [pool.submit(outer, number) for number in range(2)][1].result(timeout=30) == 2
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: pool.submit(lambda: 1 // 0).result()).result(timeout=30)


class SyncedBackend:
    """The memory backend, which records what is synced."""

    def __new__(cls, memory: MemoryBackend, error: Exception | None = None):
        memory.synced = []
        memory.sync_called = threading.Event()

        def sync(key: str) -> None:
            memory.synced.append(key)
            memory.sync_called.set()
            if error is not None:
                raise error

        memory.sync = sync
        return memory


def test_a_key_is_synced_soon_and_once_for_many_appends(memory, monkeypatch):
    monkeypatch.setattr(root_module, "SYNC_INTERVAL_SECONDS", 0.01)
    backend = SyncedBackend(memory)
    root = opened(backend, sync="interval")

    root.sync_soon("streams/a/0/0.jsonl")
    root.sync_soon("streams/a/0/0.jsonl")
    assert backend.sync_called.wait(30)
    root.close()

    assert backend.synced in (["streams/a/0/0.jsonl"], ["streams/a/0/0.jsonl"] * 2)
    assert not [thread for thread in threading.enumerate() if thread.name == "bucketlog-sync"]


def test_closing_syncs_what_waits_at_once(memory, monkeypatch):
    monkeypatch.setattr(root_module, "SYNC_INTERVAL_SECONDS", 3600)
    backend = SyncedBackend(memory)
    root = opened(backend, sync="interval")
    for key in ("b", "a", "a"):
        root.sync_soon(key)

    root.close()

    assert backend.synced == ["a", "b"]


def test_where_commits_are_puts_there_is_nothing_to_sync(putting):
    root = opened(putting, sync="interval")
    root.sync_soon("a")
    putting.requests.clear()

    root.close()

    assert not putting.requests


def test_a_segment_that_is_gone_needs_no_sync(memory):
    root = opened(SyncedBackend(memory, NotFoundError("gone")), sync="interval")
    root.sync_soon("a")

    root.close()

    assert root.writable


def test_a_failed_sync_in_the_background_stops_the_writer(memory, monkeypatch):
    monkeypatch.setattr(root_module, "SYNC_INTERVAL_SECONDS", 0.01)
    root = opened(SyncedBackend(memory, OutcomeUnknownError("EIO")), sync="interval")
    failed = threading.Event()
    monkeypatch.setattr(root_module._log, "error", lambda *args: failed.set())

    root.sync_soon("a")
    assert failed.wait(30)
    root._syncer.close()

    for _ in range(2):
        with pytest.raises(OutcomeUnknownError, match="append to stream 'x': a background sync failed") as caught:
            root.check_writable("append to stream 'x'")
        assert str(caught.value.__cause__) == "EIO"
    root.close()


def test_close_raises_the_error_of_a_failed_last_sync(memory, caplog):
    root = opened(SyncedBackend(memory, BackendUnavailableError("gone away")), sync="interval")
    root.sync_soon("a")

    with pytest.raises(OutcomeUnknownError, match="close the store"):
        root.close()

    assert "gone away" in caplog.text
    root.close()


def test_the_sync_thread_ends_when_there_is_nothing_to_sync():
    synced = threading.Event()
    syncer = Syncer(lambda key: synced.set(), 0.001, failed=pytest.fail)

    for _ in range(3):
        synced.clear()
        syncer.soon("a")
        assert synced.wait(30)
        thread = syncer._thread
        if thread is not None:
            thread.join(30)
        assert syncer._thread is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_locks_of_its_own(memory):
    wrapped = opened(Unconditional(memory), single_writer=True)
    memory.delete(["capabilities/putting.json", "bucketlog.json"])
    root = opened(PutBackend(memory))
    memory.delete(["capabilities/putting.json"])
    unproven = opened(PutBackend(memory))

    with root._lock, unproven._proving, wrapped.backend._read_then_put:
        child = os.fork()
        if child == 0:
            ok = False
            try:
                unproven.check_writable("append")
                ok = root.executor.submit(int, "7").result(30) == 7
                wrapped.backend.put("child", b"1", if_version=ABSENT)
            finally:
                os._exit(0 if ok else 1)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
