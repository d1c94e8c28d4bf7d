"""Videos that are not in colour: any number of channels, from array files.

Files are `.npy`, `.npz` or `.safetensors` of [T, C, H, W], [T, H, W, C] or [T, H, W]. Set
`augment.mean` and `augment.std` to those of your data, after division by `augment.pixel_max`.
"""

from vjepa2.data.settings import AugmentConfig
from vjepa2.recipes.pretrain.small import one_gpu_weekend
from vjepa2.tasks.pretrain_config import PretrainConfig


def satellite_12_bands() -> PretrainConfig:
    """Time series of 12-band satellite pictures (such as Sentinel-2 reflectance, 0..10,000)."""
    return _with_channels("satellite_12_bands", 12, mean=0.15, std=0.1, pixel_max=10_000.0)


def ultrasound() -> PretrainConfig:
    """One grey channel, such as ultrasound; colour videos are read as grey."""
    return _with_channels("ultrasound", 1, mean=0.2, std=0.2, pixel_max=255.0)


def _with_channels(
    name: str, channels: int, *, mean: float, std: float, pixel_max: float
) -> PretrainConfig:
    base = one_gpu_weekend().model_dump()
    base["network"]["in_chans"] = channels
    return PretrainConfig(
        **{
            **base,
            "recipe": name,
            "augment": AugmentConfig(
                mean=(mean,) * channels, std=(std,) * channels, pixel_max=pixel_max
            ),
        }
    )
