"""`vjepa2 convert`: the same weights in another layout, completely or not at all.

hf       folder of the Hugging Face port, for `transformers`: V-JEPA 2 models and classifiers
meta     one `.pt` file with the sub-dictionaries of the original code
vjepa2   folder of this package: everything
"""

import os
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from vjepa2.errors import CheckpointNotFoundError, ConfigError, check_choice, check_path
from vjepa2.files import atomic_path
from vjepa2.models.config_file import CONFIG_NAME
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.tasks.checkpoint_settings import checked_settings
from vjepa2.tasks.opened_weights import OpenedWeights, open_weights
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.weights.meta_format import original_content
from vjepa2.weights.save import all_values

LAYOUTS = ("hf", "meta", "vjepa2")


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What `convert_checkpoint` did.

    Attributes:
        source, target, layout: from where, to where, as what.
        model_class: the class that the weights went through.
        num_tensors, num_parameters: that were written, in our names.
        read_from: sub-dictionary of an original file.
        dropped: what the source holds and the target does not, with the reason.
        cast: element types that were asked to change, parameter name to "float32 -> float16".
        assumed: configuration field to the reason for a value that nothing in the source tells.
    """

    source: str
    target: str
    layout: str
    model_class: str
    num_tensors: int
    num_parameters: int
    read_from: str = ""
    dropped: dict[str, str] = field(default_factory=dict)
    cast: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        origin = f" ({self.read_from})" if self.read_from else ""
        counts = f"{self.num_tensors} tensors, {self.num_parameters:,} parameters"
        lines = [
            f"{self.source}{origin} -> {self.target}, layout {self.layout}",
            f"  {self.model_class}: {counts}, all of them",
        ]
        lines += [f"  left out {name}: {why}" for name, why in self.dropped.items()]
        if self.cast:
            lines.append(f"  other element type: {len(self.cast)} tensors")
        lines += [f"  assumed {name}: {why}" for name, why in self.assumed.items()]
        return "\n".join(lines)


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str,
    from_key: str | None = None,
    head: int | None = None,
    probe: str | os.PathLike[str] | None = None,
    dtype: str | torch.dtype | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ConversionReport:
    """Write the weights of `source` to `target` in another layout.

    Values stay as they are, bit for bit, unless another element type is asked for.

    Args:
        source: file, folder, hub name or name of a published model.
        target: a folder, or for "meta" the path of a `.pt` file. Appears when it is complete.
        to: "hf", "meta" or "vjepa2".
        from_key: sub-dictionary of the encoder in an original file.
        head: which of several probes in a file.
        probe: original probe file; makes a classifier of it and the encoder in `source`.
        dtype: element type to write; None keeps the one of the source, which must be one.
        settings: configuration fields that the file does not tell, or that are to be changed.
        overwrite: replace a checkpoint that is there already.

    Raises:
        ConfigError: the layout does not exist or cannot express this network, a checkpoint is there
            already, or the source holds several element types.
        OutputError: the target cannot be written.
        WeightsError: the source cannot be read, is incomplete or damaged.
    """
    check_choice("to", to, LAYOUTS)
    given = checked_settings(settings)
    check_path("The target", target)
    target = Path(target).expanduser()
    _check_target(target, to, overwrite=overwrite)
    opened = open_weights(source, from_key=from_key, head=head)
    read = [place for path in opened.checkpoint.paths for place in (path, path.parent)]
    if target.exists() and any(target.samefile(place) for place in read):
        raise ConfigError(f"{target} is the source itself. Give another target.")
    if dtype is None:
        _check_one_type(opened)
    opened.check_values()
    model = opened.load(given, probe=probe, dtype=dtype)
    report = model.load_report
    if report is None or report.fresh:
        raise ConfigError(f"{opened.name} lacks part of the network; nothing was written.")
    if to == "hf":
        check_for_port(model, assumed=report.assumed)
    if to == "meta":
        _write_original(model, target, facts=opened.file.facts if opened.file else {})
    else:
        model.save_pretrained(target)
        if not isinstance(model, VJEPA2AttentiveProbe):
            _processor(opened, model.config).save_pretrained(target)
    return ConversionReport(
        source=opened.name,
        target=str(target),
        layout=to,
        model_class=type(model).__name__,
        num_tensors=len(list(model.parameters())),
        num_parameters=model.num_parameters(),
        read_from=report.from_key,
        dropped={**report.dropped, **_not_carried(opened, to)},
        cast=dict(report.cast),
        assumed=dict(report.assumed),
    )


def _check_one_type(opened: OpenedWeights) -> None:
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in opened.tensors.values()})
    if len(types) > 1:
        raise ConfigError(
            f"{opened.name} holds several element types ({', '.join(types)}); a converted "
            "checkpoint has one. Say which with dtype= (--dtype)."
        )


def _not_carried(opened: OpenedWeights, layout: str) -> dict[str, str]:
    """What an original training checkpoint holds besides the network that was read."""
    file = opened.file
    if file is None or file.layout != "nested":
        return {}
    others = [key for key in file.encoder_keys if key != opened.origin.from_key]
    lost = dict.fromkeys(others, f"another encoder; {opened.origin.from_key} was read")
    read = opened.head or 0
    for index in range(len(file.heads)):
        if index != read:
            lost[f"classifiers[{index}]"] = f"another probe; classifiers[{read}] was read"
    lost |= {key: f"{what}; belongs to training" for key, what in file.others.items()}
    if layout != "meta":
        lost |= dict.fromkeys(file.facts, "a number about training")
    return lost


def check_for_port(model: PretrainedModel, *, assumed: Container[str] = ()) -> None:
    """Refuse what `transformers` would load with other numbers, or not at all.

    Args:
        model: what is to be written.
        assumed: fields of its configuration that nothing told.

    Raises:
        ConfigError: with the field that the port does not have.
    """
    config = model.config
    advice = "Use --to vjepa2, which keeps everything."
    if config.model_type != "vjepa2" or isinstance(model, VJEPA2AttentiveProbe):
        what = "a probe alone" if config.model_type == "vjepa2" else repr(config.model_type)
        raise ConfigError(f"The Hugging Face layout has no place for {what}. {advice}")
    if "crop_size" in assumed:
        raise ConfigError(
            "The port takes positions from crop_size, the side of the frames the model was trained "
            "on, and nothing in the file tells it. Give --set crop_size=256 (or 384)."
        )
    if not hasattr(model, "pooler"):
        return
    for name, own, ports in (
        ("num_pooler_attention_heads", config.pooler_heads, config.num_attention_heads),
        ("pooler_layer_norm_eps", config.pooler_eps, config.layer_norm_eps),
        ("pooler_levels", config.pooler_levels, None),
    ):
        if own != ports:
            raise ConfigError(
                f"This classifier has {name}={own!r}; the port has no such field and would compute "
                f"with {ports!r}, other numbers. {advice} To accept the port's numbers, give "
                f"--set {name}=null."
            )


def _check_target(target: Path, layout: str, *, overwrite: bool) -> None:
    if layout == "meta" and (target.suffix != ".pt" or target.is_dir()):
        raise ConfigError(f"{target}: Meta's layout is one file; give a path that ends with .pt.")
    if layout != "meta" and (target.is_file() or target == Path()):
        raise ConfigError(f"{target} is no folder's name; layout {layout!r} is a folder.")
    there = target if layout == "meta" else target / CONFIG_NAME
    if there.exists() and not overwrite:
        raise ConfigError(
            f"{there} is there already. Give another target, or overwrite=True (--overwrite)."
        )


def _write_original(model: PretrainedModel, target: Path, *, facts: Mapping[str, Any]) -> None:
    networks, probe = original_content(all_values(model))
    with atomic_path(target) as path:
        torch.save({**networks, **probe, **facts}, path)


def _processor(opened: OpenedWeights, config: VJEPA2Config) -> VJEPA2VideoProcessor:
    """The processor beside the source, or one that makes frames of the configured size."""
    if opened.file is None:
        try:
            return VJEPA2VideoProcessor.from_pretrained(opened.name)
        except CheckpointNotFoundError:
            pass  # models may be saved without one
    side = config.crop_size
    return VJEPA2VideoProcessor(crop_size={"height": side, "width": side})
