"""The whole method on one page: hide parts of clips, predict their latents, keep an average.

`vjepa2 pretrain` does this with everything around it: files, schedules, checkpoints, health.

Run: python examples/minimal_jepa.py
"""

import torch

from vjepa2 import VJEPA2Config, VJEPA2Model
from vjepa2.ema import MovingAverage, frozen_copy
from vjepa2.losses import normalised_targets, prediction_error
from vjepa2.masking import MaskConfig, draw_masks
from vjepa2.video.synthetic import MOTION_LABELS, make_motion_clip

MASKS = (MaskConfig(num_blocks=3, spatial_scale=(0.15, 0.15)), MaskConfig(num_blocks=1))
BATCH, NUM_STEPS = 8, 30


def paint_clips(count: int, generator: torch.Generator) -> torch.Tensor:
    clips = [
        make_motion_clip(
            MOTION_LABELS[number % 17], num_frames=8, size=(32, 32), generator=generator
        )
        for number in range(count)
    ]
    return torch.stack(clips).float() / 127.5 - 1  # [B, T, C, H, W]


def main() -> float:
    torch.manual_seed(0)
    config = VJEPA2Config(
        patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        pred_hidden_size=48, pred_num_hidden_layers=2, pred_num_attention_heads=2,
        initializer_range=0.1,
    )  # fmt: skip
    student = VJEPA2Model(config)
    teacher = frozen_copy(student.encoder)  # what the targets come from
    average = MovingAverage(teacher, student.encoder)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.04)
    clips = paint_clips(64, torch.Generator().manual_seed(0))
    losses = []
    for step in range(NUM_STEPS):
        pixels = clips[torch.randperm(len(clips))[:BATCH]]
        grid = teacher.grid(pixels)
        with torch.no_grad():
            targets = normalised_targets(teacher(pixels).last_hidden_state)
        loss = 0.0
        for number, mask in enumerate(MASKS):
            ids = draw_masks(mask, grid, batch=BATCH, seed=0, step=step, number=number)
            # Hidden tokens are dropped before the first block; the predictor never sees them.
            visible = student.encoder(pixels, ids.context_ids).last_hidden_state
            told = student.predictor.predict(
                visible, ids.context_ids, ids.target_ids, grid=grid, mask_index=0
            ).last_hidden_state
            wanted = targets.gather(1, ids.target_ids[..., None].expand_as(told))
            loss = loss + prediction_error(told, wanted) / len(MASKS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(momentum=0.996)
        losses.append(loss.item())
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    print(f"loss {first:.3f} -> {last:.3f}; it says nothing yet about what was learned")
    return last / first


if __name__ == "__main__":
    main()
