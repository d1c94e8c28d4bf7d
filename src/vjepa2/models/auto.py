"""Auto classes: the port's generic names for the one architecture of this package.

`AutoModel.from_pretrained(...)` is `VJEPA2Model.from_pretrained(...)`, with the same arguments,
and so on: scripts written for the port change only their import line. As there, `AutoModel` takes
the base part of a classifier's checkpoint. A checkpoint of another architecture is refused by name
where its `config.json` is read.

    AutoConfig                        VJEPA2Config
    AutoModel                         VJEPA2Model
    AutoModelForVideoClassification   VJEPA2ForVideoClassification
    AutoVideoProcessor, AutoProcessor VJEPA2VideoProcessor
"""

from typing import NoReturn

from vjepa2.errors import ConfigError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.video.processor import VJEPA2VideoProcessor


class _Auto:
    """A name for class methods only."""

    def __init__(self, *arguments: object) -> None:
        _refuse(type(self).__name__)


def _refuse(name: str) -> NoReturn:
    raise ConfigError(
        f"{name} is not made by calling it. Use {name}.from_pretrained(folder_or_hub_name)."
    )


class AutoConfig(_Auto):
    """Reads a `VJEPA2Config`."""

    from_pretrained = VJEPA2Config.from_pretrained


class AutoModel(_Auto):
    """Makes a `VJEPA2Model`."""

    from_pretrained = VJEPA2Model.from_pretrained
    from_config = VJEPA2Model.from_config


class AutoModelForVideoClassification(_Auto):
    """Makes a `VJEPA2ForVideoClassification`."""

    from_pretrained = VJEPA2ForVideoClassification.from_pretrained
    from_config = VJEPA2ForVideoClassification.from_config


class AutoVideoProcessor(_Auto):
    """Reads a `VJEPA2VideoProcessor`."""

    from_pretrained = VJEPA2VideoProcessor.from_pretrained


class AutoProcessor(_Auto):
    """Reads a `VJEPA2VideoProcessor`; the port's other name of the same."""

    from_pretrained = VJEPA2VideoProcessor.from_pretrained
