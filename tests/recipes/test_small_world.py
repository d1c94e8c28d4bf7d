"""The recipe of the small world runs on the videos it is made for, and gives its encoder."""

from pathlib import Path

import torch

from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.pretrain import run_config
from vjepa2.tasks.pretrain import pretrain
from vjepa2.video.synthetic_world_files import file_world, write_world_videos


def test_generated_videos_train_the_small_encoder(tmp_path: Path) -> None:
    world = file_world(seconds=3.0, size=(64, 64))
    videos = write_world_videos(tmp_path / "videos", count=8, seed=0, config=world, quiet=True)
    settings = (
        "schedule.num_steps=2", "clip.batch_size=2", "data.workers=0", "health.num_clips=2",
        "health.every=2", "runtime.device=cpu",
    )  # fmt: skip
    config = run_config(
        tmp_path / "run", data=[str(videos)], recipe="small_world", settings=settings
    )
    pretrain(config, tmp_path / "run", quiet=True)
    model = VJEPA2Model.from_pretrained(tmp_path / "run" / "model")
    tokens = model.get_vision_features(torch.zeros(1, 16, 3, 48, 48))
    assert tokens.shape == (1, 64, 128)
    # ViT blocks of 12 D^2 + 13 D numbers, patches of 12 x 12 x 4 x 3 numbers.
    blocks = 4 * (12 * 128**2 + 13 * 128)
    counted = sum(p.numel() for n, p in model.encoder.named_parameters() if n.startswith("layer."))
    assert counted == blocks
    assert model.encoder.embeddings.patch_embeddings.proj.weight.numel() == 128 * 12 * 12 * 4 * 3
