"""Every published V-JEPA 2 file as data: name, geometry, address, counts, results.

    vjepa2-vitl            V-JEPA 2     encoder and masked predictor
    vjepa2.1-vitG-384      V-JEPA 2.1   (`vitg` and `vitG` are two sizes: case matters)
    vjepa2-ac-vitg         V-JEPA 2-AC  encoder and action-conditioned predictor
    vjepa2-vitl-ssv2       probe        attentive classifier on top of `vjepa2-vitl`

Nothing here downloads or builds anything. Geometries are written once and artefacts refer to them;
the numbers are those of the published code and papers, see `docs/checkpoints.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from vjepa2.errors import UnknownOptionError, nearest_hint
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.published_results import RESULTS, Result

Kind = Literal["model", "action_model", "probe"]

_CODE_LICENCE = (
    "The authors' repository is under MIT (three of its files under Apache-2.0); "
    "no licence is stated for the file itself"
)
_GIANT_LICENCE = f"{_CODE_LICENCE}. The Hugging Face page of these weights says Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published file.

    Attributes:
        name: what users write.
        summary: one line for lists.
        kind: "model" (encoder and predictor), "action_model" (encoder and action-conditioned
            predictor) or "probe" (classifier for the tokens of the model `probe_of`).
        config: keyword arguments of `VJEPA2Config`.
        file: name below `vjepa2.weights.download.PUBLISHED_URL`.
        key: dictionary inside the file that holds the encoder, or the probe. Of a V-JEPA 2 file
            this is the averaged encoder, whose results were published; the Hugging Face files
            hold the other one, "encoder".
        hub_name: repository with the same model in the Hugging Face layout, if there is one.
        licence: what is known of it.
        num_parameters: by part, "encoder" and "predictor", or "probe".
        num_tensors: the same for the tensors in the file.
        results: published numbers; empty where no table could be read.
        probe_of: name of the model whose tokens the probe reads.
        sha256: checksum of the file; None where nobody has published one.
    """

    name: str
    summary: str
    kind: Kind
    config: Mapping[str, Any]
    file: str
    key: str
    hub_name: str | None
    licence: str
    num_parameters: Mapping[str, int]
    num_tensors: Mapping[str, int]
    results: tuple[Result, ...]
    probe_of: str | None = None
    sha256: str | None = None

    def to_config(self) -> VJEPA2Config:
        """A new configuration of this model."""
        return VJEPA2Config(**self.config)


def preset_names() -> tuple[str, ...]:
    """Names of all published models and probes, models first."""
    return tuple(PRESETS)


def find_preset(name: str) -> Preset | None:
    """The preset of that exact name, or None."""
    return PRESETS.get(name)


def get_preset(name: str) -> Preset:
    """The preset of that exact name.

    Raises:
        UnknownOptionError: there is none; the message gives the nearest one.
    """
    preset = PRESETS.get(name)
    if preset is not None:
        return preset
    longer = [known for known in PRESETS if known.startswith(name)]
    hint = nearest_hint(longer[0] if len(longer) == 1 else name, PRESETS)
    sizes = (
        " ViT-g (vitg, 1.0 billion parameters) and ViT-G (vitG, 1.8 billion, V-JEPA 2.1 only) are "
        "two sizes: case matters."
    )
    raise UnknownOptionError(
        f"There is no published model {name!r}. {hint}{sizes if 'vitg' in name.lower() else ''}"
    )


# -- sizes ---------------------------------------------------------------------------------------


def _encoder(width: int, depth: int, heads: int, mlp_ratio: float) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "mlp_ratio": mlp_ratio,
    }


_SIZES = {
    "B": _encoder(768, 12, 12, 4.0),
    "L": _encoder(1024, 24, 16, 4.0),
    "H": _encoder(1280, 32, 16, 4.0),
    # The fractions are exact: 1408 * 48/11 = 6144 and 1664 * 64/13 = 8192.
    "g": _encoder(1408, 40, 22, 48 / 11),
    "G": _encoder(1664, 48, 26, 64 / 13),
}


def _predictor(depth: int, mask_tokens: int) -> dict[str, Any]:
    return {
        "pred_hidden_size": 384,
        "pred_num_hidden_layers": depth,
        "pred_num_attention_heads": 12,
        "pred_num_mask_tokens": mask_tokens,
    }


