"""Checks of what users hand to a model. They read values only outside compiled graphs."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vjepa2.errors import (
    DtypeError,
    InputError,
    LabelError,
    MaskError,
    ShapeError,
    VJEPAError,
    check_kind,
    checked_integer,
    described,
)
from vjepa2.packing import PackedIds

IGNORED_LABEL = -100
# Far above pixels of 0 to 255 or of 16 bits that nobody normalised, far below what overflows.
MAX_MEAN_PIXEL = 1e6


def may_read_values(tensor: Tensor) -> bool:
    """Whether looking at the numbers is allowed: not while compiling, exporting or faking."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and not (
        torch.compiler.is_compiling()
        or tensor.is_meta
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # inside vmap, grad, jvp
    )


def check_switch(name: str, value: Any) -> None:
    """Refuse anything but True, False and None (the default) for an argument of `forward`.

    Raises:
        InputError: with the argument's name.
    """
    check_kind(name, value, (bool, type(None)), words="True, False or None", error=InputError)


def check_device(
    name: str, given: Tensor, of: Tensor, *, error: type[VJEPAError] = DtypeError
) -> None:
    """Refuse a tensor without values (meta) where those of the network have some.

    The other way round is fine: weights that are kept elsewhere come when they are needed.

    Args:
        of: a parameter, or tokens made by the network.

    Raises:
        error: with the argument's name.
    """
    if given.device.type == "meta" and of.device.type != "meta":
        raise error(
            f"{name} has no values, it is on the meta device; the model is on {of.device}. Load "
            "the data there, or build the model under torch.device('meta') to compute shapes only."
        )


def check_layout(pixels: Any, *, in_chans: int) -> None:
    """Refuse anything but a tensor [B, T, C, H, W]; looks at the shape only.

    Raises:
        ShapeError: wrong rank or axis order.
        DtypeError: not a dense tensor.
    """
    if not isinstance(pixels, Tensor):
        raise DtypeError(
            f"pixel_values_videos must be a tensor [B, T, C, H, W], got {type(pixels).__name__}. "
            "Pass the video through VJEPA2VideoProcessor(..., return_tensors='pt') first."
        )
    if pixels.layout is not torch.strided:
        raise DtypeError(
            f"pixel_values_videos must be a dense tensor, got one stored as {pixels.layout}. "
            "Use pixels.to_dense()."
        )
    shape = list(pixels.shape)
    if pixels.ndim != 5:
        hint = " Add the batch axis: x[None]." if pixels.ndim == 4 else ""
        raise ShapeError(
            f"pixel_values_videos must be [B, T, C, H, W] (5 axes), got {pixels.ndim} axes: "
            f"{shape}.{hint}"
        )
    if shape[2] != in_chans:
        orders = {1: ("[B, C, T, H, W]", "0, 2, 1, 3, 4"), 4: ("[B, T, H, W, C]", "0, 1, 4, 2, 3")}
        hint = ""
        for axis, (order, permutation) in orders.items():
            if shape[axis] == in_chans:
                hint = f" It looks like {order}: use x.permute({permutation})."
                break
        raise ShapeError(
            f"pixel_values_videos must be [B, T, C, H, W] with C={in_chans} channels on axis 2, "
            f"got {shape}.{hint}"
        )


def check_pixels(pixels: Any, *, in_chans: int) -> None:
    """Refuse anything but normalised float pixels [B, T, C, H, W].

    NaN, infinity and numbers that overflow inside are looked for on CPU only: on an accelerator
    the look would stall it, and the processor has checked already. One sum shows them; large
    numbers of both signs that cancel each other exactly are not seen.

    Raises:
        ShapeError: wrong rank or axis order.
        DtypeError: not a tensor, not floating point, NaN, infinity, or far from normalised.
    """
    check_layout(pixels, in_chans=in_chans)
    if not pixels.is_floating_point():
        raise DtypeError(
            f"pixel_values_videos must be normalised floating point pixels, got {pixels.dtype}. "
            "Pass the video through VJEPA2VideoProcessor first."
        )
    if pixels.device.type != "cpu" or not may_read_values(pixels):
        return
    total = pixels.detach().sum(dtype=torch.float64).item()
    if not math.isfinite(total):
        raise DtypeError(
            "pixel_values_videos holds NaN or infinity. Look at the video's frames and at the "
            "processor's image_std (a zero there divides by zero)."
        )
    if abs(total) > MAX_MEAN_PIXEL * pixels.numel():
        raise DtypeError(
            f"pixel_values_videos is {total / pixels.numel():.2g} on average; normalised pixels "
            "are about -3 to 3. Pass the video through VJEPA2VideoProcessor, or look at its "
            "rescale_factor and image_std."
        )


