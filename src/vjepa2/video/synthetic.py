"""Clips of motions that no single frame shows, for the demonstration, training and tests.

Every clip draws *all* motions: a path for the object, a size change, a rotation, an appearance, a
camera pan and a zoom. Its label decides which of them runs; the others are frozen at a random
moment of their course. So a single frame taken at a random time has the same distribution under
every label (up to what is cut off at the border), and only the order of frames tells the motion.
Courses are symmetric in time: a clip of one label played backwards is a clip of its opposite.

What the words mean (directions are those of the picture, as a viewer sees it):

    object moves left / right / up / down     one object travels to that side of the picture
    object approaches / recedes               one object grows / shrinks in place
    object rotates clockwise / counter-...    one object turns in place
    object appears / vanishes                 one object fades or pops in / out in place
    camera pans left / right                  the whole picture slides to the right / left
    camera tilts up / down                    the whole picture slides down / up
    camera zooms in / out                     the whole picture grows / shrinks about its centre
    nothing moves                             noise and slight changes of light only
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import ShapeError, check_choice, check_kind, checked_integer, described
from vjepa2.video.synthetic_film import (
    Courses,
    expose,
    film,
    paint_moving_object,
    paint_resting_objects,
    place,
)
from vjepa2.video.synthetic_scene import (
    chance,
    integer,
    log_uniform,
    random_object,
    textured,
    uniform,
)

MOTION_LABELS = (
    "object moves left",
    "object moves right",
    "object moves up",
    "object moves down",
    "object approaches",
    "object recedes",
    "object rotates clockwise",
    "object rotates counter-clockwise",
    "object appears",
    "object vanishes",
    "camera pans left",
    "camera pans right",
    "camera tilts up",
    "camera tilts down",
    "camera zooms in",
    "camera zooms out",
    "nothing moves",
)

# Words that change places, by what is done to the clip.
_SWAPS = {
    "reversed": (
        ("left", "right"),
        ("up", "down"),
        ("approaches", "recedes"),
        ("clockwise", "counter-clockwise"),
        ("appears", "vanishes"),
        ("in", "out"),
    ),
    "mirrored": (("left", "right"), ("clockwise", "counter-clockwise")),
    "transposed": (
        ("left", "up"),
        ("right", "down"),
        ("clockwise", "counter-clockwise"),
        ("pans", "tilts"),
    ),
}
CHANGES = tuple(_SWAPS)

SMALLEST_SIDE = 16
LARGEST_SIDE = 1 << 12  # the world is painted at four times the area
MOST_FRAMES = 1 << 16


def changed_label(label: str, *, change: str) -> str:
    """The label of a clip after it is changed.

    Args:
        label: one of `MOTION_LABELS`.
        change: "reversed" (frames in opposite order), "mirrored" (left and right exchanged) or
            "transposed" (rows and columns exchanged).

    Returns:
        One of `MOTION_LABELS`; doing the same change twice gives `label` again.

    Raises:
        ConfigError: label or change does not exist.
    """
    check_choice("Motion label", label, MOTION_LABELS)
    check_choice("Change", change, CHANGES)
    swaps = dict(_SWAPS[change])
    swaps.update({second: first for first, second in _SWAPS[change]})
    return " ".join(swaps.get(word, word) for word in label.split())


def make_motion_clip(
    label: str, *, num_frames: int, size: tuple[int, int], generator: torch.Generator
) -> UInt8[Tensor, "T 3 H W"]:
    """Paint one clip of the motion that `label` names.

    Args:
        label: one of `MOTION_LABELS`.
        num_frames: T, at least 2. The motion takes the whole clip whatever its length.
        size: (H, W) in pixels, each at least 16.
        generator: source of all randomness, on the CPU; the same state gives the same clip.

    Returns:
        uint8 frames [T, 3, H, W], RGB, 0..255.

    Raises:
        ConfigError: the label does not exist, or an argument is of a wrong kind or enormous.
        ShapeError: too few frames or pixels.
    """
    check_choice("Motion label", label, MOTION_LABELS)
    check_kind("size", size, Sequence, words="(height, width)")
    check_kind("generator", generator, torch.Generator, words="a torch.Generator")
    num_frames = checked_integer("num_frames", num_frames, most=MOST_FRAMES)
    if len(size) != 2:
        raise ShapeError(f"size must be (height, width), got {described(size)}.")
    height, width = (checked_integer("size", side, most=LARGEST_SIDE) for side in size)
    size = (height, width)
    if num_frames < 2 or min(size) < SMALLEST_SIDE:
        raise ShapeError(
            f"A motion clip needs at least 2 frames of {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels, "
            f"got {num_frames} of {size[0]} x {size[1]} (height x width)."
        )
    courses = _draw_courses(label, num_frames=num_frames, size=size, generator=generator)
    colour = torch.rand(3, generator=generator) * 0.7 + 0.15
    contrast = log_uniform(0.05, 0.16, generator)
    # The world is twice as large as the picture; beyond it the picture of it is mirrored.
    world = textured(
        2 * size[0], 2 * size[1], colour=colour, contrast=contrast, generator=generator
    ).clamp(0.02, 0.98)
    target = random_object(background_colour=colour, generator=generator)
    paint_resting_objects(world, label, courses, colour=colour, size=size, generator=generator)
    frames = film(world, courses, size=size)
    paint_moving_object(frames, target, courses, size=size)
    return expose(frames, generator)


def _progress(num_frames: int, generator: torch.Generator) -> Callable[[float], Tensor]:
    """Draw how a motion goes from 0 to 1 over the clip, steadily or not, and when it stops.

    Returns a function of the moment at which to freeze it: negative means that it runs.
    """
    rest = uniform(0, 0.3, generator) if chance(0.5, generator) else 0.0
    start = rest * uniform(0, 1, generator)
    bend = math.exp(0.3 * torch.randn((), generator=generator).item())
    backwards = chance(0.5, generator)  # makes the distribution symmetric in time

    def course(frozen_at: float) -> Tensor:
        time = torch.linspace(0, 1, num_frames)
        if frozen_at >= 0:
            time = torch.full((num_frames,), frozen_at)
        if backwards:
            time = 1 - time
        going = ((time - start) / (1 - rest)).clamp(0, 1) ** bend
        return 1 - going if backwards else going

    return course


_DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
_NEVER_FROZEN = -1.0


@dataclass(frozen=True)
class _Motion:
    """One of the motions of a clip: its course, and which way it goes."""

    course: Tensor  # [T], from 0 to 1, or constant where the motion is frozen
    way: str


def _motion(
    label: str, prefix: str, ways: tuple[str, ...], *, num_frames: int, generator: torch.Generator
) -> _Motion:
    """Draw a motion; it runs if `label` is `prefix` and a way, else it is frozen somewhere."""
    way = ways[integer(0, len(ways) - 1, generator)]
    frozen_at = uniform(0, 1, generator)
    for candidate in ways:
        if label == f"{prefix} {candidate}":
            way, frozen_at = candidate, _NEVER_FROZEN
    return _Motion(_progress(num_frames, generator)(frozen_at), way)


def _travel(
    way: str, course: Tensor, *, distance: float, spread_degrees: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Offsets (x, y), each [T], of a straight way centred on 0, nearly along `way`."""
    tilt = math.radians(uniform(-spread_degrees, spread_degrees, generator))
    x, y = _DIRECTIONS[way]
    x, y = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
    steps = (course - 0.5) * distance
    return x * steps, y * steps


