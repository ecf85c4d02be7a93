"""The async surface: the same store, whose calls run in threads of its own, so the event loop is never blocked.

The methods are those of the sync surface, made by `bucketlog.bridge`: same parameters, same results, same errors. A
cancelled call keeps running in its thread, so a cancelled append may still be written. Cancelling the `anext()` of an
iterator loses no event.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Self, TypeVar

from bucketlog.bridge import Bridge, Step, Threads, add_note, awaited, collected, direct, replace_return
from bucketlog.buffered_writer import BufferedWriter
from bucketlog.cursor import Cursor, Progress
from bucketlog.event import Event
from bucketlog.state.blobs import Blobs
from bucketlog.state.checkpoints import Checkpoints
from bucketlog.state.objects import Objects
from bucketlog.state.snapshots import Snapshots
from bucketlog.store import Store
from bucketlog.store import open as open_store
from bucketlog.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from types import TracebackType
    from typing import BinaryIO, Literal

    from bucketlog.reading.reader import Reader
    from bucketlog.reading.tail import Tail
    from bucketlog.subscriptions import Subscription

_EVENTS_PER_HOP = 500  # that a reader fetches in one go: a hop to a thread and back costs as much as decoding dozens

P = ParamSpec("P")
T = TypeVar("T")


class AsyncReader(Generic[T]):
    """An async iterator over what a `Reader` iterates."""

    def __init__(self, threads: Threads, reader: Reader[T]) -> None:
        self._threads, self._reader = threads, reader
        self._step = Step(threads, self._fetch)
        self._ready: list[T] = []  # in reverse
        self._failure: Exception | None = None
        self._closed = False
        self._progress = Progress(reader.cursor)
        self._fetched_to = reader.cursor

    @property
    def cursor(self) -> Cursor:
        """Where to resume: just after the last event yielded, skipped ones included."""
        return self._progress.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        if not self._ready:
            self._progress.move_to(self._fetched_to)
            found, self._fetched_to = await self._step.result()
            if not found:
                self._progress.move_to(self._fetched_to)
                raise StopAsyncIteration
            self._ready = found[::-1]
        item = self._ready.pop()
        if isinstance(item, Event):
            self._progress.move_past(item)
        else:
            self._progress.move_to(self._fetched_to)
        return item

    def _fetch(self) -> tuple[list[T], Cursor]:
        found: list[T] = []
        if self._failure is not None:
            raise self._failure
        try:
            for item in self._reader:
                found.append(item)
                if not isinstance(item, Event) or len(found) == _EVENTS_PER_HOP:
                    break
        except Exception as err:
            if not found:
                raise
            self._failure = err  # raised by the next fetch, after the events read before it
        return found, self._reader.cursor

    async def aclose(self) -> None:
        """Stop reading; the cursor stays."""
        await self._step.discard()
        await self._threads.run(self._reader.close)
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncTail:
    """An async iterator without end over what a `Tail` iterates; leaving the loop ends its waiting at once."""

    def __init__(self, threads: Threads, tail: Tail) -> None:
        self._tail = tail
        self._step = Step(threads, functools.partial(_poll_or_wait, tail), is_tail=True)
        self._ready: list[Event] = []  # in reverse
        self._closed = False
        self._progress = Progress(tail.cursor)
        self._fetched_to = tail.cursor

    @property
    def cursor(self) -> Cursor:
        """Where to resume: just after the last event yielded, skipped ones included."""
        return self._progress.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._progress.move_to(self._fetched_to)
            found, self._fetched_to = await self._step.result()
            self._ready = found[::-1]
        event = self._ready.pop()
        self._progress.move_past(event)
        return event

    def close(self) -> None:
        """End the tail; the cursor stays."""
        self._closed = True
        self._ready = []
        self._tail.close()

    async def aclose(self) -> None:
        """End the tail, and wait until its thread is free."""
        self.close()
        await self._step.discard()

    def __del__(self) -> None:
        self._tail.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _poll_or_wait(tail: Tail) -> tuple[list[Event], Cursor]:
    found = tail.poll()
    if not found:
        tail.wait()
    return found, tail.cursor


class AsyncSubscription(AsyncTail):
    """A durable consumer; see `bucketlog.Subscription`."""

    def __init__(self, threads: Threads, subscription: Subscription) -> None:
        super().__init__(threads, subscription.tail)
        self._threads, self._subscription = threads, subscription

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._subscription.name

    async def ack(self, cursor: Mapping[str, int] | None = None) -> Cursor:
        """Acknowledge all events that the iterator has yielded, or those before a cursor; return the cursor.

        Raises:
            SubscriptionLostError: Another consumer took over.
        """
        return await self._threads.run(self._subscription.ack, self.cursor if cursor is None else cursor)


class AsyncWriter(Bridge[BufferedWriter]):
    """Gathers events and commits them in order; see `bucketlog.buffered_writer.BufferedWriter`."""

    @property
    def written(self) -> int:
        """How many events were acknowledged, duplicates included."""
        return self._sync.written

    @property
    def duplicates(self) -> int:
        """How many of them were stored before."""
        return self._sync.duplicates

    append = awaited(BufferedWriter.append)
    flush = awaited(BufferedWriter.flush)
    aclose = awaited(BufferedWriter.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._threads.run(self._sync.__exit__, kind, err, trace)


def _reads(
    method: Callable[Concatenate[Stream, P], Reader[T]],
) -> Callable[Concatenate[AsyncStream, P], AsyncReader[T]]:
    @functools.wraps(method)
    def call(self: AsyncStream, /, *args: P.args, **kwargs: P.kwargs) -> AsyncReader[T]:
        return AsyncReader(self._threads, method(self._sync, *args, **kwargs))

    replace_return(call, {"ArrowReader": "Reader[pa.RecordBatch]", "Reader": "AsyncReader"})
    return call


def _tails(method: Callable[Concatenate[Stream, P], Tail]) -> Callable[Concatenate[AsyncStream, P], AsyncTail]:
    @functools.wraps(method)
    def call(self: AsyncStream, /, *args: P.args, **kwargs: P.kwargs) -> AsyncTail:
        tail = AsyncTail(self._threads, method(self._sync, *args, **kwargs))
        self._open_tails.add(tail)
        return tail

    replace_return(call, {"Tail": "AsyncTail"})
    return call


def _writes(
    method: Callable[Concatenate[Stream, P], BufferedWriter],
) -> Callable[Concatenate[AsyncStream, P], AsyncWriter]:
    @functools.wraps(method)
    def call(self: AsyncStream, /, *args: P.args, **kwargs: P.kwargs) -> AsyncWriter:
        return AsyncWriter(self._threads, method(self._sync, *args, **kwargs))

    replace_return(call, {"BufferedWriter": "AsyncWriter"})
    return call


class AsyncStream(Bridge[Stream]):
    """A named log; the methods are those of `bucketlog.Stream`."""

    def __init__(self, threads: Threads, stream: Stream, open_tails: weakref.WeakSet[AsyncTail]) -> None:
        super().__init__(threads, stream)
        self._open_tails = open_tails

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._sync.name

    def __repr__(self) -> str:
        return f"<Async{repr(self._sync)[1:]}"

    url = direct(Stream.url)
    partitions = awaited(Stream.partitions)

    append = awaited(Stream.append)
    writer = _writes(Stream.writer)

    read = _reads(Stream.read)
    read_batches = _reads(Stream.read_batches)
    read_arrow = _reads(Stream.read_arrow)
    splits = awaited(Stream.splits)  # these are read in other processes, by their sync methods
    recent = awaited(Stream.recent)
    get = awaited(Stream.get)
    tail = _tails(Stream.tail)
    cursor = awaited(Stream.cursor)

    stats = awaited(Stream.stats)
    verify = awaited(Stream.verify)
    compact = awaited(Stream.compact)
    vacuum = awaited(Stream.vacuum)
    truncate = awaited(Stream.truncate)


class AsyncCheckpoints(Bridge[Checkpoints]):
    """Small named values, replaced by compare-and-set; see `bucketlog.state.checkpoints.Checkpoints`."""

    load = awaited(Checkpoints.load)
    save = awaited(Checkpoints.save)
    delete = awaited(Checkpoints.delete)
    list = awaited(Checkpoints.list)


class AsyncSnapshots(Bridge[Snapshots]):
    """Immutable named, timestamped states; see `bucketlog.state.snapshots.Snapshots`."""

    save = awaited(Snapshots.save)
    load = awaited(Snapshots.load)
    latest = awaited(Snapshots.latest)
    names = awaited(Snapshots.names)
    prune = awaited(Snapshots.prune)
    list = awaited(Snapshots.list)


class AsyncBlobFile:
    """A blob that was opened for reading."""

    def __init__(self, threads: Threads, file: BinaryIO) -> None:
        self._threads, self._file = threads, file

    async def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, or to the end."""
        return await self._threads.run(self._file.read, size)

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte, counted as `io.IOBase.seek` does; return its position."""
        return await self._threads.run(self._file.seek, offset, whence)

    async def aclose(self) -> None:
        """Close the file."""
        await self._threads.run(self._file.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncBlobs(Bridge[Blobs]):
    """Content-addressed bytes; see `bucketlog.state.blobs.Blobs`."""

    put = awaited(Blobs.put)
    get = awaited(Blobs.get)
    exists = awaited(Blobs.exists)
    stat = awaited(Blobs.stat)
    list = collected(Blobs.list)
    delete = awaited(Blobs.delete)

    async def open(self, digest: str) -> AsyncBlobFile:
        """Open a blob for reading by ranges; see `Blobs.open`.

        Raises:
            NotFoundError: It is not stored.
            InvalidNameError: This is not a valid digest.
        """
        return AsyncBlobFile(self._threads, await self._threads.run(self._sync.open, digest))


class AsyncObjects(Bridge[Objects]):
    """Plain named objects; see `bucketlog.state.objects.Objects`."""

    get = awaited(Objects.get)
    put = awaited(Objects.put)
    list = awaited(Objects.list)
    delete = awaited(Objects.delete)
    url = direct(Objects.url)


def _makes_stream(
    method: Callable[Concatenate[Store, P], Stream],
) -> Callable[Concatenate[AsyncStore, P], AsyncStream]:
    @functools.wraps(method)
    def call(self: AsyncStore, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream:
        return AsyncStream(self._threads, method(self._sync, *args, **kwargs), self._open_tails)

    replace_return(call, {"Stream": "AsyncStream"})
    return call


class AsyncStore(Bridge[Store]):
    """A store whose methods are coroutines, otherwise those of `bucketlog.EventStore`. Made by `bucketlog.aopen`."""

    def __init__(self, threads: Threads, store: Store) -> None:
        super().__init__(threads, store)
        self._open_tails: weakref.WeakSet[AsyncTail] = weakref.WeakSet()
        self.checkpoints = AsyncCheckpoints(threads, store.checkpoints)
        self.snapshots = AsyncSnapshots(threads, store.snapshots)
        self.blobs = AsyncBlobs(threads, store.blobs)
        self.objects = AsyncObjects(threads, store.objects)

    @property
    def url(self) -> str:
        """Where the store is: without credentials and query."""
        return self._sync.url

    @property
    def id(self) -> str:
        """Assigned when the store is created; recreating it gives a new one."""
        return self._sync.id

    @property
    def read_only(self) -> bool:
        """Whether this handle cannot write."""
        return self._sync.read_only

    def __repr__(self) -> str:
        return f"<AsyncStore {self.url}>"

    stream = _makes_stream(Store.stream)
    streams = awaited(Store.streams)

    async def subscribe(
        self, stream: str | AsyncStream, name: str, *, start: Literal["earliest", "latest"] = "earliest"
    ) -> AsyncSubscription:
        """Take over a durable consumer by name; see `EventStore.subscribe`."""
        source = stream if isinstance(stream, str) else stream.name
        taken = await self._threads.run(self._sync.subscribe, source, name, start=start)
        subscription = AsyncSubscription(self._threads, taken)
        self._open_tails.add(subscription)
        return subscription

    async def aclose(self) -> None:
        """End all tails and threads, and close the store."""
        for tail in list(self._open_tails):
            await tail.aclose()
        try:
            await self._threads.run(self._sync.close)
        finally:
            await self._threads.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Opening:
    """What `aopen` returns: await it, or enter it with `async with`."""

    def __init__(self, open_sync: Callable[[], Store]) -> None:
        self._open_sync = open_sync
        self._store: AsyncStore | None = None

    async def _open(self) -> AsyncStore:
        threads = Threads()
        opening = threads.start(self._open_sync)
        try:
            return AsyncStore(threads, await asyncio.shield(opening))
        except BaseException:
            await asyncio.wait([opening])
            if opening.exception() is None:  # cancelled while the store was being opened
                await threads.run(opening.result().close)
            await threads.close()
            raise

    def __await__(self) -> Generator[object, None, AsyncStore]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncStore:
        self._store = await self._open()
        return self._store

    async def __aexit__(self, *_: object) -> None:
        if self._store is not None:
            await self._store.aclose()


def _opens(function: Callable[P, Store]) -> Callable[P, Opening]:
    @functools.wraps(function)
    def aopen(*args: P.args, **kwargs: P.kwargs) -> Opening:
        return Opening(functools.partial(function, *args, **kwargs))

    aopen.__module__, aopen.__name__, aopen.__qualname__ = __name__, "aopen", "aopen"
    replace_return(aopen, {"Store": "Opening"})
    add_note(
        aopen, "For async use: `async with bucketlog.aopen(url) as store`, or `store = await bucketlog.aopen(url)`."
    )
    return aopen


aopen = _opens(open_store)
