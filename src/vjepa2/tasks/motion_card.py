"""The model card of the motion classifier, written from its measured numbers."""

from typing import Any

_TEXT = """\
---
library_name: vjepa2
pipeline_tag: video-classification
license: apache-2.0
---

# motion-tiny

Names the motion in a short video: {num_labels} classes, {million_parameters:.2f} million
parameters. It is part of the package `vjepa2`, so that `vjepa2 demo` and `vjepa2 classify FILE`
mean something before anything is downloaded. It is a demonstration and a test article, not a tool
for real work: it has only ever seen painted clips.

    from vjepa2 import classify
    classify("clip.mp4")[0].label

Architecture: `VJEPA2ForVideoClassification` of the V-JEPA 2 layout ({geometry}).
The file also holds the masked predictor of that layout so that it loads wherever a V-JEPA 2
checkpoint does; the predictor was **not trained** and predicts nothing of use.

## What the labels mean

Directions are those of the picture, as a viewer sees it.

| label | what happens |
|---|---|
| object moves left, right, up, down | one object travels to that side of the picture |
| object approaches, recedes | one object grows, shrinks in place |
| object rotates clockwise, counter-clockwise | one object turns in place |
| object appears, vanishes | one object fades or pops in, out in place |
| camera pans left, right | the whole picture slides to the right, to the left |
| camera tilts up, down | the whole picture slides down, up |
| camera zooms in, out | the whole picture grows, shrinks about its centre |
| nothing moves | noise and slight changes of light only |

## Measured

{num_clips} held-out clips (seed {seed}), painted, encoded as H.264, decoded and processed like any
file. Chance is {chance:.1%}.

| shown | result |
|---|---|
| as it is | **{accuracy:.1%}** right (95 % interval {low:.1%} to {high:.1%}) |
| frames in reverse order | {reversed_opposite:.1%} named as the opposite motion |
| the same | {reversed_same:.1%} still named as before |
| frames shuffled | {shuffled:.1%} named as before shuffling |
| first frame repeated | {first:.1%} right |
| middle frame repeated | {middle:.1%} right |
| last frame repeated | {last:.1%} right |

"Nothing moves" stays true in every order, which is about {chance:.1%} of all clips.

| label | right |
|---|---|
{per_label}

Most frequent mistakes: {confusions}.

Files unlike those of the training ({num_unusual} clips each):

| files | right |
|---|---|
{unusual}

## Training

{steps} updates of {batch} clips ({fresh} and their reversals) from {train_clips} painted clips,
seed {train_seed}, {minutes:.0f} minutes on {hardware}. Recipe and command:
`vjepa2.recipes.motion_classifier` and `docs/reproduce.md`. The numbers above are those of
`metrics.json` beside this file.

## Limits

One motion a clip, spread over the whole of it: 16 frames are taken evenly from the file. Very small
or faint objects, several motions at once, cuts, and films of real scenes are outside of what it was
trained for. The centre crop hides what happens near the edges of the picture.
"""


def model_card(metrics: dict[str, Any]) -> str:
    """Markdown text of the card.

    Args:
        metrics: content of `metrics.json`: the result of `evaluate_motion_classifier`, and under
            "training" what `training_facts` gives.
    """
    training = metrics["training"]
    low, high = metrics["interval"]
    mistakes = "; ".join(
        f'"{item["label"]}" named "{item["named"]}" ({item["clips"]})'
        for item in metrics["confusions"]
    )
    return _TEXT.format(
        num_labels=training["num_labels"],
        million_parameters=training["num_parameters"] / 1e6,
        geometry=training["geometry"],
        num_clips=metrics["num_clips"],
        seed=metrics["seed"],
        chance=metrics["chance"],
        accuracy=metrics["accuracy"],
        low=low,
        high=high,
        reversed_opposite=metrics["reversed"]["named as the opposite"],
        reversed_same=metrics["reversed"]["named as before"],
        shuffled=metrics["shuffled"],
        first=metrics["one_frame"]["first"],
        middle=metrics["one_frame"]["middle"],
        last=metrics["one_frame"]["last"],
        per_label=_rows(metrics["per_label"]),
        confusions=mistakes or "none",
        num_unusual=metrics["num_unusual"],
        unusual=_rows(metrics["unusual"]),
        steps=training["steps"],
        batch=2 * training["clips_per_step"],
        fresh=training["clips_per_step"],
        train_clips=training["num_clips"],
        train_seed=training["seed"],
        minutes=training["minutes"],
        hardware=training["hardware"],
    )


def _rows(shares: dict[str, float]) -> str:
    # By name: a file of JSON does not keep the order in which things were measured.
    return "\n".join(f"| {name} | {value:.1%} |" for name, value in sorted(shares.items()))
