"""Presets: names, files, sizes and counts of everything that was published, written out again here.

The numbers below were typed from the published tables, not imported.
"""

from typing import TypeVar

import pytest
import torch
from torch import nn

from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.presets import (
    MODELS,
    PRESETS,
    PROBES,
    Preset,
    find_preset,
    get_preset,
    preset_names,
)
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model

Built = TypeVar("Built", bound=nn.Module)

# name: file, key, repository, width, depth, heads, hidden width of an MLP, crop
FILES = {
    "vjepa2-vitl": (
        ("vitl.pt", "target_encoder", "facebook/vjepa2-vitl-fpc64-256"),
        (1024, 24, 16, 4096, 256),
    ),
    "vjepa2-vith": (
        ("vith.pt", "target_encoder", "facebook/vjepa2-vith-fpc64-256"),
        (1280, 32, 16, 5120, 256),
    ),
    "vjepa2-vitg": (
        ("vitg.pt", "target_encoder", "facebook/vjepa2-vitg-fpc64-256"),
        (1408, 40, 22, 6144, 256),
    ),
    "vjepa2-vitg-384": (
        ("vitg-384.pt", "target_encoder", "facebook/vjepa2-vitg-fpc64-384"),
        (1408, 40, 22, 6144, 384),
    ),
    "vjepa2-ac-vitg": (("vjepa2-ac-vitg.pt", "encoder", None), (1408, 40, 22, 6144, 256)),
    "vjepa2.1-vitb-384": (
        ("vjepa2_1_vitb_dist_vitG_384.pt", "ema_encoder", None),
        (768, 12, 12, 3072, 384),
    ),
    "vjepa2.1-vitl-384": (
        ("vjepa2_1_vitl_dist_vitG_384.pt", "ema_encoder", None),
        (1024, 24, 16, 4096, 384),
    ),
    "vjepa2.1-vitg-384": (
        ("vjepa2_1_vitg_384.pt", "target_encoder", None),
        (1408, 40, 22, 6144, 384),
    ),
    "vjepa2.1-vitG-384": (
        ("vjepa2_1_vitG_384.pt", "target_encoder", None),
        (1664, 48, 26, 8192, 384),
    ),
    "vjepa2-vitl-ssv2": (
        ("evals/ssv2-vitl-16x2x3.pt", "classifiers[0]", "facebook/vjepa2-vitl-fpc16-256-ssv2"),
        (1024, 24, 16, 4096, 256),
    ),
    "vjepa2-vitg-384-ssv2": (
        ("evals/ssv2-vitg-384-64x2x3.pt", "classifiers[0]", "facebook/vjepa2-vitg-fpc64-384-ssv2"),
        (1408, 40, 22, 6144, 384),
    ),
    "vjepa2-vitl-diving48": (
        ("evals/diving48-vitl-256.pt", "classifiers[0]", "facebook/vjepa2-vitl-fpc32-256-diving48"),
        (1024, 24, 16, 4096, 256),
    ),
    "vjepa2-vitg-384-diving48": (
        (
            "evals/diving48-vitg-384-32x4x3.pt",
            "classifiers[0]",
            "facebook/vjepa2-vitg-fpc32-384-diving48",
        ),
        (1408, 40, 22, 6144, 384),
    ),
    "vjepa2-vitl-ek100": (
        ("evals/ek100-vitl-256.pt", "classifiers[0]", None),
        (1024, 24, 16, 4096, 256),
    ),
    "vjepa2-vitg-384-ek100": (
        ("evals/ek100-vitg-384.pt", "classifiers[0]", None),
        (1408, 40, 22, 6144, 384),
    ),
}
# parameters and tensors of the published file: encoder, predictor
COUNTS = {
    "vjepa2-vitl": ((303_885_312, 292), (22_086_016, 160)),
    "vjepa2-vith": ((631_648_000, 388), (22_282_880, 160)),
    "vjepa2-vitg": ((1_012_173_952, 484), (22_381_312, 160)),
    "vjepa2-vitg-384": ((1_012_173_952, 484), (22_381_312, 160)),
    "vjepa2-ac-vitg": ((1_012_173_952, 484), (305_220_992, 300)),
    "vjepa2.1-vitb-384": ((86_833_152, 158), (22_874_752, 162)),
    "vjepa2.1-vitl-384": ((304_680_960, 302), (22_973_056, 162)),
    "vjepa2.1-vitg-384": ((1_013_267_968, 494), (55_400_704, 308)),
    "vjepa2.1-vitG-384": ((1_845_216_768, 590), (59_433_472, 308)),
}
# width of the predictor, blocks, heads, mask tokens, levels read, width of one predicted level
PREDICTORS = {
    "vjepa2-vitl": (384, 12, 12, 10, 1, 1024),
    "vjepa2-vith": (384, 12, 12, 10, 1, 1280),
    "vjepa2-vitg": (384, 12, 12, 10, 1, 1408),
    "vjepa2-vitg-384": (384, 12, 12, 10, 1, 1408),
    "vjepa2.1-vitb-384": (384, 12, 12, 8, 1, 1664),
    "vjepa2.1-vitl-384": (384, 12, 12, 8, 1, 1664),
    "vjepa2.1-vitg-384": (384, 24, 12, 8, 4, 1408),
    "vjepa2.1-vitG-384": (384, 24, 12, 8, 4, 1664),
}
LEVELS = {
    "vjepa2.1-vitb-384": (2, 5, 8, 11),
    "vjepa2.1-vitl-384": (5, 11, 17, 23),
    "vjepa2.1-vitg-384": (9, 19, 29, 39),
    "vjepa2.1-vitG-384": (11, 23, 37, 47),
}
EVERY = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def test_there_are_exactly_the_published_names() -> None:
    assert preset_names() == tuple(FILES)
    assert len(set(preset_names())) == len(preset_names()) == 15
    assert all(preset.name == name for name, preset in PRESETS.items())


