"""How the objects of the small world move: straight, falling, bouncing off borders and each other.

All clips of a batch are moved together, in short equal steps. Masses grow with the square of the
radius, every bounce is elastic, and an object that is not there (yet, any more) touches nothing.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.video.synthetic_world_scene import NEVER, Scene, WorldConfig

STEPS_PER_SECOND = 48  # at least
FADE_SECONDS = 0.12  # how long an object takes to appear or vanish
FLASH_SECONDS = 0.35


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What happens in many clips; times in seconds, lengths in half short sides of the picture.

    Attributes:
        position: of the objects in the world, (x, y).
        presence: how much of an object is there, 0 to 1 (it fades in and out).
        brightness: how much it is lit up, 0 to 1.
        camera: what the camera looks at, (x, y).
        zoom: how much it magnifies.
        hit_time: first contact of every pair of objects in a bounce, inf: none.
        border_time: first bounce of every object off a border, inf: none.
    """

    position: Float[Tensor, "B T K 2"]
    presence: Float[Tensor, "B T K"]
    brightness: Float[Tensor, "B T K"]
    camera: Float[Tensor, "B T 2"]
    zoom: Float[Tensor, "B T"]
    hit_time: Float[Tensor, "B K K"]
    border_time: Float[Tensor, "B K"]

    def __getitem__(self, rows: Tensor | slice) -> "Motion":
        """What happens in some clips."""
        return Motion(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def seen_position(self) -> Float[Tensor, "B T K 2"]:
        """Positions in the picture, (x, y), as the camera shows them."""
        return (self.position - self.camera[:, :, None]) * self.zoom[:, :, None, None]


def move(scene: Scene, config: WorldConfig) -> Motion:
    """Let the world run for the length of the clip."""
    device, frames = scene.position.device, config.num_frames
    steps = max(1, math.ceil(STEPS_PER_SECOND / config.fps))
    duration = 1 / (config.fps * steps)
    state = _State(scene, config)
    positions = [state.position]
    for step in range((frames - 1) * steps):
        state.advance(step * duration, duration)
        if (step + 1) % steps == 0:
            positions.append(state.position)
    time = torch.arange(frames, device=device) / config.fps
    presence = _rise(time, scene.since) * (1 - _rise(time, scene.until))
    since_flash = time[None, :, None] - scene.flash[:, None]
    lit = (since_flash >= 0) & (since_flash < FLASH_SECONDS)
    # The middle of the clip is looked at straight on, so that the camera leaves little behind.
    moment = time - config.seconds / 2
    return Motion(
        position=torch.stack(positions, dim=1),
        presence=presence * scene.exists[:, None],
        brightness=lit.float() * scene.exists[:, None],
        camera=moment[None, :, None] * scene.pan[:, None],
        zoom=torch.exp(moment * scene.zoom[:, None]),
        hit_time=state.hit_time,
        border_time=state.border_time,
    )


def _rise(time: Tensor, moment: Float[Tensor, "B K"]) -> Float[Tensor, "B T K"]:
    """From 0 to 1 around each moment."""
    return ((time[None, :, None] - moment[:, None]) / FADE_SECONDS + 0.5).clamp(0, 1)


class _State:
    """Positions and velocities while the clock runs."""

    def __init__(self, scene: Scene, config: WorldConfig) -> None:
        self.scene = scene
        self.position, self.velocity = scene.position, scene.velocity
        slots = scene.radius.shape[1]
        half = scene.position.new_tensor(config.half_size)
        self.room = (half - scene.radius[..., None]).clamp(min=0)
        mass = scene.radius**2
        # What a pair's bounce gives the first of the two: 2 m_j / (m_i + m_j).
        self.share = 2 * mass[:, None, :] / (mass[:, None, :] + mass[:, :, None])
        self.reach = scene.radius[:, None, :] + scene.radius[:, :, None]
        self.other = ~torch.eye(slots, dtype=torch.bool, device=mass.device)
        self.pairs = scene.collides[:, None, None] & self.other
        self.hit_time = torch.full_like(self.reach, NEVER)
        self.border_time = torch.full_like(scene.radius, NEVER)
        self.pull = torch.stack([torch.zeros_like(scene.gravity), scene.gravity], dim=1)[:, None]

    def advance(self, now: float, duration: float) -> None:
        """One short step; bounces happen at its end."""
        scene = self.scene
        there = scene.exists & (scene.since <= now) & (scene.until > now)
        self.velocity = self.velocity + self.pull * duration
        self.position = self.position + self.velocity * duration
        beyond = (self.position.abs() > self.room) & (self.velocity * self.position > 0)
        self.velocity = torch.where(beyond, -self.velocity, self.velocity)
        self._note(self.border_time, beyond.any(dim=-1) & there, now + duration)
        self._bounce(there, now + duration)

    def _bounce(self, there: Tensor, now: float) -> None:
        """Exchange momentum in every pair that touches and comes nearer."""
        offset = self.position[:, None] - self.position[:, :, None]  # from i to j, [B, i, j, 2]
        distance = offset.norm(dim=-1)
        touching = (distance < self.reach) & self.pairs & there[:, None] & there[:, :, None]
        direction = offset / distance.clamp(min=1e-6)[..., None]
        approach = ((self.velocity[:, None] - self.velocity[:, :, None]) * direction).sum(dim=-1)
        hit = touching & (approach < 0)
        change = (self.share * approach * hit)[..., None] * direction
        self.velocity = self.velocity + change.sum(dim=2)
        self._note(self.hit_time, hit, now)

    @staticmethod
    def _note(first: Tensor, happens: Tensor, now: float) -> None:
        first[happens & (first == NEVER)] = now
