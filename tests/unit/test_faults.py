"""Injected faults do to a backend exactly what their names say."""

import itertools
import threading

import pytest

from bucketlog.backend import ABSENT, AppendBackend, UploadBackend, WatchBackend
from bucketlog.errors import BackendUnavailableError, ConflictError, NotFoundError, OutcomeUnknownError
from bucketlog.testing import (
    BackendWrapper,
    Crash,
    CrashAfter,
    Fail,
    Hold,
    LoseAnswer,
    Page,
    PowerCutDisk,
    SimulatedCrash,
    Tear,
    on,
    with_faults,
)
from bucketlog_backends.memory import open_memory

_names = itertools.count()


@pytest.fixture
def open_inner():
    url = f"memory://test-faults-{next(_names)}"
    return lambda: open_memory(url, {}, create=True)


@pytest.fixture
def inner(open_inner):
    return open_inner()


# -- a plan ------------------------------------------------------------------------------------------------------------


def test_wrapper_has_the_abilities_of_what_it_wraps(inner):
    abilities = (AppendBackend, UploadBackend, WatchBackend)

    assert all(isinstance(with_faults(inner), ability) for ability in abilities)
    assert not any(isinstance(with_faults(BackendWrapper(inner)), ability) for ability in abilities)


def test_calls_are_counted_by_method(inner):
    faulty = with_faults(inner)

    faulty.put("a/0", b"first")
    faulty.put("a/1", b"second")
    faulty.get("a/0")
    [*faulty.list("a/")]
    faulty.delete(["a/0", "a/1"])

    assert faulty.count() == 5
    assert faulty.count("put") == 2
    assert faulty.count("get", "list") == 2
    assert [(call.method, call.key, call.nth, call.number) for call in faulty.calls] == [
        ("put", "a/0", 1, 1),
        ("put", "a/1", 2, 2),
        ("get", "a/0", 1, 3),
        ("list", "a/", 1, 4),
        ("delete", "a/0", 1, 5),
    ]


def test_plan_names_a_method_a_key_and_which_call(inner):
    faulty = with_faults(inner, on("put", Fail(), key="0.jsonl", nth=2))

    faulty.put("a/0.jsonl", b"first")
    faulty.put("a/1.jsonl", b"another key")
    faulty.get("a/0.jsonl")
    with pytest.raises(BackendUnavailableError):
        faulty.put("a/0.jsonl", b"second")
    faulty.put("a/0.jsonl", b"third")

    assert inner.get("a/0.jsonl").data == b"third"


def test_fail_does_nothing_and_raises_the_error(inner):
    error = BackendUnavailableError("made for this test")
    faulty = with_faults(inner, on("put", Fail(error)))

    with pytest.raises(BackendUnavailableError) as caught:
        faulty.put("a", b"bytes")

    assert caught.value is error
    with pytest.raises(NotFoundError):
        inner.get("a")


def test_lost_answer_hides_that_the_call_was_done(inner):
    faulty = with_faults(inner, on("put", LoseAnswer()))

    with pytest.raises(OutcomeUnknownError):
        faulty.put("a", b"bytes", if_version=ABSENT)

    assert inner.get("a").data == b"bytes"


def test_lost_answer_hides_a_refusal_too(inner):
    inner.put("a", b"another's")
    faulty = with_faults(inner, on("put", LoseAnswer()))

    with pytest.raises(OutcomeUnknownError):
        faulty.put("a", b"bytes", if_version=ABSENT)

    assert inner.get("a").data == b"another's"


@pytest.mark.parametrize(("fault", "stored"), [(Crash(), []), (CrashAfter(), ["a"])])
def test_crashed_handle_stays_dead_and_others_live(open_inner, fault, stored):
    faulty, other = with_faults(open_inner(), on("put", fault)), open_inner()

    with pytest.raises(SimulatedCrash, match="put a, call 1"):
        faulty.put("a", b"bytes")

    assert faulty.crashed
    for call in (
        lambda: faulty.get("a"),
        lambda: faulty.delete(["a"]),
        lambda: next(faulty.list("")),
        lambda: faulty.append("p/0", b"bytes", expected_size=0),
        lambda: faulty.lock("p/").__enter__(),
    ):
        with pytest.raises(SimulatedCrash):
            call()
    assert [entry.key for entry in other.list("")] == stored
    faulty.close()


