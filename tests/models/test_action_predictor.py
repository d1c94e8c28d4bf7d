"""The action-conditioned predictor: Meta's arrays, a slow reference, and who sees what."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tiny_models import block_names, randomise, relative_error, tiny_config
from vjepa2.errors import DtypeError, InputError, ShapeError
from vjepa2.models.action_predictor import VJEPA2ActionPredictor
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.nn.block import Block
from vjepa2.shapes import TokenGrid

FIXTURES = Path(__file__).parent.parent / "fixtures" / "meta"
GRID = TokenGrid(3, 4, 4)  # the training grid of the tiny configuration: 32 pixels, patches of 8
WIDTHS = {"actions": 5, "states": 3, "extrinsics": 4}


def make(**changes: Any) -> VJEPA2ActionPredictor:
    sizes = {f"{name.rstrip('s')}_size": width for name, width in WIDTHS.items()}
    sizes["extrinsics_size"] = sizes.pop("extrinsic_size")
    # Heads of 16 channels: 4 rotated by each axis, 4 not.
    config = tiny_config(model_type="vjepa2_ac", pred_hidden_size=32, **{**sizes, **changes})
    return randomise(VJEPA2ActionPredictor(config).double()).eval()


def inputs(grid: TokenGrid = GRID, *, batch: int = 2, seed: int = 5) -> dict[str, Tensor]:
    """Tokens and conditions, extrinsics included."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"tokens": (batch, grid.num_tokens, 32)}
    shapes |= {name: (batch, grid.t, width) for name, width in WIDTHS.items()}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def without_poses(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if name != "extrinsics"}


# -- Meta's arrays --------------------------------------------------------------------------------


def original_predictor() -> VJEPA2ActionPredictor:
    """The stored weights; names and thirds of the fused matrices written out here."""
    stored = torch.load(FIXTURES / "vjepa2_ac_noext.pt", weights_only=True)["predictor"]
    renamed = {}
    for name, value in stored.items():
        name = name.removeprefix("module.backbone.")
        for old, new in (
            ("predictor_blocks.", "layer."),
            ("predictor_norm", "layernorm"),
            ("predictor_proj", "proj"),
            ("predictor_embed", "embeddings.predictor_embeddings"),
            ("action_encoder", "embeddings.action_embeddings"),
            ("state_encoder", "embeddings.state_embeddings"),
            ("extrinsics_encoder", "embeddings.extrinsics_embeddings"),
            (".attn.", ".attention."),
        ):
            name = name.replace(old, new)
        if "qkv" in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("qkv", part)] = third
        else:
            renamed[name] = value
    config = VJEPA2Config(
        model_type="vjepa2_ac",
        crop_size=64,
        hidden_size=96,
        num_attention_heads=4,
        pred_hidden_size=64,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=3,
    )
    predictor = VJEPA2ActionPredictor(config).eval()
    predictor.load_state_dict(renamed)
    return predictor


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_equals_metas_arrays(implementation: str) -> None:
    predictor, stored = original_predictor(), load_file(FIXTURES / "vjepa2_ac_noext_io.safetensors")
    predictor.config.attn_implementation = implementation
    grid = TokenGrid(4, 4, 4)
    call = [stored[name] for name in ("latents", "actions", "states")]
    with torch.no_grad():
        got = predictor(*call, grid=grid).last_hidden_state
        assert float((got - stored["output"]).abs().max()) <= 1e-4
        # Frames in another order, outputs put back: what a wrong order of time would give.
        turned = predictor(
            call[0].unflatten(1, (4, 16)).flip(1).flatten(1, 2), *call[1:], grid=grid
        )
        back = turned.last_hidden_state.unflatten(1, (4, 16)).flip(1).flatten(1, 2)
        assert relative_error(back, stored["output"]) > 0.1
        # Rows and columns exchanged.
        across = call[0].unflatten(1, (4, 4, 4)).transpose(2, 3).flatten(1, 3)
        turned = predictor(across, *call[1:], grid=grid).last_hidden_state
        back = turned.unflatten(1, (4, 4, 4)).transpose(2, 3).flatten(1, 3)
        assert float((back - stored["output"]).abs().max()) > 1e-3


# -- slow reference -------------------------------------------------------------------------------


