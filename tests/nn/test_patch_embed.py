"""Cutting a clip into tubelets, against PyTorch's Conv3d and against indexing by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vjepa2.errors import ShapeError
from vjepa2.nn.patch_embed import PatchEmbed3D
from vjepa2.shapes import TokenGrid


def embed(*, channels: int = 3, dim: int = 6, patch: int = 4, tubelet: int = 2) -> PatchEmbed3D:
    return PatchEmbed3D(channels, dim, patch_size=patch, tubelet_size=tubelet).double()


def by_convolution(layer: PatchEmbed3D, pixels: Tensor) -> Tensor:
    kernel = (layer.tubelet_size, layer.patch_size, layer.patch_size)
    moved = pixels.transpose(1, 2)
    out = F.conv3d(moved, layer.proj.weight, layer.proj.bias, stride=kernel)
    return out.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(4, 8, 8), (2, 4, 12), (5, 9, 15), (7, 8, 4), (3, 7, 7)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_a_convolution_with_stride(
    frames: int, height: int, width: int, channels: int
) -> None:
    layer = embed(channels=channels)
    pixels = torch.randn(2, frames, channels, height, width, dtype=torch.float64)
    got = layer(pixels)
    torch.testing.assert_close(got, by_convolution(layer, pixels), rtol=1e-12, atol=1e-12)
    assert got.shape[1] == layer.grid(frames, height, width).num_tokens


def test_tokens_are_ordered_time_row_column() -> None:
    layer = embed(channels=1, dim=1, patch=2, tubelet=2)
    with torch.no_grad():
        layer.proj.weight.zero_()
        layer.proj.weight[0, 0, 0, 0, 0] = 1.0  # picks the first pixel of every tubelet
        layer.proj.bias.zero_()
    pixels = torch.arange(4 * 4 * 6, dtype=torch.float64).reshape(1, 4, 1, 4, 6)
    wanted = [pixels[0, t, 0, h, w].item() for t in (0, 2) for h in (0, 2) for w in (0, 2, 4)]
    assert layer(pixels)[0, :, 0].tolist() == wanted


def test_keep_ids_equal_a_gather_afterwards() -> None:
    layer = embed()
    pixels = torch.randn(2, 4, 3, 8, 12, dtype=torch.float64)
    ids = torch.tensor([[11, 0, 5, 5], [3, 2, 1, 7]])
    wanted = torch.stack([row[i] for row, i in zip(layer(pixels), ids, strict=True)])
    torch.testing.assert_close(layer(pixels, ids), wanted, rtol=1e-12, atol=1e-12)


def test_one_frame_counts_as_a_still_clip() -> None:
    layer = embed()
    image = torch.randn(2, 1, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(layer(image), layer(torch.cat([image, image], dim=1)))


def test_a_clip_shorter_than_a_tubelet_holds_its_last_frame() -> None:
    layer = embed(tubelet=4)
    pixels = torch.randn(1, 3, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(layer(pixels), layer(torch.cat([pixels, pixels[:, 2:]], dim=1)))


@pytest.mark.parametrize(
    ("size", "grid"),
    [((4, 8, 8), (2, 2, 2)), ((5, 9, 15), (2, 2, 3)), ((1, 4, 7), (1, 1, 1))],
)
def test_grid(size: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
    assert embed().grid(*size) == TokenGrid(*grid)


@pytest.mark.parametrize("size", [(0, 8, 8), (4, 3, 8), (4, 8, 3), (4, 0, 0)])
def test_no_room_for_one_token(size: tuple[int, int, int]) -> None:
    with pytest.raises(ShapeError, match=rf"{size[0]} frames of {size[1]}x{size[2]} pixels; at le"):
        embed().grid(*size)
    with pytest.raises(ShapeError, match="at least 1 frame of 4x4 pixels"):
        embed()(torch.zeros(1, size[0], 3, *size[1:], dtype=torch.float64))


def test_gradient_reaches_weight_and_pixels() -> None:
    layer = embed(channels=1, dim=2, patch=2, tubelet=1)
    pixels = torch.randn(1, 2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[6, 1]])
    assert torch.autograd.gradcheck(lambda x: layer(x, ids), (pixels,))
    layer(pixels, ids).sum().backward()
    assert layer.proj.weight.grad is not None
    used = pixels.grad[0, :, 0].abs().sum(dim=(0,)) > 0  # of token 1 and token 6 only
    assert used.sum() == 8


def test_a_hook_or_an_adapter_on_the_convolution_takes_part() -> None:
    layer = embed()
    pixels = torch.randn(2, 5, 3, 9, 12, dtype=torch.float64)
    ids = torch.tensor([[11, 0, 5], [3, 2, 1]])
    wanted = layer(pixels, ids)
    handle = layer.proj.register_forward_hook(lambda _, inputs, output: output * 2)
    torch.testing.assert_close(layer(pixels, ids), wanted * 2, rtol=1e-12, atol=1e-12)
    handle.remove()

    class Adapter(nn.Conv3d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    adapter = Adapter(3, 6, kernel_size=(2, 4, 4), stride=(2, 4, 4)).double()
    adapter.load_state_dict(layer.proj.state_dict())
    layer.proj = adapter
    torch.testing.assert_close(layer(pixels, ids), wanted + 1, rtol=1e-12, atol=1e-12)
