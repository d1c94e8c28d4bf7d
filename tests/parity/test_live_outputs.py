"""Outputs and gradients equal those of `transformers`, on the same random weights."""

import copy
import inspect
from typing import Any

import pytest
import torch
import transformers
from paired_models import CONFIGS, TOLERANCE, Pair, assert_same, make_pair, tell_the_grid
from torch import Tensor, nn

import vjepa2
from tiny_models import clip, random_ids, relative_error

pytestmark = pytest.mark.parity

ATTENTIONS = ("sdpa", "eager")


def video(pair: Pair, **sizes: Any) -> Tensor:
    return clip(pair.ours.config, **sizes).to(pair.ours.dtype)


def num_tokens(pair: Pair) -> int:
    config = pair.ours.config
    return (config.frames_per_clip // config.tubelet_size) * (
        config.crop_size // config.patch_size
    ) ** 2


def masks(pair: Pair, *, seed: int = 0) -> dict[str, list[Tensor]]:
    """Unsorted ids; the last context id is predicted too."""
    ids = random_ids(num_tokens(pair), 9, seed=seed)
    return {"context_mask": [ids[:, :5]], "target_mask": [ids[:, 4:].flip(1)]}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(CONFIGS))
@torch.no_grad()
def test_outputs(name: str, seed: int, attention: str) -> None:
    pair = make_pair(CONFIGS[name], seed=seed, attention=attention)
    x = video(pair, seed=seed)
    for options in ({}, {"skip_predictor": True}, masks(pair, seed=seed)):
        assert_same(pair.ours(x, **options), pair.theirs(x, **options), tolerance=2e-5)
    features = pair.theirs.get_vision_features(x)
    assert relative_error(pair.ours.get_vision_features(x), features) <= 2e-5


@pytest.mark.parametrize("name", ["tiny", "vitg", "odd"])
@torch.no_grad()
def test_outputs_in_double_precision(name: str) -> None:
    """Twelve digits: what remains in float32 is rounding."""
    pair = make_pair(CONFIGS[name], dtype=torch.float64)
    x = video(pair)
    for options in ({}, masks(pair)):
        assert_same(pair.ours(x, **options), pair.theirs(x, **options), tolerance=1e-12)


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_classifier(name: str, attention: str) -> None:
    pair = make_pair(CONFIGS[name], classifier=True, attention=attention)
    x, labels = video(pair), labels_for(pair)
    assert_same(pair.ours(x, labels), pair.theirs(x, labels), tolerance=2e-5)
    assert_same(pair.ours(x), pair.theirs(x), tolerance=2e-5)


def labels_for(pair: Pair) -> Tensor:
    count = pair.ours.config.num_labels
    return torch.tensor([0.5, -2.0]) if count == 1 else torch.tensor([count - 1, 0])


@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("levels", [True, [-1, 0], 1])
@torch.no_grad()
def test_hidden_states_and_attentions(classifier: bool, levels: Any) -> None:
    pair = make_pair(CONFIGS["tiny"], classifier=classifier, attention="eager")
    x = video(pair)
    options = {"output_hidden_states": levels, "output_attentions": True}
    ours, theirs = pair.ours(x, **options), pair.theirs(x, **options)
    for field in ("hidden_states", "attentions"):
        assert len(ours[field]) == len(theirs[field])
        for one, other in zip(ours[field], theirs[field], strict=True):
            assert (one is None) == (other is None)
            assert one is None or relative_error(one, other) <= 2e-5
    assert list(ours.keys()) == list(theirs.keys())
    if classifier:
        ours, theirs = (model(x, return_dict=False, **options) for model in pair[::-1])
        assert [type(part) for part in ours] == [type(part) for part in theirs]


@pytest.mark.parametrize("labels", ["ids", "column", "scores", "ignored"])
def test_kinds_of_labels(labels: str) -> None:
    pair = make_pair(CONFIGS["tiny"], classifier=True)
    given = {
        "ids": torch.tensor([4, 1]),
        "column": torch.tensor([[4], [1]]),
        "scores": torch.tensor([[0.0, 1, 1, 0, 0.5], [1.0, 0, 0, 0, 0]]),
        "ignored": torch.tensor([-100, 1]),
    }[labels]
    x = video(pair)
    assert_same(pair.ours(x, given), pair.theirs(x, given), tolerance=2e-5)