_PREDICTOR_2 = _predictor(12, 10)
_PREDICTOR_2_1 = {"model_type": "vjepa2_1", **_predictor(24, 8), "pred_num_levels": 4}
_PREDICTOR_DISTILLED = {
    "model_type": "vjepa2_1",
    **_predictor(12, 8),
    "pred_num_levels": 1,
    "pred_output_size": 1664,  # the teacher is ViT-G
}
_PREDICTOR_ACTION = {
    "model_type": "vjepa2_ac",
    "pred_hidden_size": 1024,
    "pred_num_hidden_layers": 24,
    "pred_num_attention_heads": 16,
    "action_size": 7,
    "state_size": 7,
    "extrinsics_size": 6,
}
_POOLER = {
    "num_pooler_layers": 3,
    "num_pooler_attention_heads": 16,  # whatever the width of the encoder
    "pooler_layer_norm_eps": 1e-5,
}
_EK100_HEADS = {"verb": 97, "noun": 300, "action": 3568}


# -- artefacts -----------------------------------------------------------------------------------


def _model(
    name: str,
    summary: str,
    *,
    size: str,
    crop: int,
    predictor: Mapping[str, Any],
    file: str,
    key: str,
    hub_name: str | None,
    counts: tuple[tuple[int, int], tuple[int, int]],
) -> Preset:
    """A model; `counts` are parameters and tensors of the encoder, then of the predictor."""
    (encoder, encoder_tensors), (predicted, predictor_tensors) = counts
    config = {**_SIZES[size], "crop_size": crop, "frames_per_clip": 64, **predictor}
    on_hub_as_apache = hub_name is not None and size == "g"
    return Preset(
        name=name,
        summary=summary,
        kind="action_model" if predictor is _PREDICTOR_ACTION else "model",
        config=MappingProxyType(config),
        file=file,
        key=key,
        hub_name=hub_name,
        licence=_GIANT_LICENCE if on_hub_as_apache else _CODE_LICENCE,
        num_parameters=MappingProxyType({"encoder": encoder, "predictor": predicted}),
        num_tensors=MappingProxyType({"encoder": encoder_tensors, "predictor": predictor_tensors}),
        results=RESULTS.get(name, ()),
    )


def _probe(
    name: str,
    summary: str,
    *,
    of: str,
    file: str,
    hub_name: str | None,
    frames: int,
    heads: Mapping[str, Any],
    count: tuple[int, int],
) -> Preset:
    """A probe of the model `of`; `count` are its parameters and tensors."""
    config = {**MODELS[of].config, "frames_per_clip": frames, **_POOLER, **heads}
    return Preset(
        name=name,
        summary=summary,
        kind="probe",
        config=MappingProxyType(config),
        file=file,
        key="classifiers[0]",
        hub_name=hub_name,
        licence=_CODE_LICENCE,
        num_parameters=MappingProxyType({"probe": count[0]}),
        num_tensors=MappingProxyType({"probe": count[1]}),
        results=RESULTS.get(name, ()),
        probe_of=of,
    )


