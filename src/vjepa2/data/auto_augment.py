"""AutoAugment for still images: one of 25 learned pairs of operations, drawn for each clip.

Policy "autoaugment-imagenet", that of the published ImageNet probes (timm's "original"). Every
operation of the drawn pair has a probability and a strength of 0 to 10; rotation and shear have a
random sign. Pixels from outside the frame have the mean colour of ImageNet; geometry is bicubic.
Operations are those of `rand_augment`, of which two go the other way: a higher strength keeps more
bits, and leaves more levels as they are.

Different from the published training: operations see the whole frame before it is cut and
mirrored, as those of videos do, not the cut one.

Source: Cubuk et al. 2018, arXiv 1805.09501, table 9 (ImageNet).
"""

from typing import Protocol

from vjepa2.data.draws import Draws
from vjepa2.data.rand_augment import Operation, RandAugment, operation_value

POLICY = "autoaugment-imagenet"
MEAN_COLOUR = (124, 116, 104)
MAX_STRENGTH = 10

# Name, probability and strength of both operations of a pair.
PAIRS: tuple[tuple[tuple[str, float, int], ...], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)


class Policy(Protocol):
    """How operations are drawn."""

    def draw(self, draws: Draws) -> tuple[Operation, ...]:
        """What happens to one clip; empty where nothing does."""
        ...


class AutoAugment:
    """Draws a pair, every pair alike likely, and of it what is applied."""

    def draw(self, draws: Draws) -> tuple[Operation, ...]:
        """See `Policy`."""
        pair = PAIRS[draws.below(len(PAIRS))]
        operations = []
        for name, probability, strength in pair:
            applies = draws.uniform() < probability
            sign = 1 if draws.uniform() < 0.5 else -1
            if applies:
                value = _value(name, strength, sign=sign)
                operations.append(Operation(name, value, fill=MEAN_COLOUR))
        return tuple(operations)


def policy_of(text: str) -> Policy:
    """Read a policy by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    return AutoAugment() if text == POLICY else RandAugment.from_policy(text)


def _value(name: str, strength: int, *, sign: int) -> float:
    """See `Operation.value`."""
    share = strength / MAX_STRENGTH
    if name == "Posterize":
        return 4 + int(share * 4)
    if name == "Solarize":
        return int(share * 256)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return 0.1 + share * 1.8
    return operation_value(name, share, sign=sign)
