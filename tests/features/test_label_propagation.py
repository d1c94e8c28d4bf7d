"""Masks carried through a video: exactly with ideal features, by the definition with any."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tiny_models import randomise, tiny_config
from vjepa2.errors import ConfigError, DtypeError, LabelError, ShapeError
from vjepa2.features import label_propagation
from vjepa2.features.label_propagation import (
    PropagationConfig,
    propagate_labels,
    segment_video,
)
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.scoring.segmentation import region_similarity, video_mask_scores
from vjepa2.video.synthetic_world import make_world_clips
from vjepa2.video.synthetic_world_labels import world_masks
from vjepa2.video.synthetic_world_scene import WorldConfig
from vjepa2.video.writer import H264, write_video

WORLD = WorldConfig(
    num_frames=10, fps=12, size=(24, 34), occluder_share=0.5, flash_share=0, appear_share=0
)


def one_hot(masks: torch.Tensor, number: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(masks.long(), number).movedim(-1, -3).float()


@pytest.fixture(scope="module")
def masks() -> torch.Tensor:
    """[B, T, H, W]: which thing is where; here every pixel is a token."""
    return world_masks(make_world_clips(WORLD, seed=0, numbers=range(3)), WORLD)


@pytest.mark.parametrize("radius", [None, 12])
def test_ideal_features_recover_masks(masks: torch.Tensor, radius: int | None) -> None:
    """A colour of its own for every thing: what is seen in the first frame is found in all."""
    config = PropagationConfig(radius=radius)
    for clip in masks:
        features = one_hot(clip, 8)
        found = torch.stack(list(propagate_labels(features, features[0], config=config)))
        said = found.argmax(dim=1)
        # Only what the first frame shows can be carried.
        known = torch.isin(clip, clip[0].unique())
        assert float((said == clip)[known].float().mean()) > 0.995
        for thing in clip[0].unique().tolist():
            if thing and int((clip[0] == thing).sum()) > 20:
                scores = region_similarity(said == thing, clip == thing)[1:]
                assert float(scores.min()) > 0.95


def test_features_of_places_carry_a_shifting_picture() -> None:
    """Features say where a point was at first; the picture shifts two tokens a frame."""
    generator = torch.Generator().manual_seed(0)
    marks = torch.randn(16, 14, 30, generator=generator)
    first = one_hot((torch.rand(14, 12, generator=generator) * 3).long(), 3)
    shifted = [marks[:, :, 2 * t : 2 * t + 12] for t in range(6)]
    config = PropagationConfig(top_k=1, context_frames=1, radius=4)
    found = list(propagate_labels(shifted, first, config=config))
    for t, labels in enumerate(found):
        # Tokens that were in the first frame have moved 2 t to the left.
        assert torch.allclose(labels[:, :, : 12 - 2 * t], first[:, :, 2 * t :])


def slow_labels(
    maps: list[torch.Tensor], first: torch.Tensor, config: PropagationConfig
) -> list[torch.Tensor]:
    """The definition, token by token, in float64."""
    unit = [m.double() / m.double().norm(dim=0) for m in maps]
    labels = [first.double()]
    _, h, w = maps[0].shape
    for t in range(1, len(maps)):
        numbers = [0, *range(max(1, t - config.context_frames), t)]
        out = torch.zeros_like(labels[0])
        for y in range(h):
            for x in range(w):
                found = []
                for n in numbers:
                    for v in range(h):
                        for u in range(w):
                            far = (
                                (v - y) ** 2 + (u - x) ** 2 > (config.radius or 0) ** 2
                                if config.neighbourhood == "circle"
                                else max(abs(v - y), abs(u - x)) > (config.radius or 0)
                            )
                            if config.radius is None or not far:
                                alike = float(unit[t][:, y, x] @ unit[n][:, v, u])
                                found.append((alike, labels[n][:, v, u]))
                best = sorted(found, key=lambda pair: -pair[0])[: config.top_k]
                weights = torch.tensor([pair[0] for pair in best], dtype=torch.float64)
                weights = (weights / config.temperature).softmax(dim=0)
                out[:, y, x] = sum(
                    weight * label for weight, (_, label) in zip(weights, best, strict=True)
                )
        labels.append(out)
    return labels


@pytest.mark.parametrize(
    "config",
    [
        PropagationConfig(context_frames=2, radius=2, top_k=3),
        PropagationConfig(context_frames=1, radius=1, neighbourhood="square", temperature=0.7),
        PropagationConfig(context_frames=0, radius=None, top_k=4, temperature=0.05),
        PropagationConfig(context_frames=9, radius=0, top_k=50),
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [1, 1 << 24], ids=["row by row", "at once"])
def test_equals_the_definition(
    config: PropagationConfig, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_propagation, "MAX_SIMILARITIES", limit)
    generator = torch.Generator().manual_seed(3)
    maps = list(torch.randn(5, 6, 4, 7, generator=generator))
    first = torch.rand(3, 4, 7, generator=generator).softmax(dim=0)
    found = torch.stack(list(propagate_labels(maps, first, config=config)))
    expected = torch.stack(slow_labels(maps, first, config))
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(found.sum(dim=1), torch.ones(5, 4, 7))


def test_memory_does_not_grow_with_the_video() -> None:
    """Only the first frame and the last n are held, whatever was seen before."""
    alive: list[int] = []

    def frames(count: int) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            yield torch.randn(11, 5, 5, generator=generator)
            alive.append(
                sum(torch.is_tensor(o) and o.shape == (11, 5, 5) for o in gc.get_objects())
            )

    first = torch.full((2, 5, 5), 0.5)
    config = PropagationConfig(context_frames=3, radius=2)
    for _ in propagate_labels(frames(10), first, config=config):
        pass
    assert max(alive[6:]) == alive[6] <= 3 + 1 + 3


def test_refusals_of_maps() -> None:
    maps = [torch.ones(4, 3, 3), torch.ones(4, 3, 3)]
    shares = torch.full((2, 3, 3), 0.5)
    with pytest.raises(LabelError, match="add up to 1"):
        list(propagate_labels(maps, shares * 3))
    with pytest.raises(ShapeError, match=r"labels of the first frame are \[2, 2\]"):
        list(propagate_labels(maps, shares[:, :2, :2]))
    with pytest.raises(ShapeError, match="frame 1 are"):
        list(propagate_labels([maps[0], torch.ones(4, 3, 4)], shares))
    with pytest.raises(DtypeError, match="frame 1 hold NaN"):
        list(propagate_labels([maps[0], maps[1] * torch.nan], shares))
    with pytest.raises(ConfigError, match="top_k"):
        PropagationConfig(top_k=0)


# -- videos -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moving_square(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A bright and a dark square on grey, of odd size, and which pixels are theirs."""
    truth = torch.zeros(10, 75, 101, dtype=torch.uint8)
    frames = torch.full((10, 3, 75, 101), 110, dtype=torch.uint8)
    for t in range(10):
        for number, (top, left, colour) in {1: (8, 4 + 4 * t, 250), 2: (44, 70 - 4 * t, 5)}.items():
            truth[t, top : top + 24, left : left + 24] = number
            frames[t, :, top : top + 24, left : left + 24] = colour
    path = tmp_path_factory.mktemp("squares") / "squares.mp4"
    return write_video(path, frames, codec=H264(crf=10)), truth


