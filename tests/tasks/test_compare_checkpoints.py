"""Differences between checkpoints that were made to differ."""

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import HEADS, make, save

from vjepa2.tasks.compare_checkpoints import compare_checkpoints
from vjepa2.tasks.convert_checkpoint import convert_checkpoint


def test_the_same_in_two_layouts(tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    convert_checkpoint(tmp_path / "a", tmp_path / "b.pt", to="meta")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b.pt", settings=HEADS)
    assert found.same and found.num_equal == len(make("v2").state_dict())
    assert found.features_relative == 0.0
    assert found.features_cosine == pytest.approx(1.0)
    assert "the same" in str(found)


def test_one_changed_tensor(tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    model = make("v2")
    with torch.no_grad():
        weight = model.encoder.layer[1].mlp.fc2.weight
        size = float(weight.double().norm())
        weight[0, 0] += 0.5
    model.save_pretrained(tmp_path / "b")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b")
    [row] = found.different
    assert row.name == "encoder.layer.1.mlp.fc2.weight"
    assert row.largest == pytest.approx(0.5, rel=1e-5)
    assert row.relative == pytest.approx(0.5 / size, rel=1e-5)
    assert not found.same and found.features_relative is not None
    assert 1e-4 < found.features_relative < 0.5


def test_rounded_weights_are_told_from_other_ones(tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    make("v2").to(torch.bfloat16).save_pretrained(tmp_path / "b")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b")
    assert found.same and found.num_cast == len(make("v2").state_dict()) and found.num_equal == 0
    assert found.features_relative is not None and 0 < found.features_relative < 0.1


def test_other_networks(tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    save("classifier", tmp_path / "b")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b")
    assert found.only_first == [] and "classifier.weight" in found.only_second
    assert found.features_relative is None and "different kinds" in found.features_note
    save("v2.1", tmp_path / "c")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "c")
    name = "predictor.proj.weight"
    assert found.shapes[name] == ([32, 24], [96, 24])
    assert "encoder.layernorm.weight" in found.only_first


def test_a_side_that_does_not_load_is_still_compared(tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    convert_checkpoint(tmp_path / "a", tmp_path / "b.pt", to="meta")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b.pt")
    assert found.same and found.features_relative is None
    assert "num_attention_heads" in found.features_note


def test_two_encoders_of_one_file(tmp_path: Path) -> None:
    contents = []
    for seed in (0, 1):
        save("v2", tmp_path / str(seed), seed=seed)
        convert_checkpoint(tmp_path / str(seed), tmp_path / f"{seed}.pt", to="meta")
        contents.append(torch.load(tmp_path / f"{seed}.pt", weights_only=True))
    torch.save({**contents[0], "target_encoder": contents[1]["encoder"]}, tmp_path / "run.pt")
    found = compare_checkpoints(
        tmp_path / "run.pt",
        tmp_path / "run.pt",
        from_key="encoder",
        second_key="target_encoder",
        settings=HEADS,
    )
    assert all(row.name.startswith("encoder.") for row in found.different)
    assert len(found.different) == sum(n.startswith("encoder.") for n in make("v2").state_dict())


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_rounded_to_something_else_is_not_the_same(dtype: torch.dtype, tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    convert_checkpoint(tmp_path / "a", tmp_path / "a.pt", to="meta")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    name = "module.backbone.blocks.0.mlp.fc1.weight"
    content["target_encoder"][name] = content["target_encoder"][name].to(dtype)
    torch.save(content, tmp_path / "b.pt")
    found = compare_checkpoints(tmp_path / "a.pt", tmp_path / "b.pt", settings=HEADS)
    assert not found.same
    assert found.types == {"encoder.layer.0.mlp.fc1.weight": ("torch.float32", str(dtype))}


def test_json_holds_numbers_only(tmp_path: Path) -> None:
    save("v2", tmp_path / "a")
    model = make("v2")
    with torch.no_grad():
        model.encoder.layer[0].mlp.fc1.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path / "b")
    found = compare_checkpoints(tmp_path / "a", tmp_path / "b")
    assert found.different[0].relative is None and "NaN" in found.features_note
    json.dumps(found.as_dict(), allow_nan=False)
