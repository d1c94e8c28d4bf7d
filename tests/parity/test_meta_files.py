"""Files in the layout of Meta's code give what that code computed from them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from meta_arrays import FIXTURES, V2, V21, vjepa2_a
from safetensors.torch import load_file
from torch import Tensor

from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model

TOLERANCE = 1e-4
V2_TOTAL = 694.751261
VIDEO_TOTAL = 178.997581


def largest_error(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max())


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def v2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meta") / "vjepa2_a.pt"
    torch.save(vjepa2_a()[0], path)
    return path


@pytest.fixture(scope="module")
def v2(v2_file: Path) -> VJEPA2Model:
    return VJEPA2Model.from_pretrained(v2_file, **V2)


@pytest.fixture(scope="module")
def v2_arrays() -> dict[str, Tensor]:
    return {**vjepa2_a()[1], **load_file(FIXTURES / "vjepa2_a_outputs.safetensors")}


@pytest.fixture(scope="module")
def v21() -> VJEPA2Model:
    return VJEPA2Model.from_pretrained(FIXTURES / "vjepa21_deep.pt", **V21)


@pytest.fixture(scope="module")
def v21_arrays() -> dict[str, Tensor]:
    return load_file(FIXTURES / "vjepa21_deep_io.safetensors")


def test_the_numbers_are_drawn_as_they_were(v2_arrays: dict[str, Tensor]) -> None:
    content, _ = vjepa2_a()
    total = sum(value.double().sum().item() for value in content["target_encoder"].values())
    assert total == pytest.approx(V2_TOTAL, abs=1e-6)
    assert v2_arrays["video_16_frames"].double().sum().item() == pytest.approx(
        VIDEO_TOTAL, abs=1e-6
    )


class TestVJEPA2:
    def test_every_clip(self, v2: VJEPA2Model, v2_arrays: dict[str, Tensor]) -> None:
        for clip, output in (
            ("video", "encoder_full"),
            ("video_nonsquare", "encoder_nonsquare"),
            ("video_16_frames", "encoder_16_frames"),
        ):
            got = v2.get_vision_features(v2_arrays[clip].transpose(1, 2))
            assert largest_error(got, v2_arrays[output]) < TOLERANCE, clip

    @pytest.mark.parametrize("mask", ["", "_2"])
    def test_tokens_of_a_mask_only(
        self, v2: VJEPA2Model, v2_arrays: dict[str, Tensor], mask: str
    ) -> None:
        pixels = v2_arrays["video"].transpose(1, 2)
        got = v2.encoder(pixels, v2_arrays[f"context_mask{mask}"]).last_hidden_state
        assert largest_error(got, v2_arrays[f"encoder_masked{mask}"]) < TOLERANCE

    @pytest.mark.parametrize(
        ("mask", "mask_index", "output"),
        [
            ("", 0, "predictor_mask_index_0"),
            ("", 1, "predictor_mask_index_1"),
            ("", 2, "predictor_mask_index_2"),
            ("_2", 1, "predictor_2_mask_index_1"),
        ],
    )
    def test_predictor(
        self,
        v2: VJEPA2Model,
        v2_arrays: dict[str, Tensor],
        mask: str,
        mask_index: int,
        output: str,
    ) -> None:
        pixels = v2_arrays["video"].transpose(1, 2)
        context, target = v2_arrays[f"context_mask{mask}"], v2_arrays[f"target_mask{mask}"]
        seen = v2.encoder(pixels, context).last_hidden_state
        got = v2.predictor.predict(
            seen, context, target, grid=v2.encoder.grid(pixels), mask_index=mask_index
        )
        assert largest_error(got.last_hidden_state, v2_arrays[output]) < TOLERANCE


class TestVJEPA21:
    def test_the_last_level(self, v21: VJEPA2Model, v21_arrays: dict[str, Tensor]) -> None:
        for clip, output in (
            ("video", "encoder_full"),
            ("video_nonsquare", "encoder_nonsquare"),
            ("image", "encoder_image"),
        ):
            got = v21.get_vision_features(v21_arrays[clip].transpose(1, 2))
            assert largest_error(got, v21_arrays[output]) < TOLERANCE, clip

    def test_all_levels(self, v21: VJEPA2Model, v21_arrays: dict[str, Tensor]) -> None:
        pixels = v21_arrays["video"].transpose(1, 2)
        got = levels_of(v21, pixels, None)
        assert largest_error(got, v21_arrays["encoder_hierarchical"]) < TOLERANCE

    @pytest.mark.parametrize(
        ("prefix", "clip", "mask_index"), [("", "video", 1), ("image_", "image", 0)]
    )
    def test_masked_and_predicted(
        self,
        v21: VJEPA2Model,
        v21_arrays: dict[str, Tensor],
        prefix: str,
        clip: str,
        mask_index: int,
    ) -> None:
        pixels = v21_arrays[clip].transpose(1, 2)
        context = v21_arrays[f"{prefix}context_mask"]
        seen = levels_of(v21, pixels, context)
        assert largest_error(seen, v21_arrays[f"{prefix}encoder_masked_hier"]) < TOLERANCE
        got = v21.predictor.predict(
            seen,
            context,
            v21_arrays[f"{prefix}target_mask"],
            grid=v21.encoder.grid(pixels),
            mask_index=mask_index,
            modality="image" if prefix else "video",
        )
        assert got.context_hidden_state is not None
        wanted = v21_arrays[f"{prefix}pred_target"]
        assert largest_error(got.last_hidden_state, wanted) < TOLERANCE
        wanted = v21_arrays[f"{prefix}pred_context"]
        assert largest_error(got.context_hidden_state, wanted) < TOLERANCE


def levels_of(model: VJEPA2Model, pixels: Tensor, keep_ids: Tensor | None) -> Tensor:
    """All levels side by side."""
    levels = model.config.levels
    found = model.encoder(pixels, keep_ids, output_levels=levels).level_hidden_states
    assert found is not None
    return torch.cat(found, dim=-1)


def test_classifier_of_an_encoder_file_and_a_probe_file(v2_file: Path) -> None:
    model = VJEPA2ForVideoClassification.from_pretrained(
        v2_file, probe=FIXTURES / "attentive_classifier.pt", num_pooler_attention_heads=4, **V2
    )
    assert model.config.pooler_eps == 1e-5 and model.config.num_labels == 7
    arrays = load_file(FIXTURES / "attentive_classifier_io.safetensors")
    logits = model.classifier(model.pooler(arrays["tokens"]))
    assert largest_error(logits, arrays["logits"]) < TOLERANCE
    assert not model.load_report.fresh  # type: ignore[union-attr]
