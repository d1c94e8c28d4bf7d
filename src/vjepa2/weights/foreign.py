"""What the names of tensors say about a file that does not fit: another network, or a wrapper."""

import re
from collections.abc import Iterable, Mapping

META_NAMES = r"^module\.backbone\.|\b(predictor_)?blocks\.\d+\."
"""Names of Meta's original code."""
WRAPPED = r"^module\."

# Names of other networks and wrappers, the most telling first.
_FOREIGN: dict[str, str] = {
    r"lora_[AB]\b|lora_embedding": (
        "the file holds LoRA adapters; merge them first (PEFT: merge_and_unload) and save again"
    ),
    r"^base_model\.model\.": (
        "names start with 'base_model.model.': it was saved from a PEFT wrapper; save "
        "merge_and_unload() instead"
    ),
    r"^_orig_mod\.": (
        "names start with '_orig_mod.': it was saved from a compiled wrapper; save the model "
        "before torch.compile"
    ),
    r"^videomae\.|\battn\.[qv]_bias$|^encoder_to_decoder\.": (
        "the file holds VideoMAE, another architecture"
    ),
    r"\bls[12]\.gamma$|layer_scale|register_tokens": (
        "the file holds an image transformer with layer scale or registers, such as DINOv2"
    ),
    r"\bclass_token$|\bcls_token$|encoder_layer_\d+|\bconv_proj\.|^heads\.head\.": (
        "the file holds an image transformer with a class token, as of torchvision or timm; V-JEPA "
        "networks have none"
    ),
    r"^text_model\.|^visual\.|logit_scale": "the file holds a CLIP model, another architecture",
    r"^(layer[1-4]|backbone\.layer[1-4])\.\d+\.(conv|bn)\d": "the file holds a ResNet",
    r"action_(embeddings|encoder)\.": (
        "the file holds a V-JEPA 2-AC network (model_type 'vjepa2_ac'), which predicts from "
        "actions; use VJEPA2ActionModel"
    ),
    r"layernorms\.|\.modality\.|patch_embeddings_img|proj_context|norms_block|_mod_embed": (
        "the file holds a V-JEPA 2.1 network, another architecture than the configuration's; use "
        "model_type='vjepa2_1'"
    ),
    META_NAMES: (
        "the file uses the names of Meta's original training code; give the path of the file itself"
    ),
    WRAPPED: (
        "names start with 'module.': it was saved from a DistributedDataParallel wrapper; save "
        "model.module instead"
    ),
}
WANTED: dict[str, str] = {
    r"encoder\.layernorms\.|\.modality\.": (
        "the configuration is of V-JEPA 2.1 (model_type 'vjepa2_1'), the file of V-JEPA 2"
    ),
    r"action_embeddings\.": (
        "the configuration is of V-JEPA 2-AC (model_type 'vjepa2_ac'), the file of V-JEPA 2"
    ),
}
"""The same of names that a network needs and a file lacks."""


def foreign_cause(names: Iterable[str], *, translated: bool = False) -> str:
    """What the names of tensors say about a file that does not fit; "" when nothing.

    Args:
        names: of the tensors.
        translated: see `Differences`.
    """
    return first_cause(causes_without(META_NAMES if translated else ""), list(names), own=())


def causes_without(*patterns: str) -> dict[str, str]:
    """Pattern of a name to its cause, the most telling first; some left out."""
    return {pattern: text for pattern, text in _FOREIGN.items() if pattern not in patterns}


def first_cause(causes: Mapping[str, str], names: Iterable[str], *, own: Iterable[str]) -> str:
    """The first cause whose pattern is in `names` and is none of the other side's `own` names."""
    for pattern, text in causes.items():
        search = re.compile(pattern).search
        if any(map(search, names)) and not any(map(search, own)):
            return text
    return ""
