"""One table of names, read in both directions."""

from pathlib import Path

import pytest
import torch

from original_files import FAMILIES, HEADS, Tensors, encoder, predictor, probe, v2, wrapped
from vjepa2.errors import CheckpointFormatError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.weights.meta_format import Part, original_content, part_of, to_meta, to_ours


def same(found: Tensors, wanted: Tensors) -> bool:
    return set(found) == set(wanted) and all(
        torch.equal(found[name], wanted[name]) and found[name].dtype is wanted[name].dtype
        for name in wanted
    )


PAIRS = {
    "encoder": (encoder(1, width=24, depth=3, second=False), "encoder"),
    "encoder 2.1": (encoder(1, width=24, depth=3, second=True), "encoder"),
    "predictor": (predictor(2, width=16, into=24, depth=2, kind="masked"), "predictor"),
    "predictor deep": (predictor(2, width=16, into=24, depth=2, kind="deep"), "predictor"),
    "predictor distilled": (
        predictor(2, width=16, into=24, depth=2, kind="distilled", out=30),
        "predictor",
    ),
    "predictor action": (predictor(2, width=16, into=24, depth=2, kind="action"), "predictor"),
    "probe": (probe(3, width=24), "probe"),
    "probe of three": (probe(3, width=24, heads={"verb": 2, "noun": 3, "action": 4}), "probe"),
}


@pytest.mark.parametrize("name", PAIRS)
class TestEveryName:
    def test_to_ours(self, name: str) -> None:
        pair, part = PAIRS[name]
        found = to_ours(wrapped(pair.meta), part)  # type: ignore[arg-type]
        assert same(found.tensors, pair.ours)
        assert not found.unexpected and not found.dropped
        assert set(found.names) == set(pair.ours)

    def test_and_back(self, name: str) -> None:
        pair, part = PAIRS[name]
        parts = to_meta(pair.ours)
        assert same(parts.pop(part), pair.meta)  # type: ignore[call-overload]
        assert not any(parts.values())

    def test_a_classifier_holds_its_base_one_level_down(self, name: str) -> None:
        pair, part = PAIRS[name]
        inside = {f"vjepa2.{n}" if part != "probe" else n: t for n, t in pair.ours.items()}
        assert same(to_meta(inside)[part], pair.meta)  # type: ignore[index]


def test_names_say_where_a_tensor_lay() -> None:
    found = to_ours(wrapped(PAIRS["predictor"][0].meta, "module."), "predictor")
    assert found.names["predictor.layer.1.attention.key.bias"] == (
        "module.predictor_blocks.1.attn.qkv.bias"
    )
    assert found.names["predictor.embeddings.mask_tokens"] == "module.mask_tokens"


def test_parts_of_a_fused_matrix_are_views() -> None:
    fused = torch.arange(18.0).view(6, 3)
    found = to_ours({"blocks.7.attn.qkv.weight": fused}, "encoder").tensors
    for index, name in enumerate(("query", "key", "value")):
        piece = found[f"encoder.layer.7.attention.{name}.weight"]
        assert piece.data_ptr() == fused[2 * index].data_ptr()
        assert piece.tolist() == fused[2 * index : 2 * index + 2].tolist()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("module.backbone.blocks.3.norm1.bias", "encoder"),
        ("predictor_blocks.3.norm1.bias", "predictor"),
        ("img_mod_embed", "encoder"),
        ("module.predictor_pos_embed", "predictor"),
        ("pooler.blocks.0.norm1.bias", "probe"),
        ("linear.bias", "probe"),
        ("blocks.01.norm1.bias", None),
        ("blocks.x.norm1.bias", None),
        ("blocks.3.norm1", None),
        ("blocks.3.norm3.bias", None),
        ("encoder.layer.3.norm1.bias", None),
        ("backbone", None),
        ("", None),
        ("blocks." + 5000 * "9" + ".norm1.bias", None),
    ],
)
def test_which_part_a_name_is_of(name: str, part: Part | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("part", "name"), [("encoder", "pos_embed"), ("predictor", "predictor_pos_embed")]
)
def test_old_tables_are_dropped_with_the_reason(part: Part, name: str) -> None:
    found = to_ours({f"module.backbone.{name}": torch.ones(1, 4, 8)}, part)
    assert not found.tensors
    assert "rotary" in found.dropped[f"module.backbone.{name}"]


@pytest.mark.parametrize(
    ("tensors", "unexpected"),
    [
        ({"module.fc.weight": torch.ones(2, 2)}, ["module.fc.weight"]),
        ({"blocks.0.attn.qkv.bias": torch.ones(7)}, ["blocks.0.attn.qkv.bias"]),
        ({"blocks.0.attn.qkv.bias": torch.tensor(1.0)}, ["blocks.0.attn.qkv.bias"]),
        ({"predictor_norm.bias": torch.ones(3)}, ["predictor_norm.bias"]),
    ],
)
def test_what_fits_nowhere_keeps_its_name(tensors: Tensors, unexpected: list[str]) -> None:
    found = to_ours(tensors, "encoder")
    assert list(found.unexpected) == unexpected
    assert same(found.tensors, tensors) and not found.names


