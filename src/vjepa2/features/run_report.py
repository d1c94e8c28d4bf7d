"""The report of a run: curves, what they mean, masks, colours of tokens, events and bad
files, as one HTML file that needs nothing else. It is made from files alone, so it can be written
at any time: while the run goes on, after it was killed, on another machine."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from vjepa2.features import run_report_words as words
from vjepa2.features.report_page import code, escape, page, paragraph, section, table
from vjepa2.features.run_report_charts import Curve, chart, charts_in_columns
from vjepa2.features.run_report_data import Row, RunRecord, is_number, read_run
from vjepa2.features.run_report_labelled import (
    Task,
    labelled_learning_section,
    labelled_next_section,
    labelled_results_sections,
    labelled_summary,
    labelled_verdict_section,
    task_of,
    title_of,
)
from vjepa2.features.run_report_pictures import pictures_section
from vjepa2.files import atomic_path
from vjepa2.training.health_pictures import list_pictures

REPORT_NAME = "report.html"

MAX_EVENTS = 100
MAX_BAD_FILES = 50
MAX_OTHER_CURVES = 24

MARKED_EVENTS = ("alarm", "rollback", "resumed", "diverged")

# Of these the page says more elsewhere, or there are too many.
QUIET_EVENTS = ("health", "alarm", "saved")


def write_run_report(
    run: str | os.PathLike[str], *, path: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page; it appears complete or not at all.

    Args:
        run: folder of a run, finished or not.
        path: of the page; None: `report.html` in the folder.

    Returns:
        Path of the page.

    Raises:
        ConfigError: an argument is no path.
        InputError: there is no such folder, it is no run, or a file of it cannot be read.
        OutputError: the page cannot be written.
    """
    record = read_run(run)
    target = record.folder / REPORT_NAME if path is None else Path(path)
    name = record.folder.resolve().name
    task = task_of(record)
    title = f"{title_of(task)} {name}"
    if task == "pretraining":
        first = [_verdict_section(record), _learning_section(record)]
        pictures, last = pictures_section(list_pictures(record.folder)), _next_section(record)
    else:
        first = [
            labelled_verdict_section(record),
            labelled_learning_section(record, marks=_marks(record)),
            labelled_results_sections(record),
        ]
        pictures, last = "", labelled_next_section(record, task)
    body = "\n".join(
        part
        for part in (
            f"<h1>{escape(title)}</h1>",
            paragraph(_facts(record, task), kind="soft"),
            *first,
            _training_section(record),
            pictures,
            _events_section(record),
            _bad_files_section(record),
            _configuration_section(record),
            last,
        )
        if part
    )
    with atomic_path(target) as temporary:
        temporary.write_text(page(title=title, body=body), encoding="utf-8")
    return target


def run_summary(record: RunRecord) -> Row:
    """The same in a few values, for programs."""
    task = task_of(record)
    if task != "pretraining":
        return {
            "task": task,
            "steps_done": _steps_done(record),
            **labelled_summary(record),
            "bad_files": len(record.bad_files),
            "damaged_lines": record.damaged,
        }
    last = record.verdicts[-1] if record.verdicts else None
    return {
        "task": task,
        "steps_done": _steps_done(record),
        "state": last.state if last else None,
        "reason": last.reason if last else "",
        "advice": last.advice if last else "",
        "alarms": sum(verdict.alarm and verdict.new for verdict in record.verdicts),
        "best_step": record.best_step,
        "bad_files": len(record.bad_files),
        "damaged_lines": record.damaged,
    }


def _steps_done(record: RunRecord) -> int:
    return int(record.steps[-1]["step"]) + 1 if record.steps else 0


def _facts(record: RunRecord, task: Task) -> str:
    """One line on the run."""
    done, wanted = _steps_done(record), _get(record.config, "schedule", "num_steps")
    of = f" of {wanted}" if is_number(wanted) else ""
    measured = f"{len(record.health)} measurements of health"
    if task != "pretraining":
        measured = f"{len(record.validation)} measurements on validation"
    parts = [f"{done}{of} updates", measured]
    recipe, seed = record.config.get("recipe"), record.config.get("seed")
    if recipe is not None:
        parts.insert(0, f"recipe {recipe}")
    if seed is not None:
        parts.append(f"seed {seed}")
    if record.damaged:
        parts.append(f"{record.damaged} damaged lines left out")
    return ", ".join(parts) + "."


