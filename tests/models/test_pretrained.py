"""`from_pretrained`, `save_pretrained` and the switches, on small models of the real classes."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import tiny_config
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigError,
    OutputError,
    UnknownOptionError,
    VJEPAError,
)
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.runtime import resolve_device

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "num_pooler_layers": 1,
    "crop_size": 16,
    "patch_size": 8,
    "num_labels": 3,
}
PIXELS = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def small(**changes: Any) -> VJEPA2Config:
    return VJEPA2Config(**{**SMALL, **changes})


@pytest.fixture(scope="module")
def base() -> VJEPA2Model:
    torch.manual_seed(1)
    return VJEPA2Model(small()).eval()


@pytest.fixture(scope="module")
def classifier() -> VJEPA2ForVideoClassification:
    torch.manual_seed(2)
    return VJEPA2ForVideoClassification(small()).eval()


@pytest.fixture(scope="module")
def base_folder(base: VJEPA2Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    base.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier_folder(
    classifier: VJEPA2ForVideoClassification, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    classifier.save_pretrained(folder)
    return folder


def logits(model: VJEPA2ForVideoClassification, pixels: torch.Tensor = PIXELS) -> torch.Tensor:
    with torch.no_grad():
        output = model(pixels)
    assert not isinstance(output, tuple) and output.logits is not None
    return output.logits


def features(model: VJEPA2Model) -> torch.Tensor:
    with torch.no_grad():
        return model.get_vision_features(PIXELS)


class TestRoundTrip:
    def test_files_and_what_they_say(self, classifier_folder: Path) -> None:
        assert {path.name for path in classifier_folder.iterdir()} == {
            "config.json",
            "model.safetensors",
        }
        stored = json.loads((classifier_folder / "config.json").read_text())
        assert stored["architectures"] == ["VJEPA2ForVideoClassification"]
        assert stored["dtype"] == "float32"

    def test_outputs_are_equal(
        self, classifier: VJEPA2ForVideoClassification, classifier_folder: Path
    ) -> None:
        again = VJEPA2ForVideoClassification.from_pretrained(classifier_folder)
        assert torch.equal(logits(again), logits(classifier))
        assert not again.training
        assert again.config.name_or_path == str(classifier_folder)
        assert again.load_report is not None and not again.load_report.fresh

    def test_saving_does_not_change_the_model(self, base: VJEPA2Model, tmp_path: Path) -> None:
        before = base.config.to_dict()
        base.save_pretrained(tmp_path)
        assert base.config.to_dict() == before

    @pytest.mark.parametrize("size", ["20KB", 50_000])
    def test_sharded(self, base: VJEPA2Model, tmp_path: Path, size: str | int) -> None:
        base.save_pretrained(tmp_path, max_shard_size=size)
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
        assert torch.equal(features(VJEPA2Model.from_pretrained(tmp_path)), features(base))

    def test_variant(self, base: VJEPA2Model, tmp_path: Path) -> None:
        base.save_pretrained(tmp_path, variant="fp32")
        assert (tmp_path / "model.fp32.safetensors").exists()
        again = VJEPA2Model.from_pretrained(tmp_path, variant="fp32")
        assert torch.equal(features(again), features(base))
        with pytest.raises(CheckpointNotFoundError):
            VJEPA2Model.from_pretrained(tmp_path)

    def test_subfolder(self, base: VJEPA2Model, tmp_path: Path) -> None:
        base.save_pretrained(tmp_path / "inner")
        again = VJEPA2Model.from_pretrained(tmp_path, subfolder="inner")
        assert torch.equal(features(again), features(base))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_pickle(self, base: VJEPA2Model, tmp_path: Path, zipped: bool) -> None:
        base.config.save_pretrained(tmp_path)
        path = tmp_path / "pytorch_model.bin"
        torch.save(base.state_dict(), path, _use_new_zipfile_serialization=zipped)
        assert torch.equal(features(VJEPA2Model.from_pretrained(tmp_path)), features(base))

    def test_saving_over_a_model_loaded_from_the_same_folder(
        self, base: VJEPA2Model, tmp_path: Path
    ) -> None:
        """The parameters are views of the file that is being replaced."""
        base.save_pretrained(tmp_path, max_shard_size="50KB")
        model = VJEPA2Model.from_pretrained(tmp_path)
        model.save_pretrained(tmp_path)
        assert torch.equal(features(model), features(base))
        assert torch.equal(features(VJEPA2Model.from_pretrained(tmp_path)), features(base))
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


class TestElementTypes:
    def test_the_stored_one_is_the_default(self, base: VJEPA2Model, tmp_path: Path) -> None:
        VJEPA2Model.from_pretrained(save(base, tmp_path), dtype="float16").save_pretrained(tmp_path)
        for options in ({}, {"dtype": "auto"}, {"torch_dtype": "auto"}):
            model = VJEPA2Model.from_pretrained(tmp_path, **options)  # type: ignore[arg-type]
            assert model.dtype is torch.float16 and model.config.dtype is torch.float16

    @pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "torch.bfloat16"])
    def test_asked_for(self, base_folder: Path, dtype: Any) -> None:
        for name in ("dtype", "torch_dtype"):
            model = VJEPA2Model.from_pretrained(base_folder, **{name: dtype})
            assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
            assert model.load_report is not None and len(model.load_report.cast) == len(
                model.state_dict()
            )

    def test_the_file_decides_when_the_configuration_is_silent(
        self, base: VJEPA2Model, tmp_path: Path
    ) -> None:
        save_file(
            {name: value.half() for name, value in base.state_dict().items()},
            tmp_path / "model.safetensors",
        )
        small().save_pretrained(tmp_path)
        assert VJEPA2Model.from_pretrained(tmp_path).dtype is torch.float16

    def test_mistakes(self, base_folder: Path) -> None:
        with pytest.raises(ConfigError, match="Did you mean 'float16'"):
            VJEPA2Model.from_pretrained(base_folder, dtype="flaot16")
        with pytest.raises(ConfigError, match="disagree; give only dtype"):
            VJEPA2Model.from_pretrained(base_folder, dtype="float16", torch_dtype="float32")


def save(model: VJEPA2Model, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


class TestConfigurations:
    def test_overrides(self, base_folder: Path) -> None:
        model = VJEPA2Model.from_pretrained(base_folder, crop_size=32, output_hidden_states=True)
        assert model.config.crop_size == 32 and model.config.output_hidden_states

    def test_unknown_names_give_the_nearest_of_both_kinds(self, base_folder: Path) -> None:
        with pytest.raises(UnknownOptionError, match="Did you mean 'crop_size'"):
            VJEPA2Model.from_pretrained(base_folder, cropsize=32)
        with pytest.raises(UnknownOptionError, match="Did you mean 'local_files_only'"):
            VJEPA2Model.from_pretrained(base_folder, local_file_only=True)

    @pytest.mark.parametrize("form", ["object", "folder", "file"])
    def test_given_in_every_form(self, base: VJEPA2Model, tmp_path: Path, form: str) -> None:
        folder = save(base, tmp_path / "model")
        other = small(frames_per_clip=8)
        other.save_pretrained(tmp_path / "other")
        forms: dict[str, Any] = {
            "object": other,
            "folder": tmp_path / "other",
            "file": tmp_path / "other" / "config.json",
        }
        before = other.to_dict()
        model = VJEPA2Model.from_pretrained(folder, config=forms[form], crop_size=24)
        assert (model.config.frames_per_clip, model.config.crop_size) == (8, 24)
        assert other.to_dict() == before, "the caller's object is copied"

    def test_attention(self, base_folder: Path) -> None:
        assert VJEPA2Model.from_pretrained(base_folder).config._attn_implementation == "sdpa"
        model = VJEPA2Model.from_pretrained(base_folder, attn_implementation="eager")
        assert model.config._attn_implementation == "eager"
        with pytest.raises(ConfigError, match="flash_attention_2.*Allowed: eager, sdpa"):
            VJEPA2Model.from_pretrained(base_folder, attn_implementation="flash_attention_2")

    def test_a_configuration_is_needed(self) -> None:
        with pytest.raises(ConfigError, match=r"takes a VJEPA2Config, got str.*from_pretrained"):
            VJEPA2Model("facebook/vjepa2-vitl-fpc64-256")  # type: ignore[arg-type]


class TestHeads:
    def test_base_from_classifier(
        self, classifier: VJEPA2ForVideoClassification, classifier_folder: Path
    ) -> None:
        model, info = VJEPA2Model.from_pretrained(classifier_folder, output_loading_info=True)  # type: ignore[misc]
        assert torch.equal(features(model), features(classifier.vjepa2))
        names = set(classifier.state_dict())
        assert info["unexpected_keys"] == {n for n in names if not n.startswith("vjepa2.")}
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert model.config.num_labels == 3

    def test_classifier_from_base_warns_and_starts_fresh(
        self, base: VJEPA2Model, base_folder: Path
    ) -> None:
        def load(seed: int) -> VJEPA2ForVideoClassification:
            generator = torch.Generator().manual_seed(seed)
            with pytest.warns(UserWarning, match="were made fresh: .*Train the model"):
                return VJEPA2ForVideoClassification.from_pretrained(
                    base_folder, num_labels=7, generator=generator
                )

        first, same, other = load(5), load(5), load(6)
        assert torch.equal(features(first.vjepa2), features(base))
        assert torch.equal(logits(first), logits(same))
        assert not torch.equal(logits(first), logits(other))
        assert logits(first).shape == (2, 7)
        weight = first.classifier.weight.detach()
        assert 0.01 < weight.std().item() < 0.03 and not first.classifier.bias.any()

    def test_another_number_of_labels(self, classifier_folder: Path) -> None:
        with pytest.raises(CheckpointMismatchError, match="ignore_mismatched_sizes=True") as caught:
            VJEPA2ForVideoClassification.from_pretrained(classifier_folder, num_labels=5)
        assert [name for name, _, _ in caught.value.mismatched] == [
            "classifier.bias",
            "classifier.weight",
        ]
        with pytest.warns(UserWarning, match="2 parameters .* were made fresh"):
            model = VJEPA2ForVideoClassification.from_pretrained(
                classifier_folder, num_labels=5, ignore_mismatched_sizes=True
            )
        assert logits(model).shape == (2, 5)


class TestTampered:
    """Each kind of bad checkpoint has its own error; the file readers' tests go deeper."""

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda v: {k: x for k, x in v.items() if "layer.1.norm1" not in k}, "missing"),
            (lambda v: {**v, "encoder.extra": torch.zeros(1)}, "unexpected"),
            (lambda v: {**v, "encoder.layernorm.bias": torch.zeros(47)}, "mismatched"),
        ],
    )
    def test_tensors(
        self, base: VJEPA2Model, tmp_path: Path, change: Callable[[Any], Any], error: str
    ) -> None:
        save(base, tmp_path)
        path = tmp_path / "model.safetensors"
        values = {name: value.clone() for name, value in load_file(path).items()}
        save_file(change(values), path)
        with pytest.raises(CheckpointMismatchError) as caught:
            VJEPA2Model.from_pretrained(tmp_path)
        lists = {name: getattr(caught.value, name) for name in ("missing", "unexpected")}
        lists["mismatched"] = caught.value.mismatched
        assert [name for name, entries in lists.items() if entries] == [error]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"num_hidden_layers": 3}, "num_hidden_layers is 2 in the file and 3"),
            ({"hidden_size": 72}, "hidden_size is 48 in the file and 72"),
            ({"pred_hidden_size": 48}, "pred_hidden_size is 24 in the file and 48"),
            ({"patch_size": 16}, "patch_size is 8 in the file and 16"),
            ({"tubelet_size": 1}, "tubelet_size is 2 in the file and 1"),
            ({"in_chans": 1}, "in_chans is 3 in the file and 1"),
            ({"mlp_ratio": 2.0}, "mlp_ratio or pred_mlp_ratio differs"),
            ({"qkv_bias": False}, "qkv_bias=True"),
            ({"pred_num_mask_tokens": 4}, "pred_num_mask_tokens is 10 in the file and 4"),
            ({"pred_num_hidden_layers": 2}, "pred_num_hidden_layers is 1 in the file and 2"),
        ],
        ids=str,
    )
    def test_configuration_of_another_network(
        self, base_folder: Path, changes: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(CheckpointMismatchError, match=words):
            VJEPA2Model.from_pretrained(base_folder, **changes)

    def test_truncated(self, base: VJEPA2Model, tmp_path: Path) -> None:
        path = save(base, tmp_path) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CheckpointFormatError, match="not a complete checkpoint"):
            VJEPA2Model.from_pretrained(tmp_path)

    def test_another_architecture(self, base: VJEPA2Model, tmp_path: Path) -> None:
        path = save(base, tmp_path) / "config.json"
        path.write_text(path.read_text().replace('"vjepa2"', '"videomae"'))
        with pytest.raises(ConfigError, match="'videomae' is another architecture"):
            VJEPA2Model.from_pretrained(tmp_path)


