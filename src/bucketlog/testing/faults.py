"""Backends that inject faults: lost answers, crashes, late puts, torn appends, power cuts.

`with_faults` wraps a handle and keeps its optional abilities. A plan decides about each call of the handle: it returns
a fault, or None to let the call pass. Without a plan the wrapper records the calls, which lets a test count requests.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, NoReturn, Protocol, TypeVar

from bucketlog.backend import (
    ANY,
    AppendBackend,
    Backend,
    Condition,
    Content,
    Entry,
    Stat,
    UploadBackend,
    Version,
    Watch,
    WatchBackend,
)
from bucketlog.errors import BackendUnavailableError, BucketlogError, NotFoundError, OutcomeUnknownError
from bucketlog.storage.wrapper import BackendWrapper, class_around

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

T = TypeVar("T")

PAGE_BYTES = 512  # the smallest unit that disks promise to write whole


class SimulatedCrash(BaseException):
    """The simulated process of this handle died. Not an `Exception`, so that no error handler survives it."""


# -- faults ------------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One call of a handle, as a plan sees it.

    `key` is the key, prefix or folder of the call; for a delete, the first key. `nth` is the number of the call among
    the calls of this method on this handle, `number` among all its calls. Both count from 1.
    """

    method: str
    key: str
    nth: int
    number: int


@dataclass(frozen=True, slots=True)
class Fail:
    """The call does nothing and raises the error."""

    error: Exception = field(
        default_factory=lambda: BackendUnavailableError("injected fault: the server cannot be reached")
    )


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The call is made, then raises the error, whether it succeeded or failed."""

    error: Exception = field(default_factory=lambda: OutcomeUnknownError("injected fault: the answer was lost"))


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies before the call does anything. Every later call of the handle raises `SimulatedCrash`."""


@dataclass(frozen=True, slots=True)
class CrashAfter:
    """The process dies after the call was made, before it sees the result."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A put or delete is delayed until `HeldCall.land()`. Its caller gets the error at once."""

    error: Exception = field(default_factory=lambda: OutcomeUnknownError("injected fault: the request is late"))


@dataclass(frozen=True, slots=True)
class Tear:
    """The process dies in an append, of which only the first `bytes_kept` bytes are written."""

    bytes_kept: int


Fault = Fail | LoseAnswer | Crash | CrashAfter | Hold | Tear


class Plan(Protocol):
    """Decides what happens to a call. A handle asks about one call at a time."""

    def __call__(self, call: Call) -> Fault | None:
        """Return the fault to inject, or None to let the call pass."""
        ...


def on(method: str, fault: Fault, *, key: str = "", nth: int = 1) -> Plan:
    """Plan one fault: at the nth call, counted from 1, of a method with a key that contains `key`."""
    seen = 0

    def plan(call: Call) -> Fault | None:
        nonlocal seen
        if call.method != method or key not in call.key:
            return None
        seen += 1
        return fault if seen == nth else None

    return plan


def _no_faults(call: Call) -> None:  # noqa: ARG001  (the signature of a plan)
    return None


class HeldCall:
    """A delayed put or delete."""

    def __init__(self, call: Call, effect: Callable[[], object]) -> None:
        self.call = call
        self._effect = effect
        self._landed = False

    def land(self) -> BucketlogError | None:
        """Let the call reach the storage, once. Returns its error, which no caller sees, or None."""
        if self._landed:
            return None
        self._landed = True
        try:
            self._effect()
        except BucketlogError as err:
            return err
        return None


# -- a backend with faults ---------------------------------------------------------------------------------------------


