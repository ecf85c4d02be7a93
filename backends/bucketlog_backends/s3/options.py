"""The settings of an S3 store, from options and the environment, and its credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from bucketlog.backend import check_options
from bucketlog.errors import CapabilityError, InvalidOptionError, InvalidURLError

if TYPE_CHECKING:
    from obstore.store import S3Credential

# The names of the same options in boto3, s3fs, obstore, polars and pandas, in lower case.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "endpoint_url": ("endpoint", "aws_endpoint", "aws_endpoint_url", "aws_endpoint_url_s3"),
    "access_key_id": ("key", "access_key", "aws_access_key_id"),
    "secret_access_key": ("secret", "secret_key", "aws_secret_access_key"),
    "session_token": ("token", "aws_session_token", "aws_token"),
    "region": ("region_name", "default_region", "aws_region", "aws_default_region"),
    "profile": ("profile_name", "aws_profile"),
    "anon": ("skip_signature", "aws_skip_signature"),
    "addressing": ("addressing_style",),
    "virtual_hosted_style_request": ("aws_virtual_hosted_style_request",),
    "allow_http": ("aws_allow_http",),
    "client": (),
}
_CANONICAL = {alias: option for option, aliases in _ALIASES.items() for alias in (option, *aliases)}
_NESTED = "client_kwargs"  # where users of s3fs put the options of boto3's client
_ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The settings from the URL, the options and the environment, each under one name; empty if not given."""

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = ""
    profile: str = ""
    anon: bool = False
    addressing: Literal["auto", "path", "virtual"] = "auto"
    client: str = "obstore"
    ca_bundle: str = ""
    needs_session: bool = False
    """Whether credentials come from boto3's session: no keys were given, or a profile was."""

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def virtual(self) -> bool:
        """Whether the bucket's name is part of the host: AWS requires this, and few other servers support it."""
        if self.addressing != "auto":
            return self.addressing == "virtual"
        # A certificate for *.s3.amazonaws.com does not cover a bucket whose name contains a dot.
        return not self.endpoint_url and "." not in self.bucket


def read_settings(url: str, options: Mapping[str, object], environ: Mapping[str, str]) -> S3Settings:
    """Return the settings. Options win over the environment; keys win over a profile, and a profile over other sources.

    Raises:
        InvalidURLError: The URL has no bucket, contains credentials, or has a prefix with empty or dot parts.
        InvalidOptionError: An option is unknown, has an invalid value, or contradicts another.
    """
    bucket, prefix = _split_url(url)
    place = f"s3://{bucket}/{prefix}".rstrip("/")
    given = _gather(place, options)
    texts = {name: _as_text(place, name, value) for name, value in given.items() if name not in _FLAGS}
    flags = {name: _as_bool(place, name, value) for name, value in given.items() if name in _FLAGS}
    for name, variables in _ENVIRONMENT.items():
        if name not in texts:
            texts[name] = next((environ[variable] for variable in variables if environ.get(variable)), "")

    endpoint_url = texts["endpoint_url"].rstrip("/")
    _check_endpoint(place, endpoint_url, allow_http=flags.get("allow_http", True))
    client = texts.get("client", "obstore")
    _check_choice(place, "client", client, ("obstore", "s3fs"))
    keys = {name: texts.get(name, "") for name in ("access_key_id", "secret_access_key", "session_token")}
    anon = flags.get("anon", False)
    _check_keys(place, keys, anon=anon)

    profile = texts.get("profile", "")
    from_environment = environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY")
    needs_session = not anon and not keys["access_key_id"]
    if needs_session and from_environment and not profile and not environ.get("AWS_PROFILE"):
        keys = {name: environ.get(f"AWS_{name.upper()}", "") for name in keys}
        needs_session = False
    return S3Settings(
        bucket=bucket,
        prefix=prefix,
        endpoint_url=endpoint_url,
        region=texts["region"],
        profile=profile,
        anon=anon,
        addressing=_addressing(place, texts, flags),
        client=client,
        ca_bundle=environ.get("AWS_CA_BUNDLE", ""),
        needs_session=needs_session,
        **keys,
    )


_FLAGS = ("anon", "allow_http", "virtual_hosted_style_request")


def _split_url(url: str) -> tuple[str, str]:
    """Return the bucket and the prefix. No message repeats an invalid bucket, because it may be a password."""
    bucket, _, path = url.removeprefix("s3://").partition("/")
    if "@" in bucket:
        msg = "open s3://…: the URL contains credentials; give them as access_key_id=… and secret_access_key=…"
        raise InvalidURLError(msg)
    if not url.startswith("s3://") or not _BUCKET.fullmatch(bucket):
        msg = "open s3://…: the bucket's name is missing or not valid; write s3://bucket/prefix"
        raise InvalidURLError(msg)
    prefix = path.strip("/")
    if prefix and (not prefix.isprintable() or any(part in ("", ".", "..") for part in prefix.split("/"))):
        msg = f"open s3://{bucket}/…: a part of the prefix is empty, '.', '..' or not printable; fix the URL"
        raise InvalidURLError(msg)
    return bucket, prefix


def _gather(place: str, options: Mapping[str, object]) -> dict[str, object]:
    """Return the options under our names, including those in `client_kwargs`. None counts as not given."""
    nested = options.get(_NESTED) or {}
    if not isinstance(nested, Mapping):
        msg = f"open {place}: {_NESTED} must be a mapping, as in s3fs, not {type(nested).__name__}"
        raise InvalidOptionError(msg, option=_NESTED)
    gathered: dict[str, object] = {}
    for source in (options, nested):
        check_options(place, source, {*_CANONICAL, _NESTED, *(name for name in source if name.lower() in _CANONICAL)})
        for name, value in source.items():
            option = _CANONICAL.get(name.lower())
            if option is None or value is None:
                continue
            if gathered.setdefault(option, value) != value:
                msg = f"open {place}: {option} is given twice with different values, once as {name}; leave one out"
                raise InvalidOptionError(msg, option=name)
    return gathered


