"""What a run starts from, which parts of the head are kept, and what is trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_models import clip, randomise, tiny_config
from vjepa2.errors import CheckpointNotFoundError, ConfigError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.finetune_networks import (
    ClassifierStep,
    choose_trained,
    find_start,
    make_classifier,
    segment_logits,
)

NAMES = ("jump", "run", "walk")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    randomise(VJEPA2Model(tiny_config())).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    config = tiny_config(num_labels=None, id2label=dict(enumerate(NAMES)))
    randomise(VJEPA2ForVideoClassification(config)).save_pretrained(folder)
    return folder


def made(start_from: Path | str, names: tuple[str, ...] = NAMES, **values: Any) -> Any:
    config = FineTuneConfig(start_from=str(start_from), **values)
    return make_classifier(config, find_start(str(start_from)), names)


def test_a_fresh_head_on_an_encoder(encoder: Path) -> None:
    before = torch.get_rng_state()
    model = made(encoder, head={"num_self_blocks": 2, "num_heads": 4})
    assert torch.equal(torch.get_rng_state(), before)
    assert len(model.pooler.self_attention_layers) == 2
    assert model.config.id2label == dict(enumerate(NAMES))
    assert model.config.problem_type == "single_label_classification"
    assert model.classifier.weight.shape == (3, 32)
    wanted = VJEPA2Model.from_pretrained(encoder)
    for name, value in model.vjepa2.named_parameters():
        assert torch.equal(value, wanted.get_parameter(name))
    again, other = made(encoder), made(encoder, seed=1)
    assert torch.equal(made(encoder).pooler.query_tokens, again.pooler.query_tokens)
    assert not torch.equal(other.pooler.query_tokens, again.pooler.query_tokens)


def test_a_classifiers_head_is_kept_for_its_classes_only(classifier: Path) -> None:
    stored = VJEPA2ForVideoClassification.from_pretrained(classifier)
    start = find_start(str(classifier))
    assert start.is_classifier and start.class_names == NAMES
    same = made(classifier)
    for name, value in stored.named_parameters():
        assert torch.equal(same.get_parameter(name), value)
    others = made(classifier, ("run", "sleep"))
    assert torch.equal(others.pooler.query_tokens, stored.pooler.query_tokens)
    assert others.classifier.weight.shape == (2, 32)
    assert others.config.id2label == {0: "run", 1: "sleep"}
    fresh = made(classifier, head={"start": "fresh", "num_self_blocks": 1})
    assert not torch.equal(fresh.pooler.query_tokens, stored.pooler.query_tokens)
    assert torch.equal(
        fresh.vjepa2.encoder.layer[0].mlp.fc1.weight, stored.vjepa2.encoder.layer[0].mlp.fc1.weight
    )


def test_a_run_that_ended_starts_from_its_model(encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text("{}")
    assert find_start(str(tmp_path / "run")).name == str(tmp_path / "run" / "model")
    with pytest.raises(CheckpointNotFoundError):
        find_start(str(tmp_path / "nowhere"))


def test_an_encoder_without_its_predictor(encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(encoder, tmp_path / "bare")
    tensors = load_file(encoder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
    save_file(kept, tmp_path / "bare" / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="made fresh"):
        model = made(tmp_path / "bare")
    assert torch.equal(
        model.vjepa2.encoder.layer[1].mlp.fc2.weight, tensors["encoder.layer.1.mlp.fc2.weight"]
    )
    del kept["encoder.layer.1.mlp.fc2.weight"]
    save_file(kept, tmp_path / "bare" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Exception, match="mlp.fc2.weight"):
        made(tmp_path / "bare")


def trained_parts(model: Any) -> set[str]:
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    return {name for name in names if name.startswith("vjepa2.")}


def test_what_is_trained(encoder: Path) -> None:
    model = made(encoder)
    choose_trained(model, FineTuneConfig(method="full"))
    encoder_names = {n for n, _ in model.named_parameters() if n.startswith("vjepa2.encoder.")}
    assert trained_parts(model) == encoder_names  # never the predictor
    choose_trained(model, FineTuneConfig(method="last_blocks", last_blocks=1))
    block = {n for n in encoder_names if ".layer.1." in n or ".layernorm." in n}
    assert trained_parts(model) == block
    choose_trained(model, FineTuneConfig(method="last_blocks", last_blocks=0))
    assert trained_parts(model) == set()
    assert all(value.requires_grad for value in model.pooler.parameters())
    with pytest.raises(ConfigError, match="last_blocks=3, but the encoder has 2"):
        choose_trained(model, FineTuneConfig(method="last_blocks", last_blocks=3))
    lora = FineTuneConfig(method="lora", adapters={"rank": 2, "targets": ("query", "fc1")})
    choose_trained(model, lora)
    assert {name.split(".")[-3] for name in trained_parts(model)} == {"lora_A", "lora_B"}
    assert len(trained_parts(model)) == 2 * 2 * 2


def test_levels_of_the_newer_model_that_nobody_reads_are_frozen(tmp_path: Path) -> None:
    newer = tiny_config(
        model_type="vjepa2_1", num_hidden_layers=3, hierarchical_layers=[0, 1, 2],
        pred_num_mask_tokens=2,
    )  # fmt: skip
    randomise(VJEPA2Model(newer)).save_pretrained(tmp_path)
    model = made(tmp_path, head={"levels": (0, 1)})
    choose_trained(model, FineTuneConfig(method="full"))
    frozen = {n for n, v in model.vjepa2.encoder.named_parameters() if not v.requires_grad}
    assert {name for name in frozen if "layernorms" in name} == {
        "layernorms.2.weight", "layernorms.2.bias"
    }  # fmt: skip
    assert any("patch_embeddings_img" in name for name in frozen)
    assert {name.split(".")[1] for name in frozen if name.startswith("layer.")} == {"2"}
    loss = ClassifierStep(model)(clip(newer)[:, None], torch.eye(3)[:2]).loss
    loss.backward()
    without = {n for n, v in model.named_parameters() if v.requires_grad and v.grad is None}
    assert without == set()  # other processes would wait for these


def test_one_segment_equals_the_model_and_several_are_read_together(encoder: Path) -> None:
    model = made(encoder).eval()
    pixels = torch.stack([clip(model.config, seed=seed) for seed in (1, 2, 3)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(segment_logits(model, pixels[:, :1]), model(pixels[:, 0]).logits)
        tokens = [
            model.vjepa2(pixels[:, number], skip_predictor=True).last_hidden_state
            for number in range(3)
        ]
        wanted = model.classifier(model.pooler(torch.cat(tokens, dim=1)))
        torch.testing.assert_close(segment_logits(model, pixels), wanted)
        views = torch.stack([pixels, pixels.flip(-1)], dim=2)
        found, logits = ClassifierStep(model).probabilities(views)
        flipped = segment_logits(model, pixels.flip(-1))
    torch.testing.assert_close(found, (wanted.softmax(-1) + flipped.softmax(-1)) / 2)
    assert logits.shape == (2, 2, 3)


def test_frozen_blocks_have_no_stochastic_depth(encoder: Path) -> None:
    model = made(encoder)
    config = FineTuneConfig(method="last_blocks", last_blocks=1, drop_path_rate=0.5)
    choose_trained(model, config)
    assert [block.drop_path.probability for block in model.vjepa2.encoder.layer] == [0.0, 0.5]
    assert model.config.drop_path_rate == 0.0  # of the saved model
    step = ClassifierStep(model).train()
    assert [block.training for block in model.vjepa2.encoder.layer] == [False, True]
    assert step.eval() is step and not model.vjepa2.encoder.layer[1].training
