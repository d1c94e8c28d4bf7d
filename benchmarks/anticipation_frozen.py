"""Anticipation with the frozen encoder and predictor inside the package, `world-tiny`.

    python -m benchmarks.anticipation_frozen --work DIR      # goes on where it stopped

The events, contexts and optimum of `benchmarks.anticipation`: generated videos of the grammar of
events, whose best possible score per anticipation time is known. There a network learns all of it
from labels. Here nothing of the network learns: attentive probes with heads for verb, noun and
action read its tokens, by recipe `small` through the same code as `vjepa2 anticipate --train`, one
run for each anticipation time. Beside them stands the same with a network of the same shape and
fresh weights, one for each seed.

`world-tiny` has learned without labels from videos of another generated world. A frame of a
context is one tick of the grammar, four a second; the encoder is not told how long a second is.
"""

from pathlib import Path
from typing import Any

import torch

from benchmarks.anticipation import COMMON, TRAIN_SEED, VAL_SEED, row
from benchmarks.common import parser, save
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.anticipate import from_scratch, run_config
from vjepa2.tasks.anticipate import learn_to_anticipate
from vjepa2.tasks.anticipate_scores import NAMES
from vjepa2.video.synthetic_grammar import HEADS, Grammar
from vjepa2.video.synthetic_grammar_files import write_grammar_videos
from vjepa2.video.synthetic_grammar_optimum import Visible, optimum

PRETRAINED = "world-tiny"
SECONDS = (1.0, 2.0, 4.0)


def settings(*, seconds: float, epochs: int, size: int) -> list[str]:
    """Recipe `small` with the crops and loss of `from_scratch`.

    Depth and rate of the probes are those of `tasks.scene_evidence`. It is one rate, so that
    nothing is chosen on the events that are measured.
    """
    augment = from_scratch().augment
    return [
        *COMMON,
        "clips.train_seconds=null",
        f"clips.seconds={seconds}",
        "future.mask_index=0",  # the mask token that was trained
        f"crop_size={size}",
        f"augment.scale={list(augment.scale)}",
        f"augment.ratio={list(augment.ratio)}",
        'loss="cross_entropy"',
        "probe.num_self_blocks=1",
        "probe.lrs=[0.002]",
        "batch_size=32",
        f"schedule.epochs={epochs}",
        f"measure_every={epochs}",
    ]


def untrained(folder: Path, *, seed: int) -> str:
    """A folder with a network of the same shape and fresh weights; made when it is missing."""
    target = folder / f"untrained-{seed}"
    if not target.exists():
        config = VJEPA2Model.from_pretrained(PRETRAINED).config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            VJEPA2Model(config).save_pretrained(target)
    return str(target)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--work", type=Path, required=True, help="folder of videos and runs")
    arguments.add_argument("--train-videos", type=int, default=200)
    arguments.add_argument("--val-videos", type=int, default=60)
    arguments.add_argument("--epochs", type=int, default=4)
    arguments.add_argument("--seeds", type=int, default=1, help="untrained networks")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    size = VJEPA2Model.from_pretrained(PRETRAINED).config.crop_size
    sets = {"train": (given.train_videos, TRAIN_SEED), "val": (given.val_videos, VAL_SEED)}
    lists = {
        name: str(write_grammar_videos(given.work / name, count=count, seed=seed, size=size))
        for name, (count, seed) in sets.items()
    }
    grammar = Grammar()
    rate = grammar.config.ticks_per_second
    models = {"pretrained": PRETRAINED}
    models |= {f"untrained {n}": untrained(given.work, seed=n) for n in range(given.seeds)}
    results: dict[str, Any] = {"videos": [given.train_videos, given.val_videos], "rows": []}
    for seconds in SECONDS:
        for contender, model in models.items():
            folder = given.work / f"{contender.replace(' ', '-')}-{seconds:g}s"
            config = run_config(
                folder,
                **lists,
                model=model,
                recipe="small",
                horizons=(seconds,),
                settings=settings(seconds=seconds, epochs=given.epochs, size=size),
            )
            result = learn_to_anticipate(config, folder)
            if result.model is None:
                raise SystemExit(f"{folder} stopped after {result.step} updates; start again.")
            visible = Visible(config.clips.num_frames, round(seconds * rate) + 1)
            best = {head: optimum(grammar, visible, head=head) for head in HEADS}
            for line in result.rows:
                if line.name in NAMES.values():
                    found = {"contender": contender, **row(line.as_dict(), best[line.head])}
                    results["rows"].append(found)
                    print(found)
            results[f"{folder.name}_updates"] = result.step
            save("anticipation_frozen", results)  # what there is so far


if __name__ == "__main__":
    main()