@EVERY
def test_file_key_and_repository_are_the_published_ones(preset: Preset) -> None:
    assert (preset.file, preset.key, preset.hub_name) == FILES[preset.name][0]


def test_no_file_stands_for_two_presets() -> None:
    assert len({preset.file for preset in PRESETS.values()}) == len(PRESETS)
    repositories = [preset.hub_name for preset in PRESETS.values() if preset.hub_name]
    assert len(set(repositories)) == len(repositories)


@EVERY
def test_configuration_has_the_published_size(preset: Preset) -> None:
    config = preset.to_config()
    width, depth, heads, mlp_width, crop = FILES[preset.name][1]
    assert config.hidden_size == width
    assert (config.num_hidden_layers, config.num_attention_heads) == (depth, heads)
    # The fraction is exact: cutting it to a whole number loses nothing.
    assert int(width * config.mlp_ratio) == mlp_width == width * config.mlp_ratio
    assert (config.patch_size, config.tubelet_size, config.crop_size) == (16, 2, crop)
    assert config.layer_norm_eps == 1e-6


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_predictor_has_the_published_size(name: str) -> None:
    config = get_preset(name).to_config()
    width, depth, heads, mask_tokens, levels, output = PREDICTORS[name]
    assert config.pred_hidden_size == width
    assert (config.pred_num_hidden_layers, config.pred_num_attention_heads) == (depth, heads)
    assert config.pred_num_mask_tokens == mask_tokens
    assert max(1, len(config.predictor_levels)) == levels
    assert (config.pred_output_size or config.hidden_size) == output
    assert config.frames_per_clip == 64


def test_the_action_predictor_has_the_published_size() -> None:
    config = get_preset("vjepa2-ac-vitg").to_config()
    assert config.model_type == "vjepa2_ac"
    assert (config.pred_hidden_size, config.pred_num_hidden_layers) == (1024, 24)
    assert config.pred_num_attention_heads == 16
    assert (config.action_size, config.state_size, config.extrinsics_size) == (7, 7, 6)


@EVERY
def test_the_family_follows_the_name(preset: Preset) -> None:
    config = preset.to_config()
    assert config.levels == LEVELS.get(preset.name, ())
    family = {"vjepa2.1": "vjepa2_1"}.get(preset.name.split("-")[0], "vjepa2")
    assert config.model_type == ("vjepa2_ac" if "-ac-" in preset.name else family)


