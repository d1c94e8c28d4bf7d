"""What the report of a run with labels shows: fine-tuning, probes, and learning to anticipate.

Such a run has no health of a teacher to watch. What tells is the loss of training beside what is
reached on videos that are not trained on, epoch by epoch.
"""

from collections.abc import Sequence
from typing import Literal

from vjepa2.features.anticipation_report import row_cards
from vjepa2.features.evaluation_report_charts import columns, per_cent
from vjepa2.features.report_page import code, paragraph, section
from vjepa2.features.run_report_charts import Curve, Points, chart, charts_in_columns, number
from vjepa2.features.run_report_data import Row, RunRecord, finite
from vjepa2.features.run_report_words import CHANGE, ends

Task = Literal["pretraining", "fine-tuning", "probe", "anticipation"]

MAX_HEADS = 6  # curves of heads in a chart
MAX_LISTED = 64
FEW_EPOCHS = 3  # with fewer measurements nothing is said of a turn


def task_of(record: RunRecord) -> Task:
    """What kind of run a folder holds, by its configuration, else by its measurements."""
    config = record.config
    if "future" in config and "clips" in config:
        return "anticipation"
    if "heads" in config and "views" in config:
        return "probe"
    if "method" in config and "views" in config:
        return "fine-tuning"
    if config or not record.validation:
        return "pretraining"
    return "probe" if "heads" in record.validation[-1] else "fine-tuning"


def title_of(task: Task) -> str:
    """`Fine-tuning run`, `Probe run`, ..."""
    return f"{task.capitalize()} run"


def labelled_summary(record: RunRecord) -> Row:
    """The words of the page as values: state, reason, advice and the best measurement."""
    rows = measured_rows(record)
    if not rows:
        return _summary_of_results(record)
    name = main_measure(rows)
    best = max(rows, key=lambda row: row[name])
    last = rows[-1]
    reason = (
        f"{_plain(name)} {per_cent(last[name])} after epoch {_epoch(last)}; best so far "
        f"{per_cent(best[name])} after epoch {_epoch(best)}. {_loss_words(record)}"
    )
    state, advice = _judged(record, rows, name)
    return {"state": state, "reason": reason.strip(), "advice": advice, "best": best}


def _summary_of_results(record: RunRecord) -> Row:
    """Of a run that was measured only at its end: its own row of the last horizon and label."""
    nothing = {"state": None, "reason": _loss_words(record), "advice": "", "best": None}
    rows = [row for row in _dicts(record.results.get("rows")) if _is_whole(row)]
    if not rows:
        return nothing
    last = rows[-1]["seconds"], rows[-1]["head"]
    by_name = {row["name"]: row for row in rows if (row["seconds"], row["head"]) == last}
    own, prior = by_name.get("both", next(iter(by_name.values()))), by_name.get("label prior")
    reason = (
        f"{own['head']}, {finite(own['seconds']):g} s ahead: {per_cent(finite(own['accuracy']))} "
        f"of {own['count']} events right"
    )
    state = "learned"
    if prior is not None:
        reason += f", the label prior {per_cent(finite(prior['accuracy']))}"
        if own["accuracy"] <= prior["accuracy"]:
            state = "not learned"
    return {"state": state, "reason": f"{reason}. {_loss_words(record)}", "advice": "", "best": own}


def _judged(record: RunRecord, rows: Sequence[Row], name: str) -> tuple[str, str]:
    """State and advice."""
    floor, what = _floor(record, name)
    if floor is not None and rows[-1][name] <= floor:
        return "not learned", (
            f"That is not above {what} ({per_cent(floor)}): try another learning rate, more "
            "epochs, or look whether the labels are right."
        )
    values = [row[name] for row in rows]
    best = max(range(len(values)), key=values.__getitem__)
    losses = [row["loss"] for row in rows if "loss" in row]
    if len(losses) == len(rows) >= FEW_EPOCHS and losses[-1] > min(losses) * (1 + CHANGE):
        least = rows[losses.index(min(losses))]
        return "overfitting", (
            f"The loss on validation was least after epoch {_epoch(least)} and has risen since: it "
            "learns its training videos by heart. Take fewer epochs, more videos, or more "
            "augmentation."
        )
    if best == len(values) - 1 and len(values) >= FEW_EPOCHS and values[best] > values[-2]:
        return "learning", "The last measurement is the best one: more epochs may still help."
    return "learned", ""


