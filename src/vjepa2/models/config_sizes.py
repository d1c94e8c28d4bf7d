"""Sizes that no field alone can tell: those of the weight matrices that fields make together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vjepa2.errors import ConfigError

if TYPE_CHECKING:
    from vjepa2.models.configuration import VJEPA2Config

# 40 GB in float32; the largest matrix of a published model has 11 million numbers.
MAX_MATRIX_NUMBERS = 10**10


def check_sizes(config: "VJEPA2Config") -> None:
    """Refuse networks with a weight matrix that no memory holds, or with an empty one.

    Raises:
        ConfigError: with the fields that make the matrix, and its size.
    """
    for fields, rows, columns in _matrices(config):
        if not 1 <= rows * columns <= MAX_MATRIX_NUMBERS:
            given = ", ".join(f"{name}={getattr(config, name)!r}" for name in fields.split())
            raise ConfigError(
                f"{given} make a weight matrix of {rows} x {columns} numbers; possible are 1 to "
                f"{MAX_MATRIX_NUMBERS} in all. Choose other sizes."
            )


def _matrices(config: "VJEPA2Config") -> Iterator[tuple[str, int, int]]:
    """Names of the fields, rows and columns of the largest matrices of every part."""
    width, pred_width = config.hidden_size, config.pred_hidden_size
    pixels = config.in_chans * config.tubelet_size * config.patch_size**2
    yield "in_chans tubelet_size patch_size hidden_size", width, pixels
    yield "hidden_size mlp_ratio", int(width * config.mlp_ratio), width
    yield "pred_hidden_size pred_mlp_ratio", int(pred_width * config.pred_mlp_ratio), pred_width
    yield "pred_num_mask_tokens pred_hidden_size", config.pred_num_mask_tokens, pred_width
    num_levels = max(1, len(config.predictor_levels))
    yield "hidden_size pred_hidden_size", num_levels * width, max(width, pred_width)
    if config.pred_output_size is not None:
        yield "pred_output_size pred_hidden_size", num_levels * config.pred_output_size, pred_width
    # The pooler always widens by four.
    yield "hidden_size", 4 * width, width
    most_labels = max((config.num_labels, *(config.head_sizes or {}).values()))
    yield "hidden_size num_labels", most_labels, width
