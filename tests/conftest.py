"""A real HTTP server that speaks S3, for all tests that need one: moto's, on a free port of this machine."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.client import BaseClient

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "test-key", "test-secret"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Return the endpoint of the server, which stops when the tests have run."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def moto_s3(moto_url: str) -> BaseClient:
    """Return boto3's client of the server, to make buckets and to see what is stored."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=moto_url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        region_name="us-east-1",
    )


@pytest.fixture
def s3_url(moto_s3: BaseClient) -> str:
    """Return the URL of a bucket that is new and empty for each test."""
    bucket = f"bucketlog-test-{next(_numbers)}"
    moto_s3.create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture
def s3_bucket(moto_url: str, s3_url: str) -> dict[str, object]:
    """Return the options with which `s3_url` is opened."""
    del s3_url  # asked for so that there is a bucket
    return {
        "endpoint_url": moto_url,
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": SECRET_ACCESS_KEY,
        "region": "us-east-1",
    }
