"""Recipes are the published numbers, and every one makes a network."""

from pathlib import Path

import pytest
import torch

from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.masking import Masks
from vjepa2.models.presets import get_preset
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.pretrain import describe_recipes, get_recipe, recipes, run_config
from vjepa2.tasks.masked_prediction import target_tokens
from vjepa2.tasks.pretrain_config import NetworkConfig, PretrainConfig
from vjepa2.tasks.pretrain_export import finished_model, save_finished_model
from vjepa2.tasks.pretrain_networks import make_networks


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


@pytest.mark.parametrize(
    ("recipe", "nodes", "clips", "images"),
    [
        ("vjepa21_vitb_pretrain", 8, 48, 144),
        ("vjepa21_vitl_pretrain", 16, 24, 72),
        ("vjepa21_vitg_pretrain", 16, 24, 72),
        ("vjepa21_vitG_pretrain", 32, 12, 36),
        ("vjepa21_vitb_cooldown", 16, 24, 144),
        ("vjepa21_vitl_cooldown", 32, 12, 72),
        ("vjepa21_vitg_cooldown", 32, 12, 72),
        ("vjepa21_vitG_cooldown", 64, 6, 36),
    ],
)
def test_published_gpus_share_clips_and_images(
    recipe: str, nodes: int, clips: int, images: int
) -> None:
    """Nodes of 8 GPUs, half of them with images; the other half holds the whole batch of clips."""
    config = get_recipe(recipe, mode="published_config")
    gpus = 8 * nodes
    assert config.clip.batch_size == gpus * clips == 3072
    assert config.clip.micro_batch == gpus * clips // (gpus // 2)
    assert config.images is not None
    assert config.images.batch_size == gpus // 2 * images
    assert config.images.micro_batch == images
    # Half as many processes, each with both, make one micro-batch of either.
    assert config.images.batch_size // images == 3072 // config.clip.micro_batch == gpus // 2


@pytest.mark.parametrize("recipe", [name for name in recipes() if name.startswith("vjepa21_")])
def test_updates_of_the_paper_are_shared_by_64_processes(recipe: str) -> None:
    config = get_recipe(recipe)
    assert config.images is not None
    assert config.clip.batch_size // config.clip.micro_batch == 64
    assert config.images.batch_size // config.images.micro_batch == 64


def test_image_batches_of_the_configuration_files() -> None:
    found = {
        name: get_recipe(name, mode="published_config").images.batch_size
        for name in (
            "vjepa21_vitl_pretrain",
            "vjepa21_vitG_pretrain",
            "vjepa21_vitg_cooldown",
            "vjepa21_vitG_cooldown",
        )
    }
    assert list(found.values()) == [4608, 4608, 9216, 9216]


@pytest.mark.parametrize("size", ["b", "l"])
def test_distillation_has_two_parts(size: str) -> None:
    """Paper, section 3: the same schedules, and a short anneal on long, large clips."""
    first = get_recipe(f"vjepa21_vit{size}_distilled")
    second = get_recipe(f"vjepa21_vit{size}_distilled_anneal")
    assert (first.clip.num_frames, first.clip.crop_size, first.images.crop_size) == (16, 256, 256)
    assert (second.clip.num_frames, second.clip.crop_size, second.images.crop_size) == (
        64,
        384,
        512,
    )
    assert first.cooldown_clip is second.cooldown_clip is second.network is None
    assert first.schedule.num_steps == 135_000
    assert first.schedule.rates(134_999).lr == pytest.approx(5.25e-4)
    assert second.schedule.rates(0).lr == pytest.approx(6e-4, rel=1e-3)
    assert second.schedule.rates(second.schedule.num_steps - 1).lr == pytest.approx(1e-6)
    assert first.objective.context_rise is not None
    assert second.objective.context_rise is None
    for config in (first, second):
        assert config.objective.teacher == "vjepa2.1-vitG-384"
        assert (config.objective.context_weight, config.images.context_weight) == (0.5, 0.7)


def test_the_second_part_of_a_distillation_starts_from_the_average(tmp_path: Path) -> None:
    tiny = {"hidden_size": 48, "num_layers": 4, "num_heads": 2, "levels": [0, 1, 2, 3]}
    teacher = NetworkConfig(
        variant="vjepa2_1", pred_hidden_size=24, pred_num_layers=1, pred_num_heads=2, **tiny
    ).network(crop_size=32, num_frames=2)
    VJEPA2Model(teacher).save_pretrained(tmp_path / "teacher")
    first = get_recipe("vjepa21_vitb_distilled").override(
        [
            "network.hidden_size=24",
            "network.num_layers=2",
            "network.num_heads=2",
            "network.levels=[0, 1]",
            "network.pred_hidden_size=24",
            "network.pred_num_layers=1",
            "network.pred_num_heads=2",
            "network.pred_output_size=48",
            f"objective.teacher={tmp_path / 'teacher'}",
        ]
    )
    networks = make_networks(first)
    for value in networks.average.parameters():
        value.data.add_(0.5)  # as if it had moved otherwise than the student
    average, predictor = networks.average.state_dict(), networks.student.predictor.state_dict()
    model = finished_model(networks.student.encoder.config, average, predictor, clip=first.clip)
    save_finished_model(model, tmp_path / "model", clip=first.clip, augment=first.augment)

    second = get_recipe("vjepa21_vitb_distilled_anneal").override(
        [f"start_from={tmp_path / 'model'}", f"objective.teacher={tmp_path / 'teacher'}"]
    )
    found = make_networks(second)
    network = found.student.encoder.config
    assert (network.pred_num_levels, network.pred_output_size) == (1, 48)
    assert found.distils
    for part, wanted in (
        (found.student.encoder, average),
        (found.average, average),
        (found.student.predictor, predictor),
    ):
        torch.testing.assert_close(dict(part.state_dict()), dict(wanted), rtol=0, atol=0)
    pixels = torch.randn(1, 4, 3, 32, 32)
    targets = target_tokens(found.target, pixels, several_levels=bool(found.student.levels))
    assert found.student.predict_hidden(
        pixels, Masks(torch.arange(4)[None], torch.arange(4, 8)[None])
    ).shape == (1, 4, targets.shape[-1])


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
    # Absolute, so that the run goes on from any folder.
    assert [source.path for source in changed.data.sources] == [
        str(Path.cwd() / name) for name in ("a", "b")
    ]
    with pytest.raises(ConfigError, match="give one of them"):
        run_config(str(tmp_path), recipe="tiny_cpu", data=["a"], settings=["data.sources=[]"])
    assert [source.fps for source in changed.data.sources] == [8.0, 8.0]
    assert changed.schedule.num_steps == 20
