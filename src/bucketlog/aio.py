"""The async surface: the same store, whose calls wait in threads of its own instead of blocking the event loop.

All decisions are those of the sync surface; only the waiting differs. A call that is cancelled goes on in its thread:
an append may still be written, as with any call that was cut off. Iterators lose nothing when a `next` is cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bucketlog.cursor import Cursor
from bucketlog.event import Event
from bucketlog.store import open as open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
    from datetime import timedelta
    from types import TracebackType
    from typing import BinaryIO, Literal

    import pyarrow as pa

    from bucketlog.buffered_writer import BufferedWriter
    from bucketlog.commit import Commit
    from bucketlog.log.settings import PartitionBy
    from bucketlog.maintenance.compaction import Compaction
    from bucketlog.maintenance.truncation import TruncateReport
    from bucketlog.maintenance.vacuum import VacuumReport
    from bucketlog.maintenance.verification import StreamStats, VerifyReport
    from bucketlog.reading.pieces import Batch
    from bucketlog.reading.reader import Reader
    from bucketlog.reading.splits import Split
    from bucketlog.reading.tail import Tail
    from bucketlog.state.blobs import Blobs
    from bucketlog.state.checkpoints import Checkpoint, Checkpoints
    from bucketlog.state.objects import Objects
    from bucketlog.state.snapshots import Snapshot, Snapshots
    from bucketlog.store import Store
    from bucketlog.stream import Stream
    from bucketlog.subscriptions import Subscription

_CALLS_MAX = 64  # at a time; more of them wait for their turn
_TAILS_MAX = 4096  # each tail that waits takes a thread; these are apart, so that calls never wait for tails
_EVENTS_A_HOP = 500

T = TypeVar("T")


class _Threads:
    """Runs calls in threads of its own, which end with the store."""

    def __init__(self) -> None:
        self._calls = ThreadPoolExecutor(_CALLS_MAX, thread_name_prefix="bucketlog-async")
        self._tails = ThreadPoolExecutor(_TAILS_MAX, thread_name_prefix="bucketlog-async-tail")

    def start(self, call: Callable[[], T], *, is_tail: bool = False) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._tails if is_tail else self._calls, call)

    async def run(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:  # noqa: ANN401
        return await self.start(functools.partial(call, *args, **kwargs))

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def shut_down() -> None:
            self._tails.shutdown()
            self._calls.shutdown()
            loop.call_soon_threadsafe(ended.set_result, None)

        # Not in the loop's own pool, which would outlive us with a thread more than it had.
        thread = threading.Thread(target=shut_down, name="bucketlog-async-close", daemon=True)
        thread.start()
        await ended
        thread.join()


class _Step(Generic[T]):
    """What an iterator has under way in a thread. A call that is cancelled meanwhile leaves it to the next one."""

    def __init__(self, threads: _Threads, call: Callable[[], T], *, is_tail: bool = False) -> None:
        self._threads, self._call, self._is_tail = threads, call, is_tail
        self._pending: asyncio.Future[T] | None = None

    async def result(self) -> T:
        """Begin it, unless it is under way, and wait for what comes of it."""
        if self._pending is None:
            self._pending = self._threads.start(self._call, is_tail=self._is_tail)
        try:
            found = await asyncio.shield(self._pending)
        except asyncio.CancelledError:
            raise  # even if it has ended in this moment: nobody has its result yet
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return found

    async def give_up(self) -> None:
        """Wait until it is over, whatever comes of it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await asyncio.wait([pending])
            pending.exception()  # looked at, or it would be reported as never retrieved


