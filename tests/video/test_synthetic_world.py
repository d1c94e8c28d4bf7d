"""The small world obeys its physics and its pictures show it, by closed forms and from pixels."""

import math

import pytest
import torch
from torch import Tensor

from vjepa2.errors import ConfigError, VJEPAError
from vjepa2.video.synthetic_world import Event, WorldClips, clips_of, make_world_clips, world_facts
from vjepa2.video.synthetic_world_physics import move
from vjepa2.video.synthetic_world_scene import NEVER, Scene, WorldConfig, draw_scenes

STEP = 1 / 48  # longest step of the clock, seconds: nothing is more exact than one of them
CONFIG = WorldConfig(num_frames=12, size=(48, 64), fps=6.0)


def empty_scenes(count: int, config: WorldConfig = CONFIG) -> Scene:
    """Scenes without objects, occluders, gravity or a moving camera, over a flat background."""
    scene = draw_scenes(config, seed=0, numbers=torch.arange(count))
    slots = scene.radius.shape
    return scene.changed(
        exists=torch.zeros(slots, dtype=torch.bool),
        since=torch.full(slots, -NEVER),
        until=torch.full(slots, NEVER),
        flash=torch.full(slots, NEVER),
        boxes=torch.zeros_like(scene.boxes),
        gravity=torch.zeros(count),
        pan=torch.zeros(count, 2),
        zoom=torch.zeros(count),
        ground_hue=torch.zeros(count, 2, 3),
        ground=torch.full((count, 3), 0.5),
        stripes=torch.zeros_like(scene.stripes),
    )


