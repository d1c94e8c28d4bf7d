"""The recipes of probes hold the published numbers, and a run is told from words."""

from pathlib import Path

import pytest

from tiny_finetuning import write_encoder
from vjepa2.data.views import TrainViewConfig
from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.files import write_json
from vjepa2.recipes.probe import describe_recipes, recipes, run_config
from vjepa2.tasks.probe_config import AttentiveProbeConfig, ProbeScheduleConfig

VIDEO_LRS, VIDEO_DECAYS = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8)
# frames, segments, views, step, batch, epochs, heads (table of the paper's appendix and configs)
PUBLISHED = {
    "ssv2": (16, 2, 3, 4, 256, 20, 20),
    "ssv2_384": (64, 2, 3, 2, 256, 20, 20),
    "kinetics": (16, 8, 3, 4, 256, 20, 20),
    "coin": (16, 8, 3, 4, 128, 20, 20),
    "diving48": (32, 4, 3, 2, 128, 100, 3),
    "jester": (32, 4, 3, 2, 128, 100, 3),
    "imagenet": (16, 1, 1, None, 1024, 20, 20),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name: str) -> None:
    config = recipes()[name]()
    views, heads = config.views, config.heads
    assert PUBLISHED[name] == (
        views.num_frames,
        views.num_segments,
        views.num_views,
        views.frame_step,
        config.batch_size,
        config.schedule.epochs,
        len(heads.rates),
    )
    assert (heads.depth, heads.num_heads, heads.layer_norm_eps, heads.decay) == (4, 16, 1e-5, "all")
    assert config.augment == TrainViewConfig() and config.augment.flip == 0
    assert config.schedule.final_lr == 0
    assert views.crop_size == (384 if name == "ssv2_384" else 256)
    if name in ("ssv2", "kinetics", "coin"):
        assert (heads.lrs, heads.weight_decays) == (VIDEO_LRS, VIDEO_DECAYS)
    if name in ("diving48", "jester"):
        assert (heads.lrs, heads.weight_decays) == ((1e-3, 3e-4, 1e-4), (0.8,))
        assert heads.levels == (17, 19, 21, 23)


def test_learning_rates_follow_the_published_formula() -> None:
    plain = ProbeScheduleConfig(epochs=20)
    assert plain.lr(1e-3, 0, per_epoch=10) == pytest.approx(1e-3, rel=1e-3)
    assert plain.lr(1e-3, 99, per_epoch=10) == pytest.approx(5e-4)
    assert plain.lr(1e-3, 199, per_epoch=10) == 0
    warm = recipes()["imagenet"]().schedule
    rates = [warm.lr(1e-3, step, per_epoch=10) for step in range(200)]
    assert rates[0] == pytest.approx(2e-4 + (1e-3 - 2e-4) / 50)
    assert max(rates) == rates[49] == pytest.approx(1e-3)
    assert rates[-1] == 0


def test_recipes_are_described() -> None:
    described = describe_recipes()
    assert {*PUBLISHED, "small", "imagenet_v2", "imagenet_v2_1"} == set(described)
    assert all(described.values())
    for name, recipe in recipes().items():
        assert recipe().recipe == name


def test_recipes_of_still_images_are_reached_by_name(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    config = run_config(run, train="t", val="v", model="m", recipe="imagenet_v2_1")
    assert (config.views.num_frames, config.views.images) == (1, "frame")
    assert Path(str(config.data.train)).is_absolute()
    with pytest.raises(ConfigError, match="imagenet_v2_1"):
        run_config(run, train="t", recipe="imagenet_v2.1")


def test_the_small_recipe_takes_the_clips_of_the_model(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    config = run_config(tmp_path / "run", train="t", val="v", model=str(encoder))
    assert (config.views.num_frames, config.views.crop_size) == (4, 32)
    assert config.recipe == "small" and Path(str(config.data.train)).is_absolute()
    changed = run_config(
        tmp_path / "run", train="t", model=str(encoder), settings=["views.num_frames=6"]
    )
    assert changed.views.num_frames == 6


def test_a_run_goes_on_with_its_own_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run in"):
        run_config(tmp_path)
    own = AttentiveProbeConfig(seed=7)
    write_json(tmp_path / "config.json", own.model_dump(mode="json"))
    assert run_config(tmp_path) == own
    assert run_config(tmp_path, settings=["device=cpu"]).device == "cpu"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (["heads.dept=2"], UnknownOptionError, "depth"),
        (["heads.depth=5"], ConfigError, "heads.depth"),
        (["heads.lrs=[]"], ConfigError, "lrs"),
        (["heads.lrs=[0.1,0.1]"], ConfigError, "twice"),
        (["heads.weight_decays=[-1]"], ConfigError, "0 or more"),
        (["heads.levels=[3,1]"], ConfigError, "rising"),
        (["cache.versions=2"], ConfigError, "needs augment"),
        (["schedule.warmup_epochs=30"], ConfigError, "more than the run"),
        (["views.moment=random"], ConfigError, "frame_step"),
    ],
)
def test_wrong_settings_are_named(settings: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run_config("nowhere", recipe="small", settings=settings)
