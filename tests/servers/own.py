"""Your own server, named in the environment: a URL, and options with the names that `bucketlog.open()` knows."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from .server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "own_server"
VARIABLE = "BUCKETLOG_TEST_S3_URL"
_OPTION = "BUCKETLOG_TEST_S3_"


def from_environment(environ: Mapping[str, str]) -> Server | None:
    """Return the server that the environment names; None if there is none.

    The URL is `s3://bucket/prefix`, optionally with options as its query. `BUCKETLOG_TEST_S3_ENDPOINT_URL`,
    `…_PROFILE` and so on are options, too. Defaults come from `AWS_*`, as usual.
    """
    url = environ.get(VARIABLE)
    if not url:
        return None
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    for name, value in environ.items():
        if name.startswith(_OPTION) and name != VARIABLE:
            options[name.removeprefix(_OPTION).lower()] = value
    return Server(NAME, parts._replace(query="").geturl(), options, ours=False)
