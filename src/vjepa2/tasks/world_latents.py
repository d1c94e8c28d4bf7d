"""Features of all frames of a run's recordings: computed once, kept on the disk, read by number.

Frames are numbered recording by recording, within it camera by camera, within it in time. They lie
in a `probe_cache.FeatureCache`; a killed run goes on after the last complete shard.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vjepa2.data.sample import BadFile
from vjepa2.data.trajectories import FrameSource, VideoFrames
from vjepa2.errors import BadFilesError, DataError, DtypeError, VideoError
from vjepa2.progress import track
from vjepa2.tasks.probe_cache import FeatureCache, check_disk, file_mark
from vjepa2.tasks.world_recordings import Recordings

Encode = Callable[[Tensor], Tensor]  # uint8 [T, C, H, W] in time to [T, N, D]


class Stretch(NamedTuple):
    """Some frames of one camera in one recording.

    Attributes:
        recording, camera: their numbers.
        start, stop: frames in the recording.
        first: number of frame `start` among all.
    """

    recording: int
    camera: int
    start: int
    stop: int
    first: int


class FrameNumbers:
    """Where a frame is among all."""

    def __init__(self, recordings: Recordings) -> None:
        self.num_cameras = len(recordings.cameras)
        self.lengths = [len(item) for item in recordings.items]
        starts = np.cumsum([0, *(length * self.num_cameras for length in self.lengths)])
        self._starts = starts.tolist()
        self.total = int(starts[-1])

    def first(self, recording: int, camera: int) -> int:
        """Number of a camera's first frame."""
        start: int = self._starts[recording]
        return start + camera * self.lengths[recording]

    def stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        """The frames numbered start .. stop - 1, cut where another video begins."""
        recording = int(np.searchsorted(self._starts, start, side="right")) - 1
        at = start
        while at < stop:
            length = self.lengths[recording]
            camera, frame = divmod(at - self._starts[recording], length)
            end = min(length, frame + stop - at)
            yield Stretch(recording, camera, frame, end, at)
            at += end - frame
            if camera == self.num_cameras - 1 and end == length:
                recording += 1


def open_latents(
    folder: Path,
    recordings: Recordings,
    *,
    identity: dict[str, Any],
    row_shape: tuple[int, int],
    batch_size: int,
    dtype: str,
) -> FeatureCache:
    """The features of these recordings on the disk: all, some, or none yet.

    Args:
        folder: made if needed.
        recordings: whose frames.
        identity: of encoder, processor and frames (`cache_identity`).
        row_shape: (N, D) of a frame.
        batch_size: frames that are encoded at once.
        dtype: on the disk.

    Raises:
        ConfigError: the folder holds other features; the first difference is named.
        CheckpointFormatError: it is damaged.
    """
    return FeatureCache(
        folder,
        identity,
        row_shape=(1, *row_shape),
        num_items=FrameNumbers(recordings).total,
        batch_size=batch_size,
        dtype=dtype,
    )


def fill_latents(
    cache: FeatureCache,
    recordings: Recordings,
    encode: Encode,
    *,
    before: int = 0,
    max_bytes: int,
    max_bad_share: float,
    on_shard: Callable[[], None] = lambda: None,
    quiet: bool = False,
) -> list[BadFile]:
    """Encode what is missing.

    Args:
        cache: of `open_latents`.
        recordings: the same.
        encode: pictures of one camera, one after the other in time, to features.
        before: earlier frames that a frame's features depend on.
        max_bytes: that may be written.
        max_bad_share: of the videos that may be unreadable.
        on_shard: called before every part of some MiB, to tell others that the work goes on.
        quiet: no progress on stderr.

    Returns:
        videos that cannot be read.

    Raises:
        BadFilesError: too many.
        ConfigError: the features need more room than allowed, or than there is.
        DtypeError: features are not finite.
        OutputError: the disk is full.
    """
    if cache.is_complete:
        return []
    check_disk([cache], max_bytes=max_bytes)
    numbers, layout = FrameNumbers(recordings), cache.layout
    per_shard = layout.per_shard * layout.batch_size
    bad: dict[tuple[int, int], BadFile] = {}
    shards = range(cache.num_ready, layout.num_shards)
    for shard in track(shards, total=len(shards), description="Encode frames", quiet=quiet):
        on_shard()
        tokens: list[Tensor] = []
        items: list[int] = []
        unread: list[int] = []
        stop = min((shard + 1) * per_shard, layout.num_items)
        for part in numbers.stretches(shard * per_shard, stop):
            own = range(part.first, part.first + part.stop - part.start)
            item = recordings.items[part.recording]
            camera = recordings.cameras[part.camera]
            for start in range(part.start, part.stop, layout.batch_size):
                end = min(start + layout.batch_size, part.stop)
                rows = own[start - part.start : end - part.start]
                first = max(0, start - before)
                try:
                    frames = item.episode.frames(camera, range(first, end))
                except (VideoError, DataError) as error:
                    name = f"{item.episode.name}, camera {camera or 'of the episode'}"
                    reason = str(error).splitlines()[0]
                    place = part.recording, part.camera
                    bad[place] = BadFile(name, reason, 0, 0, part.recording)
                    unread.extend(rows)
                    continue
                found = encode(frames)[start - first :]
                if not torch.isfinite(found).all():
                    raise DtypeError(
                        f"Features of {item.episode.name} are not finite: look at the encoder's "
                        "weights."
                    )
                kept = found.to("cpu", cache.dtype)
                if not torch.isfinite(kept).all():
                    raise DtypeError(
                        f"Features of {item.episode.name} are too large for cache.dtype=float16. "
                        "Set cache.dtype=float32."
                    )
                tokens.append(kept[:, None])
                items.extend(rows)
        cache.write(shard, tokens, items, unread)
        if len(bad) > max_bad_share * len(numbers.lengths) * numbers.num_cameras:
            one = next(iter(bad.values()))
            raise BadFilesError(
                f"{len(bad)} videos cannot be read (data.max_bad_share={max_bad_share:g}), such as "
                f"{one.path}: {one.reason}",
                bad_files=bad.values(),
            )
    return list(bad.values())


