"""How linear dense heads are trained; see `dense_probe`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.errors import ConfigError
from vjepa2.models.dense import DenseTask
from vjepa2.strict_config import StrictConfig


class DenseProbeConfig(StrictConfig):
    """How dense heads are trained.

    Attributes:
        task: "segmentation" or "depth".
        lrs, weight_decays: one head for every pair.
        sizes: short sides of the pictures as the encoder sees them, pixels; each use of a picture
            draws one. The first is the one that heads are compared at.
        mirror: probability that a picture is mirrored in training.
        epochs, batch_size: passes over the pictures; pictures of an update.
        warmup_share: share of the updates in which rates rise; they then fall to 0 along half a
            cosine.
        only_mean_steps: updates in which the loss of distances leaves the variance out.
        seed: of weights, order, sizes and mirroring.
        norm, distances, num_bins, least_distance, greatest_distance, ignored_class: of the heads,
            see `DenseHeadConfig`.
        levels, num_frames: of the features, see `FeatureSource`.
        cache_bytes: of features and labels in memory, for training and validation each.
        checkpoint_every: updates.
    """

    task: DenseTask
    lrs: tuple[float, ...] = (1e-3,)
    weight_decays: tuple[float, ...] = (1e-3,)
    sizes: tuple[int, ...] = Field((512,), min_length=1)
    mirror: float = Field(0.5, ge=0, le=1)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1)
    warmup_share: float = Field(0.05, ge=0, le=1)
    only_mean_steps: int = Field(100, ge=0)
    seed: int = Field(0, ge=0, lt=2**31)
    norm: Literal["batch", "layer", "none"] = "batch"
    distances: Literal["bins", "log"] = "bins"
    num_bins: int = Field(256, ge=2)
    least_distance: float = Field(1e-3, gt=0)
    greatest_distance: float = Field(10.0, gt=0)
    ignored_class: int = Field(255, ge=0)
    levels: tuple[int, ...] = ()
    num_frames: int | None = Field(None, ge=1)
    cache_bytes: int = Field(2 << 30, ge=0)
    checkpoint_every: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name in ("lrs", "weight_decays"):
            values = getattr(self, name)
            if not values or min(values) < 0 or len(set(values)) < len(values):
                raise ConfigError(f"{name} must be different numbers of 0 or more, got {values}")
        if min(self.lrs) == 0:
            raise ConfigError("a learning rate of 0 learns nothing")
        if min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"sizes must be different numbers above 0, got {self.sizes}")
        return self

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Learning rate and weight decay of every head."""
        return [(lr, decay) for lr in self.lrs for decay in self.weight_decays]
