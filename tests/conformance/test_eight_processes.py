"""Eight processes append to one partition of a real server: nothing is lost, doubled or out of order."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

import bucketlog
from bucketlog import Event

PROGRAM = Path(__file__).with_name("appending_process.py")
PROCESSES, COMMITS, EVENTS = 8, 20, 10


def together(server, url, what, *, processes=PROCESSES, **more):
    """Run processes side by side; return what each said, and commits a second from their start to the last one."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen([sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(processes)
        ]
        stack.callback(lambda: [one.kill() for one in running])
        for name, one in enumerate(running):
            task = {"what": what, "name": name, "processes": processes, "commits": COMMITS, **more}
            one.stdin.write(f"{json.dumps({**task, 'url': url, 'options': server.options})}\n")
            one.stdin.flush()
        assert [one.stdout.readline() for one in running] == ["ready\n"] * processes
        started = time.time()
        for one in running:
            one.stdin.write("begin\n")
            one.stdin.flush()
        said = [json.loads(one.stdout.readline()) for one in running]
        assert [one.wait(30) for one in running] == [0] * processes
    waits = [later - earlier for one in said for earlier, later in pairwise([started, *one["times"]])]
    return said, processes * COMMITS / (max(one["times"][-1] for one in said) - started), max(waits)


@pytest.mark.slow
def test_events_of_eight_processes_are_there_once_in_each_ones_order(real_server, real_url, capsys):
    with bucketlog.open(real_url, storage_options=real_server.options) as store:
        store.stream("orders").append(Event(type="opened", data=[-1, 0]))

    said, rate, wait = together(real_server, real_url, "append", events=EVENTS)

    with bucketlog.open(real_url, create=False, storage_options=real_server.options) as store:
        stream = store.stream("orders")
        stored = list(stream.read())
        report = stream.verify()
        size = stream.stats().bytes // (PROCESSES * COMMITS)
    assert [event.offset for event in stored] == list(range(1 + PROCESSES * COMMITS * EVENTS))
    assert len({event.id for event in stored}) == len(stored)
    for name, one in enumerate(said):
        own = {event.offset: event.data[1] for event in stored if event.data[0] == name}
        assert list(own.values()) == list(range(COMMITS * EVENTS))
        assert [offset for offsets in one["offsets"] for offset in offsets] == list(own)
    assert report.ok, report
    assert report.commits == 1 + PROCESSES * COMMITS

    turns = sum(before.data[0] != after.data[0] for before, after in pairwise(stored)) / PROCESSES / COMMITS
    _, alone, wait_alone = together(real_server, real_url, "put", processes=1, bytes=size)
    _, apart, wait_apart = together(real_server, real_url, "put", bytes=size)
    with capsys.disabled():
        print(
            f"\n{real_server.name} {real_server.version}: {PROCESSES} processes append {COMMITS} commits each of "
            f"{EVENTS} events ({size} bytes) to one partition: {rate * EVENTS:,.0f} events/s, {rate:,.0f} commits/s; "
            f"longest wait for a commit {wait:.2f} s; another writer's turn after {turns:.0%} of the commits.\n"
            f"  The bare client's conditional puts, each under a name of its own: one process {alone:,.0f}/s "
            f"(ratio {rate / alone:.2f}, longest wait {wait_alone:.2f} s), {PROCESSES} processes {apart:,.0f}/s "
            f"(ratio {rate / apart:.2f}, longest wait {wait_apart:.2f} s)"
        )
