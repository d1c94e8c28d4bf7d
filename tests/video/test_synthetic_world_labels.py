"""Labels of pixels agree with where things are, whose colours are seen, and who covers whom."""

import pytest
import torch

from vjepa2.errors import ConfigError
from vjepa2.video.synthetic_world import clips_of, make_world_clips
from vjepa2.video.synthetic_world_labels import (
    BACKGROUND_DISTANCE,
    FARTHEST,
    NEAREST,
    OCCLUDER_DISTANCE,
    make_labelled_clips,
    world_masks,
)
from vjepa2.video.synthetic_world_scene import WorldConfig, draw_scenes

CONFIG = WorldConfig(num_frames=3, size=(40, 56))


def test_masks_agree_with_the_shares_that_the_painter_counts() -> None:
    clips = make_world_clips(CONFIG, seed=0, numbers=range(6))
    masks = world_masks(clips, CONFIG)
    assert masks.shape == (6, 3, 40, 56)
    pixels = torch.stack([(masks == slot + 1).sum(dim=(2, 3)) for slot in range(5)], dim=-1)
    # A pixel counts whole here and by its share there: the difference is at the rim.
    area = torch.pi * (clips.scene.radius[:, None] * clips.motion.zoom[..., None] * 20) ** 2
    hidden = clips.seen == 0
    assert hidden.any() and (~hidden).any()
    assert (pixels[hidden] == 0).all()
    whole = (clips.seen > 0.98) & (clips.motion.presence == 1)
    low, high = 0.85 * area, 4 / torch.pi * 1.2 * area  # a disc and a square of that radius
    assert whole.sum() > 10
    assert ((pixels >= low) & (pixels <= high))[whole].all()


def test_a_thing_in_front_owns_the_pixels_it_covers() -> None:
    config = CONFIG.override(["count=[2,2]", "max_objects=2", "occluder_share=0"])
    scene = draw_scenes(config, seed=1, numbers=torch.tensor([0]))
    still = torch.zeros_like(scene.velocity)
    scene = scene.changed(
        position=still,
        velocity=still,
        radius=torch.tensor([[0.2, 0.6]]),
        squareness=torch.zeros(1, 2),
        since=torch.full((1, 2), -torch.inf),
        until=torch.full((1, 2), torch.inf),
        collides=torch.tensor([False]),
        gravity=torch.zeros(1),
        pan=torch.zeros(1, 2),
        zoom=torch.zeros(1),
    )
    mask = world_masks(clips_of(scene, config), config)[0, 0]
    y, x = torch.meshgrid(torch.arange(40) + 0.5 - 20, torch.arange(56) + 0.5 - 28, indexing="ij")
    distance = (x**2 + y**2).sqrt()
    assert (mask[distance < 3.4] == 1).all()
    assert (mask[(distance > 4.6) & (distance < 11.4)] == 2).all()
    assert (mask[distance > 12.6] == 0).all()


def test_labels_are_those_of_the_thing_at_the_pixel() -> None:
    clips = make_labelled_clips(CONFIG, seed=2, numbers=range(8))
    slots = CONFIG.max_objects
    is_object = (clips.things > 0) & (clips.things <= slots)
    assert torch.equal(is_object, (clips.classes == 1) | (clips.classes == 2))
    assert torch.equal(clips.things > slots, clips.classes == 3)
    assert clips.class_names[3] == "occluder"
    assert (clips.distance[clips.things == 0] == BACKGROUND_DISTANCE).all()
    assert (clips.distance[clips.things > slots] == OCCLUDER_DISTANCE).all()
    of_objects = clips.distance[is_object]
    assert NEAREST <= float(of_objects.min()) < float(of_objects.max()) <= FARTHEST
    # A slot in front is nearer.
    for row in range(8):
        known = {
            int(n): float(clips.distance[row][clips.things[row] == n][0])
            for n in clips.things[row].unique()
            if 0 < n <= slots
        }
        assert list(known.values()) == sorted(known.values())


def test_brightness_is_what_is_seen() -> None:
    config = CONFIG.override(["occluder_share=0", "count=[1,1]", "camera_share=0"])
    clips = make_labelled_clips(config, seed=3, numbers=range(12), classes="brightness")
    right = 0
    for frames, classes in zip(clips.frames[:, 0].float(), clips.classes[:, 0], strict=True):
        objects = classes > 0
        brighter = frames[:, objects].mean() > frames[:, ~objects].mean()
        right += int(brighter) == int(classes.max()) - 1
    assert right >= 11


def test_clips_depend_on_their_number_only() -> None:
    together = make_labelled_clips(CONFIG, seed=4, numbers=range(4))
    alone = make_labelled_clips(CONFIG, seed=4, numbers=[2])
    assert torch.equal(together.things[2:3], alone.things)
    assert torch.equal(together.distance[2:3], alone.distance)
    with pytest.raises(ConfigError, match="Did you mean 'shape'"):
        make_labelled_clips(CONFIG, seed=4, numbers=[0], classes="shapes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="numbers is empty"):
        make_labelled_clips(CONFIG, seed=4, numbers=[])
