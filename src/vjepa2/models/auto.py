"""Auto classes: the port's generic names for the architectures of this package.

`AutoModel.from_pretrained(...)` is `VJEPA2Model.from_pretrained(...)`, with the same arguments,
and so on: scripts written for the port change only their import line. As there, `AutoModel` takes
the base part of a classifier's checkpoint. A configuration of V-JEPA 2-AC makes its own class.
A checkpoint of another architecture is refused by name where its `config.json` is read.

    AutoConfig                        VJEPA2Config
    AutoModel                         VJEPA2Model, or VJEPA2ActionModel for "vjepa2_ac"
    AutoModelForVideoClassification   VJEPA2ForVideoClassification
    AutoVideoProcessor, AutoProcessor VJEPA2VideoProcessor
"""

import os
from typing import Any, NoReturn

from vjepa2.errors import ConfigError, check_option_names, check_path
from vjepa2.models.action_model import VJEPA2ActionModel
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


class _ByConfig(VJEPA2Model):
    """Lends its class methods to `AutoModel`; calling it makes what the configuration names.

    The roads from files call `cls(config)` once they have read the configuration, so choosing
    there leaves one signature and one order of checks. No instance of this class ever exists.
    """

    # Of every class it may make; accelerate ignores names that a model does not have.
    _no_split_modules = VJEPA2ActionModel._no_split_modules

    def __new__(cls, config: VJEPA2Config) -> VJEPA2Model | VJEPA2ActionModel:  # type: ignore[misc]
        is_action_model = getattr(config, "model_type", None) == "vjepa2_ac"
        return VJEPA2ActionModel(config) if is_action_model else VJEPA2Model(config)


class AutoModel(_Auto):
    """Makes a `VJEPA2Model` or, for `model_type` "vjepa2_ac", a `VJEPA2ActionModel`."""

    from_pretrained = _ByConfig.from_pretrained
    from_config = _ByConfig.from_config


_ByConfig.__name__ = AutoModel.__name__  # in messages


class AutoModelForVideoClassification(_Auto):
    """Makes a `VJEPA2ForVideoClassification`."""

    from_pretrained = VJEPA2ForVideoClassification.from_pretrained
    from_config = VJEPA2ForVideoClassification.from_config


class AutoVideoProcessor(_Auto):
    """Reads a `VJEPA2VideoProcessor`."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        **overrides: Any,
    ) -> VJEPA2VideoProcessor:
        """As `VJEPA2VideoProcessor.from_pretrained`; also by the name of a published model.

        Published original files come without one: frames of the model's size, everything else as
        for the converted models.
        """
        check_path("name_or_folder", name_or_folder)
        if published := VJEPA2Config.of_published(name_or_folder):
            check_option_names(
                f"{cls.__name__}.from_pretrained", overrides, VJEPA2VideoProcessor.model_fields
            )
            side = published.crop_size
            return VJEPA2VideoProcessor(
                **{"crop_size": {"height": side, "width": side}, **overrides}
            )
        return VJEPA2VideoProcessor.from_pretrained(
            name_or_folder,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            subfolder=subfolder,
            **overrides,
        )


class AutoProcessor(_Auto):
    """Reads a `VJEPA2VideoProcessor`; the port's other name of the same."""

    from_pretrained = AutoVideoProcessor.from_pretrained
