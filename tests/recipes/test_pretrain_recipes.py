"""Recipes are the published numbers, and every one makes a network."""

import pytest
import torch

from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.models.presets import get_preset
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.pretrain import describe_recipes, get_recipe, recipes, run_config
from vjepa2.tasks.pretrain_config import PretrainConfig


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_complete_but_for_what_users_give(name: str) -> None:
    config = get_recipe(name)
    assert config.recipe == name
    assert describe_recipes()[name].endswith(".")
    changes = ['data.sources=[{"path": "videos", "fps": 4}]']
    if config.network is None:
        changes.append("start_from=vjepa2-vitl")
    if config.images is not None:
        changes.append('images.data.sources=[{"path": "images", "kind": "image"}]')
    config.override(changes).check_complete()
    with pytest.raises(ConfigError, match=r"nothing to learn from|set start_from"):
        config.check_complete()


@pytest.mark.parametrize(
    ("recipe", "preset"),
    [
        ("vitl_pretrain", "vjepa2-vitl"),
        ("vith_pretrain", "vjepa2-vith"),
        ("vitg_pretrain", "vjepa2-vitg"),
        ("vjepa21_vitg_pretrain", "vjepa2.1-vitg-384"),
        ("vjepa21_vitG_pretrain", "vjepa2.1-vitG-384"),
        ("vjepa21_vitl_distilled", "vjepa2.1-vitl-384"),
        ("vjepa21_vitb_distilled", "vjepa2.1-vitb-384"),
    ],
)
def test_networks_have_the_published_number_of_parameters(recipe: str, preset: str) -> None:
    config = get_recipe(recipe)
    assert config.network is not None
    network = config.network.network(crop_size=256, num_frames=16)
    with torch.device("meta"):
        model = VJEPA2Model(network)
    wanted = get_preset(preset).num_parameters
    for part in ("encoder", "predictor"):
        count = sum(value.numel() for value in getattr(model, part).parameters())
        assert count == wanted[part], part


@pytest.mark.parametrize("recipe", ["vitl_pretrain", "vitg_pretrain"])
def test_published_pretraining(recipe: str) -> None:
    """Specification of the runs: warm-up 12,000 of 240,000 updates, then constant."""
    config = get_recipe(recipe)
    schedule = config.schedule
    clip = config.clip
    assert (clip.num_frames, clip.crop_size, clip.batch_size) == (16, 256, 3072)
    assert schedule.warmup_steps == 12_000
    assert schedule.rates(0).lr == pytest.approx(1e-4 + (5.25e-4 - 1e-4) / 12_000)
    assert schedule.rates(239_999).lr == pytest.approx(5.25e-4)
    assert schedule.rates(5).weight_decay == 0.04
    assert schedule.rates(5).momentum == 0.99925
    assert [(mask.num_blocks, mask.spatial_scale[0]) for mask in config.masks] == [
        (8, 0.15),
        (2, 0.7),
    ]


@pytest.mark.parametrize(
    ("recipe", "mode", "last"),
    [
        ("vitl_cooldown", "paper", 1e-6),
        ("vitl_cooldown", "published_config", 1.058e-4),
        ("vjepa21_vitg_cooldown", "published_config", 1.208e-4),
    ],
)
def test_the_cool_down_ends_where_the_mode_says(recipe: str, mode: str, last: float) -> None:
    schedule = get_recipe(recipe, mode=mode).schedule
    assert schedule.num_steps == 12_000
    assert schedule.rates(11_999).lr == pytest.approx(last, rel=1e-3)


def test_2_1_differs_between_paper_and_configuration() -> None:
    paper, files = (
        get_recipe("vjepa21_vitl_pretrain", mode=mode) for mode in ("paper", "published_config")
    )
    assert (paper.schedule.num_steps, files.schedule.num_steps) == (135_000, 300_000)
    assert (paper.schedule.lr, files.schedule.lr) == (5.25e-4, 6e-4)
    assert (paper.clip.batch_size, files.clip.batch_size) == (128, 3072)
    assert (paper.images.batch_size, paper.images.context_weight) == (2304, 0.7)
    assert files.images.context_weight == 0.5
    for config in (paper, files):
        rise = [share * config.schedule.num_steps for share in config.objective.context_rise]
        assert rise == pytest.approx([15_000, 30_000])


def test_channels_go_through_network_and_normalisation() -> None:
    for name, channels in (("satellite_12_bands", 12), ("ultrasound", 1)):
        config = get_recipe(name)
        assert config.network.in_chans == config.augment.num_channels == channels


def test_wrong_names_and_modes() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'tiny_cpu'"):
        get_recipe("tiny_cpus")
    with pytest.raises(ConfigError, match="no mode"):
        get_recipe("tiny_cpu", mode="paper")
    with pytest.raises(ConfigError, match="Did you mean 'paper'"):
        get_recipe("vitl_pretrain", mode="papers")


def test_a_run_without_recipe_or_folder(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="Name a recipe"):
        run_config(str(tmp_path))
    with pytest.raises(ConfigError, match="name the recipe"):
        run_config(str(tmp_path), mode="paper")
    with pytest.raises(ConfigError, match="empty"):
        run_config("", recipe="tiny_cpu")
    changed = run_config(
        str(tmp_path), recipe="tiny_cpu", data=["a", "b"], settings=["schedule.num_steps=20"]
    )
    assert isinstance(changed, PretrainConfig)
    assert [source.path for source in changed.data.sources] == ["a", "b"]
    assert [source.fps for source in changed.data.sources] == [8.0, 8.0]
    assert changed.schedule.num_steps == 20