def test_an_untrained_network_follows_squares(moving_square: tuple[Path, torch.Tensor]) -> None:
    """Patches of plain colours are told apart by any network; sizes are odd, the ratio is free."""
    path, truth = moving_square
    torch.manual_seed(0)
    model = VJEPA2Model(tiny_config(num_hidden_layers=1)).train()
    config = PropagationConfig(context_frames=4)
    frames = list(segment_video(path, truth[0], model=model, short_side=75, config=config))
    assert model.training
    assert len(frames) == 10
    assert torch.equal(frames[0].mask, truth[0])
    assert [frame.pts_seconds for frame in frames] == pytest.approx([t / 30 for t in range(10)])
    said = torch.stack([frame.mask for frame in frames])
    assert said.shape == truth.shape
    scores = video_mask_scores(said, truth)
    standing_still = video_mask_scores(truth[:1].expand(10, -1, -1), truth)
    assert scores.mean_J > 0.7 > 0.5 > standing_still.mean_J


def test_image_tokenizer_of_v2_1_is_used(moving_square: tuple[Path, torch.Tensor]) -> None:
    path, truth = moving_square
    model = randomise(VJEPA2Model(tiny_config(model_type="vjepa2_1", hierarchical_layers=[0, 1])))
    seen: list[torch.Size] = []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    next_two = segment_video(path, truth[0], model=model, short_side=40)
    next(next_two), next(next_two)
    # 75 x 101 at a short side of 40: 40 x 53.9, in patches of 8 pixels.
    assert {tuple(shape) for shape in seen} == {(1, 1, 3, 40, 56)}


def test_refusals_of_videos(moving_square: tuple[Path, torch.Tensor]) -> None:
    path, truth = moving_square
    with pytest.raises(ShapeError, match=r"frames are \[75, 101\]"):
        next(segment_video(path, truth[0, 1:]))
    with pytest.raises(LabelError, match="no object"):
        next(segment_video(path, truth[0] * 0))
    with pytest.raises(LabelError, match="255 marks pixels"):
        next(segment_video(path, truth[0].long() * 200))
    with pytest.raises(LabelError, match="whole numbers"):
        next(segment_video(path, truth[0].float()))
    with pytest.raises(ConfigError, match="short_side"):
        list(segment_video(path, truth[0], short_side=0))
