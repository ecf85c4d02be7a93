"""Async programs that a user might write: checked, not run. The type of every expression is known, none is `Any`."""

# mypy: disallow-any-expr

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

import bucketlog
from bucketlog import (
    ABSENT,
    AsyncStore,
    AsyncStream,
    Batch,
    Blob,
    Checkpoint,
    Commit,
    Compaction,
    Cursor,
    Event,
    Snapshot,
    Split,
    TruncateReport,
    VacuumReport,
)
from bucketlog.aio import AsyncBlobFile, AsyncReader, AsyncSubscription, AsyncTail, AsyncWriter
from bucketlog.maintenance.verification import StreamStats, VerifyReport
from bucketlog.state.snapshots import SnapshotInfo


async def opening(path: Path) -> None:
    async with bucketlog.aopen(path, read_only=True, sync="interval") as store:
        assert_type(store, AsyncStore)
        assert_type(store.url, str)
        assert_type(store.id, str)
        assert_type(store.read_only, bool)
    store = await bucketlog.aopen(
        "s3://bucket/prefix", storage_options={"region": "us-east-1"}, endpoint_url="http://h"
    )
    assert_type(store, AsyncStore)
    assert_type(await store.streams(), list[str])
    assert_type(store.stream("orders", partition_by="day", auto_compact=True), AsyncStream)
    await store.aclose()


async def appending(stream: AsyncStream) -> None:
    event = Event(type="order.placed")
    assert_type(await stream.append(event, partition="0"), Commit)
    assert_type(await stream.append([event], expected_offset=3, on_duplicate="skip"), Commit | list[Commit])
    assert_type(await stream.append(event for _ in range(2)), Commit | list[Commit])
    task = asyncio.create_task(stream.append(event, partition="0"))
    assert_type(task, asyncio.Task[Commit])
    assert_type(
        await asyncio.gather(stream.append(event, partition="0"), stream.get("id")), tuple[Commit, Event | None]
    )
    async with stream.writer(max_events=10, linger=timedelta(seconds=0.1)) as writer:
        assert_type(writer, AsyncWriter)
        await writer.append([event])
        await writer.flush()
        assert_type(writer.written + writer.duplicates, int)


async def reading(stream: AsyncStream) -> None:
    reader = stream.read({"0": 3}, types=["a"], since=datetime.now(UTC), limit=5)
    assert_type(reader, AsyncReader[Event])
    async for event in reader:
        assert_type(event, Event)
    assert_type(reader.cursor, Cursor)
    async with stream.read_batches(reader.cursor, partitions=["0"]) as batches:
        async for batch in batches:
            assert_type(batch, Batch)
    assert_type(await stream.recent(20, subject="o-17"), list[Event])
    assert_type(await stream.get("id"), Event | None)
    assert_type(await stream.splits(4, reader.cursor, partitions=["0"]), list[Split])
    assert_type(await stream.partitions(), list[str])
    assert_type(await stream.cursor(), Cursor)
    assert_type(stream.name + stream.url("0"), str)


async def following(store: AsyncStore) -> None:
    stream = store.stream("orders")
    async with stream.tail(Cursor({"0": 1}), poll=0.5, types=["a"]) as tail:
        assert_type(tail, AsyncTail)
        assert_type(await anext(tail), Event)
        async for event in tail:
            assert_type(event, Event)
    async with await store.subscribe(stream, "billing", start="latest") as subscription:
        async for event in subscription:
            assert_type(event, Event)
            assert_type(await subscription.ack(), Cursor)
    assert_type(await store.subscribe("orders", "billing"), AsyncSubscription)


async def upkeep(stream: AsyncStream) -> None:
    assert_type(await stream.stats(), StreamStats)
    assert_type(await stream.verify(), VerifyReport)
    assert_type(await stream.compact(progress=lambda done, total: print(done / total)), list[Compaction])
    assert_type(await stream.vacuum(timedelta(days=1), dry_run=True), VacuumReport)
    assert_type(await stream.truncate(before=datetime.now(UTC), partition="0"), TruncateReport)


async def checkpoints_and_snapshots(store: AsyncStore) -> None:
    saved = await store.checkpoints.save("c", {"a": [1, None]}, expected_version=ABSENT)
    assert_type(saved, Checkpoint)
    assert_type(await store.checkpoints.load("c", default={}), Checkpoint | None)
    assert_type(await store.checkpoints.delete("c", expected_version=saved.version), bool)
    assert_type(await store.checkpoints.list("c"), list[str])
    assert_type(await store.snapshots.save("s", {"n": 1}, cursor={"0": 5}, at="2026-02-05", replace=True), Snapshot)
    assert_type(await store.snapshots.load("s", datetime.now(UTC)), Snapshot)
    assert_type(await store.snapshots.latest("s"), Snapshot | None)
    assert_type(await store.snapshots.names(), list[str])
    assert_type(await store.snapshots.list("s"), list[SnapshotInfo])
    assert_type(await store.snapshots.prune("s", keep=3), list[SnapshotInfo])


async def blobs_and_objects(store: AsyncStore) -> None:
    blob = await store.blobs.put(io.BytesIO(b"x"))
    assert_type(blob, Blob)
    assert_type(await store.blobs.get(blob.digest), bytes)
    assert_type(await store.blobs.exists(blob.digest), bool)
    assert_type(await store.blobs.stat(blob.digest), Blob)
    assert_type(await store.blobs.list(), list[Blob])
    async with await store.blobs.open(blob.digest) as file:
        assert_type(file, AsyncBlobFile)
        assert_type(await file.seek(-3, 2), int)
        assert_type(await file.read(3), bytes)
    await store.blobs.delete(blob.digest)
    await store.objects.put("a/b", b"x", if_absent=True)
    assert_type(await store.objects.get("a/b"), bytes)
    assert_type(await store.objects.list("a/"), list[str])
    assert_type(store.objects.url("a/b"), str)
    await store.objects.delete("a/b")