def test_crash_is_not_caught_by_error_handlers():
    assert not issubclass(SimulatedCrash, Exception)


def test_crash_releases_the_locks_of_its_process(open_inner):
    faulty, other = with_faults(open_inner(), on("append", CrashAfter())), open_inner()

    with pytest.raises(SimulatedCrash), faulty.lock("p/"):
        faulty.append("p/0", b"first", expected_size=0)

    taken = threading.Thread(target=lambda: other.append("p/0", b"second", expected_size=5), daemon=True)
    taken.start()
    taken.join(timeout=10)
    assert other.get("p/0").data == b"firstsecond"


@pytest.mark.parametrize("fault", [Crash(), CrashAfter()])
def test_crash_at_a_lock_leaves_it_free(open_inner, fault):
    faulty, other = with_faults(open_inner(), on("lock", fault)), open_inner()

    with pytest.raises(SimulatedCrash), faulty.lock("p/"):
        pytest.fail("got into the lock")

    taken = threading.Thread(target=lambda: other.append("p/0", b"first", expected_size=0), daemon=True)
    taken.start()
    taken.join(timeout=10)
    assert other.get("p/0").data == b"first"


def test_held_put_lands_when_it_is_released(inner):
    faulty = with_faults(inner, on("put", Hold()))
    with pytest.raises(OutcomeUnknownError):
        faulty.put("a", b"late", if_version=ABSENT)
    with pytest.raises(NotFoundError):
        inner.get("a")

    assert faulty.release() == [None]

    assert inner.get("a").data == b"late"
    assert faulty.release() == []


def test_held_put_that_lands_too_late_is_refused_like_any_other(inner):
    faulty = with_faults(inner, on("put", Hold()))
    with pytest.raises(OutcomeUnknownError):
        faulty.put("a", b"late", if_version=ABSENT)
    faulty.put("a", b"in time", if_version=ABSENT)

    [error] = faulty.release()

    assert isinstance(error, ConflictError)
    assert inner.get("a").data == b"in time"


def test_held_call_lands_once_and_after_its_process_died(inner):
    faulty = with_faults(inner, lambda call: {"delete": Hold(), "get": Crash()}.get(call.method))
    faulty.put("a", b"first")
    with pytest.raises(OutcomeUnknownError):
        faulty.delete(["a"])
    with pytest.raises(SimulatedCrash):
        faulty.get("a")
    [held] = faulty.held

    held.land()
    inner.put("a", b"second")
    held.land()

    assert inner.get("a").data == b"second"


@pytest.mark.parametrize("kept", [0, 1, 5, 6])
def test_torn_append_leaves_its_beginning(inner, kept):
    faulty = with_faults(inner, on("append", Tear(kept), nth=2))
    faulty.append("p/0", b"first,", expected_size=0)

    with pytest.raises(SimulatedCrash):
        faulty.append("p/0", b"second", expected_size=6)

    assert inner.get("p/0").data == b"first," + b"second"[:kept]


@pytest.mark.parametrize("fault", [Tear(1), Hold()])
def test_fault_that_does_not_apply_to_a_call_is_refused(inner, fault):
    faulty = with_faults(inner, on("get", fault))

    with pytest.raises(ValueError, match="does not apply to get"):
        faulty.get("a")


def test_another_thread_of_a_crashed_process_gets_no_answer(inner):
    faulty = with_faults(inner)
    begun, crashed = threading.Event(), threading.Event()

    def plan(call):
        if call.key == "crash":
            return Crash()
        return None

    real_put = inner.put

    def slow_put(key, data, **condition):
        begun.set()
        assert crashed.wait(10)
        return real_put(key, data, **condition)

    inner.put = slow_put
    faulty.plan = plan
    heard = []

    def put():
        try:
            heard.append(faulty.put("a", b"bytes"))
        except SimulatedCrash:
            heard.append("nothing")

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    assert begun.wait(10)
    with pytest.raises(SimulatedCrash):
        faulty.head("crash")
    crashed.set()
    thread.join(timeout=10)

    assert heard == ["nothing"]
    assert inner.get("a").data == b"bytes"


# -- power cuts --------------------------------------------------------------------------------------------------------


