"""Carry the masks of a first frame through a video; nothing is trained.

Run: python examples/05_segment_a_video.py
"""

import tempfile
from pathlib import Path

import torch

from vjepa2.features.label_propagation import segment_video
from vjepa2.scoring.segmentation import video_mask_scores
from vjepa2.video.synthetic_world import make_world_clips
from vjepa2.video.synthetic_world_labels import world_masks
from vjepa2.video.synthetic_world_scene import WorldConfig
from vjepa2.video.writer import write_video


def main() -> float:
    world = WorldConfig(
        num_frames=16,
        fps=12,
        size=(96, 128),
        max_objects=3,
        count=(2, 3),
        occluder_share=0,
        appear_share=0,
        flash_share=0,
    )
    clips = make_world_clips(world, seed=0, numbers=[0])
    truth = world_masks(clips, world)[0]  # [T, H, W]: 0 background, 1, 2, ... objects

    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "objects.mp4", clips.frames[0])
        # Only the first frame's mask is handed over.
        frames = list(segment_video(path, truth[0], short_side=192))

    found = torch.stack([frame.mask for frame in frames])
    scores = video_mask_scores(found, truth)
    copied = video_mask_scores(truth[:1].expand_as(truth), truth)
    for number, J, F in zip(scores.objects, scores.J, scores.F, strict=True):
        print(f"object {number}: J {J:.2f}, F {F:.2f}")
    print(f"mean J {scores.mean_J:.2f}; the first mask left where it is: {copied.mean_J:.2f}")
    return scores.mean_J


if __name__ == "__main__":
    main()
