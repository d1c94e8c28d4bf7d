"""The classifier: pooler options, losses by formula, labels that do not fit."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny_models import clip, model_names, randomise, relative_error, tiny_config
from vjepa2.errors import ConfigError, InputError, LabelError, ShapeError, UnknownOptionError
from vjepa2.models.classification import VJEPA2ForVideoClassification, classification_loss
from vjepa2.models.outputs import ImageClassifierOutput
from vjepa2.nn.pooler import AttentivePooler
from wrong_values import assert_named, fits_forward


def make_model(**changes: Any) -> VJEPA2ForVideoClassification:
    return randomise(VJEPA2ForVideoClassification(tiny_config(**changes)).double()).eval()


def pixels(model: VJEPA2ForVideoClassification, **sizes: Any) -> Tensor:
    return clip(model.config, **sizes).double()


# -- forward ------------------------------------------------------------------------------------


def test_logits_are_a_linear_map_of_the_pooled_tokens() -> None:
    model = make_model()
    x = pixels(model, height=16, width=48, frames=6)
    out = model(x)
    assert isinstance(out, ImageClassifierOutput) and list(out) == ["logits"]
    pooled = model.pooler(model.vjepa2.get_vision_features(x))
    wanted = pooled @ model.classifier.weight.T + model.classifier.bias
    assert out.logits.shape == (2, 5)
    torch.testing.assert_close(out.logits, wanted, rtol=1e-11, atol=1e-11)


def test_the_predictor_does_not_run() -> None:
    model = make_model()
    model.vjepa2.predictor.forward = lambda *_: pytest.fail("the predictor ran")
    model(pixels(model))


@pytest.mark.parametrize(
    ("changes", "heads", "eps"),
    [
        ({}, 2, 1e-6),
        ({"num_pooler_attention_heads": 4}, 4, 1e-6),
        ({"pooler_layer_norm_eps": 0.1}, 2, 0.1),
        ({"layer_norm_eps": 0.2}, 2, 0.2),
        ({"layer_norm_eps": 0.2, "pooler_layer_norm_eps": 1e-5}, 2, 1e-5),
    ],
)
def test_heads_and_eps_of_the_pooler(changes: dict[str, Any], heads: int, eps: float) -> None:
    """Original ViT-g probes have 16 heads and eps 1e-5, unlike their encoder: (22, 1e-6)."""
    model = make_model(**changes)
    other = AttentivePooler(
        32, heads, num_layers=1, activation="gelu", layer_norm_eps=eps, dropout=0.0
    ).double()
    other.load_state_dict(model.pooler.state_dict())
    tokens = torch.randn(2, 7, 32, dtype=torch.float64)
    torch.testing.assert_close(model.pooler(tokens), other(tokens), rtol=1e-12, atol=1e-12)
    assert model.vjepa2.encoder.layernorm.eps == changes.get("layer_norm_eps", 1e-6)


def normed(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt()
    return centred / scale * layer.weight + layer.bias


LEVELS_2_1 = {"model_type": "vjepa2_1", "num_hidden_layers": 3, "hierarchical_layers": [0, 2]}


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({"num_hidden_layers": 3}, [0, 2]),
        ({"num_hidden_layers": 3}, [1]),
        (LEVELS_2_1, [0, 2]),
        (LEVELS_2_1, [0]),
        (LEVELS_2_1, None),
    ],
)
@pytest.mark.parametrize("sizes", [{}, {"frames": 1}, {"frames": 6, "height": 16, "width": 48}])
def test_levels_are_joined_along_the_tokens(
    changes: dict[str, Any], levels: list[int] | None, sizes: dict[str, int]
) -> None:
    """V-JEPA 2 has one norm for all blocks, V-JEPA 2.1 one for each of its levels."""
    model = make_model(pooler_levels=levels, **changes)
    x = pixels(model, **sizes)
    encoder = model.vjepa2.encoder
    states = encoder(x, output_hidden_states=True).hidden_states
    tokens = []
    for block in levels or [2]:
        norm = encoder.layernorm
        if norm is None:
            norm = encoder.layernorms[model.config.hierarchical_layers.index(block)]
        tokens.append(normed(states[block + 1], norm))
    pooled = model.pooler(torch.cat(tokens, dim=1))
    wanted = pooled @ model.classifier.weight.T + model.classifier.bias
    out = model(x)
    assert list(out) == ["logits"]
    torch.testing.assert_close(out.logits, wanted, rtol=1e-10, atol=1e-10)


def test_an_image_has_an_embedding_of_its_own_in_2_1() -> None:
    model = make_model(**LEVELS_2_1)
    image = pixels(model, frames=1)
    before = model(image).logits
    with torch.no_grad():
        model.vjepa2.encoder.embeddings.patch_embeddings.proj.weight.zero_()
    assert torch.equal(model(image).logits, before)


@pytest.mark.parametrize("levels", [None, [0, 1]])
def test_levels_leave_the_other_outputs_alone(levels: list[int] | None) -> None:
    model = make_model(pooler_levels=levels)
    x = pixels(model)
    out = model(x, output_hidden_states=[1], output_attentions=True)
    wanted = model.vjepa2.encoder(x, output_hidden_states=[1], output_attentions=True)
    assert list(out) == ["logits", "hidden_states", "attentions"]
    assert [state is None for state in out.hidden_states] == [True, False, True]
    assert torch.equal(out.hidden_states[1], wanted.hidden_states[1])
    assert len(out.attentions) == 2


def test_configurations_of_other_models() -> None:
    with pytest.raises(ConfigError, match="'vjepa2_ac' has an action-conditioned predictor inst.*"):
        VJEPA2ForVideoClassification(tiny_config(model_type="vjepa2_ac"))
    with pytest.raises(ConfigError, match=r"one head, of num_labels=5.*Use VJEPA2AttentiveProbe"):
        VJEPA2ForVideoClassification(tiny_config(head_sizes={"verb": 3}))


def test_dropout_of_pooler_and_encoder_are_separate() -> None:
    model = make_model(attention_dropout=0.5)
    x = pixels(model)
    assert torch.equal(model(x).logits, model(x).logits)
    model.train()
    assert torch.equal(model.vjepa2.encoder(x)[0], model.vjepa2.encoder(x)[0])
    assert not torch.allclose(model(x).logits, model(x).logits)


def test_hidden_states_and_attentions_are_the_encoders() -> None:
    model = make_model()
    x = pixels(model)
    out = model(x, output_hidden_states=True, output_attentions=True)
    wanted = model.vjepa2.encoder(x, output_hidden_states=True, output_attentions=True)
    assert list(out) == ["logits", "hidden_states", "attentions"]
    for name in ("hidden_states", "attentions"):
        for one, other in zip(out[name], wanted[name], strict=True):
            assert torch.equal(one, other)
    assert [h is None for h in model(x, output_hidden_states=-1).hidden_states] == [
        True,
        True,
        False,
    ]
    with pytest.raises(InputError, match="level 3; there are 3"):
        model(x, output_hidden_states=3)


@pytest.mark.parametrize("by_config", [True, False])
def test_tuples(by_config: bool) -> None:
    model = make_model(return_dict=not by_config, output_hidden_states=by_config)
    options = {} if by_config else {"return_dict": False, "output_hidden_states": True}
    labels = torch.tensor([0, 4])
    out = model(pixels(model), labels, **options)
    assert type(out) is tuple and len(out) == 3 and type(out[2]) is tuple
    wanted = model(pixels(model), labels, return_dict=True)
    assert torch.equal(out[0], wanted.loss) and torch.equal(out[1], wanted.logits)


def test_unknown_arguments_and_wrong_pixels() -> None:
    model = make_model()
    with pytest.raises(UnknownOptionError, match="no option 'label'. Did you mean 'labels'"):
        model(pixels(model), label=torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"It looks like \[B, C, T, H, W\]"):
        model(pixels(model).transpose(1, 2))


def test_names_of_the_parameters_are_the_published_ones() -> None:
    model = make_model(num_pooler_layers=2)
    wanted = {f"vjepa2.{name}" for name in model_names(encoder_depth=2, predictor_depth=2)}
    wanted |= {"pooler.query_tokens", "classifier.weight", "classifier.bias"}
    layers = {
        "pooler.cross_attention_layer": ("cross_attn", ("k_proj", "v_proj", "q_proj")),
        **{
            f"pooler.self_attention_layers.{i}": (
                "self_attn",
                ("k_proj", "v_proj", "q_proj", "out_proj"),
            )
            for i in range(2)
        },
    }
    for prefix, (attention, matrices) in layers.items():
        parts = [f"{attention}.{matrix}" for matrix in matrices]
        for part in ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *parts]:
            wanted |= {f"{prefix}.{part}.weight", f"{prefix}.{part}.bias"}
    assert set(model.state_dict()) == wanted == {name for name, _ in model.named_parameters()}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["pooler.query_tokens"] == (1, 1, 32)
    assert shapes["pooler.cross_attention_layer.mlp.fc1.weight"] == (128, 32)  # ratio 4 always
    assert shapes["vjepa2.encoder.layer.0.mlp.fc1.weight"] == (64, 32)
    assert shapes["classifier.weight"] == (5, 32)
    assert "pooler.self_attention_layers.0.self_attn.q_proj.bias" in model_without_biases()


def model_without_biases() -> set[str]:
    """`qkv_bias=False` concerns encoder and predictor, never the pooler."""
    names = set(make_model(qkv_bias=False).state_dict())
    assert not any(name.endswith(("query.bias", "key.bias", "value.bias")) for name in names)
    return names


# -- losses ---------------------------------------------------------------------------------------


LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)


def cross_entropy(row: list[float], label: int) -> float:
    return math.log(sum(math.exp(x) for x in row)) - row[label]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_one_class_per_clip(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    rows = LOGITS.tolist()
    wanted = (cross_entropy(rows[0], 2) + cross_entropy(rows[1], 0)) / 2
    labels = torch.tensor([2, 0], dtype=dtype).reshape(shape)
    for kind in (None, "single_label_classification"):
        got = classification_loss(LOGITS, labels, problem_type=kind)
        assert got.item() == pytest.approx(wanted, abs=1e-12)


def test_minus_100_ignores_a_clip() -> None:
    labels = torch.tensor([-100, 1])
    wanted = cross_entropy(LOGITS[1].tolist(), 1)
    got = classification_loss(LOGITS, labels, problem_type=None)
    assert got.item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_for_every_class(dtype: torch.dtype) -> None:
    labels = torch.tensor([[1.0, 0.0, 0.25], [0.0, 1.0, 1.0]], dtype=dtype)
    pairs = zip(LOGITS.flatten().tolist(), labels.flatten().tolist(), strict=True)
    sigmoid = [(1 / (1 + math.exp(-x)), y) for x, y in pairs]
    wanted = -sum(y * math.log(p) + (1 - y) * math.log(1 - p) for p, y in sigmoid) / 6
    for kind in (None, "multi_label_classification"):
        got = classification_loss(LOGITS, labels, problem_type=kind)
        assert got.item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_one_label_is_regression(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """[B] against [B, 1] must not broadcast to [B, B]."""
    labels = torch.tensor([3, -1], dtype=dtype).reshape(shape)
    wanted = ((1.0 - 3) ** 2 + (0.0 + 1) ** 2) / 2
    for kind in (None, "regression"):
        got = classification_loss(LOGITS[:, :1], labels, problem_type=kind)
        assert got.item() == pytest.approx(wanted, abs=1e-12)


def test_regression_of_several_numbers() -> None:
    labels = torch.zeros(2, 3, dtype=torch.float64)
    got = classification_loss(LOGITS, labels, problem_type="regression")
    assert got.item() == pytest.approx(sum(x * x for x in LOGITS.flatten().tolist()) / 6)


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (
            torch.tensor([3, 0]),
            None,
            r"labels hold \[3\]; this model has 3 classes.*0 to 2 \(and -1",
        ),
        (torch.tensor([-1, -7]), None, r"labels hold \[-7, -1\]"),
        (torch.tensor([0]), None, r"must be \[2\] or \[2, 1\], got \[1\] torch.int64"),
        (torch.tensor([[0, 1], [1, 0]]), None, r"must be \[2\] or \[2, 1\], got \[2, 2\]"),
        (torch.tensor([0.0, 1.0]), None, r"must be \[2, 3\], got \[2\] torch.float32. Integer"),
        (torch.zeros(2, 2), "regression", r"labels for regression must be \[2, 3\], got \[2, 2\]"),
        (torch.tensor([0.0, 1.0]), "single_label_classification", "integers, .*Use labels.long()"),
        ([0, 1], None, "must be a tensor, got list. Use torch.tensor"),
        (torch.tensor([-100, -100]), None, "labels are all -100, so every clip of this batch"),
        (torch.full((2, 3), 5.0), None, r"labels hold \[5.0, .*\] in torch.float64; .* 0 to 1"),
        (torch.tensor([[0.0, -3.0, 1.0]] * 2), None, r"labels hold \[-3.0, -3.0\] in"),
        (torch.tensor([[0.0, math.nan, 1.0]] * 2), None, r"labels hold \[nan, nan\] in"),
        (torch.tensor([[2, 0, 1], [0, 1, 1]]), "multi_label_classification", r"hold \[2.0\]"),
        (torch.tensor([[math.nan, 0, 1]] * 2), "regression", "allowed are finite numbers"),
        (torch.tensor([[math.inf, 0, 1]] * 2), "regression", r"hold \[inf, inf\]"),
    ],
)
def test_labels_that_do_not_fit(labels: Any, kind: str | None, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        classification_loss(LOGITS, labels, problem_type=kind)


@pytest.mark.parametrize(
    ("num_labels", "label", "dtype"),
    [
        (400, 200, torch.uint8),
        (174, 100, torch.int8),
        (70_000, 40_000, torch.uint16),
        (100, 99, torch.uint8),
    ],
)
def test_small_types_are_compared_as_numbers(
    num_labels: int, label: int, dtype: torch.dtype
) -> None:
    """The number of classes does not fit some of them, and -100 is 156 in another."""
    logits = torch.linspace(-1, 1, 2 * num_labels, dtype=torch.float64).reshape(2, num_labels)
    rows = logits.tolist()
    wanted = (cross_entropy(rows[0], label) + cross_entropy(rows[1], 3)) / 2
    got = classification_loss(logits, torch.tensor([label, 3], dtype=dtype), problem_type=None)
    assert got.item() == pytest.approx(wanted, abs=1e-9)


def test_the_ignored_label_is_not_another_class_in_small_types() -> None:
    logits = torch.zeros(2, 100)
    with pytest.raises(LabelError, match=r"labels hold \[156\]; this model has 100 classes"):
        classification_loss(logits, torch.tensor([156, 3], dtype=torch.uint8), problem_type=None)
    got = classification_loss(logits, torch.tensor([-100, 3], dtype=torch.int8), problem_type=None)
    assert got.item() == pytest.approx(math.log(100))


def test_a_number_too_large_for_the_type_of_the_logits() -> None:
    labels = torch.tensor([1e39, 0.0], dtype=torch.float64)
    with pytest.raises(LabelError, match=r"labels hold \[inf\] in torch.float32"):
        classification_loss(torch.zeros(2, 1), labels, problem_type=None)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (torch.tensor([2, 0]), "single_label_classification"),
        (torch.tensor([-100, 1]), "single_label_classification"),
        (torch.tensor([[1.0, 0.0, 0.25], [0.0, 1.0, 1.0]]), "multi_label_classification"),
        (torch.tensor([[7.0, -3.0, 0.25], [0.0, 1e6, 1.0]]), "regression"),
    ],
)
def test_equals_the_loss_of_the_port(labels: Tensor, kind: str) -> None:
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    config = tiny_config(num_labels=3, problem_type=kind)
    targets = labels.to(LOGITS.dtype) if labels.is_floating_point() else labels
    wanted = ForSequenceClassificationLoss(targets, LOGITS, config)
    assert torch.equal(classification_loss(LOGITS, labels, problem_type=kind), wanted)


def test_one_label_has_its_own_shapes() -> None:
    with pytest.raises(LabelError, match=r"labels for regression must be \[2\] or \[2, 1\], got"):
        classification_loss(LOGITS[:, :1], torch.zeros(2, 3), problem_type=None)


def test_the_kind_of_loss_is_not_remembered() -> None:
    """The port writes it into the configuration, where it sticks and is saved."""
    model = make_model(num_labels=3)
    x = pixels(model)
    before = model.config.to_dict()
    many = model(x, torch.zeros(2, 3)).loss
    one = model(x, torch.tensor([1, 2])).loss
    assert many.item() != one.item()
    assert model.config.problem_type is None and model.config.to_dict() == before


def test_the_configured_kind_decides() -> None:
    model = make_model(num_labels=3, problem_type="multi_label_classification")
    x, labels = pixels(model), torch.tensor([[1, 0, 1], [0, 1, 1]])
    wanted = classification_loss(model(x).logits, labels, problem_type="multi_label_classification")
    assert torch.equal(model(x, labels).loss, wanted)
    with pytest.raises(LabelError, match="labels for multi_label_classification must be"):
        model(x, torch.tensor([1, 2]))


def test_labels_from_the_cpu_follow_the_logits() -> None:
    """The meta device stands in for an accelerator: it refuses tensors from elsewhere too."""
    for labels in (torch.tensor([1, 2]), torch.zeros(2, 3)):
        assert classification_loss(LOGITS.to("meta"), labels, problem_type=None).is_meta


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = make_model()
    x, labels = pixels(model), torch.tensor([0, 4])
    wanted = model(x, labels)
    got = model.to(dtype)(x.float(), labels)
    assert got.logits.dtype == got.loss.dtype == dtype
    assert relative_error(got.logits, wanted.logits) < 0.05
    assert got.loss.item() == pytest.approx(wanted.loss.item(), rel=0.05)


def test_autocast_computes_the_loss_in_float32() -> None:
    model = make_model().float()
    x, labels = clip(model.config), torch.tensor([0, 4])
    wanted = model(x, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = model(x, labels)
    assert got.logits.dtype == torch.bfloat16 and got.loss.dtype == torch.float32
    assert got.loss.item() == pytest.approx(wanted.loss.item(), rel=0.05)


@pytest.mark.parametrize("recompute", [False, True])
def test_training_reduces_the_loss(recompute: bool) -> None:
    model = make_model().float().train()
    if recompute:
        model.gradient_checkpointing_enable()
        assert model.pooler.gradient_checkpointing
    x, labels = clip(model.config, batch=4), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        loss = model(x, labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_only_the_predictor_gets_no_gradient() -> None:
    model = make_model().train()
    model(pixels(model), torch.tensor([0, 4])).loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name in model.state_dict() if name.startswith("vjepa2.predictor.")}


def test_whole_numbers_in_the_configuration() -> None:
    """`config.json` files hold 4 where 4.0 is meant, and 0 for no dropout."""
    numbers = {
        "mlp_ratio": 2,
        "pred_mlp_ratio": 2,
        "drop_path_rate": 0,
        "attention_dropout": 0,
        "attention_probs_dropout_prob": 0,
        "layer_norm_eps": 1,
        "pooler_layer_norm_eps": 1,
        "initializer_range": 1,
    }
    whole = make_model(**numbers)
    fractional = make_model(**{name: float(value) for name, value in numbers.items()})
    x = pixels(whole)
    assert torch.equal(whole.train()(x).logits, fractional.train()(x).logits)


@pytest.mark.parametrize("levels", [None, [0, 1]])
def test_hooks_on_the_base_model_take_part(levels: list[int] | None) -> None:
    config = tiny_config(pooler_levels=levels)
    model = VJEPA2ForVideoClassification(config).eval()
    seen: list[str] = []
    model.vjepa2.register_forward_hook(lambda *_: seen.append("base"))
    model(clip(config))
    assert seen == ["base"]


@pytest.mark.parametrize("name", ("output_hidden_states", "output_attentions", "return_dict"))
def test_arguments_of_another_type_are_named(name: str) -> None:
    model = make_model()
    inputs = (pixels(model),)
    assert_named(
        lambda value: model(*inputs, **{name: value}),
        allowed=lambda value: fits_forward(name, value, depth=2),
        error=InputError,
    )
    with pytest.raises(InputError, match=rf"{name}.* must be .*, got 'x' \(str\)"):
        model(*inputs, **{name: "x"})
