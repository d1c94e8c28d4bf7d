"""The encoder: geometry from the input, dropped tokens, levels, precision."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny_models import clip, random_ids, randomise, relative_error, tiny_config
from vjepa2.errors import DtypeError, InputError, MaskError, ShapeError
from vjepa2.models.encoder import VJEPA2Encoder, make_blocks
from vjepa2.nn.rope import rotary_tables
from vjepa2.shapes import TokenGrid
from wrong_values import assert_named, fits_forward


def make_encoder(**changes: Any) -> VJEPA2Encoder:
    return randomise(VJEPA2Encoder(tiny_config(**changes)).double()).eval()


def pixels(encoder: VJEPA2Encoder, **sizes: Any) -> Tensor:
    return clip(encoder.config, **sizes).double()


def by_hand(encoder: VJEPA2Encoder, x: Tensor, ids: Tensor, grid: TokenGrid) -> list[Tensor]:
    """Levels and the normed output, for the tokens `ids` [B, K] on `grid`, block by block."""
    proj = encoder.embeddings.patch_embeddings.proj
    tokens = proj(x.transpose(1, 2)).flatten(2).transpose(1, 2)
    tokens = torch.stack([row[chosen] for row, chosen in zip(tokens, ids, strict=True)])
    rotary = rotary_tables(ids, grid, head_dim=encoder.config.head_dim, dtype=torch.float64)
    levels = [tokens]
    for block in encoder.layer:
        levels.append(block(levels[-1], rotary, "eager").tokens)
    return [*levels, encoder.layernorm(levels[-1])]


def all_ids(grid: TokenGrid, batch: int = 2) -> Tensor:
    return torch.arange(grid.num_tokens).expand(batch, -1)


@pytest.mark.parametrize(
    ("frames", "height", "width", "grid"),
    [
        (4, 32, 32, (2, 4, 4)),  # what the configuration says
        (4, 64, 64, (2, 8, 8)),
        (4, 16, 40, (2, 2, 5)),  # not square
        (10, 24, 8, (5, 3, 1)),
        (5, 35, 39, (2, 4, 4)),  # a rest in every direction is left out
        (1, 32, 32, (1, 4, 4)),  # a still image
    ],
)
def test_positions_come_from_the_input(
    frames: int, height: int, width: int, grid: tuple[int, int, int]
) -> None:
    encoder = make_encoder()
    x = pixels(encoder, frames=frames, height=height, width=width)
    full = x if frames > 1 else x.expand(-1, 2, -1, -1, -1)
    wanted = by_hand(encoder, full, all_ids(TokenGrid(*grid)), TokenGrid(*grid))
    assert encoder.grid(x) == TokenGrid(*grid)
    got = encoder(x).last_hidden_state
    torch.testing.assert_close(got, wanted[-1], rtol=1e-10, atol=1e-10)


def test_the_configured_size_is_not_used() -> None:
    """The port takes the grid from `crop_size` and is silently wrong at other sizes."""
    one, other = make_encoder(), make_encoder(crop_size=96, frames_per_clip=16)
    x = pixels(one, height=16, width=48)
    assert torch.equal(one(x).last_hidden_state, other(x).last_hidden_state)
    square = TokenGrid(2, 4, 4)  # what the configuration says
    wrong = by_hand(one, x, torch.arange(24).expand(2, -1), square)[-1]
    assert relative_error(one(x).last_hidden_state, wrong) > 0.05


def test_keep_ids_drop_tokens_before_the_blocks() -> None:
    encoder = make_encoder()
    x, ids = pixels(encoder), random_ids(32, 7)
    wanted = by_hand(encoder, x, ids, TokenGrid(2, 4, 4))
    out = encoder(x, ids, output_hidden_states=True)
    assert out.last_hidden_state.shape == (2, 7, 32)
    for got, expected in zip([*out.hidden_states, out[0]], wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    # Something else than encoding everything and picking afterwards.
    everything = encoder(x).last_hidden_state
    picked = torch.stack([row[chosen] for row, chosen in zip(everything, ids, strict=True)])
    assert relative_error(out.last_hidden_state, picked) > 0.05


def test_nothing_of_a_hidden_tubelet_is_seen() -> None:
    encoder = make_encoder()
    x = pixels(encoder)
    hidden = {3, 17, 30}
    ids = torch.tensor([[i for i in range(32) if i not in hidden]] * 2)
    other = x.clone()
    for token in hidden:
        t, rest = divmod(token, 16)
        row, column = divmod(rest, 4)
        other[:, 2 * t : 2 * t + 2, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1e6
    assert torch.equal(encoder(x, ids)[0], encoder(other, ids)[0])
    assert not torch.equal(encoder(x)[0][:, :3], encoder(other)[0][:, :3])


def test_keep_ids_may_be_int32_and_the_order_is_kept() -> None:
    encoder = make_encoder()
    x, ids = pixels(encoder), random_ids(32, 7)
    wanted = encoder(x, ids)[0]
    assert torch.equal(encoder(x, ids.int())[0], wanted)
    torch.testing.assert_close(encoder(x, ids.flip(1))[0].flip(1), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[0, 32], [0, 1]]), r"keep_ids holds ids from 0 to 32; .* \[0, 32\)"),
        (torch.tensor([[0, -1], [0, 1]]), "keep_ids holds ids from -1 to 1"),
        (torch.ones(2, 32, dtype=torch.bool), "got torch.bool. Turn a boolean mask into ids"),
        (torch.tensor([[0, 1]]), r"tensors \[B=2, n >= 1\], got \[1, 2\]"),
        (torch.tensor([0, 1]), r"tensors \[B=2, n >= 1\], got \[2\]"),
        ([0, 1], "must hold int64 token ids, got list"),
    ],
)
def test_wrong_keep_ids(ids: Any, message: str) -> None:
    encoder = make_encoder()
    with pytest.raises(MaskError, match=message):
        encoder(pixels(encoder), ids)


def test_the_encoder_alone_checks_its_pixels_too() -> None:
    encoder = make_encoder()
    with pytest.raises(ShapeError, match="use x.permute"):
        encoder(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(DtypeError, match="NaN"):
        encoder(torch.full((1, 4, 3, 32, 32), float("nan")))
    with pytest.raises(ShapeError, match="5 axes"):
        encoder.grid(torch.zeros(4, 3, 32, 32))
    with pytest.raises(ShapeError, match="clip of 4 frames of 32x7 pixels"):
        encoder(torch.zeros(1, 4, 3, 32, 7))


def test_hidden_states_are_embeddings_and_block_outputs_before_the_norm() -> None:
    encoder = make_encoder(num_hidden_layers=3)
    x = pixels(encoder)
    wanted = by_hand(encoder, x, all_ids(TokenGrid(2, 4, 4)), TokenGrid(2, 4, 4))[:-1]
    got = encoder(x, output_hidden_states=True).hidden_states
    assert isinstance(got, tuple) and len(got) == 4
    for level, expected in zip(got, wanted, strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ([-1, 0], {0, 3}),
        ([1], {1}),
        (2, {2}),
        (0, {0}),
        (-4, {0}),
        ((1, 1, -3), {1}),
    ],
)
def test_listed_levels_keep_their_places(wanted: Any, kept: set[int]) -> None:
    encoder = make_encoder(num_hidden_layers=3)
    x = pixels(encoder)
    everything = encoder(x, output_hidden_states=True).hidden_states
    some = encoder(x, output_hidden_states=wanted).hidden_states
    assert len(some) == 4
    for index, level in enumerate(some):
        assert torch.equal(level, everything[index]) if index in kept else level is None


@pytest.mark.parametrize("nothing", [False, None, []])
def test_no_levels(nothing: Any) -> None:
    encoder = make_encoder()
    out = encoder(pixels(encoder), output_hidden_states=nothing)
    assert list(out) == ["last_hidden_state"] and out.hidden_states is None


@pytest.mark.parametrize("wrong", [3, -4, [0, 3]])
def test_levels_that_do_not_exist(wrong: Any) -> None:
    encoder = make_encoder(num_hidden_layers=2)
    with pytest.raises(InputError, match=r"level -?\d; there are 3: 0 .* to 2 .* or -3 to -1"):
        encoder(pixels(encoder), output_hidden_states=wrong)


def test_attention_weights_under_both_implementations() -> None:
    encoder = make_encoder()
    x = pixels(encoder)
    fused = encoder(x, output_attentions=True)
    encoder.config.attn_implementation = "eager"
    written_out = encoder(x, output_attentions=True)
    assert len(fused.attentions) == 2
    for one, other in zip(fused.attentions, written_out.attentions, strict=True):
        assert one.shape == (2, 2, 32, 32)
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(one.sum(-1), torch.ones(2, 2, 32, dtype=torch.float64))
    torch.testing.assert_close(fused[0], written_out[0], rtol=1e-10, atol=1e-10)
    assert encoder(x).attentions is None


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    encoder = make_encoder()
    x, ids = pixels(encoder, batch=3), random_ids(32, 5, batch=3)
    for keep in (None, ids):
        together = encoder(x, keep)[0]
        for i in range(3):
            alone = encoder(x[i : i + 1], None if keep is None else keep[i : i + 1])[0]
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-10)


def test_an_empty_batch() -> None:
    encoder = make_encoder()
    assert encoder(pixels(encoder)[:0])[0].shape == (0, 32, 32)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_evaluation_is_deterministic_and_training_drops(implementation: str) -> None:
    encoder = make_encoder(
        attention_probs_dropout_prob=0.5, drop_path_rate=0.5, attn_implementation=implementation
    )
    x = pixels(encoder)
    first = encoder(x)[0]
    assert torch.equal(first, encoder(x)[0])
    quiet = make_encoder(attn_implementation=implementation)
    assert torch.equal(first, quiet(x)[0])
    encoder.train()
    assert not torch.allclose(encoder(x)[0], encoder(x)[0])


def test_stochastic_depth_grows_linearly() -> None:
    def rates(rate: float, depth: int) -> list[float]:
        config = tiny_config(drop_path_rate=rate)
        blocks = make_blocks(config, dim=24, num_heads=2, depth=depth, mlp_ratio=2.0)
        return [block.drop_path.probability for block in blocks]

    assert rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert rates(0.3, 1) == [0.0]


def test_recomputation_in_training_only() -> None:
    """Gradients are equal, and the switch does nothing in evaluation."""

    def gradients(*, recompute: bool) -> list[Tensor]:
        encoder = make_encoder(drop_path_rate=0.3).train()
        encoder.gradient_checkpointing = recompute
        torch.manual_seed(5)
        out = encoder(pixels(encoder), output_hidden_states=[1])
        loss = out[0].square().sum() + out.hidden_states[1].sum()
        return list(torch.autograd.grad(loss, list(encoder.parameters())))

    for one, other in zip(gradients(recompute=True), gradients(recompute=False), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_half_precision_without_autocast(dtype: torch.dtype, implementation: str) -> None:
    encoder = make_encoder(attn_implementation=implementation)
    x = pixels(encoder, height=16, width=48)
    wanted = encoder(x)[0]
    got = encoder.to(dtype)(x.float(), output_hidden_states=True, output_attentions=True)
    assert {t.dtype for t in (got[0], *got.hidden_states, *got.attentions)} == {dtype}
    assert relative_error(got[0], wanted) < (0.05 if dtype == torch.bfloat16 else 0.006)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_autocast(implementation: str) -> None:
    encoder = make_encoder(attn_implementation=implementation).float()
    x = clip(encoder.config)
    wanted = encoder(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = encoder(x)[0]
        got.float().square().sum().backward()
    assert relative_error(got, wanted) < 0.05
    assert not torch.equal(got.float(), wanted)
    assert all(parameter.grad.dtype == torch.float32 for parameter in encoder.parameters())


def test_autocast_leaves_a_double_model_alone() -> None:
    encoder = make_encoder()
    x = pixels(encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(x)[0], encoder.double()(x)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder(x)[0]
    torch.testing.assert_close(inside, encoder(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_no_gradients_no_difference(context: Any) -> None:
    encoder = make_encoder()
    x = pixels(encoder)
    wanted = encoder(x, output_hidden_states=True)
    with context():
        got = encoder(x, output_hidden_states=True)
    for one, other in zip(got.hidden_states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[0], wanted[0], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_functional_transforms() -> None:
    """Gradients per sample, as torch.func makes them; values are not looked at inside."""
    encoder = make_encoder(num_hidden_layers=1)
    parameters = dict(encoder.named_parameters())
    x = pixels(encoder)

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        out = torch.func.functional_call(encoder, parameters, (sample[None],))
        return out.last_hidden_state.square().sum()

    per_sample = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    wanted = torch.autograd.grad(loss(parameters, x[1]), list(parameters.values()))
    for name, expected in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(per_sample[name][1], expected, rtol=1e-9, atol=1e-9)


def test_the_meta_device_gives_shapes() -> None:
    with torch.device("meta"):
        encoder = VJEPA2Encoder(tiny_config())
        out = encoder(torch.empty(2, 4, 3, 32, 64), output_attentions=True)
    assert out.last_hidden_state.shape == (2, 64, 32)
    assert out.attentions[0].shape == (2, 2, 64, 64)


def test_gradient_reaches_every_parameter_and_the_pixels() -> None:
    encoder = make_encoder(num_hidden_layers=1)
    x = pixels(encoder).requires_grad_()
    encoder(x)[0].square().sum().backward()
    assert all((p.grad != 0).any() for p in (x, *encoder.parameters()))


def test_without_biases_of_query_key_value() -> None:
    encoder = make_encoder(qkv_bias=False)
    names = {name for name, part in encoder.named_modules() if isinstance(part, nn.Linear)}
    without = {name for name in names if encoder.get_submodule(name).bias is None}
    assert without == {n for n in names if n.endswith(("query", "key", "value"))}
    assert torch.isfinite(encoder(pixels(encoder))[0]).all()


@pytest.mark.parametrize("name", ("output_levels", "output_hidden_states", "output_attentions"))
def test_arguments_of_another_type_are_named(name: str) -> None:
    model = make_encoder()
    inputs = (pixels(model),)
    assert_named(
        lambda value: model(*inputs, **{name: value}),
        allowed=lambda value: fits_forward(name, value, depth=2),
        error=InputError,
    )
    with pytest.raises(InputError, match=rf"{name}.* must be .*, got 'x' \(str\)"):
        model(*inputs, **{name: "x"})


def test_tensors_without_values_and_sparse_ones() -> None:
    encoder = make_encoder()
    x, ids = pixels(encoder), random_ids(32, 9)
    with pytest.raises(DtypeError, match="pixel_values_videos has no values"):
        encoder(x.to("meta"))
    with pytest.raises(MaskError, match="keep_ids has no values"):
        encoder(x, ids.to("meta"))
    with pytest.raises(MaskError, match="keep_ids must hold dense tensors, got one stored as"):
        encoder(x, ids.to_sparse())
