"""The loss of one step against the same thing done by hand, clip by clip."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_models import clip, randomise, tiny_config
from vjepa2.ema import frozen_copy
from vjepa2.masking import MaskConfig, Masks, draw_masks, published_masks
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.masked_prediction import MaskedPrediction, target_tokens

DEEP = {
    "model_type": "vjepa2_1",
    "num_hidden_layers": 2,
    "hierarchical_layers": [0, 1],
    "pred_num_hidden_layers": 2,
}


def student_of(config: VJEPA2Config, **options: float) -> MaskedPrediction:
    model = randomise(VJEPA2Model(config))
    return MaskedPrediction(model.encoder, model.predictor, **options)


def some_masks(grid: TokenGrid, *, packed: bool = False) -> list[Masks]:
    configs = [MaskConfig(num_blocks=2, spatial_scale=(0.3, 0.3)), MaskConfig(num_blocks=1)]
    return [
        draw_masks(config, grid, batch=3, seed=1, step=2, number=number, packed=packed)
        for number, config in enumerate(configs)
    ]


def by_hand(
    student: MaskedPrediction, pixels: Tensor, rows: list[list[tuple[Tensor, Tensor]]]
) -> tuple[float, float]:
    """Errors at hidden and at visible tokens, each a mean over (masks, tokens of all clips).

    `rows` holds (context ids, target ids) of every clip, per mask.
    """
    encoder, predictor = student.encoder, student.predictor
    levels = encoder.config.predictor_levels
    grid = encoder.grid(pixels)

    def read(x: Tensor, ids: Tensor | None = None) -> list[Tensor]:
        encoded = encoder(x, ids, output_levels=levels)
        return list(encoded.level_hidden_states or [encoded.last_hidden_state])

    hidden_means, visible_means = [], []
    for mask in rows:
        hidden, visible = [], []
        for number, (context, target) in enumerate(mask):
            x = pixels[number : number + 1]
            wanted = torch.cat(
                [F.layer_norm(level, level.shape[-1:], eps=1e-5) for level in read(x)], dim=-1
            )[0]
            predicted = predictor.predict(
                torch.cat(read(x, context[None]), dim=-1),
                context[None],
                target[None],
                grid=grid,
                mask_index=0,
            )
            hidden += (predicted.last_hidden_state[0] - wanted[target]).abs().mean(-1).tolist()
            if predicted.context_hidden_state is None:
                continue
            errors = (predicted.context_hidden_state[0] - wanted[context]).abs().mean(-1)
            for token, error in zip(context.tolist(), errors.tolist(), strict=True):
                visible.append(error * nearest(token, target.tolist(), grid) ** -0.5)
        hidden_means.append(sum(hidden) / len(hidden))
        visible_means.append(sum(visible) / max(1, len(visible)))
    return sum(hidden_means) / len(rows), sum(visible_means) / len(rows)


def nearest(token: int, targets: list[int], grid: TokenGrid) -> float:
    def place(number: int) -> tuple[int, int, int]:
        t, rest = divmod(number, grid.h * grid.w)
        return (t, *divmod(rest, grid.w))

    return min(sum((a - b) ** 2 for a, b in zip(place(token), place(t), strict=True)) ** 0.5
               for t in targets)  # fmt: skip


@pytest.mark.parametrize("changes", [{}, DEEP], ids=["vjepa2", "vjepa2_1"])
@torch.no_grad()
def test_equals_the_loss_worked_out_clip_by_clip(changes: dict[str, object]) -> None:
    student = student_of(tiny_config(**changes)).eval()
    pixels = clip(student.encoder.config, batch=3)
    masks = some_masks(student.encoder.grid(pixels))
    targets = target_tokens(student.encoder, pixels, several_levels=bool(changes))
    got = student(pixels, targets, masks, 0.5)
    rows = [list(zip(mask.context_ids, mask.target_ids, strict=True)) for mask in masks]
    hidden, visible = by_hand(student, pixels, rows)
    assert float(got.prediction) == pytest.approx(hidden, rel=1e-5)
    if not changes:
        assert got.context is None
        assert float(got.total) == pytest.approx(hidden, rel=1e-5)
        return
    assert float(got.context) == pytest.approx(visible, rel=1e-5)
    assert float(got.total) == pytest.approx(hidden + 0.5 * visible, rel=1e-5)


@pytest.mark.parametrize("changes", [{}, DEEP], ids=["vjepa2", "vjepa2_1"])
@torch.no_grad()
def test_masks_without_truncation_use_every_token(changes: dict[str, object]) -> None:
    student = student_of(tiny_config(**changes)).eval()
    pixels = clip(student.encoder.config, batch=3)
    masks = some_masks(student.encoder.grid(pixels), packed=True)
    targets = target_tokens(student.encoder, pixels, several_levels=bool(changes))
    got = student(pixels, targets, masks, 0.25)
    rows = [
        list(
            zip(
                mask.context_ids.split(mask.context_lengths),
                mask.target_ids.split(mask.target_lengths),
                strict=True,
            )
        )
        for mask in masks
    ]
    hidden, visible = by_hand(student, pixels, rows)
    assert float(got.total) == pytest.approx(hidden + 0.25 * visible * bool(changes), rel=1e-5)


def test_no_gradient_reaches_the_targets_and_every_weight_of_the_student_has_one() -> None:
    student = student_of(tiny_config(**DEEP)).train()
    teacher = frozen_copy(student.encoder)
    pixels = clip(student.encoder.config, batch=3)
    targets = target_tokens(teacher, pixels, several_levels=True)
    assert not targets.requires_grad
    student(pixels, targets, some_masks(student.encoder.grid(pixels)), 0.0).total.backward()
    without = [name for name, value in student.named_parameters() if value.grad is None]
    assert without == []  # also those of still images, and the unused context head: zeros
    image = student.encoder.embeddings.patch_embeddings_img.proj.weight.grad
    assert float(image.abs().max()) == 0.0


def test_a_student_of_one_level_learns_a_teachers_last_tokens() -> None:
    """Distillation (arXiv:2603.14482): the teacher has levels, the student predicts the last."""
    teacher = randomise(VJEPA2Model(tiny_config(**DEEP, hidden_size=48)), seed=3).encoder.eval()
    student = student_of(tiny_config(**DEEP, pred_num_levels=1, pred_output_size=48))
    pixels = clip(student.encoder.config, batch=3)
    targets = target_tokens(teacher, pixels, several_levels=False)
    last = teacher(pixels).last_hidden_state
    torch.testing.assert_close(targets, F.layer_norm(last, (48,), eps=1e-5))
    losses = student(pixels, targets, some_masks(student.encoder.grid(pixels)))
    assert float(losses.prediction) > 0


def test_first_loss_of_a_fresh_network_is_that_of_the_published_code() -> None:
    """0.858 with a predictor 384 wide; theory in tests/test_losses.py."""
    config = VJEPA2Config(
        hidden_size=192, num_hidden_layers=4, num_attention_heads=3,
        pred_hidden_size=384, pred_num_attention_heads=12, pred_num_hidden_layers=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = VJEPA2Model(config)
    student = MaskedPrediction(model.encoder, model.predictor)
    pixels = torch.randn(2, 4, 3, 256, 256)
    grid = model.encoder.grid(pixels)
    masks = [
        draw_masks(mask, grid, batch=2, seed=0, step=0, number=number)
        for number, mask in enumerate(published_masks())
    ]
    targets = target_tokens(model.encoder, pixels, several_levels=False)
    with torch.no_grad():
        assert float(student(pixels, targets, masks).total) == pytest.approx(0.858, abs=0.01)
