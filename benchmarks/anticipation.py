"""Anticipation on generated videos whose best possible score is known.

    python -m benchmarks.anticipation --work DIR            # goes on where it stopped
    python -m benchmarks.anticipation --work DIR --only one_second

Videos of the grammar of events (`vjepa2.video.synthetic_grammar`) are written as mp4, one set to
learn from and one to measure on, by different seeds. Small networks of this package, encoder,
predictor and probe, learn from the labels alone by recipe `from_scratch`, through the same code as
`vjepa2 anticipate --train`:

    one_second       for an anticipation time of 1 s
    two_seconds      for 2 s
    all_horizons     for times drawn evenly from 0.5 to 4 s, as published in kind

Beside them stand the label prior and the Bayes optimum of every horizon, by dynamic programming
over the hidden chain given what is visible. `way` is how far a score is from the prior to the
optimum.
"""

from pathlib import Path
from typing import Any

import torch

from benchmarks.common import parser, save
from vjepa2.recipes.anticipate import run_config
from vjepa2.tasks.anticipate import learn_to_anticipate
from vjepa2.tasks.anticipate_scores import NAMES
from vjepa2.video.synthetic_grammar import HEADS, Grammar
from vjepa2.video.synthetic_grammar_files import write_grammar_videos
from vjepa2.video.synthetic_grammar_optimum import Optimum, Visible, optimum

HORIZONS = {"one_second": (1.0,), "two_seconds": (2.0,), "all_horizons": (1.0, 2.0, 4.0)}
SETTINGS = {
    "one_second": ["clips.train_seconds=null"],
    "two_seconds": ["clips.train_seconds=null", "clips.seconds=2"],
    "all_horizons": ["clips.train_seconds=[0.5,4.0]"],
}
# Contexts that are not whole are left out: the optimum is that of whole ones.
COMMON = ["clips.early=skip", "schedule.warmup_epochs=0.3", "measure_every=5"]
TRAIN_SEED, VAL_SEED = 0, 1


def way(value: float, *, prior: float, best: float) -> float:
    """Share of the way from the prior to the optimum."""
    return round((value - prior) / (best - prior), 4)


def row(measured: dict[str, Any], best: Optimum) -> dict[str, Any]:
    """One line of the result beside what can be reached."""
    recall = best.accuracy if measured["k"] == 1 else best.recall
    found = {
        "seconds": measured["seconds"],
        "head": measured["head"],
        "name": measured["name"],
        "events": measured["count"],
        "accuracy": round(measured["accuracy"], 4),
        "accuracy_interval": measured["accuracy_interval"],
        "prior_accuracy": round(best.prior_accuracy, 4),
        "optimum_accuracy": round(best.accuracy, 4),
        "way": way(measured["accuracy"], prior=best.prior_accuracy, best=best.accuracy),
        "above_the_optimum": (measured["accuracy_interval"][0] or 0.0) > best.accuracy,
    }
    if measured["k"] == best.k and best.k > 1:
        found |= {
            "recall_at_5": round(measured["recall"], 4),
            "recall_at_5_interval": measured["recall_interval"],
            "optimum_recall_at_5": round(recall, 4),
            "prior_recall_at_5": round(best.prior_recall, 4),
        }
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--work", type=Path, required=True, help="folder of videos and runs")
    arguments.add_argument("--only", choices=sorted(HORIZONS), help="train and measure only this")
    arguments.add_argument("--train-videos", type=int, default=200)
    arguments.add_argument("--val-videos", type=int, default=60)
    arguments.add_argument("--epochs", type=int, default=10)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    lists = {
        "train": write_grammar_videos(
            given.work / "train", count=given.train_videos, seed=TRAIN_SEED
        ),
        "val": write_grammar_videos(given.work / "val", count=given.val_videos, seed=VAL_SEED),
    }
    grammar = Grammar()
    rate = grammar.config.ticks_per_second
    results: dict[str, Any] = {"videos": [given.train_videos, given.val_videos], "rows": {}}
    for name in [given.only] if given.only else HORIZONS:
        config = run_config(
            given.work / name,
            train=str(lists["train"]),
            val=str(lists["val"]),
            recipe="from_scratch",
            horizons=HORIZONS[name],
            settings=[*COMMON, *SETTINGS[name], f"schedule.epochs={given.epochs}"],
        )
        result = learn_to_anticipate(config, given.work / name)
        if result.model is None:
            raise SystemExit(f"{name} stopped after {result.step} updates; start again to go on.")
        num_frames = config.clips.num_frames
        best = {
            (seconds, head): optimum(
                grammar, Visible(num_frames, round(seconds * rate) + 1), head=head
            )
            for seconds in HORIZONS[name]
            for head in HEADS
        }
        rows = [
            row(line.as_dict(), best[line.seconds, line.head])
            for line in result.rows
            if line.name in NAMES.values()
        ]
        for line in rows:
            print(line)
        results["rows"][name] = rows
        results[f"{name}_updates"] = result.step
    # What was measured alone stands beside what was measured before.
    save(f"anticipation_{given.only}" if given.only else "anticipation", results)


if __name__ == "__main__":
    main()
