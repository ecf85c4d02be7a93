"""obstore's clients: one for each kind of request, with its timeouts and retries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bucketlog.errors import InvalidOptionError
from bucketlog_backends.s3.options import missing_library

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ObjectStore, S3Credential

    from bucketlog_backends.s3.options import S3Settings

    Connect = Callable[["Traffic"], ObjectStore]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The timeouts and retries of a kind of request.

    The client starts no attempt after `_RETRY_SECONDS`. A server that cannot be reached or does not answer is thus
    reported within 10 seconds, and yet a read survives one silent connection.
    """

    timeout_seconds: int
    silence_seconds: int
    """How long the server may send nothing, which includes the time in which a body is sent to it."""
    retries: int = 8

    def client_options(self) -> dict[str, object]:
        """Return the timeouts as client options of obstore."""
        return {
            "connect_timeout": f"{_CONNECT_SECONDS}s",
            "read_timeout": f"{self.silence_seconds}s",
            "timeout": f"{self.timeout_seconds}s",
        }

    def retry_config(self) -> dict[str, object]:
        """Return the retries as a retry configuration of obstore."""
        return {
            "max_retries": self.retries,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
            "backoff": {"max_backoff": timedelta(seconds=2)},
        }


_CONNECT_SECONDS = 3
_RETRY_SECONDS = 5
READS = Traffic(timeout_seconds=300, silence_seconds=4)
UPLOADS = Traffic(timeout_seconds=90, silence_seconds=90)
PUTS = Traffic(timeout_seconds=15, silence_seconds=15, retries=0)
BIG_PUTS = Traffic(timeout_seconds=90, silence_seconds=90, retries=0)


def connect_with(settings: S3Settings, credentials: Callable[[], S3Credential] | None) -> Connect:
    """Return a function that creates a client for a kind of request.

    Raises:
        CapabilityError: obstore is missing.
        InvalidOptionError: The file of certificates cannot be read.
    """
    try:
        from obstore.store import S3Store
    except ImportError:
        raise missing_library("obstore", settings.url) from None
    config: dict[str, object] = {
        "region": settings.region or "us-east-1",
        "virtual_hosted_style_request": settings.virtual,
        "skip_signature": settings.anon,
        "conditional_put": "etag",
    }
    if settings.endpoint_url:
        endpoint = settings.endpoint_url
        if settings.virtual:
            scheme, _, host = endpoint.partition("://")
            endpoint = f"{scheme}://{settings.bucket}.{host}"
        # obstore also reads the environment, where the second name would win over the first.
        config |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    client: dict[str, object] = {"allow_http": settings.endpoint_url.startswith("http://")}
    if settings.ca_bundle:
        try:
            client["root_certificate"] = Path(settings.ca_bundle).read_bytes()
        except OSError as err:
            msg = f"open {settings.url}: AWS_CA_BUNDLE names a file that cannot be read: {err}; fix it"
            raise InvalidOptionError(msg, option="AWS_CA_BUNDLE") from err

    def connect(traffic: Traffic) -> ObjectStore:
        make: Any = S3Store
        made = make(
            settings.bucket,
            config=config,
            client_options=client | traffic.client_options(),
            retry_config=traffic.retry_config(),
            credential_provider=credentials,
        )
        return cast("ObjectStore", made)

    return connect
