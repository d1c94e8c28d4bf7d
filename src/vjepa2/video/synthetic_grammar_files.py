"""Frames and video files of the grammar of events, and the list of what happens in them.

    FOLDER/events-00000000.mp4 ...
    FOLDER/events.csv        one line per event: path,start_seconds,end_seconds and
                             label_verb,label_noun,label_action
    FOLDER/grammar.json      the tables, the seed and the number of ticks

Pictures are easy on purpose: one large coloured shape on a plain ground. Ground, size and place
vary a little, so that no two files are alike; none of that says anything about the future.
"""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import InputError, OutputError, check_path, checked_integer
from vjepa2.files import atomic_path, write_json
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.progress import track
from vjepa2.video.synthetic_grammar import BLANK, HEADS, Grammar, GrammarConfig
from vjepa2.video.writer import H264, write_video

LIST_NAME = "events.csv"
GRAMMAR_NAME = "grammar.json"
MOST_FILES = 10**6
CRF = 18

_COLOURS = np.array([[225, 50, 45], [50, 180, 70], [50, 85, 225], [235, 205, 45]], np.float64)
# Direction of each verb: down and right are positive.
_DIRECTIONS = np.array([[0.0, 1.0], [0.0, -1.0], [-1.0, 0.0], [1.0, 0.0]])
_REACH = 0.28  # of the frame, from its middle to where a motion begins and ends
_RADIUS = 0.19
_CUE = 0.26  # side of the spot in the upper left corner
_JITTER = 0.03
_GROUND = (90.0, 150.0)
_LOOKS = 1  # purpose of a stream of numbers, beside the chain's own


def grammar_frames(
    grammar: Grammar,
    states: Int[np.ndarray, " T"],
    *,
    seed: int,
    number: int,
    size: int = 32,
) -> UInt8[Tensor, "T 3 H W"]:
    """Paint a sequence, one frame per tick, a pure function of (seed, number).

    Args:
        grammar: whose states they are.
        states: of `Grammar.draw`.
        seed, number: choose ground, sizes and small shifts.
        size: height and width of a frame, pixels, 16 or more.

    Raises:
        ConfigError: `size` or a number is out of range.
    """
    size = checked_integer("size", size, least=16, most=4096)
    looks = stream_key(seed=seed, number=number, purpose=_LOOKS)
    low, high = _GROUND
    ground = low + (high - low) * float(uniform(stream(looks, np.zeros(1, np.int64)))[0])
    axis = (np.arange(size) + 0.5) / size
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    frames = np.full((len(states), size, size, 3), ground)
    began = 0
    for tick, state in enumerate(states):
        symbol = int(grammar.symbols[state])
        moment = grammar.moment_of(symbol)
        if moment is not None:
            action, elapsed = moment
            began = tick - elapsed  # the same shift during the whole event
            chances = uniform(stream(looks, np.arange(1, 4) + 4 * (began + len(states))))
            shape = _shape(grammar.config, action, elapsed, rows, columns, chances)
            frames[tick][shape] = _COLOURS[action // grammar.config.num_verbs]
        elif symbol != BLANK:
            frames[tick][(rows < _CUE) & (columns < _CUE)] = _COLOURS[symbol - 1]
    painted = np.rint(frames).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(painted).permute(0, 3, 1, 2).contiguous()


def _shape(
    config: GrammarConfig,
    action: int,
    elapsed: int,
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    chances: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """The pixels of an object at a moment of an event."""
    noun, verb = divmod(action, config.num_verbs)
    progress = 2 * elapsed / (config.event_ticks - 1) - 1
    middle = 0.5 + _DIRECTIONS[verb] * progress * _REACH + (2 * chances[:2] - 1) * _JITTER
    radius = _RADIUS * (0.9 + 0.2 * chances[2])
    down, right = (rows - middle[0]) / radius, (columns - middle[1]) / radius
    shapes: list[NDArray[np.bool_]] = [
        down**2 + right**2 < 1,
        np.maximum(abs(down), abs(right)) < 0.85,
        abs(down) + abs(right) < 1.2,
        (abs(down) < 0.55) & (abs(right) < 1.2),
    ]
    return shapes[noun]


def write_grammar_videos(
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    config: GrammarConfig | None = None,
    seconds: float = 60.0,
    size: int = 32,
    quiet: bool = False,
) -> Path:
    """Write mp4 files number 0 to `count - 1` of a seed and the list of their events.

    Args:
        folder: is made when missing. Files that are there already are kept, so that interrupted
            writing goes on and a larger `count` adds files; the list is written last.
        count: number of files.
        seed: of the sequences. Two seeds share none.
        config: the grammar; default `GrammarConfig()`.
        seconds: length of a file.
        size: side of a frame, pixels; even.
        quiet: no progress on stderr.

    Returns:
        The list `events.csv`.

    Raises:
        ConfigError: an argument is of a wrong kind or out of range.
        InputError: the folder holds files of another grammar or seed.
        OutputError: the folder cannot be written.
    """
    check_path("folder", folder)
    count = checked_integer("count", count, least=1, most=MOST_FILES)
    grammar = Grammar(config)
    rate = grammar.config.ticks_per_second
    num_ticks = max(1, round(seconds * rate))
    target = Path(folder)
    made_by = {
        "grammar": grammar.config.model_dump(mode="json"),
        "seed": seed,
        "num_ticks": num_ticks,
        "size": size,
    }
    _check_same(target / GRAMMAR_NAME, made_by)
    write_json(target / GRAMMAR_NAME, made_by)
    lines: list[list[str]] = []
    for number in track(range(count), total=count, description="Event videos", quiet=quiet):
        states = grammar.draw(seed=seed, number=number, num_ticks=num_ticks)
        path = target / f"events-{number:08d}.mp4"
        if not path.exists():
            frames = grammar_frames(grammar, states, seed=seed, number=number, size=size)
            codec = H264(fps=float(rate), crf=CRF, preset="ultrafast", keyframe_interval=4 * rate)
            write_video(path, frames, codec=codec)
        for event in grammar.events_of(states):
            names = [
                grammar.config.class_names(head)[grammar.config.class_of(event.action, head)]
                for head in HEADS
            ]
            times = [f"{tick / rate:g}" for tick in (event.start, event.stop)]
            lines.append([path.name, *times, *names])
    with atomic_path(target / LIST_NAME) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["path", "start_seconds", "end_seconds", *(f"label_{head}" for head in HEADS)]
        )
        writer.writerows(lines)
    return target / LIST_NAME


def read_grammar(folder: str | os.PathLike[str]) -> tuple[Grammar, dict[str, Any]]:
    """The grammar of a folder of videos, and what else `grammar.json` says.

    Raises:
        InputError: there is no such file, or it is none.
    """
    path = Path(folder) / GRAMMAR_NAME
    try:
        made_by = json.loads(path.read_text(encoding="utf-8"))
        return Grammar(GrammarConfig(**made_by["grammar"])), made_by
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not what write_grammar_videos wrote: {error}.") from error


def _check_same(path: Path, made_by: dict[str, Any]) -> None:
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot make {path.parent}: {error.strerror}.") from error
        return
    _, known = read_grammar(path.parent)
    if known != json.loads(json.dumps(made_by)):
        raise InputError(
            f"{path.parent} holds videos of another grammar, seed or size. Choose another folder, "
            "or the same arguments."
        )