class FaultyBackend(BackendWrapper):
    """A handle whose plan decides which calls pass and which fail. `with_faults` makes one.

    Attributes:
        inner: The wrapped backend.
        plan: Asked before every call. It may be replaced at any time.
        calls: Every call so far, including those that failed.
        held: Puts and deletes that a `Hold` delays, in order.
        crashed: Whether the simulated process of this handle is dead.
    """

    def __init__(self, inner: Backend, plan: Plan = _no_faults) -> None:
        super().__init__(inner)
        self.plan = plan
        self.calls: list[Call] = []
        self.held: list[HeldCall] = []
        self.crashed = False
        self._counts: dict[str, int] = {}
        self._mutex = threading.RLock()  # reentrant: a plan may inspect this handle, or release held calls

    def count(self, *methods: str) -> int:
        """Return the number of calls of these methods, or of all methods if none is named."""
        with self._mutex:
            return sum(1 for call in self.calls if not methods or call.method in methods)

    def release(self) -> list[BucketlogError | None]:
        """Land all held calls, in order; see `HeldCall.land`."""
        with self._mutex:
            held, self.held = self.held, []
        return [call.land() for call in held]

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Do what `Backend.get` does, unless the plan says otherwise."""
        return self._do("get", key, lambda: self.inner.get(key, start, end))

    def head(self, key: str) -> Stat:
        """Do what `Backend.head` does, unless the plan says otherwise."""
        return self._do("head", key, lambda: self.inner.head(key))

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Do what `Backend.put` does, unless the plan says otherwise."""
        return self._do("put", key, lambda: self.inner.put(key, data, if_version=if_version), holds=True)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Do what `Backend.list` does. A fault happens when the first entry is requested."""
        listing = self._do(
            "list", prefix, lambda: self.inner.list(prefix, start_after=start_after, delimiter=delimiter)
        )
        for entry in listing:
            self._check_alive()
            yield entry

    def delete(self, keys: Iterable[str]) -> None:
        """Do what `Backend.delete` does, unless the plan says otherwise."""
        wanted = tuple(keys)
        self._do("delete", wanted[0] if wanted else "", lambda: self.inner.delete(wanted), holds=True)

    def _do(
        self,
        method: str,
        key: str,
        effect: Callable[[], T],
        *,
        holds: bool = False,
        tear: Callable[[int], None] | None = None,
    ) -> T:
        call, fault = self._decide(method, key)
        match fault:
            case None:
                result = effect()
            case Fail(error):
                raise error
            case LoseAnswer(error):
                self._do_unheard(effect)
                raise error
            case Crash():
                self._crash(call)
            case CrashAfter():
                self._do_unheard(effect)
                self._crash(call)
            case Hold(error) if holds:
                with self._mutex:
                    self.held.append(HeldCall(call, effect))
                raise error
            case Tear(bytes_kept) if tear is not None:
                self._do_unheard(lambda: tear(bytes_kept))
                self._crash(call)
            case _:
                msg = f"plan for {call}: {fault} does not apply to {method}"
                raise ValueError(msg)
        self._check_alive()  # another thread may have crashed the process during this call
        return result

    def _decide(self, method: str, key: str) -> tuple[Call, Fault | None]:
        self._check_alive()
        with self._mutex:
            nth = self._counts[method] = self._counts.get(method, 0) + 1
            call = Call(method, key, nth, len(self.calls) + 1)
            self.calls.append(call)
            return call, self.plan(call)

    def _do_unheard(self, effect: Callable[[], object]) -> None:
        try:
            effect()
        except BucketlogError:
            return  # an error is lost like any other answer

    def _check_alive(self) -> None:
        if self.crashed:
            msg = "the process of this handle has crashed"
            raise SimulatedCrash(msg)

    def _crash(self, call: Call) -> NoReturn:
        self.crashed = True
        msg = f"crashed at {call.method} {call.key}, call {call.number} of this handle"
        raise SimulatedCrash(msg)


class _FaultyAppends(FaultyBackend):
    inner: AppendBackend

    @contextmanager
    def lock(self, folder: str, *, shared: bool = False) -> Iterator[None]:
        """Do what `AppendBackend.lock` does. A crash releases the lock, as the death of a process does."""
        call, fault = self._decide("lock", folder)
        match fault:
            case None | CrashAfter():
                pass
            case Fail(error):
                raise error
            case Crash():
                self._crash(call)
            case _:
                msg = f"plan for {call}: {fault} does not apply to lock"
                raise ValueError(msg)
        with self.inner.lock(folder, shared=shared):
            if fault is not None:
                self._crash(call)
            self._check_alive()
            yield

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        """Do what `AppendBackend.append` does, unless the plan says otherwise."""

        def write(size: int) -> None:
            self.inner.append(key, data[:size], expected_size=expected_size, sync=sync)

        self._do("append", key, lambda: write(len(data)), tear=write)

    def sync(self, key: str) -> None:
        """Do what `AppendBackend.sync` does, unless the plan says otherwise."""
        self._do("sync", key, lambda: self.inner.sync(key))

    def seal(self, key: str) -> None:
        """Do what `AppendBackend.seal` does, unless the plan says otherwise."""
        self._do("seal", key, lambda: self.inner.seal(key))

    def is_sealed(self, key: str) -> bool:
        """Do what `AppendBackend.is_sealed` does, unless the plan says otherwise."""
        return self._do("is_sealed", key, lambda: self.inner.is_sealed(key))

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Do what `AppendBackend.cut` does, unless the plan says otherwise."""
        self._do("cut", key, lambda: self.inner.cut(key, size, aside=aside))


