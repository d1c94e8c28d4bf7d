"""A folder of real video files of the small world, to learn from, and what is true of each.

    FOLDER/world-00000000.mp4 ...
    FOLDER/labels.jsonl          one object per file, see `world_facts`

The files last several seconds, so that random moments and crops of each make many clips. Writing
can be interrupted; started again with the same arguments it goes on.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vjepa2.errors import InputError, OutputError, check_path, checked_integer
from vjepa2.files import atomic_path
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.progress import track
from vjepa2.video.synthetic_world import make_world_clips, world_facts
from vjepa2.video.synthetic_world_scene import WorldConfig
from vjepa2.video.writer import H264, write_video

LABELS_NAME = "labels.jsonl"
FILES_AT_A_TIME = 8
BATCHES_PER_LABELS = 32
MOST_FILES = 10**8
CRF = (18, 30)
KEYFRAME_INTERVALS = (12, 24, 48)
FPS = 12.0


def file_world(*, seconds: float = 5.0, size: tuple[int, int] = (80, 80)) -> WorldConfig:
    """Worlds for files: longer than a clip that is learned from, at 12 frames per second."""
    return WorldConfig(num_frames=max(2, round(seconds * FPS)), fps=FPS, size=size)


def write_world_videos(
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    config: WorldConfig | None = None,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Path:
    """Write mp4 files number 0 to `count - 1` of a seed, and `labels.jsonl` beside them.

    Args:
        folder: is made when missing. Files that are there already and named in `labels.jsonl`
            are kept as they are, so a larger `count` adds to an earlier set.
        count: number of files.
        seed: of the worlds and of how they are encoded.
        config: which worlds there are; default `file_world()`. Height and width should be even.
        device: where frames are computed.
        quiet: no progress on stderr.

    Returns:
        The folder.

    Raises:
        ConfigError: an argument is of a wrong kind or out of range.
        InputError: the folder holds files of another seed or other worlds.
        OutputError: the folder cannot be written.
    """
    check_path("folder", folder)
    count = checked_integer("count", count, least=1, most=MOST_FILES)
    config = file_world() if config is None else config
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {target}: {error.strerror}.") from error
    made_by = {"seed": seed, "world": config.model_dump(mode="json")}
    lines = _read_labels(target / LABELS_NAME, made_by)
    todo = [number for number in range(count) if not _is_there(target, number, lines)]
    batches = [
        todo[start : start + FILES_AT_A_TIME] for start in range(0, len(todo), FILES_AT_A_TIME)
    ]
    for place, numbers in enumerate(
        track(
            batches, total=len(batches), description=f"{FILES_AT_A_TIME} videos each", quiet=quiet
        )
    ):
        clips = make_world_clips(config, seed=seed, numbers=numbers, device=device)
        for row, number in enumerate(numbers):
            write_video(
                target / _name(number),
                clips.frames[row].cpu(),
                codec=_codec(config, seed=seed, number=number),
            )
            facts = {"path": _name(number), "number": number, **made_by}
            lines[number] = json.dumps(facts | world_facts(clips, row))
        # Not after every batch: the file is written whole. What is not named in it is made anew.
        if place % BATCHES_PER_LABELS == 0 or place + 1 == len(batches):
            _write_labels(target / LABELS_NAME, [lines[number] for number in sorted(lines)])
    return target


def _name(number: int) -> str:
    return f"world-{number:08d}.mp4"


def _is_there(folder: Path, number: int, lines: dict[int, str]) -> bool:
    return number in lines and (folder / _name(number)).is_file()


def _codec(config: WorldConfig, *, seed: int, number: int) -> H264:
    """How a file is encoded: another quality and distance of keyframes each."""
    quality, distance = uniform(stream(stream_key(seed=seed, file=number), np.arange(2))).tolist()
    return H264(
        fps=config.fps,
        crf=CRF[0] + int(quality * (CRF[1] - CRF[0] + 1)),
        preset="ultrafast",
        keyframe_interval=KEYFRAME_INTERVALS[int(distance * len(KEYFRAME_INTERVALS))],
    )


def _read_labels(path: Path, made_by: dict[str, Any]) -> dict[int, str]:
    """Lines of an earlier call by the number of the file.

    Raises:
        InputError: they belong to another set, or are no such lines.
    """
    if not path.exists():
        return {}
    lines = {}
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            facts = json.loads(line)
            number, known = facts["number"], {name: facts[name] for name in made_by}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {place} is not a line that write_world_videos wrote. Choose an "
                "empty folder."
            ) from error
        if known != made_by:
            raise InputError(
                f"{path.parent} holds videos of seed {known['seed']} and world {known['world']}; "
                f"asked for are seed {made_by['seed']} and world {made_by['world']}. Choose "
                "another folder, or the same arguments."
            )
        lines[number] = line
    return lines


def _write_labels(path: Path, lines: Iterable[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