@pytest.mark.parametrize("labels", [torch.tensor([[1.5], [-1.0]]), torch.tensor([3, -1])])
def test_regression(labels: Tensor) -> None:
    pair = make_pair(CONFIGS["odd"], classifier=True)
    x = video(pair)
    assert_same(pair.ours(x, labels), pair.theirs(x, labels), tolerance=2e-5)


# -- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9])
@torch.no_grad()
def test_other_numbers_of_frames(frames: int) -> None:
    pair = make_pair(CONFIGS["tiny"])
    x = video(pair, frames=frames)
    assert_same(pair.ours(x), pair.theirs(x), tolerance=2e-5)


@torch.no_grad()
def test_border_pixels_are_left_out() -> None:
    pair = make_pair(CONFIGS["tiny"])
    x = video(pair, height=37, width=35)
    assert_same(pair.ours(x), pair.theirs(x), tolerance=2e-5)


@pytest.mark.parametrize("size", [16, 48, 64])
@torch.no_grad()
def test_other_square_sizes_equal_a_port_that_is_told(size: int) -> None:
    """Same weights, `crop_size` told the truth; ours need not be told."""
    theirs, _ = make_pair(CONFIGS["tiny"], crop_size=size)
    untold, ours = make_pair(CONFIGS["tiny"])
    x = clip(ours.config, height=size, width=size)
    assert_same(ours(x), theirs(x), tolerance=2e-5)
    # If this fails, the port has mended its positions, and the note on it can go.
    assert relative_error(untold(x).last_hidden_state, theirs(x).last_hidden_state) > 0.05


