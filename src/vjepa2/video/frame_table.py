"""Which frames a video has: the number, times and keyframes, found by reading packets.

The header of a file only hints at the number of frames: it is 0 for WebM, and too high for files
that were cut or truncated. Reading every packet once, without decoding, tells it exactly for
nearly every file, in a few milliseconds per thousand frames. A frame is then known by its
presentation time stamp (pts, in ticks of the stream), frames are numbered by rising pts, and
keyframes say where decoding can begin.

Where packets do not identify frames (raw streams without times, AVI with reordered frames, two
packets of one time, a clock that jumps back), frames are counted by decoding the whole file once:
`by_pts` is then False, and the table has no keyframes.
"""

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vjepa2.errors import VideoTooLargeError
from vjepa2.video.container import OpenVideo, import_av
from vjepa2.video.jpeg import jpeg_is_cut
from vjepa2.video.limits import ReadLimits
from vjepa2.video.sources import OpenedSource

if TYPE_CHECKING:
    import av

Ticks: TypeAlias = NDArray[np.int64]
Seconds: TypeAlias = NDArray[np.float64]

NO_TIME = int(np.iinfo(np.int64).min)
# A backward jump of the clock by more than this starts a new stretch (joined recordings); smaller
# ones are frames that came out of order.
CLOCK_JUMP_SECONDS = 1.0
DEFAULT_FPS = 25.0  # what FFmpeg assumes too when a file states no rate


@dataclass(frozen=True, eq=False)
class FrameTable:
    """The frames of a video in the order they are shown.

    Attributes:
        ticks: int64 [T], pts; strictly rising where `by_pts`.
        dts: int64 [T], decoding time stamps; they rise in decoding order.
        pts_seconds: float64 [T], when each frame appears.
        duration_seconds: float64 [T], until the next frame appears; the last one as stored.
        key_pts, key_dts: int64 [K], keyframes by rising pts, also such as are not shown.
        by_pts: True if a decoded frame is recognised by its pts, False if by counting.
    """

    ticks: Ticks
    dts: Ticks
    pts_seconds: Seconds
    duration_seconds: Seconds
    key_pts: Ticks
    key_dts: Ticks
    by_pts: bool

    def __len__(self) -> int:
        return len(self.pts_seconds)

    @property
    def end_seconds(self) -> float:
        """When the last frame leaves the screen."""
        return float(self.pts_seconds[-1] + self.duration_seconds[-1])

    @property
    def average_fps(self) -> float:
        """Frames a second over the whole video."""
        return len(self) / float(self.end_seconds - self.pts_seconds[0])

    def key_before(self, indices: Ticks) -> Ticks:
        """Positions in `key_pts` of the keyframes from which frames can be decoded.

        It is the last one shown no later: frames that follow a keyframe in the file but are shown
        before it lean on the keyframe before.
        """
        return np.maximum(np.searchsorted(self.key_pts, self.ticks[indices], side="right") - 1, 0)

    def keep(self, positions: NDArray[Any] | slice) -> "FrameTable":
        """Return the table with some frames only; times stay, so gaps lengthen durations."""
        ticks, dts = self.ticks[positions], self.dts[positions]
        last = float(self.duration_seconds[-1])
        pts_seconds = self.pts_seconds[positions]
        return FrameTable(
            ticks=ticks,
            dts=dts,
            pts_seconds=pts_seconds,
            duration_seconds=_durations(pts_seconds, last=last),
            key_pts=self.key_pts,
            key_dts=self.key_dts,
            by_pts=self.by_pts,
        )


@dataclass(frozen=True, eq=False)
class PacketScan:
    """What one pass over the packets found; all arrays are in decoding order.

    Attributes:
        pts, dts, durations: int64 ticks, `NO_TIME` where a packet has none.
        is_key, is_shown: bool; a frame that an edit list cuts off is not shown.
        cut_off: why packets are missing at the end, "" if none are.
    """

    pts: Ticks
    dts: Ticks
    durations: Ticks
    is_key: NDArray[np.bool_]
    is_shown: NDArray[np.bool_]
    cut_off: str


