"""V-JEPA 2.1: images, modality vectors, levels, the fused predictor and its context head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig

from tiny_models import clip, random_ids, randomise, tiny_config
from vjepa2.errors import ConfigError, InputError, ShapeError
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.rope import rotary_tables
from vjepa2.shapes import TokenGrid

LEVELS = [0, 2, 3]
D, P = 32, 24


def make_model(**changes: Any) -> VJEPA2Model:
    settings = {
        "model_type": "vjepa2_1",
        "num_hidden_layers": 4,
        "hierarchical_layers": LEVELS,
        "patch_size": 8,
        **changes,
    }
    return randomise(VJEPA2Model(tiny_config(**settings)).double()).eval()


def encoded_by_hand(model: VJEPA2Model, x: Tensor, ids: Tensor) -> dict[int, Tensor]:
    """Block index to its normed tokens, for the tokens `ids` [B, K]."""
    encoder = model.encoder
    config = model.config
    image = x.shape[1] == 1
    embeddings = encoder.embeddings
    embed = embeddings.patch_embeddings_img if image else embeddings.patch_embeddings
    tokens = embed.proj(x.transpose(1, 2)).flatten(2).transpose(1, 2)
    tokens = tokens + (embeddings.modality.image if image else embeddings.modality.video)
    tokens = torch.stack([row[chosen] for row, chosen in zip(tokens, ids, strict=True)])
    grid = TokenGrid(1 if image else x.shape[1] // 2, x.shape[3] // 8, x.shape[4] // 8)
    rotary = rotary_tables(
        ids,
        grid,
        head_dim=config.head_dim,
        layout="interleaved",
        reference_side=32,  # 256 pixels in patches of 8
        dtype=torch.float64,
    )
    normed = {}
    for index, block in enumerate(encoder.layer):
        tokens = block(tokens, rotary, "eager").tokens
        if index in LEVELS:
            normed[index] = encoder.layernorms[LEVELS.index(index)](tokens)
    return normed


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "sizes",
    [{}, {"frames": 1}, {"frames": 6, "height": 16, "width": 48}, {"frames": 1, "height": 64}],
    ids=["clip", "image", "not square", "tall image"],
)
def test_encoder_equals_the_definition(sizes: dict[str, int]) -> None:
    model = make_model()
    x = clip(model.config, **sizes).double()
    num_tokens = model.encoder.grid(x).num_tokens
    out = model.encoder(x, output_levels=LEVELS)
    wanted = encoded_by_hand(model, x, torch.arange(num_tokens).expand(2, -1))
    close(out.last_hidden_state, wanted[3])
    for got, index in zip(out.level_hidden_states, LEVELS, strict=True):
        close(got, wanted[index])


def test_masked_encoder_returns_levels_of_the_kept_tokens() -> None:
    model = make_model()
    x, ids = clip(model.config).double(), random_ids(32, 9)
    out = model.encoder(x, ids, output_levels=[2, 0], output_hidden_states=[1])
    wanted = encoded_by_hand(model, x, ids)
    close(out.level_hidden_states[0], wanted[2])
    close(out.level_hidden_states[1], wanted[0])
    # Levels that were kept for their norm do not show up among the hidden states.
    assert [state is not None for state in out.hidden_states] == [False, True, False, False, False]


def test_an_image_is_not_a_clip_of_one_frame() -> None:
    model = make_model()
    image = clip(model.config, frames=1).double()
    still = image.expand(-1, 2, -1, -1, -1)
    assert model.encoder(image).last_hidden_state.shape == (2, 16, D)
    assert model.encoder(still).last_hidden_state.shape == (2, 16, D)
    difference = model.encoder(image).last_hidden_state - model.encoder(still).last_hidden_state
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("frames", [4, 1], ids=["clip", "image"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_predictor_equals_the_definition(frames: int, rescaled: bool) -> None:
    model = make_model(pred_rescale_positions=rescaled)
    predictor = model.predictor
    x = clip(model.config, frames=frames).double()
    grid = model.encoder.grid(x)
    context, target = random_ids(16, 5), random_ids(16, 6, seed=3)
    got = model(x, context_mask=[context], target_mask=[target], mask_index=2)

    levels = encoded_by_hand(model, x, torch.arange(grid.num_tokens).expand(2, -1))
    features = torch.cat([levels[index] for index in LEVELS], dim=-1)
    seen = torch.stack([row[chosen] for row, chosen in zip(features, context, strict=True)])
    first, _, second = predictor.embeddings.predictor_embeddings
    embedded = second(torch.nn.functional.gelu(first(seen)))
    masks = predictor.embeddings.mask_tokens[2].expand(2, 6, P)
    modality = predictor.embeddings.modality
    tokens = torch.cat([embedded, masks], dim=1) + (
        modality.image if frames == 1 else modality.video
    )
    rotary = rotary_tables(
        torch.cat([context, target], dim=1),
        grid,
        head_dim=model.config.pred_head_dim,
        layout="interleaved",
        reference_side=32 if rescaled else None,
        dtype=torch.float64,
    )
    for block in predictor.layer:
        tokens = block(tokens, rotary, "eager").tokens
    tokens = predictor.layernorm(tokens)
    output = got.predictor_output
    close(output.last_hidden_state, predictor.proj(tokens[:, 5:]))
    close(output.context_hidden_state, predictor.proj_context(tokens[:, :5]))
    targets = torch.stack([row[chosen] for row, chosen in zip(features, target, strict=True)])
    close(output.target_hidden_state, targets)
    assert output.last_hidden_state.shape == (2, 6, 3 * D)
    close(got.last_hidden_state, levels[3])


def test_distilled_models_read_one_level_and_predict_in_the_teachers_width() -> None:
    model = make_model(pred_num_levels=1, pred_output_size=40)
    x = clip(model.config).double()
    out = model(x, context_mask=[random_ids(32, 5)], target_mask=[random_ids(32, 6)])
    assert out.predictor_output.last_hidden_state.shape == (2, 6, 40)
    assert out.predictor_output.context_hidden_state.shape == (2, 5, 40)
    assert out.predictor_output.target_hidden_state.shape == (2, 6, D)
    names = set(model.state_dict())
    assert "predictor.embeddings.predictor_embeddings.weight" in names


def test_v_jepa_2_gives_its_levels_through_its_one_norm() -> None:
    model = randomise(VJEPA2Model(tiny_config(num_hidden_layers=3)).double()).eval()
    x = clip(model.config).double()
    out = model.encoder(x, output_levels=[0, 2], output_hidden_states=True)
    for got, index in zip(out.level_hidden_states, [0, 2], strict=True):
        close(got, model.encoder.layernorm(out.hidden_states[index + 1]))


def test_folder_round_trip(tmp_path: Path) -> None:
    model = make_model(pred_num_levels=1, pred_output_size=40)
    model.save_pretrained(tmp_path)
    again = VJEPA2Model.from_pretrained(tmp_path)
    assert again.config.to_dict() | {"architectures": None} == model.config.to_dict() | {
        "architectures": None,
        "dtype": "float64",
    }
    x = clip(model.config).double()
    for got, wanted in zip(again(x).to_tuple(), model(x).to_tuple(), strict=True):
        if isinstance(got, Tensor):
            assert torch.equal(got, wanted)


def test_transformers_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """With V-JEPA 2's model_type it would load half of the weights and go on with a warning."""
    make_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="vjepa2_1"):
        AutoConfig.from_pretrained(tmp_path)


