"""`from_pretrained` of one weights file: configuration, report, probes, and mistakes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from original_files import Sample, Tensors, probe, probe_one, v2, v21_deep, wrapped
from tiny_models import relative_error
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigError,
    UnknownOptionError,
)
from vjepa2.models.auto import AutoModel, AutoModelForVideoClassification
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.weights.load import LoadReport

HEADS: dict[str, Any] = {"num_attention_heads": 2, "pred_num_attention_heads": 2}
POOLER: dict[str, Any] = {"num_pooler_attention_heads": 4}


@pytest.fixture
def sample() -> Sample:
    return v2()


@pytest.fixture
def file(sample: Sample, tmp_path: Path) -> Path:
    return sample.save(tmp_path)


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    path = tmp_path / "probe.pt"
    torch.save(probe_one().content, path)
    return path


def report_of(model: PretrainedModel) -> LoadReport:
    assert model.load_report is not None
    return model.load_report


def same(model: PretrainedModel, wanted: Tensors, *, inside: str = "") -> bool:
    found = model.state_dict()
    return all(torch.equal(found[inside + name], value) for name, value in wanted.items())


class TestModel:
    def test_configuration_and_report(self, sample: Sample, file: Path) -> None:
        sample.content["target_encoder"]["module.backbone.pos_embed"] = torch.ones(1, 8, 24)
        torch.save(sample.content, file)
        model = VJEPA2Model.from_pretrained(file, crop_size=64, **HEADS)
        assert same(model, sample.expected) and not model.training
        config = model.config
        assert (config.model_type, config.hidden_size, config.patch_size) == ("vjepa2", 24, 4)
        assert config.crop_size == 64 and config.name_or_path == str(file)
        assert config.dtype is torch.float32
        report = report_of(model)
        assert report.files == (file,) and report.from_key == "target_encoder"
        assert report.loaded == len(sample.expected) and not report.fresh
        assert list(report.dropped) == ["module.backbone.pos_embed"]
        assert set(report.assumed) == {"frames_per_clip"}
        assert report.stored_names["encoder.layer.2.attention.value.bias"] == (
            "module.backbone.blocks.2.attn.qkv.bias"
        )
        assert "taken from 'target_encoder'" in str(report)
        assert "assumed: frames_per_clip" in str(report)

    def test_text_and_home_folder(
        self, sample: Sample, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(file.parent))
        for name in (str(file), f"~/{file.name}"):
            assert same(VJEPA2Model.from_pretrained(name, **HEADS), sample.expected)
        assert same(AutoModel.from_pretrained(file, **HEADS), sample.expected)

    def test_parameters_may_be_trained_and_the_file_stays(self, sample: Sample, file: Path) -> None:
        content = file.read_bytes()
        model = VJEPA2Model.from_pretrained(file, **HEADS)
        assert all(parameter.requires_grad for parameter in model.parameters())
        pixels = torch.randn(1, 4, 3, 16, 16)
        model.get_vision_features(pixels).sum().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        assert not same(model, sample.expected) and file.read_bytes() == content
        assert same(VJEPA2Model.from_pretrained(file, **HEADS), sample.expected)

    @pytest.mark.parametrize("dtype", ["bfloat16", torch.float16, "float64"])
    def test_other_element_type(self, sample: Sample, file: Path, dtype: Any) -> None:
        model = VJEPA2Model.from_pretrained(file, dtype=dtype, **HEADS)
        wanted = {name: value.to(model.dtype) for name, value in sample.expected.items()}
        assert same(model, wanted) and len(report_of(model).cast) == len(wanted)

    def test_parts_on_the_disk_are_written_there_first(
        self, sample: Sample, file: Path, tmp_path: Path
    ) -> None:
        """accelerate cannot stream a fused matrix out of the original file."""
        pytest.importorskip("accelerate")
        options: dict[str, Any] = {"device_map": {"": "cpu", "predictor": "disk"}, **HEADS}
        with pytest.raises(ConfigError, match="needs offload_folder= .* Meta's names"):
            VJEPA2Model.from_pretrained(file, **options)
        model = VJEPA2Model.from_pretrained(file, offload_folder=tmp_path / "offload", **options)
        whole = VJEPA2Model.from_pretrained(file, **HEADS)
        pixels = torch.randn(1, 4, 3, 16, 16)
        with torch.no_grad():
            got, wanted = model(pixels), whole(pixels)
        for pair in ((got, wanted), (got.predictor_output, wanted.predictor_output)):
            # Kernels differ with the place of a matrix in memory.
            assert relative_error(*(part.last_hidden_state for part in pair)) < 1e-5

    def test_saved_and_loaded_again(self, file: Path, tmp_path: Path) -> None:
        model = VJEPA2Model.from_pretrained(file, **HEADS)
        model.save_pretrained(tmp_path / "own")
        again = VJEPA2Model.from_pretrained(tmp_path / "own")
        assert same(again, model.state_dict())
        assert again.config.to_dict().keys() == model.config.to_dict().keys()
        assert report_of(again).from_key == "" and not report_of(again).assumed

    @pytest.mark.parametrize("form", ["object", "folder", "file"])
    def test_config_given(self, sample: Sample, file: Path, tmp_path: Path, form: str) -> None:
        model = VJEPA2Model.from_pretrained(file, **HEADS)
        model.config.frames_per_clip = 12
        model.config.save_pretrained(tmp_path / "other")
        given: Any = {
            "object": model.config,
            "folder": tmp_path / "other",
            "file": tmp_path / "other" / "config.json",
        }[form]
        again = VJEPA2Model.from_pretrained(file, config=given, crop_size=32)
        assert same(again, sample.expected) and not report_of(again).assumed
        assert (again.config.frames_per_clip, again.config.crop_size) == (12, 32)

    def test_a_configuration_beside_it_is_not_read(self, file: Path) -> None:
        (file.parent / "config.json").write_text(json.dumps({"hidden_size": 48}))
        assert VJEPA2Model.from_pretrained(file, **HEADS).config.hidden_size == 24

    def test_a_configuration_that_does_not_fit(self, file: Path) -> None:
        config = VJEPA2Config(hidden_size=48, patch_size=4, **HEADS)
        with pytest.raises(CheckpointMismatchError, match="hidden_size is 24 in the file"):
            VJEPA2Model.from_pretrained(file, config=config)

    def test_levels_of_an_unpublished_depth(self, tmp_path: Path) -> None:
        sample = v21_deep()
        for tensors in sample.both():
            for name in [n for n in tensors if ".blocks.11." in n]:
                del tensors[name]
        path = sample.save(tmp_path)
        with pytest.raises(
            ConfigError, match=r"weights\.pt: .*11 blocks.*Give hierarchical_layers"
        ):
            VJEPA2Model.from_pretrained(path, **HEADS)
        model = VJEPA2Model.from_pretrained(path, hierarchical_layers=[1, 3, 5, 10], **HEADS)
        assert model.config.levels == (1, 3, 5, 10)

    def test_file_of_the_port(self, sample: Sample, tmp_path: Path) -> None:
        save_file(sample.expected, tmp_path / "model.safetensors")
        model = VJEPA2Model.from_pretrained(tmp_path / "model.safetensors", **HEADS)
        assert same(model, sample.expected)

    def test_values_of_a_file_are_looked_at_and_those_of_a_folder_not(
        self, sample: Sample, file: Path, tmp_path: Path
    ) -> None:
        """A folder's are not: docs/decisions.md."""
        VJEPA2Model.from_pretrained(file, **HEADS).save_pretrained(tmp_path / "own")
        weights = tmp_path / "own" / "model.safetensors"
        tensors = load_file(weights)
        tensors["encoder.layer.1.norm1.weight"][3] = float("nan")
        save_file(tensors, weights)
        VJEPA2Model.from_pretrained(tmp_path / "own")
        with pytest.raises(CheckpointFormatError, match=r"norm1\.weight' in .* holds NaN"):
            VJEPA2Model.from_pretrained(weights, **HEADS)


