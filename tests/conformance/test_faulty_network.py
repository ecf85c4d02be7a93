"""Over a network that cuts, delays, answers wrongly and delivers late, nothing is lost, doubled or out of order."""

import os
import resource
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.servers import proxy as net

import bucketlog
from bucketlog import Event
from bucketlog.errors import BackendUnavailableError, DuplicateEventError, OutcomeUnknownError
from bucketlog.retries import Retries

SEED = int(os.environ.get("BUCKETLOG_TEST_SEED", "1"))
WRITERS, TAILS = 8, 2
BAD_SECONDS, DEAD_SECONDS = 12, 3
RECOVERY_SECONDS = 60
SHARE_BAD = 0.25
REQUEST_THREADS = 16  # of one store handle, at most
GROWTH_BYTES_MAX = 64 * 1024 * 1024
IMPATIENT_SECONDS = 0.02


@dataclass
class Scene:
    """What all threads share: where to write, and how far the story has come."""

    url: str
    options: dict
    over: threading.Event = field(default_factory=threading.Event)
    errors: Counter = field(default_factory=Counter)

    def open(self):
        """Open a handle, as often as the network makes that necessary."""
        while True:
            try:
                return bucketlog.open(self.url, create=False, storage_options=self.options)
            except (BackendUnavailableError, OutcomeUnknownError) as err:
                self.met(err)

    def met(self, err):
        self.errors[type(err).__name__] += 1


@dataclass
class Writer:
    """Appends batches until it is told to stop; goes on with the next one when the last is known to be stored."""

    scene: Scene
    name: int
    acknowledged: list = field(default_factory=list)  # (id, offset or None where only a look told that it is there)
    times: list = field(default_factory=list)

    def run(self):
        with self.scene.open() as store:
            stream = store.stream("orders")
            known = 0
            while not self.scene.over.is_set():
                known = self.append(stream, known)
            self.append(stream, known)

    def append(self, stream, known):
        """Append a batch, again and again as far as the errors allow; return an offset before which it cannot be."""
        number = len(self.acknowledged)
        batch = [Event(type="placed", data=[self.name, number + k]) for k in range(1 + number % 3)]
        while True:
            try:
                offsets = stream.append(batch).offsets
            except BackendUnavailableError as err:
                self.scene.met(err)  # nothing was written
            except OutcomeUnknownError as err:
                self.scene.met(err)
                offsets = self.look(stream, batch, known)
                if offsets:
                    break
            except DuplicateEventError as err:
                self.scene.met(err)  # an attempt that had been given up landed late
                offsets = self.look(stream, batch, known)
                assert offsets, "told to be stored, and not there"
                break
            else:
                break
        self.acknowledged += zip([event.id for event in batch], offsets, strict=True)
        self.times.append(time.monotonic())
        return offsets[-1] + 1

    def look(self, stream, batch, known):
        """Return the offsets of a batch that may have been stored."""
        while True:
            try:
                found = {event.id: event.offset for event in stream.read({"0": known})}
            except BackendUnavailableError as err:
                self.scene.met(err)
            else:
                return [found[event.id] for event in batch if event.id in found]


@dataclass
class Follower:
    """Follows the stream, with another tail where the last one broke."""

    scene: Scene
    seen: list = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False
    tail: object = None

    def run(self):
        cursor = None
        with self.scene.open() as store:
            while not self.ended:
                self.tail = store.stream("orders").tail(cursor, poll=0.1)
                try:
                    with self.tail:
                        for event in self.tail:
                            with self.arrived:
                                self.seen.append((event.offset, event.id, time.monotonic()))
                                self.arrived.notify_all()
                            if self.ended:
                                break
                except BackendUnavailableError as err:
                    self.scene.met(err)
                cursor = self.tail.cursor

    def wait_for(self, count, seconds):
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.seen) >= count, seconds)

    def end(self):
        self.ended = True
        if self.tail is not None:
            self.tail.close()


def threads():
    """Count the threads of Python that are not the network's."""
    return sum(not one.name.startswith(net.THREADS_PREFIX) for one in threading.enumerate())


def resident_bytes():
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of macOS, the most there ever was, in bytes


