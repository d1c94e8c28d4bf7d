"""Conversions keep every bit, write what the other side reads, and refuse what they cannot keep."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_files import HEADS, KINDS, make, save

from tiny_models import clip, randomise, tiny_config
from vjepa2.errors import ConfigError, UnknownOptionError, VJEPAError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.convert_checkpoint import convert_checkpoint
from vjepa2.video.processor import VJEPA2VideoProcessor


def same_bits(one: Any, other: Any) -> None:
    """Nested containers with equal keys and tensors of equal bits."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same_bits(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            same_bits(a, b)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    else:
        assert one == other


def content(path: Path) -> Any:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("kind", list(KINDS))
def test_ours_and_meta_both_ways(kind: str, tmp_path: Path) -> None:
    """folder -> .pt -> folder -> .pt: tensors of both files and of both folders are equal."""
    first = save(kind, tmp_path / "first")
    report = convert_checkpoint(first, tmp_path / "a.pt", to="meta")
    assert report.num_parameters == make(kind).num_parameters()
    told: dict[str, Any] = HEADS
    if "probe" in kind or "heads" in kind:
        told = {"num_attention_heads": 2, "num_hidden_layers": 2}
    if kind == "ac":
        told = {**HEADS, "crop_size": 32}
    if kind == "v2.1" or kind == "v2.1 distilled":
        told = {**HEADS, "hierarchical_layers": [0, 2, 3]}
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "second", to="vjepa2", settings=told)
    convert_checkpoint(tmp_path / "second", tmp_path / "b.pt", to="meta")
    same_bits(content(tmp_path / "a.pt"), content(tmp_path / "b.pt"))
    a, b = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert a.read_bytes() == b.read_bytes()


def test_meta_ours_hugging_face_ours_meta(tmp_path: Path) -> None:
    """The whole round of an original file; `transformers` stands in the middle."""
    save("v2", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "start.pt", to="meta")
    convert_checkpoint(tmp_path / "start.pt", tmp_path / "ours", to="vjepa2", settings=HEADS)
    convert_checkpoint(tmp_path / "ours", tmp_path / "hf", to="hf")
    port = transformers.VJEPA2Model.from_pretrained(tmp_path / "hf")
    port.save_pretrained(tmp_path / "port")
    convert_checkpoint(tmp_path / "port", tmp_path / "again", to="vjepa2")
    convert_checkpoint(tmp_path / "again", tmp_path / "end.pt", to="meta")
    same_bits(content(tmp_path / "start.pt"), content(tmp_path / "end.pt"))


def test_layout_of_meta(tmp_path: Path) -> None:
    """Names and fused matrices as the original training code writes them."""
    model = make("v2")
    model.save_pretrained(tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    stored = content(tmp_path / "a.pt")
    assert list(stored) == ["encoder", "target_encoder", "predictor"]
    state = model.state_dict()
    attention = "encoder.layer.1.attention"
    fused = torch.cat([state[f"{attention}.{n}.weight"] for n in ("query", "key", "value")])
    assert torch.equal(stored["encoder"]["module.backbone.blocks.1.attn.qkv.weight"], fused)
    second_token = stored["predictor"]["module.backbone.mask_tokens.1"]
    assert torch.equal(second_token, state["predictor.embeddings.mask_tokens"][1])
    same_bits(stored["encoder"], stored["target_encoder"])


def test_a_classifier_is_one_file_for_both_roads_of_the_original_code(tmp_path: Path) -> None:
    save("original classifier", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    stored = content(tmp_path / "a.pt")
    assert "module.linear.weight" in stored["classifiers"][0]
    assert "module.backbone.norm.weight" in stored["target_encoder"]
    again = VJEPA2ForVideoClassification.from_pretrained(
        tmp_path / "a.pt", **HEADS, num_pooler_attention_heads=4
    )
    x = clip(again.config, frames=4, height=32, width=32)
    assert again.load_report is not None and not again.load_report.fresh
    with torch.no_grad():
        assert torch.equal(again(x).logits, make("original classifier")(x).logits)


def test_the_port_computes_the_same_after_conversion(tmp_path: Path) -> None:
    model = make("classifier")
    model.save_pretrained(tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    convert_checkpoint(
        tmp_path / "a.pt",
        tmp_path / "hf",
        to="hf",
        settings={
            **HEADS,
            "crop_size": 32,
            "num_pooler_attention_heads": None,
            "pooler_layer_norm_eps": None,
        },
    )
    port = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path / "hf").eval()
    x = clip(model.config)
    with torch.no_grad():
        torch.testing.assert_close(port(x).logits, model(x).logits, rtol=1e-4, atol=1e-5)
    assert VJEPA2VideoProcessor.from_pretrained(tmp_path / "hf").crop_size["height"] == 32


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("v2.1", "no place for 'vjepa2_1'"),
        ("ac", "no place for 'vjepa2_ac'"),
        ("probe", "no place for a probe alone"),
        ("original classifier", "num_pooler_attention_heads=4.*--set num_pooler_attention_heads"),
    ],
)
def test_hugging_face_cannot_hold_it(kind: str, words: str, tmp_path: Path) -> None:
    save(kind, tmp_path / "model")
    with pytest.raises(ConfigError, match=words):
        convert_checkpoint(tmp_path / "model", tmp_path / "hf", to="hf")
    assert not (tmp_path / "hf").exists()


