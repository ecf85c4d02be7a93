"""Measure S3 through its clients: `python -m benchmarks.s3_clients [--quick] [--json] [--endpoint-url URL]`.

Ours is bucketlog over obstore. The peers are bucketlog over s3fs, and bare obstore, which puts as many bytes under a
name if it is absent, or gets the same objects. Without an endpoint this starts a MinIO; with one, keys and region come
from the environment (`AWS_*`), and the bucket is `--bucket`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.store import S3Store

import bucketlog
from bucketlog import Event

from .harness import Result, compare
from .report import show

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
REPLAY_REQUESTS = 16  # at a time, of the bare client too
DATA_BYTES = 4000


@contextmanager
def minio() -> Iterator[tuple[str, dict[str, str]]]:
    """Start a MinIO, and yield a bucket's URL and the options with which it is opened."""
    command = [sys.executable, "-m", "tests.servers", "keep", "minio"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        line = keeper.stdout.readline()
        if not line:
            sys.exit("no MinIO here; run `python -m tests.servers prepare minio`, or give --endpoint-url")
        said = json.loads(line)
        yield said["base_url"], said["options"]
        keeper.stdin.close()


@contextmanager
def given(endpoint_url: str, bucket: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the URL of a bucket on a running server, and the options to open it with."""
    names = ("access_key_id", "secret_access_key", "session_token", "region")
    options = {name: os.environ[f"AWS_{name.upper()}"] for name in names if f"AWS_{name.upper()}" in os.environ}
    yield f"s3://{bucket}", {"endpoint_url": endpoint_url, **options}


def bare_client(url: str, options: dict[str, str]) -> tuple[S3Store, str]:
    """Return an obstore client of a URL's bucket, and the URL's prefix."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    settings = {name: value for name, value in options.items() if name != "endpoint_url"}
    client_options = {"allow_http": True}
    return S3Store(bucket, endpoint=options["endpoint_url"], client_options=client_options, **settings), prefix


def measure(url: str, options: dict[str, str], *, quick: bool) -> list[Result]:
    """Compare commits with conditional PUTs, and a replay with GETs, one object for each commit."""
    commits, rounds = (20, 3) if quick else (100, 5)
    client, prefix = bare_client(url, options)
    stores = {
        name: bucketlog.open(f"{url}/{name}", storage_options={**options, "client": name})
        for name in ("obstore", "s3fs")
    }
    streams = {name: store.stream("orders") for name, store in stores.items()}
    names = itertools.count()

    def event() -> Event:
        return Event(type="placed", subject="o-17", data="x" * DATA_BYTES)

    def append_with(name):
        def append() -> int:
            for _ in range(commits):
                streams[name].append(event())
            return commits

        return append

    streams["obstore"].append(event())
    size = streams["obstore"].stats().bytes
    body = b"x" * size

    def put() -> int:
        for _ in range(commits):
            obstore.put(client, f"{prefix}/bare/{next(names):020}", body, mode="create", use_multipart=False)
        return commits

    common = {"ours": append_with("obstore"), "rounds": rounds, "unit": "commits/s"}
    results = [
        compare(
            f"append of {size} bytes, S3",
            theirs=put,
            peer="bare obstore, put if absent",
            target="ratio 0.8",
            **common,
        ),
        compare(f"append of {size} bytes, S3", theirs=append_with("s3fs"), peer="bucketlog over s3fs", **common),
    ]

    # Both logs and the bare client read the same objects: as many commits of the same size.
    shared = f"{url}/replayed"
    with bucketlog.open(shared, storage_options=options) as store:
        for _ in range(commits):
            store.stream("orders").append(event())
        folder = store.stream("orders").url("0").removeprefix("s3://").partition("/")[2]
    readers = {
        name: bucketlog.open(shared, create=False, read_only=True, storage_options={**options, "client": name})
        for name in streams
    }

    def replay_with(name):
        def replay() -> int:
            return sum(len(batch.events) for batch in readers[name].stream("orders").read_batches())

        return replay

    with ThreadPoolExecutor(REPLAY_REQUESTS) as pool:

        def get() -> int:
            keys = [one["path"] for page in obstore.list(client, folder) for one in page]
            return len([data for data in pool.map(lambda key: obstore.get(client, key).bytes(), keys) if data])

        common = {"ours": replay_with("obstore"), "rounds": rounds, "unit": "objects/s"}
        results += [
            compare(
                "replay, a commit an object, S3",
                theirs=get,
                peer=f"bare obstore, list and get, {REPLAY_REQUESTS} at a time",
                target="ratio 0.8",
                **common,
            ),
            compare("replay, a commit an object, S3", theirs=replay_with("s3fs"), peer="bucketlog over s3fs", **common),
        ]
    for one in (*stores.values(), *readers.values()):
        one.close()
    for page in obstore.list(client, prefix):
        obstore.delete(client, [one["path"] for one in page])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint-url", help="a running server (default: start a MinIO)")
    parser.add_argument("--bucket", default="bucketlog", help="a bucket on that server (default: bucketlog)")
    parser.add_argument("--quick", action="store_true", help="fewer commits and rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each line")
    chosen = parser.parse_args()
    server = given(chosen.endpoint_url, chosen.bucket) if chosen.endpoint_url else minio()
    with server as (url, options):
        show(measure(f"{url}/bench-{uuid.uuid4()}", options, quick=chosen.quick), as_json=chosen.json)


if __name__ == "__main__":
    main()
