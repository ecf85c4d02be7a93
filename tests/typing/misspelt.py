"""Calls with a mistake, each reported by mypy and pyright.

An ignore comment that suppresses nothing is itself an error in both, so a mistake that one of them misses fails the
check. Pyright reads its own comments only (see `tool.pyright` in pyproject.toml).
"""

from __future__ import annotations

import bucketlog
from bucketlog import AsyncStore, AsyncStream, Event, EventStore, Stream


def sync(store: EventStore, stream: Stream, event: Event) -> None:
    stream.append(event, partiton="0")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    stream.read(typ=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.tail(poll_seconds=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    store.checkpoints.save("c", 1, expected="v")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    store.subscribe("orders", "billing", start="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaited(store: AsyncStore, stream: AsyncStream, event: Event) -> None:
    await stream.append(event, partiton="0")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await stream.append(event, "0")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await stream.append({"type": "t"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    await stream.append(event, on_duplicate="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await stream.recent(3, subjects=["o-17"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await stream.recent()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await stream.get(17)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await stream.splits(4, partition=["0"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await stream.compact(dryrun=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await stream.vacuum(grace_seconds=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await stream.truncate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await store.checkpoints.load("c", defualt=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await store.checkpoints.save("c", 1, version="v")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await store.checkpoints.list(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.snapshots.prune("s", 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await store.snapshots.save("s", {}, key="2026-02-05")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await store.blobs.get(b"digest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.objects.put("a/b", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.subscribe("orders", "billing", start="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def iterated(stream: AsyncStream) -> None:
    stream.read(typ=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.read_batches(type=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.read_arrow(limits=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.tail(poll_seconds=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.tail(since=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.writer(max_event=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream.url(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with stream.writer() as writer:
        await writer.append("event")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    list(stream.read())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    with stream.tail():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


def opened(store: AsyncStore) -> None:
    store.stream("orders", partition=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    bucketlog.aopen("memory://test", sync="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bucketlog.aopen("memory://test", create="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bucketlog.aopen()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
