"""Pages on anticipation: the table of a run, and what was expected along videos.

Both are made from the JSON values of a result, need no network and no script.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vjepa2.features.evaluation_report_charts import columns, per_cent, with_interval
from vjepa2.features.report_page import bars, page, paragraph, section, table
from vjepa2.files import atomic_path

MOST_MOMENTS = 600  # of a file, on its page; all of them are in the JSON values
MOST_LABELS = 3
HOW_TO_READ = (
    "Intervals are those of a bootstrap over videos, 95 %. Chance and label prior look at no "
    "video: what is not above them is no anticipation."
)
SEEN = (
    "Contexts were counted back from the END of events, as the published code does: long events "
    "were seen while they happened. These numbers are no anticipation."
)


def write_table_page(result: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the page of a finished run.

    Args:
        result: JSON values of the run's result.
        path: of the page; it appears complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    words = [HOW_TO_READ, *result["notes"]]
    if result["anchor"] != "start":
        words.insert(0, SEEN)
    found = [
        paragraph(f"{one['severity']}: {one['reason']}", kind="bad")
        for one in result.get("findings", ())
    ]
    cards = row_cards(result["rows"])
    body = "\n".join(["<h1>Anticipation</h1>", *map(paragraph, words), *found, *cards])
    return _write(path, page(title="Anticipation", body=body))


def anticipation_sections(values: Mapping[str, Any]) -> str:
    """Tables of an evaluation's horizons and label columns; "" where nothing was anticipated.

    Args:
        values: content of `evaluation.json`.
    """
    if values.get("task") != "anticipation":
        return ""
    rows = [
        (
            f"{row['seconds']:g} s, {row['head']}",
            str(row["num_items"]),
            with_interval(row["top1"]),
            with_interval(row["top5"]),
            with_interval(row["mean_class"]),
            with_interval(row["recall_at_5"]),
            per_cent(row["mean_average_precision"]),
            per_cent(row["ece"]),
        )
        for row in values["horizons"]
    ]
    heads = ("Ahead", "Events", "Top-1", "Top-5", "Mean over classes", "Class-mean recall@5")
    seen = paragraph(SEEN, kind="bad") if values["anchor"] != "start" else ""
    tried = values.get("num_disturbed", 0)
    noise = f"{tried} videos were asked about again with noise in place of all that comes later."
    return "\n".join(
        [
            section(
                "Every horizon and label",
                seen,
                columns((*heads, "Mean average precision", "Calibration error"), rows),
                paragraph(noise, kind="soft") if tried else "",
            ),
            "<h1>Beside ablations, chance and label prior</h1>",
            paragraph(HOW_TO_READ),
            *row_cards(values["rows"]),
        ]
    )


def row_cards(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sections of a table's rows (JSON values): of every time and label column one."""
    cards = []
    for seconds, head in dict.fromkeys((row["seconds"], row["head"]) for row in rows):
        own = [row for row in rows if (row["seconds"], row["head"]) == (seconds, head)]
        k = own[0]["k"]
        lines = [(row["name"], _number(row, "accuracy"), _number(row, "recall")) for row in own]
        cards.append(
            section(
                f"{head}, {seconds:g} s ahead ({own[0]['count']} events)",
                bars([(f"{row['name']}: recall@{k}", row["recall"]) for row in own]),
                table(lines, heads=("", "top-1", f"class-mean recall@{k}")),
            )
        )
    return cards


def write_forecast_page(report: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the page on what was expected along videos; arguments and errors likewise."""
    cards = []
    for result in report["results"]:
        horizons = list(dict.fromkeys(one["horizon"] for one in result["forecasts"]))
        by_moment: dict[float, list[Mapping[str, Any]]] = {}
        for one in result["forecasts"]:
            by_moment.setdefault(one["seconds"], []).append(one)
        shown = list(by_moment.items())[:MOST_MOMENTS]
        rows = [
            (f"{moment:g} s", *(_labels(forecast["heads"]) for forecast in forecasts))
            for moment, forecasts in shown
        ]
        note = ""
        if len(by_moment) > len(shown):
            note = f"The first {len(shown)} of {len(by_moment)} moments; --json gives all."
        heads = ("at", *(f"in {horizon:g} s" for horizon in horizons))
        parts = [paragraph(note)] if note else []
        cards.append(section(result["source"], *parts, table(rows, heads=heads)))
    lost = [paragraph(f"{one['source']}: {one['reason']}") for one in report["failed"]]
    if lost:
        cards.append(section("Not read", *lost))
    intro = paragraph(
        f"By {report['model']}. At each moment only frames that were over by then were looked at. "
        "A label is what begins at that time, if something does."
    )
    body = "\n".join(["<h1>What comes next</h1>", intro, *cards])
    return _write(path, page(title="What comes next", body=body))


def _labels(heads: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The best labels of every head, in a line."""
    return "; ".join(
        ", ".join(f"{one['label']} {one['probability']:.0%}" for one in labels[:MOST_LABELS])
        for labels in heads.values()
    )


def _number(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    value = f"{row[name]:.1%}"
    return value if low is None else f"{value} ({100 * low:.1f} to {100 * high:.1f})"


def _write(path: str | os.PathLike[str], text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