def _get(values: object, *names: str) -> object:
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _verdict_section(record: RunRecord) -> str:
    if not record.verdicts:
        return section("Is it healthy?", paragraph("Nothing was measured so far.", kind="soft"))
    last = record.verdicts[-1]
    tone = {"healthy": "good", "watch": ""}.get(last.state, "bad")
    headline = last.state.replace("_", " ").capitalize()
    parts = [
        f'<p class="answer {tone}">{escape(headline)}</p>',
        paragraph(f"Step {last.step}: {last.reason} {last.advice}".strip()),
    ]
    parts += [paragraph(text, kind="bad") for text in _endings(record)]
    changes = [verdict for verdict in record.verdicts if verdict.new]
    if changes:
        rows = [
            (str(change.step), change.state, f"{change.reason} {change.advice}".strip())
            for change in changes[-MAX_EVENTS:]
        ]
        parts.append(table(rows))
    if record.best_step is not None:
        parts.append(
            paragraph(
                f"Best measurement so far: step {record.best_step}, by skill times the share of "
                "the rank before training that is left (no labels are needed for it)."
            )
        )
    return section("Is it healthy?", *parts)


def _endings(record: RunRecord) -> list[str]:
    """Why the run stopped itself, if it did and has not gone on."""
    if not record.events:
        return []
    last = record.events[-1]
    if last.get("event") == "diverged":
        return [f"The run ended after step {last['step']}: its loss was {last.get('loss')}."]
    if last.get("event") == "stopped" and last.get("reason") == "alarm":
        return [f"The run stopped itself after step {last['step']} because of the alarm."]
    return []


def _marks(record: RunRecord) -> list[tuple[int, str]]:
    marks = [
        (int(row["step"]), f"{row.get('event')} at step {row['step']}")
        for row in record.events
        if row.get("event") in MARKED_EVENTS
    ]
    return marks[-MAX_EVENTS:]


def _learning_section(record: RunRecord) -> str:
    """Curves of what is learned."""
    get, marks = record.numbers, _marks(record)
    loss = get("loss")
    skill, mean, nearest = get("skill"), get("copy_mean_loss"), get("copy_nearest_loss")
    teacher, student = get("teacher_token_rank"), get("student_token_rank")
    charts = [
        chart(
            "Loss",
            [
                Curve("training", loss),
                Curve("held-out clips", get("held_out_loss")),
                *_parts_of_loss(record),
            ],
            note=words.about_loss(
                loss, teacher, skill, get("copy_mean_loss"), get("copy_nearest_loss")
            ),
            marks=marks,
        ),
        chart(
            "Skill against trivial predictors",
            [Curve("skill", skill)],
            note=words.about_skill(skill, mean, nearest),
            marks=marks,
        ),
        chart(
            "Loss of trivial predictors",
            [
                Curve("prediction", get("held_out_loss")),
                Curve("the mean everywhere", mean, dashed=True),
                Curve("nearest visible token", nearest, dashed=True),
            ],
            note="On held-out clips and the same masks. The prediction should be below both.",
        ),
        chart(
            "Effective rank",
            [
                Curve("teacher, tokens", teacher),
                Curve("student, tokens", student),
                Curve("teacher, clips", get("teacher_pooled_rank"), dashed=True),
                Curve("student, clips", get("student_pooled_rank"), dashed=True),
            ],
            note=words.about_rank(teacher, student),
            marks=marks,
        ),
        chart(
            "Difference between clips",
            [
                Curve("teacher, share of variance", get("teacher_between")),
                Curve("student, share of variance", get("student_between")),
                Curve("teacher, mean cosine", get("teacher_cosine"), dashed=True),
                Curve("student, mean cosine", get("student_cosine"), dashed=True),
            ],
            note=words.about_variance(get("teacher_between"), get("teacher_cosine")),
        ),
        chart(
            "Variance of features",
            [
                Curve("teacher", get("teacher_variance")),
                Curve("student", get("student_variance")),
                Curve("normalised targets", get("target_variance"), dashed=True),
            ],
            note="Of a channel over all tokens. Targets have at most 1; at 0 they are alike.",
        ),
        chart(
            "Online probes",
            [
                Curve("teacher, linear", get("teacher_linear")),
                Curve("student, linear", get("student_linear")),
                Curve("teacher, nearest neighbours", get("teacher_knn"), dashed=True),
                Curve("student, nearest neighbours", get("student_knn"), dashed=True),
            ],
            note=words.about_probe(get("teacher_linear"), get("probe_chance")),
        ),
    ]
    return _charts_section("What it learns", charts)


def _parts_of_loss(record: RunRecord) -> list[Curve]:
    """Of V-JEPA 2.1, whose loss has two."""
    context = record.numbers("context_loss")
    if not context:
        return []
    return [
        Curve("at hidden tokens", record.numbers("prediction_loss"), dashed=True),
        Curve("at visible tokens", context, dashed=True),
    ]


