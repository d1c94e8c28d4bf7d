"""The model of V-JEPA 2-AC: frames on their own, rollouts, files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

import vjepa2
from tiny_models import clip, randomise, relative_error, tiny_config
from vjepa2.errors import (
    CheckpointMismatchError,
    ConfigError,
    DtypeError,
    InputError,
    ShapeError,
    UnknownOptionError,
)
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.outputs import VJEPA2ActionModelOutput
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.shapes import TokenGrid
from wrong_values import assert_named, fits_forward

FRAMES = 3


def make_config(**changes: Any) -> VJEPA2Config:
    return tiny_config(model_type="vjepa2_ac", **changes)


def make(**changes: Any) -> VJEPA2ActionModel:
    return randomise(VJEPA2ActionModel(make_config(**changes)).double()).eval()


def pixels(**sizes: Any) -> Tensor:
    return clip(make_config(), **{"frames": FRAMES, **sizes}).double()


def conditions(*, frames: int = FRAMES, batch: int = 2, poses: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    widths = {"actions": 7, "states": 7, **({"extrinsics": 6} if poses else {})}
    return {
        name: torch.randn(batch, frames, width, generator=generator, dtype=torch.float64)
        for name, width in widths.items()
    }


def standardised(x: Tensor) -> Tensor:
    """Layer norm without weights, from mean and variance."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


