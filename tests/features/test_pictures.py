"""Colours of tokens: the main directions, the same on every machine; and pictures of them."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from vjepa2.errors import ShapeError
from vjepa2.features.pictures import (
    colour_maps,
    data_uri,
    encode_png,
    enlarge,
    overlay,
    shown_frames,
)
from vjepa2.shapes import TokenGrid
from vjepa2.video.processor import VJEPA2VideoProcessor

GRID = TokenGrid(3, 4, 5)


def skewed_tokens() -> torch.Tensor:
    """60 tokens of 16 numbers with three clear directions of falling variance, and some noise."""
    scores = torch.rand(60, 3).pow(3) * torch.tensor([30.0, 10.0, 3.0])
    directions = torch.linalg.qr(torch.randn(16, 3))[0]
    return scores @ directions.T + 0.01 * torch.randn(60, 16) + 5.0


def test_channels_are_the_main_directions() -> None:
    tokens = skewed_tokens()
    got = colour_maps(tokens, GRID)
    # Independently: NumPy's SVD of the centred tokens, signs by the longer tail, 2 % cut off.
    values = tokens.double().numpy()
    values = values - values.mean(axis=0)
    left, sizes, _ = np.linalg.svd(values, full_matrices=False)
    for channel in range(3):
        scores = left[:, channel] * sizes[channel]
        scores = scores * np.sign((scores**3).sum())
        low, high = np.quantile(scores, [0.02, 0.98])
        wanted = np.rint(255 * np.clip((scores - low) / (high - low), 0, 1)).reshape(3, 4, 5)
        difference = got.maps[:, channel].numpy().astype(int) - wanted.astype(int)
        assert np.abs(difference).max() <= 1
        share = sizes[channel] ** 2 / (sizes**2).sum()
        assert got.shares[channel] == pytest.approx(share, rel=1e-6)
    assert got.maps.shape == (3, 3, 4, 5) and got.maps.dtype == torch.uint8


def test_tokens_are_laid_out_in_time_rows_and_columns() -> None:
    tokens = torch.zeros(60, 8)
    for row in (2, 3):
        tokens[1 * 20 + row * 5 + 3] = 1.0  # step 1, column 3
    red = colour_maps(tokens, GRID).maps[:, 0]
    bright = (red == red.max()).nonzero().tolist()
    assert bright == [[1, 2, 3], [1, 3, 3]]


@pytest.mark.parametrize("flips", [(-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_colours_do_not_depend_on_the_solvers_signs(
    flips: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = skewed_tokens()
    before = colour_maps(tokens, GRID).maps
    original = torch.linalg.eigh

    def flipped(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = original(matrix)
        vectors[:, -3:] *= torch.tensor(flips, dtype=vectors.dtype).flip(0)
        return values, vectors

    monkeypatch.setattr(torch.linalg, "eigh", flipped)
    assert torch.equal(colour_maps(tokens, GRID).maps, before)


def test_colours_of_symmetric_tokens_do_not_depend_on_signs_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = torch.linspace(-1, 1, 60)
    tokens = torch.stack([3 * line, torch.zeros(60), torch.zeros(60)], dim=1)
    before = colour_maps(tokens, GRID).maps
    original = torch.linalg.eigh
    monkeypatch.setattr(
        torch.linalg, "eigh", lambda matrix: (original(matrix)[0], -original(matrix)[1])
    )
    assert torch.equal(colour_maps(tokens, GRID).maps, before)


def test_a_shift_of_all_tokens_and_half_precision_change_nothing() -> None:
    tokens = skewed_tokens()
    before = colour_maps(tokens, GRID)
    shifted = colour_maps(tokens + 7.0, GRID)
    assert (before.maps.int() - shifted.maps.int()).abs().max() <= 1
    half = colour_maps(tokens.half(), GRID)
    assert (before.maps[:, :2].int() - half.maps[:, :2].int()).abs().max() <= 3


def test_tokens_that_do_not_vary_are_grey() -> None:
    same = colour_maps(torch.ones(60, 16), GRID)
    assert same.maps.unique().tolist() == [128] and same.shares == (0.0, 0.0, 0.0)
    one = colour_maps(torch.randn(1, 16), TokenGrid(1, 1, 1))
    assert one.maps.shape == (1, 3, 1, 1)
    # Only one direction varies: the other two channels are grey, not noise.
    line = torch.linspace(0, 1, 60)[:, None] * torch.ones(1, 16)
    maps = colour_maps(line, GRID).maps
    assert maps[:, 1:].unique().tolist() == [128]
    assert len(maps[:, 0].unique()) > 40


def test_tokens_must_fill_the_grid() -> None:
    with pytest.raises(ShapeError, match=r"Expected tokens \[N=60, D\] .* got \[59, 16\]"):
        colour_maps(torch.zeros(59, 16), GRID)


def test_enlarging_keeps_squares() -> None:
    maps = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    got = enlarge(maps, height=4, width=6)
    wanted = maps.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    assert torch.equal(got, wanted)


def test_overlay_mixes_grey_frames_with_colours() -> None:
    frames = torch.tensor([100, 200, 50], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    maps = torch.tensor([255, 0, 10], dtype=torch.uint8).view(1, 3, 1, 1)
    grey = 0.299 * 100 + 0.587 * 200 + 0.114 * 50
    wanted = [round(0.4 * grey + 0.6 * value) for value in (255, 0, 10)]
    got = overlay(frames, maps, strength=0.6)
    assert got.shape == (1, 3, 2, 2) and got[0, :, 1, 0].tolist() == wanted
    with pytest.raises(ShapeError, match="a frame for each of 1 maps, got 2"):
        overlay(frames.repeat(2, 1, 1, 1), maps)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 32)])
def test_png_files_hold_the_pixels_exactly(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    decoded = Image.open(io.BytesIO(encode_png(image)))
    assert decoded.format == "PNG" and decoded.mode == "RGB"
    assert torch.equal(torch.from_numpy(np.array(decoded)).permute(2, 0, 1), image)


def test_pictures_must_be_rgb_bytes() -> None:
    for wrong in (torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ShapeError, match=r"A picture must be uint8 \[3, H, W\]"):
            encode_png(wrong)


def test_data_addresses_hold_the_bytes() -> None:
    address = data_uri(b"\x00\xff", kind="image/png")
    head, data = address.split(",")
    assert head == "data:image/png;base64" and base64.b64decode(data) == b"\x00\xff"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"image_std": [0.5]},
    ],
)
def test_shown_frames_undo_the_normalisation(options: dict[str, object]) -> None:
    processor = VJEPA2VideoProcessor(crop_size={"height": 32, "width": 32}, **options)
    video = torch.randint(0, 256, (2, 3, 50, 40), dtype=torch.uint8)
    pixels = processor(video, return_tensors="pt")["pixel_values_videos"]
    plain = processor(video, return_tensors="pt", do_rescale=False, do_normalize=False)
    assert torch.equal(shown_frames(pixels, processor), plain["pixel_values_videos"][0])
