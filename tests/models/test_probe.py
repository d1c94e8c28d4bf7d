"""The attentive probe: Meta's logits, several heads, tokens that do not fit, files, parts."""

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tiny_models import clip, randomise, tiny_config
from vjepa2 import VJEPA2AttentiveProbe, VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model
from vjepa2.errors import (
    CheckpointMismatchError,
    ConfigError,
    DtypeError,
    InputError,
    LabelError,
    ShapeError,
    UnknownOptionError,
)
from vjepa2.models.classification import classification_loss
from vjepa2.models.presets import PROBES
from vjepa2.models.probe import ProbeOutput
from vjepa2.nn.pooler import AttentivePooler
from vjepa2.weights.load import LoadReport
from vjepa2.weights.skeleton import Skeleton
from wrong_values import assert_named, fits_forward

META = Path(__file__).parent.parent / "fixtures" / "meta"
HEADS = {"verb": 5, "noun": 3, "action": 7}  # not in alphabetical order


def make_probe(**changes: Any) -> VJEPA2AttentiveProbe:
    return randomise(VJEPA2AttentiveProbe(tiny_config(**changes)).double()).eval()


def make_tokens(count: int = 6, *, batch: int = 2, width: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, width, generator=generator, dtype=torch.float64)


# -- against the original ---------------------------------------------------------------------


