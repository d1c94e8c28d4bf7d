"""Published models by name: which files are fetched, what is refused before any download."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from original_files import encoder, predictor
from released_files import write_released
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    UnknownOptionError,
)
from vjepa2.features.loading import load
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.auto import AutoConfig, AutoModel, AutoVideoProcessor
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.preset_files import published_probe
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.models.weights_file import FileChoice

SMALLEST = "vjepa2.1-vitb-384"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VJEPA2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VJEPA2_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "checkpoints"


def test_configuration_and_processor_need_no_download() -> None:
    config = AutoConfig.from_pretrained(SMALLEST, frames_per_clip=16)
    assert (config.model_type, config.hidden_size, config.frames_per_clip) == ("vjepa2_1", 768, 16)
    assert config.name_or_path == SMALLEST
    processor = AutoVideoProcessor.from_pretrained(SMALLEST, do_normalize=False)
    assert processor.crop_size == {"height": 384, "width": 384} and not processor.do_normalize
    with pytest.raises(UnknownOptionError, match="do_normalize"):
        AutoVideoProcessor.from_pretrained(SMALLEST, do_normalise=False)


def test_a_file_that_is_not_there_says_where_to_put_it(cache: Path) -> None:
    with pytest.raises(CheckpointNotFoundError) as caught:
        VJEPA2Model.from_pretrained("vjepa2-vitl")
    assert str(cache / "vitl.pt") in str(caught.value)
    assert "VJEPA2_OFFLINE" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: VJEPA2Model.from_pretrained("vjepa2-vitl-ssv2"), "is a probe on top of"),
        (lambda: VJEPA2AttentiveProbe.from_pretrained("vjepa2-vitl"), "vjepa2-vitl-ek100"),
        (
            lambda: VJEPA2ForVideoClassification.from_pretrained("vjepa2-vitl-ek100"),
            "several heads .verb, noun, action.",
        ),
        (
            lambda: VJEPA2ForVideoClassification.from_pretrained("vjepa2-vitl-ssv2", probe="x.pt"),
            "has a probe already",
        ),
        (lambda: VJEPA2Model.from_pretrained("vjepa2-vitl", revision="v1"), "revision"),
        (lambda: AutoModel.from_pretrained("vjepa2.1-vitG"), "vjepa2.1-vitG-384"),
        (lambda: AutoModel.from_pretrained("vjepa2-vitt"), "vjepa2-vitl"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_download(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


def test_a_folder_of_that_name_goes_first(tmp_path: Path) -> None:
    (tmp_path / "vjepa2-vitl").mkdir()
    with pytest.raises(CheckpointNotFoundError, match="has no file 'config.json'"):
        VJEPA2Model.from_pretrained("vjepa2-vitl")


def test_the_averaged_encoder_is_needed_unless_the_other_is_asked_for(cache: Path) -> None:
    path = write_released(cache, "vjepa2_1_vitb_dist_vitG_384.pt")
    model = VJEPA2Model.from_pretrained(SMALLEST)
    assert model.load_report is not None and model.load_report.from_key == "ema_encoder"
    content = torch.load(path, weights_only=True, mmap=True)
    online = VJEPA2Model.from_pretrained(SMALLEST, from_key="encoder")
    stored = content["encoder"]["module.backbone.norms_block.3.bias"]
    assert torch.equal(online.encoder.layernorms[3].bias, stored)

    del content["ema_encoder"]  # a run that was cut short, put there by hand
    path.unlink()
    (path.parent / f"{path.name}.record.json").unlink()
    torch.save(content, path)
    with pytest.raises(CheckpointFormatError, match=r"no encoder 'ema_encoder'.*encoder"):
        VJEPA2Model.from_pretrained(SMALLEST)


def test_another_file_under_the_name_is_refused(cache: Path) -> None:
    wrong = write_released(cache, "evals/ek100-vitl-256.pt")
    (cache / "vitl.pt").write_bytes(wrong.read_bytes())
    with pytest.raises(CheckpointFormatError, match="probe"):
        VJEPA2Model.from_pretrained("vjepa2-vitl")
    with pytest.raises(CheckpointNotFoundError):
        VJEPA2ActionModel.from_pretrained("vjepa2-ac-vitg")


def test_a_wrong_file_of_the_cache_says_what_to_delete(cache: Path) -> None:
    """It was recorded as what was first downloaded: "download it again" alone would not help."""
    cache.mkdir(parents=True)
    torch.save({"epoch": 3}, cache / "vitl.pt")
    for _ in range(2):
        with pytest.raises(CheckpointFormatError) as caught:
            VJEPA2Model.from_pretrained("vjepa2-vitl")
        assert f"delete {cache / 'vitl.pt'} and vitl.pt.record.json" in str(caught.value)
    with pytest.raises(CheckpointFormatError) as caught:
        VJEPA2Model.from_pretrained(cache / "vitl.pt")
    assert "delete" not in str(caught.value)

    with zipfile.ZipFile(cache / "vith.pt", "w") as archive:
        archive.writestr("vith/readme.txt", "not here")
    with pytest.raises(CheckpointFormatError, match=r"a zip of other things \(vith/readme\.txt\)"):
        VJEPA2Model.from_pretrained("vjepa2-vith")
    assert not (cache / "vith.pt.record.json").exists()


class TestProbeByItsName:
    def test_with_an_encoder_file(self, cache: Path, tmp_path: Path) -> None:
        write_released(cache, "evals/ssv2-vitl-16x2x3.pt")
        made = encoder(0, width=1024, depth=1, second=False).meta
        predicts = predictor(1, width=24, into=1024, depth=1, kind="masked").meta
        torch.save({"encoder": made, "predictor": predicts}, tmp_path / "own.pt")
        model = VJEPA2ForVideoClassification.from_pretrained(
            tmp_path / "own.pt",
            probe="vjepa2-vitl-ssv2",
            num_hidden_layers=1,
            pred_num_attention_heads=2,
        )
        assert (model.config.num_labels, model.config.frames_per_clip) == (174, 16)
        report = model.load_report
        assert report is not None and not report.fresh
        assert report.files == (tmp_path / "own.pt", cache / "evals" / "ssv2-vitl-16x2x3.pt")

    def test_brings_what_its_shapes_do_not_tell(self, cache: Path) -> None:
        path = write_released(cache, "evals/diving48-vitl-256.pt")
        choice, told = published_probe(FileChoice(probe="vjepa2-vitl-diving48", head=0))
        assert choice == FileChoice(probe=path, head=0)
        assert told == {
            "frames_per_clip": 32,
            "num_pooler_attention_heads": 16,
            "pooler_layer_norm_eps": 1e-5,
            "pooler_levels": [17, 19, 21, 23],
        }
        assert published_probe(choice) == (choice, {})

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("vjepa2-vitl", "is an encoder with its predictor, not a probe"),
            ("vjepa2-vitl-ek100", "several heads"),
            ("vjepa2-vitl-ssv3", "vjepa2-vitl-ssv2"),
        ],
    )
    def test_of_another_kind(self, tmp_path: Path, name: str, words: str) -> None:
        torch.save({"encoder": {}}, tmp_path / "own.pt")
        with pytest.raises(ConfigError, match=words):
            VJEPA2ForVideoClassification.from_pretrained(tmp_path / "own.pt", probe=name)


def test_features_of_a_published_model_take_its_frame_size(cache: Path) -> None:
    write_released(cache, "vjepa2_1_vitb_dist_vitG_384.pt")
    loaded = load(SMALLEST, kind=VJEPA2Model)
    assert loaded.processor.crop_size == {"height": 384, "width": 384}
    path = cache / "vjepa2_1_vitb_dist_vitG_384.pt"
    assert load(str(path), kind=VJEPA2Model).processor.crop_size["width"] == 384