class AsyncReader(Generic[T]):
    """An async iterator over what a `Reader` iterates; `cursor` is where to go on."""

    def __init__(self, threads: _Threads, reader: Reader[T]) -> None:
        self._threads, self._reader = threads, reader
        self._ready: Iterator[T] = iter(())
        self._step = _Step(threads, self._fetch)
        self._failure: Exception | None = None
        self._closed = False
        self._positions = dict(reader.cursor)
        self._behind = reader.cursor

    @property
    def cursor(self) -> Cursor:
        """Where to go on: behind all that was handed out."""
        return Cursor(self._positions)

    def __aiter__(self) -> AsyncReader[T]:
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        item = next(self._ready, _NOTHING)
        if item is _NOTHING:
            self._positions = dict(self._behind)
            found, self._behind = await self._step.result()
            self._ready = iter(found)
            item = next(self._ready, _NOTHING)
            if item is _NOTHING:
                self._positions = dict(self._behind)
                raise StopAsyncIteration
        if isinstance(item, Event) and item.partition is not None and item.offset is not None:
            self._positions[item.partition] = item.offset + 1
        else:
            self._positions = dict(self._behind)
        return item  # type: ignore[return-value]  # not the marker, which was looked at above

    def _fetch(self) -> tuple[list[T], Cursor]:
        found: list[T] = []
        if self._failure is not None:
            raise self._failure
        try:
            for item in self._reader:
                found.append(item)
                if not isinstance(item, Event) or len(found) == _EVENTS_A_HOP:
                    break
        except Exception as err:
            if not found:
                raise
            self._failure = err  # what was read before it is handed out first
        return found, self._reader.cursor

    async def aclose(self) -> None:
        """Stop reading; the cursor stays."""
        await self._step.give_up()
        await self._threads.run(self._reader.close)
        self._closed = True

    async def __aenter__(self) -> AsyncReader[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


_NOTHING = object()


class AsyncTail:
    """An async iterator without end over what a `Tail` iterates; breaking off ends its waiting at once."""

    def __init__(self, threads: _Threads, tail: Tail) -> None:
        self._tail = tail
        self._step = _Step(threads, functools.partial(_poll_or_wait, tail), is_tail=True)
        self._ready: list[Event] = []
        self._positions = dict(tail.cursor)
        self._behind = tail.cursor
        self._closed = False

    @property
    def cursor(self) -> Cursor:
        """Where to go on: behind all that was handed out."""
        return Cursor(self._positions)

    def __aiter__(self) -> AsyncTail:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._positions = dict(self._behind)
            found, self._behind = await self._step.result()
            self._ready = found[::-1]
        event = self._ready.pop()
        if event.partition is not None and event.offset is not None:
            self._positions[event.partition] = event.offset + 1
        return event

    def close(self) -> None:
        """End the tail; the cursor stays."""
        self._closed = True
        self._ready = []
        self._tail.close()

    async def aclose(self) -> None:
        """End the tail, and wait for its thread to be free."""
        self.close()
        await self._step.give_up()

    def __del__(self) -> None:
        self._tail.close()

    async def __aenter__(self) -> AsyncTail:
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

    def __init__(self, threads: _Threads, subscription: Subscription) -> None:
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


class AsyncWriter:
    """A buffered writer; see `bucketlog.buffered_writer.BufferedWriter`."""

    def __init__(self, threads: _Threads, writer: BufferedWriter) -> None:
        self._threads, self._writer = threads, writer

    @property
    def written(self) -> int:
        """How many events were acknowledged, duplicates included."""
        return self._writer.written

    @property
    def duplicates(self) -> int:
        """How many of them were stored before."""
        return self._writer.duplicates

    async def append(self, events: Event | Iterable[Event]) -> None:
        """Add to the buffer; waits while it is full."""
        await self._threads.run(self._writer.append, events)

    async def flush(self) -> None:
        """Return when all that was appended before is durable."""
        await self._threads.run(self._writer.flush)

    async def aclose(self) -> None:
        """Flush, and end the writer."""
        await self._threads.run(self._writer.close)

    async def __aenter__(self) -> AsyncWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._threads.run(self._writer.__exit__, kind, err, trace)


class AsyncStream:
    """A named log; every method is that of `bucketlog.Stream`."""

    def __init__(self, threads: _Threads, stream: Stream, tails: weakref.WeakSet[AsyncTail]) -> None:
        self._threads, self._stream, self._tails = threads, stream, tails

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._stream.name

    def url(self, partition: str | None = None) -> str:
        """Return where the stream, or one partition of it, is stored."""
        return self._stream.url(partition)

    async def partitions(self) -> list[str]:
        """List the partitions that were written, sorted by name."""
        return await self._threads.run(self._stream.partitions)

    async def append(self, events: Event | Iterable[Event], **options: Any) -> Commit | list[Commit]:  # noqa: ANN401
        """Append one event or a batch; see `Stream.append`."""
        return await self._threads.run(self._stream.append, events, **options)

    def writer(self, **options: Any) -> AsyncWriter:  # noqa: ANN401
        """Return an async context manager that gathers appends; see `Stream.writer`."""
        return AsyncWriter(self._threads, self._stream.writer(**options))

    def read(self, after: Mapping[str, int] | None = None, **options: Any) -> AsyncReader[Event]:  # noqa: ANN401
        """Iterate events; see `Stream.read`."""
        return AsyncReader(self._threads, self._stream.read(after, **options))

    def read_batches(self, after: Mapping[str, int] | None = None, **options: Any) -> AsyncReader[Batch]:  # noqa: ANN401
        """Iterate batches; see `Stream.read_batches`."""
        return AsyncReader(self._threads, self._stream.read_batches(after, **options))

    def read_arrow(self, after: Mapping[str, int] | None = None, **options: Any) -> AsyncReader[pa.RecordBatch]:  # noqa: ANN401
        """Iterate record batches; see `Stream.read_arrow`."""
        return AsyncReader(self._threads, self._stream.read_arrow(after, **options))

    async def splits(self, n: int, after: Mapping[str, int] | None = None, **options: Any) -> list[Split]:  # noqa: ANN401
        """Part what there is now for parallel readers, which are not async; see `Stream.splits`."""
        return await self._threads.run(self._stream.splits, n, after, **options)

    async def recent(self, n: int, **options: Any) -> list[Event]:  # noqa: ANN401
        """Return the newest events; see `Stream.recent`."""
        return await self._threads.run(self._stream.recent, n, **options)

    async def get(self, event_id: str) -> Event | None:
        """Return the event with an id, or None."""
        return await self._threads.run(self._stream.get, event_id)

    def tail(self, after: Mapping[str, int] | None = None, **options: Any) -> AsyncTail:  # noqa: ANN401
        """Iterate events without end; see `Stream.tail`."""
        tail = AsyncTail(self._threads, self._stream.tail(after, **options))
        self._tails.add(tail)
        return tail

    async def cursor(self) -> Cursor:
        """Return where the stream ends now."""
        return await self._threads.run(self._stream.cursor)

    async def stats(self) -> StreamStats:
        """Count partitions, segments, events and bytes."""
        return await self._threads.run(self._stream.stats)

    async def verify(self) -> VerifyReport:
        """Read and check everything."""
        return await self._threads.run(self._stream.verify)

    async def compact(self, **options: Any) -> list[Compaction]:  # noqa: ANN401
        """Merge segments into compacted ones; see `Stream.compact`."""
        return await self._threads.run(self._stream.compact, **options)

    async def vacuum(self, grace: float | timedelta | None = None, **options: Any) -> VacuumReport:  # noqa: ANN401
        """Remove what is out of use; see `Stream.vacuum`."""
        return await self._threads.run(self._stream.vacuum, grace, **options)

    async def truncate(self, **options: Any) -> TruncateReport:  # noqa: ANN401
        """Let the log begin later; see `Stream.truncate`."""
        return await self._threads.run(self._stream.truncate, **options)


class AsyncCheckpoints:
    """See `bucketlog.checkpoints.Checkpoints`."""

    def __init__(self, threads: _Threads, checkpoints: Checkpoints) -> None:
        self._run, self._of = threads.run, checkpoints

    async def load(self, name: str, **options: Any) -> Checkpoint | None:  # noqa: ANN401
        """Return a checkpoint, or None."""
        return await self._run(self._of.load, name, **options)

    async def save(self, name: str, value: object, **options: Any) -> Checkpoint:  # noqa: ANN401
        """Replace a checkpoint by compare-and-set."""
        return await self._run(self._of.save, name, value, **options)

    async def delete(self, name: str, **options: Any) -> bool:  # noqa: ANN401
        """Delete a checkpoint; tell whether there was one."""
        return await self._run(self._of.delete, name, **options)

    async def list(self, prefix: str = "") -> list[str]:
        """List names, sorted."""
        return await self._run(self._of.list, prefix)


class AsyncSnapshots:
    """See `bucketlog.snapshots.Snapshots`."""

    def __init__(self, threads: _Threads, snapshots: Snapshots) -> None:
        self._run, self._of = threads.run, snapshots

    async def save(self, name: str, state: object, **options: Any) -> Snapshot:  # noqa: ANN401
        """Save a state under a name and a time."""
        return await self._run(self._of.save, name, state, **options)

    async def latest(self, name: str) -> Snapshot | None:
        """Return the newest snapshot of a name, or None."""
        return await self._run(self._of.latest, name)

    async def load(self, name: str, at: Any) -> Snapshot:  # noqa: ANN401
        """Return one snapshot."""
        return await self._run(self._of.load, name, at)

    async def names(self) -> list[str]:
        """Return the names that have snapshots, sorted."""
        return await self._run(self._of.names)

    async def list(self, name: str) -> list[Any]:
        """List the snapshots of a name, oldest first."""
        return await self._run(self._of.list, name)

    async def prune(self, name: str, *, keep: int) -> Any:  # noqa: ANN401
        """Remove all but the newest."""
        return await self._run(self._of.prune, name, keep=keep)


class AsyncBlobFile:
    """A blob that was opened for reading."""

    def __init__(self, run: Callable[..., Awaitable[Any]], file: BinaryIO) -> None:
        self._run, self._file = run, file

    async def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, or to the end."""
        found: bytes = await self._run(self._file.read, size)
        return found

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte; return which."""
        position: int = await self._run(self._file.seek, offset, whence)
        return position

    async def aclose(self) -> None:
        """Release what is held."""
        await self._run(self._file.close)

    async def __aenter__(self) -> AsyncBlobFile:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncBlobs:
    """See `bucketlog.blobs.Blobs`."""

    def __init__(self, threads: _Threads, blobs: Blobs) -> None:
        self._run, self._of = threads.run, blobs

    async def put(self, source: Any) -> Any:  # noqa: ANN401
        """Store bytes, a file or a stream."""
        return await self._run(self._of.put, source)

    async def get(self, digest: str) -> bytes:
        """Return a blob's bytes, checked."""
        return await self._run(self._of.get, digest)

    async def open(self, digest: str) -> AsyncBlobFile:
        """Open a blob for reading, by ranges; what is read to the end from its start is checked."""
        return AsyncBlobFile(self._run, await self._run(self._of.open, digest))

    async def exists(self, digest: str) -> bool:
        """Tell whether a blob is stored."""
        return await self._run(self._of.exists, digest)

    async def stat(self, digest: str) -> Any:  # noqa: ANN401
        """Return digest and size."""
        return await self._run(self._of.stat, digest)

    async def list(self) -> list[Any]:
        """List all blobs."""
        return await self._run(lambda: list(self._of.list()))

    async def delete(self, digest: str) -> None:
        """Remove a blob."""
        await self._run(self._of.delete, digest)


class AsyncObjects:
    """See `bucketlog.objects.Objects`."""

    def __init__(self, threads: _Threads, objects: Objects) -> None:
        self._run, self._of = threads.run, objects

    async def get(self, path: str) -> bytes:
        """Return an object's bytes."""
        return await self._run(self._of.get, path)

    async def put(self, path: str, data: bytes, *, if_absent: bool = False) -> None:
        """Store an object, whole or not at all."""
        await self._run(self._of.put, path, data, if_absent=if_absent)

    async def list(self, prefix: str = "") -> list[str]:
        """List paths, sorted."""
        return await self._run(lambda: list(self._of.list(prefix)))

    async def delete(self, path: str) -> None:
        """Remove an object."""
        await self._run(self._of.delete, path)

    def url(self, path: str) -> str:
        """Return where an object is stored."""
        return self._of.url(path)


class AsyncStore:
    """A store whose methods are coroutines; every one is that of `bucketlog.EventStore`. Made by `bucketlog.aopen`."""

    def __init__(self, threads: _Threads, store: Store) -> None:
        self._threads, self._store = threads, store
        self._tails: weakref.WeakSet[AsyncTail] = weakref.WeakSet()
        self.checkpoints = AsyncCheckpoints(threads, store.checkpoints)
        self.snapshots = AsyncSnapshots(threads, store.snapshots)
        self.blobs = AsyncBlobs(threads, store.blobs)
        self.objects = AsyncObjects(threads, store.objects)

    @property
    def url(self) -> str:
        """Where the store is: without credentials and query."""
        return self._store.url

    @property
    def id(self) -> str:
        """Made with the store."""
        return self._store.id

    @property
    def read_only(self) -> bool:
        """Whether this handle cannot write."""
        return self._store.read_only

    def stream(self, name: str, *, partition_by: PartitionBy | None = None, auto_compact: bool = False) -> AsyncStream:
        """Return a stream, without any I/O."""
        found = self._store.stream(name, partition_by=partition_by, auto_compact=auto_compact)
        return AsyncStream(self._threads, found, self._tails)

    async def streams(self) -> list[str]:
        """List the streams that were written, sorted by name."""
        return await self._threads.run(self._store.streams)

    async def subscribe(
        self, stream: str | AsyncStream, name: str, *, start: Literal["earliest", "latest"] = "earliest"
    ) -> AsyncSubscription:
        """Take over a durable consumer by name."""
        source = stream if isinstance(stream, str) else stream.name
        held = AsyncSubscription(
            self._threads, await self._threads.run(self._store.subscribe, source, name, start=start)
        )
        self._tails.add(held)
        return held

    async def aclose(self) -> None:
        """End all tails and threads, and close the store."""
        for tail in list(self._tails):
            await tail.aclose()
        try:
            await self._threads.run(self._store.close)
        finally:
            await self._threads.close()

    async def __aenter__(self) -> AsyncStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Opening:
    """What `aopen` returns: to be awaited, or entered."""

    def __init__(self, url: object, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, options
        self._store: AsyncStore | None = None

    async def _open(self) -> AsyncStore:
        threads = _Threads()
        opening = threads.start(functools.partial(open_store, self._url, **self._options))
        try:
            return AsyncStore(threads, await asyncio.shield(opening))
        except BaseException:
            await asyncio.wait([opening])
            if opening.exception() is None:  # cancelled while it was being opened
                await threads.run(opening.result().close)
            await threads.close()
            raise

    def __await__(self) -> Generator[Any, None, AsyncStore]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncStore:
        self._store = await self._open()
        return self._store

    async def __aexit__(self, *_: object) -> None:
        if self._store is not None:
            await self._store.aclose()


def aopen(url: object, **options: Any) -> _Opening:  # noqa: ANN401
    """Open a store for async use: `async with bucketlog.aopen(url) as store`, or `await bucketlog.aopen(url)`.

    Takes what `bucketlog.open` takes and raises what it raises.
    """
    return _Opening(url, options)
