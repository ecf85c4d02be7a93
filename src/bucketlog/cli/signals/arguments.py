"""The arguments and options that these commands share, and functions to open the workspace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from bucketlog.cli.arguments import parse_time, storage_options_of
from bucketlog.cli.output import say
from bucketlog.cli.run import FAILED
from bucketlog.errors import BucketlogError, StoreNotFoundError

# `bucketlog.signals` is imported late, so that other commands start faster.
if TYPE_CHECKING:
    from bucketlog.signals import EntityRef, SignalStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def signals(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The workspace: a path, file:///path, s3://bucket/prefix or any fsspec URL."
        ),
    ],
) -> None:
    """Query a workspace of signals and emissions, or import one.

    Signals are observations, and emissions are conclusions drawn from them. The URL is the workspace that a program
    passes to `bucketlog.signals.SignalStore`; the events are stored below it, in `store`.
    """
    context.obj = url


def _parse_end(text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return parse_time(text)
    return datetime.combine(day, time.max, UTC)


Start: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="Only records at or after this time (ISO 8601; UTC without an offset).",
        show_default="1970-01-01",
    ),
]
End: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        parser=_parse_end,
        metavar="TIME",
        help="Only records at or before this time; a date without a time includes the whole day.",
        show_default="now",
    ),
]
Entity: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE:VALUE",
        help="Only records that refer to this entity, under any label.",
        show_default=False,
    ),
]
Platform: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="The entity's platform.", show_default="no platform")
]
Sources: TypeAlias = Annotated[
    list[str] | None, typer.Option("--source", metavar="SOURCE", help="Only signals from this source; may be repeated.")
]


def window_of(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Return the time window of two options, by default from the beginning until now."""
    window = start or _EPOCH, end or datetime.now(UTC)
    if window[1] < window[0]:
        msg = f"--end ({'now' if end is None else end.isoformat()}) lies before --start ({window[0].isoformat()})"
        raise typer.BadParameter(msg)
    return window


def entity_of(entity: str | None, platform: str | None) -> EntityRef | None:
    """Return the entity reference given by two options."""
    from bucketlog.signals import EntityRef

    if entity is None:
        if platform is not None:
            msg = "--platform needs an --entity"
            raise typer.BadParameter(msg)
        return None
    ref_type, colon, value = entity.partition(":")
    if not colon:
        msg = f"{entity!r} is not a valid entity; write its type and value, such as account:alice"
        raise typer.BadParameter(msg, param_hint="'--entity'")
    return EntityRef(ref_type, value, platform)


@contextlib.contextmanager
def open_to_read(context: typer.Context, options: list[str] | None) -> Iterator[SignalStore]:
    """Open an existing workspace for reading only."""
    with _opened(context, options, create=False, read_only=True) as store:
        yield store


@contextlib.contextmanager
def open_to_write(
    context: typer.Context, options: list[str] | None, *, single_writer: bool, progress: Callable[[int, int], None]
) -> Iterator[SignalStore]:
    """Open a workspace, creating it if there is none; `progress` reports what opening it imports."""
    with _opened(context, options, single_writer=single_writer, import_progress=progress) as store:
        yield store


@contextlib.contextmanager
def _opened(
    context: typer.Context,
    options: list[str] | None,
    **more: Any,  # noqa: ANN401  (the keywords of SignalStore)
) -> Iterator[SignalStore]:
    from bucketlog.signals import SignalStore

    storage_options = storage_options_of(options)
    try:
        with SignalStore(context.obj, entity_match="identity", storage_options=storage_options, **more) as store:
            yield store
    except StoreNotFoundError as err:
        say(f"bucketlog: {err} (URL is the workspace; its events are stored below it, in 'store')")
        raise typer.Exit(FAILED) from None
    except BucketlogError:
        raise
    except ValueError as err:  # a stored event is not an envelope
        say(f"bucketlog: {err}")
        raise typer.Exit(FAILED) from None
