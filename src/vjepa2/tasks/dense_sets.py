"""Pictures with a class or a distance at every pixel, to train and test dense heads with.

    FOLDER/images/NAME.jpg          pictures (any format that `VideoReader` reads)
    FOLDER/labels/NAME.png or .npy  numbers of the same size
    FOLDER/classes.txt              one class name a line, in the order of the numbers

Sizes may differ from picture to picture. Class numbers come as PNG (`read_label_picture`) or as
`.npy`; distances as PNG of sixteen bits times a scale, or as `.npy` in metres, 0 where unknown.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Num, UInt8
from torch import Tensor

from vjepa2.errors import (
    DataNotFoundError,
    LabelError,
    ListError,
    ShapeError,
    check_path,
    checked_integer,
    checked_number,
)
from vjepa2.models.dense import DenseTask
from vjepa2.video.label_pictures import read_label_picture
from vjepa2.video.picture_folder import SUFFIXES
from vjepa2.video.reader import VideoReader
from vjepa2.video.synthetic_world_labels import CLASS_NAMES, ClassKind, make_labelled_clips
from vjepa2.video.synthetic_world_scene import WorldConfig

CLASSES_NAME = "classes.txt"
LABEL_SUFFIXES = (".png", ".npy")
MAX_LABEL_BYTES = 1 << 30


class DenseItem(NamedTuple):
    """One picture and its labels.

    Attributes:
        name: for messages.
        frame: RGB, 0..255.
        target: int64 class numbers, or float32 distances in metres (not above 0: unknown).
    """

    name: str
    frame: UInt8[Tensor, "3 H W"]
    target: Num[Tensor, "H W"]


class DenseSet(Protocol):
    """Numbered pictures with labels; item i is always the same."""

    @property
    def task(self) -> DenseTask:
        """What the labels are."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the class numbers; () for distances."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> DenseItem: ...


class WorldStills:
    """Still pictures of the generated world, whose labels are known without doubt.

    Args:
        task: "segmentation" or "depth".
        seed: two seeds share no picture.
        count: number of pictures.
        sizes: heights and widths, taken in turn.
        classes: see `make_labelled_clips`.
    """

    def __init__(
        self,
        task: DenseTask,
        *,
        seed: int,
        count: int,
        sizes: Sequence[tuple[int, int]] = ((64, 64),),
        classes: ClassKind = "brightness",
    ) -> None:
        self.task: DenseTask = task
        self.seed = seed
        self.count = checked_integer("count", count, least=1)
        self.classes: ClassKind = classes
        self.class_names = CLASS_NAMES[classes] if task == "segmentation" else ()
        self._worlds = [WorldConfig(size=size, num_frames=2) for size in sizes]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> DenseItem:
        if not 0 <= index < self.count:
            raise IndexError(f"picture {index} of {self.count}")
        world = self._worlds[index % len(self._worlds)]
        clips = make_labelled_clips(world, seed=self.seed, numbers=[index], classes=self.classes)
        target = clips.classes.long() if self.task == "segmentation" else clips.distance
        return DenseItem(f"generated picture {index}", clips.frames[0, 0], target[0, 0])


class DenseFolder:
    """Pictures and labels in a folder, see the module's text.

    Args:
        folder: with `images`, `labels` and, for classes, `classes.txt`.
        task: "segmentation" or "depth".
        distance_scale: metres per unit of a label picture (0.001 where it holds millimetres,
            1/256 for KITTI); `.npy` files hold metres.

    Raises:
        DataNotFoundError: a folder or file is not there, or a picture has no labels.
        ListError: `classes.txt` has fewer than two names, or one twice.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        task: DenseTask,
        *,
        distance_scale: float = 0.001,
    ) -> None:
        check_path("folder", folder)
        self.folder, self.task = Path(folder), task
        self.distance_scale = checked_number("distance_scale", distance_scale, above=0)
        self.class_names = self._read_names() if task == "segmentation" else ()
        self._pairs = self._find_pairs()

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> DenseItem:
        image, labels = self._pairs[index]
        with VideoReader(image) as reader:
            frame = reader.get_frame_at(0).data
        target = self._read_labels(labels)
        if target.shape != frame.shape[1:]:
            raise ShapeError(
                f"{labels} is {list(target.shape)}, its picture {image.name} is "
                f"{list(frame.shape[1:])} (height, width). Labels belong to pixels one by one."
            )
        return DenseItem(str(image), frame, target)

    def _read_labels(self, path: Path) -> Tensor:
        if path.suffix == ".npy":
            numbers = _read_array(path)
        else:
            numbers = read_label_picture(path)
            if self.task == "depth":
                return numbers.float() * self.distance_scale
        if self.task == "depth":
            return numbers.float()
        if numbers.is_floating_point():
            raise LabelError(f"{path} holds {numbers.dtype}; class numbers are whole numbers.")
        return numbers.long()

    def _read_names(self) -> tuple[str, ...]:
        path = self.folder / CLASSES_NAME
        if not path.is_file():
            raise DataNotFoundError(
                f"{path} is missing. Write one class name a line, in the order of the numbers in "
                "the label pictures."
            )
        names = tuple(
            line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        )
        if len(names) < 2 or len(set(names)) < len(names):
            raise ListError(f"{path} must name two or more different classes, one a line.")
        return names

    def _find_pairs(self) -> list[tuple[Path, Path]]:
        images, labels = self.folder / "images", self.folder / "labels"
        for part in (images, labels):
            if not part.is_dir():
                raise DataNotFoundError(
                    f"{part} is missing. A folder of labelled pictures holds images/NAME.jpg and "
                    "labels/NAME.png."
                )
        found = sorted(p for p in images.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise DataNotFoundError(f"{images} holds no pictures ({', '.join(SUFFIXES)}).")
        pairs = []
        for image in found:
            candidates = [labels / f"{image.stem}{suffix}" for suffix in LABEL_SUFFIXES]
            existing = [path for path in candidates if path.is_file()]
            if not existing:
                raise DataNotFoundError(
                    f"{image} has no labels: neither {candidates[0].name} nor "
                    f"{candidates[1].name} is in {labels}."
                )
            pairs.append((image, existing[0]))
        return pairs


def _read_array(path: Path) -> Tensor:
    """Numbers of a `.npy` file; nothing in it is run, and it is not larger than it says."""
    if path.stat().st_size > MAX_LABEL_BYTES:
        raise ListError(f"{path} has more than {MAX_LABEL_BYTES} bytes.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ListError(f"{path} is no array that NumPy saved: {error}.") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "uif":
        raise ListError(f"{path} must hold numbers [H, W].")
    kind: Literal["f", "i"] = "f" if array.dtype.kind == "f" else "i"
    return torch.from_numpy(array.astype(np.float32 if kind == "f" else np.int64))
