"""What servers do where they differ, measured on each one that runs, and what bucketlog makes of it."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.servers import minio as minio_server
from tests.servers.settings import settings

import bucketlog
from bucketlog import Event
from bucketlog.errors import CapabilityError
from bucketlog_backends.s3 import facts as fact

WRITERS, APPENDS = 8, 10

# Of the releases that docker/.env names. What is there the same for all is what bucketlog relies on.
TESTED = {
    "minio": minio_server.release(),
    "ceph_rgw": settings()["CEPH_VERSION"],
}
EXPECTED = {
    "minio": {
        fact.CREATE_RACE: fact.ONE_WINNER,
        fact.CREATE_RACE_VERSIONED: fact.ONE_WINNER,
        fact.COMPLETE: fact.RIGHT,
        fact.IF_MATCH_QUOTED: fact.RIGHT,
        fact.IF_MATCH_UNQUOTED: fact.RIGHT,
        fact.IF_MATCH_LONGER: fact.REFUSED,
        fact.SWAP_RACE: fact.ONE_WINNER,
        fact.SWAP_LOSERS: "412",
        fact.DELETE: fact.IGNORED,
        fact.COPY: fact.IGNORED,
        fact.FOLDER: fact.NOT_LISTED,
        fact.LONG_PART: fact.REFUSED,
        fact.LONG_KEY: fact.REFUSED,
        fact.CLOCK: "403",
        fact.LIST: fact.RIGHT,
    },
    "ceph_rgw": {
        fact.CREATE_RACE: fact.ONE_WINNER,
        fact.CREATE_RACE_VERSIONED: fact.ALL_WIN,
        fact.COMPLETE: fact.IGNORED,
        fact.IF_MATCH_QUOTED: "412 always",
        fact.IF_MATCH_UNQUOTED: fact.RIGHT,
        fact.IF_MATCH_LONGER: fact.ACCEPTED,
        fact.SWAP_RACE: fact.ONE_WINNER,
        fact.SWAP_LOSERS: "412 or 500",  # in either case nothing was replaced
        fact.DELETE: fact.IGNORED,
        fact.COPY: fact.IGNORED,
        fact.FOLDER: fact.FINE,
        fact.LONG_PART: fact.ACCEPTED,
        fact.LONG_KEY: fact.REFUSED,
        fact.CLOCK: "403",
        fact.LIST: fact.RIGHT,
    },
}


@pytest.fixture
def make_versioned_bucket():
    def make(server):
        client, bucket = server.client(), f"bucketlog-versioned-{uuid.uuid4()}"
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return f"s3://{bucket}/root"

    return make


def test_server_does_what_bucketlog_relies_on(any_server, facts_of):
    facts = facts_of(any_server)

    assert facts[fact.CREATE_RACE] == fact.ONE_WINNER
    assert fact.RIGHT in (facts[fact.IF_MATCH_UNQUOTED], facts[fact.IF_MATCH_QUOTED])
    assert facts[fact.SWAP_RACE] == fact.ONE_WINNER
    assert facts[fact.LIST] == fact.RIGHT


def test_tested_release_does_what_is_written_down_about_it(real_server, facts_of):
    if TESTED.get(real_server.name) != real_server.version:
        pytest.skip(f"nothing is written down about {real_server.name} {real_server.version}")

    facts = dict(facts_of(real_server))

    # Ceph answers some losers with 500, now fewer and now more of them than with 412.
    told = set(facts.pop(fact.SWAP_LOSERS).split(", sometimes "))
    expected = dict(EXPECTED[real_server.name])
    assert told <= set(expected.pop(fact.SWAP_LOSERS).split(" or "))
    assert facts == expected


def test_events_of_racing_writers_are_all_there_once_and_without_holes(real_server, real_url):
    bucketlog.open(real_url, storage_options=real_server.options).close()
    barrier = threading.Barrier(WRITERS)

    def write(writer):
        with bucketlog.open(real_url, storage_options=real_server.options) as store:
            stream = store.stream("orders")
            barrier.wait(60)
            return [stream.append(Event(type="placed", data=[writer, n])).first_offset for n in range(APPENDS)]

    with ThreadPoolExecutor(WRITERS) as pool:
        offsets = list(pool.map(write, range(WRITERS)))

    with bucketlog.open(real_url, storage_options=real_server.options) as store:
        events = list(store.stream("orders").read())
    assert [event.offset for event in events] == list(range(WRITERS * APPENDS))
    acknowledged = {offset: [writer, n] for writer in range(WRITERS) for n, offset in enumerate(offsets[writer])}
    assert {event.offset: event.data for event in events} == acknowledged


def test_checkpoint_is_replaced_only_under_its_version(real_server, real_url):
    with bucketlog.open(real_url, storage_options=real_server.options) as store:
        first = store.checkpoints.save("progress", {"day": 1})
        second = store.checkpoints.save("progress", {"day": 2}, expected_version=first.version)

        with pytest.raises(bucketlog.errors.CheckpointConflictError):
            store.checkpoints.save("progress", {"day": 3}, expected_version=first.version)

        assert store.checkpoints.load("progress") == second


def test_versioned_bucket_that_ignores_conditions_is_refused(ceph_rgw, make_versioned_bucket):
    if ceph_rgw.version != TESTED["ceph_rgw"]:
        pytest.skip(f"not known to ignore conditions there: Ceph {ceph_rgw.version}")
    url = make_versioned_bucket(ceph_rgw)

    with pytest.raises(CapabilityError, match="versioned"):
        bucketlog.open(url, storage_options=ceph_rgw.options)


def test_versioned_bucket_that_keeps_conditions_is_opened(minio, make_versioned_bucket):
    url = make_versioned_bucket(minio)

    with bucketlog.open(url, storage_options=minio.options) as store:
        store.stream("orders").append(Event(type="placed"))

        assert [event.offset for event in store.stream("orders").read()] == [0]


def test_single_writer_may_use_a_versioned_bucket_that_ignores_conditions(ceph_rgw, make_versioned_bucket):
    url = make_versioned_bucket(ceph_rgw)

    with bucketlog.open(url, single_writer=True, storage_options=ceph_rgw.options) as store:
        store.stream("orders").append(Event(type="placed"))

        assert [event.offset for event in store.stream("orders").read()] == [0]
