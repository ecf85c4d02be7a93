"""The async surface: the same store. A cancellation loses nothing, and no thread outlives its store."""

import asyncio
import gc
import inspect
import io
import pydoc
import threading
import time

import pytest

import bucketlog
from bucketlog import Event, aio, bridge
from bucketlog.buffered_writer import BufferedWriter
from bucketlog.errors import (
    BackendUnavailableError,
    CorruptSegmentError,
    DuplicateEventError,
    InvalidEventError,
    InvalidNameError,
    OffsetConflictError,
    OffsetOutOfRangeError,
    StorageFullError,
    StoreNotFoundError,
    SubscriptionLostError,
    UnwrittenEventsError,
)
from bucketlog.state.blobs import Blobs
from bucketlog.state.checkpoints import Checkpoints
from bucketlog.state.objects import Objects
from bucketlog.state.snapshots import Snapshots
from bucketlog.store import Store
from bucketlog.stream import Stream
from bucketlog.testing import Fail, on, with_faults

from .stores import DEADLINE_SECONDS, KINDS, event, ids, opened_storage

LONG = 60.0


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture(autouse=True)
def no_threads_left():
    """When a test has closed its stores, the threads that run are those that ran before it."""
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in set(threading.enumerate()) - before] == []


def run(main):
    """Run a coroutine. A hang fails the test, and so does anything that asyncio would only log."""
    complaints = []

    async def guarded():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        result = await asyncio.wait_for(main, DEADLINE_SECONDS)
        gc.collect()
        await asyncio.sleep(0)
        return result

    result = asyncio.run(guarded())
    assert complaints == []
    return result


def open_async(storage, plan=None, **options):
    backend = with_faults(storage.open_backend())
    if plan is not None:
        backend.plan = plan
    return bucketlog.aopen(backend, **options)


async def collected(events):
    return [found.id async for found in events]


async def take(events, count):
    return [(await anext(events)).id for _ in range(count)]


# -- the same store ----------------------------------------------------------------------------------------------------


def test_what_one_surface_writes_the_other_reads(storage):
    sync = storage.open()
    sync.stream("orders").append([event(0), event(1)])
    sync.checkpoints.save("sync", 1)

    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            commit = await orders.append([event(2), event(3)])
            assert commit.offsets == (2, 3)
            assert await collected(orders.read()) == ["e0", "e1", "e2", "e3"]
            assert (await store.checkpoints.load("sync")).value == 1
            await store.checkpoints.save("async", 2)
            assert (store.id, store.url, store.read_only) == (sync.id, sync.url, False)

    run(main())

    assert ids(sync.stream("orders").read()) == ["e0", "e1", "e2", "e3"]
    assert sync.checkpoints.load("async").value == 2


@pytest.mark.slow
def test_every_way_to_read_agrees_with_the_sync_one(storage):
    sync = storage.open().stream("days", partition_by="day")
    sync.append([event(n, days=n % 3, subject=f"s{n % 4}", tags=("t",) if n % 2 else ()) for n in range(40)])

    async def main():
        async with open_async(storage) as store:
            days = store.stream("days")
            for filters in ({}, {"subjects": ["s1"]}, {"tags": ["t"], "limit": 5}, {"partitions": ["2026-02-06"]}):
                mine, theirs = days.read(**filters), sync.read(**filters)
                assert await collected(mine) == ids(theirs)
                assert mine.cursor == theirs.cursor
                batches = days.read_batches(**filters)
                assert [one.id async for batch in batches for one in batch.events] == ids(sync.read(**filters))
            assert await days.recent(3, subject="s2") == sync.recent(3, subject="s2")
            assert await days.get("e7") == sync.get("e7")
            assert await days.cursor() == sync.cursor()
            assert await days.partitions() == sync.partitions()
            assert await days.stats() == sync.stats()
            assert await days.verify() == sync.verify()
            assert await store.streams() == ["days"]
            assert days.url("2026-02-05") == sync.url("2026-02-05")
            assert days.name == "days"

    run(main())


def test_what_one_surface_compacts_the_other_reads(storage):
    sync = storage.open().stream("orders")
    sync.append([event(0), event(1)])

    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            (planned,) = await orders.compact(dry_run=True)
            (done,) = await orders.compact()
            assert (planned.segments_before, planned.segments_after, done.events, done.segments_after) == (1, 0, 2, 1)
            assert await collected(orders.read()) == ["e0", "e1"]
            assert await orders.stats() == sync.stats()

    run(main())

    assert ids(sync.read()) == ["e0", "e1"]
    assert sync.stats().compacted_segments == 1


