"""Synthetic clips show what their labels say, measured from the pixels alone."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa2.errors import ConfigError, ShapeError
from vjepa2.video.synthetic import CHANGES, MOTION_LABELS, changed_label, make_motion_clip
from vjepa2.video.synthetic_film import place
from wrong_values import assert_named, is_whole

SEEDS = range(10)


def clip(
    label: str, seed: int, *, size: tuple[int, int] = (64, 64), num_frames: int = 12
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return make_motion_clip(label, num_frames=num_frames, size=size, generator=generator)


def grey(frames: Tensor) -> Tensor:
    """Brightness [T, H, W], a little blurred and freed of drifts of the light."""
    smooth = F.avg_pool2d(frames.float().mean(dim=1)[:, None], 3, stride=1, padding=1)[:, 0]
    return smooth / smooth.mean(dim=(1, 2), keepdim=True) * 128


def difference(frame: Tensor, other: Tensor) -> Tensor:
    """Where two frames differ clearly, as weights."""
    change = (frame - other).abs()
    return (change - 8).clamp(min=0)


def centre(weights: Tensor) -> tuple[float, float]:
    """Mean (x, y) of a picture of weights."""
    height, width = weights.shape
    total = weights.sum().clamp(min=1e-6)
    x = (weights.sum(dim=0) * torch.arange(width)).sum() / total
    y = (weights.sum(dim=1) * torch.arange(height)).sum() / total
    return float(x), float(y)


def object_travel(frames: Tensor) -> tuple[float, float]:
    """How far (x, y) the thing moves that is not in the picture most of the time."""
    pictures = grey(frames)
    rest = pictures.median(dim=0).values
    first = centre(difference(pictures[:3].mean(dim=0), rest))
    last = centre(difference(pictures[-3:].mean(dim=0), rest))
    return last[0] - first[0], last[1] - first[1]


def scene_shift(frames: Tensor) -> tuple[float, float]:
    """How far (x, y) the whole picture slides, by phase correlation of neighbours."""
    pictures = grey(frames)
    height, width = pictures.shape[1:]
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)[None, :]
    spectra = torch.fft.fft2((pictures - pictures.mean(dim=(1, 2), keepdim=True)) * window)
    total_x = total_y = 0.0
    for one, two in zip(spectra[:-2], spectra[2:], strict=True):
        product = two * one.conj()
        peak = torch.fft.ifft2(product / product.abs().clamp(min=1e-6)).real.flatten().argmax()
        y, x = divmod(int(peak), width)
        total_x += x - width if x > width // 2 else x
        total_y += y - height if y > height // 2 else y
    return total_x, total_y


def turned(picture: Tensor, *, angle: float = 0.0, scale: float = 1.0) -> Tensor:
    """A picture [H, W] turned clockwise by `angle` and enlarged by `scale` about its centre."""
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    matrix = torch.tensor([[[cosine, sine, 0.0], [-sine, cosine, 0.0]]])
    grid = F.affine_grid(matrix, [1, 1, *picture.shape], align_corners=False)
    return F.grid_sample(picture[None, None], grid, align_corners=False, padding_mode="border")[
        0, 0
    ]


def around(picture: Tensor, place: tuple[float, float], *, reach: int = 20) -> Tensor:
    """A square cut out around (x, y); beyond the picture its edge is repeated."""
    padded = F.pad(picture[None, None], (reach,) * 4, mode="replicate")[0, 0]
    x, y = round(place[0]), round(place[1])
    return padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1]


def turning(frames: Tensor) -> float:
    """Above 0 if neighbours agree better after a clockwise turn than after the opposite one."""
    pictures = grey(frames)
    place = centre((pictures[1:] - pictures[:-1]).abs().sub(6).clamp(min=0).sum(dim=0))
    score = 0.0
    for one, two in itertools.pairwise(pictures):
        before, after = around(one, place), around(two, place)
        for angle in (0.1, 0.2, 0.3):
            score += float((turned(before, angle=-angle) - after).abs().mean())
            score -= float((turned(before, angle=angle) - after).abs().mean())
    return score


def growing(frames: Tensor) -> float:
    """Above 0 if neighbours agree better after enlarging the earlier one than the later one."""
    pictures = grey(frames)
    score = 0.0
    for one, two in zip(pictures[:-2], pictures[2:], strict=True):
        score += float((turned(two, scale=1.12) - one).abs().mean())
        score -= float((turned(one, scale=1.12) - two).abs().mean())
    return score


def spreading(frames: Tensor) -> float:
    """How much farther from the object's middle the changes lie at the end than at the start."""
    pictures = grey(frames)
    changes = (pictures[1:] - pictures[:-1]).abs().sub(6).clamp(min=0)
    x, y = centre(changes.sum(dim=0))
    across = (torch.arange(pictures.shape[2]) - x)[None, :] ** 2
    down = (torch.arange(pictures.shape[1]) - y)[:, None] ** 2
    distance = (across + down).sqrt()
    half = len(changes) // 2

    def mean_distance(weights: Tensor) -> float:
        return float((weights * distance).sum() / weights.sum().clamp(min=1e-6))

    return mean_distance(changes[half:].sum(dim=0)) - mean_distance(changes[:half].sum(dim=0))


