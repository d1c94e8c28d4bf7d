"""`world-tiny`: from a run of `small_world` and its evidence to the folder that is shipped.

    python -m vjepa2.tasks.scene_card --run RUN --evidence EVIDENCE --out FOLDER

The card is made from the numbers; what it claims is decided here, from the intervals.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from vjepa2._version import __version__
from vjepa2.errors import ConfigError
from vjepa2.files import atomic_folder, atomic_path, write_json
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.pretrain_folder import MODEL_NAME, load_run_config
from vjepa2.tasks.scene_evidence import evidence_settings, evidence_table, in_order, summary
from vjepa2.tasks.scene_tasks import LONG_RANGE
from vjepa2.video.processor import VJEPA2VideoProcessor

RIVALS = ("untrained", "pixels")
_TEXT = """\
---
library_name: vjepa2
license: apache-2.0
---

# world-tiny

A small encoder ({million_parameters:.2f} million parameters with its predictor, half precision)
that learned from generated videos **without labels**, by predicting hidden parts of clips in its
own features. It is part of the package `vjepa2`, so that features, probes and predictions can be
tried before anything is downloaded. It is a test article: it has only ever seen generated videos.

    import vjepa2
    [row] = vjepa2.embed("clip.mp4", model="world-tiny")

Architecture: `VJEPA2Model`, {frames} frames of {pixels} x {pixels} pixels at {fps:g} frames per
second, tokens of {patch} x {patch} pixels and {tubelet} frames, width {width}, {layers} blocks.

## Training

Recipe `small_world`: {steps:,} updates of {batch} clips from {videos} generated H.264 videos of 5
seconds (objects that move, collide, hide, appear and light up under a moving camera), seed {seed}.
Commands: `docs/reproduce.md`; curves: `docs/lab-log.md`.

## Measured

{train_clips} labelled and {test_clips} test clips a question, {seeds} seeds of the probes and of
the untrained networks; the same attentive probe with the same optimiser for all. "shuffled": the
pretrained encoder and its probes, with the frames of the test clips in random order. Percent of
right answers with 95 % intervals (seeds and clips drawn anew):

{table}
Right answers of this encoder minus those of another, on the same clips:

{differences}
{verdict}
"""


def world_card(metrics: dict[str, Any]) -> str:
    """Markdown text of the card.

    Args:
        metrics: content of `metrics.json`: "training", "evidence" (settings) and "results".
    """
    training, evidence = metrics["training"], metrics["evidence"]
    return _TEXT.format(
        **training,
        million_parameters=training["num_parameters"] / 1e6,
        train_clips=evidence["train_clips"],
        test_clips=evidence["test_clips"],
        seeds=len(evidence["seeds"]),
        table=evidence_table(metrics["results"]),
        differences=difference_table(metrics["results"]),
        verdict=verdict(metrics["results"]),
    )


def difference_table(results: dict[str, Any]) -> str:
    """How much more of the same clips the pretrained encoder answers rightly."""
    names = [*RIVALS, "shuffled"]
    lines = ["| task | " + " | ".join(f"more than {name}" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for task, entry in in_order(results):
        cells = [_difference(entry.get(name, {}).get("behind")) for name in names]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def verdict(results: dict[str, Any]) -> str:
    """What may be claimed: on which long-range questions it is ahead of both rivals for certain."""
    asked = [task for task in LONG_RANGE if _is_measured(results.get(task, {}))]
    ahead = [task for task in asked if all(_ahead(results[task][name]) for name in RIVALS)]
    rest = [task for task in asked if task not in ahead]
    if not ahead:
        return (
            "On none of the long-range questions is it ahead of both untrained and pixels outside "
            "the intervals: no claim is made."
        )
    text = (
        f"Ahead of both untrained and pixels outside the intervals on {_listed(ahead)}, of "
        f"{len(asked)} long-range questions."
    )
    if rest:
        text += f" On {_listed(rest)} it is not, and nothing is claimed there."
    missing = [task for task in LONG_RANGE if task not in asked]
    if missing:
        text += f" Not measured: {_listed(missing)}."
    return text


def _is_measured(entry: dict[str, Any]) -> bool:
    return all("behind" in entry.get(name, {}) for name in RIVALS)


def _ahead(entry: dict[str, Any]) -> bool:
    return bool(entry["behind"]["low"] > 0)


def _difference(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    mean, low, high = (100 * interval[name] for name in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def ship(run: Path, evidence: Path, out: Path, *, num_videos: int) -> None:
    """Write weights in half precision, processor, `metrics.json` and the card.

    Raises:
        ConfigError: the run is not finished, or the evidence is of another geometry.
        WeightsError, OutputError: a folder cannot be read or written.
    """
    config = load_run_config(run)
    if config.network is None or not (run / MODEL_NAME).is_dir():
        raise ConfigError(f"{run} holds no finished run of a fresh network.")
    model = VJEPA2Model.from_pretrained(run / MODEL_NAME)
    settings = evidence_settings(evidence)
    network = model.config
    metrics = {
        "training": {
            "recipe": config.recipe,
            "seed": config.seed,
            "steps": config.schedule.num_steps,
            "batch": config.clip.batch_size,
            "videos": num_videos,
            "fps": config.fps,
            "frames": network.frames_per_clip,
            "pixels": network.crop_size,
            "patch": network.patch_size,
            "tubelet": network.tubelet_size,
            "width": network.hidden_size,
            "layers": network.num_hidden_layers,
            "num_parameters": model.num_parameters(),
            "vjepa2": __version__,
            "torch": torch.__version__,
        },
        "evidence": settings,
        "results": summary(evidence),
    }
    with atomic_folder(out) as folder:
        model.half().save_pretrained(folder)
        VJEPA2VideoProcessor.from_pretrained(run / MODEL_NAME).save_pretrained(folder)
        write_json(folder / "metrics.json", metrics)
        with atomic_path(folder / "README.md") as temporary:
            temporary.write_text(world_card(metrics), encoding="utf-8")


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vjepa2.tasks.scene_card")
    parser.add_argument("--run", type=Path, required=True, help="folder of the pretraining run")
    parser.add_argument("--evidence", type=Path, required=True, help="folder of scene_evidence")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--videos", type=int, required=True, help="files it was trained on")
    given = parser.parse_args()
    ship(given.run, given.evidence, given.out, num_videos=given.videos)


if __name__ == "__main__":
    main()
