"""The closed variants of the architecture, and the fields of the configuration that belong to each.

    model_type   what                    networks
    vjepa2       V-JEPA 2                encoder, masked predictor, classifier
    vjepa2_1     V-JEPA 2.1              the same classes with its layers (arXiv:2603.14482)
    vjepa2_ac    V-JEPA 2-AC             encoder of V-JEPA 2, action-conditioned predictor

A variant fixes what cannot be mixed: layout of the rotary positions, embeddings, norms, heads.
"""

from typing import TYPE_CHECKING, Literal, get_args

from vjepa2.errors import ConfigError

if TYPE_CHECKING:
    from vjepa2.models.configuration import VJEPA2Config

ModelType = Literal["vjepa2", "vjepa2_1", "vjepa2_ac"]
MODEL_TYPES: tuple[str, ...] = get_args(ModelType)

VARIANT_FIELDS: dict[str, tuple[str, ...]] = {
    "vjepa2_1": (
        "hierarchical_layers",
        "pred_num_levels",
        "pred_output_size",
        "pred_rescale_positions",
    ),
    "vjepa2_ac": ("action_size", "state_size", "extrinsics_size"),
}
"""Fields that mean something in one variant only."""

LEVELS: dict[int, tuple[int, ...]] = {
    12: (2, 5, 8, 11),
    24: (5, 11, 17, 23),
    40: (9, 19, 29, 39),
    # Not evenly spaced: the released ViT-G was trained with 37.
    48: (11, 23, 37, 47),
}
"""Depth of a published V-JEPA 2.1 encoder to its blocks (0-based) with a norm of their own."""


def levels_for_depth(depth: int) -> tuple[int, ...]:
    """The published levels of an encoder of this depth.

    Raises:
        ConfigError: no encoder of this depth was published.
    """
    if depth not in LEVELS:
        raise ConfigError(
            f"A V-JEPA 2.1 encoder of {depth} blocks was not published (those have "
            f"{', '.join(map(str, LEVELS))}), so its levels are not known. Give "
            f"hierarchical_layers, for example [{depth - 1}]."
        )
    return LEVELS[depth]


def check_variant(config: "VJEPA2Config") -> None:
    """Refuse fields of another variant, and levels that do not exist.

    Raises:
        ConfigError: with the field, what it holds and what would be right.
    """
    for model_type, names in VARIANT_FIELDS.items():
        for name in names:
            given = getattr(config, name)
            if model_type != config.model_type and given != getattr(type(config), name):
                raise ConfigError(
                    f"{name}={given!r} belongs to model_type={model_type!r}; this configuration "
                    f"has model_type={config.model_type!r}, where it would do nothing."
                )
    last = config.num_hidden_layers - 1
    levels = config.levels
    if levels and levels[-1] != last:
        raise ConfigError(
            f"hierarchical_layers={list(levels)} must end with the last block, {last}: "
            "its norm is the one of last_hidden_state."
        )
    if config.pred_num_levels not in (None, 1, len(levels)):
        raise ConfigError(
            f"pred_num_levels={config.pred_num_levels} must be 1 or the number of levels, "
            f"{len(levels)}."
        )
    _check_pooler_levels(config, last=last)


def _check_pooler_levels(config: "VJEPA2Config", *, last: int) -> None:
    wanted = config.pooler_levels
    if wanted is None:
        return
    if wanted[-1] > last:
        raise ConfigError(
            f"pooler_levels={wanted} names block {wanted[-1]}; this encoder has 0 to {last}."
        )
    without_norm = sorted(set(wanted) - set(config.levels)) if config.levels else []
    if without_norm:
        raise ConfigError(
            f"pooler_levels={wanted} names blocks without a norm of their own {without_norm}; "
            f"this V-JEPA 2.1 encoder has {list(config.levels)}."
        )