KILLED_WHILE_SAVING = """
import os, signal, sys
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.weights import save

model = VJEPA2Model.from_pretrained(sys.argv[1])
for parameter in model.parameters():
    parameter.data.zero_()
real, calls = save.save_file, []

def dies_at_the_second_shard(*arguments, **options):
    real(*arguments, **options)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

save.save_file = dies_at_the_second_shard
model.save_pretrained(sys.argv[1], max_shard_size="20KB")
"""


class TestSaving:
    def test_killed_half_way_leaves_the_old_checkpoint(
        self, base: VJEPA2Model, tmp_path: Path
    ) -> None:
        save(base, tmp_path)
        command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, env={**os.environ})
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert torch.equal(features(VJEPA2Model.from_pretrained(tmp_path)), features(base))

    def test_interrupted_leaves_the_old_checkpoint_and_no_rest(
        self, base: VJEPA2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from vjepa2.weights import save as save_module

        save(base, tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def interrupt(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(save_module, "save_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            VJEPA2Model(small()).save_pretrained(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_file_in_the_way(self, base: VJEPA2Model, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        with pytest.raises(OutputError, match="it is a file, not a folder"):
            base.save_pretrained(tmp_path / "taken")

    def test_repository_without_upload(self, base: VJEPA2Model, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no effect without push_to_hub=True"):
            base.save_pretrained(tmp_path, repo_id="me/model")


class TestDeviceMaps:
    @pytest.mark.parametrize("device_map", ["cpu", "auto", torch.device("cpu"), {"": "cpu"}])
    def test_one_device(
        self, classifier: VJEPA2ForVideoClassification, classifier_folder: Path, device_map: Any
    ) -> None:
        expected = resolve_device("auto" if device_map == "auto" else "cpu")
        model = VJEPA2ForVideoClassification.from_pretrained(
            classifier_folder, device_map=device_map
        )
        assert vars(model)["hf_device_map"] == {"": expected}
        assert {parameter.device.type for parameter in model.parameters()} == {expected.type}
        assert torch.equal(logits(model.to("cpu")), logits(classifier))

    @pytest.mark.parametrize(
        "device_map",
        [
            {"vjepa2": "disk", "pooler": "cpu", "classifier": "cpu"},
            {"": "cpu", "vjepa2.predictor": "disk", "pooler": "disk"},
            {"": "disk", "vjepa2.encoder.layer.0": "cpu"},
        ],
        ids=str,
    )
    def test_streamed_from_the_checkpoint(
        self, classifier: VJEPA2ForVideoClassification, classifier_folder: Path, device_map: Any
    ) -> None:
        model = VJEPA2ForVideoClassification.from_pretrained(
            classifier_folder, device_map=device_map
        )
        torch.testing.assert_close(logits(model), logits(classifier), rtol=1e-5, atol=1e-6)
        assert any(parameter.is_meta for parameter in model.parameters())
        assert model.device == torch.device("cpu")
        with pytest.raises(OutputError, match="hold no values to save"):
            model.save_pretrained(classifier_folder.parent / "never")

    def test_limits(self, base: VJEPA2Model, base_folder: Path) -> None:
        model = VJEPA2Model.from_pretrained(
            base_folder, device_map="auto", max_memory={"cpu": base.num_parameters() * 3}
        )
        assert set(vars(model)["hf_device_map"].values()) == {"cpu", "disk"}
        torch.testing.assert_close(features(model), features(base), rtol=1e-5, atol=1e-6)


def test_every_argument_is_described() -> None:
    documented = inspect.getdoc(VJEPA2Model.from_pretrained) or ""
    for name in inspect.signature(VJEPA2Model.from_pretrained).parameters:
        assert f"{name}:" in documented, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
class TestAccelerator:
    @pytest.mark.parametrize("device_map", ["auto", "cuda", 0, {"": 0}], ids=str)
    def test_whole_model(
        self, classifier: VJEPA2ForVideoClassification, classifier_folder: Path, device_map: Any
    ) -> None:
        model = VJEPA2ForVideoClassification.from_pretrained(
            classifier_folder, device_map=device_map
        )
        assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
        found = logits(model, PIXELS.to(model.device)).cpu()
        torch.testing.assert_close(found, logits(classifier), rtol=1e-3, atol=1e-4)

    def test_parts_that_wait_in_host_memory_and_on_the_disk(
        self, classifier: VJEPA2ForVideoClassification, classifier_folder: Path
    ) -> None:
        model = VJEPA2ForVideoClassification.from_pretrained(
            classifier_folder,
            device_map={"": 0, "vjepa2.predictor": "disk", "pooler": "cpu"},
        )
        found = logits(model, PIXELS.to(model.device)).cpu()
        torch.testing.assert_close(found, logits(classifier), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("config", 3),
        ("dtype", np.zeros(3)),
        ("generator", 3),
        ("offload_folder", 3),
        ("ignore_mismatched_sizes", "no"),
        ("output_loading_info", "no"),
        ("device_map", {1: 2}),
        ("max_memory", 5),
        ("revision", 3),
        ("cache_dir", 3),
        ("token", 5),
        ("subfolder", None),
        ("local_files_only", "no"),
        ("variant", 3),
        ("from_key", 3),
        ("head", True),
        ("fresh_predictor", "no"),
    ],
)
def test_arguments_of_a_wrong_type_are_named_errors(
    option: str, value: object, tmp_path: Path
) -> None:
    VJEPA2Model(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ConfigError):
        VJEPA2Model.from_pretrained(tmp_path, **{option: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda model, folder: model.save_pretrained(folder, max_shard_size=None),
        lambda model, folder: model.save_pretrained(folder, max_shard_size=1.5),
        lambda model, folder: model.save_pretrained(folder, variant=3),
        lambda model, folder: model.save_pretrained(3),
        lambda model, _: model.push_to_hub(None),
        lambda model, _: model.gradient_checkpointing_enable(3),
        lambda model, _: model.init_missing(5),
        lambda model, _: model.init_missing("x"),
        lambda *_: VJEPA2Model.from_pretrained(None),
        lambda *_: VJEPA2Model.from_pretrained(b"x"),
        lambda _, folder: VJEPA2Model.from_pretrained(
            folder, device_map="auto", max_memory={"cpu": "much"}
        ),
    ],
)
def test_methods_refuse_wrong_types_by_name(
    call: Callable[[VJEPA2Model, Path], object], tmp_path: Path
) -> None:
    model = VJEPA2Model(tiny_config())
    model.save_pretrained(tmp_path)
    with pytest.raises(VJEPAError):
        call(model, tmp_path)