def rotated(channels: list[float], position: tuple[float, float, float] | float) -> list[float]:
    """One head of one token, "tiled"; a bare number is the step of a conditioning token."""
    width = 2 * (len(channels) // 3 // 2)
    half = width // 2
    axes = (position,) if isinstance(position, float) else position
    result = list(channels)
    for axis, place in enumerate(axes):
        for m in range(half):
            even, odd = axis * width + 2 * m, axis * width + 2 * m + 1
            angle_even = place * 10_000.0 ** (-(2 * m % half) / half)
            angle_odd = place * 10_000.0 ** (-((2 * m + 1) % half) / half)
            x, y = channels[even], channels[odd]
            result[even] = x * math.cos(angle_even) - y * math.sin(angle_even)
            result[odd] = y * math.cos(angle_odd) + x * math.sin(angle_odd)
    return result


def slow_block(
    block: Block, x: Tensor, positions: list[Any], may_attend: Tensor, *, num_heads: int
) -> Tensor:
    """One sample [N, P]; heads and tokens one after the other, a whole N x N mask."""
    normed = block.norm1(x)
    query, key, value = (
        getattr(block.attention, name)(normed).unflatten(-1, (num_heads, -1))
        for name in ("query", "key", "value")
    )
    heads = []
    for head in range(num_heads):
        q, k = (
            torch.tensor(
                [rotated(row, p) for row, p in zip(z[:, head].tolist(), positions, strict=True)],
                dtype=torch.float64,
            )
            for z in (query, key)
        )
        scores = q @ k.T / math.sqrt(q.shape[-1])
        scores[~may_attend] = -math.inf
        heads.append(scores.softmax(-1) @ value[:, head])
    x = x + block.attention.proj(torch.cat(heads, dim=-1))
    return x + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(x))))


@torch.no_grad()
def slow_reference(
    predictor: VJEPA2ActionPredictor,
    grid: TokenGrid,
    tokens: Tensor,
    actions: Tensor,
    states: Tensor,
    extrinsics: Tensor | None = None,
    *,
    side: int,
) -> Tensor:
    """Published algorithm, one sample and one step after the other."""
    embeddings, results = predictor.embeddings, []
    for sample in range(len(tokens)):
        rows: list[Tensor] = []
        positions: list[Any] = []
        steps: list[int] = []
        patches: list[int] = []
        for step in range(grid.t):
            conditions = [
                embeddings.action_embeddings(actions[sample, step]),
                embeddings.state_embeddings(states[sample, step]),
            ]
            if extrinsics is not None:
                conditions.append(embeddings.extrinsics_embeddings(extrinsics[sample, step]))
            for condition in conditions:
                rows.append(condition)
                positions.append(float(step))
                steps.append(step)
            for row in range(grid.h):
                for column in range(grid.w):
                    patches.append(len(rows))
                    token_id = (step * grid.h + row) * grid.w + column
                    rows.append(embeddings.predictor_embeddings(tokens[sample, token_id]))
                    positions.append((step, row * side / grid.h, column * side / grid.w))
                    steps.append(step)
        may_attend = torch.zeros(len(rows), len(rows), dtype=torch.bool)
        for query in range(len(rows)):
            for key in range(len(rows)):
                may_attend[query, key] = steps[key] <= steps[query]
        x = torch.stack(rows)
        heads = predictor.config.pred_num_attention_heads
        for block in predictor.layer:
            x = slow_block(block, x, positions, may_attend, num_heads=heads)
        results.append(predictor.proj(predictor.layernorm(x[patches])))
    return torch.stack(results)


@pytest.mark.parametrize("with_poses", [False, True])
@pytest.mark.parametrize("grid", [GRID, TokenGrid(2, 2, 5), TokenGrid(1, 3, 3), TokenGrid(4, 6, 1)])
def test_equals_slow_loops(grid: TokenGrid, with_poses: bool) -> None:
    predictor, values = make(), inputs(grid)
    if not with_poses:
        values = without_poses(values)
    with torch.no_grad():
        got = predictor(**values, grid=grid).last_hidden_state
    assert got.shape == values["tokens"].shape
    wanted = slow_reference(predictor, grid, **values, side=4)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_the_configured_size_is_the_grid_of_training() -> None:
    """The same patches on a network for twice the resolution stand twice as far apart."""
    values, grid = without_poses(inputs()), GRID
    small, large = make(), make(crop_size=64)
    with torch.no_grad():
        got = large(**values, grid=grid).last_hidden_state
        torch.testing.assert_close(
            got, slow_reference(large, grid, **values, side=8), rtol=1e-10, atol=1e-10
        )
        assert relative_error(small(**values, grid=grid).last_hidden_state, got) > 1e-3


# -- who sees what --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("name", ["tokens", "actions", "states", "extrinsics"])
def test_no_step_sees_a_later_one(name: str, step: int) -> None:
    """Steps before a change keep their bits; every patch of that step and of later ones changes."""
    predictor, values = make(), inputs()
    before = predictor(**values, grid=GRID).last_hidden_state.unflatten(1, (3, 16))
    changed = values[name].clone().unflatten(1, (3, -1))
    changed[:, step] += 1.0
    values[name] = changed.flatten(1, 2)
    after = predictor(**values, grid=GRID).last_hidden_state.unflatten(1, (3, 16))
    assert torch.equal(after[:, :step], before[:, :step])
    assert ((after[:, step:] - before[:, step:]).abs().amax(-1) > 1e-9).all()


