"""Still images to tokens, in the way of each generation of encoders.

    V-JEPA 2.1   one frame, through the image tokenizer            1 x h x w tokens
    V-JEPA 2     a clip that stands still: the frame, repeated     T/2 x h x w tokens

V-JEPA 2 has no embedding for images; its ImageNet results are from clips of 16 (ViT-L) or 18
(ViT-g) equal frames (arXiv:2506.09985, appendix). V-JEPA 2.1 was trained on images as such
(arXiv:2603.14482, appendix C.5), so a repeated frame is not what it knows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import DtypeError, ShapeError, checked_integer, described
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder

STILL_FRAMES = 16
"""Frames of a clip that stands still, where nothing else is asked for (published for ViT-L)."""
MAX_STILL_FRAMES = 1 << 10


def still_frames(config: VJEPA2Config, num_frames: int | None = None) -> int:
    """How many equal frames an image is shown as.

    Args:
        config: of the encoder.
        num_frames: None for the way the encoder knows: 1 for V-JEPA 2.1, `STILL_FRAMES` for
            V-JEPA 2.

    Raises:
        ConfigError: not a number from 1 to 1024.
    """
    if num_frames is None:
        return 1 if config.model_type == "vjepa2_1" else STILL_FRAMES
    return checked_integer("num_frames", num_frames, least=1, most=MAX_STILL_FRAMES)


def still_clips(
    images: Float[Tensor, "B C H W"], config: VJEPA2Config, *, num_frames: int | None = None
) -> Float[Tensor, "B T C H W"]:
    """Images as clips that an encoder of this configuration takes; no pixel is copied.

    Raises:
        ShapeError, DtypeError: `images` are no tensor [B, C, H, W].
        ConfigError: see `still_frames`.
    """
    if not isinstance(images, Tensor):
        raise DtypeError(
            f"images must be a tensor of normalised pixels [B, C, H, W], got {described(images)}."
        )
    if images.dim() != 4:
        hint = " Add the batch axis: x[None]." if images.dim() == 3 else ""
        raise ShapeError(f"images must be [B, C, H, W], got {list(images.shape)}.{hint}")
    return images[:, None].expand(-1, still_frames(config, num_frames), -1, -1, -1)


def image_tokens(
    encoder: VJEPA2Encoder,
    images: Float[Tensor, "B C H W"],
    *,
    num_frames: int | None = None,
    output_levels: Sequence[int] = (),
) -> tuple[Float[Tensor, "B N D"], ...]:
    """Tokens of still images, as a probe reads them.

    Args:
        encoder: of V-JEPA 2 or 2.1; its mode and whether gradients flow are the caller's.
        images: [B, C, H, W] normalised pixels, of any height and width of at least a patch.
        num_frames: see `still_frames`.
        output_levels: blocks (0-based) whose normed tokens to return; () for the last.

    Returns:
        One tensor per level; N is h * w for V-JEPA 2.1, (T / 2) * h * w for V-JEPA 2. Hand them
        to `VJEPA2AttentiveProbe` as they are.

    Raises:
        ShapeError, DtypeError, ConfigError, InputError: see `still_clips` and
            `VJEPA2Encoder.forward`.
    """
    clips = still_clips(images, encoder.config, num_frames=num_frames)
    encoded = encoder(clips, output_levels=output_levels)
    return encoded.level_hidden_states or (encoded.last_hidden_state,)


def image_maps(
    encoder: VJEPA2Encoder,
    images: Float[Tensor, "B C H W"],
    *,
    num_frames: int | None = None,
    output_levels: Sequence[int] = (),
) -> Float[Tensor, "B LD h w"]:
    """Tokens of still images laid out as they lie in the picture, for dense heads and propagation.

    Of a clip that stands still the mean over its steps is taken; levels lie side by side in the
    channels. Arguments and errors as in `image_tokens`. Border pixels that fill no patch are not
    seen: give whole patches (`vjepa2.video.whole_frames`).
    """
    levels = image_tokens(encoder, images, num_frames=num_frames, output_levels=output_levels)
    grid = encoder.grid(still_clips(images, encoder.config, num_frames=num_frames))
    maps = [level.unflatten(1, grid).mean(dim=1).permute(0, 3, 1, 2) for level in levels]
    return torch.cat(maps, dim=1)