def test_levels_of_a_classifier_are_not_lost_on_the_way(tmp_path: Path) -> None:
    model = randomise(VJEPA2ForVideoClassification(tiny_config(pooler_levels=[0, 1])))
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"pooler_levels=\[0, 1\]"):
        convert_checkpoint(tmp_path / "model", tmp_path / "hf", to="hf")
    convert_checkpoint(tmp_path / "model", tmp_path / "ours", to="vjepa2")
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "ours")
    assert again.config.pooler_levels == [0, 1]


def test_encoder_file_and_probe_file_become_a_classifier(tmp_path: Path) -> None:
    """With the heads and eps of the original probe, which the port cannot keep."""
    model = make("original classifier")
    model.save_pretrained(tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "both.pt", to="meta")
    both = content(tmp_path / "both.pt")
    torch.save({"classifiers": both.pop("classifiers"), "epoch": 20}, tmp_path / "probe.pt")
    torch.save(both, tmp_path / "encoder.pt")
    report = convert_checkpoint(
        tmp_path / "encoder.pt",
        tmp_path / "out",
        to="vjepa2",
        probe=tmp_path / "probe.pt",
        settings={**HEADS, "num_pooler_attention_heads": 4},
    )
    assert report.model_class == "VJEPA2ForVideoClassification"
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "out")
    assert again.config.pooler_eps == 1e-5
    same_bits(dict(again.state_dict()), dict(model.state_dict()))


