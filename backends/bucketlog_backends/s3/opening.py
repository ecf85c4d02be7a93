"""Opening a bucket, from a URL and options or from an obstore store."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bucketlog.errors import CapabilityError, InvalidURLError
from bucketlog_backends.s3.backend import GCSBackend, ObstoreBackend, S3Backend
from bucketlog_backends.s3.connections import connect_with
from bucketlog_backends.s3.options import KnownCredentials, open_session, read_settings, without_user

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import ObjectStore, S3Credential

    from bucketlog.backend import Backend
    from bucketlog_backends.s3.connections import Traffic


def open_s3(url: str, options: Mapping[str, object], *, create: bool) -> Backend:
    """Open a prefix of a bucket, without any request to the server.

    Args:
        url: `s3://bucket/prefix`. The prefix is used as it is, without decoding.
        options: `endpoint_url`, `access_key_id`, `secret_access_key`, `session_token`, `region`, `profile`, `anon`,
            `addressing` (`path` or `virtual`) and `client` (`obstore` or `s3fs`). The names that boto3, s3fs and
            obstore use are accepted as well. Defaults come from the environment (`AWS_*`) and boto3's configuration.
        create: Has no effect: a prefix always exists, and buckets are never created.

    Raises:
        InvalidURLError: The URL has no bucket, contains credentials, or has a prefix with empty or dot parts.
        InvalidOptionError: An option is unknown or has an invalid value.
        CapabilityError: A library is missing. The message names the extra to install.
    """
    settings = read_settings(url, options, os.environ)
    if settings.client == "s3fs":
        from bucketlog_backends.s3.s3fs import open_s3fs

        return open_s3fs(settings)
    del create
    credentials: Callable[[], S3Credential] | None = None
    if settings.needs_session:
        session = open_session(settings)
        settings = replace(
            settings,
            region=settings.region or session.region,
            endpoint_url=settings.endpoint_url or session.endpoint_url,
        )
        credentials = session
    elif not settings.anon:
        credentials = KnownCredentials(settings)
    return S3Backend(
        settings.url,
        prefix=settings.prefix,
        connect=connect_with(settings, credentials),
        endpoint=settings.endpoint_url,
        credentials=credentials,
    )


def from_object(obj: object) -> Backend | None:
    """Return a backend for an obstore store; None for any other object.

    A `LocalStore` becomes the local backend, whose files can grow. Other stores keep their configuration, but with
    retries and timeouts that suit a log.

    Raises:
        InvalidURLError: A `LocalStore` has no prefix, so it is the whole disk.
        CapabilityError: An `HTTPStore` has no conditional PUTs.
    """
    library = sys.modules.get("obstore.store")
    if library is None or not isinstance(obj, library.ObjectStoreMethods):
        return None
    if isinstance(obj, library.LocalStore):
        if obj.prefix is None:
            msg = "open LocalStore: it has no prefix, so it is the whole disk; give LocalStore(prefix='/path')"
            raise InvalidURLError(msg)
        from bucketlog_backends.local import open_local

        return open_local(Path(obj.prefix).absolute().as_uri(), {}, create=True)
    if isinstance(obj, library.MemoryStore):
        return ObstoreBackend(f"obstore-memory://{id(obj):x}", name="obstore-memory", connect=lambda _traffic: obj)
    for kind, scheme, backend in (
        (library.S3Store, "s3", S3Backend),
        (library.GCSStore, "gs", GCSBackend),
        (library.AzureStore, "az", ObstoreBackend),
    ):
        if isinstance(obj, kind):
            return _from_remote_store(obj, scheme, backend)
    msg = f"open {type(obj).__name__}: it has no conditional PUTs; give a URL, an S3Store or a LocalStore"
    raise CapabilityError(msg)


def _from_remote_store(store: Any, scheme: str, kind: type[ObstoreBackend]) -> ObstoreBackend:  # noqa: ANN401  (obstore's stores share no base class that has their settings)
    config = dict(store.config)
    bucket = config.get("bucket") or config.get("container_name") or ""
    prefix = str(store.prefix or "").strip("/")
    if scheme == "s3":
        config["conditional_put"] = "etag"

    def connect(traffic: Traffic) -> ObjectStore:
        client = dict(store.client_options or {}) | traffic.client_options()
        made = type(store)(
            config=config,
            client_options=client,
            retry_config=traffic.retry_config(),
            credential_provider=store.credential_provider,
        )
        return cast("ObjectStore", made)

    url = f"{scheme}://{bucket}/{prefix}".rstrip("/")
    endpoint = config.get("aws_endpoint_url_s3") or config.get("endpoint") or ""
    return kind(url, name=scheme, prefix=prefix, connect=connect, endpoint=without_user(endpoint))
