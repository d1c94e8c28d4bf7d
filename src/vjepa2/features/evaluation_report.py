"""The page of an evaluation: the number, how sure it is, what it is worth, and where it fails.

It is made from the folder of the evaluation, and from the videos for the pictures of errors; it
needs no network and no script.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vjepa2.features.anticipation_report import anticipation_sections
from vjepa2.features.evaluation_report_charts import (
    MOST_CELLS,
    columns,
    confusion_map,
    mistakes_table,
    per_cent,
    reliability_diagram,
    with_interval,
)
from vjepa2.features.evaluation_report_data import EvaluationRecord, read_evaluation
from vjepa2.features.evaluation_report_pictures import worst_errors
from vjepa2.features.report_page import bars, escape, page, paragraph, section, table
from vjepa2.files import atomic_path

REPORT_NAME = "report.html"
MOST_CLASSES = 1000
MOST_MISTAKES = 40
MOST_FILES = 50

CONTROLS = {
    "as_it_is": "all frames in order",
    "shuffled": "frames shuffled",
    "reversed": "played backwards",
    "first_frame": "first frame only",
}


def write_evaluation_report(
    folder: str | os.PathLike[str], *, path: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page; it appears complete or not at all.

    Args:
        folder: of a finished evaluation.
        path: of the page; None: `report.html` in the folder.

    Returns:
        Path of the page.

    Raises:
        ConfigError: an argument is no path.
        InputError: there is no finished evaluation in the folder.
        OutputError: the page cannot be written.
    """
    record = read_evaluation(folder)
    target = record.folder / REPORT_NAME if path is None else Path(path)
    name = Path(str(record.values["model"])).name
    title = f"Evaluation of {name} on {Path(str(record.values['data'])).name}"
    body = "\n".join(
        part
        for part in (
            f"<h1>{escape(title)}</h1>",
            paragraph(_facts(record), kind="soft"),
            _answer_section(record),
            _findings_section(record),
            anticipation_sections(record.values),
            _motion_section(record),
            _events_section(record),
            *(part for head, own in record.by_head() for part in _head_sections(record, head, own)),
            _files_section(record),
        )
        if part
    )
    with atomic_path(target) as temporary:
        temporary.write_text(page(title=title, body=body), encoding="utf-8")
    return target


def _head_sections(record: EvaluationRecord, head: str, own: EvaluationRecord) -> list[str]:
    """What is shown of each label column."""
    title = ""
    if record.is_anticipation:
        title = f"<h1>{escape(head)}, {record.values['seconds']:g} s ahead</h1>"
    return [
        title,
        _calibration_section(own),
        _errors_section(own),
        _confusion_section(own),
        _classes_section(own),
    ]


def _facts(record: EvaluationRecord) -> str:
    values = record.values
    return (
        f"{values['num_items']} items of {values['num_videos']} videos, "
        f"{record.measures['num_classes']} classes, list {values['data']}, model "
        f"{values['model']}, vjepa2 {values['version']}."
    )


def _answer_section(record: EvaluationRecord) -> str:
    found, without = record.measures, record.measures["baselines"]
    errors = [one for one in record.values["findings"] if one["severity"] == "error"]
    what = "of the answers are right"
    if record.is_anticipation:
        what += f" ({record.values['head']}, {record.values['seconds']:g} s before the event)"
    headline = f"{with_interval(found['top1'])} {what}"
    kind = "answer bad" if errors else "answer"
    warning = (
        paragraph(
            "Do not quote this number: see below what was found. It does not tell how the model "
            "does on new videos.",
            kind="bad",
        )
        if errors
        else ""
    )
    source = "counted on the training list" if without["from_training"] else "of these very labels"
    rows = [
        ("Top-1", with_interval(found["top1"])),
        ("Top-5", with_interval(found["top5"])),
        ("Mean over classes", with_interval(found["mean_class"])),
        ("Class-mean recall@5", with_interval(found["recall_at_5"])),
        ("Mean average precision", per_cent(found["mean_average_precision"])),
        ("Calibration error", per_cent(found["ece"])),
    ]
    reached = [
        ("Chance", f"{per_cent(without['chance'])}, top-5 {per_cent(without['chance_at_5'])}"),
        (
            "Always the commonest class",
            f"{per_cent(without['majority'])} ({without['majority_class']})",
        ),
        (
            "By the label prior",
            (
                f"{per_cent(without['prior'])}, top-5 {per_cent(without['prior_at_5'])}, "
                f"class-mean recall@5 {per_cent(without['prior_recall_at_5'])}"
            ),
        ),
    ]
    return section(
        "How good is it?",
        f'<p class="{kind}">{escape(headline)}</p>',
        warning,
        table(rows),
        paragraph(
            "In brackets: 95 % intervals by bootstrap over videos. They say how far the number "
            "would move with other videos of the same kind, not with videos of another kind.",
            kind="soft",
        ),
        f"<p><strong>Without looking at a frame</strong> (prior {escape(source)})</p>",
        table(reached),
    )