def renamed(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Original names to ours, written out here once more; fused matrices are cut by rows."""
    ours = {}
    for name, value in stored.items():
        name = name.removeprefix("module.").replace("linear.", "classifier.")
        name = name.replace("pooler.blocks.", "pooler.self_attention_layers.")
        name = name.replace("pooler.cross_attention_block.", "pooler.cross_attention_layer.")
        name = name.replace(".norm", ".layer_norm").replace(".attn.proj.", ".self_attn.out_proj.")
        name = name.replace(".xattn.q.", ".cross_attn.q_proj.")
        for fused, parts in ((".attn.qkv.", "qkv"), (".xattn.kv.", "kv")):
            if fused in name:
                attention = ".self_attn." if fused == ".attn.qkv." else ".cross_attn."
                for part, rows in zip(parts, value.chunk(len(parts)), strict=True):
                    ours[name.replace(fused, f"{attention}{part}_proj.")] = rows
                break
        else:
            ours[name] = value
    return ours


def original_probe(**changes: Any) -> VJEPA2AttentiveProbe:
    """What tests/fixtures/meta/README.md says of the file."""
    sizes = {"hidden_size": 96, "num_labels": 7, "num_pooler_layers": 3}
    pooler = {"num_pooler_attention_heads": 4, "pooler_layer_norm_eps": 1e-5}
    config = VJEPA2Config(**{**sizes, **pooler, "num_attention_heads": 8, **changes})
    probe = VJEPA2AttentiveProbe(config).eval()
    stored = torch.load(META / "attentive_classifier.pt", weights_only=True)["classifiers"][0]
    probe.load_state_dict(renamed(stored))
    return probe


def error_of(probe: VJEPA2AttentiveProbe) -> float:
    """Largest absolute error of the logits, which are up to 4.9."""
    arrays = load_file(META / "attentive_classifier_io.safetensors")
    with torch.no_grad():
        return (probe(arrays["tokens"]).logits - arrays["logits"]).abs().max().item()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_logits_of_the_original_code(implementation: str) -> None:
    assert error_of(original_probe(attn_implementation=implementation)) < 5e-6


def test_heads_and_eps_of_the_port_are_not_those_of_the_original() -> None:
    """The shapes agree and the weights load: only the numbers tell."""
    assert error_of(original_probe(num_pooler_attention_heads=None)) > 0.1
    assert error_of(original_probe(pooler_layer_norm_eps=None)) > 1e-5


@pytest.mark.parametrize(
    ("width", "heads", "count"),
    [
        (1024, {"num_labels": 174}, 49_514_670),
        (1408, {"num_labels": 174}, 93_494_190),
        (1408, {"num_labels": 400}, 93_812_624),
        # One head more costs a query and a linear map: 49,514,670 - 175,174 less, then per head
        # 1024 + 1025 * classes.
        (
            1024,
            {"head_sizes": {"verb": 97, "noun": 300, "action": 3568}},
            49_514_670 - 1025 * 174 + 2 * 1024 + 1025 * (97 + 300 + 3568),
        ),
    ],
)
def test_published_numbers_of_parameters(width: int, heads: dict[str, Any], count: int) -> None:
    config = VJEPA2Config(hidden_size=width, num_attention_heads=16, **heads)
    with torch.device("meta"):
        assert VJEPA2AttentiveProbe(config).num_parameters() == count


@pytest.mark.parametrize("name", list(PROBES))
def test_every_released_probe(name: str) -> None:
    """Three self-attention blocks of 16 tensors, the cross block of 14, queries, two per head."""
    preset = PROBES[name]
    with Skeleton():
        probe = VJEPA2AttentiveProbe(preset.to_config())
    assert probe.num_parameters() == preset.num_parameters["probe"]
    assert len(probe.state_dict()) == 3 * 16 + 14 + 1 + 2 * (3 if "ek100" in name else 1)
    assert len(probe.levels) == (4 if "diving48" in name else 1)
    assert probe.pooler.cross_attention_layer.cross_attn.num_heads == 16
    assert probe.pooler.cross_attention_layer.layer_norm2.eps == 1e-5


# -- forward ----------------------------------------------------------------------------------


def test_it_is_the_head_of_a_classifier() -> None:
    """Same names, same numbers."""
    config = tiny_config(num_pooler_attention_heads=4, pooler_layer_norm_eps=1e-3)
    model = randomise(VJEPA2ForVideoClassification(config).double()).eval()
    probe = VJEPA2AttentiveProbe(config).double().eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("vjepa2.")}
    assert list(state) == list(probe.state_dict())
    probe.load_state_dict(state)
    x = clip(config).double()
    out = probe(model.vjepa2.get_vision_features(x))
    assert type(out) is ProbeOutput and list(out) == ["logits"]
    assert torch.equal(out.logits, model(x).logits)


def test_fresh_weights_are_those_of_a_classifier() -> None:
    model, probe = (
        kind(tiny_config()) for kind in (VJEPA2ForVideoClassification, VJEPA2AttentiveProbe)
    )
    for network in (model, probe):
        generator = torch.Generator().manual_seed(3)
        network.init_missing(probe.state_dict(), generator=generator)
    for name, value in probe.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_parts_are_joined_along_the_tokens() -> None:
    """Levels and segments are only more tokens; no position makes their order matter."""
    probe = make_probe(pooler_levels=[0, 1])
    parts = [make_tokens(count, seed=count) for count in (3, 5, 4, 2)]
    wanted = probe(torch.cat(parts, dim=1)).logits
    assert torch.equal(probe(parts).logits, wanted)
    assert torch.equal(probe(tuple(parts)).logits, wanted)
    torch.testing.assert_close(probe(parts[::-1]).logits, wanted, rtol=1e-10, atol=1e-10)
    one = make_probe()
    assert torch.equal(one(parts[:1]).logits, one(parts[0]).logits)
    assert torch.equal(one(parts[:3]).logits, one(torch.cat(parts[:3], dim=1)).logits)


def test_tokens_are_cast_to_the_weights() -> None:
    probe, tokens = make_probe().float(), make_tokens()
    out = probe(tokens.half()).logits
    assert out.dtype is torch.float32
    assert torch.equal(out, probe(tokens.half().float()).logits)


@pytest.mark.parametrize(("changes", "levels"), [({}, (1,)), ({"pooler_levels": [0, 1]}, (0, 1))])
def test_levels_to_ask_the_encoder_for(changes: dict[str, Any], levels: tuple[int, ...]) -> None:
    probe = make_probe(**changes)
    assert probe.levels == levels
    model = randomise(VJEPA2Model(tiny_config()).double()).eval()
    encoded = model.encoder(clip(model.config).double(), output_levels=probe.levels)
    assert probe(encoded.level_hidden_states).logits.shape == (2, 5)


# -- several heads ----------------------------------------------------------------------------


def test_every_head_reads_its_own_query() -> None:
    """A probe of three heads equals three probes that share the self-attention blocks."""
    probe, tokens = make_probe(head_sizes=HEADS, num_pooler_layers=2), make_tokens()
    assert probe.head_names == ("verb", "noun", "action")
    logits = probe(tokens).logits
    assert {name: tuple(scores.shape) for name, scores in logits.items()} == {
        "verb": (2, 5),
        "noun": (2, 3),
        "action": (2, 7),
    }
    assert list(logits) == list(HEADS)
    for index, name in enumerate(HEADS):
        single = make_probe(num_pooler_layers=2, num_labels=HEADS[name])
        state = {k: v for k, v in probe.state_dict().items() if k.startswith("pooler.")}
        state["pooler.query_tokens"] = state["pooler.query_tokens"][:, index : index + 1]
        for leaf in ("weight", "bias"):
            state[f"classifier.{leaf}"] = probe.state_dict()[f"classifiers.{name}.{leaf}"]
        single.load_state_dict(state)
        torch.testing.assert_close(logits[name], single(tokens).logits, rtol=1e-11, atol=1e-11)


def test_names_and_shapes_of_several_heads() -> None:
    shapes = {name: tuple(v.shape) for name, v in make_probe(head_sizes=HEADS).state_dict().items()}
    assert shapes["pooler.query_tokens"] == (1, 3, 32)
    heads = {name: shape for name, shape in shapes.items() if not name.startswith("pooler.")}
    assert heads == {
        "classifiers.verb.weight": (5, 32),
        "classifiers.verb.bias": (5,),
        "classifiers.noun.weight": (3, 32),
        "classifiers.noun.bias": (3,),
        "classifiers.action.weight": (7, 32),
        "classifiers.action.bias": (7,),
    }


def test_one_named_head_is_still_named() -> None:
    probe, tokens = make_probe(head_sizes={"verb": 5}), make_tokens()
    plain = make_probe()
    state = probe.state_dict()
    plain.load_state_dict({k.replace("classifiers.verb", "classifier"): state[k] for k in state})
    logits = probe(tokens).logits
    assert list(logits) == ["verb"] and torch.equal(logits["verb"], plain(tokens).logits)


@pytest.mark.parametrize("name", ["", "a.b", "keys", "type"])
def test_names_that_no_parameter_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match=f"names a head '{name}'.*Use another, such as 'verb'"):
        VJEPA2AttentiveProbe(tiny_config(head_sizes={name: 3}))


def test_fresh_weights_of_three_blocks_and_three_queries() -> None:
    """Self block i is divided by sqrt(2 (i + 1)), the cross block's MLP by the last of these."""
    config = tiny_config(
        hidden_size=96, num_pooler_layers=3, head_sizes=HEADS, initializer_range=0.05
    )
    probe = VJEPA2AttentiveProbe(config)
    divisors = {f"self_attention_layers.{i}.mlp.fc2": math.sqrt(2 * (i + 1)) for i in range(3)}
    divisors |= {
        f"self_attention_layers.{i}.self_attn.out_proj": math.sqrt(2 * (i + 1)) for i in range(3)
    }
    divisors["cross_attention_layer.mlp.fc2"] = math.sqrt(2 * 3)
    seen = 0
    for name, part in probe.pooler.named_modules():
        if isinstance(part, nn.Linear):
            seen += name in divisors
            std = 0.05 / divisors.get(name, 1.0)
            assert part.weight.std().item() == pytest.approx(std, rel=0.05), name
            assert not part.bias.any()
    assert seen == len(divisors)
    assert probe.pooler.query_tokens.std().item() == pytest.approx(0.05, rel=0.25)
    assert probe.classifiers["action"].weight.std().item() == pytest.approx(0.05, rel=0.2)


# -- output -----------------------------------------------------------------------------------


def test_output_of_several_heads_is_read_in_every_way() -> None:
    probe, tokens = make_probe(head_sizes=HEADS), make_tokens()
    labels = {name: torch.tensor([0, 1]) for name in HEADS}
    out = probe(tokens, labels)
    assert list(out) == ["loss", "logits"]
    assert out.logits is out["logits"] is out[1]
    values = probe(tokens, labels, return_dict=False)
    assert type(values) is tuple and len(values) == 2 and list(values[1]) == list(HEADS)
    assert len(probe(tokens, return_dict=False)) == 1
    doubled = pytree.tree_map(lambda leaf: leaf * 2, out)
    assert type(doubled) is ProbeOutput
    assert torch.equal(doubled.logits["noun"], out.logits["noun"] * 2)
    for again in (ProbeOutput(dict(out)), copy.copy(out), pickle.loads(pickle.dumps(out))):
        assert type(again) is ProbeOutput and list(again) == ["loss", "logits"]
        assert torch.equal(again.logits["action"], out.logits["action"])
    # Without a loss, the first field that is present is a dictionary.
    again = ProbeOutput(dict(probe(tokens)))
    assert list(again) == ["logits"] and list(again.logits) == list(HEADS)


def test_tuples_by_configuration() -> None:
    probe = make_probe(return_dict=False)
    out = probe(make_tokens(), torch.tensor([0, 4]))
    assert type(out) is tuple and [part.ndim for part in out] == [0, 2]


# -- labels -----------------------------------------------------------------------------------


def test_loss_of_one_head() -> None:
    probe, tokens, labels = make_probe(), make_tokens(), torch.tensor([0, 4])
    out = probe(tokens, labels)
    assert torch.equal(out.loss, classification_loss(out.logits, labels, problem_type=None))


def test_loss_of_several_heads_is_the_sum() -> None:
    probe, tokens = make_probe(head_sizes=HEADS), make_tokens()
    labels = {
        "action": torch.tensor([6, 0]),
        "verb": torch.tensor([4, -100]),  # ignored: the mean is over the first clip
        "noun": torch.tensor([0, 2]),
    }
    out = probe(tokens, labels)
    wanted = 0.0
    for name, ids in labels.items():
        terms = [
            math.log(sum(math.exp(x) for x in row)) - row[label]
            for row, label in zip(out.logits[name].tolist(), ids.tolist(), strict=True)
            if label >= 0
        ]
        wanted += sum(terms) / len(terms)
    assert out.loss.shape == () and out.loss.item() == pytest.approx(wanted, abs=1e-12)


IDS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (IDS, r"dictionary with one entry per head \(verb, noun, action\), got Tensor"),
        ({"verb": IDS, "nuon": IDS}, "labels name a head 'nuon'. Did you mean 'noun'"),
        ({"noun": IDS}, "labels lack verb, action; .* -100 leave a clip out"),
        ({**dict.fromkeys(HEADS, IDS), "noun": IDS + 2}, r"labels\['noun'\] hold \[3\]; .* 3 "),
        ({**dict.fromkeys(HEADS, IDS), "noun": IDS * 0 - 100}, r"labels\['noun'\] are all -100"),
    ],
)
def test_labels_that_do_not_fit_the_heads(labels: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        make_probe(head_sizes=HEADS)(make_tokens(), labels)


def test_labels_by_head_for_a_single_head() -> None:
    with pytest.raises(LabelError, match="must be a tensor, got dict"):
        make_probe()(make_tokens(), {"verb": IDS})


# -- tokens that do not fit -------------------------------------------------------------------

GOOD = make_tokens()


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (
            make_tokens(width=48),
            ShapeError,
            r"48 wide.*a probe for another encoder width or level set: .* of blocks \[0, 1\] of an",
        ),
        (
            make_tokens(width=64),
            ShapeError,
            r"level set.*2 levels side by side become tokens.chunk\(2, dim=-1\)",
        ),
        ([GOOD, make_tokens(width=16)], ShapeError, r"tokens\[1\] is 16 wide"),
        ([GOOD, make_tokens(batch=1)], ShapeError, r"tokens\[1\] is \[1, 6, 32\], of 1 clips"),
        (GOOD[0], ShapeError, r"must be \[B, N, D=32\].* got \[6, 32\]. Add the batch axis"),
        (GOOD[:, :0], ShapeError, r"B and N >= 1, got \[2, 0, 32\]"),
        ([GOOD] * 3, InputError, r"holds 3 tensors; .* 2 levels .* blocks \[0, 1\].*probe.levels"),
        ([], DtypeError, r"a list or tuple of them, got \[\] \(list\)"),
        ({"tokens": GOOD}, DtypeError, r"\(dict\)"),
        (
            GOOD.long(),
            DtypeError,
            r"floating point tokens \[B, N, 32\] of an encoder, got torch.in",
        ),
        (GOOD.to_sparse(), DtypeError, "tokens must be a dense tensor, got one stored as"),
        (GOOD.to("meta"), DtypeError, "tokens has no values, it is on the meta device"),
        ([GOOD, GOOD.to("meta")], DtypeError, r"tokens\[1\] has no values"),
        ([GOOD, None], DtypeError, r"tokens\[1\] must be floating point.*None \(NoneType\)"),
        (GOOD.index_fill(1, torch.tensor(2), math.nan), DtypeError, "tokens holds NaN or infinity"),
        ([GOOD, GOOD / 0], DtypeError, r"tokens\[1\] holds NaN or infinity"),
    ],
)
def test_tokens_that_do_not_fit(tokens: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_probe(pooler_levels=[0, 1])(tokens)


def test_the_last_block_is_named() -> None:
    with pytest.raises(ShapeError, match="32 wide, of the last block of an encoder with 2 blocks"):
        make_probe()(make_tokens(width=48))


def test_unknown_arguments_and_what_a_probe_does_not_have() -> None:
    probe = make_probe()
    with pytest.raises(UnknownOptionError, match="no option 'label'. Did you mean 'labels'"):
        probe(GOOD, label=IDS)
    with pytest.raises(NotImplementedError, match="has no patch embedding; its encoder has"):
        probe.get_input_embeddings()


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [{"num_labels": 3}, {"head_sizes": HEADS}])
def test_saved_and_loaded(tmp_path: Path, heads: dict[str, Any]) -> None:
    changes = {
        "num_pooler_attention_heads": 4,
        "pooler_layer_norm_eps": 1e-5,
        "pooler_levels": [0, 1],
        **heads,
    }
    probe = make_probe(**changes).float()
    probe.save_pretrained(tmp_path)
    other = VJEPA2AttentiveProbe.from_pretrained(tmp_path)
    assert other.config.architectures == ["VJEPA2AttentiveProbe"]
    assert other.config.model_type == "vjepa2"
    for name, value in changes.items():
        assert getattr(other.config, name) == value, name
    # Which query belongs to which head: the order is part of the file.
    assert list(other.config.head_sizes or ()) == list(heads.get("head_sizes", ()))
    tokens = make_tokens().float()
    ours, theirs = (pytree.tree_leaves(model(tokens)) for model in (probe, other))
    assert len(ours) == len(theirs) == len(heads.get("head_sizes", "1"))
    for one, another in zip(ours, theirs, strict=True):
        assert torch.equal(one, another)
    assert not other.training and not other.load_report.dropped


