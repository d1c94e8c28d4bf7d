"""`vjepa2 convert`: the same weights in another layout, completely or not at all.

hf       folder of the Hugging Face port, for `transformers`: V-JEPA 2 models and classifiers
meta     one `.pt` file with the sub-dictionaries of the original code
vjepa2   folder of this package: everything
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from vjepa2.errors import CheckpointNotFoundError, ConfigError, check_choice
from vjepa2.files import atomic_path
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.preset_files import named_preset
from vjepa2.models.pretrained import PretrainedModel
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.tasks.opened_weights import class_for, open_weights
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.weights.geometry import infer_geometry
from vjepa2.weights.meta_format import original_content
from vjepa2.weights.save import all_values

LayoutName = Literal["hf", "meta", "vjepa2"]
LAYOUTS = ("hf", "meta", "vjepa2")


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What `convert_checkpoint` did.

    Attributes:
        source, target, layout: from where, to where, as what.
        model_class: the class that the weights went through.
        num_tensors, num_parameters: that were written, in our names.
        read_from: sub-dictionary of an original file.
        dropped: stored name to the reason why it was left out.
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
    assumed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        origin = f" (encoder from {self.read_from})" if self.read_from else ""
        counts = f"{self.num_tensors} tensors, {self.num_parameters:,} parameters"
        lines = [
            f"{self.source}{origin} -> {self.target}, layout {self.layout}",
            f"  {self.model_class}: {counts}, all of them",
        ]
        lines += [f"  left out {name}: {why}" for name, why in self.dropped.items()]
        lines += [f"  assumed {name}: {why}" for name, why in self.assumed.items()]
        return "\n".join(lines)


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str,
    from_key: str | None = None,
    probe: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ConversionReport:
    """Write the weights of `source` to `target` in another layout.

    Element types and values stay as they are, bit for bit.

    Args:
        source: file, folder, hub name or preset.
        target: a folder, or for "meta" the path of a `.pt` file. Appears when it is complete.
        to: "hf", "meta" or "vjepa2".
        from_key: sub-dictionary of the encoder in an original file.
        probe: original probe file; makes a classifier of it and the encoder in `source`.
        overrides: configuration fields that the file does not tell, or that are to be changed.

    Raises:
        ConfigError: the layout does not exist, or cannot express this network.
        OutputError: the target cannot be written.
        WeightsError: the source cannot be read, or is incomplete.
    """
    check_choice("to", to, LAYOUTS)
    target = Path(target).expanduser()
    _check_target(target, to)
    opened = open_weights(source, from_key=from_key)
    values = infer_geometry(opened.tensors, where=os.fspath(source)).values
    model_type = values["model_type"] if opened.config is None else opened.config.model_type
    model_class = class_for(opened.tensors, model_type=model_type)
    if probe is not None:
        model_class = VJEPA2ForVideoClassification
    model = model_class.from_pretrained(source, from_key=from_key, probe=probe, **(overrides or {}))
    report = model.load_report
    assert report is not None and not report.fresh
    if to == "hf":
        check_for_port(model)
    if to == "meta":
        _write_original(model, target)
    else:
        model.save_pretrained(target)
        if not isinstance(model, VJEPA2AttentiveProbe):
            _processor(source, model.config).save_pretrained(target)
    return ConversionReport(
        source=os.fspath(source),
        target=str(target),
        layout=to,
        model_class=model_class.__name__,
        num_tensors=len(list(model.parameters())),
        num_parameters=model.num_parameters(),
        read_from=report.from_key,
        dropped=dict(report.dropped),
        assumed=dict(report.assumed),
    )


def check_for_port(model: PretrainedModel) -> None:
    """Refuse what `transformers` would load with other numbers, or not at all.

    Raises:
        ConfigError: with the field that the port does not have.
    """
    config = model.config
    advice = "Use --to vjepa2, which keeps everything."
    if config.model_type != "vjepa2" or isinstance(model, VJEPA2AttentiveProbe):
        what = "a probe alone" if config.model_type == "vjepa2" else repr(config.model_type)
        raise ConfigError(f"The Hugging Face layout has no place for {what}. {advice}")
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


def _check_target(target: Path, layout: str) -> None:
    if layout == "meta" and (target.suffix != ".pt" or target.is_dir()):
        raise ConfigError(f"{target}: Meta's layout is one file; give a path that ends with .pt.")
    if layout != "meta" and target.is_file():
        raise ConfigError(f"{target} is a file; layout {layout!r} is a folder.")


def _write_original(model: PretrainedModel, target: Path) -> None:
    networks, probe = original_content(all_values(model))
    with atomic_path(target) as path:
        torch.save({**networks, **probe}, path)


def _processor(source: str | os.PathLike[str], config: VJEPA2Config) -> VJEPA2VideoProcessor:
    """The processor beside the source, or one that makes frames of the configured size."""
    if not Path(source).expanduser().is_file() and named_preset(source) is None:
        try:
            return VJEPA2VideoProcessor.from_pretrained(source)
        except CheckpointNotFoundError:
            pass  # models may be saved without one
    side = config.crop_size
    return VJEPA2VideoProcessor(crop_size={"height": side, "width": side})