def frame_marks(recordings: Recordings) -> list[str]:
    """A line for every recording and camera: its name and a mark of its frames."""
    known: dict[Path, str] = {}
    lines = []
    for item in recordings.items:
        for camera in recordings.cameras:
            mark = _source_mark(item.episode.camera(camera), known)
            lines.append(f"{item.episode.name} {item.phase} {camera} {mark}")
    return lines


def _source_mark(source: FrameSource, known: dict[Path, str]) -> str:
    digest = hashlib.sha256()
    if isinstance(source, VideoFrames):
        if source.path not in known:
            known[source.path] = file_mark(source.path)
        digest.update(known[source.path].encode())
        places = source.numbers if source.numbers is not None else source.seconds
        digest.update(np.ascontiguousarray(places).tobytes())
    else:
        for start in range(0, len(source), 64):
            pixels = source.read(range(start, min(start + 64, len(source))))
            digest.update(f"{tuple(pixels.shape)}".encode())
            digest.update(pixels.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class LatentTable:
    """Features by number of the frame, from memory where they fit, else from the disk.

    Args:
        cache: complete.
        device: where batches are wanted.
        max_bytes: that may be held in memory.
    """

    def __init__(self, cache: FeatureCache, *, device: torch.device, max_bytes: int) -> None:
        self._cache, self.device = cache, device
        self.row_shape = cache.row_shape[1:]
        total = cache.layout.num_items
        size = total * int(np.prod(self.row_shape)) * cache.dtype.itemsize
        self._held: Tensor | None = None
        if size > max_bytes:
            return
        home = device if device.type == "cuda" and size < _free_bytes(device) / 4 else "cpu"
        self._held = torch.zeros((total, *self.row_shape), dtype=cache.dtype, device=home)
        for start in range(0, total, 1024):
            rows = cache.readable(range(start, min(start + 1024, total)))
            if rows:
                found = cache.rows(rows)[:, 0].to(cache.dtype)
                self._held[torch.tensor(rows, device=home)] = found.to(home)

    def usable(self, items: range) -> bool:
        """Whether all of these frames could be read."""
        return not self._cache.bad or self._cache.bad.isdisjoint(items)

    def rows(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n N D"]:
        """Features of frames, float32, on the device."""
        if self._held is None:
            return self._cache.rows(items.tolist())[:, 0].to(self.device)
        found = self._held[items.to(self._held.device)]
        return found.to(self.device).float()


def _free_bytes(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0])


def cache_identity(
    recordings: Recordings, *, weights: str, processor: dict[str, Any], mode: str, dtype: str
) -> dict[str, Any]:
    """Everything that decides the features of frames; all of these are read once for it.

    Args:
        recordings: whose frames.
        weights: mark of the encoder's.
        processor: its options as JSON values.
        mode: how frames are encoded.
        dtype: in which the encoder computes.
    """
    settings = {"encoder": weights, "processor": processor, "mode": mode, "computed_in": dtype}
    return {**settings, "frames": frame_marks(recordings)}