class TestEncoderAlone:
    @pytest.fixture
    def alone(self, sample: Sample, tmp_path: Path) -> Path:
        del sample.content["predictor"]
        return sample.save(tmp_path)

    def test_is_refused_with_the_way_to_its_features(self, alone: Path) -> None:
        with pytest.raises(CheckpointMismatchError, match="pass fresh_predictor=True"):
            VJEPA2Model.from_pretrained(alone, num_attention_heads=2)

    def test_gets_a_predictor_of_random_numbers_on_request(
        self, sample: Sample, alone: Path
    ) -> None:
        with pytest.warns(UserWarning, match=r"were made fresh: .*predictor.*Train the model"):
            model = VJEPA2Model.from_pretrained(
                alone, fresh_predictor=True, num_attention_heads=2, pred_num_hidden_layers=2
            )
        wanted = {n: t for n, t in sample.expected.items() if n.startswith("encoder.")}
        assert same(model, wanted)
        fresh = report_of(model).fresh
        assert set(fresh) == {n for n in model.state_dict() if n.startswith("predictor.")}
        assert set(fresh.values()) == {"the checkpoint has none, and fresh_predictor=True"}
        weight = model.get_parameter("predictor.layer.1.mlp.fc1.weight")
        assert 0.01 < weight.std() < 0.03  # config.initializer_range

    def test_with_a_probe(self, sample: Sample, alone: Path, head_file: Path) -> None:
        with pytest.warns(UserWarning, match="vjepa2.predictor"):
            model = VJEPA2ForVideoClassification.from_pretrained(
                alone, probe=head_file, fresh_predictor=True, num_attention_heads=2, **POOLER
            )
        assert same(model, probe_one().expected)

    def test_a_folder(self, file: Path, tmp_path: Path) -> None:
        VJEPA2Model.from_pretrained(file, **HEADS).save_pretrained(tmp_path / "own")
        weights = tmp_path / "own" / "model.safetensors"
        tensors = {n: t for n, t in load_file(weights).items() if n.startswith("encoder.")}
        save_file(tensors, weights)
        with pytest.warns(UserWarning, match="made fresh"):
            model = VJEPA2Model.from_pretrained(tmp_path / "own", fresh_predictor=True)
        assert same(model, tensors)

    def test_a_stored_predictor_is_not_thrown_away(self, file: Path, head_file: Path) -> None:
        with pytest.raises(ConfigError, match="the checkpoint holds a predictor"):
            VJEPA2Model.from_pretrained(file, fresh_predictor=True, **HEADS)
        with pytest.raises(ConfigError, match="VJEPA2AttentiveProbe has no predictor"):
            VJEPA2AttentiveProbe.from_pretrained(
                head_file, fresh_predictor=True, num_attention_heads=2, **POOLER
            )
        with pytest.raises(ConfigError, match="fresh_predictor must be True or False"):
            VJEPA2Model.from_pretrained(file, fresh_predictor=1)  # type: ignore[arg-type]

    def test_half_a_predictor_is_none(self, sample: Sample, file: Path) -> None:
        """Not a way round a damaged file."""
        predicts = sample.content["predictor"]
        sample.content["predictor"] = dict(list(predicts.items())[:2])
        torch.save(sample.content, file)
        with pytest.raises(CheckpointFormatError):
            VJEPA2Model.from_pretrained(file, fresh_predictor=True, **HEADS)