@torch.no_grad()
def test_within_a_step_everything_sees_everything() -> None:
    """The last patch of a step changes its action's token, and that of later steps only."""
    predictor, values = make(pred_num_hidden_layers=1), inputs()
    levels = []
    for add in (0.0, 1.0):
        values["tokens"][:, 16 + 15] += add
        out = predictor(**values, grid=GRID, output_hidden_states=[1])
        levels.append(out.hidden_states[1].unflatten(1, (3, 19)))
    changed = ((levels[1] - levels[0]).abs().amax(-1) > 1e-9).all(0)  # [step, token]
    assert changed.tolist() == [[False] * 19, [True] * 19, [True] * 19]


@torch.no_grad()
def test_a_shorter_episode_is_the_beginning_of_a_longer_one() -> None:
    predictor, values = make(), inputs()
    whole = predictor(**values, grid=GRID).last_hidden_state
    for steps in (1, 2):
        start = {name: value.unflatten(1, (3, -1))[:, :steps] for name, value in values.items()}
        start = {name: value.flatten(1, 2) for name, value in start.items()}
        got = predictor(**start, grid=GRID._replace(t=steps)).last_hidden_state
        torch.testing.assert_close(got, whole[:, : steps * 16], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_extrinsics_are_used_exactly_when_given() -> None:
    predictor, values = make(), inputs()
    without = predictor(**without_poses(values), grid=GRID).last_hidden_state
    assert torch.equal(
        predictor(**{**values, "extrinsics": None}, grid=GRID).last_hidden_state, without
    )
    for pose in (values["extrinsics"], torch.zeros_like(values["extrinsics"])):
        got = predictor(**{**values, "extrinsics": pose}, grid=GRID).last_hidden_state
        assert relative_error(got, without) > 1e-3


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_long_episodes_need_no_square(implementation: str) -> None:
    """40 steps, more than the published 32: neither a mask nor scores of all tokens by all."""
    grid = TokenGrid(40, 4, 4)
    predictor, values = make(attn_implementation=implementation), inputs(grid, batch=1)
    num_tokens = 40 * 19
    with LargestTensor() as largest:
        whole = predictor(**values, grid=grid).last_hidden_state
    assert largest.elements < num_tokens**2 / 8
    start = {name: value.unflatten(1, (40, -1))[:, :9] for name, value in values.items()}
    start = {name: value.flatten(1, 2) for name, value in start.items()}
    got = predictor(**start, grid=grid._replace(t=9)).last_hidden_state
    torch.testing.assert_close(got, whole[:, : 9 * 16], rtol=1e-10, atol=1e-10)


# -- switches -------------------------------------------------------------------------------------


@torch.no_grad()
def test_eager_equals_sdpa_and_gives_weights() -> None:
    predictor, values = make(), inputs()
    wanted = predictor(**values, grid=GRID).last_hidden_state
    predictor.config.attn_implementation = "eager"
    out = predictor(**values, grid=GRID, output_attentions=True)
    torch.testing.assert_close(out.last_hidden_state, wanted, rtol=1e-10, atol=1e-10)
    step = torch.arange(3).repeat_interleave(19)
    for weights in out.attentions:
        assert weights.shape == (2, 2, 57, 57)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert ((weights > 0) == (step[:, None] >= step)).all()


@torch.no_grad()
def test_levels() -> None:
    predictor, values = make(), inputs()
    out = predictor(**values, grid=GRID, output_hidden_states=True)
    assert [tuple(level.shape) for level in out.hidden_states] == [(2, 57, 32)] * 3
    first = out.hidden_states[0].unflatten(1, (3, 19))
    parts = ("action", "state", "extrinsics")
    for place, (part, given) in enumerate(
        zip(parts, ("actions", "states", "extrinsics"), strict=True)
    ):
        embed = getattr(predictor.embeddings, f"{part}_embeddings")
        torch.testing.assert_close(first[:, :, place], embed(values[given]))
    last = out.hidden_states[-1].unflatten(1, (3, 19))[:, :, 3:].flatten(1, 2)
    wanted = predictor.proj(predictor.layernorm(last))
    torch.testing.assert_close(out.last_hidden_state, wanted, rtol=1e-10, atol=1e-10)
    with pytest.raises(InputError, match="level 3; there are 3"):
        predictor(**values, grid=GRID, output_hidden_states=[3])


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_without_autocast(dtype: torch.dtype, implementation: str) -> None:
    predictor, values = make(attn_implementation=implementation), inputs()
    wanted = predictor(**values, grid=GRID).last_hidden_state
    values["tokens"] = values["tokens"].to(dtype)  # conditions stay as they were recorded
    got = predictor.to(dtype)(**values, grid=GRID).last_hidden_state
    assert got.dtype == dtype
    assert relative_error(got, wanted) < 0.05


@torch.no_grad()
def test_autocast() -> None:
    predictor, values = make().float(), inputs()
    values["tokens"] = values["tokens"].float()
    wanted = predictor(**values, grid=GRID).last_hidden_state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = predictor(**values, grid=GRID).last_hidden_state
    assert got.dtype == torch.bfloat16
    assert relative_error(got, wanted) < 0.05


def test_gradients_and_recomputation() -> None:
    """Every parameter and every input gets a gradient, the same one when recomputed."""
    gradients = []
    for recompute in (False, True):
        predictor = make().train()
        predictor.gradient_checkpointing = recompute
        values = {name: value.requires_grad_() for name, value in inputs().items()}
        loss = predictor(**values, grid=GRID).last_hidden_state.square().sum()
        gradients.append(torch.autograd.grad(loss, [*values.values(), *predictor.parameters()]))
        assert all((gradient != 0).any() for gradient in gradients[-1])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_gradients_equal_differences() -> None:
    """Of a sum over the last step, with respect to actions: as planning by gradient needs them."""
    predictor, values = make(), inputs(batch=1)
    direction = torch.randn(1, 3, 5, dtype=torch.float64)
    weight = torch.randn(16, 32, dtype=torch.float64)

    def score(amount: float) -> Tensor:
        moved = {**values, "actions": values["actions"] + amount * direction}
        return (predictor(**moved, grid=GRID).last_hidden_state[0, -16:] * weight).sum()

    actions = values["actions"].requires_grad_()
    [gradient] = torch.autograd.grad(score(0.0), [actions])
    with torch.no_grad():
        wanted = (score(1e-5) - score(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), wanted, rtol=1e-6, atol=1e-8)


# -- names and mistakes ---------------------------------------------------------------------------


def test_names_of_the_parameters() -> None:
    wanted = block_names("layer.0") | block_names("layer.1")
    for part in ("predictor", "action", "state", "extrinsics"):
        wanted |= {f"embeddings.{part}_embeddings.{leaf}" for leaf in ("weight", "bias")}
    wanted |= {f"{part}.{leaf}" for part in ("layernorm", "proj") for leaf in ("weight", "bias")}
    assert set(make().state_dict()) == wanted


NAN = torch.full((2, 3, 5), torch.nan, dtype=torch.float64)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"actions": torch.zeros(2, 3, 7)}, ShapeError, r"actions must be .*action_size=5\], got"),
        ({"actions": torch.zeros(2, 2, 5)}, ShapeError, r"actions .*t=3.*\[2, 2, 5\].*per frame"),
        ({"actions": torch.zeros(1, 3, 5)}, ShapeError, r"actions must be \[B=2"),
        ({"actions": torch.zeros(3, 5)}, ShapeError, r"actions .*got \[3, 5\]"),
        ({"states": torch.zeros(2, 3, 5)}, ShapeError, r"states must be .*state_size=3\]"),
        ({"extrinsics": torch.zeros(2, 3, 6)}, ShapeError, "extrinsics must be .*extrinsics_size"),
        ({"actions": None}, DtypeError, "actions must be a floating point tensor .*NoneType"),
        ({"states": torch.zeros(2, 3, 3, dtype=torch.int64)}, DtypeError, "states .*torch.int64"),
        ({"extrinsics": [0.0] * 6}, DtypeError, "extrinsics must be .* got list"),
        ({"actions": NAN}, DtypeError, "actions holds NaN or infinity"),
        ({"states": torch.full((2, 3, 3), torch.inf)}, DtypeError, "states holds NaN or infinity"),
        ({"tokens": torch.zeros(2, 47, 32)}, ShapeError, r"= \[B, 48, 32\] .*3x4x4, got .*47"),
        ({"tokens": torch.zeros(2, 48, 31)}, ShapeError, r"tokens must be .*got \[2, 48, 31\]"),
        ({"tokens": torch.zeros(48, 32)}, ShapeError, r"tokens must be .*got \[48, 32\]"),
        ({"tokens": torch.zeros(2, 48, 32, dtype=torch.int64)}, DtypeError, "got torch.int64"),
        ({"tokens": None}, DtypeError, "tokens must be floating point features.*NoneType"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()(**{**inputs(), **changes}, grid=GRID)
