"""One of several processes that append to the same partition; run by a test, told on standard input what to do.

It says `ready` when it can begin, begins with the next line on standard input, and ends with one JSON object.
"""

import json
import sys
import time

import bucketlog
from bucketlog import Event


def append(task):
    """Append batches through bucketlog; return their offsets and when each was acknowledged."""
    with bucketlog.open(task["url"], create=False, storage_options=task["options"]) as store:
        stream = store.stream("orders")
        stream.cursor()  # connects
        begin()
        offsets, times = [], []
        for number in range(task["commits"]):
            events = [
                Event(type="placed", subject=f"o-{number}", data=[task["name"], number * task["events"] + k])
                for k in range(task["events"])
            ]
            offsets.append(stream.append(events).offsets)
            times.append(time.time())
        return {"offsets": offsets, "times": times}


def put(task):
    """Put as many bytes if absent with the bare client, under names of this process's own; return when."""
    import obstore
    from obstore.store import S3Store

    options = {"endpoint" if name == "endpoint_url" else name: value for name, value in task["options"].items()}
    bucket, _, prefix = task["url"].removeprefix("s3://").partition("/")
    client = S3Store(bucket, **options, client_options={"allow_http": True})
    folder, data = f"{prefix}/bare/{task['processes']}/{task['name']}", b"x" * task["bytes"]
    list(obstore.list(client, folder))  # connects
    begin()
    times = []
    for number in range(task["commits"]):
        obstore.put(client, f"{folder}/{number:020}", data, mode="create", use_multipart=False)
        times.append(time.time())
    return {"times": times}


def begin():
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    print(json.dumps(append(given) if given["what"] == "append" else put(given)), flush=True)
