"""Lines, dots and small words on pictures: what films need, in plain arrays.

Pictures are uint8 [H, W, 3] and are changed in place; points are (across, down) in pixels and may
lie outside.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from numpy.typing import NDArray

Picture = UInt8[np.ndarray, "H W 3"]
Colour = tuple[int, int, int]
Point = tuple[float, float]

# Five rows of three pixels, each row an octal digit: 2 is the middle pixel, 7 all of them.
GLYPHS = {
    "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644",
    "G": "34553", "H": "55755", "I": "72227", "J": "11152", "K": "55655", "L": "44447",
    "M": "57755", "N": "65555", "O": "25552", "P": "65644", "Q": "25573", "R": "65655",
    "S": "34216", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255",
    "Y": "55222", "Z": "71247", "0": "75557", "1": "26227", "2": "71747", "3": "71717",
    "4": "55711", "5": "74717", "6": "74757", "7": "71122", "8": "75757", "9": "75717",
    ".": "00002", ",": "00024", ":": "02020", "-": "00700", "+": "02720", "/": "11244",
    "%": "51245", "(": "24442", ")": "21112", "=": "07070", "_": "00007", " ": "00000",
}  # fmt: skip
UNKNOWN = "77777"
GLYPH_WIDTH, GLYPH_HEIGHT = 3, 5


def enlarged(picture: Picture, height: int, width: int) -> Picture:
    """A copy of another size; pixels stay squares."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    changed: Picture = (
        F.interpolate(pixels, size=(height, width), mode="nearest-exact")[0]
        .permute(1, 2, 0)
        .contiguous()
        .numpy()
    )
    return changed


def draw_dot(picture: Picture, at: Point, colour: Colour, *, radius: float) -> None:
    """A filled circle."""
    height, width = picture.shape[:2]
    down, across = np.ogrid[:height, :width]
    inside: NDArray[np.bool_] = (across - at[0]) ** 2 + (down - at[1]) ** 2 <= radius**2
    picture[inside] = colour


def draw_ring(picture: Picture, at: Point, colour: Colour, *, radius: float, width: float) -> None:
    """A circle's border."""
    height, breadth = picture.shape[:2]
    down, across = np.ogrid[:height, :breadth]
    far: NDArray[np.float64] = np.hypot(across - at[0], down - at[1])
    picture[np.abs(far - radius) <= width / 2] = colour


def draw_line(picture: Picture, points: Sequence[Point], colour: Colour, *, width: int = 2) -> None:
    """A line through points."""
    for first, second in itertools.pairwise(points):
        length = max(abs(second[0] - first[0]), abs(second[1] - first[1]), 1.0)
        shares = np.linspace(0.0, 1.0, int(np.ceil(length)) + 1)
        across = np.rint(first[0] + shares * (second[0] - first[0])).astype(int)
        down = np.rint(first[1] + shares * (second[1] - first[1])).astype(int)
        for right in range(width):
            for below in range(width):
                _put(picture, across + right - width // 2, down + below - width // 2, colour)


def draw_words(
    picture: Picture,
    words: str,
    at: tuple[int, int],
    colour: Colour,
    *,
    size: int = 2,
    behind: Colour | None = None,
) -> None:
    """Words in capitals.

    Args:
        at: their upper left corner, not negative.
        size: pixels of a dot, of which a letter has 3 times 5.
        behind: colour of a box that is drawn first; None: none.
    """
    left, top = at
    if behind is not None:
        right, bottom = left + words_width(words, size=size), top + GLYPH_HEIGHT * size
        picture[max(top - size, 0) : bottom + size, max(left - size, 0) : right] = behind
    for letter in words.upper():
        for row, digit in enumerate(GLYPHS.get(letter, UNKNOWN)):
            for column in range(GLYPH_WIDTH):
                if int(digit) >> (GLYPH_WIDTH - 1 - column) & 1:
                    y, x = top + row * size, left + column * size
                    picture[y : y + size, x : x + size] = colour
        left += (GLYPH_WIDTH + 1) * size


def words_width(words: str, *, size: int = 2) -> int:
    """Pixels that words take."""
    return len(words) * (GLYPH_WIDTH + 1) * size


def _put(
    picture: Picture, across: NDArray[np.int64], down: NDArray[np.int64], colour: Colour
) -> None:
    height, width = picture.shape[:2]
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    picture[down[inside], across[inside]] = colour