# -- encoding -------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("tubelet", [1, 2, 3])
@pytest.mark.parametrize("size", [{}, {"height": 16, "width": 40}, {"frames": 1}])
def test_every_frame_is_a_still_clip_of_its_own(size: dict[str, int], tubelet: int) -> None:
    model, x = make(tubelet_size=tubelet), pixels(**size)
    got = model.encode_frames(x)
    rows = []
    for sample in x:
        frames = [torch.stack([frame] * tubelet)[None] for frame in sample]
        rows.append(torch.cat([model.encoder(frame).last_hidden_state[0] for frame in frames]))
    torch.testing.assert_close(got, standardised(torch.stack(rows)), rtol=1e-10, atol=1e-10)
    T, H, W = x.shape[1], x.shape[3], x.shape[4]
    assert model.grid(x) == TokenGrid(T, H // 8, W // 8)


@torch.no_grad()
def test_a_frame_does_not_see_the_others() -> None:
    model, x = make(), pixels()
    other = x.clone()
    other[:, 1] += 1.0
    changed = (model.encode_frames(other) != model.encode_frames(x)).unflatten(1, (FRAMES, -1))
    assert changed.flatten(2).any(-1).tolist() == [[False, True, False]] * 2


# -- prediction -----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("poses", [False, True])
def test_forward_joins_encoder_and_predictor(poses: bool) -> None:
    model, x, given = make(), pixels(), conditions(poses=poses)
    out = model(x, **given)
    assert isinstance(out, VJEPA2ActionModelOutput)
    assert list(out) == ["last_hidden_state", "encoder_hidden_state"]
    encoded = model.encode_frames(x)
    assert torch.equal(out.encoder_hidden_state, encoded)
    raw = model.predictor(encoded, **given, grid=TokenGrid(FRAMES, 4, 4)).last_hidden_state
    torch.testing.assert_close(out.last_hidden_state, standardised(raw), rtol=1e-10, atol=1e-10)
    again = model.predict_next(encoded, **given, grid=model.grid(x))
    assert torch.equal(again, out.last_hidden_state)
    assert isinstance(model(x, **given, return_dict=False), tuple)
    # Position by position, as a script would call it.
    assert torch.equal(model(x, *given.values())[0], out[0])


@torch.no_grad()
def test_levels_and_weights_are_those_of_the_predictor() -> None:
    model, x, given = make(), pixels(), conditions()
    out = model(x, **given, output_hidden_states=True, output_attentions=True)
    assert [tuple(level.shape) for level in out.hidden_states] == [(2, 3 * 18, 24)] * 3
    assert [tuple(weights.shape) for weights in out.attentions] == [(2, 2, 54, 54)] * 2
    model.config.output_hidden_states = True
    assert len(model(x, **given).hidden_states) == 3
    assert model(x, **given, output_hidden_states=False).hidden_states is None


@torch.no_grad()
def test_a_rollout_feeds_predictions_back() -> None:
    """Two steps ahead: the second prediction sees the first one in place of the frame."""
    model, x, given = make(), pixels(frames=1), conditions(frames=2)
    first = {name: value[:, :1] for name, value in given.items()}
    tokens = model.encode_frames(x)
    ahead = model.predict_next(tokens, **first, grid=TokenGrid(1, 4, 4))
    tokens = torch.cat([tokens, ahead], dim=1)
    both = model.predict_next(tokens, **given, grid=TokenGrid(2, 4, 4))
    torch.testing.assert_close(both[:, :16], ahead, rtol=1e-10, atol=1e-10)
    # Of unit variance like encoded frames, but for the eps.
    torch.testing.assert_close(
        both.square().mean(-1), torch.ones(2, 32).double(), rtol=1e-3, atol=0
    )


@torch.no_grad()
def test_any_resolution() -> None:
    model, x, given = make(), pixels(height=48, width=16, batch=1), conditions(batch=1)
    out = model(x, **given)
    assert out.last_hidden_state.shape == (1, FRAMES * 6 * 2, 32)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model, x, given = make(), pixels(), conditions()
    wanted = model(x, **given)
    got = model.to(dtype)(x.float(), **{name: value.float() for name, value in given.items()})
    assert got.last_hidden_state.dtype == dtype
    assert relative_error(got.encoder_hidden_state, wanted.encoder_hidden_state) < 0.05
    assert relative_error(got.last_hidden_state, wanted.last_hidden_state) < 0.1


def test_a_training_step_with_a_frozen_encoder() -> None:
    """Teacher forcing as published: features of frame i + 1, from a recomputed predictor."""
    model = make().train()
    model.encoder.requires_grad_(False)
    model.gradient_checkpointing_enable()
    assert model.predictor.gradient_checkpointing
    out = model(pixels(), **conditions())
    wanted = out.encoder_hidden_state[:, 16:]
    (out.last_hidden_state[:, :-16] - wanted).abs().mean().backward()
    for name, parameter in model.named_parameters():
        used = name.startswith("predictor.") and "extrinsics" not in name
        assert (parameter.grad is not None) == used, name


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"actions": torch.zeros(2, 3, 6)}, ShapeError, r"actions must be \[B=2, t=3, action_size"),
        ({"states": torch.zeros(2, 2, 7)}, ShapeError, r"states must be .*t=3.* one row per frame"),
        ({"states": torch.full((2, 3, 7), torch.nan)}, DtypeError, "states holds NaN"),
        ({"states": torch.zeros(2, 3, 7).to_sparse()}, DtypeError, "states must be a dense"),
        ({"actions": torch.zeros(2, 3, 7, device="meta")}, DtypeError, "actions has no values"),
        ({"pixel_values_videos": torch.zeros(2, 3, 32, 32)}, ShapeError, "Add the batch axis"),
        ({"pixel_values_videos": torch.zeros(2, 3, 3, 4, 4)}, ShapeError, "of 4x4 pixels"),
        ({"pixel_values_videos": torch.zeros(2, 0, 3, 32, 32)}, ShapeError, "0 frames"),
        (
            {"pixel_values_videos": torch.zeros(2, 3, 3, 32, 32, dtype=torch.uint8)},
            DtypeError,
            "normalised floating point pixels",
        ),
        ({"action": torch.zeros(2, 3, 7)}, UnknownOptionError, "Did you mean 'actions'"),
    ],
)
def test_mistakes_are_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Before any block runs: what is wrong costs no encoding."""
    model = make()
    monkeypatch.setattr(model.encoder, "layer", None)
    with pytest.raises(error, match=message):
        model(**{"pixel_values_videos": pixels(), **conditions(), **changes})


def test_the_configuration_must_be_of_this_variant() -> None:
    with pytest.raises(ConfigError, match="needs model_type 'vjepa2_ac', got 'vjepa2'"):
        VJEPA2ActionModel(tiny_config())
    with pytest.raises(ConfigError, match="use VJEPA2ActionModel"):
        VJEPA2Model(make_config())


# -- sizes and fresh values -----------------------------------------------------------------------


def test_parameter_counts_of_the_released_model() -> None:
    """Of the paper's ViT-g; three matrices and biases here are one fused pair in the original."""
    config = VJEPA2Config(
        model_type="vjepa2_ac",
        hidden_size=1408,
        num_hidden_layers=40,
        num_attention_heads=22,
        mlp_ratio=48 / 11,
        pred_hidden_size=1024,
        pred_num_hidden_layers=24,
        pred_num_attention_heads=16,
    )
    with torch.device("meta"):
        model = VJEPA2ActionModel(config)
    predictor = list(model.predictor.parameters())
    assert sum(parameter.numel() for parameter in predictor) == 305_220_992
    assert len(predictor) == 300 + 4 * 24
    assert len(list(model.encoder.parameters())) == 484 + 4 * 40
    assert model.num_parameters() == 305_220_992 + 1_012_173_952


def test_fresh_values() -> None:
    """Every bias 0, every norm 1, matrices normal; residual outputs smaller with depth."""
    config = make_config(hidden_size=96, pred_hidden_size=96, pred_num_hidden_layers=8)
    model = VJEPA2ActionModel(config)
    for name, parameter in model.state_dict().items():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
    predictor = model.predictor
    for part in ("action", "state", "extrinsics", "predictor"):
        weight = getattr(predictor.embeddings, f"{part}_embeddings").weight.detach()
        assert float(weight.std()) == pytest.approx(0.02, rel=0.15), part
    for index in (0, 7):
        wanted = 0.02 / (2 * (index + 1)) ** 0.5
        for linear in (predictor.layer[index].attention.proj, predictor.layer[index].mlp.fc2):
            assert float(linear.weight.detach().std()) == pytest.approx(wanted, rel=0.05)