def test_documents_are_the_same_on_both_surfaces(storage):
    sync = storage.open()

    async def main():
        async with open_async(storage) as store:
            saved = await store.checkpoints.save("a", 1, expected_version=bucketlog.ABSENT)
            assert sync.checkpoints.load("a") == saved
            assert await store.checkpoints.list() == ["a"]
            assert await store.checkpoints.delete("a", expected_version=saved.version)
            await store.snapshots.save("state", {"n": 1}, at="2026-02-05", cursor={"0": 1})
            assert await store.snapshots.latest("state") == sync.snapshots.latest("state")
            assert await store.snapshots.load("state", "2026-02-05") == sync.snapshots.load("state", "2026-02-05")
            assert await store.snapshots.list("state") == sync.snapshots.list("state")
            assert await store.snapshots.names() == ["state"]
            assert len(await store.snapshots.prune("state", keep=0)) == 1
            blob = await store.blobs.put(io.BytesIO(b"0123456789"))
            assert sync.blobs.get(blob.digest) == await store.blobs.get(blob.digest) == b"0123456789"
            async with await store.blobs.open(blob.digest) as file:
                assert await file.seek(3) == 3
                assert await file.read(4) == b"3456"
                assert await file.read() == b"789"
            assert await store.blobs.exists(blob.digest)
            assert await store.blobs.stat(blob.digest) == blob
            assert await store.blobs.list() == [blob]
            await store.blobs.delete(blob.digest)
            await store.objects.put("a/b", b"bytes", if_absent=True)
            assert sync.objects.get("a/b") == await store.objects.get("a/b") == b"bytes"
            assert await store.objects.list("a/") == ["a/b"]
            assert store.objects.url("a/b") == sync.objects.url("a/b")
            await store.objects.delete("a/b")

    run(main())

    assert sync.checkpoints.list() == []
    assert sync.objects.list() == []


TWINS = [  # sync, async, and which names only the sync one has
    (Stream, aio.AsyncStream, set()),
    (Store, aio.AsyncStore, {"close", "backend"}),
    (Checkpoints, aio.AsyncCheckpoints, set()),
    (Snapshots, aio.AsyncSnapshots, set()),
    (Blobs, aio.AsyncBlobs, set()),
    (Objects, aio.AsyncObjects, set()),
    (BufferedWriter, aio.AsyncWriter, {"close"}),
    (bucketlog.Subscription, aio.AsyncSubscription, {"poll", "wait"}),
    (bucketlog.Tail, aio.AsyncTail, {"poll", "wait"}),
    (bucketlog.Reader, aio.AsyncReader, {"close"}),
]
METHODS = [
    pytest.param(getattr(sync, name), getattr(other, name), id=f"{other.__name__}.{name}")
    for sync, other, _ in TWINS
    for name, member in inspect.getmembers(sync, inspect.isfunction)
    if not name.startswith("_") and hasattr(other, name)
]
ASYNC_CLASSES = [other for _, other, _ in TWINS] + [aio.AsyncBlobFile, aio.Opening]
STREAMS = {"str | Stream": "str | AsyncStream"}  # `subscribe` takes a stream of its own surface


def public_names(kind):
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "other", "only_sync"), TWINS)
def test_async_surface_has_all_of_the_sync_one(sync, other, only_sync):
    assert public_names(sync) - public_names(other) == only_sync


@pytest.mark.parametrize(("sync", "other"), [*METHODS, pytest.param(bucketlog.open, bucketlog.aopen, id="aopen")])
def test_async_method_has_the_parameters_of_its_sync_one(sync, other):
    expected, found = inspect.signature(sync).parameters.values(), inspect.signature(other).parameters.values()

    assert list(found) == [one.replace(annotation=STREAMS.get(one.annotation, one.annotation)) for one in expected]


@pytest.mark.parametrize(("sync", "other"), METHODS)
def test_async_method_returns_the_async_form_of_what_its_sync_one_returns(sync, other):
    forms = {
        "ArrowReader": "AsyncReader[pa.RecordBatch]",
        "Reader[Event]": "AsyncReader[Event]",
        "Reader[Batch]": "AsyncReader[Batch]",
        "Tail": "AsyncTail",
        "BufferedWriter": "AsyncWriter",
        "Stream": "AsyncStream",
        "Subscription": "AsyncSubscription",
        "Iterator[Blob]": "list[Blob]",
        "BinaryIO": "AsyncBlobFile",
    }
    returned = inspect.signature(sync).return_annotation

    assert inspect.signature(other).return_annotation == forms.get(returned, returned)
    assert inspect.iscoroutinefunction(other) == (
        returned not in {"ArrowReader", "Reader[Event]", "Reader[Batch]", "Tail", "BufferedWriter", "Stream"}
        and sync.__name__ not in {"url", "close"}
    )