@pytest.mark.parametrize("preset", PROBES.values(), ids=list(PROBES))
def test_a_probe_fits_its_encoder(preset: Preset) -> None:
    assert preset.kind == "probe"
    assert preset.probe_of is not None
    encoder = MODELS[preset.probe_of]
    own, its = preset.to_config(), encoder.to_config()
    for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio"):
        assert getattr(own, field) == getattr(its, field)
    assert own.crop_size == its.crop_size
    assert preset.name.startswith(preset.probe_of)
    assert (own.num_pooler_layers, own.pooler_heads, own.pooler_eps) == (3, 16, 1e-5)


PROBE_DATA = {
    # frames of a clip, classes, levels (0-based), parameters, tensors
    "vjepa2-vitl-ssv2": (16, 174, None, 49_514_670, 51),
    "vjepa2-vitg-384-ssv2": (64, 174, None, 93_494_190, 51),
    "vjepa2-vitl-diving48": (32, 48, [17, 19, 21, 23], None, 51),
    "vjepa2-vitg-384-diving48": (32, 48, [24, 29, 34, 39], None, 51),
    "vjepa2-vitl-ek100": (32, {"verb": 97, "noun": 300, "action": 3568}, None, None, 55),
    "vjepa2-vitg-384-ek100": (32, {"verb": 97, "noun": 300, "action": 3568}, None, None, 55),
}


@pytest.mark.parametrize("name", list(PROBE_DATA))
def test_probes_have_the_published_heads(name: str) -> None:
    preset = get_preset(name)
    config = preset.to_config()
    frames, classes, levels, parameters, tensors = PROBE_DATA[name]
    assert config.frames_per_clip == frames
    assert (config.head_sizes or config.num_labels) == classes
    assert config.pooler_levels == levels
    assert preset.num_tensors == {"probe": tensors}
    if parameters is not None:  # the two published counts
        assert preset.num_parameters == {"probe": parameters}


@pytest.mark.parametrize("name", list(PROBE_DATA))
def test_counts_of_probes_by_the_layers_they_consist_of(name: str) -> None:
    """Linear layers of width D cost D*D + D (bias); a norm costs 2D."""
    preset = get_preset(name)
    width = preset.to_config().hidden_size
    classes = PROBE_DATA[name][1]
    sizes = list(classes.values()) if isinstance(classes, dict) else [classes]
    linear = width * width + width
    mlp = (width * 4 * width + 4 * width) + (4 * width * width + width)
    self_block = 2 * width + 4 * linear + 2 * width + mlp
    cross_block = 2 * width + 3 * linear + 2 * width + mlp
    queries = len(sizes) * width
    heads = sum(size * width + size for size in sizes)
    assert preset.num_parameters == {"probe": 3 * self_block + cross_block + queries + heads}


@pytest.mark.parametrize("name", list(COUNTS))
def test_counts_are_the_published_ones(name: str) -> None:
    (encoder, encoder_tensors), (predictor, predictor_tensors) = COUNTS[name]
    preset = get_preset(name)
    assert preset.num_parameters == {"encoder": encoder, "predictor": predictor}
    assert preset.num_tensors == {"encoder": encoder_tensors, "predictor": predictor_tensors}


@EVERY
def test_results_say_where_they_stand(preset: Preset) -> None:
    assert bool(preset.results) == (preset.name != "vjepa2.1-vitb-384")
    for result in preset.results:
        assert result.source in (
            "arXiv:2506.09985",
            "arXiv:2603.14482",
            "README of github.com/facebookresearch/vjepa2",
        )
        assert result.benchmark and result.metric and result.value > 0
    names = [result.benchmark for result in preset.results]
    assert len(set(names)) == len(names)
    assert preset.licence and preset.summary


def test_some_results_as_printed() -> None:
    def value(name: str, benchmark: str) -> float:
        (result,) = (r for r in get_preset(name).results if r.benchmark == benchmark)
        return result.value

    assert value("vjepa2-vitg-384", "SSv2") == 77.3
    assert value("vjepa2-vith", "EK100 noun") == 54.6
    assert value("vjepa2-vitl", "COIN") == 86.8
    assert value("vjepa2.1-vitg-384", "YouTube-VOS") == 72.3
    assert value("vjepa2.1-vitG-384", "EK100 action") == 40.8
    assert value("vjepa2.1-vitG-384", "Ego4D STA") == 7.71
    assert value("vjepa2.1-vitl-384", "KITTI") == 2.490
    assert value("vjepa2-ac-vitg", "robot: pick and place box") == 65
    assert value("vjepa2-vitl-ek100", "EK100 action") == 32.7


