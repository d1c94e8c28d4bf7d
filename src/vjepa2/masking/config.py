"""Settings of the mask generator."""

from typing import Literal, Self

from pydantic import Field, model_validator

from vjepa2.strict_config import StrictConfig

MAX_ASPECT_RATIO = 1000.0


class MaskConfig(StrictConfig):
    """One way of masking; a run uses several on every clip.

    Attributes:
        num_blocks: blocks per sample, at most 1024; they may overlap.
        spatial_scale: share of a time step's tokens that a block covers, drawn in this range.
        temporal_scale: share of the time steps that a block covers, drawn in this range.
        aspect_ratio: height over width of a block, drawn evenly in this range, within 1/1000 and
            1000.
        max_temporal_keep: time steps after this share of them are all hidden.
        max_context: context tokens per sample at most, the first ones; None: no limit.
        complement: after truncation, "targets" makes every token outside the context a target,
            "context" every token outside the targets context; "none" leaves cut tokens unused.
        min_context: share of all tokens that a sample's context has at least; one token in any
            case. Samples below are drawn anew, and repaired if that does not help.
        min_target: the same of the targets.
        inverted: in the end, what the blocks cover is the context and the rest the target. The
            other options are worded as if it were off.
    """

    num_blocks: int = Field(default=8, ge=1, le=1024)
    spatial_scale: tuple[float, float] = (0.15, 0.15)
    temporal_scale: tuple[float, float] = (1.0, 1.0)
    aspect_ratio: tuple[float, float] = (0.75, 1.5)
    max_temporal_keep: float = Field(default=1.0, gt=0, le=1)
    max_context: int | None = Field(default=None, ge=1)
    complement: Literal["none", "targets", "context"] = "none"
    min_context: float = Field(default=0.0, ge=0, lt=1)
    min_target: float = Field(default=0.0, ge=0, lt=1)
    inverted: bool = False

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> Self:
        for name in ("spatial_scale", "temporal_scale", "aspect_ratio"):
            low, high = getattr(self, name)
            most = MAX_ASPECT_RATIO if name == "aspect_ratio" else 1.0
            if not 0 < low <= high <= most:
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high <= {most:g}")
        if self.aspect_ratio[0] < 1 / MAX_ASPECT_RATIO:
            raise ValueError(f"aspect_ratio must not be below {1 / MAX_ASPECT_RATIO:g}")
        if self.min_context + self.min_target > 1:
            raise ValueError("min_context and min_target together are more than all tokens")
        return self


def published_masks() -> tuple[MaskConfig, ...]:
    """Short and long range; every clip is trained with both (arXiv:2506.09985, appendix)."""
    return (
        MaskConfig(num_blocks=8, spatial_scale=(0.15, 0.15)),
        MaskConfig(num_blocks=2, spatial_scale=(0.7, 0.7)),
    )


def image_masks() -> tuple[MaskConfig, ...]:
    """The mask of still images in V-JEPA 2.1 (arXiv:2603.14482)."""
    return (MaskConfig(num_blocks=10, spatial_scale=(0.15, 0.15)),)