def with_object(
    scene: Scene,
    slot: int,
    *,
    at: tuple[float, float],
    velocity: tuple[float, float] = (0.0, 0.0),
    radius: float = 0.2,
    colour: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> Scene:
    """The same object in a slot of every scene."""
    parts = {
        name: getattr(scene, name).clone()
        for name in ("exists", "position", "velocity", "radius", "colour", "squareness")
    }
    parts["exists"][:, slot] = True
    parts["position"][:, slot] = torch.tensor(at)
    parts["velocity"][:, slot] = torch.tensor(velocity)
    parts["radius"][:, slot] = radius
    parts["colour"][:, slot] = torch.tensor(colour)
    parts["squareness"][:, slot] = 0.0
    return scene.changed(**parts)


def speeds(positions: Tensor) -> Tensor:
    """Velocities between frames [T - 1, K, 2] of positions [T, K, 2]."""
    return (positions[1:] - positions[:-1]) * CONFIG.fps


# -- physics ----------------------------------------------------------------------------------


def test_an_object_flies_straight_and_is_mirrored_at_the_borders() -> None:
    scene = with_object(empty_scenes(1), 0, at=(0.9, 0.3), velocity=(1.0, -0.4))
    x, y = move(scene, CONFIG).position[0, :, 0].unbind(-1)
    half_width, radius = 64 / 48, 0.2
    for frame in range(12):
        time = frame / 6
        expected_x = 0.9 + time
        wall = half_width - radius
        if expected_x > wall:
            expected_x = 2 * wall - expected_x
        assert abs(float(x[frame]) - expected_x) < 2 * STEP
        assert abs(float(y[frame]) - (0.3 - 0.4 * time)) < 1e-5


def test_an_object_falls_along_a_parabola() -> None:
    scene = with_object(empty_scenes(1), 0, at=(0.0, -0.6), velocity=(0.2, 0.0))
    scene = scene.changed(gravity=torch.tensor([0.5]))
    y = move(scene, CONFIG).position[0, :9, 0, 1]
    time = torch.arange(9) / 6
    assert torch.allclose(y, -0.6 + 0.25 * time**2, atol=0.5 * STEP * 2)


def test_two_equal_objects_exchange_velocities_head_on() -> None:
    scene = with_object(empty_scenes(1), 0, at=(-0.6, 0.0), velocity=(0.6, 0.0))
    scene = with_object(scene, 1, at=(0.6, 0.0), velocity=(-0.3, 0.0))
    scene = scene.changed(collides=torch.tensor([True]))
    motion = move(scene, CONFIG)
    before, after = speeds(motion.position[0])[[0, -1], :2, 0]
    assert torch.allclose(before, torch.tensor([0.6, -0.3]), atol=1e-4)
    assert torch.allclose(after, torch.tensor([-0.3, 0.6]), atol=1e-4)
    # They touch when the gap of 1.2 - 2 * 0.2 is used up at a speed of 0.9.
    assert abs(float(motion.hit_time[0, 0, 1]) - 0.8 / 0.9) <= STEP + 1e-5
    assert motion.hit_time[0, 0, 1] == motion.hit_time[0, 1, 0]


def test_collisions_keep_momentum_and_energy() -> None:
    scene = draw_scenes(CONFIG, seed=4, numbers=torch.arange(1000))
    exists = torch.zeros_like(scene.exists)
    exists[:, :2] = True
    bare = empty_scenes(1000)
    scene = bare.changed(
        exists=exists, position=scene.position, velocity=scene.velocity, radius=scene.radius,
        collides=torch.ones(1000, dtype=torch.bool),
    )  # fmt: skip
    motion = move(scene, CONFIG)
    # Clips with one collision well inside and no border touched.
    hit = motion.hit_time[:, 0, 1]
    fit = (hit > 0.4) & (hit < 1.4) & (motion.border_time[:, :2] == NEVER).all(dim=1)
    assert fit.sum() > 3
    mass = (scene.radius**2)[:, :2, None]
    speed = (motion.position[:, 1:, :2] - motion.position[:, :-1, :2]) * CONFIG.fps
    first, last = speed[fit, 0], speed[fit, -1]
    assert torch.allclose((mass[fit] * first).sum(dim=1), (mass[fit] * last).sum(dim=1), atol=1e-4)
    energy = (mass[fit] * first**2).sum(dim=(1, 2))
    assert torch.allclose(energy, (mass[fit] * last**2).sum(dim=(1, 2)), rtol=1e-3)
    assert not torch.allclose(first, last, atol=0.05)


@pytest.mark.parametrize("reason", ["does not collide", "not there yet", "gone"])
def test_objects_that_are_not_solid_pass(reason: str) -> None:
    scene = with_object(empty_scenes(1), 0, at=(-0.6, 0.0), velocity=(0.6, 0.0))
    scene = with_object(scene, 1, at=(0.6, 0.0), velocity=(-0.3, 0.0))
    scene = scene.changed(collides=torch.tensor([reason != "does not collide"]))
    if reason == "not there yet":
        scene.since[:, 1] = 1.7
    if reason == "gone":
        scene.until[:, 1] = 0.5
    motion = move(scene, CONFIG)
    assert torch.allclose(speeds(motion.position[0])[:, 0, 0], torch.full((11,), 0.6), atol=1e-4)
    assert not motion.hit_time.isfinite().any()


# -- pictures ---------------------------------------------------------------------------------


def painted(scene: Scene) -> WorldClips:
    return clips_of(scene, CONFIG)


def red_centre(frame: Tensor) -> tuple[float, float]:
    """Mean (x, y) of what is red on grey, in half short sides from the middle."""
    weight = (frame[0].float() - frame[1].float()).clamp(min=0)
    height, width = weight.shape
    x = (weight.sum(dim=0) * (torch.arange(width) + 0.5)).sum() / weight.sum()
    y = (weight.sum(dim=1) * (torch.arange(height) + 0.5)).sum() / weight.sum()
    return (float(x) - width / 2) / 24, (float(y) - height / 2) / 24


def test_pixels_are_where_the_track_says() -> None:
    clips = painted(with_object(empty_scenes(1), 0, at=(-0.5, -0.3), velocity=(0.5, 0.2)))
    for frame in range(12):
        expected = (-0.5 + 0.5 * frame / 6, -0.3 + 0.2 * frame / 6)
        assert red_centre(clips.frames[0, frame]) == pytest.approx(expected, abs=0.02)
        assert clips.tracks[0, frame, 0].tolist() == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(clips.seen[0, :, 0], torch.ones(12), atol=0.04)
    assert (clips.seen[0, :, 1:] == 0).all()


def test_a_disc_has_its_area_and_colour() -> None:
    clips = painted(with_object(empty_scenes(1), 0, at=(0.0, 0.0), radius=0.4))
    frame = clips.frames[0, 0]
    red = (frame[0] > 200) & (frame[1] < 50)
    assert int(red.sum()) == pytest.approx(math.pi * (0.4 * 24) ** 2, rel=0.1)
    assert frame[:, 24, 32].tolist() == [255, 0, 0]
    assert frame[:, 2, 2].tolist() == [128, 128, 128]


def test_the_camera_moves_the_picture_the_other_way_and_zooms_about_the_middle() -> None:
    scene = with_object(empty_scenes(2), 0, at=(0.3, 0.0))
    scene = scene.changed(pan=torch.tensor([[0.3, 0.0], [0.0, 0.0]]), zoom=torch.tensor([0, 0.3]))
    clips = painted(scene)
    seconds = 11 / 6
    for frame in (0, 11):
        moment = frame / 6 - seconds / 2
        assert red_centre(clips.frames[0, frame])[0] == pytest.approx(0.3 - 0.3 * moment, abs=0.02)
        zoomed = 0.3 * math.exp(0.3 * moment)
        assert red_centre(clips.frames[1, frame])[0] == pytest.approx(zoomed, abs=0.02)


def test_nearer_slots_and_occluders_hide_what_is_behind() -> None:
    scene = with_object(empty_scenes(1), 0, at=(-0.8, 0.0), velocity=(0.8, 0.0), radius=0.3,
                        colour=(0.0, 0.0, 1.0))  # fmt: skip
    scene = with_object(scene, 1, at=(0.0, 0.0), radius=0.2)
    scene = scene.changed(collides=torch.tensor([False]))
    clips = painted(scene)
    assert clips.seen[0, 0, 1] > 0.95
    assert clips.seen[0, 6, 1] < 0.01  # the blue one is right in front
    assert clips.frames[0, 6, :, 24, 32].tolist() == [0, 0, 255]
    boxes = torch.zeros_like(scene.boxes)
    boxes[:, 0] = torch.tensor([0.0, 0.0, 0.5, 9.0])
    behind = painted(scene.changed(boxes=boxes))
    assert (behind.seen[0, :, 1] < 0.01).all()
    assert behind.seen[0, 0, 0] > 0.9 and behind.seen[0, 6, 0] < 0.01


def test_half_of_an_object_at_the_border_is_seen() -> None:
    scene = with_object(empty_scenes(1), 0, at=(0.0, 0.0))
    scene = scene.changed(pan=torch.tensor([[0.0, 1.0]]))  # it leaves at the top and at the bottom
    clips = painted(scene)
    y = clips.tracks[0, :, 0, 1]
    nearest = int((y.abs() - 1).abs().argmin())
    share = float(clips.seen[0, nearest, 0])
    # Area of a disc cut at a distance from its middle.
    cut = (1 - abs(float(y[nearest]))) / 0.2
    expected = 1 - (math.acos(cut) - cut * math.sqrt(1 - cut**2)) / math.pi
    assert share == pytest.approx(expected, abs=0.05)


def test_appearing_vanishing_and_flashing_are_painted_and_listed() -> None:
    scene = with_object(empty_scenes(1), 0, at=(-0.5, 0.0))
    scene = with_object(scene, 1, at=(0.5, 0.0))
    scene.since[:, 0], scene.until[:, 0], scene.flash[:, 1] = 0.5, 1.5, 1.0
    clips = painted(scene)
    there = [clips.frames[0, frame, 0, 24, 32 - 12].item() for frame in (0, 6, 11)]
    assert there == [128, 255, 128]
    lit = [clips.frames[0, frame, 1, 24, 32 + 12].item() for frame in (5, 6, 7, 9)]
    assert lit[0] == 0 and lit[1] > 200 and lit[2] > 200 and lit[3] == 0
    assert clips.events[0] == [
        Event(0.5, "appears", (0,)),
        Event(1.0, "flash", (1,)),
        Event(1.5, "vanishes", (0,)),
    ]


# -- sets of clips ----------------------------------------------------------------------------


def test_a_clip_is_a_function_of_seed_and_number_alone() -> None:
    many = make_world_clips(CONFIG, seed=7, numbers=range(12))
    some = make_world_clips(CONFIG, seed=7, numbers=[11, 3])
    assert torch.equal(some.frames, many.frames[[11, 3]])
    assert torch.equal(some.tracks, many.tracks[[11, 3]])
    other = make_world_clips(CONFIG, seed=8, numbers=[3])
    assert not torch.equal(other.frames[0], many.frames[3])
    assert len({clip.numpy().tobytes() for clip in many.frames}) == 12


def test_truth_is_consistent() -> None:
    config = CONFIG.model_copy(update={"count": (2, 4)})
    clips = make_world_clips(config, seed=1, numbers=range(64))
    assert clips.frames.shape == (64, 12, 3, 48, 64) and clips.frames.dtype == torch.uint8
    assert sorted(set(clips.count.tolist())) == [2, 3, 4]
    for row, events in enumerate(clips.events):
        assert [event.seconds for event in events] == sorted(event.seconds for event in events)
        kinds = [event.kind for event in events]
        assert ("collision" in kinds) == bool(clips.collided[row])
        existing = set(clips.scene.exists[row].nonzero()[:, 0].tolist())
        assert all(set(event.objects) <= existing for event in events)
    facts = world_facts(clips, 0)
    assert facts["count"] == len(facts["objects"])
    slot = facts["objects"][0]["slot"]
    assert facts["objects"][0]["track"][5] == pytest.approx(
        clips.tracks[0, 5, slot].tolist(), abs=1e-3
    )


def test_backgrounds_have_a_spectrum_that_falls_like_that_of_nature() -> None:
    config = WorldConfig(count=(0, 0), camera_share=0.0, occluder_share=0.0, size=(64, 64))
    frames = make_world_clips(config, seed=3, numbers=range(40)).frames[:, 0].float().mean(dim=1)
    window = torch.hann_window(64)[:, None] * torch.hann_window(64)
    centred = (frames - frames.mean(dim=(1, 2), keepdim=True)) * window
    power = torch.fft.rfft2(centred).abs().square().mean(dim=0)
    low, high = power[0, 3] + power[3, 0], power[0, 12] + power[12, 0]
    slope = math.log(float(low / high)) / math.log(4)
    assert 2 < slope < 5


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="count must be"):
        WorldConfig(count=(3, 9))
    with pytest.raises(ConfigError, match="16 to 4096"):
        WorldConfig(size=(8, 8))
    with pytest.raises(ConfigError, match="speed"):
        WorldConfig(speed=(0.5, 0.1))
    with pytest.raises(ConfigError, match="numbers is empty"):
        make_world_clips(CONFIG, seed=0, numbers=[])
    with pytest.raises(ConfigError, match="numbers"):
        make_world_clips(CONFIG, seed=0, numbers=[-1])
    with pytest.raises(VJEPAError):
        make_world_clips(CONFIG, seed=-1, numbers=[0])
