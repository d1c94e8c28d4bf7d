"""What synthetic clips are painted from: natural-looking textures, shapes and objects.

Backgrounds have the power spectrum of natural images (amplitude falling with frequency, so that
no scale is special: a frame does not tell how far the camera zoomed) with patches of other colour
for edges. Objects are star-shaped outlines with a texture of their own. Everything is plain
tensor code on the CPU, drawn from a `torch.Generator`.
Source of the spectrum: Field, "Relations between the statistics of natural images and the
response properties of cortical cells", J. Opt. Soc. Am. A 4 (1987): power about 1 / f^2.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TEXTURE_SIZE = 32  # texels along a side of an object's texture
OUTLINE_STEPS = 360  # entries of the table that holds an outline


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One float drawn evenly from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One float whose logarithm is drawn evenly; low > 0."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def chance(probability: float, generator: torch.Generator) -> bool:
    """True with the given probability."""
    return uniform(0.0, 1.0, generator) < probability


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """One integer drawn evenly from low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator).item())


def noise_fields(
    height: int, width: int, *, exponent: float, generator: torch.Generator
) -> Float[Tensor, "2 H W"]:
    """Two independent periodic random fields with power ~ 1 / f^exponent, mean 0, deviation 1.

    exponent 2 is what natural images have; larger is smoother. float32.
    """
    fy = torch.fft.fftfreq(height)[:, None] * height
    fx = torch.fft.fftfreq(width)[None, :] * width
    # A longer side holds more cycles of the same texture, so frequencies count per short side.
    side = min(height, width)
    frequency = ((fy * side / height) ** 2 + (fx * side / width) ** 2).sqrt()
    frequency[0, 0] = math.inf  # no constant part
    white = torch.randn(2, height, width, generator=generator)
    spectrum = torch.complex(white[0], white[1]) * frequency.pow(-exponent / 2)
    # One complex transform gives two real fields.
    complex_field = torch.fft.ifft2(spectrum)
    fields = torch.stack([complex_field.real, complex_field.imag])
    return fields / fields.std(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def textured(
    height: int, width: int, *, colour: Tensor, contrast: float, generator: torch.Generator
) -> Float[Tensor, "3 H W"]:
    """A textured surface around `colour` [3]; values are not clamped.

    A smooth random field changes brightness, a second one the hue; where a field passes a random
    level the colour jumps (edges); a gradient lies over all. `contrast` is the deviation of
    brightness, in units of the full range 0..1.
    """
    fields = noise_fields(height, width, exponent=uniform(2.0, 3.4, generator), generator=generator)
    hue = torch.randn(3, generator=generator) * contrast * 0.5
    image = colour[:, None, None] + contrast * fields[0] + hue[:, None, None] * fields[1]
    if chance(0.6, generator):
        level = uniform(-0.8, 0.8, generator)
        jump = torch.randn(3, generator=generator) * contrast * 1.2
        image = image + jump[:, None, None] * (fields[1] > level)
    slope = torch.randn(2, generator=generator) * contrast * 0.7
    ramp_y = torch.linspace(-1, 1, height)[:, None] * slope[0]
    ramp_x = torch.linspace(-1, 1, width)[None, :] * slope[1]
    return image + ramp_y + ramp_x


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object: an outline, a texture and how opaque it is.

    Attributes:
        outline: float32 [OUTLINE_STEPS], distance of the edge from the centre by angle, at most 1.
        stretch: the object is this much narrower along its second axis, at least 1.
        texture: float32 [3, TEXTURE_SIZE, TEXTURE_SIZE] in 0..1.
        opacity: 0 (invisible) to 1.
    """

    outline: Tensor
    stretch: float
    texture: Tensor
    opacity: float


def _polygon(angles: Tensor, corners: int) -> Tensor:
    sector = 2 * math.pi / corners
    return math.cos(sector / 2) / torch.cos(torch.remainder(angles, sector) - sector / 2)


def _outline(generator: torch.Generator) -> Tensor:
    """A polygon, a star, an ellipse or a smooth blob, scaled to a largest radius of 1."""
    angles = torch.arange(OUTLINE_STEPS) * (2 * math.pi / OUTLINE_STEPS)
    kind = integer(0, 3, generator)
    if kind == 0:
        radius = _polygon(angles, integer(3, 6, generator))
    elif kind == 1:
        corners = integer(3, 6, generator)
        wave = (torch.remainder(angles * corners / math.pi, 2) - 1).abs()
        radius = 1 - uniform(0.35, 0.6, generator) * (1 - wave)
    elif kind == 2:
        radius = torch.ones(OUTLINE_STEPS)
    else:
        radius = torch.ones(OUTLINE_STEPS)
        for wave_number in (1, 2, 3, 4, 5):
            phase = uniform(0, 2 * math.pi, generator)
            size = uniform(0, 0.45, generator) / wave_number
            radius = radius + size * torch.cos(wave_number * angles + phase)
        radius = radius.clamp(min=0.2)
    return radius / radius.max()


def random_object(*, background_colour: Tensor, generator: torch.Generator) -> SceneObject:
    """Draw an object whose brightness differs from `background_colour` [3] by at least 0.25."""
    brightness = float(background_colour.mean())
    darker, brighter = brightness > 0.25, brightness < 0.75
    sign = 1 if brighter and (not darker or chance(0.5, generator)) else -1
    room = 1 - brightness if sign > 0 else brightness
    target = brightness + sign * uniform(0.25, max(0.3, 0.9 * room), generator)
    colour = torch.rand(3, generator=generator)
    colour = (colour - colour.mean()) * 0.7 + target
    texture = textured(
        TEXTURE_SIZE,
        TEXTURE_SIZE,
        colour=colour,
        contrast=uniform(0.05, 0.2, generator),
        generator=generator,
    )
    return SceneObject(
        outline=_outline(generator),
        stretch=uniform(1.3, 1.9, generator),
        texture=texture.clamp(0, 1),
        opacity=1.0 if chance(0.7, generator) else uniform(0.75, 1.0, generator),
    )


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where an object is painted: centre (x, y) and radius in pixels, angle in radians.

    The angle grows clockwise as seen by the viewer, because rows count downwards. `visible`
    multiplies the object's opacity.
    """

    x: float
    y: float
    radius: float
    angle: float
    visible: float = 1.0


def paint(image: Float[Tensor, "3 H W"], thing: SceneObject, pose: Pose) -> None:
    """Paint one object onto `image` (float32 in 0..1), in place; parts outside are cut off.

    Pixel (row i, column j) has its centre at y = i + 0.5, x = j + 0.5. Edges are smooth over about
    one pixel.
    """
    height, width = image.shape[1:]
    left, right = math.floor(pose.x - pose.radius - 1), math.ceil(pose.x + pose.radius + 1)
    top, bottom = math.floor(pose.y - pose.radius - 1), math.ceil(pose.y + pose.radius + 1)
    left, right = max(left, 0), min(right, width)
    top, bottom = max(top, 0), min(bottom, height)
    if pose.visible <= 0 or left >= right or top >= bottom:
        return
    dy = (torch.arange(top, bottom) + (0.5 - pose.y))[:, None] / pose.radius
    dx = (torch.arange(left, right) + (0.5 - pose.x))[None, :] / pose.radius
    cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
    along = dx * cosine + dy * sine
    across = (dy * cosine - dx * sine) * thing.stretch
    distance = (along * along + across * across).sqrt()
    step = torch.atan2(across, along) * (OUTLINE_STEPS / (2 * math.pi))
    edge = thing.outline[step.round().long() % OUTLINE_STEPS]
    alpha = ((edge - distance) * (pose.radius / thing.stretch) + 0.5).clamp(0, 1)
    alpha = alpha * (thing.opacity * pose.visible)
    places = torch.stack([along, across], dim=-1)[None]
    colours = functional.grid_sample(
        thing.texture[None], places, mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    patch = image[:, top:bottom, left:right]
    patch += alpha * (colours - patch)
