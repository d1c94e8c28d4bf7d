"""Clip to tokens: non-overlapping tubelets, one linear map each (V-JEPA 2, section 2.1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vjepa2.errors import ShapeError
from vjepa2.nn.watch import is_watched
from vjepa2.shapes import TokenGrid


class PatchEmbed3D(nn.Module):
    """Cut a clip into tubelets and embed each.

    The weight has the shape of a Conv3d (the published name and layout), but stride equals
    kernel, so the convolution is a matrix product over cut patches. On CPU that is
    quicker than PyTorch's Conv3d, in bfloat16 by far.
    """

    def __init__(self, in_chans: int, dim: int, *, patch_size: int, tubelet_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size
        kernel = (tubelet_size, patch_size, patch_size)
        self.proj = nn.Conv3d(in_chans, dim, kernel_size=kernel, stride=kernel)

    def grid(self, num_frames: int, height: int, width: int) -> TokenGrid:
        """Token grid of a clip. Trailing frames and border pixels that fill no tubelet drop out.

        A clip shorter than one tubelet counts as one (its last frame is repeated).
        """
        grid = TokenGrid(
            max(1, num_frames // self.tubelet_size),
            height // self.patch_size,
            width // self.patch_size,
        )
        if num_frames < 1 or grid.num_tokens < 1:
            raise ShapeError(
                f"Got a clip of {num_frames} frames of {height}x{width} pixels; at least 1 frame "
                f"of {self.patch_size}x{self.patch_size} pixels is needed for one token."
            )
        return grid

    def forward(
        self,
        pixels: Float[Tensor, "B T C H W"],
        keep_ids: Int[Tensor, "B K"] | Int[Tensor, " total"] | None = None,
    ) -> Float[Tensor, "B2 N D"]:
        """Embed tubelets in the order time, row, column.

        Args:
            pixels: normalised pixels.
            keep_ids: int64 ids of the tubelets to embed, in their order; default: all. Ids
                [total] count through the clips one after the other and give [1, total, D].
        """
        _, num_frames, _, height, width = pixels.shape
        t, h, w = self.grid(num_frames, height, width)
        if num_frames < self.tubelet_size:
            last = pixels[:, -1:].expand(-1, self.tubelet_size - num_frames, -1, -1, -1)
            pixels = torch.cat([pixels, last], dim=1)
        if type(self.proj) is not nn.Conv3d or is_watched(self.proj):
            # An adapter in its place, or a hook: the module itself has to run.
            tokens = self.proj(pixels.transpose(1, 2)).flatten(2).transpose(1, 2)
            return tokens if keep_ids is None else _pick(tokens, keep_ids)
        p, tubelet = self.patch_size, self.tubelet_size
        pixels = pixels[:, : t * tubelet, :, : h * p, : w * p]
        patches = (
            pixels.unflatten(1, (t, tubelet))
            .unflatten(-2, (h, p))
            .unflatten(-1, (w, p))
            # B t u C h p w q -> B (t h w) (C u p q), the order of the convolution's weight
            .permute(0, 1, 4, 6, 3, 2, 5, 7)
            .flatten(4)
            .flatten(1, 3)
        )
        if keep_ids is not None:
            patches = _pick(patches, keep_ids)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def _pick(
    rows: Float[Tensor, "B N D"], ids: Int[Tensor, "B K"] | Int[Tensor, " total"]
) -> Float[Tensor, "B2 K D"]:
    if ids.ndim == 1:
        return rows.flatten(0, 1)[ids][None]
    return rows.gather(1, ids[..., None].expand(-1, -1, rows.shape[-1]))
