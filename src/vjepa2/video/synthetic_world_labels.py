"""What lies at every pixel of the small world: which thing, of which class, how far away.

    clips = make_labelled_clips(WorldConfig(), seed=0, numbers=range(8))
    clips.things      # uint8 [8, 16, 64, 64]: 0 the background, 1 the first object, ...
    clips.classes     # uint8: places in CLASS_NAMES["shape"]
    clips.distance    # float32, metres

In these worlds distance can be seen: what is farther looks smaller, fades into the background and
is covered by what is nearer. Objects are discs or squares and nothing between, so that every pixel
has one right class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.errors import ConfigError, check_choice, check_kind, checked_integer
from vjepa2.runtime import resolve_device
from vjepa2.video.synthetic_world import LARGEST_NUMBER, WorldClips, clips_of
from vjepa2.video.synthetic_world_physics import Motion
from vjepa2.video.synthetic_world_render import Canvas
from vjepa2.video.synthetic_world_scene import NEVER, Scene, WorldConfig, draw_scenes

ClassKind = Literal["shape", "brightness"]
CLASS_NAMES: dict[ClassKind, tuple[str, ...]] = {
    "shape": ("background", "disc", "square", "occluder"),
    "brightness": ("background", "dark object", "bright object", "occluder"),
}
# Metres. An object looks as large as a thing of radius SIZE_AT_ONE does at 1 m.
OCCLUDER_DISTANCE, NEAREST, FARTHEST, BACKGROUND_DISTANCE = 1.0, 1.5, 4.5, 6.0
SIZE_AT_ONE = 0.55
HAZE = 0.25  # per metre beyond the nearest object


@dataclass(frozen=True)
class LabelledClips:
    """Clips and what lies at every pixel of them.

    Attributes:
        frames: RGB, 0..255.
        things: 0 the background, k + 1 the object in slot k, then the occluders.
        classes: place of the class in `class_names`.
        distance: metres, above 0.
        class_names: one name per class number.
    """

    frames: UInt8[Tensor, "B T 3 H W"]
    things: UInt8[Tensor, "B T H W"]
    classes: UInt8[Tensor, "B T H W"]
    distance: Float[Tensor, "B T H W"]
    class_names: tuple[str, ...]


def make_labelled_clips(
    config: WorldConfig,
    *,
    seed: int,
    numbers: Sequence[int],
    classes: ClassKind = "shape",
    device: torch.device | str = "cpu",
) -> LabelledClips:
    """Make clips `numbers` of a seed with labels of all pixels.

    Args:
        config: which worlds there are; radii, flashes, and objects that appear or vanish are left
            out of account.
        seed: of the set of clips, 0 or more.
        numbers: which clips, each 0 or more.
        classes: what the classes are: "shape" of the object, or whether it is dark or bright
            beside the background ("brightness").
        device: where everything is computed and stays.

    Raises:
        ConfigError: an argument is of a wrong kind or out of range.
    """
    check_kind("config", config, WorldConfig, words="a WorldConfig")
    check_choice("classes", classes, CLASS_NAMES)
    check_kind("numbers", numbers, Sequence, words="a range or list of numbers")
    checked = [checked_integer("numbers", n, least=0, most=LARGEST_NUMBER) for n in numbers]
    if not checked:
        raise ConfigError("numbers is empty: name at least one clip, such as range(8).")
    drawn = draw_scenes(
        config, seed=seed, numbers=torch.tensor(checked), device=resolve_device(device)
    )
    distances = _distances(drawn)
    scene = _seen_from_afar(drawn, distances)
    clips = clips_of(scene, config)
    things = world_masks(clips, config)
    return LabelledClips(
        frames=clips.frames,
        things=things,
        classes=_of_things(things, _classes(scene, classes)).to(torch.uint8),
        distance=_of_things(things, _with_occluders(distances, scene)),
        class_names=CLASS_NAMES[classes],
    )


def world_masks(clips: WorldClips, config: WorldConfig) -> UInt8[Tensor, "B T H W"]:
    """Which thing is seen most at every pixel.

    Args:
        clips: from `make_world_clips` or `clips_of`, with this configuration.
        config: of the worlds.

    Returns:
        0 the background, k + 1 the object in slot k of K, K + 1 and more the occluders.
    """
    rows = [slice(row, row + 1) for row in range(len(clips.scene))]
    return torch.cat(
        [_Owners(clips.scene[row], clips.motion[row], config).owners() for row in rows]
    )


class _Owners(Canvas):
    """One clip, painted to learn what is where. (One: things that are not there cost nothing.)"""

    def __init__(self, scene: Scene, motion: Motion, config: WorldConfig) -> None:
        super().__init__(scene, motion, config)
        self.most = torch.zeros_like(self.through)
        self.owner = torch.zeros_like(self.through, dtype=torch.uint8)
        self.thing = 0

    def owners(self) -> UInt8[Tensor, "1 T H W"]:
        """Paint, and say who has most of every pixel."""
        slots = self.scene.radius.shape[1]
        for box in range(self.scene.boxes.shape[1]):
            self.thing = slots + 1 + box
            self._paint_box(box)
        for slot in range(slots):
            self.thing = slot + 1
            self._paint_object(slot)
        self.owner[self.through > self.most] = 0
        return self.owner

    def _cover(self, alpha: Tensor, colours: list[Tensor]) -> Tensor:
        part = super()._cover(alpha, colours)
        more = part > self.most
        self.owner[more] = self.thing
        self.most = torch.where(more, part, self.most)
        return part


def _distances(scene: Scene) -> Float[Tensor, "B K"]:
    """Of the objects; the first slot, which is in front, is nearest."""
    slots = scene.radius.shape[1]
    place = torch.arange(slots, device=scene.radius.device)
    # The angle is drawn evenly from a full turn and says nothing else about an object's size.
    within = scene.angle / (2 * torch.pi)
    return NEAREST + (FARTHEST - NEAREST) * (place + within) / slots


def _seen_from_afar(scene: Scene, distances: Float[Tensor, "B K"]) -> Scene:
    """Objects of one true size, discs or squares, with haze before them."""
    left = torch.exp(-HAZE * (distances - NEAREST))[..., None]
    ground = scene.ground[:, None]
    never = torch.full_like(scene.since, NEVER)
    return scene.changed(
        radius=SIZE_AT_ONE / distances,
        squareness=scene.squareness.round(),
        colour=ground + (scene.colour - ground) * left,
        stripes=scene.stripes * left,
        since=-never,
        until=never,
        flash=never,
    )


def _classes(scene: Scene, kind: ClassKind) -> Float[Tensor, "B things"]:
    """Class of the background, of every object and of the occluders."""
    if kind == "shape":
        second = scene.squareness > 0.5
    else:
        second = scene.colour.mean(dim=-1) > scene.ground.mean(dim=-1, keepdim=True)
    objects = 1 + second.float()
    occluders = torch.full_like(scene.boxes[..., 0], 3)
    return torch.cat([torch.zeros_like(objects[:, :1]), objects, occluders], dim=1)


def _with_occluders(distances: Float[Tensor, "B K"], scene: Scene) -> Float[Tensor, "B things"]:
    """Distance of the background, of every object and of the occluders."""
    background = torch.full_like(distances[:, :1], BACKGROUND_DISTANCE)
    occluders = torch.full_like(scene.boxes[..., 0], OCCLUDER_DISTANCE)
    return torch.cat([background, distances, occluders], dim=1)


def _of_things(
    things: UInt8[Tensor, "B T H W"], values: Float[Tensor, "B things"]
) -> Float[Tensor, "B T H W"]:
    """The value of the thing at every pixel."""
    return values.gather(1, things.flatten(1).long()).reshape(things.shape)
