"""Is a pretraining run learning? Measures on one fixed batch that is held out of training.

The loss alone does not tell: it falls while the network learns and while it forgets, because the
targets are made by the network itself. What tells is how rich the features are, how far clips are
apart, and how much better the prediction is than a trivial one on the same masks.

    rank         exp(entropy of the normalised singular values)   RankMe, arXiv:2210.02885
    cosine       mean cosine between the pooled features of two clips
    variance     mean variance of a channel over all tokens
    between      share of that variance that differs from clip to clip at the same place
    skill        1 - loss / loss of the better trivial predictor
    leak         how far predictions move when only hidden pixels change; must be 0

All are cheap, run under `no_grad`, and never change the networks. They are computed in float64 on
the features' own device (on the CPU where the device has no float64).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.errors import ShapeError
from vjepa2.losses import prediction_error
from vjepa2.masking import Masks
from vjepa2.shapes import TokenGrid

# Of more tokens, this many are taken, evenly spread: the rank of a network of width D is known
# from a few times D of them.
MAX_TOKENS = 8192


@torch.no_grad()
def effective_rank(features: Float[Tensor, "n D"]) -> float:
    """RankMe: exp(-sum p log p), p = singular values / their sum (arXiv:2210.02885, equation 1).

    As published, features are not centred: clips that all look alike give 1, however their small
    differences are spread.

    Returns:
        1 (all features lie on one line) to min(n, D); 0 for features that are all zero; NaN where
        one is not finite.

    Raises:
        ShapeError: the features are not [n, D].
    """
    if features.ndim != 2:
        raise ShapeError(f"Expected features [n, D], got {list(features.shape)}.")
    values = _precise(features)
    if not bool(values.isfinite().all()):
        return float("nan")
    n, width = values.shape
    gram = values.T @ values if n >= width else values @ values.T
    # Rounding leaves about 1e-16 of the largest in each empty direction: 1e-8 after the root.
    squares = torch.linalg.eigvalsh(gram)
    squares = torch.where(squares > 1e-13 * squares.amax(), squares, 0.0)
    sizes = squares.sqrt()
    total = float(sizes.sum())
    if total <= 0:
        return 0.0
    return float(torch.special.entr(sizes / total).sum().exp())


@torch.no_grad()
def mean_cosine(vectors: Float[Tensor, "n D"]) -> float:
    """Mean cosine between two different rows; 1 for a single row or rows that are all zero."""
    values = _precise(vectors)
    n = len(values)
    sizes = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    if n < 2 or not bool((sizes > 0).any()):
        return 1.0
    unit = values / sizes.clamp_min(torch.finfo(values.dtype).tiny)
    # The sum over all pairs is the square of the sum.
    return float((unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1)))


@torch.no_grad()
def token_variance(tokens: Float[Tensor, "B N D"]) -> tuple[float, float]:
    """(variance of a channel over all tokens, share of it between clips at the same place).

    The share is 0 when a token tells only where it is, and nothing of what is there.
    """
    values = _precise(tokens)
    total = values.flatten(0, 1).var(dim=0, unbiased=False).mean()
    between = values.var(dim=0, unbiased=False).mean()
    share = between / total if float(total) > 0 else torch.zeros_like(total)
    return float(total), float(share)


@torch.no_grad()
def feature_numbers(
    tokens: Float[Tensor, "B N D"], *, name: str, pooled: Float[Tensor, "B D"] | None = None
) -> dict[str, float]:
    """How rich the tokens of one network are, of a batch of clips.

    Args:
        tokens: of `encoder(pixels)`, all tokens of every clip.
        name: of the network, `teacher` or `student`; the keys begin with it.
        pooled: mean over all tokens of a clip, where `tokens` are only some of them (`thinned`).

    Returns:
        `NAME_token_rank`, `NAME_pooled_rank` (mean over the tokens of a clip; at most B),
        `NAME_cosine`, `NAME_variance`, `NAME_between`; see the module.

    Raises:
        ShapeError: the tokens are not [B, N, D].
    """
    if tokens.ndim != 3:
        raise ShapeError(f"Expected tokens [B, N, D], got {list(tokens.shape)}.")
    pooled = pooled_tokens(tokens) if pooled is None else pooled
    variance, between = token_variance(thinned(tokens))
    return {
        f"{name}_token_rank": effective_rank(thinned(tokens).flatten(0, 1)),
        f"{name}_pooled_rank": effective_rank(pooled),
        f"{name}_cosine": mean_cosine(pooled),
        f"{name}_variance": variance,
        f"{name}_between": between,
    }


def pooled_tokens(tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B D"]:
    """Mean over the tokens of a clip, in float32."""
    return tokens.mean(dim=1, dtype=torch.float32)


@torch.no_grad()
def prediction_numbers(
    predicted: Sequence[Float[Tensor, "B M D"]],
    targets: Float[Tensor, "B N D"],
    masks: Sequence[Masks],
    grid: TokenGrid,
    *,
    exponent: float = 1.0,
    means: Sequence[Float[Tensor, "D"]] | None = None,
) -> dict[str, float]:
    """The loss beside two predictors that know nothing, on the same masks.

    Args:
        predicted: the predictor's tokens, one tensor a mask.
        targets: `losses.normalised_targets` of the teacher, all tokens.
        masks: in the order of `predicted`.
        grid: the token grid of the clips.
        exponent: of the loss.
        means: of the hidden targets of every mask, where these clips are a part of more; None:
            of these clips.

    Returns:
        `held_out_loss`; `copy_mean_loss` (predicts the mean of all hidden targets everywhere);
        `copy_nearest_loss` (predicts the target of the nearest token that is visible);
        `skill`, see there; `target_variance` (0..1, of the normalised targets; 0 when all are
        alike); `visible_targets` (share of targets that are visible: must be 0);
        `context_share` (share of the tokens that is visible).
    """
    if means is None:
        means = [hidden_sum(targets, mask) / mask.target_ids.numel() for mask in masks]
    losses = [
        _losses(guess, targets, mask, mean.to(targets), grid, exponent=exponent)
        for guess, mask, mean in zip(predicted, masks, means, strict=True)
    ]
    own, copy_mean, copy_nearest = (float(loss) for loss in torch.stack(losses).mean(dim=0))
    shares = [_visible_share(mask, grid.num_tokens) for mask in masks]
    return {
        "held_out_loss": own,
        "copy_mean_loss": copy_mean,
        "copy_nearest_loss": copy_nearest,
        "skill": skill(own, copy_mean, copy_nearest),
        "target_variance": token_variance(thinned(targets))[0],
        "visible_targets": sum(shares) / len(shares),
        "context_share": sum(mask.context_ids.shape[1] for mask in masks)
        / (len(masks) * grid.num_tokens),
    }


def skill(own: float, *trivial: float) -> float:
    """1 - loss / the smallest loss of a trivial predictor: 0 is no better than it, 1 perfect."""
    return 1.0 - own / max(min(trivial), 1e-9)


def hidden_sum(targets: Float[Tensor, "B N D"], mask: Masks) -> Float[Tensor, "D"]:
    """Sum of the hidden targets over clips and tokens, in float64."""
    parts = [_precise(_at(targets, ids)).sum(dim=(0, 1)) for ids in _portions(mask.target_ids)]
    return torch.stack(parts).sum(dim=0)


def _losses(
    guess: Tensor, targets: Tensor, mask: Masks, mean: Tensor, grid: TokenGrid, *, exponent: float
) -> Tensor:
    """Of the prediction, of the mean, and of the nearest visible token; some tokens at a time."""
    nearest = nearest_visible(mask.context_ids, mask.target_ids, grid)
    total, start = targets.new_zeros(3), 0
    for ids, near in zip(_portions(mask.target_ids), _portions(nearest), strict=True):
        hidden, stop = _at(targets, ids), start + ids.shape[1]
        part = [
            prediction_error(each, hidden, exponent=exponent)
            for each in (
                guess[:, start:stop].to(targets.dtype),
                mean.expand_as(hidden),
                _at(targets, near),
            )
        ]
        total, start = total + (stop - start) * torch.stack(part), stop
    return total / start


def _portions(ids: Int[Tensor, "B M"]) -> tuple[Int[Tensor, "B m"], ...]:
    """At most `MAX_TOKENS` tokens at a time: those of wide targets are large."""
    parts: tuple[Tensor, ...] = ids.split(max(1, MAX_TOKENS // len(ids)), dim=1)
    return parts


def nearest_visible(
    context_ids: Int[Tensor, "B K"], target_ids: Int[Tensor, "B M"], grid: TokenGrid
) -> Int[Tensor, "B M"]:
    """Id of the visible token nearest to each hidden one, in (time step, row, column).

    A target that is visible itself (a mistake that `prediction_numbers` counts) gets another one.
    """
    context, target = (_coordinates(ids, grid) for ids in (context_ids, target_ids))
    rows = []
    # One clip and some targets at a time: the whole table has gigabytes for long, large clips.
    for seen, asked, ids in zip(context, target, context_ids, strict=True):
        parts = []
        for part in asked.split(MAX_TOKENS):
            distances = torch.cdist(part, seen, compute_mode="donot_use_mm_for_euclid_dist")
            distances = torch.where(distances > 0, distances, float("inf"))
            parts.append(ids[distances.argmin(dim=-1)])
        rows.append(torch.cat(parts))
    return torch.stack(rows)


@torch.no_grad()
def mean_move(
    predicted: Sequence[Float[Tensor, "B M D"]], changed: Sequence[Float[Tensor, "B M D"]]
) -> float:
    """How far predictions move when only hidden pixels changed.

    Anything but 0 means that the answer is visible: the masks hide nothing, or the student sees
    more than its context.

    Args:
        predicted: one tensor a mask, from the clips themselves.
        changed: the same, from `with_hidden_changed`.
    """
    total = sum(
        float((_precise(after) - _precise(before)).abs().sum())
        for one, other in zip(predicted, changed, strict=True)
        for before, after in zip(_pieces(one), _pieces(other), strict=True)
    )
    return total / sum(part.numel() for part in predicted)


@torch.no_grad()
def mean_token(predicted: Sequence[Float[Tensor, "B M D"]]) -> Float[Tensor, "D"]:
    """Mean over all tokens of all masks, in float64."""
    sums = [_precise(piece).sum(dim=0) for part in predicted for piece in _pieces(part)]
    return torch.stack(sums).sum(dim=0) / sum(part[..., 0].numel() for part in predicted)


@torch.no_grad()
def mean_spread(
    predicted: Sequence[Float[Tensor, "B M D"]], mean: Float[Tensor, "D"] | None = None
) -> float:
    """How far predictions are from their mean, or from `mean`; what `mean_move` is compared to."""
    mean = mean_token(predicted) if mean is None else mean
    total = sum(
        float((_precise(piece) - mean).abs().sum()) for part in predicted for piece in _pieces(part)
    )
    return total / sum(part.numel() for part in predicted)


def _pieces(tokens: Float[Tensor, "B M D"]) -> tuple[Float[Tensor, "m D"], ...]:
    pieces: tuple[Tensor, ...] = tokens.flatten(0, 1).split(MAX_TOKENS)
    return pieces


def with_hidden_changed(
    pixels: Float[Tensor, "B T C H W"],
    target_ids: Int[Tensor, "B M"],
    grid: TokenGrid,
    *,
    patch_size: int,
    tubelet_size: int,
) -> Float[Tensor, "B T C H W"]:
    """The clips with other pixels (1 - x) at the hidden tokens, all other pixels as they are.

    Pixels that belong to no token, at the border, stay.

    Args:
        pixels: normalised pixels.
        target_ids: ids of the hidden tokens.
        grid: the token grid of the clips.
        patch_size: pixels along each side of a token.
        tubelet_size: frames of a token; those that a short clip lacks are left out.
    """
    batch, num_frames, _, height, width = pixels.shape
    hidden = torch.zeros(batch, grid.num_tokens, dtype=torch.bool, device=pixels.device)
    hidden.scatter_(1, target_ids.to(pixels.device), True)
    spread = hidden.view(batch, *grid)
    for axis, side in enumerate((tubelet_size, patch_size, patch_size), start=1):
        spread = spread.repeat_interleave(side, dim=axis)
    spread = spread[:, :num_frames]
    whole = torch.zeros(batch, num_frames, height, width, dtype=torch.bool, device=pixels.device)
    whole[:, : spread.shape[1], : spread.shape[2], : spread.shape[3]] = spread
    return torch.where(whole[:, :, None], 1 - pixels, pixels)


@torch.no_grad()
def data_numbers(
    pixels: Float[Tensor, "B T C H W"], *, mean: Float[Tensor, "T C H W"] | None = None
) -> dict[str, float]:
    """Is there anything to learn from? Mean absolute differences of normalised pixels.

    Args:
        pixels: of clips.
        mean: clip, where these are a part of more; None: of these.

    Returns:
        `pixel_contrast` within a frame (from its mean), `pixel_change` between clips (from the
        mean clip), `pixel_motion` between neighbouring frames.
    """
    values = pixels.detach().float()
    mean = values.mean(dim=0) if mean is None else mean
    motion = values.diff(dim=1).abs().mean() if values.shape[1] > 1 else values.new_zeros(())
    return {
        "pixel_contrast": float((values - values.mean(dim=(3, 4), keepdim=True)).abs().mean()),
        "pixel_change": float((values - mean).abs().mean()),
        "pixel_motion": float(motion),
    }


def stall_share(stall_seconds: float, step_seconds: float) -> float:
    """Share of a step's time that the trainer waited for data, 0..1."""
    return min(1.0, max(0.0, stall_seconds / step_seconds)) if step_seconds > 0 else 0.0