def _floor(record: RunRecord, name: str) -> tuple[float | None, str]:
    """What is reached without looking, where the run's results tell it."""
    known = record.results.get("baselines")
    if isinstance(known, dict) and isinstance(known.get("val"), dict) and name == "top1":
        return finite(known["val"].get("majority")), "always naming the commonest class"
    head = name.partition("_recall_at_")[0].removesuffix("_top1")
    measure = "recall" if "_recall_at_" in name else "accuracy"
    for row in _dicts(record.results.get("rows")):
        if row.get("head") == head and row.get("name") == "label prior":
            return finite(row.get(measure)), "the label prior"
    return None, ""


def measured_rows(record: RunRecord) -> list[Row]:
    """Measurements on validation in order: of a probe run those of one head, the best at the end.

    Of another head each time, losses could not be compared. Only names with finite numbers; a
    measurement that was made again counts once.
    """
    found: dict[int, Row] = {}
    chosen = -1
    for row in record.validation:
        own = _dicts(row.get("heads"))
        if own:
            chosen = max(range(len(own)), key=lambda at: finite(own[at].get("top1")) or 0.0)
    for row in record.validation:
        own = _dicts(row.get("heads"))
        numbers = own[chosen] if chosen < len(own) and own else row
        kept = {
            name: value
            for name, one in numbers.items()
            if name not in ("step", "epoch", "videos") and (value := finite(one)) is not None
        }
        if kept:
            found[row["step"]] = {"step": row["step"], "epoch": row.get("epoch"), **kept}
    rows = [found[step] for step in sorted(found)]
    name = main_measure(rows)
    return [row for row in rows if name in row]


def main_measure(rows: Sequence[Row]) -> str:
    """The number that a run is judged by: recall of the last label, else top-1, else the first.

    "" where there is none.
    """
    names = [name for row in rows[-1:] for name in row if name not in ("step", "epoch", "loss")]
    recalls = [name for name in names if "_recall_at_" in name]
    if recalls:
        return recalls[-1]
    return "top1" if "top1" in names else (names or [""])[0]


def labelled_verdict_section(record: RunRecord) -> str:
    """How good it is, in a sentence."""
    said = labelled_summary(record)
    title = "Does it learn?"
    if said["state"] is None:
        nothing = "Nothing was measured on validation videos so far."
        return section(title, paragraph(nothing, kind="soft"), paragraph(said["reason"]))
    tone = {"learned": "good", "learning": "good"}.get(said["state"], "bad")
    return section(
        title,
        f'<p class="answer {tone}">{said["state"].capitalize()}</p>',
        paragraph(f"{said['reason']} {said['advice']}".strip()),
    )


def labelled_learning_section(record: RunRecord, *, marks: Sequence[tuple[int, str]]) -> str:
    """Curves of loss and measures, all heads of a probe run, the table of an anticipation run."""
    rows = measured_rows(record)
    loss = record.numbers("loss")
    charts = [
        chart(
            "Loss",
            [Curve("training", loss), Curve("validation", _points(rows, "loss"))],
            note=_loss_words(record),
            marks=marks,
        )
    ]
    names = [name for row in rows[-1:] for name in row if name not in ("step", "epoch", "loss")]
    for ending in ("top1", "top5", "mean_class", "recall"):
        own = [name for name in names if ending in name]
        curves = [Curve(_plain(name), _points(rows, name)) for name in own[:MAX_HEADS]]
        charts.append(chart(f"Validation: {_plain(ending)}", curves, marks=marks))
    others = [n for n in names if not any(e in n for e in ("top1", "top5", "mean_class", "recall"))]
    charts += [
        chart(f"Validation: {_plain(name)}", [Curve(name, _points(rows, name))]) for name in others
    ]
    charts.append(_heads_chart(record))
    shown = [one for one in charts if one]
    title = "What it learns"
    if not shown:
        return section(title, paragraph("No numbers so far.", kind="soft"))
    return section(title, charts_in_columns(shown))