def test_fresh_values_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = VJEPA2Model(
        tiny_config(model_type="vjepa2_1", num_hidden_layers=4, hierarchical_layers=LEVELS)
    )
    vectors = [*model.encoder.embeddings.modality.parameters()]
    vectors += [*model.predictor.embeddings.modality.parameters()]
    assert len(vectors) == 4
    joined = torch.cat([v.detach().flatten() for v in vectors])
    assert 0.7e-6 < float(joined.std()) < 1.3e-6
    assert float(model.predictor.proj_context.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert all(bool((norm.weight == 1).all()) for norm in model.encoder.layernorms)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hierarchical_layers": None}, "hierarchical_layers"),  # 4 blocks were never published
        ({"hierarchical_layers": [0, 2]}, "must end with the last block, 3"),
        ({"hierarchical_layers": [2, 0, 3]}, "ascending"),
        ({"hierarchical_layers": []}, "at least one"),
        ({"pred_num_levels": 2}, "must be 1 or the number of levels, 3"),
        ({"model_type": "vjepa2"}, "belongs to model_type='vjepa2_1'"),
        ({"model_type": "vjepa2.1"}, "vjepa2_1"),
        ({"action_size": 8}, "belongs to model_type='vjepa2_ac'"),
        ({"pooler_levels": [0, 4]}, "names block 4"),
        ({"pooler_levels": [1, 3]}, "without a norm"),
    ],
)
def test_contradictory_configurations_are_refused(changes: dict[str, Any], words: str) -> None:
    settings = {
        "model_type": "vjepa2_1",
        "num_hidden_layers": 4,
        "hierarchical_layers": LEVELS,
        **changes,
    }
    with pytest.raises(ConfigError, match=words):
        VJEPA2Model(tiny_config(**settings))


def test_published_levels() -> None:
    wanted = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}
    for depth, levels in wanted.items():
        config = VJEPA2Config(model_type="vjepa2_1", num_hidden_layers=depth)
        assert config.levels == config.predictor_levels == levels
    assert VJEPA2Config(model_type="vjepa2_1", pred_num_levels=1).predictor_levels == ()
    assert VJEPA2Config().levels == ()


def test_tokens_of_the_wrong_width_say_what_the_predictor_reads() -> None:
    model = make_model()
    x = clip(model.config).double()
    tokens = model.encoder(x).last_hidden_state
    with pytest.raises(ShapeError, match=r"reads 96.*output_levels=\[0, 2, 3\]"):
        model.predictor(tokens, None, None, grid=model.encoder.grid(x))
    with pytest.raises(InputError, match="normed tokens of \\[0, 2, 3\\]"):
        model.encoder(x, output_levels=[1])
