"""Pictures of features: the three directions in which tokens differ most, as red, green and blue.

Tokens [N, D] are centred and projected onto their three principal components (largest variance
first); each projection becomes one colour channel. Tokens that the encoder describes alike get like
colours, in all frames of the clip, because all tokens share one projection. Colours have no meaning
of their own and cannot be compared between videos.

The sign of a principal component is arbitrary, and solvers differ in it; here it is fixed from the
data (`_signs`), so that the same features give the same colours everywhere.
"""

import base64
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vjepa2.errors import ShapeError
from vjepa2.shapes import TokenGrid
from vjepa2.video.container import import_av
from vjepa2.video.processor import VJEPA2VideoProcessor

NUM_COLOURS = 3

# The darkest and brightest share of the tokens are cut off, so that single outliers do not make
# everything else grey.
CLIPPED_SHARE = 0.02

MIDDLE_GREY = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourMaps:
    """The colours of the tokens of one clip.

    Attributes:
        maps: uint8 [t, 3, h, w], one small picture a step, one pixel a token.
        shares: for red, green and blue, the share of the tokens' variance it shows, 0..1.
    """

    maps: UInt8[Tensor, "t 3 h w"]
    shares: tuple[float, float, float]


def colour_maps(tokens: Float[Tensor, "N D"], grid: TokenGrid) -> ColourMaps:
    """Colour the tokens of one clip by their three main directions.

    Args:
        tokens: of any floating type, ordered time, row, column.
        grid: with N = t * h * w.

    Raises:
        ShapeError: the number of tokens is not that of the grid.
    """
    if tokens.ndim != 2 or tokens.shape[0] != grid.num_tokens:
        raise ShapeError(
            f"Expected tokens [N={grid.num_tokens}, D] of the grid {tuple(grid)}, "
            f"got {list(tokens.shape)}."
        )
    colours, shares = ColourScale.of(tokens)
    return ColourMaps(maps=colours.maps(tokens, grid), shares=shares)


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourScale:
    """Which direction is which colour, fitted to some tokens; others can be shown in it too.

    Attributes:
        mean: [D] of the tokens it was fitted to.
        directions: [D, 3], their main directions, signs chosen.
        low, span: [3], what is black, and how much further is full brightness.
        varies: [3], False where the tokens do not differ: such a channel is middle grey.
    """

    mean: Float[Tensor, "D"]
    directions: Float[Tensor, "D 3"]
    low: Float[Tensor, "3"]
    span: Float[Tensor, "3"]
    varies: Bool[Tensor, "3"]

    @classmethod
    def of(cls, tokens: Float[Tensor, "N D"]) -> tuple["ColourScale", tuple[float, float, float]]:
        """The scale of these tokens, and the share of their variance in each colour."""
        values = tokens.detach().cpu().double()
        mean = values.mean(dim=0)
        values = values - mean
        # Eigenvectors of the covariance: unlike a randomised solver this needs no seed, and unlike
        # an SVD of all tokens its cost hardly grows with their number.
        variances, directions = torch.linalg.eigh(values.T @ values)
        variances, directions = variances.flip(0).clamp(min=0), directions.flip(1)
        directions = directions[:, :NUM_COLOURS]
        scores = values @ directions
        signs = _signs(scores)
        total = float(variances.sum())
        shares = [float(value) / total if total > 0 else 0.0 for value in variances[:NUM_COLOURS]]
        ends = torch.tensor([CLIPPED_SHARE, 1 - CLIPPED_SHARE], dtype=scores.dtype)
        low, high = torch.quantile(scores * signs, ends, dim=0)
        smallest = 1e-9 * total**0.5
        scale = cls(
            mean=mean,
            directions=directions * signs,
            low=low,
            span=(high - low).clamp(min=smallest or 1.0),
            varies=high - low > smallest,
        )
        return scale, (shares[0], shares[1], shares[2])

    def maps(self, tokens: Float[Tensor, "N D"], grid: TokenGrid) -> UInt8[Tensor, "t 3 h w"]:
        """One small picture a step, one pixel a token; see `ColourMaps.maps`."""
        values = tokens.detach().cpu().double() - self.mean
        stretched = ((values @ self.directions - self.low) / self.span).clamp(0, 1)
        channels = torch.where(self.varies, stretched, torch.full_like(stretched, MIDDLE_GREY))
        maps = channels.T.reshape(NUM_COLOURS, *grid).permute(1, 0, 2, 3)
        return (maps * 255).round().to(torch.uint8).contiguous()


def _signs(scores: Float[Tensor, "N 3"]) -> Float[Tensor, "3"]:
    """The sign of each column by its third moment: the longer tail becomes bright.

    A symmetric column has no longer tail; there its first value of the largest size decides.
    """
    third = scores.pow(3).sum(dim=0)
    scale = scores.abs().pow(3).sum(dim=0)
    largest = scores.gather(0, scores.abs().argmax(dim=0, keepdim=True))[0]
    decides = torch.where(third.abs() > 1e-6 * scale, third, largest)
    return torch.where(decides < 0, -1.0, 1.0).to(scores.dtype)


def enlarge(maps: UInt8[Tensor, "t 3 h w"], *, height: int, width: int) -> UInt8[Tensor, "t 3 H W"]:
    """Maps at another size; a token stays a sharp square, which is the part it stands for."""
    return F.interpolate(maps, size=(height, width), mode="nearest-exact")


def overlay(
    frames: UInt8[Tensor, "t 3 H W"], maps: UInt8[Tensor, "t 3 h w"], *, strength: float = 0.6
) -> UInt8[Tensor, "t 3 H W"]:
    """Lay colour maps over the grey picture of their frames.

    Args:
        frames: one frame per step, RGB.
        maps: the colours of the same steps.
        strength: 0 shows the grey frames, 1 the colours alone.

    Raises:
        ShapeError: another number of frames than of maps.
    """
    if len(frames) != len(maps):
        raise ShapeError(f"Expected a frame for each of {len(maps)} maps, got {len(frames)}.")
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601 luma
    grey = (frames.float() * weights).sum(dim=1, keepdim=True)
    colour = enlarge(maps, height=frames.shape[2], width=frames.shape[3]).float()
    return torch.lerp(grey.expand_as(colour), colour, strength).round().to(torch.uint8)


def shown_frames(
    pixels: Float[Tensor, "1 T 3 h w"], processor: VJEPA2VideoProcessor
) -> UInt8[Tensor, "T 3 h w"]:
    """The frames as the network sees them, before they were normalised: uint8 RGB, 0..255."""
    values = pixels[0].detach().float().cpu()
    if processor.do_normalize:
        mean, std = (
            torch.tensor(numbers).view(-1, 1, 1)
            for numbers in (processor.image_mean, processor.image_std)
        )
        values = values * std + mean
    if processor.do_rescale:
        values = values / processor.rescale_factor
    return values.round().clamp(0, 255).to(torch.uint8)


def encode_png(image: UInt8[Tensor, "3 H W"]) -> bytes:
    """The bytes of a PNG file.

    Raises:
        ShapeError: `image` is not uint8 [3, H, W].
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise ShapeError(
            f"A picture must be uint8 [3, H, W], got {image.dtype} {list(image.shape)}."
        )
    av = import_av()
    pixels = image.permute(1, 2, 0).contiguous().cpu().numpy()
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "rgb24"
    codec.time_base = Fraction(1)
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def data_uri(data: bytes, *, kind: str) -> str:
    """Bytes as an address that a page can hold inside itself; `kind` is a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
