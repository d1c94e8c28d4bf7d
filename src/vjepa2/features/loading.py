"""A model and its processor from a name, a folder or an object, ready to be used.

`motion-tiny`, the classifier shipped inside the package, is what runs when no model is named.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vjepa2.errors import ConfigError, InputError, check_kind, check_path
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.preset_files import named_preset
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.runtime import resolve_device, resolve_dtype
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.weights.hub import SHIPPED, shipped_folder

DEFAULT_MODEL = "motion-tiny"
VALUES_PER_PARAMETER = 16

Network = VJEPA2Model | VJEPA2ForVideoClassification
ModelLike = str | os.PathLike[str] | Network


def resolve_model(name: str | os.PathLike[str] | None) -> str:
    """Folder of the shipped model for None and "motion-tiny"; other names as they are.

    Raises:
        ConfigError: `name` is neither text nor a path.
    """
    if name is not None:
        check_path("model", name)
    text = DEFAULT_MODEL if name is None else os.fspath(name)
    return str(shipped_folder(text)) if text in SHIPPED else text


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network in a place, its processor and its name.

    Attributes:
        network: encoder with predictor, or classifier.
        processor: makes its pixels.
        name: hub name, folder or "motion-tiny"; the class name for an object without one.
        has_fresh_head: the checkpoint has no classification head, so this one is random.
    """

    network: Network
    processor: VJEPA2VideoProcessor
    name: str
    has_fresh_head: bool = False

    @property
    def base(self) -> VJEPA2Model:
        """The encoder (with predictor), without a classification head."""
        network = self.network
        return network if isinstance(network, VJEPA2Model) else network.vjepa2

    @property
    def names_labels(self) -> bool:
        """Whether it has a trained head whose outputs are scores of labels."""
        config = self.network.config
        return (
            isinstance(self.network, VJEPA2ForVideoClassification)
            and not self.has_fresh_head
            and config.num_labels > 1
            and config.problem_type != "regression"
        )

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.network.device

    def weights_id(self) -> str:
        """Sixteen digits that change when the network's weights do.

        A digest of the names, shapes and a few values of every parameter: reading all of a large
        model would take longer than many an embedding.
        """
        digest = hashlib.sha256()
        for name, parameter in self.network.state_dict().items():
            digest.update(f"{name} {list(parameter.shape)} {parameter.dtype} ".encode())
            values = parameter.flatten()
            step = max(1, len(values) // VALUES_PER_PARAMETER)
            digest.update(values[::step].double().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients and no dropout inside the block; the network's mode is put back after."""
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.network.train(was_training)


def check_finite(values: Tensor, model: LoadedModel) -> None:
    """Refuse results that hold NaN or infinity: nothing of use can be made of them.

    Raises:
        InputError: they do.
    """
    if not bool(values.isfinite().all()):
        raise InputError(
            f"The model {model.name} gave NaN or infinity. Its weights may be damaged, or too "
            f"large for {model.base.dtype}: load it again, or use dtype='float32'."
        )


def load(
    model: ModelLike | None,
    *,
    kind: type[Network],
    processor: VJEPA2VideoProcessor | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LoadedModel:
    """Load a model, or take a loaded one, together with its processor.

    Args:
        model: hub name, folder, weights file, name of a published model, "motion-tiny", None for
            that one, or a loaded network.
        kind: class to load; a `VJEPA2Model` reads a classifier's checkpoint too.
        processor: None reads the one saved with the model; for a loaded network one is made for
            its `config.crop_size`.
        device, dtype: where to run and in which element type; None: the best device, and the
            element type of the file.

    Raises:
        ConfigError: `device` or `dtype` for a loaded network, which stays where its owner put it;
            an argument of a wrong kind.
        WeightsError: the model cannot be loaded.
    """
    if processor is not None:
        check_kind("processor", processor, VJEPA2VideoProcessor, words="a VJEPA2VideoProcessor")
    if isinstance(model, torch.nn.Module):
        check_kind(
            "model",
            model,
            (VJEPA2Model, VJEPA2ForVideoClassification),
            words="a VJEPA2Model, a VJEPA2ForVideoClassification, a hub name or a folder",
        )
        for name, value in (("device", device), ("dtype", dtype)):
            if value is not None:
                raise ConfigError(
                    f"{name}={value} was given for a network that is loaded already. Move it "
                    f"yourself, network.to({value!r}), and leave {name} out."
                )
        return LoadedModel(
            network=model,
            processor=_default_processor(model) if processor is None else processor,
            name=model.config.name_or_path or type(model).__name__,
        )
    folder = resolve_model(model)
    place = resolve_device(device)
    if dtype is not None:
        dtype = resolve_dtype(dtype)
    if place.type == "meta":
        raise ConfigError("Nothing runs on the device 'meta', which holds no values. Take 'cpu'.")
    with warnings.catch_warnings():
        # That a head is fresh is told by `has_fresh_head`, and its labels are never shown.
        warnings.filterwarnings("ignore", message=".*were made fresh")
        network = kind.from_pretrained(folder, dtype=dtype, device_map=place)
    report = network.load_report
    if processor is None:
        # An original file has no processor beside it.
        alone = Path(folder).is_file() or named_preset(folder) is not None
        processor = (
            _default_processor(network) if alone else VJEPA2VideoProcessor.from_pretrained(folder)
        )
    return LoadedModel(
        network=network,
        processor=processor,
        name=DEFAULT_MODEL if folder == resolve_model(None) else folder,
        has_fresh_head=report is not None and bool(report.fresh),
    )


def _default_processor(model: Network) -> VJEPA2VideoProcessor:
    side = model.config.crop_size
    return VJEPA2VideoProcessor(crop_size={"height": side, "width": side})