def test_missing_parameters_are_made_fresh() -> None:
    model = make()
    kept = model.predictor.embeddings.state_embeddings.weight.clone()
    names = {f"predictor.embeddings.action_embeddings.{leaf}" for leaf in ("weight", "bias")}
    model.init_missing(names, generator=torch.Generator().manual_seed(0))
    embed = model.predictor.embeddings.action_embeddings
    assert (embed.bias == 0).all() and 0.01 < float(embed.weight.detach().std()) < 0.03
    assert torch.equal(model.predictor.embeddings.state_embeddings.weight, kept)


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[VJEPA2ActionModel, Path]:
    folder = tmp_path_factory.mktemp("ac")
    model = make(action_size=4, extrinsics_size=5)
    model.save_pretrained(folder)
    return model, folder


def call(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    given = (torch.randn(2, FRAMES, n, generator=generator).double() for n in (4, 7, 5))
    with torch.no_grad():
        return model(pixels(), *given).last_hidden_state


@pytest.mark.parametrize("kind", [VJEPA2ActionModel, vjepa2.AutoModel])
def test_saved_and_loaded(saved: tuple[VJEPA2ActionModel, Path], kind: Any) -> None:
    model, folder = saved
    stored = json.loads((folder / "config.json").read_text())
    assert stored["model_type"] == "vjepa2_ac"
    assert stored["architectures"] == ["VJEPA2ActionModel"]
    assert (stored["action_size"], stored["extrinsics_size"]) == (4, 5)
    again = kind.from_pretrained(folder)
    assert type(again) is VJEPA2ActionModel and not again.training
    assert again.config.action_size == 4
    assert torch.equal(call(again), call(model))
    assert again.load_report.loaded == len(model.state_dict())
    half = kind.from_pretrained(folder, dtype="float16", attn_implementation="eager")
    assert half.dtype is torch.float16 and half.config.attn_implementation == "eager"


def test_written_bytes_do_not_change(saved: tuple[VJEPA2ActionModel, Path], tmp_path: Path) -> None:
    _, folder = saved
    VJEPA2ActionModel.from_pretrained(folder).save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_parts_on_several_devices(saved: tuple[VJEPA2ActionModel, Path]) -> None:
    model, folder = saved
    split = VJEPA2ActionModel.from_pretrained(
        folder,
        device_map={"encoder": "cpu", "predictor": "disk", "predictor.layer.0": "cpu"},
    )
    assert any(parameter.is_meta for parameter in split.parameters())
    torch.testing.assert_close(call(split), call(model), rtol=1e-10, atol=1e-10)


def test_a_checkpoint_of_another_model_is_refused(
    saved: tuple[VJEPA2ActionModel, Path], tmp_path: Path
) -> None:
    _, folder = saved
    for kind in (VJEPA2Model, vjepa2.VJEPA2ForVideoClassification):
        with pytest.raises(ConfigError, match="vjepa2_ac"):
            kind.from_pretrained(folder)
    VJEPA2Model(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="needs model_type 'vjepa2_ac'"):
        VJEPA2ActionModel.from_pretrained(tmp_path)
    with pytest.raises(CheckpointMismatchError, match="action_embeddings"):
        VJEPA2ActionModel.from_pretrained(tmp_path, model_type="vjepa2_ac")


def test_the_encoder_comes_from_a_base_model() -> None:
    """As the docstring says it."""
    base, model = randomise(VJEPA2Model(tiny_config()).double(), seed=8), make()
    model.encoder.load_state_dict(base.encoder.state_dict())
    x = pixels()
    still = x[:, :1].expand(-1, 2, -1, -1, -1)
    with torch.no_grad():
        wanted = standardised(base.eval().get_vision_features(still))
        torch.testing.assert_close(model.encode_frames(x[:, :1]), wanted, rtol=1e-10, atol=1e-10)


def test_the_output_is_a_tree_of_tensors() -> None:
    with torch.no_grad():
        out = make()(pixels(), **conditions())
    leaves, structure = tree_flatten(out)
    assert len(leaves) == 2
    again = tree_unflatten(leaves, structure)
    assert type(again) is VJEPA2ActionModelOutput and list(again) == list(out)


@pytest.mark.parity
def test_the_port_refuses_it_by_name(saved: tuple[VJEPA2ActionModel, Path]) -> None:
    import transformers

    _, folder = saved
    for kind in (transformers.AutoConfig, transformers.AutoModel):
        with pytest.raises(ValueError, match="vjepa2_ac"):
            kind.from_pretrained(folder)


@pytest.mark.parametrize("name", ("output_hidden_states", "output_attentions", "return_dict"))
def test_arguments_of_another_type_are_named(name: str) -> None:
    model = make()
    inputs = (pixels(), *conditions().values())
    assert_named(
        lambda value: model(*inputs, **{name: value}),
        allowed=lambda value: fits_forward(name, value, depth=2),
        error=InputError,
    )
    with pytest.raises(InputError, match=rf"{name}.* must be .*, got 'x' \(str\)"):
        model(*inputs, **{name: "x"})
