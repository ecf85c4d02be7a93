"""Watches."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from bucketlog.testing.backend.harness import (
    BackendTests,
)

if TYPE_CHECKING:
    from bucketlog.backend import (
        AppendBackend,
        Backend,
        Watch,
        WatchBackend,
    )


class WatchingTests(BackendTests):
    """Watches, for backends that declare `watch`."""

    # -- watch ---------------------------------------------------------------------------------------------------------

    def test_watch_wakes_on_a_change_by_another_handle(self, watcher: WatchBackend, other: Backend) -> None:
        """A waiter wakes when another handle puts, replaces or deletes a key below the prefix, at any depth."""
        watch = watcher.watch("a/")
        try:
            for change in (
                lambda: other.put("a/0", b"first"),
                lambda: other.put("a/0", b"second"),
                lambda: other.put("a/b/c/0", b"deeper"),
                lambda: other.delete(["a/0"]),
            ):
                self._settle(watch)
                woken = self._together([lambda: watch.wait(self.timeout_seconds / 4), change])[0]
                assert woken is True
        finally:
            watch.close()

    def test_watch_wakes_on_growth(
        self, watcher: WatchBackend, appender: AppendBackend, other_appender: AppendBackend
    ) -> None:
        """A waiter wakes when an object below the prefix grows."""
        appender.append("a/0", b"first", expected_size=0)
        watch = watcher.watch("a/")
        try:
            self._settle(watch)
            other_appender.append("a/0", b"second", expected_size=5)
            assert self._together([lambda: watch.wait(self.timeout_seconds / 4)]) == [True]
        finally:
            watch.close()

    def test_watch_remembers_a_change_before_the_wait(self, watcher: WatchBackend, other: Backend) -> None:
        """A change between `watch` and `wait`, or between two waits, wakes the next wait, even in a new folder."""
        watch = watcher.watch("new/folder/")
        try:
            for number in range(3):
                other.put(f"new/folder/{number}", b"bytes")
                assert self._together([lambda: watch.wait(self.timeout_seconds / 4)]) == [True]
        finally:
            watch.close()

    def test_watch_sleeps_while_nothing_changes(self, watcher: WatchBackend) -> None:
        """Without changes `wait` returns False after its timeout. Spurious wake-ups are allowed, but must stop."""
        watcher.put("a/0", b"bytes")
        watch = watcher.watch("a/")
        try:
            assert self._settle(watch)
        finally:
            watch.close()

    def test_closing_a_watch_wakes_its_waiter(self, watcher: WatchBackend) -> None:
        """`close` from another thread ends a wait at once, and may be called more than once."""
        watch = watcher.watch("a/")
        self._settle(watch)
        begun = threading.Event()

        def wait_for_nothing() -> float:
            started = time.monotonic()
            begun.set()
            watch.wait(self.timeout_seconds)
            return time.monotonic() - started

        def close() -> float:
            assert begun.wait(self.timeout_seconds)
            watch.close()
            watch.close()
            return 0.0

        assert self._together([wait_for_nothing, close])[0] < self.timeout_seconds / 2

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _settle(self, watch: Watch) -> bool:
        """Drain late wake-ups for earlier changes. Returns False if they do not stop."""
        return self._together([lambda: any(not watch.wait(0.1) for _ in range(30))])[0]