@pytest.mark.parametrize("kind", ASYNC_CLASSES)
def test_no_annotation_of_the_async_surface_is_any(kind):
    for name in ["__init__", "__aenter__", "__anext__", "__await__", *public_names(kind)]:
        member = inspect.getattr_static(kind, name, None)
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function):
            signature = inspect.signature(function)
            annotations = [signature.return_annotation, *(one.annotation for one in signature.parameters.values())]
            assert [one for one in annotations if "Any" in str(one)] == []


@pytest.mark.parametrize("kind", ASYNC_CLASSES)
def test_async_method_says_where_it_belongs_and_what_it_does(kind):
    for name in public_names(kind):
        member = inspect.getattr_static(kind, name)
        assert inspect.getdoc(member)
        if inspect.isfunction(member):
            assert member.__name__ == name
            assert member.__module__ == "bucketlog.aio"
            assert member.__qualname__.rpartition(".")[0] in [base.__qualname__ for base in kind.__mro__]


def test_help_of_an_async_method_says_that_it_is_awaited():
    found = pydoc.plain(pydoc.render_doc(aio.AsyncStream.append))

    assert "async append(self, events: 'Event | Iterable[Event]', *, partition: 'str | None' = None" in found
    assert "Append one event or a batch" in found
    assert "Await it." in found
    assert "OffsetConflictError: " in found
    assert "Returns a list." in inspect.getdoc(aio.AsyncBlobs.list)
    assert "store = await bucketlog.aopen(url)" in inspect.getdoc(bucketlog.aopen)


@pytest.mark.slow
def test_aopen_can_be_awaited(storage):
    async def main():
        store = await open_async(storage)
        await store.stream("orders").append(event(0))
        await store.aclose()
        return store.url

    assert run(main()) == storage.backend.url


@pytest.mark.slow
def test_stream_of_the_async_store_can_be_subscribed_to(storage):
    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            await orders.append([event(0), event(1)])
            async with await store.subscribe(orders, "mailer") as first:
                assert first.name == "mailer"
                assert await take(first, 1) == ["e0"]
                assert await first.ack() == {"0": 1}
            async with await store.subscribe("orders", "mailer") as second:
                assert await take(second, 1) == ["e1"]
                with pytest.raises(SubscriptionLostError):
                    await first.ack()
                assert await second.ack({"0": 2}) == {"0": 2}

    run(main())

    assert storage.open().subscribe("orders", "mailer").cursor == {"0": 2}


def test_writer_gathers_and_flushes(storage):
    async def main():
        async with open_async(storage) as store:
            async with store.stream("orders").writer(linger=LONG) as writer:
                for number in range(5):
                    await writer.append(event(number))
                await writer.flush()
                assert (writer.written, writer.duplicates) == (5, 0)
                await writer.append(event(5))
            assert (await store.stream("orders").verify()).commits == 2

    run(main())

    assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(6)]


def test_many_tasks_append_at_once(storage):
    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            commits = await asyncio.gather(*(orders.append(event(number)) for number in range(100)))
            assert sorted(commit.first_offset for commit in commits) == list(range(100))

    run(main())

    stream = storage.open().stream("orders")
    assert sorted(ids(stream.read())) == sorted(f"e{number}" for number in range(100))
    assert stream.verify().ok


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_arrive(storage):
    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            await orders.append([event(0), event(1)])
            with pytest.raises(DuplicateEventError) as duplicate:
                await orders.append(event(1))
            assert duplicate.value.offset == 1
            with pytest.raises(OffsetConflictError):
                await orders.append(event(2), expected_offset=1)
            with pytest.raises(InvalidEventError):
                await orders.append(event(2, data={1}))
            with pytest.raises(InvalidNameError):
                store.stream("")
            with pytest.raises(OffsetOutOfRangeError):
                await collected(orders.read({"0": 3}))
            with pytest.raises(OffsetOutOfRangeError):
                await anext(orders.tail({"0": 3}))
            with pytest.raises(ValueError, match="limit"):
                orders.read(limit=-1)

    run(main())


def test_missing_store_is_reported(tmp_path):
    async def main():
        async with bucketlog.aopen(tmp_path / "nothing", create=False):
            pytest.fail("opened a store that does not exist")

    with pytest.raises(StoreNotFoundError):
        run(main())