def test_power_cut_keeps_what_was_synced(open_inner):
    disk = PowerCutDisk(open_inner)
    handle = disk.open()
    handle.append("p/0", b"synced,", expected_size=0)
    handle.append("p/0", b"not synced", expected_size=7, sync=False)
    handle.append("p/1", b"by name", expected_size=0, sync=False)
    handle.sync("p/1")
    handle.append("p/2", b"sealed", expected_size=0, sync=False)
    handle.seal("p/2")
    handle.put("p/3", b"put")

    disk.power_cut()

    after = disk.open()
    assert [(entry.key, after.get(entry.key).data) for entry in after.list("")] == [
        ("p/0", b"synced,"),
        ("p/1", b"by name"),
        ("p/2", b"sealed"),
        ("p/3", b"put"),
    ]
    assert after.is_sealed("p/2")


def test_synced_append_writes_out_what_came_before_it(open_inner):
    disk = PowerCutDisk(open_inner)
    handle, other = disk.open(), disk.open()
    handle.append("p/0", b"first,", expected_size=0, sync=False)
    other.append("p/0", b"second", expected_size=6)

    assert disk.unsynced_keys() == disk.unsynced_names() == disk.unsynced_pages() == []
    disk.power_cut()

    assert disk.open().get("p/0").data == b"first,second"


def test_unsynced_name_is_gone_with_its_object_unless_it_was_written(open_inner):
    disk = PowerCutDisk(open_inner)
    handle = disk.open()
    handle.append("p/0", b"first", expected_size=0, sync=False)
    handle.append("p/1", b"second", expected_size=0, sync=False)
    assert disk.unsynced_names() == ["p/0", "p/1"]

    disk.power_cut(keep_names=["p/1"], keep_pages=disk.unsynced_pages())

    after = disk.open()
    assert [entry.key for entry in after.list("")] == ["p/1"]
    assert after.get("p/1").data == b"second"


def test_page_that_was_never_written_reads_as_zeros(open_inner):
    disk = PowerCutDisk(open_inner)
    handle = disk.open()
    handle.append("p/0", b"s" * 500, expected_size=0)
    for number, letter in enumerate((b"a", b"b", b"c")):
        handle.append("p/0", letter * 512, expected_size=500 + 512 * number, sync=False)
    assert disk.unsynced_pages() == [Page("p/0", number) for number in range(4)]

    disk.power_cut(keep_pages=[Page("p/0", 0), Page("p/0", 2)])

    found = disk.open().get("p/0").data
    assert found[:512] == b"s" * 500 + b"a" * 12
    assert found[512:1024] == bytes(512)
    assert found[1024:] == b"b" * 500 + b"c" * 12


@pytest.mark.parametrize(("keep_sizes", "found"), [(True, b"synced" + bytes(8)), (False, b"synced")])
def test_lost_end_is_cut_off_or_reads_as_zeros(open_inner, keep_sizes, found):
    disk = PowerCutDisk(open_inner)
    handle = disk.open()
    handle.append("p/0", b"synced", expected_size=0)
    handle.append("p/0", b"unsynced", expected_size=6, sync=False)

    disk.power_cut(keep_sizes=keep_sizes)

    assert disk.open().get("p/0").data == found


def test_power_cut_kills_every_handle_and_frees_its_locks(open_inner):
    disk = PowerCutDisk(open_inner)
    handle, other = disk.open(), disk.open()
    inside = threading.Event()
    died = []

    def append_until_the_power_goes():
        try:
            with handle.lock("p/"):
                for size in range(100_000):
                    handle.append("p/0", b"x", expected_size=size, sync=False)
                    inside.set()
        except SimulatedCrash:
            died.append(handle)

    thread = threading.Thread(target=append_until_the_power_goes, daemon=True)
    thread.start()
    assert inside.wait(10)
    disk.power_cut()
    thread.join(timeout=10)

    assert died == [handle]
    with pytest.raises(SimulatedCrash):
        other.get("p/0")
    after = disk.open()
    assert [*after.list("")] == []
    after.append("p/0", b"again", expected_size=0)
    other.close()


def test_faults_can_be_injected_over_a_power_cut_disk(open_inner):
    disk = PowerCutDisk(open_inner)
    faulty = with_faults(disk.open(), on("append", Tear(3), nth=2))
    faulty.append("p/0", b"synced,", expected_size=0)

    with pytest.raises(SimulatedCrash):
        faulty.append("p/0", b"unsynced", expected_size=7, sync=False)
    disk.power_cut(keep_pages=disk.unsynced_pages())

    assert disk.open().get("p/0").data == b"synced,uns"
