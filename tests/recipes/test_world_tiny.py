"""The encoder inside the package that learned without labels is what its card says."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import vjepa2
from vjepa2.losses import normalised_targets
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.pretrain.world import small_world
from vjepa2.tasks.motion_clips import normalised
from vjepa2.tasks.scene_card import world_card
from vjepa2.video.synthetic_world import make_world_clips
from vjepa2.video.synthetic_world_scene import WorldConfig

FOLDER = Path(str(importlib.resources.files("vjepa2") / "assets" / "world-tiny"))


@pytest.fixture(scope="module")
def metrics() -> Any:
    return json.loads((FOLDER / "metrics.json").read_text())


@pytest.fixture(scope="module")
def model() -> VJEPA2Model:
    return VJEPA2Model.from_pretrained("world-tiny").float().eval()


def test_the_folder_is_small_and_in_half_precision() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 25_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_the_card_states_the_measured_numbers(metrics: Any) -> None:
    assert (FOLDER / "README.md").read_text() == world_card(metrics)


def test_it_is_the_recipes(model: VJEPA2Model, metrics: Any) -> None:
    recipe = small_world()
    assert recipe.network is not None
    expected = recipe.network.network(
        crop_size=recipe.clip.crop_size, num_frames=recipe.clip.num_frames
    )
    own, other = model.config.to_dict(), expected.to_dict()
    assert {name for name in other if own.get(name) != other[name]} <= {"dtype", "architectures"}
    training = metrics["training"]
    assert training["steps"] == recipe.schedule.num_steps
    assert training["batch"] == recipe.clip.batch_size
    assert training["seed"] == recipe.seed
    assert training["num_parameters"] == model.num_parameters()


@torch.no_grad()
def test_hidden_tokens_are_predicted_better_than_by_their_mean(model: VJEPA2Model) -> None:
    """On fresh clips: the later half of every clip is hidden and predicted from the first."""
    config = model.config
    world = WorldConfig(size=(48, 48), num_frames=config.frames_per_clip, fps=6.0)
    pixels = normalised(make_world_clips(world, seed=31_337, numbers=range(32)).frames)
    grid = model.encoder.grid(pixels)
    ids = torch.arange(grid.num_tokens).expand(len(pixels), -1)
    half = grid.num_tokens // 2
    seen = model.encoder(pixels, keep_ids=ids[:, :half]).last_hidden_state
    predicted = model.predictor.predict(
        seen, ids[:, :half], ids[:, half:], grid=grid, mask_index=0
    ).last_hidden_state
    targets = normalised_targets(model.encoder(pixels).last_hidden_state)
    hidden = targets[:, half:]
    error = (predicted - hidden).abs().mean()
    by_mean = (targets.mean(dim=(0, 1)) - hidden).abs().mean()
    assert error < 0.8 * by_mean


def test_it_embeds_a_clip_by_its_name() -> None:
    clip = make_world_clips(
        WorldConfig(size=(64, 64), num_frames=16, fps=6.0), seed=1, numbers=[0]
    ).frames[0]
    [row] = vjepa2.embed(clip, model="world-tiny")
    assert row.embedding.shape == (128,)