def test_error_comes_after_the_events_that_were_read_before_it(storage):
    sync = storage.open().stream("orders")
    sync.append([event(0), event(1)], partition="a")
    sync.append([event(2), event(3)], partition="b")
    plan = on("get", Fail(BackendUnavailableError("gone")), key="/b/0000")

    async def main():
        async with open_async(storage) as store:
            store._sync.backend.plan = plan
            reader, found = store.stream("orders").read(), []

            async def read():
                async for one in reader:
                    found.append(one.id)  # noqa: PERF401  (what came before the error counts)

            with pytest.raises(BackendUnavailableError):
                await read()
            return found + await collected(store.stream("orders").read(reader.cursor))

    assert run(main()) == ["e0", "e1", "e2", "e3"]


@pytest.mark.slow
def test_tail_reports_damage_every_time(storage):
    sync = storage.open().stream("orders")
    sync.append(event(0))
    [(key, data)] = storage.contents("streams/orders/0/").items()
    storage.backend.delete([key])
    storage.backend.put(key, data.replace(b'"e0"', b'"eX"'))

    async def main():
        async with open_async(storage) as store:
            tail = store.stream("orders").tail()
            for _ in range(3):
                with pytest.raises(CorruptSegmentError):
                    await anext(tail)
            assert tail.cursor == {}

    run(main())


@pytest.mark.slow
def test_failed_commit_of_a_writer_returns_its_events(storage):
    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            await orders.append(event(0))
            store._sync.backend.plan = on(storage.writes, Fail(StorageFullError("full")), key=".jsonl")
            with pytest.raises(UnwrittenEventsError) as caught:
                async with orders.writer(linger=LONG) as writer:
                    await writer.append(event(1))
            return [one.id for one in caught.value.events]

    assert run(main()) == ["e1"]


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_leaving_the_loop_over_a_tail_ends_it_at_once(storage):
    storage.open().stream("orders").append([event(0), event(1)])

    async def main():
        async with open_async(storage) as store:
            began = time.monotonic()
            async for one in store.stream("orders").tail(poll=LONG):
                assert one.id == "e0"
                break
            async for _ in store.stream("orders").tail(poll=LONG, types=["test.event"]):
                break
            return began

    began = run(main())
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_closing_the_store_ends_a_tail_that_waits(storage):
    async def main():
        async with open_async(storage) as store:
            tail = store.stream("orders").tail(poll=LONG)
            waiting = asyncio.create_task(collected(tail))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            began = time.monotonic()
        assert await waiting == []
        return time.monotonic() - began

    assert run(main()) < 5


@pytest.mark.slow
def test_closed_tail_yields_nothing_more_and_keeps_its_cursor(storage):
    storage.open().stream("orders").append([event(0), event(1), event(2)])

    async def main():
        async with open_async(storage) as store:
            async with store.stream("orders").tail() as tail:
                assert await take(tail, 1) == ["e0"]
            assert await collected(tail) == []
            assert tail.cursor == {"0": 1}

    run(main())


@pytest.mark.slow
def test_cancelled_tail_ends_when_its_block_does(storage):
    async def main():
        async with open_async(storage) as store:

            async def follow():
                async with store.stream("orders").tail(poll=LONG) as tail:
                    await collected(tail)

            task = asyncio.create_task(follow())
            await asyncio.sleep(0.1)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - began

    assert run(main()) < 5


@pytest.mark.slow
def test_timeouts_lose_no_event_of_a_tail(storage):
    """`wait_for` cancels the waiting `anext`; a later one returns what it would have returned."""

    async def main():
        sync = storage.open().stream("orders")
        async with open_async(storage) as store, store.stream("orders").tail(poll=0.01) as tail:
            found, timeouts, number = [], 0, 0
            while len(found) < 30:
                if number < 30 and timeouts % 3 == 0:
                    sync.append([event(number), event(number + 1)])
                    number += 2
                try:
                    found.append((await asyncio.wait_for(anext(tail), 0.002 * (timeouts % 4))).id)
                except TimeoutError:
                    timeouts += 1
            assert tail.cursor == {"0": 30}
            return found, timeouts

    found, timeouts = run(main())
    assert found == [f"e{number}" for number in range(30)]
    assert timeouts > 0