def _as_text(place: str, option: str, value: object) -> str:
    if not isinstance(value, str):
        msg = f"open {place}: {option} must be a str, not {type(value).__name__}"
        raise InvalidOptionError(msg, option=option)
    return value.strip()


def _as_bool(place: str, option: str, value: object) -> bool:
    said = str(value).lower()
    if not isinstance(value, (bool, str)) or said not in (*_TRUE, *_FALSE):
        msg = f"open {place}: {option} must be true or false"
        raise InvalidOptionError(msg, option=option)
    return said in _TRUE


def _check_choice(place: str, option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        msg = f"open {place}: {option} must be {' or '.join(choices)}"
        raise InvalidOptionError(msg, option=option)


def _check_endpoint(place: str, endpoint_url: str, *, allow_http: bool) -> None:
    if not endpoint_url:
        return
    parts = urlsplit(endpoint_url)
    wrong = ""
    if "@" in parts.netloc:
        wrong = "endpoint_url contains credentials; give them as access_key_id=… and secret_access_key=…"
    elif parts.scheme not in ("http", "https") or not parts.netloc:
        wrong = "endpoint_url must begin with http:// or https:// and name a host"
    elif parts.scheme == "http" and not allow_http:
        wrong = "endpoint_url is http:// and allow_http is false; use https://"
    if wrong:
        msg = f"open {place}: {wrong}"
        raise InvalidOptionError(msg, option="endpoint_url")


def _check_keys(place: str, keys: Mapping[str, str], *, anon: bool) -> None:
    key, secret, token = keys["access_key_id"], keys["secret_access_key"], keys["session_token"]
    if bool(key) != bool(secret) or (token and not key):
        missing = "secret_access_key" if key else "access_key_id"
        msg = f"open {place}: {missing} is missing; give access_key_id and secret_access_key together, or neither"
        raise InvalidOptionError(msg, option=missing)
    if anon and key:
        msg = f"open {place}: anon=True sends no credentials, but access_key_id is given; leave one out"
        raise InvalidOptionError(msg, option="anon")


def _addressing(place: str, texts: Mapping[str, str], flags: Mapping[str, bool]) -> Literal["auto", "path", "virtual"]:
    if "virtual_hosted_style_request" in flags:
        return "virtual" if flags["virtual_hosted_style_request"] else "path"
    match texts.get("addressing", "auto"):
        case "auto" | "path" | "virtual" as addressing:
            return addressing
    msg = f"open {place}: addressing must be path or virtual"
    raise InvalidOptionError(msg, option="addressing")


def without_user(endpoint: str) -> str:
    """Return an endpoint without credentials, for messages."""
    return re.sub(r"//[^/@]*@", "//", endpoint)


# -- credentials -------------------------------------------------------------------------------------------------------


class KnownCredentials:
    """Given keys, as a callable. Given directly, obstore would add a session token from the environment."""

    problem = ""

    def __init__(self, settings: S3Settings) -> None:
        self._answer: S3Credential = {
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key,
            "token": settings.session_token or None,
            "expires_at": None,
        }

    def __call__(self) -> S3Credential:
        """Return the keys."""
        return self._answer


class Session:
    """Credentials from boto3's session: profiles, configuration files, single sign-on, roles of machines."""

    def __init__(self, session: Any, region: str, endpoint_url: str) -> None:  # noqa: ANN401  (botocore has no types)
        self.region, self.endpoint_url = region, endpoint_url
        self.problem = ""
        self._session = session

    def __call__(self) -> S3Credential:
        """Return credentials, renewed if they are about to expire. obstore calls this before the first request."""
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_credentials()
            if found is None:
                self.problem = "there are none in the options, the environment or boto3's configuration"
                raise LookupError(self.problem)
            frozen = found.get_frozen_credentials()
        except BotoCoreError as err:
            self.problem = f"boto3 could not get them ({type(err).__name__})"
            raise
        # botocore renews credentials that expire within ten minutes, so these are good for that long.
        renewed = datetime.now(UTC) + timedelta(minutes=10) if hasattr(found, "refresh_needed") else None
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": renewed,
        }


def open_session(settings: S3Settings) -> Session:
    """Read boto3's configuration. Getting credentials may take a request, so that happens later.

    Raises:
        CapabilityError: boto3 is missing.
        InvalidOptionError: The profile does not exist, or the configuration cannot be read.
    """
    try:
        import boto3
        from botocore.configprovider import ConfiguredEndpointProvider
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise missing_library("boto3", settings.url) from None
    try:
        session = boto3.Session(profile_name=settings.profile or None)
        core = session._session  # noqa: SLF001  (boto3 has no public way to get the endpoint of a profile)
        endpoint_url = ConfiguredEndpointProvider(core.full_config, core.get_scoped_config(), "s3").provide()
    except BotoCoreError as err:
        msg = f"open {settings.url}: boto3's configuration cannot be used: {err}; fix it, or give another profile"
        raise InvalidOptionError(msg, option="profile") from err
    endpoint_url = (endpoint_url or "").rstrip("/")
    _check_endpoint(settings.url, endpoint_url, allow_http=True)
    return Session(core, session.region_name or "", endpoint_url)


def missing_library(library: str, url: str) -> CapabilityError:
    """Return the error for a missing library, which says how to install it."""
    msg = f'open {url}: {library} is not installed; pip install "bucketlog[s3]"'
    return CapabilityError(msg)