def _findings_section(record: EvaluationRecord) -> str:
    findings = record.values["findings"]
    parts = []
    if record.values.get("training") == "unknown":
        parts.append(
            paragraph(
                "What this model was trained on is not known, so whether these videos are among it "
                "cannot be told. Give its training list with --train."
            )
        )
    if not findings:
        words = (
            "Nothing was found: no repeated videos, no labels that fit better in another order, "
            "nothing that tells the answer without looking"
        )
        known = "" if parts else ", and none of the videos was trained on"
        parts.append(paragraph(f"{words}{known}.", kind="good"))
    for one in findings:
        kind = "bad" if one["severity"] == "error" else ""
        parts.append(
            f'<p class="{kind}"><strong>{escape(one["severity"])}: '
            f"{escape(one['kind'].replace('_', ' '))}.</strong> {escape(one['reason'])}</p>"
        )
        if one["examples"]:
            parts.append(paragraph(f"For example: {'; '.join(one['examples'])}", kind="soft"))
    return section("Is it honest?", *parts)


def _motion_section(record: EvaluationRecord) -> str:
    if record.values["motion"] is None:
        return ""
    controls: Mapping[str, Any] = record.values["controls"]
    rows = [
        (words, controls[name]["value"]) for name, words in CONTROLS.items() if name in controls
    ]
    rows.append(("always the commonest class", record.measures["baselines"]["majority"]))
    return section(
        "Does it need motion?",
        paragraph(str(record.values["motion"]["sentence"])),
        bars(rows),
    )


def _events_section(record: EvaluationRecord) -> str:
    tables: Mapping[str, Any] = record.values.get("events") or {}
    parts = []
    for head, rows in tables.items():
        parts.append(f"<p><strong>{escape(head)}</strong></p>")
        parts.append(
            columns(
                ("Seconds before the event", "How many", "Right", "In the best five", "Recall@5"),
                [
                    (
                        f"{row['low']:g} to {row['high']:g}",
                        str(row["count"]),
                        per_cent(row["accuracy"]),
                        per_cent(row["accuracy_at_k"]),
                        per_cent(row["recall_at_k"]),
                    )
                    for row in rows
                ],
            )
        )
    return section("How long before the event?", *parts) if parts else ""


def _calibration_section(record: EvaluationRecord) -> str:
    rows = record.measures["reliability"]
    if not rows:
        return ""
    return section(
        "Does it know when it is right?",
        reliability_diagram(rows),
        paragraph(
            f"Bars: share of right answers among those that are this sure; on the dashed line a "
            f"probability means what it says. Pale bars hold few answers. Expected calibration "
            f"error: {per_cent(record.measures['ece'])}.",
            kind="soft",
        ),
    )


def _errors_section(record: EvaluationRecord) -> str:
    rows = record.values["worst"]
    if not rows:
        return section("Worst errors", paragraph("There is none.", kind="soft"))
    return section(
        "Worst errors",
        paragraph(f"The {len(rows)} wrong answers that the model was surest of.", kind="soft"),
        worst_errors(rows),
    )


def _confusion_section(record: EvaluationRecord) -> str:
    confused, names = record.measures["confused"], record.names
    drawn = confusion_map(confused, names) if len(names) <= MOST_CELLS else ""
    mistakes = mistakes_table(confused, most=MOST_MISTAKES)
    words = "Rows: labels. Columns: answers. Green is right, red is wrong." if drawn else ""
    return section(
        "What is taken for what",
        drawn,
        paragraph(words, kind="soft") if words else "",
        mistakes or paragraph("No answer was wrong.", kind="soft"),
    )


def _classes_section(record: EvaluationRecord) -> str:
    rows = [row for row in record.measures["classes"] if row["count"]]
    absent = len(record.measures["classes"]) - len(rows)
    rows = sorted(rows, key=lambda row: (row["recall"], row["name"]))[:MOST_CLASSES]
    shown = [
        (
            str(row["name"]),
            str(row["count"]),
            per_cent(row["recall"]),
            per_cent(row["recall_at_5"]),
            per_cent(row["precision"]),
            "-" if row["mistaken_for"] is None else str(row["mistaken_for"]),
        )
        for row in rows
    ]
    more = f" {absent} classes have no sample." if absent else ""
    return section(
        "Class by class",
        columns(("Class", "Samples", "Recall", "Recall@5", "Precision", "Taken for"), shown),
        paragraph(f"The worst first.{more}", kind="soft"),
    )


def _files_section(record: EvaluationRecord) -> str:
    unreadable = record.values.get("unreadable") or []
    notes = record.values.get("notes") or []
    parts = [paragraph(str(note)) for note in notes]
    if unreadable:
        parts.append(paragraph(f"{len(unreadable)} items could not be read:", kind="bad"))
        parts += [paragraph(str(problem), kind="soft") for problem in unreadable[:MOST_FILES]]
    return section("Files", *parts) if parts else ""
