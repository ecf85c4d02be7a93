"""S3, on a MinIO that this module starts: commits and replays beside the bare client, and their requests."""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import obstore
from tests.servers.keeper import keep
from tests.servers.proxy import Proxy, good
from tests.servers.server import MissingServerError, ServerStartError

import bucketlog

from . import s3_clients
from .data import batches, departures, fresh
from .harness import Result, compare
from .replaying import envelopes
from .upkeep import NotThereYetError, compact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.proxy import Fault
    from tests.servers.server import Server

    from bucketlog import Stream

    from .sizes import Size

STREAM = "events"
REPLAY_TARGET, REQUESTS_TARGET = "ratio 0.8", "at-most 40"
_REPLAY = "replay, read_batches, S3, compacted"


def s3(folder: Path, size: Size) -> Iterator[Result]:
    """Everything on S3, on a MinIO that is stopped at the end."""
    try:
        with keep("minio") as server:
            url = server.url(f"bench-{uuid.uuid4()}")
            yield from s3_clients.measure(f"{url}/clients", server.options, quick=size.name != "full")
            yield from _requests_of_a_commit(server, f"{url}/commits")
            yield from _replay(server, f"{url}/replayed", folder / "replayed", size)
            yield from _requests_of_opening(server, f"{url}/opened", size)
    except (MissingServerError, ServerStartError) as reason:
        yield Result("S3", "a MinIO on this machine", "", None, target=REPLAY_TARGET, note=f"no server: {reason}")


# -- requests ----------------------------------------------------------------------------------------------------------


@dataclass
class Requests:
    """What went through a proxy, by method."""

    methods: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """Say it in words."""
        return ", ".join(f"{count} {method}" for method, count in sorted(self.methods.items())) or "none"


@contextmanager
def _counted(server: Server) -> Iterator[tuple[dict[str, str], Requests]]:
    """Yield options that lead through a proxy, and what the proxy counts."""
    requests = Requests()

    def plan(number: int, method: str) -> Fault:
        requests.methods[method] += 1
        return good(number, method)

    with Proxy(server.endpoint_url, plan) as proxy:
        yield {**server.options, "endpoint_url": proxy.endpoint_url}, requests


def _requests_of_a_commit(server: Server, url: str) -> Iterator[Result]:
    commits = 20
    events = fresh(departures(commits + 1))
    with _counted(server) as (options, requests), bucketlog.open(url, storage_options=options) as store:
        stream = store.stream(STREAM)
        stream.append(events[0])
        requests.methods.clear()
        for event in events[1:]:
            stream.append(event)
        each = requests.methods.total() / commits
        note = f"{requests.told()} for {commits} commits"
    yield Result("requests of a commit, S3", "counted by a proxy", "requests", each, target="at-most 1", note=note)


def _requests_of_opening(server: Server, url: str, size: Size) -> Iterator[Result]:
    _build_segments(server, url, size.s3_segments)
    title = f"requests of a cold open and first append, S3, {size.s3_segments:,} segments"
    yield _requests_of_one_opening(server, url, f"{title}, live")
    try:
        with bucketlog.open(url, storage_options=server.options) as store:
            compact(store.stream(STREAM))
            yield _requests_of_one_opening(server, url, f"{title}, compacted")
            if not hasattr(store.stream(STREAM), "vacuum"):
                raise NotThereYetError("stream.vacuum() is not there yet")  # noqa: TRY301
            store.stream(STREAM).vacuum(grace=0, exclusive=True)
        yield _requests_of_one_opening(server, url, f"{title}, vacuumed")
    except NotThereYetError as reason:
        yield Result(f"{title}, vacuumed", "", "requests", None, target=REQUESTS_TARGET, note=str(reason))


def _requests_of_one_opening(server: Server, url: str, title: str) -> Result:
    (event,) = fresh(departures(1))
    with (
        _counted(server) as (options, requests),
        bucketlog.open(url, create=False, storage_options=options) as store,
    ):
        store.stream(STREAM).append(event)
        told, count = requests.told(), requests.methods.total()
    return Result(title, "counted by a proxy", "requests", float(count), target=REQUESTS_TARGET, note=told)


def _build_segments(server: Server, url: str, count: int) -> None:
    """Make a log of `commits` commits. One writer knows the head, so each takes one request."""
    with bucketlog.open(url, storage_options=server.options) as store:
        stream = store.stream(STREAM)
        for event in departures(count):
            stream.append(event)


# -- replay ------------------------------------------------------------------------------------------------------------


def _replay(server: Server, url: str, folder: Path, size: Size) -> Iterator[Result]:
    with (
        bucketlog.open(url, storage_options=server.options) as store,
        bucketlog.open(folder) as local,
    ):
        remote, beside = store.stream(STREAM), local.stream(STREAM)
        for batch in batches(departures(size.s3_replayed), 10_000):
            remote.append(batch)
            beside.append(batch)
        try:
            compact(remote)
            compact(beside)
        except NotThereYetError as reason:
            yield Result(_REPLAY, "bare obstore, get", "events/s", None, target=REPLAY_TARGET, note=str(reason))
            return
        yield _compare_replay(server, remote, beside, size)


def _compare_replay(server: Server, remote: Stream, beside: Stream, size: Size) -> Result:
    """Compare with what limits a replay: getting the bytes, or decoding them."""
    client, _ = s3_clients.bare_client(server.base_url, server.options)
    prefix = remote.url("0").removeprefix("s3://").partition("/")[2]
    keys = [one["path"] for page in obstore.list(client, prefix) for one in page if one["path"].endswith(".zst")]
    with ThreadPoolExecutor(s3_clients.REPLAY_REQUESTS) as pool:

        def get() -> int:
            for _ in pool.map(lambda key: len(obstore.get(client, key).bytes()), keys):
                pass
            return size.s3_replayed

        def decode() -> int:
            return envelopes(beside)

        rates = {
            "bare obstore, get of the same objects": compare("", ours=get, theirs=None, peer="", rounds=1).ours,
            "the same log on the local disk: decoding": compare("", ours=decode, theirs=None, peer="", rounds=1).ours,
        }
        peer = min(rates, key=lambda name: rates[name] or 0.0)
        return compare(
            _REPLAY,
            ours=lambda: envelopes(remote),
            theirs=get if peer.startswith("bare") else decode,
            peer=peer,
            target=REPLAY_TARGET,
            rounds=size.long_rounds,
            note=f"bare get {rates['bare obstore, get of the same objects'] or 0:,.0f} events/s",
        )