def _draw_courses(
    label: str, *, num_frames: int, size: tuple[int, int], generator: torch.Generator
) -> Courses:
    """Draw all motions and let the one that `label` names run."""

    def motion(prefix: str, *ways: str) -> _Motion:
        return _motion(label, prefix, ways, num_frames=num_frames, generator=generator)

    grow = motion("object", "approaches", "recedes")
    sign = 1 if grow.way == "approaches" else -1
    ratio = log_uniform(1.7, 2.8, generator)
    radius = log_uniform(0.24, 0.42, generator) * ratio ** (sign * (grow.course - 0.5))

    turn = motion("object rotates", "clockwise", "counter-clockwise")
    sign = 1 if turn.way == "clockwise" else -1
    total_angle = log_uniform(1.4, 4.2, generator)
    angle = uniform(0, 2 * math.pi, generator) + sign * total_angle * (turn.course - 0.5)

    go = motion("object moves", *_DIRECTIONS)
    x, y = _travel(
        go.way,
        go.course,
        distance=log_uniform(0.6, 1.5, generator),
        spread_degrees=20,
        generator=generator,
    )
    x, y = place(x, y, radius, size=size, generator=generator)

    zooming = motion("camera zooms", "in", "out")
    sign = 1 if zooming.way == "in" else -1
    ratio = log_uniform(1.5, 2.4, generator)
    zoom = math.exp(uniform(-0.15, 0.15, generator)) * ratio ** (sign * (zooming.course - 0.5))

    pan, tilt = motion("camera pans", "left", "right"), motion("camera tilts", "up", "down")
    offsets = [
        _travel(
            part.way,
            part.course,
            distance=log_uniform(0.55, 1.5, generator),
            spread_degrees=12,
            generator=generator,
        )
        for part in (pan, tilt)
    ]
    shake = _shake(num_frames, generator)
    return Courses(
        x=x,
        y=y,
        radius=radius,
        angle=angle,
        visible=_visibility(label, num_frames=num_frames, generator=generator),
        camera_x=(offsets[0][0] + offsets[1][0]) / zoom.mean() + shake[0],
        camera_y=(offsets[0][1] + offsets[1][1]) / zoom.mean() + shake[1],
        zoom=zoom,
    )


def _visibility(label: str, *, num_frames: int, generator: torch.Generator) -> Tensor:
    """How much of the object is seen [T]: a fade or a jump for two labels, else all of it."""
    moment = uniform(0.2, 0.8, generator)
    fade = uniform(0.02, 0.35, generator) if chance(0.6, generator) else 1e-3
    rise = ((torch.linspace(0, 1, num_frames) - moment) / fade + 0.5).clamp(0, 1)
    if label == "object appears":
        return rise
    return 1 - rise if label == "object vanishes" else torch.ones(num_frames)


def _shake(num_frames: int, generator: torch.Generator) -> Tensor:
    """A hand that is not quite still, in a quarter of the clips; [2, T], well below a pixel."""
    if not chance(0.25, generator):
        return torch.zeros(2, num_frames)
    return torch.randn(2, num_frames, generator=generator) * uniform(0.001, 0.006, generator)