def _visible_share(mask: Masks, num_tokens: int) -> float:
    context, target = mask.context_ids, mask.target_ids
    visible = torch.zeros(len(context), num_tokens, dtype=torch.bool, device=context.device)
    visible.scatter_(1, context, True)
    return float(visible.gather(1, target).float().mean())


def _at(tokens: Tensor, ids: Tensor) -> Tensor:
    return tokens.gather(1, ids.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1]))


def _coordinates(ids: Tensor, grid: TokenGrid) -> Tensor:
    within = ids % grid.tokens_per_step
    axes = (ids // grid.tokens_per_step, within // grid.w, within % grid.w)
    return torch.stack(axes, dim=-1).float()


def thinned(
    tokens: Float[Tensor, "B N D"], *, num_clips: int | None = None
) -> Float[Tensor, "B n D"]:
    """At most `MAX_TOKENS` tokens in all, the same places of every clip.

    Args:
        tokens: of some clips.
        num_clips: of all, where these are a part of more.
    """
    batch, num_tokens, _ = tokens.shape
    wanted = max(1, MAX_TOKENS // (num_clips or batch))
    if num_tokens <= wanted:
        return tokens
    return tokens[:, torch.linspace(0, num_tokens - 1, wanted, device=tokens.device).long()]


def _precise(values: Tensor) -> Tensor:
    values = values.detach()
    if values.device.type == "mps":
        values = values.cpu()
    return values.double()