def scan_packets(video: OpenVideo, *, limits: ReadLimits) -> PacketScan:
    """Read all packets of a freshly opened video.

    Raises:
        VideoTooLargeError: more than `limits.max_frames` packets.
    """
    av = import_av()
    pts, dts, durations = array("q"), array("q"), array("q")
    is_key, is_shown = bytearray(), bytearray()
    codec = video.stream.codec_context.codec.canonical_name
    is_jpeg = video.container.format.name == "jpeg_pipe"
    cut_off, last_is_corrupt = "", False
    try:
        for packet in video.container.demux(video.stream):
            if packet.size == 0:  # the end, or a sample whose bytes are missing
                continue
            pts.append(NO_TIME if packet.pts is None else packet.pts)
            dts.append(NO_TIME if packet.dts is None else packet.dts)
            durations.append(packet.duration or 0)
            is_key.append(packet.is_keyframe)
            is_shown.append(not packet.is_discard and not _is_hidden(packet, codec))
            last_is_corrupt = packet.is_corrupt or (is_jpeg and jpeg_is_cut(bytes(packet)))
            if len(pts) > limits.max_frames:
                raise too_many_frames(video.source, limits)
    except (av.error.FFmpegError, OSError) as error:
        cut_off = f"after {len(pts)} frames the file cannot be read further ({error})."
    promised = _promised_packets(video)
    if promised > len(pts):
        cut_off = f"the file ends early: its index lists {promised} frames, {len(pts)} are there."
    elif last_is_corrupt and not cut_off:
        cut_off = f"the file ends in the middle of frame {len(pts) - 1}."
    return PacketScan(
        pts=np.array(pts, dtype=np.int64),
        dts=np.array(dts, dtype=np.int64),
        durations=np.array(durations, dtype=np.int64),
        is_key=np.frombuffer(is_key, dtype=np.uint8).astype(bool),
        is_shown=np.frombuffer(is_shown, dtype=np.uint8).astype(bool),
        cut_off=cut_off,
    )


def too_many_frames(source: OpenedSource, limits: ReadLimits) -> VideoTooLargeError:
    """Return the error of a video with more frames than allowed."""
    return VideoTooLargeError(
        f"{source.name} has more than max_frames = {limits.max_frames} frames. Cut it into parts, "
        "or raise ReadLimits.max_frames."
    )


def _promised_packets(video: OpenVideo) -> int:
    """Number of packets that the index of an mp4/mov file lists; 0 for other formats.

    `stream.frames` would not do: an edit list may leave out packets rightly.
    """
    if "mp4" not in video.container.format.name:
        return 0
    return len(video.stream.index_entries)


def _is_hidden(packet: "av.Packet[Any]", codec: str) -> bool:
    """True for a VP8 or VP9 packet that only helps to predict others and is never shown.

    RFC 6386 section 9.1 (bit 4 of the first byte is show_frame); VP9 bitstream specification,
    6.2: frame marker (2 bits), profile (2), show_existing_frame, frame_type, show_frame. A VP9
    superframe (marker 110 in the last byte) always ends with a shown frame.
    """
    if codec == "vp8":
        return not memoryview(packet)[0] & 0x10
    if codec == "vp9":
        view = memoryview(packet)
        first, last = view[0], view[-1]
        is_superframe = last & 0xE0 == 0xC0
        is_plain = first >> 6 == 2 and first & 0x30 != 0x30  # not profile 3 (one more bit)
        return is_plain and not is_superframe and not first & 0x08 and not first & 0x02
    return False