def outlined(frames: Tensor) -> float:
    """Above 0 if the end has stronger edges, where start and end differ, than the start."""
    pictures = grey(frames)
    start, end = pictures[:2].mean(dim=0), pictures[-2:].mean(dim=0)
    changed = ((start - end).abs() > 12).float()
    near = F.max_pool2d(changed[None, None], 5, stride=1, padding=2)[0, 0]
    rim = near * (1 - (-F.max_pool2d(-changed[None, None], 5, stride=1, padding=2)[0, 0]))

    def edges(picture: Tensor) -> float:
        x = (picture[:, 1:] - picture[:, :-1]).abs() * rim[:, 1:]
        y = (picture[1:] - picture[:-1]).abs() * rim[1:]
        return float(x.sum() + y.sum())

    return edges(end) - edges(start)


MEASURED: dict[str, Callable[[Tensor], float]] = {
    "object moves left": lambda frames: -object_travel(frames)[0],
    "object moves right": lambda frames: object_travel(frames)[0],
    "object moves up": lambda frames: -object_travel(frames)[1],
    "object moves down": lambda frames: object_travel(frames)[1],
    "object approaches": spreading,
    "object recedes": lambda frames: -spreading(frames),
    "object rotates clockwise": turning,
    "object rotates counter-clockwise": lambda frames: -turning(frames),
    "object appears": outlined,
    "object vanishes": lambda frames: -outlined(frames),
    # A camera that looks to the left sees everything slide to the right.
    "camera pans left": lambda frames: scene_shift(frames)[0],
    "camera pans right": lambda frames: -scene_shift(frames)[0],
    "camera tilts up": lambda frames: scene_shift(frames)[1],
    "camera tilts down": lambda frames: -scene_shift(frames)[1],
    "camera zooms in": growing,
    "camera zooms out": lambda frames: -growing(frames),
}


@pytest.mark.parametrize("label", MEASURED)
def test_the_pixels_show_what_the_label_says(label: str) -> None:
    """The crude measurements above may fail on single clips, never on many."""
    values = [MEASURED[label](clip(label, seed)) for seed in SEEDS]
    assert sum(value > 0 for value in values) >= 0.8 * len(values), values


def test_nothing_moves_means_light_and_noise_only() -> None:
    for seed in SEEDS:
        pictures = grey(clip("nothing moves", seed))
        assert (pictures[0] - pictures[-1]).abs().mean() < 3


def test_the_measurements_know_clockwise() -> None:
    picture = torch.rand(31, 31)
    quarter = torch.rot90(picture, k=-1)  # documented: k < 0 turns clockwise
    assert (turned(picture, angle=math.pi / 2) - quarter).abs().max() < 1e-4


def test_every_measured_label_exists_once() -> None:
    assert sorted([*MEASURED, "nothing moves"]) == sorted(MOTION_LABELS)
    assert len(set(MOTION_LABELS)) == 17


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_done_twice_gives_the_label_back(change: str) -> None:
    changed = [changed_label(label, change=change) for label in MOTION_LABELS]
    assert sorted(changed) == sorted(MOTION_LABELS)
    assert [changed_label(label, change=change) for label in changed] == list(MOTION_LABELS)


@pytest.mark.parametrize(
    ("label", "change", "expected"),
    [
        ("object moves left", "reversed", "object moves right"),
        ("object moves left", "mirrored", "object moves right"),
        ("object moves left", "transposed", "object moves up"),
        ("object moves up", "mirrored", "object moves up"),
        ("object approaches", "reversed", "object recedes"),
        ("object approaches", "mirrored", "object approaches"),
        ("object rotates clockwise", "reversed", "object rotates counter-clockwise"),
        ("object rotates clockwise", "mirrored", "object rotates counter-clockwise"),
        ("object rotates clockwise", "transposed", "object rotates counter-clockwise"),
        ("object appears", "reversed", "object vanishes"),
        ("camera pans right", "transposed", "camera tilts down"),
        ("camera tilts up", "reversed", "camera tilts down"),
        ("camera tilts up", "mirrored", "camera tilts up"),
        ("camera zooms in", "reversed", "camera zooms out"),
        ("camera zooms in", "transposed", "camera zooms in"),
        ("nothing moves", "reversed", "nothing moves"),
    ],
)
def test_labels_after_a_change(label: str, change: str, expected: str) -> None:
    assert changed_label(label, change=change) == expected


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("label", ["object moves left", "camera pans right"])
def test_a_changed_clip_shows_its_changed_label(label: str, change: str) -> None:
    apply = {
        "reversed": lambda frames: frames.flip(0),
        "mirrored": lambda frames: frames.flip(-1),
        "transposed": lambda frames: frames.transpose(-1, -2),
    }[change]
    measure = MEASURED[changed_label(label, change=change)]
    values = [measure(apply(clip(label, seed))) for seed in SEEDS]
    assert sum(value > 0 for value in values) >= 0.8 * len(values), values