def labelled_results_sections(record: RunRecord) -> str:
    """Heads of a probe run, or the table of an anticipation run; "" where there are none."""
    results = record.results
    heads = _dicts(results.get("heads"))
    parts = []
    if heads:
        rows = [
            (
                str(row.get("head")),
                _short(row.get("lr")),
                _short(row.get("weight_decay")),
                per_cent(finite(row.get("top1"))),
                _short(row.get("loss")),
            )
            for row in sorted(heads, key=lambda row: -(finite(row.get("top1")) or 0.0))[:MAX_LISTED]
        ]
        best = results.get("best")
        number_of = best.get("head") if isinstance(best, dict) else "?"
        words = f"The model is head {number_of}; vjepa2 evaluate --probe-head takes others."
        names = ("Head", "Learning rate", "Weight decay", "Validation top-1", "Loss")
        parts.append(section("All heads", columns(names, rows), paragraph(words, kind="soft")))
    test = results.get("test")
    if isinstance(test, dict):
        parts.append(
            section("Test", paragraph(f"Top-1 {per_cent(finite(test.get('top1')))} of the best."))
        )
    parts += [
        paragraph(f"{one.get('severity')}: {one.get('reason')}", kind="bad")
        for one in _dicts(results.get("findings"))
    ]
    return "\n".join(
        [*parts, *row_cards([row for row in _dicts(results.get("rows")) if _is_whole(row)])]
    )


def labelled_next_section(record: RunRecord, task: Task) -> str:
    """Commands to go on with."""
    name = record.folder.name or "RUN"
    use = "anticipate" if task == "anticipation" else "classify"
    lines = [
        f"vjepa2 report {name}",
        f"vjepa2 {use} YOUR_VIDEO.mp4 --model {name}/model",
        f"vjepa2 evaluate {name}/model OTHER_VIDEOS.csv --out evaluated",
    ]
    words = "This page again with newer numbers; the model of a finished run on other videos:"
    return section("Go on", paragraph(words), code("\n".join(lines)))


def _dicts(value: object) -> list[Row]:
    """The objects of a list; whatever else a damaged file holds is left out."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _is_whole(row: Row) -> bool:
    """Whether a row of an anticipation table has all that is shown."""
    ends_of = [row.get(f"{name}_interval") for name in ("accuracy", "recall")]
    return (
        all(isinstance(one, list) and len(one) == 2 for one in ends_of)
        and all(finite(row.get(name)) is not None for name in ("seconds", "accuracy", "recall"))
        and all(name in row for name in ("head", "name", "k", "count"))
    )


def _heads_chart(record: RunRecord) -> str:
    """Top-1 of the best heads of a probe run, epoch by epoch."""
    rows = [row for row in record.validation if isinstance(row.get("heads"), list)]
    if not rows:
        return ""
    curves = []
    last = [head if isinstance(head, dict) else {} for head in rows[-1]["heads"]]
    order = sorted(range(len(last)), key=lambda head: -(finite(last[head].get("top1")) or 0.0))
    for head in order[:MAX_HEADS]:
        points = []
        for row in rows:
            own = row["heads"][head] if head < len(row["heads"]) else None
            value = finite(own.get("top1")) if isinstance(own, dict) else None
            if value is not None:
                points.append((row["step"], value))
        curves.append(Curve(f"head {head}", points))
    return chart("Validation top-1 of the best heads", curves)


def _points(rows: Sequence[Row], name: str) -> Points:
    return [(row["step"], row[name]) for row in rows if name in row]


def _loss_words(record: RunRecord) -> str:
    both = ends(record.numbers("loss"))
    if both is None:
        return ""
    begin, end = both
    words = f"The loss of training went from {number(begin)} to {number(end)}"
    if end < begin * (1 - CHANGE):
        return f"{words}."
    return f"{words}: it does not fall. Try another learning rate."


def _plain(name: str) -> str:
    """`action recall@5` of "action_recall_at_5"."""
    return name.replace("_at_", "@").replace("_", " ").replace("top", "top-")


def _epoch(row: Row) -> str:
    value = finite(row.get("epoch"))
    return "?" if value is None else f"{value:g}"


def _short(value: object) -> str:
    found = finite(value)
    return "-" if found is None else f"{found:.4g}"
