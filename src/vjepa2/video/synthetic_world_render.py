"""Pictures of the small world: what the camera sees, painted front to back with tensor code.

Painting from the front keeps, per pixel, how much still shines through; so what is hidden costs
nothing more, and how much of every object is seen falls out as a sum.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from vjepa2.video.synthetic_world_physics import Motion
from vjepa2.video.synthetic_world_scene import Scene, WorldConfig

CHUNK = 4  # clips that are painted at once: their pixels stay in the processor's cache
SPECTRUM_EXPONENT = 3.0  # power of a background falls as 1 / f^this; natural images: about 2
FIELD_REACH = 1.6  # the random field spans so many half short sides to each side, then mirrors
LIT_COLOUR = (1.0, 0.95, 0.25)
ANGLES = 64  # at which an outline is measured


@dataclass(frozen=True)
class Pictures:
    """Frames, and how much of every object is seen in them.

    Attributes:
        frames: RGB, 0..255.
        seen: share of an object's area that is inside the picture and in front, 0 to 1.
    """

    frames: UInt8[Tensor, "B T 3 H W"]
    seen: Float[Tensor, "B T K"]


def render(scene: Scene, motion: Motion, config: WorldConfig) -> Pictures:
    """Paint clips."""
    parts = [
        Canvas(scene[rows], motion[rows], config).paint()
        for rows in (slice(start, start + CHUNK) for start in range(0, len(scene), CHUNK))
    ]
    frames, seen = zip(*parts, strict=True)
    return Pictures(torch.cat(frames), torch.cat(seen))


class Canvas:
    """A few clips while they are painted."""

    def __init__(self, scene: Scene, motion: Motion, config: WorldConfig) -> None:
        self.scene, self.motion, self.config = scene, motion, config
        height, width = config.size
        device = scene.position.device
        self.pixels = min(height, width) / 2  # per half short side
        self.x = (torch.arange(width, device=device) + 0.5 - width / 2) / self.pixels
        self.y = (torch.arange(height, device=device) + 0.5 - height / 2) / self.pixels
        batch, frames = motion.zoom.shape
        self.through = torch.ones(batch, frames, height, width, device=device)
        self.colours = torch.zeros(3, batch, frames, height, width, device=device)
        # Where a pixel looks in the world, for things that rest in it.
        self.world_x = self.x / motion.zoom[..., None] + motion.camera[..., :1]  # [B, T, W]
        self.world_y = self.y / motion.zoom[..., None] + motion.camera[..., 1:]  # [B, T, H]

    def paint(self) -> tuple[Tensor, Tensor]:
        """All things, the nearest first; frames uint8 [B, T, 3, H, W] and seen [B, T, K]."""
        for box in range(self.scene.boxes.shape[1]):
            self._paint_box(box)
        slots = range(self.scene.radius.shape[1])
        seen = torch.stack([self._paint_object(slot) for slot in slots], dim=-1)
        background = self._background()
        for channel, colour in enumerate(self.colours):
            colour.addcmul_(self.through, background[:, channel])
        frames = self.colours.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
        return frames.permute(1, 2, 0, 3, 4).contiguous(), seen

    def _cover(self, alpha: Tensor, colours: list[Tensor]) -> Tensor:
        """Put a thing behind everything so far; returns what is seen of it, [B, T, H, W]."""
        part = alpha.mul_(self.through)
        for channel, colour in enumerate(colours):
            self.colours[channel].addcmul_(part, colour)
        self.through.sub_(part)
        return part

    def _paint_box(self, box: int) -> None:
        shape = self.scene.boxes[:, box]
        if not bool((shape[:, 2] > 0).any()):
            return
        scale = self.motion.zoom[..., None] * self.pixels
        centre, half = shape[:, None, :2], shape[:, None, 2:]
        side_x = half[..., :1] - (self.world_x - centre[..., :1]).abs()
        side_y = half[..., 1:] - (self.world_y - centre[..., 1:]).abs()
        there = (shape[:, 2] > 0)[:, None, None]
        cover_x = (side_x * scale + 0.5).clamp(0, 1) * there
        cover_y = (side_y * scale + 0.5).clamp(0, 1)
        # Bands across the occluder, fixed to the world.
        bands = (torch.sin(self.world_x * 9) * 0.04)[..., None, :] + (
            torch.sin(self.world_y * 7) * 0.04
        )[..., :, None]
        colour = self.scene.box_colour[:, box]
        self._cover(
            cover_x[..., None, :] * cover_y[..., :, None],
            [bands + colour[:, channel, None, None, None] for channel in range(3)],
        )

    def _paint_object(self, slot: int) -> Tensor:
        """Returns how much of it is seen, [B, T]."""
        scene, motion = self.scene, self.motion
        seen = torch.zeros_like(motion.zoom)
        rows = scene.exists[:, slot].nonzero()[:, 0]
        if len(rows) == 0:
            return seen
        if len(rows) < len(scene):
            part = _Part(self, rows)
            seen[rows] = part.paint(slot)
            return seen
        return self._object(slot)

    def _object(self, slot: int) -> Tensor:
        scene, motion = self.scene, self.motion
        centre = motion.seen_position[:, :, slot]
        radius = scene.radius[:, slot, None] * motion.zoom  # [B, T]
        time = torch.arange(motion.zoom.shape[1], device=radius.device) / self.config.fps
        angle = scene.angle[:, slot, None] + scene.spin[:, slot, None] * time
        along, across = self._turned(centre, radius, angle)
        squareness = scene.squareness[:, slot]
        blend = squareness[:, None, None, None]
        distance = (along * along).addcmul_(across, across).sqrt_().mul_(1 - blend)
        distance.addcmul_(torch.maximum(along.abs(), across.abs()), blend)
        scale = (radius * self.pixels)[..., None, None]
        presence = motion.presence[:, :, slot, None, None]
        alpha = (1 - distance).mul_(scale).add_(0.5).clamp_(0, 1).mul_(presence)
        wave = scene.wave[:, slot, :, None, None, None]
        stripes = (along * wave[:, 0]).addcmul_(across, wave[:, 1]).add_(wave[:, 2]).sin_()
        lit = motion.brightness[:, :, slot, None, None]
        colours = []
        for channel, lit_colour in enumerate(LIT_COLOUR):
            base = scene.colour[:, slot, channel, None, None, None]
            colour = (stripes * scene.stripes[:, slot, channel, None, None, None]).add_(base)
            colours.append(colour.clamp_(0, 1).mul_(1 - lit).add_(lit * lit_colour))
        part = self._cover(alpha, colours)
        whole = _area(squareness)[:, None] * (radius * self.pixels) ** 2
        return (part.sum(dim=(2, 3)) / whole).clamp(max=1)

    def _turned(self, centre: Tensor, radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Every pixel in an object's own axes, in units of its radius; each [B, T, H, W]."""
        dx = (self.x - centre[..., :1]) / radius[..., None]
        dy = (self.y - centre[..., 1:]) / radius[..., None]
        cosine, sine = angle.cos()[..., None], angle.sin()[..., None]
        along = (dx * cosine)[..., None, :] + (dy * sine)[..., :, None]
        across = (dy * cosine)[..., :, None] - (dx * sine)[..., None, :]
        return along, across

    def _background(self) -> Float[Tensor, "B 3 T H W"]:
        image = _textured(self.scene)
        batch, frames, width = self.world_x.shape
        height = self.world_y.shape[2]
        grid = torch.stack(
            [
                self.world_x[..., None, :].expand(-1, -1, height, -1),
                self.world_y[..., :, None].expand(-1, -1, -1, width),
            ],
            dim=-1,
        )
        seen = functional.grid_sample(
            image,
            grid.reshape(batch, frames * height, width, 2) / FIELD_REACH,
            mode="bilinear",
            padding_mode="reflection",
            align_corners=False,
        )
        return seen.reshape(batch, 3, frames, height, width)