class _FaultyUploads(FaultyBackend):
    inner: UploadBackend

    def upload(self, key: str, source: BinaryIO) -> None:
        """Do what `UploadBackend.upload` does, unless the plan says otherwise."""
        self._do("upload", key, lambda: self.inner.upload(key, source))


class _FaultyWatches(FaultyBackend):
    inner: WatchBackend

    def watch(self, prefix: str) -> Watch:
        """Do what `WatchBackend.watch` does, unless the plan says otherwise."""
        return self._do("watch", prefix, lambda: self.inner.watch(prefix))


_ABILITIES: tuple[tuple[type, type[FaultyBackend]], ...] = (
    (AppendBackend, _FaultyAppends),
    (UploadBackend, _FaultyUploads),
    (WatchBackend, _FaultyWatches),
)


def with_faults(inner: Backend, plan: Plan = _no_faults) -> FaultyBackend:
    """Wrap a handle, keeping its optional abilities (`AppendBackend`, `UploadBackend`, `WatchBackend`).

    Each handle stands for one process. Wrap each separately, with a plan of its own: a crash affects only that handle.
    """
    return class_around(inner, FaultyBackend, _ABILITIES)(inner, plan)


# -- power cuts --------------------------------------------------------------------------------------------------------


class Page(NamedTuple):
    """A page of an object: the `PAGE_BYTES` bytes that start at `number * PAGE_BYTES`."""

    key: str
    number: int


