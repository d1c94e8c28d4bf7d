"""All measures of a few fixed clips, a portion of them in memory at a time.

The numbers are those of all clips in one pass. What is compared with a mean over all clips needs a
pass of its own: with several portions the networks read some of them twice.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.masking import Masks
from vjepa2.shapes import TokenGrid
from vjepa2.training.health_measures import (
    data_numbers,
    feature_numbers,
    hidden_sum,
    mean_move,
    mean_spread,
    mean_token,
    pooled_tokens,
    prediction_numbers,
    skill,
    thinned,
    token_variance,
    with_hidden_changed,
)


@torch.no_grad()
def held_out_numbers(
    pixels: Float[Tensor, "B T C H W"],
    masks: Sequence[Masks],
    *,
    encode_student: Callable[[Tensor], Tensor],
    encode_teacher: Callable[[Tensor], Tensor],
    make_targets: Callable[[Tensor], Tensor],
    predict: Callable[[Tensor, Masks], Tensor],
    grid: TokenGrid,
    patch_size: int,
    tubelet_size: int,
    exponent: float = 1.0,
    portion: int | None = None,
    device: torch.device | None = None,
) -> dict[str, float]:
    """All measures of one fixed batch; everything that `HealthMonitor.add_health` reads of it.

    Args:
        pixels: normalised clips that training does not use, the same at every call.
        masks: drawn once for these clips.
        encode_student, encode_teacher: pixels to all their tokens [B, N, D].
        make_targets: pixels to `losses.normalised_targets` of the teacher, [B, N, LD].
        predict: (pixels, mask) to the predicted tokens [B, M, LD] at the mask's targets; the
            student must see only the mask's context.
        grid, patch_size, tubelet_size: geometry of the tokens.
        exponent: of the loss.
        portion: clips that are in memory at once; None: all.
        device: where to compute; None: where the pixels are.
    """
    total = len(pixels)
    size = min(portion or total, total)
    device = device or pixels.device
    mean_clip = pixels.float().mean(dim=0).to(device)

    def portions() -> Iterator[tuple[Tensor, list[Masks]]]:
        for start in range(0, total, size):
            stop = min(start + size, total)
            part = [mask.rows(start, stop).to(device) for mask in masks]
            yield pixels[start:stop].to(device), part

    kept: Tensor | None = None
    sums: list[list[Tensor]] = []
    some_targets = []
    for clips, own in portions():
        targets = make_targets(clips)
        sums.append([hidden_sum(targets, mask) for mask in own])
        some_targets.append(thinned(targets, num_clips=total).clone())
        kept = targets if size == total else None
    means = [
        torch.stack(each).sum(dim=0) / mask.target_ids.numel()
        for each, mask in zip(zip(*sums, strict=True), masks, strict=True)
    ]

    teacher, student = _Features(total), _Features(total)
    shares: list[dict[str, float]] = []
    centres = []
    for clips, own in portions():
        teacher.add(encode_teacher(clips))
        student.add(encode_student(clips))
        predicted = [predict(clips, mask) for mask in own]
        targets = make_targets(clips) if kept is None else kept
        numbers = prediction_numbers(predicted, targets, own, grid, exponent=exponent, means=means)
        del targets
        moves = 0.0
        for guess, mask in zip(predicted, own, strict=True):
            other = with_hidden_changed(
                clips, mask.target_ids, grid, patch_size=patch_size, tubelet_size=tubelet_size
            )
            moves += mean_move([guess], [predict(other, mask)]) * guess.numel()
        numbers["moves"] = moves / sum(guess.numel() for guess in predicted)
        weight = len(clips) / total
        centres.append(mean_token(predicted) * weight)
        numbers |= data_numbers(clips, mean=mean_clip)
        shares.append({name: value * weight for name, value in numbers.items()})
    joined = {name: sum(part[name] for part in shares) for name in shares[0]}

    moves, spread, centre = joined.pop("moves"), 0.0, torch.stack(centres).sum(dim=0)
    # Also where nothing moved: processes that share weights must make the same passes.
    for clips, own in portions():
        if size < total:
            predicted = [predict(clips, mask) for mask in own]
        spread += mean_spread(predicted, centre) * len(clips) / total
    return {
        **teacher.numbers("teacher"),
        **student.numbers("student"),
        **joined,
        "skill": skill(
            joined["held_out_loss"], joined["copy_mean_loss"], joined["copy_nearest_loss"]
        ),
        "target_variance": token_variance(torch.cat(some_targets))[0],
        "leak": moves / max(spread, 1e-12) if moves > 0 else 0.0,
    }


class _Features:
    """What `feature_numbers` reads of the tokens of all clips.

    Args:
        num_clips: of all portions.
    """

    def __init__(self, num_clips: int) -> None:
        self._num_clips = num_clips
        self._some: list[Tensor] = []
        self._pooled: list[Tensor] = []

    def add(self, tokens: Float[Tensor, "b N D"]) -> None:
        """Tokens of the next portion."""
        self._some.append(thinned(tokens, num_clips=self._num_clips).clone())
        self._pooled.append(pooled_tokens(tokens))

    def numbers(self, name: str) -> dict[str, float]:
        """See `feature_numbers`."""
        return feature_numbers(torch.cat(self._some), name=name, pooled=torch.cat(self._pooled))
