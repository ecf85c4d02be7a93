"""Progress bars by bytes, for a file or for stored data, shown if stderr is a terminal."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from bucketlog.cli.output import say

_LINES_AT_ONCE = 500
_COLUMNS_WIDTH = 72  # of the bar, the bytes and the time
_TITLE_WIDTH_MIN = 20


class Progress:
    """A context manager around a file that is read line by line."""

    def __init__(self, file: BinaryIO, title: str) -> None:
        self._file, self._title = file, title
        self._bar: Any = None  # rich's progress bar; None if stderr is not a terminal
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._bar = _bar("{task.fields[events]:,} events")
        if self._bar is not None:
            self._task = self._bar.add_task(_fitting(self._title, self._bar), total=_size(self._file), events=0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lines(self) -> Iterator[bytes]:
        """Iterate the file's lines."""
        if self._bar is None:
            yield from self._file
            return
        size = 0
        for number, line in enumerate(self._file, start=1):
            yield line
            size += len(line)
            if number % _LINES_AT_ONCE == 0:
                self._bar.update(self._task, completed=size)
        self._bar.update(self._task, completed=size)

    def show(self, events: int) -> None:
        """Show the number of events done."""
        if self._bar is not None:
            self._bar.update(self._task, events=events)

    def say(self, text: str) -> None:
        """Print a message without disturbing the bar."""
        if self._bar is None:
            say(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Remove the bar. Calling it again does nothing."""
        if self._bar is not None:
            self._bar.stop()


class ByteProgress:
    """A context manager around work in one or more parts, each of which reports how many of its bytes are done."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._done = self._total = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ByteProgress:
        self._bar = _bar()
        if self._bar is not None:
            self._task = self._bar.add_task(_fitting(self._title, self._bar), total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def is_shown(self) -> bool:
        """Whether the bar is visible."""
        return self._bar is not None

    def expect(self, total: int) -> None:
        """Set the expected total of all parts, in bytes."""
        self._total = total

    def part(self) -> Callable[[int, int], None]:
        """Begin a part; return its callback, which takes the bytes done so far and the total known so far."""
        before = self._done

        def show(done: int, total: int) -> None:
            self._done = before + done
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done, total=max(self._total, before + total))

        return show


def _bar(*columns: str) -> Any:  # noqa: ANN401  (rich is imported only for a terminal)
    """Return a bar that is not started yet, or None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        return None
    from rich import progress  # takes longer to import than the rest of the command
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        *(progress.TextColumn(column) for column in columns),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _fitting(title: str, bar: Any) -> str:  # noqa: ANN401  (as above)
    """Shorten a title in its middle if it would push the bytes and the time out of the terminal, as a long URL does."""
    width = max(bar.console.width - _COLUMNS_WIDTH, _TITLE_WIDTH_MIN)
    if len(title) <= width:
        return title
    head = width // 2
    return f"{title[:head]}…{title[head + 1 - width :]}"


def _size(file: BinaryIO) -> int | None:
    """Return the file's size in bytes, or None for a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
