"""Decode chosen frames of a file with PyAV: exact, seldom more than needed, in bounded memory.

The plan for a set of frames: sort them, walk forward, and jump only when a keyframe lies between
here and the next wanted frame, so that nothing is decoded twice and long gaps are not decoded at
all. Only wanted frames are converted to RGB, each straight into its place in the result.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import VideoDecodeError
from vjepa2.video.container import decode_error, open_video
from vjepa2.video.cursor import FrameCursor
from vjepa2.video.frame_table import (
    NO_TIME,
    FrameTable,
    scan_packets,
    table_from_frames,
    table_from_packets,
    too_many_frames,
)
from vjepa2.video.limits import ReadLimits
from vjepa2.video.rgb import RGBConverter, empty_pictures
from vjepa2.video.sources import OpenedSource
from vjepa2.video.stream_metadata import VideoStreamMetadata

if TYPE_CHECKING:
    import av

# Frames decoded when a file is opened, to see that times and packets agree. Reordering, if there
# is any, shows within this many.
NUM_HEAD_FRAMES = 8
# A jump empties the decoder's pipeline of frame threads; below this many skipped frames walking
# on is quicker.
MIN_FRAMES_TO_JUMP = 8
# How long a failed read may look for the number of readable frames that its message names.
COUNT_READABLE_SECONDS = 2.0


class PyAVDecoder:
    """Frames of one file by their number.

    Args:
        source: the open file; closed by `close`.
        limits: of pixels and frames.
        threads: decoder threads, 0 for one per processor.
        skip_damage: leave out frames that cannot be decoded, instead of raising. Costs one
            decoding of the whole file.

    Raises:
        VideoOpenError, NoVideoStreamError, VideoTooLargeError: the file cannot be opened.
    """

    def __init__(
        self, source: OpenedSource, *, limits: ReadLimits, threads: int, skip_damage: bool
    ) -> None:
        self._source = source
        self._limits = limits
        self._threads = threads
        self._skip_damage = skip_damage
        self._table: FrameTable | None = None
        self._converter: RGBConverter | None = None
        self._num_counted = 0
        self._is_careful = False
        self._cursor = self._open()

    def close(self) -> None:
        """Free the decoder and the file."""
        self._cursor.close()
        self._source.close()

    def _open(self, *, careful: bool = False) -> FrameCursor:
        video = open_video(
            self._source, limits=self._limits, threads=self._threads, careful=careful
        )
        return FrameCursor(video)

    def _reopen(self, *, careful: bool = False) -> None:
        """Begin again at the start. `careful`: see `open_video`."""
        opened = self._open(careful=careful)  # first, so that a failure leaves the old one in use
        self._cursor.close()
        self._cursor = opened
        self._is_careful = careful
        self._num_counted = 0

    # ---- which frames there are ------------------------------------------------------------

    @property
    def table(self) -> FrameTable:
        """Number and times of the frames; found on first use.

        Raises:
            VideoDecodeError: the file is cut off, or nothing in it can be decoded.
        """
        if self._table is None:
            self._table = self._find_frames()
        return self._table

    def _find_frames(self) -> FrameTable:
        scan = scan_packets(self._cursor.video, limits=self._limits)
        if scan.cut_off and not self._skip_damage:
            raise decode_error(self._source, scan.cut_off)
        table = table_from_packets(scan, self._cursor.video) if len(scan.pts) else None
        self._reopen()
        table = self._checked_by_head(table) if table is not None else None
        if table is None:
            return self._count_by_decoding()
        if self._skip_damage:
            table = self._without_damage(table)
            self._reopen()  # with threads again
        return table

    def _checked_by_head(self, table: FrameTable) -> FrameTable | None:
        """Decode the first frames; None if they do not follow the table.

        Frames before the first keyframe's own may be missing rightly: they lean on a part that
        was cut away. They are taken off the table.
        """
        seen: list[int | None] = []
        while len(seen) < NUM_HEAD_FRAMES and (frame := self._cursor.next_frame()) is not None:
            self._converter = self._converter or RGBConverter(frame)
            seen.append(frame.pts)
        if not seen or self._cursor.is_doubtful:
            return table  # damaged here: reading will say so
        start = int(np.searchsorted(table.ticks, seen[0])) if seen[0] is not None else 0
        if list(table.ticks[start : start + len(seen)]) != seen:
            return None
        if start and table.ticks[start] > table.key_pts[0]:
            return None
        return table.keep(slice(start, None)) if start else table

    def _count_by_decoding(self) -> FrameTable:
        self._reopen(careful=True)
        ticks: list[int | None] = []
        duration = 0
        while (frame := self._next_counted()) is not None:
            self._converter = self._converter or RGBConverter(frame)
            ticks.append(frame.pts)
            duration = frame.duration or 0
            if len(ticks) > self._limits.max_frames:
                raise too_many_frames(self._source, self._limits)
        if not ticks:
            raise decode_error(self._source, f"no frame can be decoded: {self._why()}.")
        return table_from_frames(ticks, self._cursor.video, last_duration=duration)

    def _without_damage(self, table: FrameTable) -> FrameTable:
        """Decode everything once and keep the frames that came out whole."""
        self._reopen(careful=True)
        given: set[int] = set()
        latest = NO_TIME
        while (frame := self._cursor.next_frame()) is not None:
            self._converter = self._converter or RGBConverter(frame)
            if frame.pts is not None and frame.pts > latest:  # damage can upset the order
                latest = frame.pts
                given.add(latest)
        is_given = np.isin(table.ticks, np.fromiter(given, dtype=np.int64))
        positions = np.flatnonzero(is_given & ~self._is_damaged(table, np.arange(len(table))))
        if not len(positions):
            raise decode_error(self._source, f"no frame can be decoded: {self._why()}.")
        return table.keep(positions)

    def metadata(self) -> VideoStreamMetadata:
        """Facts of the video, with the counted number of frames."""
        table, stream = self.table, self._cursor.video.stream
        picture, context = self._to_rgb(), stream.codec_context
        return VideoStreamMetadata(
            num_frames=len(table),
            num_frames_from_header=stream.frames or None,
            average_fps=table.average_fps,
            duration_seconds=float(table.end_seconds - table.pts_seconds[0]),
            begin_stream_seconds=float(table.pts_seconds[0]),
            end_stream_seconds=table.end_seconds,
            width=picture.width,
            height=picture.height,
            rotation=picture.rotation or None,
            codec=context.codec.canonical_name,
            pixel_format=context.pix_fmt or "unknown",
            pixel_aspect_ratio=stream.sample_aspect_ratio,
            bit_rate=context.bit_rate or None,
            stream_index=stream.index,
            container=self._cursor.video.container.format.name,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the returned frames, after rotation.

        Raises:
            VideoDecodeError: not even the first frame can be decoded.
        """
        converter = self._to_rgb()
        return converter.height, converter.width

    def _to_rgb(self) -> RGBConverter:
        _ = self.table  # finding the frames decodes the first ones
        if self._converter is None:
            raise decode_error(self._source, f"no frame can be decoded: {self._why()}.")
        return self._converter

    # ---- their pixels ----------------------------------------------------------------------

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]:
        """Return frames as uint8 RGB, in the order of `indices`, which may repeat.

        Args:
            indices: each 0 <= index < len(table).

        Raises:
            VideoDecodeError: a wanted frame, or one that it leans on, is damaged.
        """
        picture = self._to_rgb()
        places: dict[int, list[int]] = defaultdict(list)
        for place, index in enumerate(indices):
            places[index].append(place)
        pixels = empty_pictures(len(indices), height=picture.height, width=picture.width)
        view = pixels.numpy()
        missing = self._fill(sorted(places), places, view)
        if missing:
            # Once more without frame threads, which lose good frames near a bad one, and from
            # one keyframe earlier, for streams whose keyframes lean on what came before.
            self._reopen(careful=True)
            missing = self._fill(missing, places, view, keys_back=1)
            error = self._unreadable(missing[0]) if missing else None
            self._reopen()
            if error is not None:
                raise error
        return pixels.permute(0, 3, 1, 2)

    def _fill(
        self,
        wanted: Sequence[int],
        places: dict[int, list[int]],
        pixels: NDArray[np.uint8],
        *,
        keys_back: int = 0,
    ) -> list[int]:
        """Decode the sorted frames `wanted` into their places; return those that did not come."""
        missing = []
        for index in wanted:
            reach = self._reach_by_pts if self.table.by_pts else self._reach_by_count
            frame = reach(index, keys_back)
            if frame is None:
                missing.append(index)
                continue
            first, *copies = places[index]
            self._to_rgb().write(frame, pixels[first])
            for place in copies:
                pixels[place] = pixels[first]
        return missing

    def _reach_by_pts(self, index: int, keys_back: int) -> "av.VideoFrame | None":
        target = int(self.table.ticks[index])
        self._jump_if_useful(index, keys_back)
        cursor = self._cursor
        cursor.skip_before = None if self._is_careful else target
        while (frame := cursor.next_frame()) is not None:
            if frame.pts is None:
                continue
            if frame.pts > target:
                cursor.hold(frame)
                return None
            if frame.pts == target:
                # With frame threads an error is only known to be near.
                doubtful = cursor.is_doubtful and not self._is_careful
                is_bad = doubtful or self._is_damaged(self.table, np.array([index]))[0]
                return None if is_bad else frame
        return None

    def _jump_if_useful(self, index: int, keys_back: int) -> None:
        table, cursor = self.table, self._cursor
        target = int(table.ticks[index])
        key = max(int(table.key_before(np.array([index]))[0]) - keys_back, 0)
        is_behind = cursor.last_ticks is not None and target <= cursor.last_ticks
        if self._skip_damage and self._is_careful:
            # The frames that count as readable are those of a walk from the start.
            if is_behind:
                self._reopen(careful=True)
            return
        if not is_behind:
            reached = table.key_pts[0] if cursor.fed_ticks is None else cursor.fed_ticks
            skipped = np.searchsorted(table.ticks, [reached, table.key_pts[key]])
            if skipped[1] - skipped[0] < MIN_FRAMES_TO_JUMP:
                return
        if not cursor.seek(pts=int(table.key_pts[key]), dts=int(table.key_dts[key])):
            self._reopen(careful=self._is_careful)

    def _reach_by_count(self, index: int, keys_back: int) -> "av.VideoFrame | None":
        if index < self._num_counted or not self._is_careful:
            self._reopen(careful=True)
        while (frame := self._next_counted()) is not None:
            if self._num_counted == index + 1:
                return None if self._cursor.is_doubtful else frame
        return None

    def _next_counted(self) -> "av.VideoFrame | None":
        """Return the next frame that has a number, where frames are counted."""
        while (frame := self._cursor.next_frame()) is not None:
            if not (self._skip_damage and self._cursor.is_doubtful):
                self._num_counted += 1
                return frame
        return None

    # ---- damage ----------------------------------------------------------------------------

    def _is_damaged(self, table: FrameTable, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where a damaged packet lies between the keyframe before a frame and the frame."""
        packets = np.array(list(set(self._cursor.bad_packets) - {NO_TIME}), dtype=np.int64)
        frames = np.isin(table.ticks, np.array(list(self._cursor.bad_frames), dtype=np.int64))
        bad_dts = np.sort(np.concatenate([packets, table.dts[frames]]))
        first = np.searchsorted(bad_dts, table.key_dts[table.key_before(indices)], side="left")
        stop = np.searchsorted(bad_dts, table.dts[indices], side="right")
        return stop > first

    def _why(self) -> str:
        reasons = {**self._cursor.bad_packets, **self._cursor.bad_frames}
        return next(iter(reasons.values()), "the stream holds no picture for it")

    def _unreadable(self, index: int) -> VideoDecodeError:
        why = self._why()
        count, is_all = self._count_readable()
        at_least = "" if is_all else "at least "
        return decode_error(
            self._source,
            f"frame {index} (at {self.table.pts_seconds[index]:.3f} s) of {len(self.table)} cannot "
            f"be decoded: {why}. From the start, {at_least}{count} frames are readable.",
        )

    def _count_readable(self) -> tuple[int, bool]:
        """Frames readable from the start, and whether there was time to count all of them."""
        self._reopen(careful=True)
        deadline = time.monotonic() + COUNT_READABLE_SECONDS
        reach = self._reach_by_pts if self.table.by_pts else self._reach_by_count
        for index in range(len(self.table)):
            if time.monotonic() > deadline:
                return index, False
            if reach(index, 0) is None:
                return index, True
        return len(self.table), True
