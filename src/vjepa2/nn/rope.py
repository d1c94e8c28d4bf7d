"""Rotary position embedding over three axes: time, height, width (V-JEPA 2, section 2.1).

A head of width Dh is cut into [time | height | width | rest]; each axis takes
`2 * (Dh // 3 // 2)` channels, the rest is not rotated. Channel pair k of an axis turns by
`position * 10000 ** (-k / (axis_width / 2))`. Only queries and keys are rotated.

Two layouts exist and weights are tied to one of them:

- "tiled" (V-JEPA 2 and 2-AC): the pairs are adjacent channels (2m, 2m+1), but the table of
  frequencies is laid out twice in a row, so the two channels of a pair use *different*
  frequencies. This is not a rotation (it changes norms). Compatibility: it came from a bug in
  the published code, the released weights were trained with it and must be run with it.
- "interleaved" (V-JEPA 2.1): both channels of a pair share one frequency; a true rotation.

V-JEPA 2.1 also maps rows and columns of every grid onto those of its reference grid, 16 x 16
(arXiv:2603.14482, section 3): position = index * 15 / (n - 1). V-JEPA 2-AC maps them onto its
training grid by another rule, position = index * side / n. Time is never mapped.

The tables are made once per forward, in float32, and handed to every block.

On CPU pairs of channels are rotated as complex numbers, which takes about half the time (exchanging
neighbours is slow there): z becomes alpha z + beta conj(z), where beta is 0 for true rotations.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from vjepa2.shapes import TokenGrid

RotaryLayout = Literal["tiled", "interleaved"]

BASE = 10_000.0


class RotaryTables(NamedTuple):
    """Factors that rotate the channels of a head: `x * cos + swap_pairs(x) * sin`.

    `cos` covers the whole head and is 1 where nothing rotates; `sin` covers only the rotated
    channels, which come first, and carries the sign of the rotation. B is 1 where all samples
    share their positions. `pairs` says the same for pairs of channels, where that is quicker.
    """

    cos: Float[Tensor, "B N 1 Dh"]
    sin: Float[Tensor, "B N 1 Rotated"]
    pairs: "PairFactors | None" = None

    def to_dtype(self, dtype: torch.dtype) -> "RotaryTables":
        """Round both tables once to the element type the blocks compute in."""
        return RotaryTables(self.cos.to(dtype), self.sin.to(dtype))

    def part(self, start: int, stop: int) -> "RotaryTables":
        """The factors of tokens `start` to `stop - 1`."""
        pairs = None if self.pairs is None else self.pairs.part(start, stop)
        return RotaryTables(self.cos[:, start:stop], self.sin[:, start:stop], pairs)


class PairFactors(NamedTuple):
    """Channels (2m, 2m + 1) as z = x[2m] + i x[2m + 1]: rotated, alpha z + beta conj(z).

    beta is None where it is 0 everywhere. Unrotated channels have alpha = 1.
    """

    alpha: Complex[Tensor, "B N 1 Dh2"]
    beta: Complex[Tensor, "B N 1 Dh2"] | None

    def part(self, start: int, stop: int) -> "PairFactors":
        """The factors of tokens `start` to `stop - 1`."""
        beta = None if self.beta is None else self.beta[:, start:stop]
        return PairFactors(self.alpha[:, start:stop], beta)


def pair_factors(tables: RotaryTables, layout: RotaryLayout) -> PairFactors:
    """The factors of `tables`; heads have an even number of channels."""
    num_rest = tables.cos.shape[-1] - tables.sin.shape[-1]
    sin = torch.nn.functional.pad(tables.sin, (0, num_rest))
    (cos_even, cos_odd), (sin_even, sin_odd) = (
        (table[..., 0::2], table[..., 1::2]) for table in (tables.cos, sin)
    )
    alpha = torch.complex((cos_even + cos_odd) / 2, (sin_odd - sin_even) / 2)
    if layout == "interleaved":
        return PairFactors(alpha, None)
    return PairFactors(alpha, torch.complex((cos_even - cos_odd) / 2, (sin_even + sin_odd) / 2))


def axis_width(head_dim: int) -> int:
    """Channels of a head that each of the three axes rotates."""
    return 2 * (head_dim // 3 // 2)


def token_positions(
    token_ids: Int[Tensor, "... N"], grid: TokenGrid
) -> tuple[Int[Tensor, "... N"], Int[Tensor, "... N"], Int[Tensor, "... N"]]:
    """Split token ids into (time, row, column) on a grid with `grid.h` rows, `grid.w` columns.

    Ids beyond the grid's last time step are allowed: they lie in the future of the clip.
    """
    time = torch.div(token_ids, grid.tokens_per_step, rounding_mode="floor")
    within = token_ids - time * grid.tokens_per_step
    row = torch.div(within, grid.w, rounding_mode="floor")
    return time, row, within - row * grid.w


def rotary_tables(
    token_ids: Int[Tensor, "B N"],
    grid: TokenGrid,
    *,
    head_dim: int,
    layout: RotaryLayout = "tiled",
    reference_side: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> RotaryTables:
    """Make the rotation factors for exactly the tokens in use.

    Args:
        token_ids: flat ids on `grid`, one row for all samples (B = 1) or one row each.
        grid: token grid of the *input*, not of a configuration.
        head_dim: width Dh of an attention head.
        layout: see the module docstring.
        reference_side: rows and columns of the grid that spatial positions are mapped onto; None
            leaves them as they are.
        dtype: element type of the angles; float32, or float64 for a float64 model.
    """
    positions = torch.stack(token_positions(token_ids, grid), dim=-1).to(dtype)  # [B, N, 3]
    if reference_side is not None:
        scales = (1.0, *(_spatial_scale(n, reference_side) for n in (grid.h, grid.w)))
        positions = positions * torch.tensor(scales, dtype=dtype, device=token_ids.device)
    return tables_at(positions, head_dim=head_dim, layout=layout)


def tables_at(
    positions: Float[Tensor, "B N 3"], *, head_dim: int, layout: RotaryLayout
) -> RotaryTables:
    """Rotation factors at (time, row, column), in the element type of `positions`."""
    device, dtype = positions.device, positions.dtype
    width = axis_width(head_dim)
    half = width // 2
    order = torch.arange(width, device=device)
    pair = order % half if layout == "tiled" else order // 2
    # The same expression and order of operations as the published code: bit-equal angles.
    frequency = 1.0 / BASE ** (pair.to(dtype) / (width / 2.0))  # [axis_width]
    angles = (positions[..., None] * frequency).flatten(-2)[:, :, None]  # [B, N, 1, 3 * width]
    # y[2m] = x[2m] cos - x[2m+1] sin;  y[2m+1] = x[2m+1] cos + x[2m] sin
    sign = (order % 2 * 2 - 1).to(dtype).repeat(3)
    cos = torch.nn.functional.pad(angles.cos(), (0, head_dim - 3 * width), value=1.0)
    return RotaryTables(cos, angles.sin() * sign)


def _spatial_scale(num_positions: int, reference_side: int) -> float:
    """Factor from index to position; a single row or column stands at 0 whatever the factor."""
    return (reference_side - 1) / (num_positions - 1) if num_positions > 1 else 1.0


def apply_rotary(x: Float[Tensor, "B N G Dh"], tables: RotaryTables) -> Float[Tensor, "B N G Dh"]:
    """Rotate queries or keys. The tables must have the element type of `x`."""
    # Compiled blocks may get tables that were made outside; compilers write no complex numbers.
    is_compiling = torch.compiler.is_compiling()
    if tables.pairs is not None and not is_compiling and _is_array_of_pairs(x):
        return _rotate_pairs(x, tables.pairs)
    num_rotated = tables.sin.shape[-1]
    swapped = x[..., :num_rotated].unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    rotated = x * tables.cos
    rotated[..., :num_rotated].addcmul_(swapped, tables.sin)
    return rotated


def _is_array_of_pairs(x: Tensor) -> bool:
    """Whether memory can be read as complex numbers."""
    return type(x) is Tensor and x.is_contiguous() and x.storage_offset() % 2 == 0


def _rotate_pairs(x: Float[Tensor, "B N G Dh"], factors: PairFactors) -> Tensor:
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    rotated = z * factors.alpha
    if factors.beta is not None:
        rotated.addcmul_(torch.conj_physical(z), factors.beta)
    return torch.view_as_real(rotated).flatten(-2)


def compute_dtype(tokens: Tensor) -> torch.dtype:
    """Element type the blocks will compute in: autocast's where it is on, else that of `tokens`.

    Autocast leaves float64 alone, and some devices ("meta") have none.
    """
    device_type = tokens.device.type
    if (
        tokens.dtype != torch.float64
        and torch.amp.is_autocast_available(device_type)
        and torch.is_autocast_enabled(device_type)
    ):
        return torch.get_autocast_dtype(device_type)
    return tokens.dtype


def tables_for(
    tokens: Float[Tensor, "B N D"],
    token_ids: Int[Tensor, "B2 N"],
    grid: TokenGrid,
    *,
    head_dim: int,
    layout: RotaryLayout = "tiled",
    reference_side: int | None = None,
) -> RotaryTables:
    """Rotary tables for one forward: angles in float32 or better, rounded once for the blocks."""
    angles = torch.promote_types(tokens.dtype, torch.float32)
    tables = rotary_tables(
        token_ids,
        grid,
        head_dim=head_dim,
        layout=layout,
        reference_side=reference_side,
        dtype=angles,
    )
    return _rounded(tables, tokens, layout)


def _rounded(tables: RotaryTables, tokens: Tensor, layout: RotaryLayout) -> RotaryTables:
    """`tables` as the blocks take them."""
    rounded = tables.to_dtype(compute_dtype(tokens))
    if not _pairs_are_quicker(rounded.cos):
        return rounded
    return rounded._replace(pairs=pair_factors(rounded, layout))


def _pairs_are_quicker(table: Tensor) -> bool:
    """Where complex numbers are quicker: compilers and other devices merge the real operations."""
    return (
        table.device.type == "cpu"
        and table.dtype in (torch.float32, torch.float64)
        and table.shape[-1] % 2 == 0
        and not torch.compiler.is_compiling()
    )


def conditioned_positions(
    grid: TokenGrid,
    *,
    num_conditions: int,
    training_side: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "1 N 3"]:
    """Positions where every time step is [conditioning tokens, patches] (V-JEPA 2-AC).

    Patches stand at (step, row * training_side / h, column * training_side / w), as the published
    code places them: 1 apart on the grid of training, closer together on a finer one.
    Conditioning tokens stand at (step, 0, 0): there only the channels of time rotate.

    Args:
        grid: token grid of the patches.
        num_conditions: conditioning tokens per step.
        training_side: rows and columns of the grid that the network was trained on.
    """
    time, row, column = (
        axis.to(dtype)
        for axis in token_positions(torch.arange(grid.num_tokens, device=device), grid)
    )
    scaled = (time, row * (training_side / grid.h), column * (training_side / grid.w))
    patches = torch.stack(scaled, dim=-1).unflatten(0, (grid.t, grid.tokens_per_step))
    first_patch = patches[:, :1]  # of every step: row 0, column 0
    conditions = first_patch.expand(-1, num_conditions, -1)
    return torch.cat([conditions, patches], dim=1).flatten(0, 1)[None]


def conditioned_tables_for(
    tokens: Float[Tensor, "B N D"],
    grid: TokenGrid,
    *,
    num_conditions: int,
    training_side: int,
    head_dim: int,
) -> RotaryTables:
    """As `tables_for`, for the tokens of `conditioned_positions`, which V-JEPA 2-AC tiles."""
    positions = conditioned_positions(
        grid,
        num_conditions=num_conditions,
        training_side=training_side,
        device=tokens.device,
        dtype=torch.promote_types(tokens.dtype, torch.float32),
    )
    tables = tables_at(positions, head_dim=head_dim, layout="tiled")
    return _rounded(tables, tokens, "tiled")
