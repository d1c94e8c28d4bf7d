"""What a clip of the small world contains, before anything moves: the draws of many clips at once.

Lengths are in half short sides of the picture (a square picture spans -1..1), x grows to the
right, y downwards, angles clockwise; times are in seconds from the first frame.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from pydantic import Field, model_validator
from torch import Tensor

from vjepa2.errors import ConfigError
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.strict_config import StrictConfig

MAX_OCCLUDERS = 2
NEVER = math.inf
# Half a cell of the 3 x 3 places where objects begin, and how far from its middle they may.
CELLS, JITTER = 3, 0.3
FIELD_SIDE = 48  # of the random field that a background is made of, texels


class WorldConfig(StrictConfig):
    """The range of worlds that clips are drawn from.

    Attributes:
        num_frames: T.
        fps: frames per second; speeds are per second, so this fixes how far things move.
        size: (height, width) of the picture, pixels.
        max_objects: K, slots for objects; 1 to 9.
        count: least and greatest number of objects in a clip.
        radius: least and greatest radius of an object, half short sides.
        speed: least and greatest speed, half short sides per second.
        collide_share: share of the clips whose objects bounce off each other; in the others they
            pass in front of one another.
        gravity_share: share of the clips in which objects fall.
        camera_share: share of the clips with a moving camera.
        occluder_share: chance of each of two static occluders.
        appear_share: share of the objects that appear or vanish within the clip.
        flash_share: share of the objects that light up once.
        colour_contrast: how much brighter or darker than the background objects are, 0 to 1.
    """

    num_frames: int = Field(default=16, ge=2, le=1 << 12)
    fps: float = Field(default=6.0, gt=0, le=1000)
    size: tuple[int, int] = (64, 64)
    max_objects: int = Field(default=5, ge=1, le=CELLS * CELLS)
    count: tuple[int, int] = (1, 5)
    radius: tuple[float, float] = (0.16, 0.3)
    speed: tuple[float, float] = (0.3, 1.1)
    collide_share: float = Field(default=0.7, ge=0, le=1)
    gravity_share: float = Field(default=0.25, ge=0, le=1)
    camera_share: float = Field(default=0.4, ge=0, le=1)
    occluder_share: float = Field(default=0.35, ge=0, le=1)
    appear_share: float = Field(default=0.25, ge=0, le=1)
    flash_share: float = Field(default=0.15, ge=0, le=1)
    colour_contrast: float = Field(default=0.3, gt=0, le=0.5)

    @model_validator(mode="after")
    def _in_order(self) -> "WorldConfig":
        if not 16 <= min(self.size) <= max(self.size) <= 1 << 12:
            raise ConfigError(f"size must be 16 to 4096 pixels each, got {self.size}")
        if not 0 <= self.count[0] <= self.count[1] <= self.max_objects:
            raise ConfigError(
                f"count must be (least, greatest) within 0 to max_objects={self.max_objects}, got "
                f"{self.count}"
            )
        for name in ("radius", "speed"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 4:
                raise ConfigError(f"{name} must be (least, greatest) within 0 to 4")
        return self

    @property
    def seconds(self) -> float:
        """Time of the last frame."""
        return (self.num_frames - 1) / self.fps

    @property
    def half_size(self) -> tuple[float, float]:
        """Half the width and half the height of the picture, in half short sides."""
        height, width = self.size
        return width / min(self.size), height / min(self.size)


class Draws:
    """Random numbers of many clips: each clip has a stream of its own, whatever the batch is.

    Args:
        seed: of the set of clips.
        numbers: [B] of the clips in it.
        device: where the tensors shall be.
    """

    def __init__(self, seed: int, numbers: Int[Tensor, " B"], device: torch.device) -> None:
        self._keys: UInt64[np.ndarray, "B 1"] = stream(
            stream_key(seed=seed), numbers.cpu().numpy()
        )[:, None]
        self._used = 0
        self._device = device

    def even(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "B *shape"]:
        """Numbers drawn evenly from [low, high)."""
        count = math.prod(shape)
        bits = stream(self._keys, np.arange(self._used, self._used + count))
        self._used += count
        values = torch.from_numpy(low + (high - low) * uniform(bits)).float()
        return values.reshape(-1, *shape).to(self._device)

    def chance(self, share: float, *shape: int) -> Bool[Tensor, "B *shape"]:
        """True with the given probability."""
        return self.even(*shape) < share

    def normal(self, *shape: int) -> Float[Tensor, "B *shape"]:
        """Normal numbers of mean 0 and deviation 1 (Box and Muller)."""
        length = (-2 * torch.log1p(-self.even(*shape).clamp(max=1 - 1e-7))).sqrt()
        return length * torch.cos(self.even(*shape, high=2 * math.pi))

    def order(self, size: int) -> Int[Tensor, "B n"]:
        """A random order of 0..size-1."""
        return self.even(size).argsort(dim=1)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Many worlds at time 0; all tensors have the clips on the first axis.

    Objects stand in slots 0..K-1, the first in front of the others, and all behind the occluders.

    Attributes:
        exists: whether there is an object in a slot.
        position, velocity: of the objects at time 0, (x, y).
        radius: of the objects.
        angle, spin: radians at time 0, radians per second.
        since, until: when an object appears and vanishes; -inf and inf: it is there all the time.
        flash: when it lights up; inf: never.
        colour, stripes: brightness of red, green, blue, and how much stripes change them.
        wave: (x, y, phase) of the stripes, per radius.
        squareness: 0 a disc, 1 a square.
        collides: whether the objects of a clip bounce off each other.
        gravity: downward acceleration.
        boxes: occluders (centre x, centre y, half width, half height); half width 0: none.
        box_colour: of the occluders.
        pan, zoom: velocity of the camera; growth of the picture as exp(zoom * time).
        field: random spectrum of the background.
        ground: mean colour of the background.
        ground_hue: two directions of colour along which the background varies.
    """

    exists: Bool[Tensor, "B K"]
    position: Float[Tensor, "B K 2"]
    velocity: Float[Tensor, "B K 2"]
    radius: Float[Tensor, "B K"]
    angle: Float[Tensor, "B K"]
    spin: Float[Tensor, "B K"]
    since: Float[Tensor, "B K"]
    until: Float[Tensor, "B K"]
    flash: Float[Tensor, "B K"]
    colour: Float[Tensor, "B K 3"]
    stripes: Float[Tensor, "B K 3"]
    wave: Float[Tensor, "B K 3"]
    squareness: Float[Tensor, "B K"]
    collides: Bool[Tensor, " B"]
    gravity: Float[Tensor, " B"]
    boxes: Float[Tensor, "B Q 4"]
    box_colour: Float[Tensor, "B Q 3"]
    pan: Float[Tensor, "B 2"]
    zoom: Float[Tensor, " B"]
    field: Float[Tensor, "B 2 F F"]
    ground: Float[Tensor, "B 3"]
    ground_hue: Float[Tensor, "B 2 3"]

    def __len__(self) -> int:
        return len(self.exists)

    def __getitem__(self, rows: Tensor | slice) -> "Scene":
        """The scenes of some clips."""
        return Scene(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def changed(self, **values: Tensor) -> "Scene":
        """The same scenes with some tensors replaced."""
        return replace(self, **values)


def draw_scenes(
    config: WorldConfig,
    *,
    seed: int,
    numbers: Int[Tensor, " B"],
    device: torch.device | str = "cpu",
) -> Scene:
    """Draw the scenes of clips `numbers` of a seed; each is a pure function of (seed, number).

    Args:
        config: which worlds there are.
        seed: 0 or more.
        numbers: [B], each 0 or more.
        device: where the tensors shall be.

    Raises:
        ConfigError: the seed is negative or has more than 63 bits.
    """
    draws = Draws(seed, numbers, torch.device(device))
    slots, (half_width, half_height) = config.max_objects, config.half_size
    least, greatest = config.count
    count = least + (draws.even(1) * (greatest - least + 1)).floor()
    exists = draws.order(slots) < count
    radius = draws.even(slots, low=config.radius[0], high=config.radius[1])
    cell = draws.order(CELLS * CELLS)[:, :slots]
    middle = torch.stack([cell % CELLS, cell // CELLS], dim=-1) * (2 / CELLS) - (1 - 1 / CELLS)
    middle = middle + draws.even(slots, 2, low=-1, high=1) * (JITTER / CELLS)
    half = middle.new_tensor([half_width, half_height])
    room = (half - radius[..., None]).clamp(min=0)
    position = torch.minimum(torch.maximum(middle * half, -room), room)
    speed = draws.even(slots, low=config.speed[0], high=config.speed[1])
    heading = draws.even(slots, high=2 * math.pi)
    velocity = speed[..., None] * torch.stack([heading.cos(), heading.sin()], dim=-1)
    ground = draws.even(3, low=0.2, high=0.8)
    moving_camera = draws.chance(config.camera_share, 1)
    drift = draws.even(1, high=0.35) * moving_camera
    towards = draws.even(1, high=2 * math.pi)
    since, until = _presence(draws, config)
    boxes, box_colour = _occluders(draws, config, ground)
    return Scene(
        exists=exists,
        position=position,
        velocity=velocity,
        radius=radius,
        angle=draws.even(slots, high=2 * math.pi),
        spin=draws.even(slots, low=-1.5, high=1.5),
        since=since,
        until=until,
        flash=_moments(draws, config, share=config.flash_share),
        colour=_contrasting(draws, ground, slots, contrast=config.colour_contrast),
        stripes=draws.normal(slots, 3) * 0.1,
        wave=torch.cat(
            [draws.even(slots, 2, low=-5, high=5), draws.even(slots, 1, high=2 * math.pi)], dim=-1
        ),
        squareness=draws.even(slots),
        collides=draws.chance(config.collide_share, 1)[:, 0],
        gravity=(draws.chance(config.gravity_share, 1) * draws.even(1, low=0.4, high=1.2))[:, 0],
        boxes=boxes,
        box_colour=box_colour,
        pan=drift * torch.cat([towards.cos(), towards.sin()], dim=1),
        zoom=(draws.even(1, low=-0.15, high=0.15) * moving_camera)[:, 0],
        field=draws.normal(2, FIELD_SIDE, FIELD_SIDE),
        ground=ground,
        ground_hue=draws.normal(2, 3) * 0.025 + draws.even(2, 1, low=-0.1, high=0.1),
    )


def _moments(draws: Draws, config: WorldConfig, *, share: float) -> Float[Tensor, "B K"]:
    """One moment per object, well inside the clip; `NEVER` for those that have none."""
    moment = draws.even(config.max_objects, low=0.15, high=0.85) * config.seconds
    return torch.where(draws.chance(share, config.max_objects), moment, NEVER)


def _presence(
    draws: Draws, config: WorldConfig
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
    moment = _moments(draws, config, share=config.appear_share)
    appears = draws.chance(0.5, config.max_objects)
    changes = moment < NEVER
    since = torch.where(changes & appears, moment, -NEVER)
    return since, torch.where(changes & ~appears, moment, NEVER)


def _occluders(
    draws: Draws, config: WorldConfig, ground: Tensor
) -> tuple[Float[Tensor, "B Q 4"], Float[Tensor, "B Q 3"]]:
    """Bars and boxes that stand in front of everything."""
    half = ground.new_tensor(config.half_size)
    centre = draws.even(MAX_OCCLUDERS, 2, low=-0.7, high=0.7) * half
    extent = draws.even(MAX_OCCLUDERS, 2, low=0.2, high=0.45)
    # Half of them reach from border to border, upright or lying.
    through = draws.chance(0.5, MAX_OCCLUDERS, 1)
    axis = draws.chance(0.5, MAX_OCCLUDERS, 1)
    longer = torch.cat([axis, ~axis], dim=-1) & through
    extent = torch.where(longer, 4.0 * half, extent)
    there = draws.chance(config.occluder_share, MAX_OCCLUDERS, 1)
    colour = _contrasting(draws, ground, MAX_OCCLUDERS, contrast=0.12)
    return torch.cat([centre, extent * there], dim=-1), colour


def _contrasting(
    draws: Draws, ground: Float[Tensor, "B 3"], count: int, *, contrast: float
) -> Float[Tensor, "B n 3"]:
    """Colours whose mean brightness differs from the background's by at least `contrast`."""
    level = ground.mean(dim=1)[:, None]
    room_below, room_above = (level - contrast).clamp(min=0), (1 - contrast - level).clamp(min=0)
    place = draws.even(count) * (room_below + room_above)
    brightness = torch.where(place < room_below, place, level + contrast + (place - room_below))
    tint = draws.even(count, 3)
    tint = (tint - tint.mean(dim=-1, keepdim=True)) * 0.6
    return (brightness[..., None] + tint).clamp(0.02, 0.98)
