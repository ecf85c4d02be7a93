"""The memory backend beyond the conformance suite: names, forks, and what it shares with the local backend."""

import itertools
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from bucketlog.backend import ABSENT
from bucketlog.errors import (
    ConflictError,
    InvalidOptionError,
    InvalidURLError,
    NotFoundError,
    StoreNotFoundError,
)
from bucketlog_backends import memory
from bucketlog_backends.memory import MemoryBackend, open_memory

SEGMENT = "streams/s/0/00000000000000000000.jsonl"
FOLDER = "streams/s/0/"


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4()}"


@pytest.fixture
def backend(url: str) -> MemoryBackend:
    return open_memory(url, {}, create=True)


@pytest.fixture
def other(url: str, backend: MemoryBackend) -> MemoryBackend:
    return open_memory(url, {}, create=True)


# -- names -------------------------------------------------------------------------------------------------------------


def test_handles_of_one_name_share_a_store_and_other_names_do_not(url: str, backend: MemoryBackend) -> None:
    backend.put("key", b"data")
    backend.close()

    assert open_memory(f"{url}/", {}, create=False).get("key").data == b"data"
    with pytest.raises(NotFoundError):
        open_memory(f"{url}/below", {}, create=True).get("key")


def test_name_under_which_nothing_is_stored_is_no_store(url: str) -> None:
    with pytest.raises(StoreNotFoundError, match="create=True"):
        open_memory(url, {}, create=False)

    open_memory(url, {}, create=True)
    with pytest.raises(StoreNotFoundError):
        open_memory(url, {}, create=False)