class TestClassifier:
    def test_of_an_encoder_file_warns_and_starts_fresh(self, sample: Sample, file: Path) -> None:
        with pytest.warns(UserWarning, match=r"are not in .*weights\.pt and were made fresh"):
            model = VJEPA2ForVideoClassification.from_pretrained(file, num_labels=3, **HEADS)
        assert same(model, sample.expected, inside="vjepa2.")
        assert model.classifier.weight.shape == (3, 24)

    @pytest.mark.parametrize("place", ["file", "folder"])
    def test_of_an_encoder_and_a_probe(
        self, sample: Sample, file: Path, head_file: Path, tmp_path: Path, place: str
    ) -> None:
        name, options = file, dict(HEADS)
        if place == "folder":
            VJEPA2Model.from_pretrained(file, **HEADS).save_pretrained(tmp_path / "own")
            name, options = tmp_path / "own", {}
        model = VJEPA2ForVideoClassification.from_pretrained(
            name, probe=head_file, **POOLER, **options
        )
        assert same(model, sample.expected, inside="vjepa2.")
        assert same(model, probe_one().expected)
        config = model.config
        assert (config.num_labels, config.num_pooler_layers) == (5, 2)
        assert (config.pooler_heads, config.pooler_eps) == (4, 1e-5)
        assert config.id2label == {index: f"LABEL_{index}" for index in range(5)}
        report = report_of(model)
        assert report.files == (
            (tmp_path / "own" / "model.safetensors") if place == "folder" else file,
            head_file,
        )
        assert report.from_key == ("" if place == "folder" else "target_encoder")
        assert {"pooler_layer_norm_eps", "pooler_levels"} <= set(report.assumed)
        told = VJEPA2ForVideoClassification.from_pretrained(
            name, probe=head_file, pooler_levels=[0, 2], **POOLER, **options
        )
        assert told.config.pooler_levels == [0, 2]
        assert "pooler_levels" not in report_of(told).assumed

    def test_sixteen_heads_unless_told(self, tmp_path: Path) -> None:
        """Original probes have 16, whatever the width of the encoder: 24 cannot be divided so."""
        sample = v2()
        torch.save({"classifiers": [wrapped(probe(0, width=24).meta)]}, tmp_path / "probe.pt")
        with pytest.raises(ConfigError, match="hidden_size=24 .* num_pooler_attention_heads=16"):
            VJEPA2ForVideoClassification.from_pretrained(
                sample.save(tmp_path), probe=tmp_path / "probe.pt", **HEADS
            )

    def test_names_of_classes(self, file: Path, head_file: Path) -> None:
        names = {index: f"class {index}" for index in range(5)}
        model = AutoModelForVideoClassification.from_pretrained(
            file, probe=head_file, id2label=names, **POOLER, **HEADS
        )
        assert model.config.id2label == names
        with pytest.raises(
            CheckpointMismatchError, match="classifier has 5 labels and the network 3"
        ):
            VJEPA2ForVideoClassification.from_pretrained(
                file, probe=head_file, num_labels=3, **POOLER, **HEADS
            )

    def test_probe_of_another_width(self, file: Path, tmp_path: Path) -> None:
        torch.save({"classifiers": [probe(0, width=32).meta]}, tmp_path / "wide.pt")
        with pytest.raises(CheckpointFormatError, match="width 32, this encoder makes 24"):
            VJEPA2ForVideoClassification.from_pretrained(file, probe=tmp_path / "wide.pt", **HEADS)

    def test_one_of_several(self, file: Path, tmp_path: Path) -> None:
        first, second = probe(0, width=24), probe(1, width=24)
        torch.save({"classifiers": [first.meta, second.meta]}, tmp_path / "two.pt")
        with pytest.raises(ConfigError, match="holds 2 probes"):
            VJEPA2ForVideoClassification.from_pretrained(file, probe=tmp_path / "two.pt", **HEADS)
        model = VJEPA2ForVideoClassification.from_pretrained(
            file, probe=tmp_path / "two.pt", head=1, **POOLER, **HEADS
        )
        assert same(model, second.ours)

    def test_a_probe_with_three_heads(self, file: Path, tmp_path: Path) -> None:
        heads = {"verb": 2, "noun": 3, "action": 4}
        torch.save({"classifiers": [probe(0, width=24, heads=heads).meta]}, tmp_path / "ek.pt")
        with pytest.raises(ConfigError, match="one head"):
            VJEPA2ForVideoClassification.from_pretrained(
                file, probe=tmp_path / "ek.pt", **POOLER, **HEADS
            )
        alone = VJEPA2AttentiveProbe.from_pretrained(
            tmp_path / "ek.pt", num_attention_heads=2, **POOLER
        )
        assert alone.config.head_sizes == heads

    def test_a_classifier_has_a_head_already(
        self, file: Path, head_file: Path, tmp_path: Path
    ) -> None:
        model = VJEPA2ForVideoClassification.from_pretrained(
            file, probe=head_file, **POOLER, **HEADS
        )
        model.save_pretrained(tmp_path / "own")
        with pytest.raises(ConfigError, match="already holds a pooler or classifier"):
            VJEPA2ForVideoClassification.from_pretrained(tmp_path / "own", probe=head_file)
        weights = tmp_path / "own" / "model.safetensors"
        again = VJEPA2ForVideoClassification.from_pretrained(weights, **POOLER, **HEADS)
        assert same(again, model.state_dict())
        with pytest.raises(ConfigError, match="do not tell the heads of the pooler"):
            VJEPA2ForVideoClassification.from_pretrained(weights, **HEADS)
        base = VJEPA2Model.from_pretrained(weights, **HEADS)
        assert same(base, v2().expected)

    def test_an_incomplete_probe(self, file: Path, tmp_path: Path) -> None:
        tensors = probe(0, width=24).meta
        del tensors["linear.bias"], tensors["pooler.blocks.1.norm1.bias"]
        torch.save({"classifiers": [tensors]}, tmp_path / "probe.pt")
        with pytest.raises(
            CheckpointMismatchError, match="head is incomplete in the file"
        ) as caught:
            VJEPA2ForVideoClassification.from_pretrained(
                file, probe=tmp_path / "probe.pt", **POOLER, **HEADS
            )
        assert caught.value.missing == [
            "classifier.bias",
            "pooler.self_attention_layers.1.layer_norm1.bias",
        ]