def table_from_packets(scan: PacketScan, video: OpenVideo) -> FrameTable | None:
    """Return the table that packets tell, or None where they do not identify frames."""
    first_key = int(np.argmax(scan.is_key)) if scan.is_key.any() else -1
    if first_key < 0:
        return None
    # Before the first keyframe nothing can be decoded (a recording that starts in the middle).
    shown = scan.is_shown.copy()
    shown[:first_key] = False
    is_avi = video.container.format.name == "avi"
    if is_avi and video.stream.codec_context.has_b_frames:
        return None  # AVI stores no presentation times; those of reordered frames are guesses
    if not shown.any() or (scan.pts[shown | scan.is_key] == NO_TIME).any():
        return None
    if not _is_ordered(scan):
        return None
    order = np.argsort(scan.pts[shown], kind="stable")
    ticks = scan.pts[shown][order]
    if (np.diff(ticks) <= 0).any():
        return None
    keys = np.flatnonzero(scan.is_key)
    pts_seconds = _seconds(ticks, video)
    last = float(scan.durations[shown][order][-1] * _time_base(video))
    return FrameTable(
        ticks=ticks,
        dts=scan.dts[shown][order],
        pts_seconds=pts_seconds,
        duration_seconds=_durations(pts_seconds, last=last, fps=_stated_fps(video)),
        key_pts=scan.pts[keys],
        key_dts=np.where(scan.dts[keys] == NO_TIME, scan.pts[keys], scan.dts[keys]),
        by_pts=True,
    )


def _is_ordered(scan: PacketScan) -> bool:
    """True if everything after a keyframe in the file is shown after the keyframe before it.

    Frames are reordered within about one group of pictures. A larger step back means that the
    clock was set back, and then sorting by pts would mix two stretches.
    """
    keys = np.flatnonzero(scan.is_key)
    if (np.diff(scan.pts[keys]) <= 0).any():
        return False
    later = scan.pts[keys[1] :] if len(keys) > 1 else scan.pts[:0]
    if not len(later):
        return True
    group = np.searchsorted(keys, np.arange(keys[1], len(scan.pts)), side="right") - 1
    known = later != NO_TIME
    return bool((later[known] > scan.pts[keys][group[known] - 1]).all())


def table_from_frames(
    ticks: Sequence[int | None], video: OpenVideo, *, last_duration: int
) -> FrameTable:
    """Return the table of frames that were counted by decoding, in the order they came out.

    Args:
        ticks: pts of each frame, None where it has none.
        video: gives the time base and the rate.
        last_duration: of the last frame in ticks, 0 if unknown.
    """
    fps = _stated_fps(video)
    time_base = _time_base(video)
    if any(tick is None for tick in ticks):
        pts_seconds = np.arange(len(ticks), dtype=np.float64) / fps
    else:
        known = np.array([tick for tick in ticks if tick is not None], dtype=np.int64)
        pts_seconds = _repaired(_seconds(known, video), fps=fps)
    return FrameTable(
        ticks=np.arange(len(ticks), dtype=np.int64),
        dts=np.arange(len(ticks), dtype=np.int64),
        pts_seconds=pts_seconds,
        duration_seconds=_durations(pts_seconds, last=float(last_duration * time_base), fps=fps),
        key_pts=np.empty(0, dtype=np.int64),
        key_dts=np.empty(0, dtype=np.int64),
        by_pts=False,
    )


def _repaired(pts_seconds: Seconds, *, fps: float) -> Seconds:
    """Make times rise: sort within a stretch, shift a stretch whose clock was set back."""
    jumps = np.flatnonzero(np.diff(pts_seconds) < -CLOCK_JUMP_SECONDS) + 1
    stretches = [np.sort(part) for part in np.split(pts_seconds, jumps)]
    for before, part in itertools.pairwise(stretches):
        part += before[-1] + 1 / fps - part[0]
    return np.concatenate(stretches)


def _stated_fps(video: OpenVideo) -> float:
    for rate in (video.stream.average_rate, video.stream.guessed_rate):
        if rate is not None and rate > 0:
            return float(rate)
    return DEFAULT_FPS


def _time_base(video: OpenVideo) -> Fraction:
    return video.stream.time_base or Fraction(1, 1)


def _seconds(ticks: Ticks, video: OpenVideo) -> Seconds:
    time_base = _time_base(video)
    return ticks.astype(np.float64) * time_base.numerator / time_base.denominator


def _durations(pts_seconds: Seconds, *, last: float, fps: float = DEFAULT_FPS) -> Seconds:
    """How long each frame stays: until the next one. Files often store another number."""
    gaps = np.diff(pts_seconds)
    if last <= 0:
        last = float(np.median(gaps)) if len(gaps) else 1 / fps
    return np.append(gaps, last)
