"""A store's location: the target given to `bucketlog.open`, parsed into a backend's name, a URL and options.

No backend is imported here. The URL's scheme names one of the entry points; schemes that only fsspec knows go to the
backend named `fsspec`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bucketlog.backend import SHIPPED, Backend, find_factory, installed_backends
from bucketlog.errors import InvalidOptionError, InvalidURLError

_ALLOWED = (
    "memory://name, file:///path, a plain path, s3://bucket/prefix, any fsspec URL, an obstore or fsspec object, or "
    "the pair (fsspec filesystem, path)"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)(?:://.*)?::[A-Za-z][A-Za-z0-9+.-]*://"
)  # simplecache::s3://…, zip://inner::s3://…
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_SLASHES_MISSING = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


@dataclass(frozen=True, slots=True, repr=False)
class Location:
    """Where a store is, and how to open it.

    Attributes:
        factory: The entry point that opens it.
        url: The URL for the factory, without a query; a `file` URL is absolute and percent-encoded.
        options: Options from the query, `storage_options` and keywords; the last one wins, and None counts as absent.
        ready: An object to wrap (obstore, fsspec), or a backend to use as it is; then `url` and `options` are empty.
    """

    factory: str
    url: str
    options: Mapping[str, object] = field(default_factory=dict)
    ready: object = None

    def __repr__(self) -> str:
        """Omit the options: they may hold credentials."""
        return f"Location({self.factory!r}, {redact(self.url)!r})"

    def open_backend(self, *, create: bool) -> Backend:
        """Open the backend, without checking that there is a store.

        Args:
            create: Whether to create a missing root directory; buckets are never created.

        Raises:
            InvalidURLError: The backend is not installed, or cannot use this object.
            InvalidOptionError: An option is unknown or has an invalid value.
            StoreNotFoundError: The directory or bucket does not exist.
        """
        if isinstance(self.ready, Backend):
            return self.ready
        factory = find_factory(self.factory)
        if self.ready is None:
            return factory(self.url, self.options, create=create)
        wrap: Any = getattr(sys.modules[factory.__module__], "from_object", None)
        backend: Backend | None = wrap(self.ready) if wrap else None
        if backend is None:
            kind = type(self.ready)
            msg = f"open {kind.__module__}.{kind.__qualname__} object: it cannot hold a store; pass {_ALLOWED}"
            raise InvalidURLError(msg)
        return backend


def parse(target: object, storage_options: object, options: Mapping[str, object]) -> Location:
    """Parse the target given to `bucketlog.open`.

    Keywords override `storage_options`, and both override options in the URL's query. In the query `+` is a plus sign,
    because secret keys contain it. A `UPath` stands for its URL and its storage options.

    Args:
        target: A URL, a path, a `UPath`, an obstore store, an fsspec filesystem, a pair of a filesystem and a path, or
            a backend.
        storage_options: A mapping as pandas, polars and fsspec take it, or None.
        options: The keywords that are not parameters of `bucketlog.open`.

    Raises:
        InvalidURLError: The target is none of these, or its scheme is unknown.
        InvalidOptionError: An option has no name or no value, or options were given with a ready object.
    """
    if storage_options is not None and not (
        isinstance(storage_options, Mapping) and all(isinstance(name, str) for name in storage_options)
    ):
        msg = f"open: storage_options must be a mapping from names to values, not {type(storage_options).__name__}"
        raise InvalidOptionError(msg, option="storage_options")
    given = _set_ones(storage_options or {}) | _set_ones(options)
    if (name := _wrapped_by(target)) is not None:
        if given:
            kind = type(target).__name__
            msg = f"open {kind} object: it has its own settings; leave out {', '.join(sorted(given))}"
            raise InvalidOptionError(msg, option=min(given))
        return Location(name, "", ready=target)
    if isinstance(target, os.PathLike):
        return Location("file", _file_url(os.fsdecode(target)), given)
    if isinstance(target, str):
        return _parse_text(target, given, query_is_options=True)
    if all(hasattr(target, attribute) for attribute in ("protocol", "path", "storage_options")):
        return _parse_text(str(target), _set_ones(_options_of_upath(target)) | given, query_is_options=False)
    msg = f"open: cannot use an object of type {type(target).__name__}; pass {_ALLOWED}"
    raise InvalidURLError(msg)


def redact(url: str) -> str:
    """Return a URL that is safe to show: without user, password and query."""
    first, *rest = url.partition("?")[0].split("://")
    shown = [first]
    for number, piece in enumerate(rest, start=1):
        inner = re.search(r"::[A-Za-z0-9+.-]+$", piece) if number < len(rest) else None
        end = inner.start() if inner else len(piece)
        shown.append(_without_user(piece[:end]) + piece[end:])
    return "://".join(shown)


# -- ready objects -----------------------------------------------------------------------------------------------------


def _wrapped_by(target: object) -> str | None:
    """Return the entry point for an object, found by the modules of its classes; empty for a backend."""
    if isinstance(target, (str, os.PathLike)):
        return None
    if isinstance(target, Backend):
        return ""
    if isinstance(target, tuple) and len(target) == 2:  # a filesystem, and a path in it
        return "fsspec" if _wrapped_by(target[0]) == "fsspec" else None
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(target).__mro__}
    if "fsspec.spec.AbstractFileSystem" in bases:  # checked first: obstore has a filesystem for fsspec too
        return "fsspec"
    return "s3" if any(name.startswith("obstore.") for name in bases) else None


def _options_of_upath(target: Any) -> dict[str, object]:  # noqa: ANN401  (recognised by three attributes alone)
    options: dict[str, object] = dict(target.storage_options)
    if "::" in str(target):  # the chain in its URL gives these again, and fsspec refuses them twice
        protocol, inner = options.pop("target_protocol", None), options.pop("target_options", None)
        if isinstance(protocol, str) and inner:
            options[protocol] = inner
    return options


# -- texts -------------------------------------------------------------------------------------------------------------


def _parse_text(text: str, given: dict[str, object], *, query_is_options: bool) -> Location:
    if not text or not text.strip():
        msg = f"open: the URL is empty; pass {_ALLOWED}"
        raise InvalidURLError(msg)
    if any(ord(character) < ord(" ") for character in text):
        msg = f"open {_printable(redact(text))}: the URL contains control characters; remove them"
        raise InvalidURLError(msg)
    if _DRIVE.match(text):
        msg = f"open {text}: local stores need Linux or macOS; pass a path such as /var/lib/events"
        raise InvalidURLError(msg)
    scheme = _SCHEME.match(text) or _CHAIN.match(text)
    if scheme is None:
        _refuse_broken_url(text)
        return Location("file", _file_url(os.path.expanduser(text)), given)  # noqa: PTH111  (pathlib's raises for ~nobody)
    url, _, query = text.partition("?") if query_is_options else (text, "", "")
    options = {**_parse_query(url, query), **given}
    url = scheme[1].lower() + url[scheme.end(1) :]
    name = _find_scheme(scheme[1].lower(), url, chained=_CHAIN.match(url) is not None)
    return Location(name, _checked_file_url(url) if name == "file" else url, options)


def _find_scheme(scheme: str, url: str, *, chained: bool) -> str:
    """Return the entry point for a scheme; fsspec is imported only if no backend has the scheme."""
    no_scheme = {"fsspec"}
    if scheme in SHIPPED.keys() - no_scheme and not chained:
        return scheme
    installed = installed_backends().names - no_scheme
    if scheme in installed and not chained:
        return scheme
    known = _fsspec_protocols()
    if scheme in known:
        return "fsspec"
    near = difflib.get_close_matches(scheme, installed | known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}://…? " if near else ""
    more = "" if known else " (pip install 'bucketlog[fsspec]')"
    schemes = ", ".join(f"{name}://" for name in sorted(installed))
    msg = f"open {redact(url)}: unknown scheme {scheme!r}; {hint}use {schemes} or a scheme of fsspec{more}"
    raise InvalidURLError(msg)


def _fsspec_protocols() -> set[str]:
    if importlib.util.find_spec("fsspec") is None:
        return set()
    fsspec: Any = importlib.import_module("fsspec")  # imported late, because it is slow to load
    return {*fsspec.available_protocols(), *fsspec.registry}


def _parse_query(url: str, query: str) -> dict[str, object]:
    options: dict[str, object] = {}
    for number, pair in enumerate(query.split("&") if query else (), start=1):
        name, equals, value = pair.partition("=")
        if not name or not equals:  # not shown: it may be part of a secret that contains an ampersand
            msg = (
                f"open {redact(url)}: option {number} of the query has no name or no value; write name=value, and an "
                "ampersand in a value as %26"
            )
            raise InvalidOptionError(msg)
        options[unquote(name)] = unquote(value)
    return options


def _refuse_broken_url(text: str) -> None:
    if "://" in text:
        msg = f"open {redact(text)}: it does not begin with a URL scheme, and is not a plausible path; pass {_ALLOWED}"
        raise InvalidURLError(msg)
    found = _SLASHES_MISSING.match(text)
    if found and found[1].lower() in installed_backends().names:
        scheme = found[1].lower()
        hint = "file:///path" if scheme == "file" else f"{scheme}://…"
        msg = f"open: the slashes after {scheme}: are missing; write {hint}, or ./{scheme}:… for a path"
        raise InvalidURLError(msg)


def _file_url(path: str) -> str:
    if "\0" in path:
        msg = f"open {_printable(path)}: the path contains NUL; remove it"
        raise InvalidURLError(msg)
    return Path(path).absolute().as_uri()


def _checked_file_url(url: str) -> str:
    host, slash, path = url.partition("://")[2].partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        msg = f"open {redact(url)}: a file URL must be absolute; write file:///path, or pass the plain path"
        raise InvalidURLError(msg)
    return f"file:///{path}"


def _set_ones(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _without_user(text: str) -> str:
    authority, _, path = text.partition("/")
    if "@" in authority:
        return text[authority.rindex("@") + 1 :]
    port = "" if authority.startswith("[") else authority.partition(":")[2]
    if port and not port.isdigit():  # user:password with a raw slash or question mark in it
        return path.rpartition("@")[2] if "@" in path else "…"
    return text


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode()