@pytest.mark.slow
@pytest.mark.parametrize("client", ["obstore", "s3fs"])
def test_what_is_acknowledged_over_a_bad_network_is_there_once_and_in_order(minio, client, monkeypatch):
    # With all its patience an append outlasts this network, and no caller would ever have to look.
    monkeypatch.setitem(Retries.__init__.__kwdefaults__, "seconds", IMPATIENT_SECONDS)
    url = minio.url(f"faulty-{uuid.uuid4()}")
    options = {**minio.options, "client": client}
    with bucketlog.open(url, storage_options=options) as store:
        store.stream("orders").append(Event(type="opened", data=[-1, 0]))
    threads_before = threads()

    with net.Proxy(minio.endpoint_url) as network:
        scene = Scene(url, {**options, "endpoint_url": network.endpoint_url})
        writers = [Writer(scene, name) for name in range(WRITERS)]
        tails = [Follower(scene) for _ in range(TAILS)]
        sizes, most_threads = [], 0
        with ThreadPoolExecutor(WRITERS + TAILS) as pool:
            running = [pool.submit(one.run) for one in (*writers, *tails)]
            try:
                network.plan = net.seeded(SEED, share=SHARE_BAD)
                end_of_bad = time.monotonic() + BAD_SECONDS
                while time.monotonic() < end_of_bad:
                    assert not [one.exception() for one in running if one.done()]
                    time.sleep(0.25)
                    sizes.append(resident_bytes())
                    most_threads = max(most_threads, threads())
                network.plan = net.dead
                time.sleep(DEAD_SECONDS)
                scene.over.set()
                network.plan = net.good
                healed = time.monotonic()
                for one in running[:WRITERS]:
                    one.result(RECOVERY_SECONDS)
                network.settle()
                with bucketlog.open(url, create=False, storage_options=options) as store:
                    stored = list(store.stream("orders").read())
                    report = store.stream("orders").verify()
                caught_up = [one.wait_for(len(stored), RECOVERY_SECONDS) for one in tails]
            finally:
                scene.over.set()
                network.plan = net.good
                for one in tails:
                    one.end()
            for one in running[WRITERS:]:
                one.result(RECOVERY_SECONDS)
        recovered = [next(at for at in one.times if at >= healed) - healed for one in writers]
        followed = [next((at for _, _, at in one.seen if at >= healed), healed) - healed for one in tails]

    commits = sum(len(one.times) for one in writers)
    print(
        f"\n{client}, seed {SEED}: {len(stored)} events in {commits} commits; back after a dead network: writers "
        f"{min(recovered):.2f} to {max(recovered):.2f} s, tails {min(followed):.2f} to {max(followed):.2f} s; "
        f"{sizes[-1] / 2**20:.0f} MiB, {(sizes[-1] - sizes[len(sizes) // 2]) / 2**20:+.0f}; {most_threads} threads"
    )
    for name, count in sorted({**network.counts, **scene.errors}.items()):
        print(f"  {count:6} {name}")

    # Every kind of fault was met, and outcomes stayed unknown, else this proves less than it says.
    assert scene.errors["OutcomeUnknownError"]
    assert all(any(name.startswith(kind) for name in network.counts) for kind in net.Kind)
    offset_of = {event.id: event.offset for event in stored}
    assert [event.offset for event in stored] == list(range(len(stored)))
    assert len(offset_of) == len(stored)
    assert report.ok, report
    for writer in writers:
        assert [offset_of.get(event_id) for event_id, _ in writer.acknowledged] == [n for _, n in writer.acknowledged]
        own = [event.data[1] for event in stored if event.data[0] == writer.name]
        assert own == list(range(len(writer.acknowledged)))
    assert len(stored) == 1 + sum(len(writer.acknowledged) for writer in writers)
    assert caught_up == [True] * TAILS
    for one in tails:
        assert [(offset, event_id) for offset, event_id, _ in one.seen] == [
            (event.offset, event.id) for event in stored
        ]
    assert most_threads <= threads_before + (WRITERS + TAILS) * (1 + REQUEST_THREADS)
    assert threads() <= threads_before
    assert not [one.name for one in threading.enumerate() if one.name.startswith(net.THREADS_PREFIX)]
    assert sizes[-1] - sizes[len(sizes) // 2] < GROWTH_BYTES_MAX
