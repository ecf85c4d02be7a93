"""The bridge from sync methods to awaited ones: threads that calls wait in, and wrappers that keep every parameter.

`append = awaited(Stream.append)` in a subclass of `Bridge[Stream]` makes a coroutine method. Type checkers see the
parameters of the sync method, overloads and keyword-only names included, so a misspelt name in an awaited call is an
error; so do `help()` and `inspect.signature()`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_CALLS_MAX = 64  # at a time; further calls queue
_TAILS_MAX = 4096  # a waiting tail occupies a thread; tails have a pool of their own, so calls never wait for them

_AWAIT_NOTE = (
    "Await it. The work runs in a thread of the store. Cancelling the await does not stop the work: a write may still\n"
    "be applied."
)


class Threads:
    """Runs calls in threads of its own, which end with the store."""

    def __init__(self) -> None:
        self._calls = ThreadPoolExecutor(_CALLS_MAX, thread_name_prefix="bucketlog-async")
        self._tails = ThreadPoolExecutor(_TAILS_MAX, thread_name_prefix="bucketlog-async-tail")

    def start(self, call: Callable[[], R], *, is_tail: bool = False) -> asyncio.Future[R]:
        """Start a call in a thread and return its future."""
        return asyncio.get_running_loop().run_in_executor(self._tails if is_tail else self._calls, call)

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call in a thread and return its result."""
        return await self.start(functools.partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Wait for all calls, then end the threads."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def shut_down() -> None:
            self._tails.shutdown()
            self._calls.shutdown()
            loop.call_soon_threadsafe(ended.set_result, None)

        # Not in the loop's default executor: that would leave one more thread running after the store is closed.
        thread = threading.Thread(target=shut_down, name="bucketlog-async-close", daemon=True)
        thread.start()
        await ended
        thread.join()


class Step(Generic[R]):
    """A repeated call of an iterator. If a waiter is cancelled, the next waiter gets the result of the same call."""

    def __init__(self, threads: Threads, call: Callable[[], R], *, is_tail: bool = False) -> None:
        self._threads, self._call, self._is_tail = threads, call, is_tail
        self._pending: asyncio.Future[R] | None = None

    async def result(self) -> R:
        """Start the call unless one is running, and return its result."""
        if self._pending is None:
            self._pending = self._threads.start(self._call, is_tail=self._is_tail)
        try:
            found = await asyncio.shield(self._pending)
        except asyncio.CancelledError:
            raise  # keep the call, even if it ended at this moment: nobody has its result yet
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return found

    async def discard(self) -> None:
        """Wait until a running call has ended, and ignore its result."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await asyncio.wait([pending])
            pending.exception()  # retrieved here, or asyncio would log it as never retrieved


class Bridge(Generic[S]):
    """An object of the async surface, and the sync object that does its work."""

    def __init__(self, threads: Threads, sync: S) -> None:
        self._threads, self._sync = threads, sync

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, member in vars(cls).items():
            if isinstance(member, FunctionType) and hasattr(member, "__wrapped__"):
                member.__module__, member.__name__ = cls.__module__, name
                member.__qualname__ = f"{cls.__qualname__}.{name}"


def awaited(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Bridge[S], P], Coroutine[object, None, R]]:
    """Make a coroutine method of a sync method."""

    @functools.wraps(method)
    async def call(self: Bridge[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._threads.run(method, self._sync, *args, **kwargs)

    add_note(call, _AWAIT_NOTE)
    return call


def collected(
    method: Callable[Concatenate[S, P], Iterator[T]],
) -> Callable[Concatenate[Bridge[S], P], Coroutine[object, None, list[T]]]:
    """Make a coroutine method that returns a list, of a sync method that yields."""

    @functools.wraps(method)
    async def call(self: Bridge[S], /, *args: P.args, **kwargs: P.kwargs) -> list[T]:
        return await self._threads.run(lambda: list(method(self._sync, *args, **kwargs)))

    replace_return(call, {"Iterator": "list"})
    add_note(call, f"Returns a list. {_AWAIT_NOTE}")
    return call


def direct(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Bridge[S], P], R]:
    """Make a plain method of a sync method that does no I/O."""

    @functools.wraps(method)
    def call(self: Bridge[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self._sync, *args, **kwargs)

    return call


def add_note(function: Callable[..., object], note: str) -> None:
    """Add a paragraph to a docstring, after its first one."""
    if function.__doc__:  # there is none under `python -OO`
        summary, _, rest = inspect.cleandoc(function.__doc__).partition("\n\n")
        function.__doc__ = "\n\n".join(part for part in (summary, note, rest) if part)


def replace_return(function: Callable[..., object], names: dict[str, str]) -> None:
    """Rewrite the names in the return annotation that `help()` and `inspect.signature()` show."""
    signature = inspect.signature(function)
    returns = str(signature.return_annotation)
    for sync, other in names.items():
        returns = returns.replace(sync, other)
    vars(function)["__signature__"] = signature.replace(return_annotation=returns)