def test_the_order_of_heads_is_part_of_the_configuration() -> None:
    config = tiny_config(head_sizes=HEADS)
    again = VJEPA2Config.from_dict(config.to_dict())
    assert again == config
    reversed_heads = dict(reversed(HEADS.items()))
    assert tiny_config(head_sizes=reversed_heads) != config


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_out_of_the_folder_of_a_classifier(tmp_path: Path, dtype: str | None) -> None:
    model = randomise(VJEPA2ForVideoClassification(tiny_config())).eval()
    model.save_pretrained(tmp_path)
    probe = VJEPA2AttentiveProbe.from_pretrained(tmp_path, dtype=dtype)
    for name, value in probe.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].to(value.dtype)), name
    assert probe.dtype is (torch.float32 if dtype is None else torch.float16)
    base = {name for name in model.state_dict() if name.startswith("vjepa2.")}
    assert set(probe.load_report.dropped) == base
    assert set(probe.load_report.dropped.values()) == {
        "part of encoder or predictor; VJEPA2AttentiveProbe has neither"
    }
    assert probe.load_report.loaded == len(probe.state_dict())


def test_folders_without_a_probe_are_refused(tmp_path: Path) -> None:
    VJEPA2Model(tiny_config()).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointMismatchError) as caught:
        VJEPA2AttentiveProbe.from_pretrained(tmp_path / "base")
    assert "pooler.query_tokens" in caught.value.missing
    make_probe(head_sizes=HEADS).save_pretrained(tmp_path / "heads")
    with pytest.raises(CheckpointMismatchError) as caught:
        VJEPA2AttentiveProbe.from_pretrained(tmp_path / "heads", head_sizes={"verb": 5, "noun": 3})
    assert caught.value.unexpected == ["classifiers.action.bias", "classifiers.action.weight"]


