"""Drawings and tables of an evaluation's page: no scripts, everything inside."""

from collections.abc import Mapping, Sequence
from typing import Any

from vjepa2.features.report_page import escape, table

SIDE = 260
MARGIN = 34
MOST_CELLS = 40  # classes of a confusion that is drawn; of more, a table of the largest


def per_cent(value: float | None) -> str:
    """`81.3 %`, or a dash where there is nothing."""
    return "-" if value is None else f"{100 * value:.1f} %"


def with_interval(values: Mapping[str, float | None]) -> str:
    """`81.3 % (74.0 to 87.5)`."""
    low, high = values.get("low"), values.get("high")
    text = per_cent(values["value"])
    return text if low is None or high is None else f"{text} ({100 * low:.1f} to {100 * high:.1f})"


def reliability_diagram(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy over confidence; the more answers a bin holds, the stronger its bar."""
    total = max(1, sum(row["count"] for row in rows))
    inner = SIDE - 2 * MARGIN

    def x(value: float) -> float:
        return MARGIN + value * inner

    def y(value: float) -> float:
        return SIDE - MARGIN - value * inner

    frame = (
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{inner}" height="{inner}" fill="none" '
        'stroke="currentColor" stroke-opacity=".25"/>'
    )
    parts = [frame]
    for row in rows:
        if not row["count"]:
            continue
        low, high, accuracy = row["low"], row["high"], row["accuracy"]
        title = (
            f"{row['count']} answers with {per_cent(row['confidence'])} on average, "
            f"{per_cent(accuracy)} right"
        )
        strength = 0.25 + 0.75 * min(1.0, 4 * row["count"] / total)
        parts.append(
            f'<rect x="{x(low) + 1:.1f}" y="{y(accuracy):.1f}" '
            f'width="{max(1.0, x(high) - x(low) - 2):.1f}" '
            f'height="{max(1.0, y(0) - y(accuracy)):.1f}" fill="#2f6fde" '
            f'fill-opacity="{strength:.2f}"><title>{escape(title)}</title></rect>'
        )
        parts.append(
            f'<circle cx="{x(row["confidence"]):.1f}" cy="{y(accuracy):.1f}" r="3" fill="#d9822b">'
            f"<title>{escape(title)}</title></circle>"
        )
    parts.append(
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="currentColor" '
        'stroke-dasharray="4 4" stroke-opacity=".6"/>'
    )
    for value, words in ((0.0, "0"), (0.5, "50 %"), (1.0, "100 %")):
        parts.append(_text(x(value), SIDE - MARGIN + 14, words, anchor="middle"))
        parts.append(_text(MARGIN - 5, y(value) + 4, words, anchor="end"))
    parts.append(_text(SIDE / 2, SIDE - 4, "how sure the model is", anchor="middle"))
    parts.append(_text(MARGIN, MARGIN - 8, "share that is right", anchor="start"))
    return _drawing(parts, width=SIDE, height=SIDE, words="Reliability diagram", most="22rem")


def confusion_map(confused: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Labels in rows, answers in columns; the darker, the larger the share of the row."""
    place = {name: number for number, name in enumerate(names)}
    totals: dict[str, int] = {}
    for row in confused:
        totals[row["label"]] = totals.get(row["label"], 0) + row["count"]
    cell, left, top = 18, 150, 8
    width, height = left + cell * len(names) + 8, top + cell * len(names) + 120
    parts = []
    for name, number in place.items():
        middle = top + cell * (number + 0.7)
        parts.append(_text(left - 6, middle, _shortened(name), anchor="end"))
        column, bottom = left + cell * (number + 0.7), top + cell * len(names) + 8
        parts.append(
            f'<text transform="translate({column:.1f} {bottom}) rotate(90)" font-size="11" '
            f'fill="currentColor">{escape(_shortened(name))}</text>'
        )
    for row in confused:
        share = row["count"] / totals[row["label"]]
        right = row["label"] == row["answer"]
        title = f"{row['label']} answered as {row['answer']}: {row['count']} ({share:.0%})"
        x, y = left + cell * place[row["answer"]], top + cell * place[row["label"]]
        parts.append(
            f'<rect x="{x}" y="{y}" '
            f'width="{cell - 1}" height="{cell - 1}" fill="{"#1d9a6c" if right else "#c23b4b"}" '
            f'fill-opacity="{0.12 + 0.88 * share:.2f}"><title>{escape(title)}</title></rect>'
        )
    parts.append(
        f'<rect x="{left}" y="{top}" width="{cell * len(names)}" height="{cell * len(names)}" '
        'fill="none" stroke="currentColor" stroke-opacity=".25"/>'
    )
    return _drawing(parts, width=width, height=height, words="Confusion", most=f"{width}px")


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns but for the first are numbers or short words."""
    if not rows:
        return ""
    head = "".join(
        f"<th{'' if number == 0 else ' class=' + chr(34) + 'number' + chr(34)}>{escape(text)}</th>"
        for number, text in enumerate(heads)
    )
    lines = [f"<tr>{head}</tr>"]
    for first, *others in rows:
        cells = "".join(f'<td class="number">{escape(text)}</td>' for text in others)
        lines.append(f"<tr><th>{escape(first)}</th>{cells}</tr>")
    return '<div style="overflow-x:auto"><table>\n' + "\n".join(lines) + "\n</table></div>"


def mistakes_table(confused: Sequence[Mapping[str, Any]], *, most: int) -> str:
    """The most frequent wrong answers."""
    rows = [
        (str(row["label"]), f"answered as {row['answer']}", str(row["count"]))
        for row in confused
        if row["label"] != row["answer"]
    ][:most]
    return table(rows, heads=("Label", "", "How often")) if rows else ""


def _shortened(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _text(x: float, y: float, words: str, *, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" '
        f'fill="currentColor">{escape(words)}</text>'
    )


def _drawing(parts: Sequence[str], *, width: float, height: float, words: str, most: str) -> str:
    return (
        f'<div style="overflow-x:auto"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(words)}" style="width:100%;max-width:{most};height:auto;'
        f'display:block">{"".join(parts)}</svg></div>'
    )
