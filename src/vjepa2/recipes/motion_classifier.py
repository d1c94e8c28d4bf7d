"""The recipe of `motion-tiny`, the classifier inside the package.

    python -m vjepa2.recipes.motion_classifier --out runs/motion

trains it, measures it and writes the model folder with `metrics.json` and its card. Started again
with the same arguments it goes on where it was interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vjepa2.errors import VJEPAError
from vjepa2.files import atomic_path
from vjepa2.tasks.evaluate_motion_classifier import evaluate_motion_classifier, save_metrics
from vjepa2.tasks.motion_card import model_card
from vjepa2.tasks.train_motion_classifier import (
    MotionClassifierConfig,
    train_motion_classifier,
    training_facts,
)


def motion_classifier() -> MotionClassifierConfig:
    """Seventeen motions, 1.3 million parameters.

    Hardware: one to two CPU cores, 3 GB of memory, 1.2 GB of disk for the painted clips. Time and
    accuracy: docs/reproduce.md.
    """
    return MotionClassifierConfig(
        seed=0,
        num_clips=6000,
        steps=1000,
        clips_per_step=16,
        matrix_lr=0.02,
        other_lr=1e-3,
        keep_share=0.4,
        full_share=0.1,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and write the model; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m vjepa2.recipes.motion_classifier",
        description="Train, measure and write the motion classifier that ships with the package.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change an option, such as --set steps=200 --set seed=1; repeatable",
    )
    parser.add_argument("--test-clips", type=int, default=2040, help="held-out clips")
    parser.add_argument("--hardware", default="a CPU", help="named in the card")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        config = motion_classifier().override(given.set)
        model = train_motion_classifier(config, given.out)
        minutes = (time.monotonic() - started) / 60
        measured = evaluate_motion_classifier(
            model,
            num_clips=given.test_clips,
            num_unusual=max(1, given.test_clips // 4),
            workers=config.workers,
        )
        facts = training_facts(config, model, minutes=minutes, hardware=given.hardware)
        metrics = save_metrics(given.out, measured, training=facts)
        with atomic_path(given.out / "README.md") as card:
            card.write_text(model_card(metrics), encoding="utf-8")
    except VJEPAError as error:
        raise SystemExit(f"error: {error}") from error
    low, high = metrics["interval"]
    sys.stdout.write(
        f"{metrics['accuracy']:.1%} of {metrics['num_clips']} held-out clips named rightly "
        f"(95 % interval {low:.1%} to {high:.1%}); model and card in {given.out}\n"
    )


if __name__ == "__main__":
    main()
