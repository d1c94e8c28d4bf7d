"""Linear heads that read a frozen encoder's patch features: a class or a distance for every pixel.

    maps [D, h, w] --norm--> --linear--> scores [K, h, w] --bilinear--> [K, H, W]

As V-JEPA 2.1 is measured (arXiv:2603.14482, dense protocols): a learned BatchNorm and one linear
layer on the features of the last block, from the image tokenizer. Distances come from 256 bins as
in DINOv2 (arXiv:2304.07193): scores above 0 are weights of evenly spaced distances.

    head = DenseHead.from_pretrained("runs/segmentation/model")
    head.predict(image_maps(model.encoder, pixels)[0], size=(H, W))   # class numbers [H, W]
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from vjepa2.errors import CheckpointFormatError, ConfigError, DtypeError, ShapeError
from vjepa2.files import atomic_folder
from vjepa2.strict_config import StrictConfig
from vjepa2.weights.hub import open_source
from vjepa2.weights.mismatch import Differences
from vjepa2.weights.read import read_tensors

DenseTask = Literal["segmentation", "depth"]
CONFIG_NAME = "dense_head.json"
WEIGHTS_NAME = "dense_head.safetensors"
MAX_CONFIG_BYTES = 1 << 22
# Distances are made of bins at this many times the tokens' resolution, then enlarged (DINOv2).
UPSAMPLING = 4
BIN_OFFSET = 0.1  # added to every bin's weight, so that they never all are 0
_COUNTERS = ("norm.num_batches_tracked",)  # nothing depends on them


class FeatureSource(StrictConfig):
    """Which features a head was trained on.

    Attributes:
        encoder: name or folder, as it was given.
        weights: fingerprint of the encoder's weights (`tasks.fingerprint.weights_mark`).
        patch_size: pixels.
        levels: blocks (0-based) whose normed tokens lie side by side; () for the last.
        num_frames: equal frames that a picture is shown as; None: the encoder's own way.
    """

    encoder: str = ""
    weights: str = ""
    patch_size: int = Field(16, ge=1)
    levels: tuple[int, ...] = ()
    num_frames: int | None = Field(None, ge=1)

    def check_same(self, other: "FeatureSource") -> None:
        """Refuse features of another kind than the head was trained on.

        Raises:
            ConfigError: the first difference.
        """
        for name in ("weights", "patch_size", "levels", "num_frames"):
            own, got = getattr(self, name), getattr(other, name)
            if own != got:
                raise ConfigError(
                    f"This head was trained on features of {self.encoder or 'an encoder'} with "
                    f"{name}={own}; these have {name}={got}. Use the same encoder and settings, "
                    "or train a head for these."
                )


class DenseHeadConfig(StrictConfig):
    """A linear dense head.

    Attributes:
        task: "segmentation" or "depth".
        width: numbers per patch: the encoder's width times the number of levels.
        class_names: of segmentation; a class's number is its place.
        ignored_class: number in label pictures for pixels without a class.
        norm: before the linear layer: "batch" (published), "layer", or "none".
        distances: of depth: "bins" (published) or "log", one number per patch that is a place
            between the logarithms of least and greatest distance.
        num_bins: of "bins".
        least_distance, greatest_distance: metres (0.001 and 10 for NYU, 80 for KITTI).
        features: what it reads.
    """

    task: DenseTask
    width: int = Field(ge=1, le=1 << 20)
    class_names: tuple[str, ...] = ()
    ignored_class: int = Field(255, ge=0, le=(1 << 16) - 1)
    norm: Literal["batch", "layer", "none"] = "batch"
    distances: Literal["bins", "log"] = "bins"
    num_bins: int = Field(256, ge=2, le=1 << 16)
    least_distance: float = Field(1e-3, gt=0)
    greatest_distance: float = Field(10.0, gt=0)
    features: FeatureSource = FeatureSource()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        names = self.class_names
        if self.task == "segmentation" and (len(names) < 2 or len(set(names)) < len(names)):
            raise ConfigError(
                f"class_names must be two or more different names for segmentation, got {names}"
            )
        if self.task == "depth" and names:
            raise ConfigError("class_names belong to segmentation; a depth head has none")
        if self.ignored_class < len(names):
            raise ConfigError(
                f"ignored_class={self.ignored_class} is the number of class "
                f"{names[self.ignored_class]!r}: choose one above {len(names) - 1}"
            )
        if self.least_distance >= self.greatest_distance:
            raise ConfigError("least_distance must be below greatest_distance")
        return self

    @property
    def num_outputs(self) -> int:
        """Numbers per patch that the linear layer gives."""
        if self.task == "segmentation":
            return len(self.class_names)
        return self.num_bins if self.distances == "bins" else 1


class DenseHead(nn.Module):
    """Norm and linear layer; see the module's text.

    Args:
        config: of the head.
        generator: source of the first weights; None for PyTorch's own.
    """

    def __init__(
        self, config: DenseHeadConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.norm: nn.Module = nn.Identity()
        if config.norm == "batch":
            self.norm = nn.BatchNorm1d(config.width)
        elif config.norm == "layer":
            self.norm = nn.LayerNorm(config.width)
        self.linear = nn.Linear(config.width, config.num_outputs)
        with torch.no_grad():
            self.linear.weight.normal_(std=0.01, generator=generator)
            self.linear.bias.zero_()

    @torch.no_grad()
    def start_at(self, distance: float) -> None:
        """Let a fresh head of logarithmic distances say about this one everywhere, in metres.

        From the middle of a wide range it would take hundreds of updates to get there.
        """
        config = self.config
        if config.distances == "log":
            low, high = math.log(config.least_distance), math.log(config.greatest_distance)
            share = min(max((math.log(distance) - low) / (high - low), 1e-3), 1 - 1e-3)
            self.linear.bias.fill_(math.log(share / (1 - share)))

    def forward(self, maps: Sequence[Float[Tensor, "D h w"]]) -> list[Float[Tensor, "K h w"]]:
        """Scores of every patch of several pictures, which may differ in size.

        In training the norm's statistics are those of all patches together.

        Raises:
            ShapeError: a map is not [D, h, w] of the head's width, or there is none.
            DtypeError: a map is not floating point, or holds NaN or infinity (looked at on CPU).
        """
        for number, one in enumerate(maps):
            self._check(one, number)
        if not maps:
            raise ShapeError("There are no maps of features: give at least one [D, h, w].")
        tokens = torch.cat([one.flatten(1).T for one in maps]).to(self.linear.weight.dtype)
        scores = self.linear(self.norm(tokens))
        parts = scores.split([one.shape[1] * one.shape[2] for one in maps])
        return [
            part.T.unflatten(1, (one.shape[1], one.shape[2]))
            for part, one in zip(parts, maps, strict=True)
        ]

    def at_pixels(
        self, scores: Float[Tensor, "K h w"], size: tuple[int, int]
    ) -> Float[Tensor, "K H W"]:
        """Scores (segmentation) or distances in metres [1, H, W] (depth) at every pixel."""
        if self.config.task == "segmentation":
            return _resized(scores, size)
        height, width = scores.shape[1:]
        fine = _resized(scores, (height * UPSAMPLING, width * UPSAMPLING))
        return _resized(self._distances(fine)[None], size)

    @torch.no_grad()
    def predict(self, map_: Float[Tensor, "D h w"], *, size: tuple[int, int]) -> Num[Tensor, "H W"]:
        """What lies at every pixel of one picture: class numbers, or distances in metres.

        Args:
            map_: features of the whole picture (`image_maps`).
            size: height and width of the picture, pixels.

        Raises:
            ConfigError: the head is in training mode, where BatchNorm would look at this picture.
            ShapeError, DtypeError: see `forward`.
        """
        if self.training:
            raise ConfigError("The head is in training mode: call head.eval() before predict.")
        values = self.at_pixels(self([map_])[0], size)
        return values.argmax(dim=0) if self.config.task == "segmentation" else values[0]

    def _distances(self, scores: Float[Tensor, "K h w"]) -> Float[Tensor, "h w"]:
        least, greatest = self.config.least_distance, self.config.greatest_distance
        if self.config.distances == "log":
            low, high = torch.tensor([least, greatest], device=scores.device).log()
            distances: Tensor = (low + scores[0].float().sigmoid() * (high - low)).exp()
            return distances
        bins = torch.linspace(least, greatest, self.config.num_bins, device=scores.device)
        weights = scores.float().relu() + BIN_OFFSET
        return torch.einsum("Khw,K->hw", weights / weights.sum(dim=0), bins)

    def _check(self, one: Any, number: int) -> None:
        width = self.config.width
        if not isinstance(one, Tensor) or not one.is_floating_point():
            raise DtypeError(f"maps[{number}] must be a floating point tensor [{width}, h, w].")
        if one.dim() != 3 or one.shape[0] != width:
            raise ShapeError(
                f"maps[{number}] is {list(one.shape)}; this head reads [{width}, h, w], features "
                f"of {self.config.features.encoder or 'another encoder'} with levels "
                f"{list(self.config.features.levels) or 'the last'}."
            )
        if one.device.type == "cpu" and not bool(one.sum(dtype=torch.float64).isfinite()):
            raise DtypeError(f"maps[{number}] holds NaN or infinity. Look at encoder and pixels.")

    # -- files --------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `dense_head.json` and `dense_head.safetensors`, each at once.

        Raises:
            OutputError: the folder cannot be written.
        """
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if name not in _COUNTERS
        }
        with atomic_folder(folder) as temporary:
            text = json.dumps(self.config.model_dump(mode="json"), indent=2, sort_keys=True)
            (temporary / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
            save_file(tensors, temporary / WEIGHTS_NAME, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load a head completely, in evaluation mode, or raise.

        Raises:
            CheckpointNotFoundError: no such folder or file.
            CheckpointFormatError: a file is damaged, or values are NaN or infinite.
            CheckpointMismatchError: the weights do not fit the configuration; all are named.
        """
        source = open_source(folder)
        path = source.require(CONFIG_NAME)
        head = cls(_read_config(path))
        weights = source.require(WEIGHTS_NAME)
        found = read_tensors(weights)
        needed = {name: t for name, t in head.state_dict().items() if name not in _COUNTERS}
        differences = Differences(
            needed=needed,
            found=found,
            missing=sorted(needed.keys() - found.keys()),
            unexpected=sorted(found.keys() - needed.keys()),
            mismatched=sorted(
                name
                for name in needed.keys() & found.keys()
                if (needed[name].shape, needed[name].dtype)
                != (found[name].shape, found[name].dtype)
            ),
        )
        if differences.missing or differences.unexpected or differences.mismatched:
            raise differences.error(network=cls.__name__, where=str(weights))
        for name, tensor in found.items():
            if not bool(tensor.isfinite().all()):
                raise CheckpointFormatError(
                    f"{name!r} in {weights} holds NaN or infinity. Train the head again, or use "
                    "an earlier copy."
                )
        for name, tensor in needed.items():
            tensor.copy_(found[name])
        return head.eval()


def _read_config(path: Path) -> DenseHeadConfig:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointFormatError(f"{path} is too large for a configuration of a head.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointFormatError(f"{path} is no JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointFormatError(f"{path} must hold one JSON object.")
    try:
        return DenseHeadConfig(**values)
    except ConfigError as error:
        raise CheckpointFormatError(f"{path} describes no dense head: {error}") from error


def _resized(maps: Float[Tensor, "K h w"], size: tuple[int, int]) -> Float[Tensor, "K H W"]:
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
