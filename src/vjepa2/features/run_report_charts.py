"""Curves as drawings inside the page (SVG): no script, no file beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vjepa2.features.report_page import escape

WIDTH, HEIGHT = 460, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 24

# Points drawn per curve; of more, neighbours are averaged and their range is shaded.
MAX_POINTS = 240

COLOURS = ("#2f6fde", "#d9822b", "#1d9a6c", "#b04fc0", "#c23b4b", "#7a7f8a")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One line of a chart: finite (step, value) in the order of the steps."""

    name: str
    points: Points
    dashed: bool = False


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    note: str = "",
    marks: Sequence[tuple[int, str]] = (),
    logarithmic: bool = False,
    axis: str = "step {:.0f}",
) -> str:
    """A chart with its title, legend and a line of text below.

    Args:
        title: text.
        curves: at least one with a point; empty ones are left out.
        note: text below.
        marks: (step, text) of vertical lines, for events.
        logarithmic: of the values; falls back to linear where one is not above 0.
        axis: how the first and the last step are written.
    """
    shown = [curve for curve in curves if curve.points]
    if not shown:
        return ""
    values = [value for curve in shown for _, value in curve.points]
    scale = _Scale.of(values, logarithmic=logarithmic and min(values) > 0)
    steps = [step for curve in shown for step, _ in curve.points]
    first, last = min(steps), max(steps)
    width = (last - first) or 1

    def x(step: float) -> float:
        return LEFT + (step - first) / width * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - scale.share(value)) * (HEIGHT - TOP - BOTTOM)

    parts = [*_axes(scale, first=axis.format(first), last=axis.format(last))]
    for step, text in marks:
        if first <= step <= last:
            parts.append(
                f'<line x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
                'stroke="#c23b4b" stroke-width="1" stroke-dasharray="2 3">'
                f"<title>{escape(text)}</title></line>"
            )
    for number, curve in enumerate(shown):
        parts += _curve(curve, COLOURS[number % len(COLOURS)], x, y)
    drawing = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'style="width:100%;height:auto;display:block">{"".join(parts)}</svg>'
    )
    legend = _legend(shown) if len(shown) > 1 else ""
    below = f'<p class="soft" style="font-size:.85rem">{escape(note)}</p>' if note else ""
    return f"<div><strong>{escape(title)}</strong>{legend}{drawing}{below}</div>"


def charts_in_columns(charts: Sequence[str]) -> str:
    """Charts beside each other, as many as the screen is wide for."""
    return (
        '<div style="display:grid;gap:1.2rem;'
        'grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))">'
        f"{''.join(charts)}</div>"
    )


def thinned(points: Points) -> list[tuple[float, float, float, float]]:
    """(step, mean, least, greatest) of at most `MAX_POINTS` runs of neighbours."""
    size = max(1, math.ceil(len(points) / MAX_POINTS))
    rows = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        values = [value for _, value in part]
        middle = sum(step for step, _ in part) / len(part)
        rows.append((middle, sum(values) / len(values), min(values), max(values)))
    return rows


def number(value: float) -> str:
    """A number in few characters."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[float], *, logarithmic: bool) -> "_Scale":
        low, high = min(values), max(values)
        if logarithmic:
            low, high = math.log10(low), math.log10(high)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            room = 0.5 if logarithmic else max(abs(high) * 0.1, 1e-6)
            low, high = low - room, high + room
        return cls(low, high, logarithmic)

    def share(self, value: float) -> float:
        """Where a value is, 0 at the bottom and 1 at the top."""
        position = math.log10(value) if self.logarithmic else value
        return (position - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Four or so values to write beside the axis."""
        if self.logarithmic:
            return [10 ** (self.low + share * (self.high - self.low)) for share in (0, 0.5, 1)]
        rough = (self.high - self.low) / 4
        size = 10 ** math.floor(math.log10(rough))
        step = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= rough)
        first = math.ceil(self.low / step)
        return [step * count for count in range(first, math.floor(self.high / step) + 1)]


def _axes(scale: _Scale, *, first: str, last: str) -> list[str]:
    text = 'font-size="11" fill="currentColor" opacity="0.65"'
    parts = []
    for tick in scale.ticks():
        y = TOP + (1 - scale.share(tick)) * (HEIGHT - TOP - BOTTOM)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="currentColor" opacity="0.15"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {text}>{number(tick)}</text>'
        )
    for step, anchor, place in ((first, "start", LEFT), (last, "end", WIDTH - RIGHT)):
        parts.append(
            f'<text x="{place}" y="{HEIGHT - 6}" text-anchor="{anchor}" {text}>'
            f"{escape(step)}</text>"
        )
    return parts


def _curve(curve: Curve, colour: str, x, y) -> list[str]:  # type: ignore[no-untyped-def]
    rows = thinned(curve.points)
    parts = []
    if any(high > low for _, _, low, high in rows):
        upper = [f"{x(step):.1f},{y(high):.1f}" for step, _, _, high in rows]
        lower = [f"{x(step):.1f},{y(low):.1f}" for step, _, low, _ in reversed(rows)]
        parts.append(
            f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.18"/>'
        )
    if len(rows) == 1:
        step, value, _, _ = rows[0]
        return [f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>']
    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value, _, _ in rows)
    dashes = ' stroke-dasharray="5 4"' if curve.dashed else ""
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>'
    )
    return parts


def _legend(curves: Sequence[Curve]) -> str:
    names = [
        f'<span style="white-space:nowrap"><span style="color:{COLOURS[at % len(COLOURS)]}">'
        f"{'- -' if curve.dashed else '&#9473;'}</span> {escape(curve.name)}</span>"
        for at, curve in enumerate(curves)
    ]
    return f'<div class="soft" style="font-size:.8rem">{" &nbsp; ".join(names)}</div>'
