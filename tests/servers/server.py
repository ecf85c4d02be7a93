"""A server that can be used: where it is and how it is opened."""

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
    """A server cannot be had on this machine; the message is one line that says why, and what would help."""


class ServerStartError(Exception):
    """A server is here and does not start; the message ends with what it wrote."""


@dataclass(frozen=True)
class Server:
    """A bucket, or a prefix in it, on a server that runs.

    Attributes:
        name: What it is called in tables and test names.
        version: As far as known.
        base_url: `s3://bucket/prefix`; tests write below it only, unless the server is `ours`.
        options: What `bucketlog.open()` is given beside the URL.
        ours: Whether it was started for the tests, so that buckets may be made and nothing needs to be cleaned up.
    """

    name: str
    base_url: str
    options: dict[str, str] = field(repr=False)  # holds the secret
    version: str = ""
    ours: bool = True

    @classmethod
    def started(cls, name: str, endpoint_url: str, *, version: str) -> Server:
        """Return a server that was started with the settings that all of ours share."""
        options = {
            "endpoint_url": endpoint_url,
            "access_key_id": settings()["S3_ACCESS_KEY_ID"],
            "secret_access_key": settings()["S3_SECRET_ACCESS_KEY"],
            "region": settings()["S3_REGION"],
        }
        return cls(name, f"s3://{settings()['S3_BUCKET']}", options, version)

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return self.options["endpoint_url"]

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return urlsplit(self.base_url).netloc

    @property
    def prefix(self) -> str:
        """What keys begin with: empty, or ending with a slash."""
        path = urlsplit(self.base_url).path.strip("/")
        return f"{path}/" if path else ""

    def url(self, path: str) -> str:
        """Return the URL of something below `base_url`."""
        return f"{self.base_url.rstrip('/')}/{path}"

    def client(self) -> BaseClient:
        """Return boto3's client of it, which sends each request once and adds nothing to it."""
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
        """Remove everything below a path."""
        client, prefix = self.client(), f"{self.prefix}{path}/"
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):  # one by one: not every server knows DeleteObjects
                client.delete_object(Bucket=self.bucket, Key=entry["Key"])

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Server:
        """Make a server from its JSON form."""
        return cls(**value)
