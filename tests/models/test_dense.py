"""Dense heads: what they compute, by hand; files that fit completely or not at all."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import clip, randomise, tiny_config
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigError,
    DtypeError,
    LabelError,
    ShapeError,
)
from vjepa2.models.dense import DenseHead, DenseHeadConfig, FeatureSource
from vjepa2.models.dense_losses import distance_loss, pixel_loss
from vjepa2.models.still_images import image_maps, image_tokens, still_clips
from vjepa2.models.vjepa2 import VJEPA2Model

SEGMENTATION = DenseHeadConfig(task="segmentation", width=6, class_names=("a", "b", "c"))
DEPTH = DenseHeadConfig(task="depth", width=6, num_bins=5, least_distance=1, greatest_distance=5)


# -- still images ---------------------------------------------------------------------------


def test_v2_sees_a_clip_that_stands_still() -> None:
    model = randomise(VJEPA2Model(tiny_config())).eval()
    images = clip(model.config, frames=1, height=24, width=40)[:, 0]
    with torch.no_grad():
        [tokens] = image_tokens(model.encoder, images, num_frames=6)
        expected = model.get_vision_features(images[:, None].repeat(1, 6, 1, 1, 1))
        maps = image_maps(model.encoder, images, num_frames=6)
    assert torch.equal(tokens, expected)
    assert maps.shape == (2, 32, 3, 5)
    by_hand = expected.reshape(2, 3, 3, 5, 32).mean(dim=1)
    assert torch.allclose(maps[1, :, 2, 3], by_hand[1, 2, 3], atol=1e-6)
    assert still_clips(images, model.config).shape[1] == 16


def test_v2_1_sees_an_image_through_its_tokenizer() -> None:
    config = tiny_config(model_type="vjepa2_1", hierarchical_layers=[0, 1])
    model = randomise(VJEPA2Model(config)).eval()
    images = clip(config, frames=1, height=24, width=40)[:, 0]
    with torch.no_grad():
        levels = image_tokens(model.encoder, images, output_levels=[0, 1])
        maps = image_maps(model.encoder, images, output_levels=[0, 1])
        repeated = image_tokens(model.encoder, images, num_frames=2)
        encoded = model.encoder(images[:, None], output_levels=[0, 1])
    assert [level.shape for level in levels] == [(2, 15, 32)] * 2
    assert torch.equal(levels[1], encoded.level_hidden_states[1])
    assert torch.equal(maps[0, 32:, 1, 4], levels[1][0, 1 * 5 + 4])
    assert not torch.allclose(repeated[0], levels[1], atol=1e-2)
    with pytest.raises(ShapeError, match="Add the batch axis"):
        still_clips(images[0], config)


# -- heads ----------------------------------------------------------------------------------


def test_scores_are_linear_in_normed_features() -> None:
    head = DenseHead(SEGMENTATION)
    maps = [torch.randn(6, 2, 3), torch.randn(6, 4, 1)]
    tokens = torch.cat([one.flatten(1).T for one in maps])
    head.train()
    scores = head(maps)
    mean, spread = tokens.mean(dim=0), tokens.var(dim=0, unbiased=False)
    normed = (tokens - mean) / (spread + 1e-5).sqrt()
    expected = normed @ head.linear.weight.T + head.linear.bias
    assert torch.allclose(scores[0][:, 1, 2], expected[5], atol=1e-5)
    assert torch.allclose(scores[1][:, 3, 0], expected[9], atol=1e-5)


def test_classes_at_pixels_of_any_size() -> None:
    head = DenseHead(SEGMENTATION.model_copy(update={"norm": "none"})).eval()
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(3, 6))
    map_ = torch.zeros(6, 2, 2)
    map_[0, 0], map_[1, 1, 0], map_[2, 1, 1] = 1, 1, 1
    said = head.predict(map_, size=(5, 7))
    assert said.shape == (5, 7)
    assert said[0].tolist() == [0] * 7
    assert said[4].tolist()[:3] == [1] * 3
    assert said[4].tolist()[-3:] == [2] * 3


def test_distances_are_weighted_bins_by_hand() -> None:
    head = DenseHead(DEPTH.model_copy(update={"norm": "none"})).eval()
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.tensor([-7.0, 0.9, 0, 3.9, -1]))
    # Weights 0.1, 1.0, 0.1, 4.0, 0.1 of the distances 1, 2, 3, 4, 5.
    expected = (0.1 * 1 + 1 * 2 + 0.1 * 3 + 4 * 4 + 0.1 * 5) / 5.3
    assert head.predict(torch.randn(6, 2, 3), size=(9, 11)) == pytest.approx(
        torch.full((9, 11), expected)
    )


def test_logarithmic_distances_stay_within_the_range() -> None:
    config = DEPTH.model_copy(update={"distances": "log", "norm": "layer"})
    head = DenseHead(config).eval()
    assert torch.allclose(
        head.predict(torch.zeros(6, 2, 2), size=(3, 3)), torch.full((3, 3), math.sqrt(5))
    )
    with torch.no_grad():
        head.linear.bias.fill_(100)
    assert head.predict(torch.zeros(6, 2, 2), size=(3, 3)).max() == pytest.approx(5)


def test_refusals_of_heads() -> None:
    head = DenseHead(SEGMENTATION)
    with pytest.raises(ConfigError, match="training mode"):
        head.predict(torch.zeros(6, 2, 2), size=(4, 4))
    with pytest.raises(ShapeError, match=r"reads \[6, h, w\]"):
        head([torch.zeros(5, 2, 2)])
    with pytest.raises(DtypeError, match="NaN"):
        head([torch.full((6, 2, 2), math.nan)])
    with pytest.raises(ShapeError, match="no maps"):
        head([])
    with pytest.raises(ConfigError, match="two or more different names"):
        DenseHeadConfig(task="segmentation", width=4, class_names=("only",))
    with pytest.raises(ConfigError, match="number of class 'b'"):
        SEGMENTATION.override(["ignored_class=1"])
    with pytest.raises(ConfigError, match="must be below"):
        DEPTH.override(["least_distance=9"])
    with pytest.raises(ConfigError, match=r"levels=\(3,\); these have levels=\(\)"):
        FeatureSource(levels=(3,)).check_same(FeatureSource())


# -- losses ---------------------------------------------------------------------------------


def test_pixel_loss_by_hand() -> None:
    scores = torch.tensor([[[2.0, 0.0, 9.0]], [[0.0, 1.0, -4.0]]])
    target = torch.tensor([[0, 0, 255]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert float(pixel_loss(scores, target, ignored=255)) == pytest.approx(expected)
    assert float(pixel_loss(scores, target * 0 + 255, ignored=255)) == 0


def test_distance_loss_by_hand() -> None:
    true = torch.tensor([[1.0, 2.0, 0.0], [4.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    said = true.clone()
    said[0, 0] = 2.0
    said[:, 2] = 3.0  # nothing is known there
    g = math.log(2.001) - math.log(1.001)
    numbers = [g, 0, 0, 0, 0, 0]
    mean = sum(numbers) / 6
    var = sum((x - mean) ** 2 for x in numbers) / 5
    expected = math.sqrt(var + 0.15 * mean**2)
    assert float(distance_loss(said, true, gradient_weight=0)) == pytest.approx(expected)
    only_mean = distance_loss(said, true, gradient_weight=0, only_mean=True)
    assert float(only_mean) == pytest.approx(math.sqrt(0.15) * mean)
    # Of pixels two apart only the first column's ends differ, at spacing 1 of 6 known pixels.
    assert float(distance_loss(said, true)) == pytest.approx(expected + 0.5 * g / 6)
    with pytest.raises(LabelError, match="Fewer than two"):
        distance_loss(said, true * 0)


def test_distance_loss_has_slopes_everywhere() -> None:
    said = torch.ones(4, 4, requires_grad=True)
    distance_loss(said, torch.ones(4, 4)).backward()
    assert said.grad is not None
    assert said.grad.isfinite().all()


def test_distance_loss_ignores_a_common_factor_but_for_its_share() -> None:
    true = torch.rand(8, 8) + 1
    assert float(distance_loss(true * 3, true, gradient_weight=0)) == pytest.approx(
        math.sqrt(0.15) * math.log(3), rel=1e-3
    )


# -- files ----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DenseHead]:
    head = randomise(DenseHead(SEGMENTATION)).train()
    head([torch.randn(6, 4, 4)])  # statistics of BatchNorm
    head.save_pretrained(tmp_path)
    return tmp_path, head


def test_a_saved_head_says_the_same(saved: tuple[Path, DenseHead]) -> None:
    folder, head = saved
    again = DenseHead.from_pretrained(folder)
    map_ = torch.randn(6, 3, 5)
    assert torch.equal(again([map_])[0], head.eval()([map_])[0])
    assert again.config == head.config
    assert not again.training


def test_heads_load_completely_or_not_at_all(saved: tuple[Path, DenseHead]) -> None:
    folder, _ = saved
    path = folder / "dense_head.safetensors"
    good = load_file(path)
    for change, message in (
        ({"linear.bias": None}, "linear.bias"),
        ({"more": torch.ones(2)}, "more"),
        ({"linear.weight": torch.ones(3, 7)}, r"\[3, 7\]"),
        ({"norm.running_var": torch.ones(6).half()}, "float16"),
    ):
        save_file({n: t for n, t in {**good, **change}.items() if t is not None}, path)
        with pytest.raises(CheckpointMismatchError, match=message):
            DenseHead.from_pretrained(folder)
    save_file({**good, "linear.bias": torch.full((3,), math.inf)}, path)
    with pytest.raises(CheckpointFormatError, match="NaN or infinity"):
        DenseHead.from_pretrained(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointFormatError):
        DenseHead.from_pretrained(folder)


def test_damaged_configurations(saved: tuple[Path, DenseHead]) -> None:
    folder, _ = saved
    path = folder / "dense_head.json"
    values = json.loads(path.read_text())
    for text, message in (
        ("{", "no JSON"),
        ("[1]", "one JSON object"),
        (json.dumps({**values, "wide": 3}), "Did you mean 'width'"),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointFormatError, match=message):
            DenseHead.from_pretrained(folder)
    path.unlink()
    with pytest.raises(CheckpointNotFoundError):
        DenseHead.from_pretrained(folder)
