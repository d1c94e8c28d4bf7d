"""What the encoder inside the package, `world-tiny`, knows of motions that no single frame shows.

    python -m benchmarks.motion_evidence --work DIR        # goes on where it stopped

17 motions (`vjepa2.video.synthetic`), painted, encoded as H.264 and read back as a user's files
are. The encoder has never seen such clips, and stays as it is: attentive probes learn from labels
on its tokens, on those of the same network untrained and on pixels, all alike
(`vjepa2.tasks.scene_evidence`); "shuffled" shows the encoder's own probes the test clips with
their frames in random order. Chance is one in 17.

The best possible score is 100 % but for clips that could as well have another label. A clip played
backwards is a clip of the opposite motion, as likely as this one: so what looks the same both ways
(`change_by_reversal`) is undecidable between the two, and what does not change at all between them
and "nothing moves". `too_still` is the share of such clips by label, and `optimum` what is left,
both at the size that the encoder sees and after the codec.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from benchmarks.common import parser, save
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.clip_sources import ClipRequest, ClipSource
from vjepa2.tasks.motion_clips import ClipPool, MotionClips
from vjepa2.tasks.scene_card import difference_table
from vjepa2.tasks.scene_evidence import Contender, EvidenceConfig, evidence_table, gather_evidence
from vjepa2.tasks.scene_probes import ProbeConfig
from vjepa2.tasks.scene_tasks import LabelledClips
from vjepa2.video.synthetic import MOTION_LABELS

TASK = "motion"
STILL = MOTION_LABELS.index("nothing moves")
CONTENDERS: tuple[Contender, ...] = ("pretrained", "untrained", "pixels")
# Neither those of the training of `motion-tiny` nor those that it is measured with.
SEEDS = {"train": 1_501, "test": 1_502}
BLOCK = 4  # pixels; noise of single pixels is averaged away
LIKE_STILL = 0.95  # this share of "nothing moves" changes as little


def motion_clips(work: Path, wanted: ClipRequest) -> LabelledClips:
    """Clips of all motions, painted when they are missing; labels are drawn evenly."""
    clips = MotionClips(
        seed=SEEDS[wanted.part],
        count=wanted.count,
        crop_size=wanted.size,
        num_frames=wanted.num_frames,
    )
    pool = ClipPool(work / f"{wanted.part}-{wanted.count}", clips, workers=0, quiet=False)
    return LabelledClips(*pool.take(torch.arange(len(pool))))


def change_by_reversal(frames: UInt8[Tensor, "B T 3 H W"]) -> Float[Tensor, " B"]:
    """How much the most different place of a clip changes when it is played backwards.

    Each frame is brought to the same mean brightness first, because the light drifts in all clips;
    then blocks of pixels are averaged. In the units of pixels, 0 to 255.
    """
    bright = frames.float()
    bright = bright * (bright.mean() / bright.mean(dim=(2, 3, 4), keepdim=True))
    blocks = functional.avg_pool2d(bright.flatten(0, 1), BLOCK).unflatten(0, frames.shape[:2])
    return (blocks - blocks.flip(1)).abs().amax(dim=(1, 2, 3, 4))


def too_still(clips: LabelledClips) -> Bool[Tensor, " B"]:
    """Which clips of a motion change no more by reversal than clips in which nothing moves."""
    change = torch.cat([change_by_reversal(part) for part in clips.frames.split(64)])
    least = change[clips.labels == STILL].quantile(LIKE_STILL)
    return (change <= least) & (clips.labels != STILL)


def by_label(values: Float[Tensor, " B"], labels: Int[Tensor, " B"]) -> dict[str, float]:
    """Mean of the clips of every label."""
    return {
        name: round(float(values[labels == number].mean()), 4)
        for number, name in enumerate(MOTION_LABELS)
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--work", type=Path, required=True, help="folder of clips and results")
    arguments.add_argument(
        "--contender", action="append", choices=CONTENDERS, help="measure only this; repeatable"
    )
    arguments.add_argument("--train-clips", type=int, default=4080)
    arguments.add_argument("--test-clips", type=int, default=1020)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    encoder = VJEPA2Model.from_pretrained("world-tiny").encoder.float().eval()
    make = functools.partial(motion_clips, given.work / "clips")
    config = EvidenceConfig(
        tasks=(TASK,),
        train_clips=given.train_clips,
        test_clips=given.test_clips,
        probe=ProbeConfig(epochs=8),
    )
    measured = gather_evidence(
        encoder,
        given.work / "evidence",
        config=config,
        contenders=tuple(given.contender or CONTENDERS),
        sources={TASK: ClipSource(answers=MOTION_LABELS, make=make)},
    )
    print(evidence_table(measured), difference_table(measured), sep="\n")
    test = make(
        ClipRequest(
            part="test",
            count=given.test_clips // len(MOTION_LABELS) * len(MOTION_LABELS),
            size=encoder.config.crop_size,
            num_frames=encoder.config.frames_per_clip,
            fps=config.fps,
        )
    )
    still = too_still(test).float()
    results: dict[str, Any] = {
        "settings": config.model_dump(mode="json"),
        "measured": measured[TASK],
        # Half of what cannot be told from its opposite is named rightly by a guess.
        "optimum_at_least": round(1 - float(still.mean()) / 2, 4),
        "too_still": by_label(still, test.labels),
    }
    for name in (*CONTENDERS, "shuffled"):
        if name not in measured[TASK]:
            continue
        kept = load_file(given.work / "evidence" / f"{name}-{TASK}.safetensors")["right"]
        results[f"{name}_by_label"] = by_label(kept.float().mean(dim=0), test.labels)
    for name, value in results.items():
        print(name, value)
    save("motion_evidence", results)


if __name__ == "__main__":
    main()