@pytest.mark.parametrize("size", [(16, 16), (33, 57), (90, 40)])
@pytest.mark.parametrize("num_frames", [2, 7])
def test_any_size_and_length(size: tuple[int, int], num_frames: int) -> None:
    for label in MOTION_LABELS:
        frames = clip(label, 3, size=size, num_frames=num_frames)
        assert frames.shape == (num_frames, 3, *size)
        assert frames.dtype == torch.uint8


def test_the_generator_decides_everything() -> None:
    one, two = (clip("object approaches", 5) for _ in range(2))
    assert torch.equal(one, two)
    torch.manual_seed(1)
    assert torch.equal(one, clip("object approaches", 5))
    assert not torch.equal(one, clip("object approaches", 6))


def test_one_frame_does_not_tell_the_label() -> None:
    """A linear read-out of one frame at a random time stays near chance (1/17 = 5.9 %)."""
    generator = torch.Generator().manual_seed(0)
    features, truth = [], []
    for number in range(850):
        label = number % len(MOTION_LABELS)
        frames = clip(MOTION_LABELS[label], 1000 + number, size=(32, 32), num_frames=8)
        picture = frames[int(torch.randint(8, (), generator=generator))].float() / 255
        small = F.adaptive_avg_pool2d(picture, 4)
        detail = F.adaptive_avg_pool2d((picture - F.avg_pool2d(picture, 3, 1, 1)).abs(), 4)
        features.append(torch.cat([small.flatten(), detail.flatten(), torch.ones(1)]))
        truth.append(label)
    inputs, labels = torch.stack(features).double(), torch.tensor(truth)
    inputs[:, :-1] = (inputs[:, :-1] - inputs[:, :-1].mean(0)) / inputs[:, :-1].std(0)
    targets = F.one_hot(labels, len(MOTION_LABELS)).double()
    train, test = slice(0, 510), slice(510, None)
    ridge = inputs[train].T @ inputs[train] + 30 * torch.eye(inputs.shape[1]).double()
    weights = torch.linalg.solve(ridge, inputs[train].T @ targets[train])
    right = ((inputs[test] @ weights).argmax(dim=1) == labels[test]).double().mean()
    assert right < 0.12  # the 99.9 % bound of chance on 340 clips is 10.2 %


def test_a_place_is_found_for_an_object_that_fits_nowhere() -> None:
    """A way three pictures long: no place is good, so the best of some draws is taken."""
    way = torch.linspace(-3, 3, 8)
    generator = torch.Generator().manual_seed(0)
    x, y = place(way, torch.zeros(8), torch.full((8,), 0.9), size=(64, 64), generator=generator)
    assert torch.allclose(x - x[0], way - way[0], atol=1e-5)
    assert torch.equal(y, y[:1].expand(8))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'object moves left'"):
        clip("object moves lef", 0)
    with pytest.raises(ShapeError, match="at least 2 frames of 16 x 16 pixels, got 1 of 64 x 64"):
        clip("nothing moves", 0, num_frames=1)
    with pytest.raises(ShapeError, match="got 12 of 64 x 8"):
        clip("nothing moves", 0, size=(64, 8))
    with pytest.raises(ConfigError, match="Change 'mirored' does not exist"):
        changed_label("nothing moves", change="mirored")
    with pytest.raises(ConfigError, match="Motion label 'jumps' does not exist"):
        changed_label("jumps", change="mirrored")


def test_arguments_of_a_wrong_kind() -> None:
    options = {"label": MOTION_LABELS[0], "num_frames": 2, "size": (16, 16)}
    for name, allowed in (
        ("label", lambda value: False),
        ("num_frames", lambda value: is_whole(value, least=2, most=65536)),
        ("size", lambda value: False),
        ("generator", lambda value: False),
    ):
        assert_named(
            lambda value, name=name: make_motion_clip(
                **(options | {"generator": torch.Generator()} | {name: value})
            ),
            allowed=allowed,
        )
