"""The scaling curves as an SVG: `python -m benchmarks.figure bench.json docs/scaling.svg` draws them again."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MB = 1024 * 1024
_WIDTH, _COLUMNS, _PANEL_HEIGHT, _HEAD, _FOOT = 960, 2, 250, 16, 52
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 30, 66, 34  # of the axes inside a panel
_LINES = ("a", "b", "c", "d")  # classes of the style sheet

_STYLE = """
  .page { fill: #ffffff } .grid { stroke: #e3e3e0 } .axis { stroke: #8a8a85 }
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #52524e }
  .title { font-size: 14px; font-weight: 600; fill: #1d1d1b }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round }
  .a { stroke: #1f66c1 } .b { stroke: #c2570c } .c { stroke: #1f66c1; stroke-dasharray: 2 4 }
  .d { stroke: #c2570c; stroke-dasharray: 2 4 }
  .dot.a, .dot.c { fill: #1f66c1; stroke: none } .dot.b, .dot.d { fill: #c2570c; stroke: none }
  .target { stroke: #8a8a85; stroke-dasharray: 6 4 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #16181c } .grid { stroke: #2d3036 } .axis { stroke: #80848c }
    text { fill: #b3b7bf } .title { fill: #f0f1f3 }
    .a, .c { stroke: #7ab0f5 } .b, .d { stroke: #f0a05a }
    .dot.a, .dot.c { fill: #7ab0f5 } .dot.b, .dot.d { fill: #f0a05a }
    .target { stroke: #80848c }
  }
"""
_EXPLAINED = (
    "Across: events in the log. Every process is fresh; the files are in the page cache. Medians of several rounds."
)


@dataclass(frozen=True)
class Line:
    """One curve: which logs, which of their figures, and what it is called."""

    label: str
    name: str
    ids: str = "uuid7"


@dataclass(frozen=True)
class Panel:
    """One diagram; `factor` converts what is measured to `unit`."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    factor: float = 1.0
    target: float | None = None


PANELS = (
    Panel(
        "Durable single append",
        "µs",
        (
            Line("UUIDv7 ids", "append_p50_seconds"),
            Line("random ids", "append_p50_seconds", "random"),
            Line("UUIDv7, 99 %", "append_p99_seconds"),
            Line("random, 99 %", "append_p99_seconds", "random"),
        ),
        factor=1e6,
    ),
    Panel(
        "Durable append in batches of 1,000",
        "1,000 events/s",
        (
            Line("UUIDv7 ids", "append_batched_per_second"),
            Line("random ids", "append_batched_per_second", "random"),
        ),
        factor=1e-3,
    ),
    Panel(
        "recent(20, subject=…), compacted",
        "ms",
        (Line("median", "recent_p50_seconds"), Line("99 %", "recent_p99_seconds", "uuid7")),
        factor=1e3,
        target=5,
    ),
    Panel(
        "Replay, envelopes decoded",
        "1,000 events/s",
        (Line("live", "replay_live_per_second"), Line("compacted", "replay_compacted_per_second")),
        factor=1e-3,
        target=1000,
    ),
    Panel(
        "Cold open and first append",
        "ms",
        (
            Line("UUIDv7 ids", "open_compacted_seconds"),
            Line("random ids", "open_compacted_seconds", "random"),
            Line("UUIDv7, live", "open_live_seconds"),
            Line("random, live", "open_live_seconds", "random"),
        ),
        factor=1e3,
        target=50,
    ),
    Panel(
        "Memory of a process, peak RSS",
        "MB",
        (
            Line("replay, compacted", "replay_compacted_peak_bytes"),
            Line("writer, random ids", "writer_peak_bytes", "random"),
            Line("replay, live", "replay_live_peak_bytes"),
        ),
        factor=1 / MB,
        target=200,
    ),
)


def draw(curves: Sequence[dict[str, object]], *, about: str) -> str:
    """Return the SVG of what `scaling` measured; `about` says on what machine."""
    rows = -(-len(PANELS) // _COLUMNS)
    height = _HEAD + rows * _PANEL_HEIGHT + _FOOT
    begun = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="How the cost of appending, reading and opening changes as a log grows">'
    )
    parts = [
        begun,
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
    ]
    width = _WIDTH // _COLUMNS
    for number, panel in enumerate(PANELS):
        x, y = number % _COLUMNS * width, _HEAD + number // _COLUMNS * _PANEL_HEIGHT
        parts.append(f'<g transform="translate({x} {y})">')
        parts.extend(_panel(panel, curves, width))
        parts.append("</g>")
    for text, below in ((_EXPLAINED, 30), (about, 12)):
        parts.append(f'<text x="16" y="{height - below}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, curves: Sequence[dict[str, object]], width: int) -> Iterator[str]:
    drawn = [(line, style, _points(line, panel, curves)) for line, style in zip(panel.lines, _LINES, strict=False)]
    drawn = [(line, style, points) for line, style, points in drawn if points]
    sizes = sorted({int(str(one["events"])) for one in curves})
    highest = max([value for *_, points in drawn for _, value in points] + [panel.target or 0], default=0)
    step = _step(highest or 1.0)
    top = math.ceil((highest or 1.0) / step) * step
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])

    def at_x(events: int) -> float:
        share = (math.log10(events) - low) / (high - low) if high > low else 0.5
        return _LEFT + share * (width - _LEFT - _RIGHT)

    def at_y(value: float) -> float:
        return _TOP + (1 - value / top) * (_PANEL_HEIGHT - _TOP - _BOTTOM)

    yield f'<text class="title" x="16" y="20">{escape(panel.title)} ({escape(panel.unit)})</text>'
    yield from _legend(drawn)
    for number in range(round(top / step) + 1):
        y = at_y(number * step)
        yield _across("grid" if number else "axis", y, width)
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number * step:,.10g}</text>'
    for events in sizes:
        yield f'<text x="{at_x(events):.1f}" y="{_PANEL_HEIGHT - 14}" text-anchor="middle">{_short(events)}</text>'
    if panel.target is not None:
        y = at_y(panel.target)
        yield _across("target", y, width)
        yield f'<text x="{_LEFT + 4}" y="{y - 5:.1f}">target</text>'
    for _, style, points in drawn:
        places = [(at_x(events), at_y(value)) for events, value in points]
        yield f'<polyline class="line {style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
        for (x, y), (events, value) in zip(places, points, strict=True):
            told = f"<title>{events:,}: {value:,.4g}</title>"
            yield f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3">{told}</circle>'


def _across(style: str, y: float, width: int) -> str:
    return f'<line class="{style}" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _legend(drawn: Sequence[tuple[Line, str, object]]) -> Iterator[str]:
    x = 16.0
    for line, style, _ in drawn:
        label = line.label
        yield f'<line class="line {style}" x1="{x:.0f}" x2="{x + 20:.0f}" y1="40" y2="40"/>'
        yield f'<text x="{x + 25:.0f}" y="44">{escape(label)}</text>'
        x += 25 + 6.3 * len(label) + 16


def _points(line: Line, panel: Panel, curves: Sequence[dict[str, object]]) -> list[tuple[int, float]]:
    found = [
        (int(str(one["events"])), float(str(one[line.name])) * panel.factor)
        for one in curves
        if one["ids"] == line.ids and one.get(line.name) is not None
    ]
    return sorted(found)


def _step(highest: float) -> float:
    """Return a round step that divides what is shown into three to six."""
    power = 10.0 ** math.floor(math.log10(highest))
    return next(power * share for share in (0.2, 0.25, 0.5, 1, 2) if highest / (power * share) <= 5)


def _short(events: int) -> str:
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if events >= unit:
            return f"{events / unit:g} {name}"
    return str(events)


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    measured = json.loads(source.read_text(encoding="utf-8"))
    from .report import told

    target.write_text(draw(measured["curves"], about=told(measured["machine"])), encoding="utf-8")


if __name__ == "__main__":
    main()