def test_nothing_is_written_when_a_tensor_is_missing(tmp_path: Path) -> None:
    save("v2", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    stored = content(tmp_path / "a.pt")
    for key in ("encoder", "target_encoder"):
        del stored[key]["module.backbone.blocks.1.mlp.fc2.bias"]
    torch.save(stored, tmp_path / "b.pt")
    with pytest.raises(VJEPAError, match=r"blocks\.1\.mlp\.fc2\.bias|layer\.1\.mlp\.fc2\.bias"):
        convert_checkpoint(tmp_path / "b.pt", tmp_path / "c", to="vjepa2", settings=HEADS)
    assert not (tmp_path / "c").exists()


def test_the_encoder_is_the_one_asked_for(tmp_path: Path) -> None:
    for seed, name in ((0, "trained"), (1, "averaged")):
        save("v2", tmp_path / name, seed=seed)
        convert_checkpoint(tmp_path / name, tmp_path / f"{name}.pt", to="meta")
    mixed = content(tmp_path / "averaged.pt")
    mixed["encoder"] = content(tmp_path / "trained.pt")["encoder"]
    torch.save(mixed, tmp_path / "mixed.pt")
    for key, name in ((None, "averaged"), ("encoder", "trained")):
        report = convert_checkpoint(
            tmp_path / "mixed.pt",
            tmp_path / "out",
            to="vjepa2",
            from_key=key,
            settings=HEADS,
            overwrite=key is not None,
        )
        lost = "encoder" if key is None else "target_encoder"
        assert "another encoder" in report.dropped[lost]
        assert report.read_from == (key or "target_encoder")
        got = VJEPA2Model.from_pretrained(tmp_path / "out").encoder.state_dict()
        same_bits(got, VJEPA2Model.from_pretrained(tmp_path / name).encoder.state_dict())


def test_action_model_keeps_its_prefix(tmp_path: Path) -> None:
    save("ac", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    stored = content(tmp_path / "a.pt")
    assert list(stored) == ["encoder", "predictor"]
    assert "module.predictor_blocks.0.attn.qkv.bias" in stored["predictor"]
    again = VJEPA2ActionModel.from_pretrained(tmp_path / "a.pt", **HEADS, crop_size=32)
    same_bits(again.state_dict(), make("ac").state_dict())


@pytest.mark.parametrize(
    ("target", "to", "error", "words"),
    [
        ("a.pt", "meta2", ConfigError, "Did you mean 'meta'"),
        ("folder", "meta", ConfigError, "ends with .pt"),
        ("file.txt", "hf", ConfigError, "no folder's name"),
        ("", "vjepa2", ConfigError, "target is empty"),
    ],
)
def test_wrong_targets(
    target: str, to: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(error, match=words):
        convert_checkpoint(tmp_path / "nothing", target and tmp_path / target, to=to)


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    save("v2", tmp_path / "model")
    with pytest.raises(UnknownOptionError, match="num_attention_heads"):
        convert_checkpoint(
            tmp_path / "model", tmp_path / "out", to="vjepa2", settings={"num_attention_head": 2}
        )


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    save("v2", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    before = (tmp_path / "a.pt").read_bytes()
    with pytest.raises(ConfigError, match="is there already.*--overwrite"):
        convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    with pytest.raises(ConfigError, match="is the source itself"):
        convert_checkpoint(
            tmp_path / "a.pt", tmp_path / "a.pt", to="meta", settings=HEADS, overwrite=True
        )
    with pytest.raises(ConfigError, match="is the source itself"):
        convert_checkpoint(tmp_path / "model", tmp_path / "model", to="hf", overwrite=True)
    assert (tmp_path / "a.pt").read_bytes() == before


def test_what_a_training_checkpoint_loses_is_said_and_its_numbers_stay(tmp_path: Path) -> None:
    save("v2", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    stored = content(tmp_path / "a.pt")
    stored |= {"opt": {"step": 3}, "scaler": None, "epoch": 12, "loss": 0.5}
    torch.save(stored, tmp_path / "run.pt")
    report = convert_checkpoint(tmp_path / "run.pt", tmp_path / "b.pt", to="meta", settings=HEADS)
    assert set(report.dropped) == {"encoder", "opt", "scaler"}
    again = content(tmp_path / "b.pt")
    assert (again["epoch"], again["loss"]) == (12, 0.5)
    report = convert_checkpoint(tmp_path / "run.pt", tmp_path / "c", to="vjepa2", settings=HEADS)
    assert set(report.dropped) == {"encoder", "opt", "scaler", "epoch", "loss"}


def test_one_element_type_or_the_one_asked_for(tmp_path: Path) -> None:
    save("v2", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    stored = content(tmp_path / "a.pt")
    stored["predictor"] = {name: t.bfloat16() for name, t in stored["predictor"].items()}
    torch.save(stored, tmp_path / "mixed.pt")
    with pytest.raises(ConfigError, match="bfloat16, float32.*--dtype"):
        convert_checkpoint(tmp_path / "mixed.pt", tmp_path / "b", to="vjepa2", settings=HEADS)
    report = convert_checkpoint(
        tmp_path / "mixed.pt", tmp_path / "b", to="vjepa2", settings=HEADS, dtype="bfloat16"
    )
    assert set(report.cast.values()) == {"float32 -> bfloat16"}
    assert all(name.startswith("encoder.") for name in report.cast)


def test_the_port_gets_no_guessed_frame_size(tmp_path: Path) -> None:
    """Its positions come from crop_size; ours from the input."""
    save("v2", tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "a.pt", to="meta")
    with pytest.raises(ConfigError, match="--set crop_size=256"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "hf", to="hf", settings=HEADS)


def test_damaged_folders_are_not_passed_on(tmp_path: Path) -> None:
    model = make("v2")
    with torch.no_grad():
        model.encoder.layer[0].mlp.fc1.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(VJEPAError, match=r"mlp\.fc1\.weight.*NaN"):
        convert_checkpoint(tmp_path / "model", tmp_path / "out", to="vjepa2")


@pytest.mark.parametrize("name", ["ignore_mismatched_sizes", "dtype", "device_map", "from_key"])
def test_settings_are_numbers_of_the_network_only(name: str, tmp_path: Path) -> None:
    save("v2", tmp_path / "model")
    with pytest.raises(UnknownOptionError, match=name):
        convert_checkpoint(
            tmp_path / "model", tmp_path / "out", to="vjepa2", settings={name: "float16"}
        )


def test_one_of_several_probes(tmp_path: Path) -> None:
    heads = []
    for seed in (0, 1):
        save("probe", tmp_path / str(seed), seed=seed)
        convert_checkpoint(tmp_path / str(seed), tmp_path / f"{seed}.pt", to="meta")
        heads += content(tmp_path / f"{seed}.pt")["classifiers"]
    torch.save({"classifiers": heads}, tmp_path / "two.pt")
    told = {"num_attention_heads": 2, "num_hidden_layers": 2, "num_pooler_attention_heads": 4}
    with pytest.raises(ConfigError, match="head=0"):
        convert_checkpoint(tmp_path / "two.pt", tmp_path / "out", to="vjepa2", settings=told)
    report = convert_checkpoint(
        tmp_path / "two.pt", tmp_path / "out", to="vjepa2", settings=told, head=1
    )
    assert "another probe" in report.dropped["classifiers[0]"]
    wanted = (tmp_path / "1" / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == wanted
