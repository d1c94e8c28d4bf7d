"""Clips of a small physical world, with everything that happens in them known.

Several textured objects move before a natural-looking background: they bounce off the borders and
off each other or pass in front of one another, fall, hide behind static occluders, appear, vanish
and light up, under a camera that may move. What will happen next can mostly be told from what was
seen, and seldom from two frames: material to learn from by prediction, and to ask questions about.

    clips = make_world_clips(WorldConfig(), seed=0, numbers=range(64))
    clips.frames            # uint8 [64, 16, 3, 64, 64]
    clips.events[0]         # what happens in the first clip, in order

Clip number i of a seed is the same on every machine up to rounding, and the same bytes on the same
device, in a batch of any size. Whole batches are computed at once, on any device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vjepa2.errors import ConfigError, check_kind, checked_integer
from vjepa2.runtime import resolve_device
from vjepa2.video.synthetic_world_physics import Motion, move
from vjepa2.video.synthetic_world_render import render
from vjepa2.video.synthetic_world_scene import Scene, WorldConfig, draw_scenes

LARGEST_NUMBER = 2**62


class Event(NamedTuple):
    """One thing that happens at a moment.

    Attributes:
        seconds: from the first frame.
        kind: "collision" (two objects), "border" (first bounce off a border), "appears",
            "vanishes" or "flash".
        objects: slots of the objects.
    """

    seconds: float
    kind: str
    objects: tuple[int, ...]


@dataclass(frozen=True)
class WorldClips:
    """Frames and what is true of them.

    Attributes:
        frames: RGB, 0..255.
        seen: share of every object that is seen, 0 (hidden, outside, not there) to 1.
        scene: what the worlds contain.
        motion: what happens in them.
    """

    frames: UInt8[Tensor, "B T 3 H W"]
    seen: Float[Tensor, "B T K"]
    scene: Scene
    motion: Motion

    @property
    def tracks(self) -> Float[Tensor, "B T K 2"]:
        """Positions in the picture, (x, y) in half short sides from its middle; hidden ones too."""
        return self.motion.seen_position

    @property
    def count(self) -> Int[Tensor, " B"]:
        """Objects in the clip, whether or not they are ever seen."""
        return self.scene.exists.sum(dim=1)

    @property
    def collided(self) -> Bool[Tensor, " B"]:
        """Whether any two objects bounce off each other."""
        return self.motion.hit_time.isfinite().flatten(1).any(dim=1)

    @property
    def events(self) -> list[list[Event]]:
        """What happens in every clip, in order of time."""
        return [_events(self.scene, self.motion, row) for row in range(len(self.scene))]


def make_world_clips(
    config: WorldConfig,
    *,
    seed: int,
    numbers: Sequence[int],
    device: torch.device | str = "cpu",
) -> WorldClips:
    """Make clips `numbers` of a seed.

    Args:
        config: which worlds there are.
        seed: of the set of clips, 0 or more.
        numbers: which clips, each 0 or more; any order, any number of them.
        device: where everything is computed and stays.

    Raises:
        ConfigError: an argument is of a wrong kind or out of range.
        DeviceError: there is no such device.
    """
    check_kind("config", config, WorldConfig, words="a WorldConfig")
    check_kind("numbers", numbers, Sequence, words="a range or list of numbers")
    checked = [checked_integer("numbers", n, least=0, most=LARGEST_NUMBER) for n in numbers]
    if not checked:
        raise ConfigError("numbers is empty: name at least one clip, such as range(8).")
    scene = draw_scenes(
        config, seed=seed, numbers=torch.tensor(checked), device=resolve_device(device)
    )
    return clips_of(scene, config)


def clips_of(scene: Scene, config: WorldConfig) -> WorldClips:
    """Move and paint given scenes."""
    motion = move(scene, config)
    pictures = render(scene, motion, config)
    return WorldClips(pictures.frames, pictures.seen, scene, motion)


def _events(scene: Scene, motion: Motion, row: int) -> list[Event]:
    """Events of one clip that fall into it."""
    found = []
    for kind, times in (
        ("border", motion.border_time[row]),
        ("appears", scene.since[row]),
        ("vanishes", scene.until[row]),
        ("flash", scene.flash[row]),
    ):
        for slot, seconds in enumerate(times.tolist()):
            if math.isfinite(seconds) and bool(scene.exists[row, slot]):
                found.append(Event(seconds, kind, (slot,)))
    hits = motion.hit_time[row].tolist()
    for first, line in enumerate(hits):
        for second in range(first + 1, len(line)):
            if math.isfinite(line[second]):
                found.append(Event(line[second], "collision", (first, second)))
    return sorted(found)


def world_facts(clips: WorldClips, row: int) -> dict[str, Any]:
    """What is true of one clip, as JSON values; positions and shares rounded to three digits."""
    slots = clips.scene.exists[row].nonzero()[:, 0].tolist()
    return {
        "count": int(clips.count[row]),
        "collided": bool(clips.collided[row]),
        "events": [
            {"seconds": round(event.seconds, 3), "kind": event.kind, "objects": event.objects}
            for event in clips.events[row]
        ],
        "objects": [
            {
                "slot": slot,
                "track": _rounded(clips.tracks[row, :, slot]),
                "seen": _rounded(clips.seen[row, :, slot]),
            }
            for slot in slots
        ],
    }


def _rounded(values: Tensor) -> Any:
    return [
        [round(item, 3) for item in value] if isinstance(value, list) else round(value, 3)
        for value in values.tolist()
    ]
