"""Recipes for still images hold the published numbers."""

import pytest

from vjepa2.errors import ConfigError
from vjepa2.recipes import image_probe


def test_imagenet_is_as_published() -> None:
    config = image_probe.imagenet_v2("g")
    assert (config.views.num_frames, config.views.images) == (18, "clip")
    assert image_probe.imagenet_v2().views.num_frames == 16
    assert sorted(config.heads.lrs) == [5e-4, 1e-3, 1.5e-3, 2e-3]
    assert sorted(config.heads.weight_decays) == [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    assert (config.schedule.epochs, config.schedule.warmup_epochs) == (20, 5)
    assert (config.schedule.start_lr, config.schedule.final_lr) == (2e-4, 0)
    assert (config.batch_size, config.heads.depth, len(config.heads.rates)) == (1024, 4, 20)
    assert config.augment is not None
    assert (config.augment.flip, config.augment.rand_augment) == (0.5, "autoaugment-imagenet")
    with pytest.raises(ConfigError, match="size"):
        image_probe.imagenet_v2("XL")  # type: ignore[arg-type]


def test_v2_1_sees_single_frames() -> None:
    config = image_probe.imagenet_v2_1(crop_size=512)
    assert (config.views.num_frames, config.views.images) == (1, "frame")
    assert config.views.crop_size == 512
    assert config.heads == image_probe.imagenet_v2().heads


def test_dense_recipes_are_as_published() -> None:
    ade, cityscapes = image_probe.ade20k(), image_probe.cityscapes()
    assert (len(ade.pairs), ade.sizes, cityscapes.sizes) == (12, (512,), (1024,))
    assert (1.5e-3, 0.1) in ade.pairs
    assert (8e-5, 1e-4) in ade.pairs
    assert image_probe.voc() == ade
    nyu, kitti = image_probe.nyu_depth(), image_probe.kitti_depth()
    assert (len(nyu.pairs), nyu.num_bins, nyu.distances, nyu.norm) == (14, 256, "bins", "batch")
    assert (3e-5, 1e-4) in nyu.pairs
    assert (nyu.least_distance, nyu.greatest_distance, kitti.greatest_distance) == (1e-3, 10, 80)


def test_davis_is_the_default_of_propagation() -> None:
    config = image_probe.davis()
    assert config == image_probe.PropagationConfig()
    assert (config.context_frames, config.radius, config.top_k, config.temperature) == (
        15, 12, 5, 0.2,
    )  # fmt: skip
