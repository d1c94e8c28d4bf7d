"""Batches of contexts of events: labelled stretches of videos to the pixels seen before them.

    events --event_clip--> numbers of frames --train_clip, context_pixels--> pixels

An epoch of training draws anticipation times, crops and flips as functions of (seed, epoch, index
of the event). Small videos stay decoded in memory, since every one of them holds many events.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.crop import Box
from vjepa2.data.draws import Purpose
from vjepa2.data.event_clips import EventClip, EventClipConfig, event_clip
from vjepa2.data.item_frames import ItemDraws, chunks_of, open_item, take_uint8
from vjepa2.data.labelled import LabelledItem, LabelledSet
from vjepa2.data.moments import Clock
from vjepa2.data.opened import OpenedFile, pick
from vjepa2.data.train_views import train_clip
from vjepa2.data.view_crops import empty_views
from vjepa2.data.views import TrainViewConfig, ViewConfig, normalised
from vjepa2.errors import BadFilesError, LabelError, VideoError, VideoTooShortError
from vjepa2.progress import track

NUM_CHANNELS = 3
KEPT_BYTES = 1 << 30
MAX_BAD_SHARE = 0.05
MAX_SHOWN = 3


class EventBatch(NamedTuple):
    """Contexts of some events.

    Attributes:
        indices: numbers of the events in their set.
        pixels: normalised, float32.
        seconds: anticipation time that was asked for, float64.
        clips: which frames these are, and when.
        labels: class number of each head, int64.
    """

    indices: list[int]
    pixels: Float[Tensor, "B T C S S"]
    seconds: Float[Tensor, " B"]
    clips: list[EventClip]
    labels: Int[Tensor, "B heads"]


class EventReader:
    """Makes contexts of events.

    Args:
        labelled: the events.
        clips: which frames are seen.
        views: size and normalisation of the pixels; one view. Its own choice of frames is not
            used.
        train: chance of training; None: as `item_views` makes pixels to evaluate.
        seed: of all that is drawn.
        kept_bytes: decoded frames of small files that stay in memory.
    """

    def __init__(
        self,
        labelled: LabelledSet,
        clips: EventClipConfig,
        views: ViewConfig,
        *,
        train: TrainViewConfig | None = None,
        seed: int = 0,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.labelled = labelled
        self.clips = clips
        self.views = views
        self.train = train
        self.seed = seed
        self._files = _KeptFiles(kept_bytes)

    def read(
        self, index: int, *, epoch: int | None = None, seconds: float | None = None
    ) -> tuple[Float[Tensor, "T C S S"], EventClip]:
        """The context of one event.

        Args:
            index: of the event.
            epoch: of training (0-based): anticipation time, and what `train` allows, are drawn.
                None: without chance.
            seconds: anticipation time instead of the configuration's or the drawn one.

        Raises:
            VideoError: the file cannot be read, or has no context for this event.
            LabelError: the event lies outside the file.
        """
        item = self.labelled.items[index]
        point, drawn = 0.0, None
        draws = None if epoch is None else ItemDraws(self.seed, epoch, index)
        if draws is not None:
            drawn, point = self.clips.drawn(draws.stream(Purpose.MOMENT))
        with self._files.opened(item.path) as file:
            clip = event_clip(
                item,
                file.clock,
                self.clips,
                seconds=drawn if seconds is None else seconds,
                point=point,
            )
            ids = np.array(clip.frame_ids)
            if draws is not None and self.train is not None:
                return train_clip(file, ids, self.views, self.train, draws=draws), clip
            return context_pixels(file, ids, self.views), clip

    def batch(
        self, indices: Sequence[int], *, epoch: int | None = None, seconds: float | None = None
    ) -> EventBatch:
        """Contexts of some events; arguments and errors as in `read`."""
        found = [self.read(index, epoch=epoch, seconds=seconds) for index in indices]
        return EventBatch(
            list(indices),
            torch.stack([pixels for pixels, _ in found]),
            torch.tensor([clip.seconds for _, clip in found], dtype=torch.float64),
            [clip for _, clip in found],
            torch.tensor([self.labelled.items[index].labels for index in indices]),
        )

    def batches(
        self,
        order: Sequence[Sequence[int]],
        *,
        epoch: int | None = None,
        seconds: float | None = None,
        workers: int = 1,
    ) -> Iterator[EventBatch]:
        """Batch after batch, `workers` of them read ahead by threads; 0 reads when asked."""
        if workers < 1:
            for indices in order:
                yield self.batch(indices, epoch=epoch, seconds=seconds)
            return
        with ThreadPoolExecutor(max_workers=workers) as pool:
            waiting: list[Future[EventBatch]] = []
            try:
                for indices in order:
                    waiting.append(pool.submit(self.batch, indices, epoch=epoch, seconds=seconds))
                    if len(waiting) > workers:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()


def context_pixels(
    file: OpenedFile, ids: NDArray[np.int64], views: ViewConfig
) -> Float[Tensor, "T C S S"]:
    """Normalised pixels of chosen frames of an open file, without chance, as `item_views`.

    Raises:
        VideoError: frames cannot be read.
        DtypeError: an array file of other numbers than uint8.
    """
    height, width = file.frame_size
    crops = views.crops(height=height, width=width)
    rows, columns = (taps.kept for taps in crops.taps)
    pixels = empty_views(1, 1, len(ids), views.crop_size)
    for part, places, which in chunks_of(ids):
        made = crops.from_kept(take_uint8(file, part, rows=rows, columns=columns))
        pixels[0, :, places] = made[:, which]
    return normalised(pixels, views)[0, 0]


@dataclass(frozen=True)
class UsableEvents:
    """What is left of a set of events.

    Attributes:
        indices: of events that can be anticipated, in the order of the set.
        notes: what was left out and why, in words with numbers.
    """

    indices: tuple[int, ...]
    notes: tuple[str, ...]


def usable_events(
    labelled: LabelledSet,
    clips: EventClipConfig,
    *,
    seconds: float | None = None,
    quiet: bool = False,
) -> UsableEvents:
    """Find the events that can be anticipated, before anything is computed.

    Every file is opened once. Events whose context is not there are left out, as are unreadable
    files; both are counted and named.

    Args:
        labelled: the events.
        clips: which frames are seen.
        seconds: the longest anticipation time that will be asked for; None takes `clips.seconds`.
        quiet: no progress.

    Raises:
        LabelError: an event lies outside its file or has no start, or none at all is left.
        BadFilesError: more than one in twenty files cannot be read.
    """
    by_path: OrderedDict[str, list[int]] = OrderedDict()
    for index, item in enumerate(labelled.items):
        by_path.setdefault(item.path, []).append(index)
    usable: list[int] = []
    early: list[str] = []
    bad: list[str] = []
    for path in track(by_path, total=len(by_path), description="Look at files", quiet=quiet):
        try:
            with open_item(LabelledItem(path, (0,))) as file:
                clock = file.clock
        except (VideoError, OSError) as error:
            bad.append(f"{path}: {error}")
            continue
        for index in by_path[path]:
            try:
                event_clip(labelled.items[index], clock, clips, seconds=seconds)
            except VideoTooShortError:
                early.append(_event_name(labelled.items[index]))
            else:
                usable.append(index)
    notes = []
    if bad:
        if len(bad) > max(1, MAX_BAD_SHARE * len(by_path)) or len(bad) == len(by_path):
            raise BadFilesError(
                f"{len(bad)} of {len(by_path)} files cannot be read: {_some(bad)} Mend the list, "
                "or the files."
            )
        notes.append(f"{len(bad)} of {len(by_path)} files cannot be read: {_some(bad)}")
    if early:
        notes.append(
            f"{len(early)} of {len(labelled)} events come too early in their file to be "
            f"anticipated {clips.seconds if seconds is None else seconds:g} s before and are left "
            f"out: {_some(early)}"
        )
    if not usable:
        raise LabelError(
            f"None of the {len(labelled)} events of {labelled.source or 'the list'} can be "
            f"anticipated. {' '.join(notes)}"
        )
    return UsableEvents(tuple(sorted(usable)), tuple(notes))


def subset(labelled: LabelledSet, indices: Sequence[int]) -> LabelledSet:
    """Some events of a set."""
    items: tuple[LabelledItem, ...] = tuple(labelled.items[index] for index in indices)
    return LabelledSet(items, labelled.label_map, labelled.source, labelled.notes)


def _event_name(item: LabelledItem) -> str:
    start = item.start_seconds
    return f"{item.path} at " + (f"frame {item.start_frame}" if start is None else f"{start:g} s")


def _some(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - MAX_SHOWN} more" if len(lines) > MAX_SHOWN else ""
    return ", ".join(lines[:MAX_SHOWN]) + more + "."


class _KeptFile:
    """A decoded file."""

    is_image = False

    def __init__(self, frames: NDArray[np.uint8], clock: Clock) -> None:
        self._frames = frames
        self._clock = clock

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def frame_size(self) -> tuple[int, int]:
        height, width = self._frames.shape[1:3]
        return height, width

    @property
    def size_bytes(self) -> int:
        return int(self._frames.nbytes)

    def take(
        self, ids: list[int], box: Box, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> Num[Tensor, "U C h w"]:
        part = pick(self._frames[ids], box, rows, columns)
        return torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2)


class _KeptFiles:
    """Files, opened anew each time or kept decoded where they are small; for several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._largest = most_bytes // 16
        self._kept: dict[str, _KeptFile] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[OpenedFile]:
        kept = self._kept.get(path)
        if kept is not None:
            yield kept
            return
        with open_item(LabelledItem(path, (0,))) as file:
            height, width = file.frame_size
            num_bytes = len(file.clock) * height * width * NUM_CHANNELS
            with self._lock:
                fits = num_bytes <= min(self._left, self._largest)
                self._left -= num_bytes if fits else 0
            if not fits:
                yield file
                return
            everything = take_uint8(file, list(range(len(file.clock))))
            # Colours innermost, as `pick` takes them.
            frames = np.ascontiguousarray(everything.permute(0, 2, 3, 1).numpy())
            kept = _KeptFile(frames, file.clock)
        with self._lock:
            self._kept[path] = kept
        yield kept