class PowerCutDisk:
    """The disk of one machine, with a cache: a power cut loses whatever was not synced.

    An append with `sync=False` is visible to every handle at once, but its bytes stay in the cache, and so does the
    name of an object that it creates. `sync`, `seal`, `cut` and an append with `sync=True` write out the whole object
    and its name. Puts and deletes are durable at once.
    """

    def __init__(self, open_inner: Callable[[], AppendBackend]) -> None:
        """Put a disk in front of the root that `open_inner` opens. Each handle gets its own inner handle."""
        self._open_inner = open_inner
        self._inner = open_inner()
        self._handles: list[PowerCutBackend] = []
        self._mutex = threading.Lock()
        self._synced_sizes: dict[str, int] = {}  # by key, for objects with bytes in the cache
        self._new_names: set[str] = set()

    def open(self) -> PowerCutBackend:
        """Open another handle, before or after a power cut."""
        handle = PowerCutBackend(self._open_inner(), self)
        self._handles.append(handle)
        return handle

    def unsynced_pages(self) -> list[Page]:
        """Return the pages that a power cut would lose now, sorted by key and number."""
        with self._mutex:
            return [
                Page(key, number)
                for key, synced_size in sorted(self._synced_sizes.items())
                for number in range(synced_size // PAGE_BYTES, -(-self._inner.head(key).size // PAGE_BYTES))
            ]

    def unsynced_keys(self) -> list[str]:
        """Return the keys of objects that a power cut would change, sorted."""
        with self._mutex:
            return sorted(self._synced_sizes)

    def unsynced_names(self) -> list[str]:
        """Return the keys of objects that a power cut would remove, sorted."""
        with self._mutex:
            return sorted(self._new_names)

    def power_cut(
        self, *, keep_pages: Collection[Page] = (), keep_names: Collection[str] = (), keep_sizes: bool = False
    ) -> None:
        """Kill every handle and lose the cache, except for what the disk happened to write before.

        The calling thread must not hold a lock, because its handle could no longer release it.

        Args:
            keep_pages: The unsynced pages that were written. A lost page before a written one reads as zeros.
            keep_names: The unsynced names that were written. Objects with other unsynced names are gone.
            keep_sizes: Whether sizes were written. If so, lost pages at the end read as zeros; if not, they are cut
                off.
        """
        with self._mutex:
            for handle in self._handles:
                handle.crashed = True
            self._handles.clear()
        while lost := self.unsynced_keys():
            for key in lost:
                # The lock comes first: a killed handle that holds it may still be waiting for the disk.
                with self._inner.lock(_folder(key)), self._mutex:
                    self._lose(key, keep_pages, keep_names, keep_sizes=keep_sizes)

    def _lose(self, key: str, keep_pages: Collection[Page], keep_names: Collection[str], *, keep_sizes: bool) -> None:
        synced_size = self._synced_sizes.pop(key, None)
        is_new = key in self._new_names
        self._new_names.discard(key)
        if synced_size is None:
            return
        if is_new and key not in keep_names:
            self._inner.delete([key])
            return
        cached = self._inner.get(key, synced_size).data
        kept = {number for page_key, number in keep_pages if page_key == key}
        found = _survivors(cached, synced_size, kept, keep_size=keep_sizes)
        self._inner.cut(key, synced_size, aside=None)
        if found:
            self._inner.append(key, found, expected_size=synced_size)


def _survivors(cached: bytes, synced_size: int, kept: Collection[int], *, keep_size: bool) -> bytes:
    """Return the bytes found after the synced ones, given the unsynced bytes and the numbers of the kept pages."""
    found = bytearray(len(cached))
    end = len(cached) if keep_size else 0
    for number in kept:
        start = max(number * PAGE_BYTES - synced_size, 0)
        stop = min((number + 1) * PAGE_BYTES - synced_size, len(cached))
        if start < stop:
            found[start:stop] = cached[start:stop]
            end = max(end, stop)
    return bytes(found[:end])


def _folder(key: str) -> str:
    return f"{key.rpartition('/')[0]}/"


def _exists(backend: Backend, key: str) -> bool:
    try:
        backend.head(key)
    except NotFoundError:
        return False
    return True


class PowerCutBackend(BackendWrapper):
    """A handle of one process on a `PowerCutDisk`. After a power cut every call raises `SimulatedCrash`."""

    inner: AppendBackend

    def __init__(self, inner: AppendBackend, disk: PowerCutDisk) -> None:
        super().__init__(inner)
        self._disk = disk
        self.crashed = False

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return bytes, including those in the cache."""
        return self._alive().get(key, start, end)

    def head(self, key: str) -> Stat:
        """Return size, version and time, as in the cache."""
        return self._alive().head(key)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes durably."""
        inner, disk = self._alive(), self._disk
        version = inner.put(key, data, if_version=if_version)
        with disk._mutex:
            self._written_out(key)
        return version

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the keys, including those in the cache."""
        for entry in self._alive().list(prefix, start_after=start_after, delimiter=delimiter):
            self._alive()
            yield entry

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys durably."""
        inner, disk = self._alive(), self._disk
        wanted = tuple(keys)
        inner.delete(wanted)
        with disk._mutex:
            for key in wanted:
                self._written_out(key)

    @contextmanager
    def lock(self, folder: str, *, shared: bool = False) -> Iterator[None]:
        """Hold the lock of a folder. After a power cut it is released as soon as its holder notices."""
        with self._alive().lock(folder, shared=shared):
            self._alive()
            yield

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        """Append to the cache. With `sync`, write out the whole object."""
        disk = self._disk
        with self._exclusive(key) as inner:
            is_new = not _exists(inner, key)
            inner.append(key, data, expected_size=expected_size, sync=sync)
            if sync:
                self._written_out(key)
                return
            disk._synced_sizes.setdefault(key, expected_size)
            if is_new:
                disk._new_names.add(key)

    def sync(self, key: str) -> None:
        """Write out a whole object and its name."""
        inner, disk = self._alive(), self._disk
        with disk._mutex:
            inner.sync(key)
            self._written_out(key)

    def seal(self, key: str) -> None:
        """Write out a whole object and seal it."""
        with self._exclusive(key) as inner:
            inner.seal(key)
            self._written_out(key)

    def is_sealed(self, key: str) -> bool:
        """Return True if an object is sealed."""
        return self._alive().is_sealed(key)

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Shorten an object, durably."""
        with self._exclusive(key) as inner:
            inner.cut(key, size, aside=aside)
            self._written_out(key)

    def _alive(self) -> AppendBackend:
        if self.crashed:
            msg = f"the machine of {self.url} lost power"
            raise SimulatedCrash(msg)
        return self.inner

    @contextmanager
    def _exclusive(self, key: str) -> Iterator[AppendBackend]:
        # The lock of the folder comes first: its holder may be waiting for the disk.
        with self._alive().lock(_folder(key)), self._disk._mutex:
            yield self._alive()

    def _written_out(self, key: str) -> None:
        self._disk._synced_sizes.pop(key, None)
        self._disk._new_names.discard(key)