# -- encoder and probe together ---------------------------------------------------------------


PARTS = {"pooler_levels": [0, 1], "num_pooler_attention_heads": 4, "pooler_layer_norm_eps": 0.01}


def parts(**changes: Any) -> tuple[VJEPA2Model, VJEPA2AttentiveProbe]:
    model = randomise(VJEPA2Model(tiny_config())).eval()
    own = {**PARTS, "frames_per_clip": 8, "num_pooler_layers": 2, "id2label": {0: "a", 1: "b"}}
    config = tiny_config(**{**own, **changes, "num_labels": 2})
    return model, randomise(VJEPA2AttentiveProbe(config), seed=5).eval()


def test_a_classifier_of_parts() -> None:
    model, probe = parts()
    before = (model.config.to_dict(), probe.config.to_dict())
    joined = VJEPA2ForVideoClassification.from_parts(model, probe)
    assert joined.vjepa2 is model and joined.pooler is probe.pooler and not joined.training
    assert (model.config.to_dict(), probe.config.to_dict()) == before
    assert not any(parameter.is_meta for parameter in joined.parameters())
    x = clip(model.config)
    wanted = probe(model.encoder(x, output_levels=probe.levels).level_hidden_states).logits
    assert torch.equal(joined(x).logits, wanted)
    for name, value in PARTS.items():
        assert getattr(joined.config, name) == value
    assert joined.config.frames_per_clip == 8 and joined.config.id2label == {0: "a", 1: "b"}
    assert joined.num_labels == 2


