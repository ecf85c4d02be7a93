"""Programs that a user might write: checked by mypy and pyright, not run. What they infer is part of the surface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import bucketlog
from bucketlog import (
    ABSENT,
    ArrowReader,
    AsyncStream,
    Batch,
    Blob,
    Checkpoint,
    Commit,
    Compaction,
    Cursor,
    Event,
    EventStore,
    OffsetRange,
    Reader,
    Snapshot,
    Split,
    Stream,
)
from bucketlog.errors import BucketlogError, DuplicateEventError, InvalidEventError, OffsetConflictError


def opening(path: Path) -> None:
    with bucketlog.open(path) as store:
        assert_type(store.url, str)
    bucketlog.open("memory://test", create=True, sync="interval")
    bucketlog.open("s3://bucket/prefix", endpoint_url="http://127.0.0.1:9000", storage_options={"region": "us-east-1"})
    bucketlog.open("file:///var/events", read_only=True, single_writer=False)


def any_store(store: EventStore) -> list[str]:
    return store.streams()


def a_store_is_an_event_store() -> list[str]:
    return any_store(bucketlog.open("memory://test"))


def appending(stream: Stream) -> None:
    event = Event(type="order.placed", subject="o-17", data={"total": 42}, tags=("web",), meta={"actor": "x", "n": 1})
    commit = stream.append(event, partition="0")
    assert_type(commit, Commit)
    assert_type(commit.first_offset, int)
    assert_type(commit.offsets, tuple[int, ...])
    for one in [event, event]:
        stream.append([one], expected_offset=3, on_duplicate="skip")
    made = stream.append(event for _ in range(2))
    assert_type(made, Commit | list[Commit])
    with stream.writer(max_events=10, linger=timedelta(seconds=0.1)) as writer:
        writer.append(event)
        writer.flush()
        assert_type(writer.written, int)


def deciding(stream: Stream) -> int | None:
    try:
        return stream.append(Event(type="t"), partition="0", expected_offset=3).next_offset
    except OffsetConflictError as err:
        assert_type(err.next_offset, int)
    except DuplicateEventError as err:
        assert_type(err.event_id, str)
    except InvalidEventError as err:
        assert_type(err.index, int)
    except BucketlogError as err:
        for commit in err.commits:
            assert_type(commit, Commit)
    return None


def reading(stream: Stream) -> Iterator[tuple[str, Any]]:
    reader = stream.read({"0": 3}, types=["a"], since=datetime.now(UTC), limit=5)
    assert_type(reader, Reader[Event])
    for event in reader:
        assert_type(event, Event)
        assert_type(event.offset, int | None)
        assert_type(event.time, datetime)
        yield event.type, event.data["total"]
    assert_type(reader.cursor, Cursor)
    for batch in stream.read_batches(reader.cursor):
        assert_type(batch, Batch)
        assert_type(batch.events, list[Event])
    assert_type(stream.recent(20, subject="o-17"), list[Event])
    assert_type(stream.get("id"), Event | None)
    with stream.tail(Cursor({"0": 1}), poll=0.5) as tail:
        for event in tail:
            assert_type(event, Event)


def analysing(stream: Stream) -> Cursor:
    reader = stream.read_arrow({"0": 3}, types=["a"], limit=5)
    assert_type(reader, ArrowReader)
    assert_type(reader.cursor, Cursor)
    cursor = Cursor()
    splits = stream.splits(4, cursor, partitions=["0"])
    assert_type(splits, list[Split])
    for split in splits:
        assert_type(split.ranges, tuple[OffsetRange, ...])
        assert_type(split.read(tags=["t"], until=datetime.now(UTC)), Reader[Event])
        assert_type(split.read_batches(), Reader[Batch])
        assert_type(split.read_arrow(sources=["s"]), ArrowReader)
        cursor = cursor.merge(split.cursor)
    return cursor


def partitioned(store: EventStore) -> None:
    def by_region(event: Event) -> str:
        return event.source or "nowhere"

    store.stream("a", partition_by="day")
    store.stream("b", partition_by=by_region)
    assert_type(store.stream("c").partitions(), list[str])


def cursors(cursor: Cursor) -> Mapping[str, int]:
    assert_type(cursor.advance("0", 3), Cursor)
    assert_type(Cursor.from_json(cursor.to_json()), Cursor)
    return cursor


def state(store: EventStore) -> None:
    saved = store.checkpoints.save("c", {"a": [1, None]}, expected_version=ABSENT)
    assert_type(saved, Checkpoint)
    store.checkpoints.save("c", 2, expected_version=saved.version)
    assert_type(store.checkpoints.load("c"), Checkpoint | None)
    assert_type(store.checkpoints.list("c"), list[str])
    snapshot = store.snapshots.save("s", {"n": 1}, cursor={"0": 5}, at="2026-02-05")
    assert_type(snapshot, Snapshot)
    assert_type(snapshot.cursor, Cursor | None)
    assert_type(store.snapshots.latest("s"), Snapshot | None)
    assert_type(store.blobs.put(b"x"), Blob)
    assert_type(store.blobs.get("0" * 64), bytes)
    store.objects.put("a/b", b"x", if_absent=True)
    with store.subscribe("orders", "billing", start="latest") as subscription:
        for event in subscription:
            assert_type(event, Event)
            assert_type(subscription.ack(), Cursor)


def upkeep(stream: Stream) -> bool:
    report = stream.verify()
    assert_type(stream.stats().events, int)
    assert_type(stream.compact(progress=lambda done, total: print(done / total)), list[Compaction])
    return report.ok


def cloudevents(event: Event) -> Event:
    assert_type(event.to_cloudevent(), dict[str, Any])
    return Event.from_cloudevent({"specversion": "1.0", "type": "t", "source": "/s", "id": "1"})


def analysing_asynchronously(stream: AsyncStream) -> Cursor:
    return stream.read_arrow({"0": 3}, types=["a"], limit=5).cursor  # the batches' type is pyarrow's, which has none