class TestMistakes:
    def test_no_such_file(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(file.parent)
        for name in ("weihgts.pt", "sub/weights.pt", file.parent / "x.safetensors"):
            words = rf"no file .*{Path(name).name}\. Weights files in .*: weights\.pt\."
            with pytest.raises(CheckpointNotFoundError, match=words):
                VJEPA2Model.from_pretrained(name)

    def test_file_of_another_kind(self, file: Path) -> None:
        (file.parent / "readme.md").write_text("x")
        with pytest.raises(ConfigError, match=r"none with weights \(those end with \.pt"):
            VJEPA2Model.from_pretrained(file.parent / "readme.md")

    @pytest.mark.parametrize("name", ["subfolder", "variant", "revision"])
    def test_options_of_folders(self, file: Path, name: str) -> None:
        with pytest.raises(ConfigError, match=f"{name}='x' is for folders"):
            VJEPA2Model.from_pretrained(file, **{name: "x"}, **HEADS)  # type: ignore[arg-type]

    def test_options_of_files(self, file: Path, head_file: Path, tmp_path: Path) -> None:
        VJEPA2Model.from_pretrained(file, **HEADS).save_pretrained(tmp_path / "own")
        with pytest.raises(ConfigError, match="from_key= names a sub-dictionary of one original"):
            VJEPA2Model.from_pretrained(tmp_path / "own", from_key="encoder")
        with pytest.raises(ConfigError, match="probe= adds a pooler .* VJEPA2Model does not have"):
            VJEPA2Model.from_pretrained(file, probe=head_file)
        with pytest.raises(ConfigError, match="VJEPA2AttentiveProbe does not have"):
            VJEPA2AttentiveProbe.from_pretrained(head_file, probe=head_file)
        with pytest.raises(ConfigError, match="from_key= names an encoder; VJEPA2AttentiveProbe"):
            VJEPA2AttentiveProbe.from_pretrained(head_file, from_key="encoder")
        with pytest.raises(ConfigError, match="give both"):
            VJEPA2ForVideoClassification.from_pretrained(file, head=0, **HEADS)
        with pytest.raises(CheckpointNotFoundError, match=r"no probe file .*absent\.pt"):
            VJEPA2ForVideoClassification.from_pretrained(file, probe="absent.pt", **HEADS)
        with pytest.raises(UnknownOptionError, match="Did you mean 'from_key'"):
            VJEPA2Model.from_pretrained(file, fromkey="encoder")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"from_key": ["encoder"]}, "from_key must be the name of a sub-dictionary"),
            ({"probe": 3}, "probe must be a path"),
            ({"probe": "x" * 300}, "probe cannot be a path"),
            ({"probe": "~no such user/x.pt"}, "'~no such user/x.pt' begins with a user"),
            ({"probe": "x.pt", "head": True}, r"head must be an integer, got True \(bool\)"),
            ({"probe": "x.pt", "head": "0"}, "head must be an integer"),
            ({"config": 3}, "config must be a path"),
        ],
    )
    def test_values_of_a_wrong_kind(self, file: Path, options: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            VJEPA2ForVideoClassification.from_pretrained(file, **options)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            (None, "name_or_path must be a path, text or pathlib.Path, got None"),
            (b"weights.pt", "name_or_path must be a path"),
            ("", "name_or_path is empty"),
            ("x" * 300 + ".pt", "longer than 255 bytes"),
            ("x" * 300, "longer than 255 bytes"),
            ("x/" * 3000 + "x.pt", "cannot be opened: File name too long"),
            ("~no such user/x.pt", "begins with a user who has no home"),
            ("~no such user/folder", "begins with a user who has no home"),
        ],
    )
    @pytest.mark.parametrize("kind", [VJEPA2Model, AutoModel])
    def test_names_of_a_wrong_kind(self, kind: Any, name: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            kind.from_pretrained(name)

    def test_an_encoder_where_a_probe_belongs(self, file: Path) -> None:
        with pytest.raises(CheckpointFormatError, match="holds no probe"):
            VJEPA2AttentiveProbe.from_pretrained(file)
        with pytest.raises(CheckpointFormatError, match="holds no probe"):
            VJEPA2ForVideoClassification.from_pretrained(file, probe=file, **HEADS)

    def test_values_that_make_no_network_name_the_file(self, file: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"weights\.pt: hidden_size=24 .* into num_attention_h"
        ):
            VJEPA2Model.from_pretrained(file, num_attention_heads=5, pred_num_attention_heads=2)


def test_a_report_says_where_from() -> None:
    report = LoadReport(files=(Path("a/vitl.pt"),), loaded=3, from_key="encoder")
    assert str(report) == "3 tensors from vitl.pt; taken from 'encoder'"
    assert not dataclasses.replace(report, from_key="").assumed