def check_ids(
    name: str, masks: Any, *, batch: int, num_tokens: int | None, of: Tensor | None = None
) -> list[Tensor]:
    """Refuse anything but a list of integer id tensors [B, n] with ids in [0, num_tokens).

    Args:
        of: the tensor whose tokens they name; None: not known, ids may be without values (meta).
        num_tokens: N, or None where ids beyond the clip are allowed (anticipation).

    Returns:
        The masks as int64.

    Raises:
        MaskError: what is wrong, and what was expected.
    """
    if isinstance(masks, Tensor) or not isinstance(masks, Sequence) or not masks:
        got = f"tensor {list(masks.shape)}" if isinstance(masks, Tensor) else described(masks)
        raise MaskError(
            f"{name} must be a list of id tensors [B, n], one per mask, got {got}. "
            "For one mask write [ids]."
        )
    for mask in masks:
        check_id_tensor(name, mask, batch=batch, of=of)
        _check_id_range(name, mask, num_tokens)
    return [mask.long() for mask in masks]


def _check_id_range(name: str, ids: Tensor, num_tokens: int | None) -> None:
    """Refuse ids outside [0, num_tokens), or below 0 for None."""
    if not may_read_values(ids) or not ids.numel():
        return
    low, high = int(ids.min()), int(ids.max())
    limit = num_tokens if num_tokens is not None else high + 1
    if low < 0 or high >= limit:
        allowed = f"[0, {num_tokens})" if num_tokens is not None else ">= 0"
        raise MaskError(
            f"{name} holds ids from {low} to {high}; this clip allows {allowed} "
            "(id = (t * h + row) * w + column on the token grid)."
        )


def check_packed_ids(
    name: str, packed: PackedIds, *, batch: int | None, num_tokens: int | None, of: Tensor
) -> PackedIds:
    """Refuse packed ids that do not tell for every clip which tokens are meant.

    Args:
        batch: number of clips; None: not known.
        num_tokens: N, or None where values are not looked at.
        of: the tensor whose tokens they name.

    Returns:
        The ids as int64 on the device of `of`, the lengths as plain numbers.

    Raises:
        MaskError: what is wrong, and what was expected.
    """
    ids: Any = packed.ids
    lengths: Any = packed.lengths
    if not isinstance(ids, Tensor) or ids.ndim != 1:
        got = list(ids.shape) if isinstance(ids, Tensor) else described(ids)
        raise MaskError(f"{name} must hold packed ids [total] of all clips joined, got {got}.")
    check_id_tensor(name, ids[None], batch=1, of=of)
    if not isinstance(lengths, Sequence) or isinstance(lengths, str):
        raise MaskError(f"{name} must hold one length per clip, got {described(lengths)}.")
    counts = tuple(
        checked_integer(f"{name}: a length", n, least=1, error=MaskError) for n in lengths
    )
    if sum(counts) != len(ids) or (batch is not None and len(counts) != batch):
        clips = f"{batch} clips" if batch is not None else "the clips"
        raise MaskError(
            f"{name} hold {len(counts)} lengths that add up to {sum(counts)}; there are {len(ids)} "
            f"ids of {clips}. One length per clip, together as many as ids."
        )
    if num_tokens is not None:
        _check_id_range(name, ids, num_tokens)
    return PackedIds(ids.to(of.device).long(), counts)


def refuse_packed_weights(output_attentions: bool | None) -> None:
    """Attention weights of samples of different lengths fit no tensor [B, G, N, N].

    Raises:
        MaskError: they are asked for.
    """
    if output_attentions:
        raise MaskError(
            "output_attentions is not possible with packed ids: samples differ in length. Call the "
            "model once per sample with ids [1, n]."
        )


