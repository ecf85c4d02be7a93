"""One level of a listing from a given key on: servers cannot combine common prefixes with an arbitrary start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.backend import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LAST = "~"  # the last printable ASCII character; names are encoded without it


def list_level(pages: Callable[[str], Iterator[Sequence[Entry]]], prefix: str, start_after: str) -> Iterator[Entry]:
    """Yield one level, with each folder once. If a page ends inside a folder, the rest of the folder is skipped.

    Args:
        pages: Lists, page by page, the keys below the prefix that are greater than a given key.
        prefix: Empty, or ending with `/`.
        start_after: Yield only keys greater than this one.
    """
    folder: str | None = None
    while True:
        for page in pages(start_after):
            for entry in page:
                name, slash, _ = entry.key[len(prefix) :].partition("/")
                if not slash:
                    yield entry
                elif folder != name:
                    folder = name
                    yield Entry(f"{prefix}{folder}/")
            if folder is not None and page and page[-1].key.startswith(f"{prefix}{folder}/"):
                start_after = max(page[-1].key, f"{prefix}{folder}/{_LAST}")
                break
        else:
            return
