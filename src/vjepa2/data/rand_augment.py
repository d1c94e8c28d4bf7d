"""RandAugment for clips: the same operations, at the same strength, on all frames of a clip.

Operations are Pillow's: the published ones are calls of Pillow, so that nothing else is exact.

Policy "rand-m7-n4-mstd0.5-inc1": four operations are drawn with replacement out of `OPERATIONS`;
each is applied with probability one half, at a strength drawn from N(7, 0.5), cut to 0 .. 10, and
with a random sign where it has one. Pixels from outside the frame are grey (128); geometry is
bicubic.

Source: Cubuk et al. 2019, arXiv 1909.13719; V-JEPA 2, `src/datasets/utils/video/randaugment.py`
(list "increasing": a higher strength always changes more).
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from jaxtyping import UInt8

from vjepa2.data.draws import Draws
from vjepa2.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

OPERATIONS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness"),
    *("ShearX", "ShearY", "TranslateX", "TranslateY"),
)
GREY = (128, 128, 128)
PROBABILITY = 0.5
MAX_STRENGTH = 10.0
MAX_DEGREES = 30.0
MAX_SHEAR = 0.3
MAX_SHIFT = 0.45  # of the side of the frame
MAX_ENHANCEMENT = 0.9
MAX_ADDED = 110
ADDED_BELOW = 128
_POLICY = re.compile(r"rand-m(\d+(?:\.\d+)?)-n(\d+)(?:-mstd(\d+(?:\.\d+)?))?-inc1")


class Operation(NamedTuple):
    """One operation as it is applied to every frame of a clip.

    Attributes:
        name: one of `OPERATIONS`.
        value: degrees, factor, share of the side, grey level or bits; 0 for those without one.
        fill: colour of pixels from outside the frame.
    """

    name: str
    value: float
    fill: tuple[int, int, int] = GREY


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """How operations are drawn.

    Attributes:
        strength: mean, 0 to 10.
        num_operations: drawn for each clip.
        deviation: of the strength.
    """

    strength: float
    num_operations: int
    deviation: float

    @classmethod
    def from_policy(cls, policy: str) -> Self:
        """Read a policy such as "rand-m7-n4-mstd0.5-inc1".

        Raises:
            ConfigError: it has another form, or a strength above 10.
        """
        found = _POLICY.fullmatch(policy)
        if found is None or float(found[1]) > MAX_STRENGTH or not 1 <= int(found[2]) <= 16:
            raise ConfigError(
                f"rand_augment={policy[:60]!r} is no policy that can be drawn from: allowed is "
                "rand-mM-nN-mstdS-inc1 with strength M of 0 to 10, N of 1 to 16 operations and, if "
                "wanted, deviation S; published is rand-m7-n4-mstd0.5-inc1, for still "
                "images autoaugment-imagenet. None turns it off."
            )
        return cls(
            strength=float(found[1]),
            num_operations=int(found[2]),
            deviation=float(found[3] or 0),
        )

    def draw(self, draws: Draws) -> tuple[Operation, ...]:
        """Draw what happens to one clip; empty where nothing does."""
        names = [OPERATIONS[draws.below(len(OPERATIONS))] for _ in range(self.num_operations)]
        operations = []
        for name in names:
            applies = draws.uniform() < PROBABILITY
            strength = self.strength + self.deviation * float(draws.normal((1,))[0])
            sign = 1 if draws.uniform() < 0.5 else -1
            if applies:
                share = min(max(strength / MAX_STRENGTH, 0.0), 1.0)
                operations.append(Operation(name, operation_value(name, share, sign=sign)))
        return tuple(operations)


def operation_value(name: str, share: float, *, sign: int) -> float:
    """Return what a strength means for an operation.

    Args:
        name: one of `OPERATIONS`.
        share: strength over the greatest one, 0 to 1.
        sign: 1 or -1; counts for operations that go both ways.

    Returns:
        See `Operation.value`.
    """
    if name == "Rotate":
        return sign * share * MAX_DEGREES
    if name == "Posterize":
        return 4 - int(share * 4)
    if name == "Solarize":
        return 256 - int(share * 256)
    if name == "SolarizeAdd":
        return int(share * MAX_ADDED)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return 1 + sign * share * MAX_ENHANCEMENT
    if name in ("ShearX", "ShearY"):
        return sign * share * MAX_SHEAR
    if name in ("TranslateX", "TranslateY"):
        return sign * share * MAX_SHIFT
    return 0.0


def apply_operations(
    frames: UInt8[np.ndarray, "T H W 3"], operations: tuple[Operation, ...]
) -> UInt8[np.ndarray, "T H W 3"]:
    """Apply operations, one after the other, to each frame.

    Raises:
        MissingExtraError: Pillow is missing.
    """
    if not operations:
        return frames
    check_pillow()
    from PIL import Image

    result = np.empty(frames.shape, dtype=np.uint8)
    for frame, out in zip(frames, result, strict=True):
        image = Image.fromarray(np.ascontiguousarray(frame))
        for operation in operations:
            image = _applied(image, operation)
        out[...] = np.asarray(image)
    return result


def _applied(image: "Image", operation: Operation) -> "Image":
    from PIL import ImageEnhance, ImageOps

    name, value, fill = operation
    if name == "AutoContrast":
        return ImageOps.autocontrast(image)
    if name == "Equalize":
        return ImageOps.equalize(image)
    if name == "Invert":
        return ImageOps.invert(image)
    if name == "Posterize":
        kept = -1 << (8 - int(value))  # Pillow's own refuses to keep no bits, in newer releases
        return image.point([level & kept for level in range(256)] * 3)
    if name == "Solarize":
        return ImageOps.solarize(image, int(value))
    if name == "SolarizeAdd":
        levels = [min(255, i + int(value)) if i < ADDED_BELOW else i for i in range(256)]
        return image.point(levels * 3)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        enhancer = getattr(ImageEnhance, name)(image)
        enhanced: Image = enhancer.enhance(value)
        return enhanced
    return _moved(image, name, value, fill=fill)


def _moved(image: "Image", name: str, value: float, *, fill: tuple[int, int, int]) -> "Image":
    """Operations that move pixels."""
    from PIL.Image import Resampling, Transform

    if name == "Rotate":
        return image.rotate(value, resample=Resampling.BICUBIC, fillcolor=fill)
    matrix = {
        "ShearX": (1, value, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, value, 1, 0),
        "TranslateX": (1, 0, value * image.width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, value * image.height),
    }[name]
    return image.transform(
        image.size, Transform.AFFINE, matrix, resample=Resampling.BICUBIC, fillcolor=fill
    )


def check_pillow() -> None:
    """Raise `MissingExtraError` with the install line where Pillow is missing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "pillow", extra="train", needed_for="RandAugment", reason=str(error)
        ) from error
