"""From the name of a published model to its files: downloaded on first use, checked, ready to load.

    request = requested("vjepa2-vitl-ssv2", parts=("encoder", "predictor", "probe"), ...)

A folder or file of the same name in the current directory goes first, as it does for repositories.
"""

import contextlib
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vjepa2.errors import CheckpointFormatError, ConfigError, UnsafeCheckpointError
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.presets import PRESETS, Preset, find_preset, get_preset
from vjepa2.models.weights_file import FileChoice
from vjepa2.weights.download import fetch
from vjepa2.weights.file_record import record_path
from vjepa2.weights.hub import expanded

# What a published probe was trained with and its shapes do not tell.
_OF_PROBE = (
    "frames_per_clip",
    "num_pooler_attention_heads",
    "pooler_layer_norm_eps",
    "pooler_levels",
)


class Request(NamedTuple):
    """What to open for a published model.

    Attributes:
        path: local file of the encoder; of the probe where a model is one alone.
        config: the published geometry.
        choice: which part of the file, and the probe's file.
    """

    path: Path
    config: VJEPA2Config
    choice: FileChoice


def named_preset(name_or_path: str | os.PathLike[str]) -> Preset | None:
    """The published model of that name; None where a file or folder has it, or none does.

    Raises:
        UnknownOptionError: the name is nearly that of one.
    """
    text = os.fspath(name_or_path)
    if expanded(text, what="The path").exists():
        return None
    preset = find_preset(text)
    if preset is None and text.lower().startswith("vjepa2") and "/" not in text:
        families = {known.partition("-")[0] for known in PRESETS}
        if text.partition("-")[0].lower() in families and not Path(text).suffix[1:].isalpha():
            get_preset(text)  # raises, with the nearest name
    return preset


def requested(
    preset: Preset,
    *,
    parts: Container[str],
    choice: FileChoice,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Request:
    """The files of a published model, downloaded if they are not there yet.

    Args:
        preset: what was asked for.
        parts: what the model class is made of: "encoder", "predictor", "probe".
        choice: what the user chose; a sub-dictionary other than the published one, for example.
        cache_dir, local_files_only: see `fetch`.

    Raises:
        ConfigError: the class does not fit the preset.
        CheckpointNotFoundError, CheckpointChangedError, OutputError: see `fetch`.
    """
    _check_class(preset, parts, choice)

    def local(one: Preset) -> Path:
        return fetch(
            one.file, cache_dir=cache_dir, local_files_only=local_files_only, sha256=one.sha256
        )

    if preset.kind != "probe":
        return Request(local(preset), preset.to_config(), _from(preset, choice))
    if "encoder" not in parts:
        return Request(local(preset), preset.to_config(), choice)
    assert preset.probe_of is not None
    encoder = get_preset(preset.probe_of)
    return Request(
        local(encoder), preset.to_config(), _from(encoder, choice)._replace(probe=local(preset))
    )


def published_probe(
    choice: FileChoice,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> tuple[FileChoice, dict[str, Any]]:
    """The file of a probe that was chosen by its published name, and what its shapes do not tell.

    Args:
        choice: its `probe` may also be a path, which stays.
        cache_dir, local_files_only: see `fetch`.

    Raises:
        ConfigError: the name is not that of a probe with one head.
        CheckpointNotFoundError, CheckpointChangedError, OutputError: see `fetch`.
    """
    preset = None if choice.probe is None else named_preset(choice.probe)
    if preset is None:
        return choice, {}
    if preset.kind != "probe":
        raise ConfigError(f"probe={preset.name!r} is an encoder with its predictor, not a probe.")
    _refuse_several_heads(preset)
    path = fetch(preset.file, cache_dir=cache_dir, local_files_only=local_files_only)
    told = {name: preset.config[name] for name in _OF_PROBE if name in preset.config}
    return choice._replace(probe=path), told


@contextlib.contextmanager
def cached_files_named(paths: Sequence[Path]) -> Iterator[None]:
    """Errors inside about one of these files of the cache say how to get it anew.

    Once recorded, a wrong file is used again and again: "download it again" would not help.
    """
    try:
        yield
    except (CheckpointFormatError, UnsafeCheckpointError) as error:
        named = [path for path in paths if str(path) in str(error)]
        if not named:
            raise
        raise type(error)(
            f"{error} This is the published file as it lies in the cache: delete {named[0]} and "
            f"{record_path(named[0]).name} beside it, and the next call downloads it again."
        ) from error


def _from(preset: Preset, choice: FileChoice) -> FileChoice:
    return choice._replace(from_key=choice.from_key or preset.key)


def _check_class(preset: Preset, parts: Container[str], choice: FileChoice) -> None:
    """Before anything is downloaded: can this class hold what was asked for?"""
    if preset.kind == "probe" and "probe" not in parts:
        raise ConfigError(
            f"{preset.name!r} is a probe on top of {preset.probe_of!r}, which is the encoder to "
            "load here. VJEPA2ForVideoClassification takes both, VJEPA2AttentiveProbe the probe."
        )
    if preset.kind != "probe" and "encoder" not in parts:
        probes = [name for name, other in PRESETS.items() if other.probe_of == preset.name]
        raise ConfigError(
            f"{preset.name!r} is an encoder with its predictor, not a probe. "
            f"Probes for it: {', '.join(probes) or 'none were published'}."
        )
    if preset.kind == "probe" and "encoder" in parts:
        if choice.probe is not None:
            raise ConfigError(
                f"{preset.name!r} has a probe already; leave probe= out, or name the encoder: "
                f"{preset.probe_of!r}."
            )
        _refuse_several_heads(preset)


def _refuse_several_heads(preset: Preset) -> None:
    if "head_sizes" in preset.config:
        raise ConfigError(
            f"{preset.name!r} has several heads ({', '.join(preset.config['head_sizes'])}), a "
            f"classifier has one. Load VJEPA2AttentiveProbe.from_pretrained({preset.name!r}) "
            f"and its encoder {preset.probe_of!r}."
        )