@pytest.mark.parametrize("name", ["vjepa2-vitl", "vjepa2-vith", "vjepa2-vitg", "vjepa2-vitg-384"])
def test_averages_are_those_of_their_rows(name: str) -> None:
    """Finds a mistyped number; the published mean of ViT-g 384 is 0.07 above that of its row."""
    mean, *values = [r.value for r in get_preset(name).results if r.metric.startswith("top-1")]
    assert len(values) == 6
    assert abs(sum(values) / 6 - mean) < 0.07


def test_finding_and_not_finding() -> None:
    assert find_preset("vjepa2-vitl") is PRESETS["vjepa2-vitl"] is get_preset("vjepa2-vitl")
    assert find_preset("vjepa2-VITL") is None
    assert find_preset("facebook/vjepa2-vitl-fpc64-256") is None


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("vjepa2-vit-l", "vjepa2-vitl"),
        ("vjepa2_vith", "vjepa2-vith"),
        ("vjepa2.1-vitG", "vjepa2.1-vitG-384"),
        ("vjepa2.1-vitg", "vjepa2.1-vitg-384"),
        ("vjepa2-vitl-divng48", "vjepa2-vitl-diving48"),
    ],
)
def test_a_wrong_name_gets_the_nearest_one(wrong: str, nearest: str) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        get_preset(wrong)
    message = str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert f"no published model {wrong!r}. Did you mean {nearest!r}?" in message
    assert all(name in message for name in FILES)
    assert ("case matters" in message) == ("vitg" in wrong.lower())


def test_presets_cannot_be_changed() -> None:
    preset = get_preset("vjepa2-vitl-diving48")
    with pytest.raises(AttributeError):
        preset.file = "other.pt"  # type: ignore[misc]
    with pytest.raises(TypeError):
        preset.config["hidden_size"] = 8  # type: ignore[index]
    config = preset.to_config()
    assert config.pooler_levels is not None
    config.pooler_levels.append(3)
    assert preset.to_config().pooler_levels == [17, 19, 21, 23]


# -- built without memory ------------------------------------------------------------------------


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(build: type[Built], preset: Preset) -> Built:
    with torch.device("meta"):
        return build(preset.to_config())


@pytest.mark.parametrize("name", list(MODELS))
def test_the_network_has_as_many_parameters_as_the_file(name: str) -> None:
    preset = get_preset(name)
    assert preset.kind == ("action_model" if "-ac-" in name else "model")
    (encoder, _), (predictor, _) = COUNTS[name]
    model = on_meta(VJEPA2ActionModel if "-ac-" in name else VJEPA2Model, preset)
    assert (count(model.encoder), count(model.predictor)) == (encoder, predictor)
    assert model.num_parameters() == encoder + predictor


@pytest.mark.parametrize("name", list(PROBES))
def test_the_probe_has_as_many_parameters_as_the_file(name: str) -> None:
    preset = get_preset(name)
    probe = on_meta(VJEPA2AttentiveProbe, preset)
    assert probe.num_parameters() == preset.num_parameters["probe"]
    # Three matrices and biases here are one of the file's in each of the three self-attention
    # blocks, and two are one in the cross-attention.
    assert len(list(probe.parameters())) == preset.num_tensors["probe"] + 3 * 4 + 2


@pytest.mark.parametrize("name", [name for name in PROBES if "num_labels" in PROBES[name].config])
def test_a_classifier_has_as_many_parameters_as_encoder_and_probe(name: str) -> None:
    preset = get_preset(name)
    assert preset.probe_of is not None
    model = on_meta(VJEPA2ForVideoClassification, preset)
    below = sum(total for total, _ in COUNTS[preset.probe_of])
    assert model.num_parameters() - below == preset.num_parameters["probe"]
