"""Understand, predict and act from video with V-JEPA 2.

Public names are imported when they are first used (PEP 562), so `import vjepa2` is quick and does
not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from vjepa2._version import __version__

if TYPE_CHECKING:
    from vjepa2.errors import VJEPAError
    from vjepa2.features.classify import classify
    from vjepa2.features.embed import embed
    from vjepa2.models.action_model import VJEPA2ActionModel
    from vjepa2.models.auto import (
        AutoConfig,
        AutoModel,
        AutoModelForVideoClassification,
        AutoProcessor,
        AutoVideoProcessor,
    )
    from vjepa2.models.classification import VJEPA2ForVideoClassification
    from vjepa2.models.configuration import VJEPA2Config
    from vjepa2.models.probe import VJEPA2AttentiveProbe
    from vjepa2.models.vjepa2 import VJEPA2Model
    from vjepa2.video.frames import Frames
    from vjepa2.video.processor import VJEPA2VideoProcessor
    from vjepa2.video.reader import VideoReader

# Public name -> module it lives in. The one place to register a public name.
_LOCATIONS = {
    "AutoConfig": "vjepa2.models.auto",
    "AutoModel": "vjepa2.models.auto",
    "AutoModelForVideoClassification": "vjepa2.models.auto",
    "AutoProcessor": "vjepa2.models.auto",
    "AutoVideoProcessor": "vjepa2.models.auto",
    "Frames": "vjepa2.video.frames",
    "VJEPA2ActionModel": "vjepa2.models.action_model",
    "VJEPA2AttentiveProbe": "vjepa2.models.probe",
    "VJEPA2Config": "vjepa2.models.configuration",
    "VJEPA2ForVideoClassification": "vjepa2.models.classification",
    "VJEPA2Model": "vjepa2.models.vjepa2",
    "VJEPA2VideoProcessor": "vjepa2.video.processor",
    "VJEPAError": "vjepa2.errors",
    "VideoReader": "vjepa2.video.reader",
    "classify": "vjepa2.features.classify",
    "embed": "vjepa2.features.embed",
}

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForVideoClassification",
    "AutoProcessor",
    "AutoVideoProcessor",
    "Frames",
    "VJEPA2ActionModel",
    "VJEPA2AttentiveProbe",
    "VJEPA2Config",
    "VJEPA2ForVideoClassification",
    "VJEPA2Model",
    "VJEPA2VideoProcessor",
    "VJEPAError",
    "VideoReader",
    "__version__",
    "classify",
    "embed",
]


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'vjepa2' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LOCATIONS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
