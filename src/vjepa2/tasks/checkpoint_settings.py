"""Configuration fields that users name for a checkpoint: `--set num_attention_heads=4`."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vjepa2.errors import ConfigError, check_option_names
from vjepa2.models.configuration import FIELDS

# Not numbers of the network: the element type is that of the weights, the rest is bookkeeping.
_NOT_SETTABLE = {"dtype", "architectures", "transformers_version", "model_type"}
SETTABLE = (*(name for name in FIELDS if name not in _NOT_SETTABLE), "num_labels")


def read_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["num_attention_heads=4"]` as fields; values are read as JSON, else as text.

    Raises:
        ConfigError: an assignment has no `=`.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"Expected NAME=VALUE, got {assignment!r}.")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text.strip()
    return values


def checked_settings(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings, all of them fields of the configuration.

    Raises:
        UnknownOptionError: a name is none, or is not the user's to set (the nearest is given).
    """
    values = dict(settings or {})
    check_option_names("A setting of the network", values, SETTABLE)
    return values