@pytest.mark.parametrize(("height", "width"), [(32, 64), (48, 16), (8, 80)])
@torch.no_grad()
def test_clips_that_are_not_square_equal_a_port_that_is_told(height: int, width: int) -> None:
    pair = make_pair(CONFIGS["tiny"])
    tell_the_grid(pair.theirs, height // 8, width // 8)
    x = video(pair, height=height, width=width)
    assert_same(pair.ours(x), pair.theirs(x), tolerance=2e-5)


@torch.no_grad()
def test_several_masks_equal_one_call_of_the_port_per_pair() -> None:
    pair = make_pair(CONFIGS["tiny"])
    x = video(pair)
    pairs = [masks(pair, seed=seed) for seed in range(3)]
    ours = pair.ours(
        x,
        context_mask=[pair["context_mask"][0] for pair in pairs],
        target_mask=[pair["target_mask"][0] for pair in pairs],
    )
    runs = [pair.theirs(x, **one) for one in pairs]
    wanted = torch.cat([run.masked_hidden_state for run in runs])
    assert relative_error(ours.masked_hidden_state, wanted) <= 2e-5
    for field in ("last_hidden_state", "target_hidden_state"):
        wanted = torch.cat([run.predictor_output[field] for run in runs])
        assert relative_error(ours.predictor_output[field], wanted) <= 2e-5


@torch.no_grad()
def test_targets_after_the_clip() -> None:
    pair = make_pair(CONFIGS["tiny"])
    tokens = pair.theirs.get_vision_features(video(pair))
    everything, future = torch.arange(32).expand(2, -1), torch.arange(32, 64).expand(2, -1)
    arguments = (tokens, [everything], [future])
    assert_same(pair.ours.predictor(*arguments), pair.theirs.predictor(*arguments), tolerance=2e-5)


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_no_worse_than_the_port(dtype: torch.dtype) -> None:
    """Both against float64, 30 frames: the port rounds its rotary angles, ours are float32."""
    exact = make_pair(CONFIGS["tiny"], dtype=torch.float64).ours
    pair = make_pair(CONFIGS["tiny"])
    x = clip(exact.config, frames=30)
    wanted = exact(x.double()).last_hidden_state
    errors = [
        relative_error(model.to(dtype)(x, skip_predictor=True).last_hidden_state, wanted)
        for model in pair
    ]
    assert errors[1] < 1.1 * errors[0]


@torch.no_grad()
def test_autocast() -> None:
    pair = make_pair(CONFIGS["tiny"])
    x = video(pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = pair.ours(x), pair.theirs(x)
    assert ours.last_hidden_state.dtype == theirs.last_hidden_state.dtype
    assert relative_error(ours.last_hidden_state, theirs.last_hidden_state) < 0.03


# -- gradients -----------------------------------------------------------------------------------


def jepa_loss(model: nn.Module, x: Tensor, given: dict[str, list[Tensor]]) -> Tensor:
    out = model(x, **given).predictor_output
    return (out.last_hidden_state - out.target_hidden_state.detach()).abs().mean()


def exact(model: nn.Module) -> nn.Module:
    """The port in float64. Its gradients are what both sides round in float32, each in its own way:
    comparing the two roundings with each other would count both errors."""
    copied = copy.deepcopy(model).double()
    copied.set_attn_implementation("sdpa")  # the port's eager softmax stays float32
    return copied


def assert_same_gradients(ours_model: nn.Module, reference: nn.Module, *, tolerance: float) -> None:
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    ours = {name: parameter.grad for name, parameter in ours_model.named_parameters()}
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        got = ours[name]
        assert (got is None) == (wanted is None), name
        if wanted is not None and name.endswith(("k_proj.bias", "key.bias")):
            # It shifts all scores of a query alike, and softmax does not see that (entirely so
            # without positions): what is left of the gradient is partly rounding.
            scale = theirs[name.replace("bias", "weight")].norm()
            assert (got.double() - wanted.double()).norm() <= tolerance * scale, name
        elif wanted is not None:
            error = relative_error(got, wanted)
            assert error <= tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", ["tiny", "vitg", "odd"])
def test_gradients_of_the_prediction_loss(name: str, attention: str, dtype: torch.dtype) -> None:
    if dtype == torch.float64 and attention == "eager":
        dtype = torch.float32  # the port's softmax is float32 there
    pair = make_pair(CONFIGS[name], attention=attention, dtype=dtype)
    x, reference = video(pair), exact(pair.theirs)
    jepa_loss(pair.ours.train(), x, masks(pair)).backward()
    jepa_loss(reference.train(), x.double(), masks(pair)).backward()
    assert_same_gradients(pair.ours, reference, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["tiny", "vitg", "odd"])
def test_gradients_of_the_classification_loss(name: str, recompute: bool) -> None:
    pair = make_pair(CONFIGS[name], classifier=True, seed=3)
    x, labels = video(pair), labels_for(pair)
    if recompute:
        pair.ours.gradient_checkpointing_enable()
    reference = exact(pair.theirs)
    loss = pair.ours.train()(x, labels).loss
    wanted = reference.train()(x.double(), labels).loss
    assert relative_error(loss, wanted) <= 2e-5
    loss.backward()
    wanted.backward()
    assert_same_gradients(pair.ours, reference, tolerance=2e-5)


def test_a_few_steps_of_training_stay_together() -> None:
    pair = make_pair(CONFIGS["tiny"], classifier=True, dtype=torch.float64)
    x, labels = video(pair, batch=4), torch.tensor([0, 1, 2, 3])
    losses: list[list[float]] = [[], []]
    for model, history in zip(pair, losses, strict=True):
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(x, labels=labels).loss
            loss.backward()
            optimizer.step()
            history.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert losses[0][-1] < losses[0][0]


def test_signatures_begin_alike() -> None:
    """Positional calls mean the same."""
    for kind in ("VJEPA2Model", "VJEPA2ForVideoClassification"):
        theirs = inspect.signature(getattr(transformers, kind).forward).parameters
        ours = inspect.signature(getattr(vjepa2, kind).forward).parameters
        named = [name for name in theirs if name != "kwargs"]
        assert list(ours)[: len(named)] == named
        assert [ours[name].default for name in named] == [theirs[name].default for name in named]