@pytest.mark.parametrize("url", ["memory:name", "name", "file:///name"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidURLError, match="memory://name"):
        open_memory(url, {}, create=True)


def test_unknown_option_is_refused(url: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        open_memory(url, {"region": "x"}, create=True)

    assert caught.value.option == "region"


# -- listing -----------------------------------------------------------------------------------------------------------

TRICKY_KEYS = ["a", "a-b", "a-b-c/x", "a.b/x", "b/-", "b/0", "b/x/y", "b/x-y", "b/x.y", "b0"]


@pytest.mark.parametrize("delimiter", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_list_is_in_order_from_wherever_it_starts_and_however_it_is_cut(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, chunk: int, delimiter: bool
) -> None:
    monkeypatch.setattr(memory, "_LIST_CHUNK", chunk)
    for key in TRICKY_KEYS:
        backend.put(key, b"")
    starts = ["", *TRICKY_KEYS, "a-", "a/", "b", "b-", "b/", "b/x", "b/x/", "b/x/z", "b0", "c"]

    for prefix, start_after in itertools.product(["", "b/", "b/x/", "c/"], starts):
        expected = {key for key in TRICKY_KEYS if key.startswith(prefix) and key > start_after}
        if delimiter:
            below = len(prefix)
            expected = {key if "/" not in key[below:] else key[: key.index("/", below) + 1] for key in expected}
        listed = [entry.key for entry in backend.list(prefix, start_after=start_after, delimiter=delimiter)]
        assert listed == sorted(expected), (prefix, start_after)


def test_list_continues_while_keys_come_and_go(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LIST_CHUNK", 1)
    for key in ("a/1", "b/1", "c"):
        backend.put(key, b"")

    listing = backend.list("", delimiter=True)
    first = next(listing).key
    backend.delete(["a/1", "b/1"])
    backend.put("a/2", b"")
    backend.put("d", b"")

    assert [first, *(entry.key for entry in listing)] == ["a/", "c", "d"]


def test_list_hides_what_a_directory_hides(backend: MemoryBackend) -> None:
    backend.append(SEGMENT, b"whole|torn", expected_size=0)
    backend.cut(SEGMENT, 5, aside=FOLDER + ".torn")
    backend.put(".probe/key", b"")
    backend.put("hidden/.only", b"")

    assert [entry.key for entry in backend.list("")] == [".probe/key", SEGMENT]
    assert [entry.key for entry in backend.list("", delimiter=True)] == [".probe/", "streams/"]


# -- growing objects ---------------------------------------------------------------------------------------------------


def test_bytes_that_were_read_do_not_change_when_the_object_grows(backend: MemoryBackend) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)
    before = backend.get(SEGMENT)

    backend.append(SEGMENT, b"2", expected_size=1)
    after = backend.get(SEGMENT)

    assert (before.data, after.data) == (b"1", b"12")
    assert before.version != after.version


def test_object_that_was_put_can_grow_without_changing_the_callers_bytes(backend: MemoryBackend) -> None:
    mine = bytearray(b"1")
    backend.put(SEGMENT, mine)  # type: ignore[arg-type]  # a caller may be careless
    mine[:] = b"?"

    backend.append(SEGMENT, b"2", expected_size=1)

    assert backend.get(SEGMENT).data == b"12"


def test_removed_segment_takes_no_append_before_it_is_read_again(backend: MemoryBackend, other: MemoryBackend) -> None:
    backend.append(SEGMENT, b"", expected_size=0)
    other.delete([SEGMENT])

    with pytest.raises(ConflictError):
        backend.append(SEGMENT, b"1", expected_size=0)

    backend.append(SEGMENT, b"1", expected_size=0)
    assert other.get(SEGMENT).data == b"1"


def test_appends_of_many_threads_lose_nothing(url: str) -> None:
    def append(number: int) -> None:
        handle, size = open_memory(url, {}, create=True), 0
        for _ in range(50):
            while True:
                try:
                    handle.append(SEGMENT, b"%d" % number, expected_size=size)
                    break
                except ConflictError:
                    size = handle.head(SEGMENT).size
            size += 1

    with ThreadPoolExecutor(8) as threads:
        [*threads.map(append, range(8))]

    stored = open_memory(url, {}, create=False).get(SEGMENT).data
    assert sorted(stored) == sorted(b"01234567" * 50)


def test_cut_never_overwrites_what_was_kept_before(backend: MemoryBackend) -> None:
    backend.append(SEGMENT, b"0|1", expected_size=0)
    backend.cut(SEGMENT, 1, aside=FOLDER + ".torn")
    backend.append(SEGMENT, b"|2", expected_size=1)

    backend.cut(SEGMENT, 1, aside=FOLDER + ".torn")
    backend.cut(SEGMENT, 1, aside=FOLDER + ".torn")  # nothing left to cut

    assert backend.get(FOLDER + ".torn").data == b"|1"
    assert backend.get(FOLDER + ".torn-1").data == b"|2"
    with pytest.raises(NotFoundError):
        backend.get(FOLDER + ".torn-2")


def test_sealed_segment_is_not_cut(backend: MemoryBackend) -> None:
    backend.append(SEGMENT, b"data", expected_size=0)
    backend.seal(SEGMENT)

    with pytest.raises(ConflictError, match="sealed"):
        backend.cut(SEGMENT, 0, aside=None)

    assert backend.get(SEGMENT).data == b"data"


def test_call_about_a_missing_segment_is_not_found(backend: MemoryBackend) -> None:
    for call in (
        lambda: backend.seal(SEGMENT),
        lambda: backend.sync(SEGMENT),
        lambda: backend.cut(SEGMENT, 0, aside=None),
    ):
        with pytest.raises(NotFoundError, match=SEGMENT):
            call()

    assert not backend.is_sealed(SEGMENT)


# -- locks -------------------------------------------------------------------------------------------------------------


def test_shared_lock_cannot_become_exclusive(backend: MemoryBackend) -> None:
    with backend.lock(FOLDER, shared=True), backend.lock(FOLDER, shared=True):
        with pytest.raises(RuntimeError, match="shared lock"), backend.lock(FOLDER):
            pass
        with pytest.raises(RuntimeError, match="shared lock"):
            backend.append(SEGMENT, b"", expected_size=0)

    backend.append(SEGMENT, b"", expected_size=0)


def test_write_waits_for_the_lock_of_another_handle(backend: MemoryBackend, other: MemoryBackend) -> None:
    with ThreadPoolExecutor(1) as thread:
        with backend.lock(FOLDER):
            put = thread.submit(other.put, FOLDER + "key", b"theirs", if_version=ABSENT)
            with pytest.raises(TimeoutError):
                put.result(timeout=0.1)
            backend.put(FOLDER + "key", b"mine", if_version=ABSENT)
        with pytest.raises(ConflictError):
            put.result(timeout=10)


# -- watching ----------------------------------------------------------------------------------------------------------


def test_watch_wakes_for_its_own_prefix_only(backend: MemoryBackend, other: MemoryBackend) -> None:
    watch = backend.watch(FOLDER)

    other.put("elsewhere/key", b"")
    assert not watch.wait(0)

    for change in (
        lambda: other.append(SEGMENT, b"12", expected_size=0),
        lambda: other.append(SEGMENT, b"3", expected_size=2),
        lambda: other.cut(SEGMENT, 1, aside=None),
        lambda: other.seal(SEGMENT),
        lambda: other.delete([SEGMENT]),
    ):
        change()
        assert watch.wait(0)
        assert not watch.wait(0)


def test_closed_watch_lets_its_waiter_go_and_wakes_no_more(backend: MemoryBackend) -> None:
    watch = backend.watch("")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(watch.wait, 60)
        watch.close()
        assert not waiting.result(timeout=10)

    backend.put("key", b"")

    assert not watch.wait(0)
    watch.close()


# -- forks -------------------------------------------------------------------------------------------------------------

FORKING = """
import os, threading
from bucketlog_backends.memory import open_memory, _roots

handle = open_memory("memory://name", {}, create=True)
handle.append("f/key", b"0", expected_size=0)
watch = handle.watch("f/")
held, let_go = threading.Event(), threading.Event()

def hold():
    with handle.lock("f/"), _roots["name"].mutex:
        held.set()
        let_go.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if not pid:
    with handle.lock("f/"):
        open_memory("memory://name", {}, create=False)
        handle.append("f/key", b"1", expected_size=1)
    said = watch.wait(10), handle.get("f/key").data, [entry.key for entry in handle.list("")]
    os.write(1, repr(said).encode() + b"\\n")
    os._exit(0)
os.waitpid(pid, 0)
let_go.set()
thread.join()
print(handle.get("f/key").data, watch.wait(0))
"""


@pytest.mark.slow
def test_forked_child_has_a_copy_and_locks_of_its_own() -> None:
    # Newer versions of Python warn about a fork in a process with threads, which is what this tests.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]

    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["(True, b'01', ['f/key'])", "b'0' False"]


def test_many_threads_put_and_delete_without_losing_order(backend: MemoryBackend) -> None:
    barrier = threading.Barrier(8)

    def churn(number: int) -> None:
        barrier.wait()
        for turn in range(100):
            backend.put(f"{turn % 10}/{number}", b"")
            if turn % 3 == 0:
                backend.delete([f"{turn % 10}/{number}"])

    with ThreadPoolExecutor(8) as threads:
        [*threads.map(churn, range(8))]

    listed = [entry.key for entry in backend.list("")]
    stored = [f"{turn}/{number}" for turn in range(10) for number in range(8)]
    assert listed == sorted(key for key in stored if key in backend._root.objects)
    assert len(listed) == len(backend._root.objects) > 0
