"""Folders of still images are classified: as an image, and as a clip that stands still."""

from pathlib import Path

import pytest
import torch

from tiny_models import tiny_config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.init import init_weights
from vjepa2.recipes.image_probe import imagenet_v2, imagenet_v2_1
from vjepa2.tasks.probe import probe
from vjepa2.tasks.probe_config import AttentiveProbeConfig, with_sources
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.synthetic_world_labels import make_labelled_clips
from vjepa2.video.synthetic_world_scene import WorldConfig

# Odd sizes; one object, which is darker or brighter than the background.
WORLD = WorldConfig(
    num_frames=2, size=(37, 51), max_objects=1, count=(1, 1), occluder_share=0, camera_share=0
)
CHANGES = (
    "heads.depth=1",
    "heads.num_heads=2",
    "heads.initializer_range=0.1",
    "heads.lrs=[0.01]",
    "heads.weight_decays=[0.001]",
    "schedule.epochs=10",
    "schedule.warmup_epochs=1",
    "views.crop_size=32",
    "data.workers=0",
    "augment=null",
    "cache.use=true",
    "batch_size=8",
    "dtype=float32",
)


def write_images(folder: Path, *, seed: int, count: int) -> Path:
    image = pytest.importorskip("PIL.Image")
    clips = make_labelled_clips(WORLD, seed=seed, numbers=range(count), classes="brightness")
    for number in range(count):
        label = clips.class_names[int(clips.classes[number, 0].max())]
        (folder / label).mkdir(parents=True, exist_ok=True)
        pixels = clips.frames[number, 0].permute(1, 2, 0).numpy()
        image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize("variant", ["vjepa2", "vjepa2_1"])
def test_images_are_classified_in_the_way_of_the_encoder(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"model_type": variant}
    if variant == "vjepa2_1":
        fields["hierarchical_layers"] = [0, 1]  # type: ignore[assignment]
    model = VJEPA2Model(tiny_config(**fields))
    init_weights(model, std=0.1, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "encoder")
    VJEPA2VideoProcessor(crop_size=32).save_pretrained(tmp_path / "encoder")
    published = imagenet_v2() if variant == "vjepa2" else imagenet_v2_1()
    config: AttentiveProbeConfig = with_sources(
        published.override(CHANGES),
        train=str(write_images(tmp_path / "train", seed=0, count=32)),
        val=str(write_images(tmp_path / "val", seed=1, count=16)),
        model=str(tmp_path / "encoder"),
    )
    frames: set[int] = set()
    forward = type(model.encoder).forward

    def watched(self: object, pixels: torch.Tensor, *rest: object, **options: object) -> object:
        frames.add(pixels.shape[1])
        return forward(self, pixels, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.encoder), "forward", watched)
    result = probe(config, tmp_path / "run", quiet=True).results
    assert frames == {16 if variant == "vjepa2" else 1}
    assert result["best"]["top1"] > result["baselines"]["val"]["majority"] + 0.1