def test_a_classifier_of_parts_is_saved_as_one(tmp_path: Path) -> None:
    model, probe = parts()
    joined = VJEPA2ForVideoClassification.from_parts(model, probe)
    joined.save_pretrained(tmp_path)
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path)
    x = clip(model.config)
    assert torch.equal(again(x).logits, joined(x).logits)
    assert again.config.id2label == {0: "a", 1: "b"}


def test_parts_are_shared_and_two_probes_fit_one_encoder() -> None:
    model, first = parts()
    second = parts(pooler_levels=[0])[1]
    one, two = (VJEPA2ForVideoClassification.from_parts(model, probe) for probe in (first, second))
    x = clip(model.config)
    before = [joined(x).logits for joined in (one, two)]
    assert not torch.allclose(*before)
    one.set_attn_implementation("eager")  # reaches the shared encoder, changes no number
    assert model.config._attn_implementation == "eager"
    for joined, wanted in zip((one, two), before, strict=True):
        torch.testing.assert_close(joined(x).logits, wanted, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        model.encoder.layernorm.weight[:16] *= 2
    assert not torch.allclose(one(x).logits, before[0])
    assert not torch.allclose(two(x).logits, before[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, r"do not belong together. hidden_size: 32 and 64 \(encoder, probe\)"),
        ({"crop_size": 64, "patch_size": 16}, "patch_size: 8 and 16; crop_size: 32 and 64"),
        ({"model_type": "vjepa2_1", "hierarchical_layers": [1], "pooler_levels": [1]}, r"levels: "),
        ({"num_hidden_layers": 3}, "num_hidden_layers: 2 and 3"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps: 1e-06 and 0.001"),
        ({"head_sizes": HEADS}, "has one head; this probe has 3: verb, noun, action. Call the"),
    ],
)
def test_parts_that_do_not_belong_together(changes: dict[str, Any], message: str) -> None:
    model, probe = parts(**changes)
    with pytest.raises(ConfigError, match=message):
        VJEPA2ForVideoClassification.from_parts(model, probe)


def test_what_a_file_does_not_say_is_no_difference() -> None:
    """An original file on its own: crop_size and frames_per_clip are assumed."""
    model, probe = parts(crop_size=64)
    with pytest.raises(
        ConfigError, match=r"crop_size: 32 and 64.*from_pretrained \(crop_size=32\)"
    ):
        VJEPA2ForVideoClassification.from_parts(model, probe)
    probe.load_report = LoadReport(assumed={"crop_size": "usual", "frames_per_clip": "usual"})
    joined = VJEPA2ForVideoClassification.from_parts(model, probe)
    assert (joined.config.crop_size, joined.config.frames_per_clip) == (32, 4)
    model, probe = parts(crop_size=64)
    model.load_report = LoadReport(assumed={"crop_size": "usual", "frames_per_clip": "usual"})
    joined = VJEPA2ForVideoClassification.from_parts(model, probe)
    assert joined.config.frames_per_clip == 8


def test_parts_of_another_kind() -> None:
    model, probe = parts()
    with pytest.raises(ConfigError, match="dtype: torch.float32 and torch.float16"):
        VJEPA2ForVideoClassification.from_parts(model, copy.deepcopy(probe).half())
    with pytest.raises(ConfigError, match="model must be a VJEPA2Model, got"):
        VJEPA2ForVideoClassification.from_parts(probe, model)
    with pytest.raises(ConfigError, match="probe must be a VJEPA2AttentiveProbe, got VJEPA2Model"):
        VJEPA2ForVideoClassification.from_parts(model, model)


# -- training ---------------------------------------------------------------------------------


def test_recomputation_changes_no_gradient() -> None:
    gradients = []
    labels = dict.fromkeys(HEADS, IDS)
    for recompute in (False, True):
        probe = make_probe(head_sizes=HEADS).train()
        if recompute:
            probe.gradient_checkpointing_enable()
        loss = probe(make_tokens(), labels).loss
        gradients.append(torch.autograd.grad(loss, list(probe.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_its_pooler_has_heads_and_eps_of_its_own() -> None:
    probe = make_probe(num_pooler_attention_heads=4, pooler_layer_norm_eps=0.1)
    other = AttentivePooler(
        32, 4, num_layers=1, activation="gelu", layer_norm_eps=0.1, dropout=0.0
    ).double()
    other.load_state_dict(probe.pooler.state_dict())
    wanted = other(GOOD) @ probe.classifier.weight.T + probe.classifier.bias
    torch.testing.assert_close(probe(GOOD).logits, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ("return_dict",))
def test_arguments_of_another_type_are_named(name: str) -> None:
    model = make_probe()
    inputs = (make_tokens(),)
    assert_named(
        lambda value: model(*inputs, **{name: value}),
        allowed=lambda value: fits_forward(name, value, depth=2),
        error=InputError,
    )
    with pytest.raises(InputError, match=rf"{name}.* must be .*, got 'x' \(str\)"):
        model(*inputs, **{name: "x"})
