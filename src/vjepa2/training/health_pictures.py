"""What a run keeps for the pictures of its report: fixed clips, what the networks make of them,
and the masks, as `RUN/pictures/step-0000100.safetensors`.

    frames           uint8 [n, T, 3, H, W], RGB
    teacher          float16 [n, N, D], tokens of the teacher
    student          likewise, of the student
    context_ids_0    int64 [n, K], visible tokens of mask 0; context_ids_1, ...
    target_ids_0     int64 [n, M], hidden ones; target_ids_1, ...
    metadata         {"step": "100", "grid": "[8, 16, 16]"}
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vjepa2.errors import InputError, OutputError, ShapeError
from vjepa2.files import atomic_path
from vjepa2.masking import Masks
from vjepa2.shapes import TokenGrid

PICTURES = "pictures"
FILE_NAME = re.compile(r"step-(\d+)\.safetensors")

# A file holds a few clips; what a page can show of long ones is little.
MAX_FILE_CLIPS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPictures:
    """One file; see the module."""

    step: int
    grid: TokenGrid
    frames: UInt8[Tensor, "n T 3 H W"]
    teacher: Float[Tensor, "n N D"]
    student: Float[Tensor, "n N D"]
    masks: tuple[Masks, ...]


def save_pictures(
    run: str | os.PathLike[str],
    *,
    step: int,
    grid: TokenGrid,
    frames: UInt8[Tensor, "n T 3 H W"],
    teacher: Float[Tensor, "n N D"],
    student: Float[Tensor, "n N D"],
    masks: Sequence[Masks],
) -> Path:
    """Write the file of one step into the folder of a run; at most 4 clips of it are kept.

    Args:
        run: folder of the run.
        step: number of updates done.
        grid: the token grid.
        frames: the clips as people see them, uint8 RGB.
        teacher, student: all tokens of these clips.
        masks: of these clips, one or several.

    Raises:
        ShapeError: frames, tokens and masks are not of the same clips.
        OutputError: the file cannot be written.
    """
    _check(grid, frames, teacher, student, masks)
    clips = slice(0, MAX_FILE_CLIPS)
    tensors = {
        "frames": frames[clips],
        "teacher": teacher[clips].detach().half(),
        "student": student[clips].detach().half(),
    }
    for number, mask in enumerate(masks):
        tensors[f"context_ids_{number}"] = mask.context_ids[clips]
        tensors[f"target_ids_{number}"] = mask.target_ids[clips]
    path = Path(run) / PICTURES / f"step-{step:07d}.safetensors"
    with atomic_path(path) as temporary:
        try:
            save_file(
                # Copies: the format refuses tensors that share memory.
                {name: value.cpu().contiguous().clone() for name, value in tensors.items()},
                temporary,
                metadata={"step": str(step), "grid": json.dumps(list(grid))},
            )
        except SafetensorError as error:  # so a full disk is told here
            raise OutputError(f"Cannot write {path}: {error}.") from error
    return path


def list_pictures(run: str | os.PathLike[str]) -> dict[int, Path]:
    """The files of a run by step, in order; empty without any."""
    folder = Path(run) / PICTURES
    if not folder.is_dir():
        return {}
    found = {}
    for path in folder.iterdir():
        match = FILE_NAME.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def load_pictures(path: str | os.PathLike[str]) -> RunPictures:
    """Read a file.

    Raises:
        InputError: it is damaged, or is no such file.
        ShapeError: what it holds does not fit together.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        step, sides = int(facts["step"]), json.loads(facts["grid"])
        grid = TokenGrid(*(int(side) for side in sides))
        number_of_masks = sum(name.startswith("context_ids_") for name in tensors)
        pictures = RunPictures(
            step=step,
            grid=grid,
            frames=tensors["frames"],
            teacher=tensors["teacher"].float(),
            student=tensors["student"].float(),
            masks=tuple(
                Masks(tensors[f"context_ids_{number}"], tensors[f"target_ids_{number}"])
                for number in range(number_of_masks)
            ),
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no file of pictures of a run, or is damaged: {error}. Remove it; the "
            "report does without."
        ) from error
    _check(pictures.grid, pictures.frames, pictures.teacher, pictures.student, pictures.masks)
    return pictures


def _check(
    grid: TokenGrid, frames: Tensor, teacher: Tensor, student: Tensor, masks: Sequence[Masks]
) -> None:
    if frames.ndim != 5 or frames.shape[2] != 3 or frames.dtype != torch.uint8:
        raise ShapeError(
            f"Frames must be uint8 [n, T, 3, H, W], got {frames.dtype} {list(frames.shape)}."
        )
    for name, tokens in (("teacher", teacher), ("student", student)):
        if tokens.ndim != 3 or tokens.shape[:2] != (len(frames), grid.num_tokens):
            raise ShapeError(
                f"Tokens of the {name} must be [{len(frames)}, {grid.num_tokens}, D] for "
                f"{len(frames)} clips of the grid {tuple(grid)}, got {list(tokens.shape)}."
            )
    for mask in masks:
        for ids in (mask.context_ids, mask.target_ids):
            if ids.ndim != 2 or len(ids) != len(frames):
                raise ShapeError(
                    f"Ids of a mask must be [{len(frames)}, n], got {list(ids.shape)}."
                )
            if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < grid.num_tokens:
                raise ShapeError(f"Ids of a mask leave the grid {tuple(grid)}.")
