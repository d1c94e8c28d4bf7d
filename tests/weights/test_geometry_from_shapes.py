"""The numbers of a network from names and shapes."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from original_files import EXTRAS, FAMILIES, probe
from released_files import ENCODERS as RELEASED_ENCODERS
from released_files import file_parts
from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.presets import PRESETS
from vjepa2.weights.geometry import ENCODERS, exact_ratio, infer_geometry
from vjepa2.weights.meta_format import Part, to_ours

KEYS: dict[str, Part] = {
    "target_encoder": "encoder",
    "ema_encoder": "encoder",
    "encoder": "encoder",
    "predictor": "predictor",
    "classifiers": "probe",
}


def released(tail: str) -> dict[str, Tensor]:
    """Tensors of a released file under our names, without values."""
    tensors: dict[str, Tensor] = {}
    for key, (prefix, shapes) in file_parts(tail).items():
        part = {prefix + name: torch.empty(s, device="meta") for name, s in shapes.items()}
        tensors |= to_ours(part, KEYS[key]).tensors
    return tensors


class TestReleased:
    @pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.kind != "probe"])
    def test_shapes_tell_what_is_published(self, name: str) -> None:
        found = infer_geometry(released(PRESETS[name].file), needs_encoder=True)
        wanted = PRESETS[name].to_config()
        # No shape tells the size of the frames.
        values = found.completed({"crop_size": wanted.crop_size}, where="x")
        assert VJEPA2Config(**values) == wanted
        heads = {"num_attention_heads", "pred_num_attention_heads"}
        more = {"pred_rescale_positions"} if wanted.model_type == "vjepa2_1" else set()
        assert set(found.assumed) == {*heads, *more, "crop_size", "frames_per_clip"}

    @pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.kind == "probe"])
    def test_probes(self, name: str) -> None:
        found = infer_geometry(released(PRESETS[name].file))
        config = VJEPA2Config(**found.completed({}, where="x"))
        wanted = PRESETS[name].to_config()
        for field in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "mlp_ratio",
            "num_pooler_layers",
            "pooler_heads",
            "pooler_eps",
            "head_sizes",
        ):
            assert getattr(config, field) == getattr(wanted, field), field
        if wanted.head_sizes is None:
            assert config.num_labels == wanted.num_labels
        # Levels and frames are in no shape of the probe.
        assert config.pooler_levels is None
        assert re.search(r"last block.*need pooler_levels", found.assumed["pooler_levels"])

    def test_heads_are_those_of_the_table_of_architectures(self) -> None:
        for width, depth, heads, hidden in RELEASED_ENCODERS.values():
            assert ENCODERS[width] == (heads, (depth,), hidden)


@pytest.mark.parametrize(
    ("hidden", "width"), [(6144, 1408), (8192, 1664), (4096, 1024), (1, 3), (1000, 999), (7, 49)]
)
def test_the_ratio_gives_the_hidden_width_back(hidden: int, width: int) -> None:
    assert int(width * exact_ratio(hidden, width)) == hidden


def test_every_hidden_width_comes_back() -> None:
    for width in range(1, 120):
        for hidden in range(1, 300):
            assert int(width * exact_ratio(hidden, width)) == hidden


def small(family: str) -> dict[str, Tensor]:
    return FAMILIES[family](0).expected


class TestSmall:
    def test_numbers_of_shapes(self) -> None:
        values = infer_geometry(small("v2")).values
        assert values == {
            "model_type": "vjepa2",
            "hidden_size": 24,
            "in_chans": 3,
            "tubelet_size": 2,
            "patch_size": 4,
            "mlp_ratio": 2.0,
            "num_hidden_layers": 3,
            "qkv_bias": True,
            "pred_hidden_size": 16,
            "pred_num_hidden_layers": 2,
            "pred_mlp_ratio": 2.0,
            "pred_num_mask_tokens": 3,
            "crop_size": 256,
            "frames_per_clip": 64,
        }

    @pytest.mark.parametrize(
        ("family", "wanted"),
        [
            ("v21_deep", {"model_type": "vjepa2_1", "pred_num_levels": 4, "crop_size": 384}),
            ("v21_deep", {"pred_output_size": None}),
            ("v21_distilled", {"model_type": "vjepa2_1", "pred_num_levels": 1}),
            ("v21_distilled", {"pred_output_size": 20}),
            ("action", {"model_type": "vjepa2_ac", "action_size": 7, "state_size": 5}),
            ("action", {"extrinsics_size": 6}),
            ("probe_one", {"num_labels": 5, "num_pooler_layers": 2, "hidden_size": 24}),
            ("probe_three", {"head_sizes": {"verb": 4, "noun": 6, "action": 9}}),
        ],
    )
    def test_what_is_special(self, family: str, wanted: dict[str, Any]) -> None:
        values = infer_geometry(small(family)).values
        assert {name: values[name] for name in wanted} == wanted

    def test_names_inside_a_classifier(self) -> None:
        inside = {f"vjepa2.{name}": tensor for name, tensor in small("v2").items()}
        assert infer_geometry(inside) == infer_geometry(small("v2"))

    def test_heads_that_nobody_knows(self) -> None:
        found = infer_geometry(small("v2"))
        assert set(found.unknown) == {"num_attention_heads", "pred_num_attention_heads"}
        with pytest.raises(
            ConfigError, match=r"^x\.pt: .*width 24.*Pass num_attention_heads=\.\.\., pred_num_att"
        ):
            found.completed({}, where="x.pt")
        with pytest.raises(ConfigError, match=r"Pass pred_num_attention_heads=\.\.\.\.$"):
            found.completed({"num_attention_heads": 2}, where="x.pt")
        given = {"num_attention_heads": 2, "pred_num_attention_heads": 2, "crop_size": 64}
        values = found.completed(given, where="x.pt")
        assert {name: values[name] for name in given} == given

    def test_frame_size_of_the_action_model(self) -> None:
        """Its predictor places patches by the size of the training frames."""
        found = infer_geometry(small("action"))
        assert "crop_size" not in found.values
        given = {"num_attention_heads": 2, "pred_num_attention_heads": 2}
        with pytest.raises(ConfigError, match=r"training frames.*Pass crop_size=\.\.\.\.$"):
            found.completed(given, where="x.pt")
        assert found.completed({**given, "crop_size": 32}, where="x.pt")["crop_size"] == 32
        published = infer_geometry(released("vjepa2-ac-vitg.pt"))
        assert published.values["crop_size"] == 256 and "crop_size" not in published.unknown

    def test_no_bias(self) -> None:
        tensors = {n: t for n, t in small("v2").items() if not n.endswith("query.bias")}
        assert infer_geometry(tensors).values["qkv_bias"] is False


class TestDepthOfPublishedWidths:
    def tensors(self, depth: int) -> dict[str, Tensor]:
        names = released("vitl.pt")
        beyond = tuple(f"encoder.layer.{index}." for index in range(depth, 24))
        return {name: tensor for name, tensor in names.items() if not name.startswith(beyond)}

    def test_a_cut_file_is_refused_although_its_shapes_are_of_a_network(self) -> None:
        found = infer_geometry(self.tensors(23))
        with pytest.raises(
            CheckpointFormatError, match=r"width 1024 has 23 blocks; .* 24.*num_hidden_layers=23"
        ):
            found.completed({}, where="x.pt")
        assert found.completed({"num_hidden_layers": 23}, where="x.pt")["num_hidden_layers"] == 23

    def test_predictor(self) -> None:
        tensors = {n: t for n, t in released("vitl.pt").items() if "predictor.layer.11." not in n}
        with pytest.raises(CheckpointFormatError, match=r"pred_num_hidden_layers=11"):
            infer_geometry(tensors).completed({}, where="x.pt")


class TestRefused:
    def test_probe_of_another_encoder(self) -> None:
        with pytest.raises(
            CheckpointFormatError, match="tokens of width 36, this encoder makes 24"
        ):
            infer_geometry({**small("v2"), **probe(0, width=36).ours})

    def test_probe_of_an_unpublished_encoder(self) -> None:
        with pytest.raises(ConfigError, match="a probe does not tell the heads of its encoder"):
            infer_geometry(small("probe_one")).completed({}, where="x")

    def test_pooler_of_the_port(self) -> None:
        """Its heads are those of the encoder, or not: only its config.json tells."""
        tensors = {**small("v2"), **probe(0, width=24).ours}
        found = infer_geometry(tensors, original_probe=False)
        assert "num_pooler_attention_heads" in found.unknown

    @pytest.mark.parametrize("part", ["predictor", "probe_one"])
    def test_no_encoder(self, part: str) -> None:
        tensors = small("probe_one" if part == "probe_one" else "v2")
        if part == "predictor":
            tensors = {n: t for n, t in tensors.items() if n.startswith("predictor.")}
        infer_geometry(tensors)
        with pytest.raises(CheckpointFormatError, match="no patch embedding of video"):
            infer_geometry(tensors, needs_encoder=True)

    @pytest.mark.parametrize(
        ("name", "shape", "words"),
        [
            ("encoder.embeddings.patch_embeddings.proj.weight", (24, 3, 4, 4), "must have 5 axes"),
            ("encoder.embeddings.patch_embeddings.proj.weight", (0, 3, 2, 4, 4), "it is empty"),
            ("encoder.layer.0.mlp.fc1.weight", (48,), "must have 2 axes"),
            ("predictor.layernorm.weight", (), "must have 1 axes"),
            ("predictor.proj.weight", (24,), "must have 2 axes"),
            ("predictor.embeddings.mask_tokens", (3, 16), "must have 4 axes"),
        ],
    )
    def test_shapes_without_a_meaning(self, name: str, shape: tuple[int, ...], words: str) -> None:
        with pytest.raises(CheckpointFormatError, match=words):
            infer_geometry({**small("v2"), name: torch.empty(shape, device="meta")})

    @pytest.mark.parametrize(
        "lost",
        [
            "encoder.layer.",
            "encoder.layer.0.mlp.fc1.weight",
            "predictor.layernorm.weight",
            "predictor.proj.weight",
            "predictor.embeddings.predictor_embeddings.weight",
        ],
    )
    def test_a_telling_tensor_is_missing(self, lost: str) -> None:
        tensors = {n: t for n, t in small("v2").items() if not n.startswith(lost)}
        with pytest.raises(CheckpointFormatError, match="not a whole one"):
            infer_geometry(tensors)

    def test_nothing(self) -> None:
        with pytest.raises(CheckpointFormatError, match="it has nothing"):
            infer_geometry({})


def test_extras_are_no_tensors() -> None:
    """The samples look like training checkpoints: their other entries are of other kinds."""
    assert not any(isinstance(value, Tensor) for value in EXTRAS.values())
    assert math.isclose(exact_ratio(6144, 1408), 48 / 11)
