"""Pictures of a run: what the masks hide, and how the teacher's tokens change while it learns."""

from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from vjepa2.errors import InputError
from vjepa2.features.pictures import ColourScale, data_uri, encode_png, enlarge
from vjepa2.features.report_page import figure, paragraph, picture, section
from vjepa2.masking import Masks
from vjepa2.shapes import TokenGrid
from vjepa2.training.health_pictures import RunPictures, load_pictures

Item = TypeVar("Item")

MAX_CLIPS = 3
MAX_MOMENTS = 6  # columns of colours over training
MAX_FRAMES = 4  # of each clip, under its masks
SMALLEST_SIDE = 128  # small frames are enlarged to about this many pixels
LARGEST_SIDE = 512  # large ones are shown smaller, so that a page stays a page


def pictures_section(files: dict[int, Path]) -> str:
    """Masks and colours, as HTML; a damaged file is named and left out.

    Args:
        files: `list_pictures` of the run.
    """
    loaded, problems = [], []
    for path in _some(list(files.values()), MAX_MOMENTS):
        try:
            loaded.append(load_pictures(path))
        except InputError as error:
            problems.append(paragraph(str(error), kind="bad"))
    if not loaded:
        text = "This run has kept no pictures so far."
        return section("Masks and colours", paragraph(text, kind="soft"), *problems)
    return "\n".join([_masks_section(loaded[-1]), _colours_section(loaded, problems)])


def _masks_section(pictures: RunPictures) -> str:
    grid = pictures.grid
    steps = _some(list(range(grid.t)), MAX_FRAMES)
    columns = []
    for clip in range(min(MAX_CLIPS, len(pictures.frames))):
        for step in steps:
            frame = _frame(pictures, clip, step)
            images = [_png(frame, "frame")]
            for mask in pictures.masks:
                covered = _covered(frame, *_places(mask, clip, grid), step=step)
                images.append(_png(covered, "the same frame with its hidden parts marked"))
            columns.append(figure(*images, caption=f"clip {clip + 1}, part {step + 1} of {grid.t}"))
    return section(
        "What is hidden",
        _strip(columns, len(steps)),
        paragraph(
            "Above: frames. Below, for every mask: bright is what the student sees; blue is hidden "
            "and has to be predicted; dark grey is neither (cut off to make the batch even)."
        ),
    )


def _colours_section(loaded: list[RunPictures], problems: list[str]) -> str:
    reference = loaded[-1]
    same = [
        each
        for each in loaded
        if each.grid == reference.grid and each.teacher.shape[2] == reference.teacher.shape[2]
    ]
    count = min(MAX_CLIPS, *(len(each.frames) for each in same))
    scale, shares = ColourScale.of(reference.teacher[:count].flatten(0, 1))
    columns = [
        figure(
            *(_png(_frame(reference, clip, _middle(reference)), "frame") for clip in range(count)),
            caption="frame",
        )
    ]
    for each in same:
        images = []
        for clip in range(count):
            colours = scale.maps(each.teacher[clip], each.grid)[_middle(each)]
            address = data_uri(encode_png(colours), kind="image/png")
            text = f"colours of clip {clip + 1} at step {each.step}"
            images.append(_square(address, text, _frame(reference, clip, 0)))
        columns.append(figure(*images, caption=f"step {each.step}"))
    return section(
        "How the targets change",
        _strip(columns, len(columns)),
        paragraph(
            "The three directions in which the teacher's tokens differ most at step "
            f"{reference.step} are shown as red, green and blue, at every step the same ones, so "
            f"colours can be compared along a row. They hold {sum(shares):.0%} of all differences. "
            "One colour everywhere: these differences were not there yet, or are gone."
        ),
        *problems,
    )


def _places(mask: Masks, clip: int, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """Which tokens of a clip are visible and which are hidden: two booleans [t, h, w]."""
    maps = []
    for ids in (mask.context_ids[clip], mask.target_ids[clip]):
        places = torch.zeros(grid.num_tokens, dtype=torch.bool)
        places[ids] = True
        maps.append(places.view(*grid))
    return maps[0], maps[1]


def _covered(
    frame: UInt8[Tensor, "3 H W"],
    visible: Bool[Tensor, "t h w"],
    hidden: Bool[Tensor, "t h w"],
    *,
    step: int,
) -> UInt8[Tensor, "3 H W"]:
    """The frame with hidden parts blue and unused ones dark."""
    _, height, width = frame.shape
    maps = torch.stack([visible[step], hidden[step]]).to(torch.uint8)[:, None]
    seen, asked = enlarge(maps, height=height, width=width)[:, 0].bool()
    grey = frame.float().mean(dim=0, keepdim=True)
    blue = torch.tensor([47.0, 111.0, 222.0]).view(3, 1, 1)
    shown = torch.where(asked, 0.3 * grey + 0.7 * blue, 0.25 * grey)
    # A token that is both is a mistake; it is shown as seen, in red.
    red = torch.tensor([222.0, 60.0, 60.0]).view(3, 1, 1)
    bright = torch.where(asked, 0.5 * frame.float() + 0.5 * red, frame.float())
    return torch.where(seen, bright, shown).round().to(torch.uint8)


def _frame(pictures: RunPictures, clip: int, step: int) -> UInt8[Tensor, "3 H W"]:
    """The first frame of a time step."""
    frames = pictures.frames[clip]
    return frames[step * len(frames) // pictures.grid.t]


def _middle(pictures: RunPictures) -> int:
    return pictures.grid.t // 2


def _png(frame: UInt8[Tensor, "3 H W"], description: str) -> str:
    return picture(data_uri(encode_png(_sized(frame)), kind="image/png"), description=description)


def _sized(frame: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 h w"]:
    _, height, width = frame.shape
    factor = float(max(1, -(-SMALLEST_SIDE // min(height, width))))
    factor = min(factor, LARGEST_SIDE / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return (
        frame if size == (height, width) else enlarge(frame[None], height=size[0], width=size[1])[0]
    )


def _square(address: str, description: str, frame: UInt8[Tensor, "3 H W"]) -> str:
    """Colours in the shape of the frame beside them."""
    _, height, width = frame.shape
    image = picture(address, description=description, kind="cells")
    return image.replace("<img", f'<img style="aspect-ratio:{width}/{height}"', 1)


def _strip(columns: list[str], count: int) -> str:
    return f'<div class="strip" style="--columns:{count}">{"".join(columns)}</div>'


def _some(items: list[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(at * (len(items) - 1) / (count - 1))] for at in range(count)]