@pytest.mark.slow
def test_cancellation_loses_no_event_of_a_reader(storage):
    storage.open().stream("orders").append([event(number) for number in range(2000)])

    async def main():
        async with open_async(storage) as store:
            reader, found = store.stream("orders").read(), []
            while True:
                if len(found) % 100 == 0:
                    cancelled = asyncio.create_task(anext(reader))
                    await asyncio.sleep(0)  # it has started, and waits for a thread
                    cancelled.cancel()
                    await asyncio.wait([cancelled])
                    if not cancelled.cancelled() and cancelled.exception() is None:
                        found.append(cancelled.result().id)
                try:
                    found.append((await anext(reader)).id)
                except StopAsyncIteration:
                    return found, reader.cursor

    found, cursor = run(main())
    assert found == [f"e{number}" for number in range(2000)]
    assert cursor == {"0": 2000}


@pytest.mark.slow
def test_cancelled_append_is_written_or_not_but_never_half(storage):
    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            tasks = [
                asyncio.create_task(orders.append([event(2 * number), event(2 * number + 1)])) for number in range(20)
            ]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main())

    found = ids(storage.open().stream("orders").read())
    for number in range(20):
        assert (f"e{2 * number}" in found) == (f"e{2 * number + 1}" in found)
    for number in range(1, 20, 2):
        assert f"e{2 * number}" in found


@pytest.mark.slow
def test_cancelled_opening_leaves_nothing_open(tmp_path):
    class Slow:
        closed = 0

    backend = with_faults(bucketlog.open(tmp_path / "store").backend)
    reached, proceed = threading.Event(), threading.Event()

    def plan(_call):
        reached.set()
        assert proceed.wait(DEADLINE_SECONDS)

    closing = backend.close

    def close():
        Slow.closed += 1
        closing()

    backend.close = close
    backend.plan = plan

    async def main():
        opening = asyncio.create_task(bucketlog.aopen(backend)._open())
        while not reached.is_set():
            await asyncio.sleep(0.001)
        opening.cancel()
        await asyncio.sleep(0)
        proceed.set()
        with pytest.raises(asyncio.CancelledError):
            await opening

    run(main())
    assert Slow.closed == 1


def test_event_loop_runs_while_a_call_waits(storage):
    async def main():
        reached, proceed = threading.Event(), threading.Event()

        def plan(call):
            if call.method == storage.writes and call.key.endswith(".jsonl"):
                reached.set()
                assert proceed.wait(DEADLINE_SECONDS)

        async with open_async(storage, plan) as store:
            appending = asyncio.create_task(store.stream("orders").append(event(0)))
            while not reached.is_set():
                await asyncio.sleep(0.001)
            assert not appending.done()
            proceed.set()
            return (await appending).offsets

    assert run(main()) == (0,)


# -- cursors -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cursor_of_an_async_reader_is_right_at_every_event(storage):
    sync = storage.open().stream("orders", partition_by="subject")
    for number in range(12):
        sync.append(event(number, subject="ab"[number % 2]))
    everything = ids(sync.read())

    async def main():
        async with open_async(storage) as store:
            orders = store.stream("orders")
            for count in range(13):
                reader = orders.read()
                assert await take(reader, count) == everything[:count]
                assert await collected(orders.read(reader.cursor)) == everything[count:]
                await reader.aclose()
            async with orders.read() as reader:
                await take(reader, 2)
            assert await collected(reader) == []
            assert await collected(orders.read(reader.cursor)) == everything[2:]
            batches = orders.read_batches()
            async for batch in batches:
                assert batches.cursor[batch.partition] == batch.first_offset + len(batch.events)

    run(main())


@pytest.mark.slow
def test_cursor_of_a_filtered_async_tail_moves_past_skipped_events(storage):
    sync = storage.open().stream("orders")
    sync.append([event(0, type="wanted"), event(1), event(2)])

    async def main():
        async with open_async(storage) as store, store.stream("orders").tail(poll=0.01, types=["wanted"]) as tail:
            assert await take(tail, 1) == ["e0"]
            assert tail.cursor["0"] >= 1
            waiting = asyncio.ensure_future(anext(tail))
            await asyncio.sleep(0.1)
            sync.append([event(3), event(4, type="wanted")])
            assert (await waiting).id == "e4"
            assert tail.cursor == {"0": 5}

    run(main())


def test_waiting_tails_do_not_block_the_store(storage, monkeypatch):
    monkeypatch.setattr(bridge, "_CALLS_MAX", 2)

    async def main():
        async with open_async(storage) as store:
            tails = [store.stream("orders").tail(poll=0.01) for _ in range(20)]
            waiting = [asyncio.create_task(take(tail, 1)) for tail in tails]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await store.stream("orders").append(Event(type="one", id="one"))
            assert time.monotonic() - began < 2
            assert await asyncio.gather(*waiting) == [["one"]] * 20

    run(main())