class _Part(Canvas):
    """Some clips of a canvas; what is painted here appears there."""

    def __init__(self, canvas: Canvas, rows: Tensor) -> None:
        self.whole, self.rows = canvas, rows
        self.scene, self.motion, self.config = (
            canvas.scene[rows],
            canvas.motion[rows],
            canvas.config,
        )
        self.pixels, self.x, self.y = canvas.pixels, canvas.x, canvas.y
        self.through, self.colours = canvas.through[rows], canvas.colours[:, rows]

    def paint(self, slot: int) -> Tensor:  # type: ignore[override]
        seen = self._object(slot)
        self.whole.through[self.rows] = self.through
        self.whole.colours[:, self.rows] = self.colours
        return seen


def _area(squareness: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Area of an object of radius 1."""
    angle = (torch.arange(ANGLES, device=squareness.device) + 0.5) * (2 * math.pi / ANGLES)
    corner = torch.maximum(angle.cos().abs(), angle.sin().abs())
    blend = squareness[:, None]
    outline = 1 / ((1 - blend) + blend * corner)
    return (outline**2).mean(dim=1) * math.pi


def _textured(scene: Scene) -> Float[Tensor, "B 3 F F"]:
    """Backgrounds with the spectrum of natural images: two fields along two colours."""
    side = scene.field.shape[-1]
    frequency = torch.fft.fftfreq(side, device=scene.field.device) * side
    squared = frequency[:, None] ** 2 + frequency**2
    squared[0, 0] = math.inf  # no constant part
    spectrum = torch.complex(scene.field[:, 0], scene.field[:, 1])
    spectrum = spectrum * squared.pow(-SPECTRUM_EXPONENT / 4)
    both = torch.view_as_real(torch.fft.ifft2(spectrum)).permute(0, 3, 1, 2)
    both = both / both.std(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    image = torch.einsum("bfyx,bfc->bcyx", both, scene.ground_hue)
    return (image + scene.ground[:, :, None, None]).clamp(0.02, 0.98)
