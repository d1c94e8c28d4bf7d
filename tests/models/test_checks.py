"""What users hand to a model by mistake, and what they are told."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vjepa2.errors import DtypeError, InputError, LabelError, MaskError, ShapeError, VJEPAError
from vjepa2.models.checks import (
    check_class_labels,
    check_device,
    check_ids,
    check_layout,
    check_mask_pairs,
    check_pixels,
    check_switch,
    check_targets,
    may_read_values,
)
from wrong_values import assert_named, is_switch

GOOD = torch.zeros(2, 4, 3, 8, 8)


def nan_pixels(value: float) -> torch.Tensor:
    pixels = GOOD.clone()
    pixels[1, 3, 2, 7, 7] = value
    return pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_good_pixels(dtype: torch.dtype) -> None:
    check_pixels(GOOD.to(dtype), in_chans=3)
    check_pixels(
        torch.full((1, 1, 1, 2, 2), 60000.0).to(dtype), in_chans=1
    )  # float16 sums overflow
    check_pixels(GOOD[:0], in_chans=3)
    check_pixels(GOOD.clone().requires_grad_(), in_chans=3)


@pytest.mark.parametrize(
    ("pixels", "error", "message"),
    [
        (
            np.zeros((2, 4, 3, 8, 8)),
            DtypeError,
            "got ndarray. Pass the video through VJEPA2VideoPr",
        ),
        ([[1.0]], DtypeError, "must be a tensor .* got list"),
        (None, DtypeError, "got NoneType"),
        (GOOD[0], ShapeError, r"got 4 axes: \[4, 3, 8, 8\]. Add the batch axis: x\[None\]"),
        (GOOD[0, 0], ShapeError, r"\(5 axes\), got 3 axes: \[3, 8, 8\]\.$"),
        (GOOD[None], ShapeError, "got 6 axes"),
        (
            GOOD.permute(0, 2, 1, 3, 4),
            ShapeError,
            r"axis 2, got \[2, 3, 4, 8, 8\]. It looks like \[B, C, T, H, W\]: use x.permute\(0, 2,",
        ),
        (
            GOOD.permute(0, 1, 3, 4, 2),
            ShapeError,
            r"It looks like \[B, T, H, W, C\]: use x.permute\(0, 1, 4, 2, 3\)",
        ),
        (torch.zeros(2, 4, 1, 8, 8), ShapeError, r"got \[2, 4, 1, 8, 8\]\.$"),
        (
            GOOD.to(torch.uint8),
            DtypeError,
            "floating point pixels, got torch.uint8. Pass the video",
        ),
        (GOOD.long(), DtypeError, "got torch.int64"),
        (nan_pixels(float("nan")), DtypeError, "holds NaN or infinity. Look at .* image_std"),
        (nan_pixels(float("inf")), DtypeError, "holds NaN or infinity"),
        (nan_pixels(float("-inf")), DtypeError, "holds NaN or infinity"),
    ],
)
def test_wrong_pixels(pixels: Any, error: type[VJEPAError], message: str) -> None:
    with pytest.raises(error, match=message):
        check_pixels(pixels, in_chans=3)
    assert issubclass(error, InputError) and issubclass(error, ValueError)


@pytest.mark.parametrize("order", [(0, 2, 1, 3, 4), (0, 1, 3, 4, 2)])
def test_the_advice_on_axis_order_is_right(order: tuple[int, ...]) -> None:
    wrong = torch.rand(2, 4, 3, 8, 9).permute(order)
    with pytest.raises(ShapeError) as caught:
        check_layout(wrong, in_chans=3)
    advice = str(caught.value).split("use x.")[1].rstrip(".")
    assert eval(f"x.{advice}", {"x": wrong}).shape == (2, 4, 3, 8, 9)


def test_layout_alone_looks_at_no_value() -> None:
    check_layout(nan_pixels(float("nan")), in_chans=3)
    check_layout(GOOD.to(torch.uint8), in_chans=3)


def good_ids() -> torch.Tensor:
    return torch.tensor([[0, 31, 5], [7, 7, 1]])


def test_good_ids() -> None:
    ids = good_ids()
    [got] = check_ids("mask", [ids], batch=2, num_tokens=32)
    assert got is ids
    got_two = check_ids("mask", (ids, ids.int()), batch=2, num_tokens=32)
    assert [mask.dtype for mask in got_two] == [torch.int64] * 2
    assert torch.equal(got_two[1], ids)
    check_ids("mask", [ids + 1000], batch=2, num_tokens=None)
    check_ids("mask", [ids[:0]], batch=0, num_tokens=32)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (good_ids(), r"mask must be a list .* got tensor \[2, 3\]. For one mask write \[ids\]"),
        ([], r"one per mask, got \[\]"),
        (7, "got 7"),
        ({"ids": 1}, "got {'ids': 1}"),
        ([good_ids().bool()], "int64 token ids, got torch.bool. Turn a boolean mask into ids with"),
        ([good_ids().float()], "got torch.float32"),
        ([[0, 1]], "got list"),
        ([good_ids().numpy()], "got ndarray"),
        ([good_ids()[0]], r"tensors \[B=2, n >= 1\], got \[3\]. One row of ids per clip"),
        ([good_ids()[:1]], r"got \[1, 3\].*repeat a shared row with ids.expand\(B, -1\)"),
        ([good_ids()[:, :0]], r"got \[2, 0\]"),
        ([good_ids()[None]], r"got \[1, 2, 3\]"),
        ([good_ids() + 1], r"ids from 1 to 32; this clip allows \[0, 32\) \(id = \(t \* h \+ row"),
        ([good_ids(), good_ids() - 1], r"ids from -1 to 30"),
    ],
)
def test_wrong_ids(masks: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        check_ids("mask", masks, batch=2, num_tokens=32)


def test_ids_beyond_the_clip_but_not_before_it() -> None:
    with pytest.raises(MaskError, match="ids from -1 to 30; this clip allows >= 0"):
        check_ids("mask", [good_ids() - 1], batch=2, num_tokens=None)


def test_mask_pairs() -> None:
    ids = good_ids()
    assert check_mask_pairs(None, None) == 1
    assert check_mask_pairs([ids], None) == check_mask_pairs([ids], [ids[:, :1]]) == 1
    assert check_mask_pairs(None, [ids, ids]) == 2
    with pytest.raises(MaskError, match="Got 1 context masks and 2 target masks; mask j"):
        check_mask_pairs([ids], [ids, ids])
    with pytest.raises(MaskError, match=r"context_mask holds masks of \[3, 2\] ids; .* once per"):
        check_mask_pairs([ids, ids[:, :2]], None)
    with pytest.raises(MaskError, match=r"target_mask holds masks of \[1, 3\] ids"):
        check_mask_pairs(None, [ids[:, :1], ids])


def test_class_labels() -> None:
    check_class_labels("ids", torch.tensor([0, 4, -100]), num_labels=5)
    with pytest.raises(LabelError, match=r"ids hold \[-3, 5, 9\]; this model has 5 classes"):
        check_class_labels("ids", torch.tensor([5, 0, 9, -3, 5]), num_labels=5)
    with pytest.raises(LabelError, match="ids are all -100, so every clip of this batch is ignor"):
        check_class_labels("ids", torch.tensor([-100, -100]), num_labels=5)
    check_class_labels("ids", torch.zeros(0, dtype=torch.int64), num_labels=5)


def test_targets() -> None:
    check_targets("scores", torch.tensor([-3.0, 1e30]))
    check_targets("scores", torch.tensor([0.0, 0.5, 1.0]), most=1)
    for value in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(LabelError, match=r"scores hold \[-?(nan|inf)\] in .*finite numbers"):
            check_targets("scores", torch.tensor([[1.0, value]]))
    for value in (float("nan"), 1.5, -0.5):
        with pytest.raises(LabelError, match=rf"hold \[{value}\] in torch.float32; .* are 0 to 1"):
            check_targets("scores", torch.tensor([[1.0, value]]), most=1)


@pytest.fixture
def unreadable() -> Iterator[list[torch.Tensor]]:
    """Tensors whose numbers must not be looked at: there are none, or a graph would break."""
    with FakeTensorMode():
        fake = torch.zeros(2, 4, 3, 8, 8)
    yield [torch.zeros(2, 4, 3, 8, 8, device="meta"), fake]


def test_values_are_not_looked_at_where_there_are_none(unreadable: list[torch.Tensor]) -> None:
    assert may_read_values(GOOD)
    for tensor in unreadable:
        assert not may_read_values(tensor)
        check_pixels(tensor, in_chans=3)
        check_ids("mask", [tensor[:, :, 0, 0, 0].long()], batch=2, num_tokens=1)
        check_class_labels("labels", tensor[:, 0, 0, 0, 0].long(), num_labels=1)
        check_targets("labels", tensor[:, 0, 0, 0, 0], most=1)


def test_values_are_not_looked_at_while_tracing() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(may_read_values(x))
        check_pixels(x, in_chans=3)
        return x * 1

    torch.vmap(look)(GOOD[None])
    assert seen == [False]


def test_switches() -> None:
    assert_named(
        lambda value: check_switch("return_dict", value),
        allowed=is_switch,
        error=InputError,
    )
    with pytest.raises(InputError, match=r"return_dict must be True, False or None, got 'x' \(str"):
        check_switch("return_dict", "x")


@pytest.mark.parametrize("value", [1e30, -1e12, 1e37])
def test_pixels_that_would_overflow_inside(value: float) -> None:
    with pytest.raises(DtypeError, match=r"on average; normalised pixels are about -3 to 3. Pass"):
        check_pixels(torch.full((1, 2, 3, 8, 8), value), in_chans=3)
    noise = torch.randn(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DtypeError, match="on average"):
        check_pixels(noise * value, in_chans=3)
    check_pixels(torch.full((1, 2, 3, 8, 8), 65535.0), in_chans=3)  # 16 bits, not normalised


def test_ids_that_are_not_dense_or_have_no_values() -> None:
    with pytest.raises(MaskError, match=r"mask must hold dense tensors, .* Use ids.to_dense\(\)"):
        check_ids("mask", [good_ids().to_sparse()], batch=2, num_tokens=32)
    with pytest.raises(MaskError, match="mask has no values, it is on the meta device; the model"):
        check_ids("mask", [good_ids().to("meta")], batch=2, num_tokens=32, of=GOOD)
    check_ids("mask", [good_ids().to("meta")], batch=2, num_tokens=32, of=GOOD.to("meta"))
    check_ids("mask", [good_ids()], batch=2, num_tokens=32, of=GOOD.to("meta"))


def test_values_are_needed_where_the_model_has_some() -> None:
    with pytest.raises(DtypeError, match="pixels has no values, .*; the model is on cpu. Load"):
        check_device("pixels", GOOD.to("meta"), GOOD)
    check_device("pixels", GOOD, GOOD.to("meta"))
    check_device("pixels", GOOD.to("meta"), GOOD.to("meta"))
