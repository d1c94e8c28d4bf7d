"""How good the motion classifier is, and whether it is motion that it reads.

The same held-out clips are shown as they are, played backwards, with their frames shuffled, and
as one frame repeated. A network that reads motion follows the first two (backwards it names the
opposite) and fails on the others. Files unlike those of the training are measured too.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from vjepa2.errors import ConfigError
from vjepa2.files import write_json
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.progress import track
from vjepa2.scoring import wilson_interval
from vjepa2.tasks.motion_clips import ClipVariety, LabelChanges, MotionClips, normalised

Frames = UInt8[Tensor, "B T 3 S S"]

TEST_SEED = 4000  # and the next few; training runs use small seeds
METRICS_NAME = "metrics.json"
BATCH = 32
USUAL = ClipVariety()
UNUSUAL = {
    "strongly compressed (CRF 38-44)": replace(USUAL, crf=(38, 44)),
    "large pictures (short side 240-480)": replace(USUAL, short_side=(240, 480)),
    "twice as many frames (25-48)": replace(USUAL, num_video_frames=(25, 48)),
    "few frames (8-11)": replace(USUAL, num_video_frames=(8, 11)),
    "very wide or tall (2:1 to 2.4:1)": replace(USUAL, aspect=(2.0, 2.4)),
}


def evaluate_motion_classifier(
    model: VJEPA2ForVideoClassification,
    *,
    num_clips: int = 2040,
    num_unusual: int = 510,
    seed: int = TEST_SEED,
    workers: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a motion classifier.

    Args:
        model: from `train_motion_classifier`, or the shipped one; on the CPU.
        num_clips: held-out clips; all of them are shown in every order.
        num_unusual: clips of each kind of unusual file.
        seed: of the clips; different from the training's.
        workers: processes that make clips.
        quiet: no progress.

    Returns:
        JSON values: "accuracy" with "interval" (95 %, Wilson), "per_label", "confusions",
        "reversed" (shares named as the opposite and as the original label), "shuffled",
        "one_frame" (the first, middle, last frame repeated), "unusual", "chance", and the
        numbers of clips and the seed. Shares are 0..1.

    Raises:
        ConfigError: fewer than one clip.
    """
    if num_clips < 1 or num_unusual < 1:
        raise ConfigError(f"At least one clip is needed, got {num_clips} and {num_unusual}.")
    labels = tuple(model.config.id2label[number] for number in range(model.config.num_labels))

    def clips(count: int, offset: int, variety: ClipVariety) -> MotionClips:
        return MotionClips(
            seed=seed + offset,
            count=count,
            crop_size=model.config.crop_size,
            num_frames=model.config.frames_per_clip,
            labels=labels,
            variety=variety,
        )

    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    shown = _shown_in_every_order(generator)
    truth, answers = _answers(
        model, clips(num_clips, 0, USUAL), shown, workers=workers, quiet=quiet, name="test clips"
    )
    correct = {name: answer == truth for name, answer in answers.items()}
    opposite = LabelChanges(labels).ids["reversed"][truth]
    unusual = {}
    for offset, (name, variety) in enumerate(UNUSUAL.items(), start=1):
        its_truth, its_answers = _answers(
            model,
            clips(num_unusual, offset, variety),
            {"as it is": shown["as it is"]},
            workers=workers,
            quiet=quiet,
            name=name,
        )
        unusual[name] = share(its_answers["as it is"] == its_truth)
    return {
        "seed": seed,
        "num_clips": num_clips,
        "num_unusual": num_unusual,
        "chance": 1 / len(labels),
        "accuracy": share(correct["as it is"]),
        "interval": tuple(
            round(end, 4) for end in wilson_interval(int(correct["as it is"].sum()), num_clips)
        ),
        "per_label": {
            label: share(correct["as it is"][truth == number])
            for number, label in enumerate(labels)
            if bool((truth == number).any())
        },
        "confusions": _confusions(labels, truth, answers["as it is"]),
        "reversed": {
            "named as the opposite": share(answers["reversed"] == opposite),
            "named as before": share(correct["reversed"] & (opposite != truth)),
        },
        "shuffled": share(correct["shuffled"]),
        "one_frame": {
            place: share(correct[f"{place} frame"]) for place in ("first", "middle", "last")
        },
        "unusual": unusual,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }


def share(is_true: Tensor) -> float:
    """Part of the values that are True, 0..1, to four digits."""
    return round(float(is_true.double().mean()), 4)


def save_metrics(
    folder: str | os.PathLike[str], metrics: dict[str, Any], *, training: dict[str, Any]
) -> dict[str, Any]:
    """Write `metrics.json`: what was measured and how the model was trained; returns its content.

    Raises:
        OutputError: the folder cannot be written.
    """
    content = {**metrics, "training": training}
    write_json(Path(folder) / METRICS_NAME, content)
    return content


def _shown_in_every_order(
    generator: torch.Generator,
) -> dict[str, Callable[[Frames], Frames]]:
    def shuffled(frames: Frames) -> Frames:
        orders = torch.rand(frames.shape[:2], generator=generator).argsort(dim=1)
        return torch.stack([clip[order] for clip, order in zip(frames, orders, strict=True)])

    def repeated(place: int) -> Callable[[Frames], Frames]:
        return lambda frames: frames[:, place, None].expand_as(frames)

    return {
        "as it is": lambda frames: frames,
        "reversed": lambda frames: frames.flip(1),
        "shuffled": shuffled,
        "first frame": repeated(0),
        "middle frame": lambda frames: repeated(frames.shape[1] // 2)(frames),
        "last frame": repeated(-1),
    }


@torch.no_grad()
def _answers(
    model: VJEPA2ForVideoClassification,
    clips: MotionClips,
    shown: dict[str, Callable[[Frames], Frames]],
    *,
    workers: int,
    quiet: bool,
    name: str,
) -> tuple[Int[Tensor, " n"], dict[str, Int[Tensor, " n"]]]:
    """True label ids, and the most probable ones for each way of showing the clips."""
    model.eval()
    truth: list[Tensor] = []
    answers: dict[str, list[Tensor]] = {way: [] for way in shown}
    loader = DataLoader(clips, batch_size=BATCH, num_workers=workers)
    for frames, labels in track(loader, total=len(loader), description=name, quiet=quiet):
        truth.append(labels)
        for way, change in shown.items():
            answers[way].append(model(normalised(change(frames))).logits.argmax(dim=1))
    return torch.cat(truth), {way: torch.cat(parts) for way, parts in answers.items()}


def _confusions(labels: tuple[str, ...], truth: Tensor, answer: Tensor) -> list[dict[str, Any]]:
    """The five most frequent mistakes."""
    table = torch.zeros(len(labels), len(labels), dtype=torch.int64)
    table.index_put_((truth, answer), torch.ones_like(truth), accumulate=True)
    table.fill_diagonal_(0)
    most = table.flatten().topk(min(5, table.numel()))
    return [
        {
            "label": labels[place // len(labels)],
            "named": labels[place % len(labels)],
            "clips": count,
        }
        for count, place in zip(most.values.tolist(), most.indices.tolist(), strict=True)
        if count
    ]
