"""One storage of each kind of commit, and any number of stores opened on it, with faults."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import pytest

import bucketlog
from bucketlog import Event
from bucketlog.testing import BackendWrapper, with_faults
from bucketlog_backends.local import open_local
from bucketlog_backends.memory import open_memory

START = datetime(2026, 2, 5, 12, 30, tzinfo=UTC)
DEADLINE_SECONDS = 30.0
KINDS = ["memory", "local", "put"]
_numbers = itertools.count()


class PutOnly(BackendWrapper):
    """The memory backend without `append` and `watch`, as an object store is."""

    name = "put-only"


class Storage:
    """Each `open` is one more handle on it. `backend` is one without faults, to look at what is stored."""

    def __init__(self, kind, tmp_path):
        url = f"memory://storage-{next(_numbers)}"
        if kind == "local":
            self.open_backend = lambda: open_local((tmp_path / "store").as_uri(), {}, create=True)
        elif kind == "memory":
            self.open_backend = lambda: open_memory(url, {}, create=True)
        else:
            self.open_backend = lambda: PutOnly(open_memory(url, {}, create=True))
        self.kind = kind
        self.writes = "put" if kind == "put" else "append"  # how a commit is written
        self.backend = self.open_backend()
        self._opened = []
        self.open()  # the store is made and proven before anything is counted or goes wrong

    def open(self, plan=None, **options):
        store = bucketlog.open(with_faults(self.open_backend()), **options)
        self._opened.append(store)
        if plan is not None:
            store.backend.plan = plan
        return store

    def contents(self, prefix=""):
        """Return all that is stored, by key."""
        return {entry.key: self.backend.get(entry.key).data for entry in self.backend.list(prefix)}

    def close(self):
        for store in self._opened:
            store.close()
        self.backend.close()


def opened_storage(kind, tmp_path):
    """Yield a storage, and close it: the body of a fixture."""
    storage = Storage(kind, tmp_path)
    yield storage
    storage.close()


def event(number, *, days=0, **fields):
    given = {"type": "test.event", "id": f"e{number}", "time": START + timedelta(days=days, seconds=number)}
    return Event(**{**given, "data": number, **fields})


def ids(events):
    return [one.id for one in events]


def start(task):
    """Run a task in a thread; its result is a future's."""
    future = Future()

    def run():
        try:
            result = task()
        except BaseException as err:  # noqa: BLE001  (handed to whoever asks for the result)
            future.set_exception(err)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future


def wait_until(condition):
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("what was waited for did not come")
        time.sleep(0.001)


class Gate:
    """A plan that holds the calls of one method below streams/, until it is opened, and then lets all pass."""

    def __init__(self, method, then=None):
        self.method, self.then = method, then
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, call):
        if call.method != self.method or not call.key.endswith(".jsonl"):
            return None
        if not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(DEADLINE_SECONDS)
            return None
        return self.then(call) if self.then else None
