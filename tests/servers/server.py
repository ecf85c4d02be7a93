"""A running server: its place, and the options to open it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bucketlog_backends.s3.options import read_settings

from .settings import settings

if TYPE_CHECKING:
    from botocore.client import BaseClient


class MissingServerError(Exception):
    """A server is not available on this machine. The message is one line, with the reason and the remedy."""


class ServerStartError(Exception):
    """A server is installed, but does not start. The message ends with its output."""


@dataclass(frozen=True)
class Server:
    """A bucket, or a prefix in it, on a running server.

    Attributes:
        name: Its name in tables and tests.
        version: Its version, if known.
        base_url: `s3://bucket/prefix`. Tests only write below it, unless the server is `ours`.
        options: The options for `bucketlog.open()`.
        ours: Whether it was started for the tests, so buckets may be created and nothing has to be cleaned up.
    """

    name: str
    base_url: str
    options: dict[str, str] = field(repr=False)  # contains the secret
    version: str = ""
    ours: bool = True

    @classmethod
    def started(cls, name: str, endpoint_url: str, *, version: str) -> Server:
        """Return a server that was started with our shared settings."""
        options = {
            "endpoint_url": endpoint_url,
            "access_key_id": settings()["S3_ACCESS_KEY_ID"],
            "secret_access_key": settings()["S3_SECRET_ACCESS_KEY"],
            "region": settings()["S3_REGION"],
        }
        return cls(name, f"s3://{settings()['S3_BUCKET']}", options, version)

    @property
    def endpoint_url(self) -> str:
        """The URL on which the server listens."""
        return self.options["endpoint_url"]

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return urlsplit(self.base_url).netloc

    @property
    def prefix(self) -> str:
        """The prefix of all keys: empty, or ending with a slash."""
        path = urlsplit(self.base_url).path.strip("/")
        return f"{path}/" if path else ""

    def url(self, path: str) -> str:
        """Return the URL of a path below `base_url`."""
        return f"{self.base_url.rstrip('/')}/{path}"

    def client(self) -> BaseClient:
        """Return a boto3 client, which sends each request once, without adding checksums."""
        import boto3
        from botocore.config import Config

        found = read_settings(self.base_url, self.options, os.environ)
        session = boto3.Session(profile_name=found.profile or None)
        return session.client(
            "s3",
            endpoint_url=found.endpoint_url or None,
            aws_access_key_id=found.access_key_id or None,
            aws_secret_access_key=found.secret_access_key or None,
            aws_session_token=found.session_token or None,
            region_name=found.region or None,
            config=Config(
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=16,
                connect_timeout=10,
                read_timeout=30,
                s3={"addressing_style": "virtual" if found.virtual else "path"},
            ),
        )

    def remove(self, path: str) -> None:
        """Delete everything below a path."""
        client, prefix = self.client(), f"{self.prefix}{path}/"
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):  # one by one: not every server supports DeleteObjects
                client.delete_object(Bucket=self.bucket, Key=entry["Key"])

    def to_json(self) -> dict[str, object]:
        """Return the server as JSON, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Server:
        """Return the server for its JSON form."""
        return cls(**value)