@pytest.mark.parametrize(
    "tokens",
    [
        {"mask_tokens.1": torch.ones(1, 1, 4)},
        {"mask_tokens.0": torch.ones(1, 1, 4), "mask_tokens.2": torch.ones(1, 1, 4)},
        {"mask_tokens.0": torch.ones(1, 1, 4), "mask_tokens.1": torch.ones(1, 1, 5)},
        {"mask_tokens.0": torch.ones(1, 1, 4), "mask_tokens.1": torch.ones(1, 1, 4).half()},
    ],
)
def test_mask_tokens_are_joined_only_when_they_belong_together(tokens: Tensors) -> None:
    assert set(to_ours(tokens, "predictor").unexpected) == set(tokens)


class TestToMeta:
    def test_a_name_without_a_place(self) -> None:
        with pytest.raises(CheckpointFormatError, match=r"'encoder\.extra' has no place in Meta's"):
            to_meta({"encoder.extra": torch.ones(1)})

    def test_one_of_a_fused_matrix_is_missing(self) -> None:
        tensors = dict(PAIRS["encoder"][0].ours)
        del tensors["encoder.layer.1.attention.key.bias"]
        with pytest.raises(CheckpointFormatError, match=r"needs '.*key\.bias' too"):
            to_meta(tensors)

    def test_without_biases_of_query_key_value(self) -> None:
        """A network of qkv_bias=False has no such tensor in either layout."""
        pair = PAIRS["encoder"][0]
        ours = {n: t for n, t in pair.ours.items() if not n.endswith(("y.bias", "value.bias"))}
        meta = {n: t for n, t in pair.meta.items() if not n.endswith("qkv.bias")}
        assert same(to_meta(ours)["encoder"], meta)
        assert same(to_ours(meta, "encoder").tensors, ours)


# -- there and back, through files ----------------------------------------------------------------

ENCODERS = {"v2": "target_encoder", "v21_deep": "target_encoder", "v21_distilled": "ema_encoder"}


@pytest.mark.parametrize("family", FAMILIES)
def test_meta_ours_meta_is_the_same_bit_for_bit(family: str, tmp_path: Path) -> None:
    sample = FAMILIES[family](0)
    first = sample.load(sample.save(tmp_path))
    first.save_pretrained(tmp_path / "own")
    second = type(first).from_pretrained(tmp_path / "own")
    model, probes = original_content(second.state_dict())
    if probes:
        assert not model
        assert same(probes["classifiers"][0], sample.tensors())
        return
    assert set(model) == {"encoder", ENCODERS.get(family, "encoder"), "predictor"}
    for key, tensors in model.items():
        wanted = sample.content["predictor"] if key == "predictor" else sample.tensors()
        assert same(tensors, wanted), key


def test_meta_ours_port_ours_meta_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    """Through the classes of transformers, base model and classifier with the port's pooler."""
    transformers = pytest.importorskip("transformers")
    sample = v2()
    head = probe(7, width=24)
    torch.save({"classifiers": [wrapped(head.meta, "module.")]}, tmp_path / "probe.pt")
    ours = VJEPA2ForVideoClassification.from_pretrained(
        sample.save(tmp_path),
        probe=tmp_path / "probe.pt",
        # What the port can express: its pooler has the heads and eps of the encoder.
        num_pooler_attention_heads=2,
        pooler_layer_norm_eps=1e-6,
        **sample.options,
    )
    ours.config.num_pooler_attention_heads = ours.config.pooler_layer_norm_eps = None
    ours.save_pretrained(tmp_path / "ours")
    port = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path / "ours")
    port.save_pretrained(tmp_path / "port")
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "port")
    model, probes = original_content(again.state_dict())
    assert same(model["encoder"], sample.content["target_encoder"])
    assert same(model["predictor"], sample.content["predictor"])
    assert same(probes["classifiers"][0], wrapped(head.meta, "module."))


def test_the_written_file_holds_the_encoder_once(tmp_path: Path) -> None:
    """`encoder` and `target_encoder` are the same memory."""
    sample = v2()
    model, _ = original_content(sample.load(sample.save(tmp_path)).state_dict())
    torch.save(model, tmp_path / "both.pt")
    del model["encoder"]
    torch.save(model, tmp_path / "one.pt")
    sizes = [(tmp_path / name).stat().st_size for name in ("both.pt", "one.pt")]
    assert sizes[0] < 1.2 * sizes[1]
    again = VJEPA2Model.from_pretrained(tmp_path / "both.pt", **HEADS, pred_num_hidden_layers=2)
    assert same(again.state_dict(), sample.expected)