MODELS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in (
    _model(
        "vjepa2-vitl", "V-JEPA 2 ViT-L, 256 px, 64 frames",
        size="L", crop=256, predictor=_PREDICTOR_2,
        file="vitl.pt", key="target_encoder", hub_name="facebook/vjepa2-vitl-fpc64-256",
        counts=((303_885_312, 292), (22_086_016, 160)),
    ),
    _model(
        "vjepa2-vith", "V-JEPA 2 ViT-H, 256 px, 64 frames",
        size="H", crop=256, predictor=_PREDICTOR_2,
        file="vith.pt", key="target_encoder", hub_name="facebook/vjepa2-vith-fpc64-256",
        counts=((631_648_000, 388), (22_282_880, 160)),
    ),
    _model(
        "vjepa2-vitg", "V-JEPA 2 ViT-g, 256 px, 64 frames",
        size="g", crop=256, predictor=_PREDICTOR_2,
        file="vitg.pt", key="target_encoder", hub_name="facebook/vjepa2-vitg-fpc64-256",
        counts=((1_012_173_952, 484), (22_381_312, 160)),
    ),
    _model(
        "vjepa2-vitg-384", "V-JEPA 2 ViT-g, 384 px, 64 frames",
        size="g", crop=384, predictor=_PREDICTOR_2,
        file="vitg-384.pt", key="target_encoder", hub_name="facebook/vjepa2-vitg-fpc64-384",
        counts=((1_012_173_952, 484), (22_381_312, 160)),
    ),
    _model(
        "vjepa2-ac-vitg", "V-JEPA 2-AC: ViT-g, predictor conditioned on robot actions, 256 px",
        size="g", crop=256, predictor=_PREDICTOR_ACTION,
        file="vjepa2-ac-vitg.pt", key="encoder", hub_name=None,
        counts=((1_012_173_952, 484), (305_220_992, 300)),
    ),
    _model(
        "vjepa2.1-vitb-384", "V-JEPA 2.1 ViT-B distilled from ViT-G, 384 px, images and clips",
        size="B", crop=384, predictor=_PREDICTOR_DISTILLED,
        file="vjepa2_1_vitb_dist_vitG_384.pt", key="ema_encoder", hub_name=None,
        counts=((86_833_152, 158), (22_874_752, 162)),
    ),
    _model(
        "vjepa2.1-vitl-384", "V-JEPA 2.1 ViT-L distilled from ViT-G, 384 px, images and clips",
        size="L", crop=384, predictor=_PREDICTOR_DISTILLED,
        file="vjepa2_1_vitl_dist_vitG_384.pt", key="ema_encoder", hub_name=None,
        counts=((304_680_960, 302), (22_973_056, 162)),
    ),
    _model(
        "vjepa2.1-vitg-384", "V-JEPA 2.1 ViT-g, 384 px, images and clips",
        size="g", crop=384, predictor=_PREDICTOR_2_1,
        file="vjepa2_1_vitg_384.pt", key="target_encoder", hub_name=None,
        counts=((1_013_267_968, 494), (55_400_704, 308)),
    ),
    _model(
        "vjepa2.1-vitG-384", "V-JEPA 2.1 ViT-G, 384 px, images and clips",
        size="G", crop=384, predictor=_PREDICTOR_2_1,
        file="vjepa2_1_vitG_384.pt", key="target_encoder", hub_name=None,
        counts=((1_845_216_768, 590), (59_433_472, 308)),
    ),
)})  # fmt: skip
"""Encoders with their predictors, by name."""

PROBES: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in (
    _probe(
        "vjepa2-vitl-ssv2", "174 actions of Something-Something v2; 16 frames, every 4th",
        of="vjepa2-vitl", file="evals/ssv2-vitl-16x2x3.pt",
        hub_name="facebook/vjepa2-vitl-fpc16-256-ssv2", frames=16, heads={"num_labels": 174},
        count=(49_514_670, 51),
    ),
    _probe(
        "vjepa2-vitg-384-ssv2", "174 actions of Something-Something v2; 64 frames, every 2nd",
        of="vjepa2-vitg-384", file="evals/ssv2-vitg-384-64x2x3.pt",
        hub_name="facebook/vjepa2-vitg-fpc64-384-ssv2", frames=64, heads={"num_labels": 174},
        count=(93_494_190, 51),
    ),
    _probe(
        "vjepa2-vitl-diving48", "48 dives of Diving48; 32 frames, every 2nd; reads four levels",
        of="vjepa2-vitl", file="evals/diving48-vitl-256.pt",
        hub_name="facebook/vjepa2-vitl-fpc32-256-diving48", frames=32,
        heads={"num_labels": 48, "pooler_levels": [17, 19, 21, 23]},
        count=(49_385_520, 51),
    ),
    _probe(
        "vjepa2-vitg-384-diving48", "48 dives of Diving48; 32 frames, every 2nd; reads four levels",
        of="vjepa2-vitg-384", file="evals/diving48-vitg-384-32x4x3.pt",
        hub_name="facebook/vjepa2-vitg-fpc32-384-diving48", frames=32,
        heads={"num_labels": 48, "pooler_levels": [24, 29, 34, 39]},
        count=(93_316_656, 51),
    ),
    _probe(
        "vjepa2-vitl-ek100", "EPIC-KITCHENS-100: verb, noun, action 1 s ahead; 32 frames at 8 fps",
        of="vjepa2-vitl", file="evals/ek100-vitl-256.pt",
        hub_name=None, frames=32, heads={"head_sizes": _EK100_HEADS},
        count=(53_402_493, 55),
    ),
    _probe(
        "vjepa2-vitg-384-ek100",
        "EPIC-KITCHENS-100: verb, noun, action 1 s ahead; 32 frames at 8 fps",
        of="vjepa2-vitg-384", file="evals/ek100-vitg-384.pt",
        hub_name=None, frames=32, heads={"head_sizes": _EK100_HEADS},
        count=(98_838_525, 55),
    ),
)})  # fmt: skip
"""Attentive probes, by name."""

PRESETS: Mapping[str, Preset] = MappingProxyType({**MODELS, **PROBES})
"""Every published file, by name."""