SHOWN = {
    "step", "loss", "held_out_loss", "skill", "copy_mean_loss", "copy_nearest_loss",
    "teacher_token_rank", "student_token_rank", "teacher_pooled_rank", "student_pooled_rank",
    "teacher_between", "student_between", "teacher_cosine", "student_cosine", "teacher_variance",
    "student_variance", "target_variance", "teacher_linear", "student_linear", "teacher_knn",
    "student_knn", "probe_chance", "lr", "ema_distance", "stall_share", "leak", "visible_targets",
    "context_share", "pixel_contrast", "pixel_change", "pixel_motion", "seconds", "stall_seconds",
    "prediction_loss", "context_loss",
}  # fmt: skip


def _training_section(record: RunRecord) -> str:
    """Curves of how it is trained, and of whatever else the run has noted."""
    get, marks = record.numbers, _marks(record)
    gradients = sorted(name for name in record.names() if name.endswith("gradient_norm"))
    stall = get("stall_share")
    charts = [
        chart("Learning rate", [Curve("lr", get("lr"))], marks=marks),
        chart(
            "Distance from teacher to student",
            [Curve("relative distance", get("ema_distance"))],
            note=words.about_distance(get("ema_distance")),
            marks=marks,
        ),
        chart(
            "Gradient norms",
            [Curve(name.removesuffix("_gradient_norm"), get(name)) for name in gradients],
            note=words.about_gradients([get(name) for name in gradients]),
            marks=marks,
            logarithmic=True,
        ),
        chart("Seconds per update", [Curve("seconds", get("seconds"))], marks=marks),
        chart(
            "Waiting for data",
            [Curve("share of the time", stall)],
            note=words.about_stall(stall),
            marks=marks,
        ),
    ]
    others = sorted(record.names() - SHOWN - set(gradients))
    varying = [name for name in others if len({value for _, value in get(name)}) > 1]
    charts += [chart(name, [Curve(name, get(name))]) for name in varying[:MAX_OTHER_CURVES]]
    return _charts_section("How it is trained", charts)


def _charts_section(title: str, charts: Sequence[str]) -> str:
    shown = [each for each in charts if each]
    if not shown:
        return section(title, paragraph("No numbers so far.", kind="soft"))
    return section(title, charts_in_columns(shown))


def _events_section(record: RunRecord) -> str:
    events = [row for row in record.events if row.get("event") not in QUIET_EVENTS]
    if not events:
        return ""
    rows = []
    for row in events[-MAX_EVENTS:]:
        rest = {
            name: value
            for name, value in row.items()
            if name not in ("kind", "step", "event") and value not in (None, "")
        }
        details = ", ".join(f"{name}: {value}" for name, value in rest.items())
        rows.append((f"step {row['step']}", str(row.get("event", "")), details))
    parts = [table(rows)]
    if len(events) > MAX_EVENTS:
        parts.append(paragraph(f"The last {MAX_EVENTS} of {len(events)}.", kind="soft"))
    return section("Events", *parts)


def _bad_files_section(record: RunRecord) -> str:
    if not record.bad_files:
        return ""
    rows = [
        (str(row.get("path", "?")), str(row.get("reason", "")), str(row.get("count", 1)))
        for row in record.bad_files[:MAX_BAD_FILES]
    ]
    parts = [
        paragraph(
            f"Files that could not be used: {len(record.bad_files)}. A few do no harm; many mean "
            "that the model learns from other data than you think."
        ),
        table(rows, heads=("File", "Reason", "Times")),
    ]
    if len(record.bad_files) > MAX_BAD_FILES:
        parts.append(paragraph(f"The first {MAX_BAD_FILES}; all are in bad_files.jsonl."))
    return section("Bad files", *parts)


def _configuration_section(record: RunRecord) -> str:
    if not record.config:
        return section("Configuration", paragraph("config.json is missing or damaged.", kind="bad"))
    text = json.dumps(record.config, indent=2, sort_keys=True, default=str)
    return section("Configuration", f"<details><summary>All of it</summary>{code(text)}</details>")


def _next_section(record: RunRecord) -> str:
    name = record.folder.name or "RUN"
    lines = [f"vjepa2 report {name}", f"vjepa2 embed YOUR_VIDEO.mp4 --model {name}/model"]
    return section(
        "Go on",
        paragraph("This page again with newer numbers; and features of the trained encoder:"),
        code("\n".join(lines)),
    )