def check_id_tensor(name: str, ids: Any, *, batch: int, of: Tensor | None = None) -> None:
    """Refuse anything but one tensor of integer ids [B, n]; looks at no value.

    Raises:
        MaskError: what is wrong, and what was expected.
    """
    if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
        got = str(ids.dtype) if isinstance(ids, Tensor) else type(ids).__name__
        raise MaskError(
            f"{name} must hold int64 token ids, got {got}. Turn a boolean mask into ids with "
            "mask.nonzero() per sample."
        )
    if ids.layout is not torch.strided:
        raise MaskError(
            f"{name} must hold dense tensors, got one stored as {ids.layout}. Use ids.to_dense()."
        )
    if of is not None:
        check_device(name, ids, of, error=MaskError)
    if ids.ndim != 2 or ids.shape[0] != batch or ids.shape[1] < 1:
        raise MaskError(
            f"{name} must hold tensors [B={batch}, n >= 1], got {list(ids.shape)}. One row of "
            "ids per clip; repeat a shared row with ids.expand(B, -1)."
        )


def check_mask_pairs(context: list[Tensor] | None, target: list[Tensor] | None) -> int:
    """Refuse mask lists that cannot be paired and stacked on the batch axis.

    None means all tokens, once per mask of the other list.

    Returns:
        Number of pairs, 1 without masks.

    Raises:
        MaskError: different numbers of masks, or different lengths among them.
    """
    if context is not None and target is not None and len(context) != len(target):
        raise MaskError(
            f"Got {len(context)} context masks and {len(target)} target masks; mask j of one list "
            "belongs to mask j of the other."
        )
    for name, masks in (("context_mask", context), ("target_mask", target)):
        lengths = [mask.shape[1] for mask in masks or []]
        if len(set(lengths)) > 1:
            raise MaskError(
                f"{name} holds masks of {lengths} ids; the results are joined on the batch axis, "
                "so all must be as long. Call the model once per mask otherwise."
            )
    return max(len(context or ()), len(target or ()), 1)


def check_class_labels(name: str, labels: Tensor, *, num_labels: int) -> None:
    """Refuse class ids outside [0, num_labels), except -100, which is ignored by the loss.

    On an accelerator too: an id out of range would end the process's use of it.

    Args:
        labels: int64 ids; in a smaller type -100 or `num_labels` might be another number.

    Raises:
        LabelError: the ids that are out of range, or every clip is ignored.
    """
    if not may_read_values(labels):
        return
    ignored = labels == IGNORED_LABEL
    wrong = ~ignored & ((labels < 0) | (labels >= num_labels))
    any_wrong, all_ignored = torch.stack([wrong.any(), ignored.all()]).tolist()
    if any_wrong:
        raise LabelError(
            f"{name} hold {sorted(set(labels[wrong].tolist()))[:5]}; this model has {num_labels} "
            f"classes, allowed are 0 to {num_labels - 1} (and {IGNORED_LABEL} to ignore a clip)."
        )
    if all_ignored and labels.numel():
        raise LabelError(
            f"{name} are all {IGNORED_LABEL}, so every clip of this batch is ignored and the loss "
            "is the mean of nothing. Leave such batches out, or call the model without labels."
        )


def check_targets(name: str, targets: Tensor, *, most: float | None = None) -> None:
    """Refuse numbers that no loss can be made of, on CPU (elsewhere the look would stall).

    Args:
        targets: floating point, in the element type that the loss is computed in.
        most: None allows every finite number, otherwise only 0 to `most`.

    Raises:
        LabelError: the numbers that are not allowed.
    """
    if targets.device.type != "cpu" or not may_read_values(targets):
        return
    inside = torch.isfinite(targets) if most is None else (targets >= 0) & (targets <= most)
    if not inside.all():
        allowed = "finite numbers" if most is None else f"0 to {most:g}"
        raise LabelError(
            f"{name} hold {targets[~inside].tolist()[:5]} in {targets.dtype}; "
            f"allowed are {allowed}."
        )
