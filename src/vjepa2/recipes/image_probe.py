"""Published settings for still images: ImageNet probes, and linear dense heads.

    imagenet_v2(size)    attentive probe, a still image as a clip of 16 (L) or 18 (g) frames
    imagenet_v2_1()      attentive probe, a still image through the image tokenizer
    ade20k(), voc()      linear segmentation, 512 px
    cityscapes()         linear segmentation, 1024 px
    nyu_depth()          linear depth up to 10 m
    kitti_depth()        linear depth up to 80 m
    davis()              label propagation through videos, nothing is trained

Sources: arXiv:2506.09985 (appendix) and its evaluation configurations for V-JEPA 2;
arXiv:2603.14482 (appendix, dense protocols) for V-JEPA 2.1. Rates, weight decays, sizes and the
settings of propagation are published. Not published, and chosen here: number of epochs, batch and
schedule of the dense heads (DINOv2's are about as long), and the size of pictures for depth.

The two of ImageNet are recipes of `vjepa2 probe`; that of V-JEPA 2 is for ViT-L and ViT-H, and for
ViT-g with `--set views.num_frames=18`.

Training pictures of ImageNet are changed by AutoAugment and mirrored, as published, but changed
before they are cut and not after (`data.auto_augment`), and boxes are resized bilinearly, not
bicubically. The 21st head, whose weight decay falls to 0, is left out.
"""

from typing import Literal

from vjepa2.data.auto_augment import POLICY as AUTO_AUGMENT
from vjepa2.data.views import TrainViewConfig
from vjepa2.errors import check_choice
from vjepa2.features.label_propagation import PropagationConfig
from vjepa2.recipes.video_probe import imagenet
from vjepa2.tasks.dense_config import DenseProbeConfig
from vjepa2.tasks.probe_config import AttentiveProbeConfig

STILL_FRAMES: dict[str, int] = {"L": 16, "H": 16, "g": 18}
SEGMENTATION_LRS = (1.5e-3, 8e-4, 5e-4, 8e-5)
SEGMENTATION_DECAYS = (0.1, 0.01, 1e-4)
DEPTH_LRS = (1.5e-3, 1e-3, 8e-4, 3e-4, 1e-4, 8e-5, 3e-5)
DEPTH_DECAYS = (1e-3, 1e-4)


def imagenet_v2(size: Literal["L", "H", "g"] = "L") -> AttentiveProbeConfig:
    """ImageNet for V-JEPA 2: 20 heads of depth 4 on a clip that stands still, 20 epochs.

    Published top-1: 83.5 (ViT-L 256), 83.8 (ViT-H 256), 84.6 (ViT-g 256).

    Raises:
        ConfigError: no such size.
    """
    check_choice("size", size, STILL_FRAMES)
    config = imagenet()
    return config.model_copy(
        update={
            "recipe": "imagenet_v2",
            "views": config.views.model_copy(update={"num_frames": STILL_FRAMES[size]}),
            "augment": TrainViewConfig(rand_augment=AUTO_AUGMENT, flip=0.5),
        }
    )


def imagenet_v2_1(*, crop_size: int = 384) -> AttentiveProbeConfig:
    """ImageNet for V-JEPA 2.1: the same heads on the tokens of the image tokenizer.

    Published top-1: 84.8 (ViT-g), 85.5 (ViT-G). The published *code* shows it repeated frames and
    loads its weights into the classes of V-JEPA 2, which does not give these numbers.

    Args:
        crop_size: of the image, pixels; the sources do not say which was used.
    """
    config = imagenet_v2()
    views = config.views.model_copy(
        update={"num_frames": 1, "images": "frame", "crop_size": crop_size}
    )
    return config.model_copy(update={"recipe": "imagenet_v2_1", "views": views})


def ade20k() -> DenseProbeConfig:
    """Linear segmentation of ADE20K at 512 px; published mIoU 47.8 (ViT-g), 47.9 (ViT-G)."""
    return _segmentation(512)


def voc() -> DenseProbeConfig:
    """Linear segmentation of VOC at 512 px; published mIoU 84.7 (ViT-g), 85.0 (ViT-G)."""
    return _segmentation(512)


def cityscapes() -> DenseProbeConfig:
    """Linear segmentation of Cityscapes, 1024 px high; published mIoU 71.8 (g), 73.5 (G)."""
    return _segmentation(1024)


def nyu_depth() -> DenseProbeConfig:
    """Linear depth on NYU, up to 10 m; published RMSE 0.350 (ViT-g), 0.307 (ViT-G)."""
    return _depth(10.0, short_side=480)


def kitti_depth() -> DenseProbeConfig:
    """Linear depth on KITTI, up to 80 m; published RMSE 2.601 (ViT-g), 2.461 (ViT-G)."""
    return _depth(80.0, short_side=352)


def davis() -> PropagationConfig:
    """Masks through videos at a short side of 480 px; published J&F 68.1 (g), 69.0 (G)."""
    return PropagationConfig(
        context_frames=15, radius=12, neighbourhood="circle", top_k=5, temperature=0.2
    )


def _segmentation(short_side: int) -> DenseProbeConfig:
    return DenseProbeConfig(
        task="segmentation",
        lrs=SEGMENTATION_LRS,
        weight_decays=SEGMENTATION_DECAYS,
        sizes=(short_side,),
        epochs=20,
        batch_size=16,
    )


def _depth(greatest_distance: float, *, short_side: int) -> DenseProbeConfig:
    return DenseProbeConfig(
        task="depth",
        lrs=DEPTH_LRS,
        weight_decays=DEPTH_DECAYS,
        sizes=(short_side,),
        greatest_distance=greatest_distance,
        epochs=20,
        batch_size=16,
    )
