"""What `inspect` says of checkpoints whose content is known."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import HEADS, KINDS, make, save, training_file

from released_files import write_released
from tiny_models import tiny_config
from vjepa2.errors import VJEPAError
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.checkpoint_settings import read_assignments
from vjepa2.tasks.convert_checkpoint import convert_checkpoint
from vjepa2.tasks.fingerprint import features_mark, weights_mark
from vjepa2.tasks.inspect_checkpoint import inspect_checkpoint


def original(kind: str, tmp_path: Path) -> Path:
    save(kind, tmp_path / "model")
    convert_checkpoint(tmp_path / "model", tmp_path / "model.pt", to="meta")
    return tmp_path / "model.pt"


FAMILIES = {"v2.1": "V-JEPA 2.1", "v2.1 distilled": "V-JEPA 2.1", "ac": "V-JEPA 2-AC"}


@pytest.mark.parametrize("kind", list(KINDS))
def test_folder(kind: str, tmp_path: Path) -> None:
    """Family, class and counts; the configuration beside the weights agrees with them."""
    model = make(kind)
    facts = inspect_checkpoint(save(kind, tmp_path / "model"))
    is_probe = kind in ("probe", "three heads")
    assert facts.family == ("V-JEPA 2" if is_probe else FAMILIES.get(kind, "V-JEPA 2"))
    assert facts.model_class == type(model).__name__
    assert sum(part.num_parameters for part in facts.network.values()) == model.num_parameters()
    assert facts.differences == {} and facts.problem == "" and facts.unknown == {}
    assert facts.weights_mark and facts.features_mark
    assert json.loads(json.dumps(facts.as_dict()))["family"] == facts.family


def test_training_checkpoint(tmp_path: Path) -> None:
    contents = []
    for seed in (0, 1):
        save("v2", tmp_path / str(seed), seed=seed)
        convert_checkpoint(tmp_path / str(seed), tmp_path / f"{seed}.pt", to="meta")
        contents.append(torch.load(tmp_path / f"{seed}.pt", weights_only=True))
    path = training_file(tmp_path / "run.pt", trained=contents[0], averaged=contents[1])
    facts = inspect_checkpoint(path, settings=HEADS)
    assert facts.training == {"epoch": 7, "loss": 0.25}
    assert set(facts.sub_dictionaries) == {"encoder", "target_encoder", "predictor", "opt"}
    assert facts.read_from == "target_encoder"
    assert facts.problem == ""
    # The mark is that of the averaged encoder, and of the other one when asked for.
    assert facts.features_mark == features_mark(make("v2", seed=1))
    other = inspect_checkpoint(path, from_key="encoder", settings=HEADS)
    assert other.features_mark != facts.features_mark
    text = str(facts)
    assert "epoch: 7" in text and "read: target_encoder" in text


def test_geometry_from_shapes_alone(tmp_path: Path) -> None:
    facts = inspect_checkpoint(original("v2.1", tmp_path), fingerprint=False)
    wanted = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "patch_size": 8,
        "tubelet_size": 2,
        "mlp_ratio": 2.0,
        "pred_hidden_size": 24,
        "pred_num_hidden_layers": 2,
        "pred_num_mask_tokens": 3,
    }
    assert wanted.items() <= facts.geometry.items()
    assert set(facts.unknown) >= {"num_attention_heads", "pred_num_attention_heads"}
    assert facts.weights_mark == facts.features_mark == ""


def test_what_cannot_be_loaded_is_described_with_the_reason(tmp_path: Path) -> None:
    facts = inspect_checkpoint(original("v2", tmp_path))
    assert "num_attention_heads" in facts.problem
    assert facts.network["encoder"].num_tensors > 0 and "Does not load" in str(facts)


def test_released_sizes_have_their_names(tmp_path: Path) -> None:
    path = write_released(tmp_path, "vjepa2_1_vitb_dist_vitG_384.pt")
    facts = inspect_checkpoint(path, fingerprint=False)
    assert (facts.family, facts.size) == ("V-JEPA 2.1", "ViT-B")
    assert facts.network["encoder"].num_parameters == 86_833_152
    assert facts.network["predictor"].num_parameters == 22_874_752
    assert facts.read_from == "ema_encoder" and facts.unknown == {}
    assert facts.geometry["num_attention_heads"] == 12
    assert facts.geometry["pred_output_size"] == 1664


def test_every_disagreement_with_the_configuration_is_listed(tmp_path: Path) -> None:
    save("v2", tmp_path)
    wrong = tiny_config(num_hidden_layers=5, mlp_ratio=4.0, pred_num_mask_tokens=2)
    wrong.save_pretrained(tmp_path)
    facts = inspect_checkpoint(tmp_path)
    assert facts.differences == {
        "num_hidden_layers": (5, 2),
        "mlp_ratio": (4.0, 2.0),
        "pred_num_mask_tokens": (2, 3),
    }
    assert "do not fit VJEPA2Model" in facts.problem


def test_heads_that_nobody_published_are_worth_a_look(tmp_path: Path) -> None:
    """Shapes agree whatever the heads are; ViT-g with 16 loads and is wrong."""
    config = tiny_config(hidden_size=192, num_hidden_layers=12, num_attention_heads=6)
    VJEPA2Model(config).save_pretrained(tmp_path)
    facts = inspect_checkpoint(tmp_path, fingerprint=False)
    assert facts.differences == {"num_attention_heads": (6, 3)}


def test_a_file_is_compared_with_the_configuration_beside_it(tmp_path: Path) -> None:
    save("v2", tmp_path)
    facts = inspect_checkpoint(tmp_path / "model.safetensors")
    assert facts.unknown == {} and facts.problem == "" and facts.differences == {}
    tiny_config(num_hidden_layers=5).save_pretrained(tmp_path)
    facts = inspect_checkpoint(tmp_path / "model.safetensors")
    assert facts.differences == {"num_hidden_layers": (5, 2)}


def test_damaged_values_are_a_problem_also_in_a_folder(tmp_path: Path) -> None:
    model = make("v2")
    with torch.no_grad():
        model.encoder.layer[0].mlp.fc1.weight.zero_()
    model.save_pretrained(tmp_path)
    facts = inspect_checkpoint(tmp_path)
    assert "zero throughout" in facts.problem and facts.features_mark == ""


def test_published_models_are_what_their_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA2_CACHE", str(tmp_path))
    monkeypatch.setenv("VJEPA2_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    write_released(tmp_path / "checkpoints", "evals/diving48-vitl-256.pt")
    facts = inspect_checkpoint("vjepa2-vitl-diving48", fingerprint=False)
    assert facts.geometry["frames_per_clip"] == 32 and facts.assumed == {}
    assert facts.published["Hugging Face"] == "facebook/vjepa2-vitl-fpc32-256-diving48"
    assert "89 (top-1" in facts.published["results"]
    # A folder of that name goes first, as it does when loading.
    save("v2", tmp_path / "vjepa2-vitl-diving48")
    assert inspect_checkpoint("vjepa2-vitl-diving48").form == "folder"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("v2.1", "encoder.embeddings.patch_embeddings_img.proj.weight"),
        ("v2.1", "encoder.layernorms.0.bias"),
        ("v2", "predictor.embeddings.mask_tokens"),
        ("v2", "predictor.layernorm.bias"),
        ("classifier", "predictor.proj.bias"),
        ("ac", "predictor.embeddings.state_embeddings.weight"),
    ],
)
def test_the_mark_of_features_sees_every_part(kind: str, name: str) -> None:
    model = make(kind)
    before = features_mark(model)
    base = getattr(model, "vjepa2", model)
    with torch.no_grad():
        # Not a constant: a layer norm would take it out again.
        base.get_parameter(name)[0] += torch.randn_like(base.get_parameter(name)[0])
    assert features_mark(model) != before


def test_marks_survive_another_layout_and_see_every_change(tmp_path: Path) -> None:
    path = original("v2", tmp_path)
    ours = inspect_checkpoint(tmp_path / "model")
    metas = inspect_checkpoint(path, settings=HEADS)
    assert (ours.weights_mark, ours.features_mark) == (metas.weights_mark, metas.features_mark)
    # Other heads are the same weights and another network.
    heads = inspect_checkpoint(path, settings={**HEADS, "num_attention_heads": 4})
    assert heads.weights_mark == ours.weights_mark
    assert heads.features_mark != ours.features_mark
    state = make("v2").state_dict()
    before = weights_mark(state)
    state["encoder.layer.1.mlp.fc2.bias"][3] += 1e-6
    assert weights_mark(state) != before


def test_rounded_mark_does_not_depend_on_the_element_type_of_the_sums() -> None:
    model = make("v2")
    assert features_mark(model) == features_mark(make("v2").double())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_no_checkpoint_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(VJEPAError, match=r"a\.pt"):
        inspect_checkpoint(tmp_path / "a.pt")


def test_assignments() -> None:
    wanted: dict[str, Any] = {"a": 4, "b": None, "c": [1, 2], "d": "word"}
    assert read_assignments(["a=4", "b=null", "c=[1, 2]", "d=word"]) == wanted
    with pytest.raises(VJEPAError, match="NAME=VALUE"):
        read_assignments(["a"])
