"""Settings that contradict each other are refused before any work."""

import pytest

from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import ConfigError, UnknownOptionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of fps, frame_step and duration_seconds"),
        ({"fps": 4, "frame_step": 2}, "got fps=4 and frame_step=2"),
        ({"fps": 4, "kind": "image"}, "fps=4 has no effect on still images"),
        ({"fps": 2.5, "rule": "published"}, "set fps to an integer"),
        ({"frame_step": 2, "rule": "published"}, "set fps to an integer"),
        ({"fps": 0}, "fps"),
        ({"fps": 4, "weight": 0}, "weight"),
        ({"fps": 4, "kind": "vidoe"}, "kind"),
    ],
)
def test_a_source(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceConfig(path="clips", **options)


def test_a_set() -> None:
    one = SourceConfig(path="a", fps=4, weight=2.0)
    other = SourceConfig(path="b", fps=4)
    with pytest.raises(ConfigError, match="given for 1 of 2 sources"):
        DataConfig(sources=(one, other))
    with pytest.raises(ConfigError, match="no effect with order='epochs'"):
        DataConfig(sources=(one,), order="epochs")
    assert DataConfig(sources=(other,)).sources[0].fps == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5,)}, "mean has 1 numbers and std 3"),
        ({"mean": (0.5,), "std": (0.0,)}, "std must be above 0"),
        ({"scale": (0.9, 0.3)}, "scale must be two rising numbers"),
        ({"ratio": (0.0, 1.0)}, "ratio must be two rising numbers"),
        ({"crop": "center"}, "set flip to 0"),
    ],
)
def test_augmentation(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**options)


def test_settings_are_changed_by_name_and_survive_json() -> None:
    config = DataConfig(sources=(SourceConfig(path="a", fps=4),))
    changed = config.override(["workers=2", "sources.0.fps=8", "order=epochs"])
    assert (changed.workers, changed.sources[0].fps, changed.order) == (2, 8.0, "epochs")
    assert DataConfig(**changed.model_dump(mode="json")) == changed
    with pytest.raises(UnknownOptionError, match="Did you mean 'workers'"):
        config.override(["worker=2"])
    evaluation = AugmentConfig(mean=(0.5,), std=(0.2,)).evaluation()
    assert (evaluation.crop, evaluation.flip, evaluation.mean) == ("center", 0.0, (0.5,))
