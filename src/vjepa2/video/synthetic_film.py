"""The camera of synthetic clips: rests objects in the world, films it, exposes the frames.

Lengths are in half short sides of the picture (so a square picture spans -1..1), y grows
downwards and angles clockwise.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from vjepa2.video.synthetic_scene import (
    Pose,
    SceneObject,
    chance,
    integer,
    log_uniform,
    paint,
    random_object,
    uniform,
)

# Half the side of the part that a centre crop keeps of a square frame (224 / 256), in units of
# half the short side. Objects stay mostly inside it.
CROP_REACH = 0.875
PLACEMENTS = 64  # draws before the best place so far is taken
WELL_VISIBLE = 0.85  # share of an object inside the crop, mean over the clip, that is good enough


@dataclass(frozen=True, kw_only=True)
class Courses:
    """The state of the object and the camera over a clip; each tensor is float32 [T].

    Lengths are in half short sides of the picture; y grows downwards, angles clockwise.
    """

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    visible: Tensor
    camera_x: Tensor
    camera_y: Tensor
    zoom: Tensor


def _visible_part(position: Tensor, radius: Tensor) -> Tensor:
    """Share of the span position ± radius that lies inside the centre crop, 0..1."""
    inside = (position + radius).clamp(max=CROP_REACH) - (position - radius).clamp(min=-CROP_REACH)
    return (inside / (2 * radius)).clamp(0, 1)


def place(
    x: Tensor,
    y: Tensor,
    radius: Tensor,
    *,
    size: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Put the middle of a way anywhere so that the object is on the whole well visible.

    A large object on a long way can be well visible nowhere: after `PLACEMENTS` draws the best of
    them is taken.
    """
    short = min(size)
    reach = float(radius.max())
    best, best_visible = (x, y), -1.0
    for _ in range(PLACEMENTS):
        moved_x = x + uniform(-1, 1, generator) * (size[1] / short + reach)
        moved_y = y + uniform(-1, 1, generator) * (size[0] / short + reach)
        parts = _visible_part(moved_x, radius) * _visible_part(moved_y, radius)
        visible = float(parts.mean())
        if visible > best_visible:
            best, best_visible = (moved_x, moved_y), visible
        if visible > WELL_VISIBLE:
            break
    return best


def paint_resting_objects(
    world: Tensor,
    label: str,
    courses: Courses,
    *,
    colour: Tensor,
    size: tuple[int, int],
    generator: torch.Generator,
) -> None:
    """Paint the objects that rest in the world: as many are seen under every label."""
    short = min(size)
    moment = integer(0, len(courses.x) - 1, generator)
    zoom = float(courses.zoom[moment])
    camera = float(courses.camera_x[moment]), float(courses.camera_y[moment])
    # One object that is there half of the time stands for one that rests in half of the clips.
    flickers = label in ("object appears", "object vanishes")
    near = 1 if flickers else integer(0, 1, generator)
    # Others wait outside the picture, so that a moving camera does not look into empty land.
    far = integer(2, 6, generator)
    for number in range(near + far):
        thing = random_object(background_colour=colour, generator=generator)
        radius = torch.tensor([log_uniform(0.15, 0.5, generator)])
        zero = torch.zeros(1)
        if number < near:
            x, y = (float(p) for p in place(zero, zero, radius, size=size, generator=generator))
        else:
            x, y = (2.5 * uniform(-1, 1, generator) for _ in range(2))
            if abs(x) < size[1] / short + 0.5 and abs(y) < size[0] / short + 0.5:
                continue
        pose = Pose(
            x=size[1] + (camera[0] + x / zoom) * short / 2,
            y=size[0] + (camera[1] + y / zoom) * short / 2,
            radius=float(radius) / zoom * short / 2,
            angle=uniform(0, 2 * math.pi, generator),
        )
        paint(world, thing, pose)


def film(world: Tensor, courses: Courses, *, size: tuple[int, int]) -> Float[Tensor, "T 3 H W"]:
    """What the camera sees of the resting world [3, 2H, 2W]."""
    height, width = size
    track = torch.stack([courses.camera_x, courses.camera_y, courses.zoom])  # [3, T]
    resting = bool((track == track[:, :1]).all())
    if resting:
        track = track[:, :1]
    short = min(size)
    # Pixel centres in half short sides, then in the units of grid_sample (-1..1 over the world).
    x = (torch.arange(width) + 0.5 - width / 2) * (2 / short)
    y = (torch.arange(height) + 0.5 - height / 2) * (2 / short)
    seen_x = (track[0][:, None] + x / track[2][:, None]) * (short / (2 * width))
    seen_y = (track[1][:, None] + y / track[2][:, None]) * (short / (2 * height))
    num_views = track.shape[1]
    grid = torch.stack(
        [
            seen_x[:, None, :].expand(num_views, height, width),
            seen_y[:, :, None].expand(num_views, height, width),
        ],
        dim=-1,
    )
    frames = functional.grid_sample(
        world[None].expand(num_views, -1, -1, -1),
        grid,
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return frames.expand(len(courses.x), -1, -1, -1).contiguous()


def paint_moving_object(
    frames: Tensor, target: SceneObject, courses: Courses, *, size: tuple[int, int]
) -> None:
    """Paint the object of the clip onto every frame; it belongs to the world the camera sees."""
    height, width = size
    half_short = min(size) / 2
    middle = len(courses.x) // 2
    zoom = courses.zoom / courses.zoom[middle]
    drift_x = (courses.camera_x - courses.camera_x[middle]) * courses.zoom
    drift_y = (courses.camera_y - courses.camera_y[middle]) * courses.zoom
    x = (courses.x * zoom - drift_x) * half_short + width / 2
    y = (courses.y * zoom - drift_y) * half_short + height / 2
    radius = courses.radius * zoom * half_short
    for number, frame in enumerate(frames):
        pose = Pose(
            x=float(x[number]),
            y=float(y[number]),
            radius=float(radius[number]),
            angle=float(courses.angle[number]),
            visible=float(courses.visible[number]),
        )
        paint(frame, target, pose)


def expose(frames: Tensor, generator: torch.Generator) -> UInt8[Tensor, "T 3 H W"]:
    """Light, lens and sensor: drifting brightness, blur and noise; to uint8."""
    num_frames, _, height, width = frames.shape
    if chance(0.3, generator):
        frames = functional.avg_pool2d(
            functional.pad(frames, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1
        )
    light = torch.linspace(-1, 1, num_frames) * uniform(-0.05, 0.05, generator)
    light = light + 0.01 * torch.randn(num_frames, generator=generator)
    deviation = uniform(0, 4, generator) if chance(0.6, generator) else 0.5
    noise = torch.randn(num_frames, 1, height, width, generator=generator)
    bright = frames * ((1 + light) * 255)[:, None, None, None]
    return bright.add_(noise, alpha=deviation).round_().clamp_(0, 255).to(torch.uint8)
