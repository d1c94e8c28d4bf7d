"""Walk through the decoded frames of an open video, from the start or from a keyframe.

This is the only place that feeds packets to a decoder. It remembers which packets were damaged, so
that no picture that leans on them is handed out as if it were right.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vjepa2.video.container import OpenVideo, import_av
from vjepa2.video.frame_table import NO_TIME

if TYPE_CHECKING:
    import av


class FrameCursor:
    """Decoded frames in the order they are shown.

    Attributes:
        video: the open file.
        last_ticks: pts of the frame that `next_frame` gave last, None at the beginning.
        fed_ticks: greatest pts that went into the decoder, None at the beginning.
        num_given: frames given since the beginning; means nothing after `seek`.
        bad_packets: dts (`NO_TIME` if unknown) of each packet that could not be decoded, and why.
        bad_frames: pts of each frame that the decoder marked as damaged, and why.
        is_doubtful: True from a damage on, until the next keyframe comes out.
        skip_before: frames shown before this pts are not decoded if no other frame leans on them.
            With H.264's usual B-frames that is every second one, and halves the work. Frames from
            this pts on always come, also those that went into the decoder ahead of their time.
    """

    def __init__(self, video: OpenVideo) -> None:
        self.video = video
        self.bad_packets: dict[int, str] = {}
        self.bad_frames: dict[int, str] = {}
        self.skip_before: int | None = None
        self._skips = False
        self._start(None)

    def _start(self, first: "av.Packet[Any] | None") -> None:
        self.last_ticks: int | None = None
        self.fed_ticks: int | None = None
        self.num_given = 0
        self.is_doubtful = False
        self._held: av.VideoFrame | None = None
        self._frames: Iterator[av.VideoFrame] = self._decoded(first)

    def close(self) -> None:
        """Let go of the decoder now.

        The generator of frames and this object hold each other; left to the garbage collector,
        the decoder's threads would outlive the reader, and a collection inside a forked worker
        would wait for threads that do not exist there.
        """
        self._held = None
        self._frames = iter(())
        self.video.close()

    def next_frame(self) -> "av.VideoFrame | None":
        """Return the next frame, or None at the end."""
        frame, self._held = self._held, None
        if frame is None:
            frame = next(self._frames, None)
        if frame is not None:
            self.num_given += 1
            self.last_ticks = frame.pts
        return frame

    def hold(self, frame: "av.VideoFrame") -> None:
        """Give `frame` again at the next call of `next_frame`."""
        self._held = frame
        self.num_given -= 1
        self.last_ticks = None if frame.pts is None else frame.pts - 1

    def seek(self, *, pts: int, dts: int) -> bool:
        """Go to the keyframe with these time stamps; False if this file does not allow it.

        Formats take the target for a pts (Matroska) or a dts (MPEG-TS), so both are tried, and
        the packet found there is looked at: decoding must start on a keyframe shown no later.
        """
        av = import_av()
        for target in dict.fromkeys((pts, dts)):
            try:
                self.video.container.seek(target, stream=self.video.stream, backward=True)
                packet = next(
                    (p for p in self.video.container.demux(self.video.stream) if p.size), None
                )
            except (av.error.FFmpegError, OSError, OverflowError):
                continue
            if packet is None or packet.pts is None or not packet.is_keyframe:
                continue
            if packet.pts <= pts:
                self._start(packet)
                return True
        return False

    def _packets(self, first: "av.Packet[Any] | None") -> "Iterator[av.Packet[Any]]":
        av = import_av()
        late = first
        try:
            # One packet behind: a broken packet at the very end is a cut, and would take intact
            # frames with it. Elsewhere (a gap in a broadcast) the decoder may cope with it.
            for packet in self.video.container.demux(self.video.stream):
                if packet.size == 0:
                    continue
                if late is not None:
                    yield late
                late = packet
            if late is not None and not late.is_corrupt:
                yield late
            elif late is not None:
                self._note(late.dts, "its data is incomplete")
        except (av.error.FFmpegError, OSError) as error:
            self._note(None, f"the file cannot be read further ({_reason(error)})")

    def _decoded(self, first: "av.Packet[Any] | None") -> "Iterator[av.VideoFrame]":
        av = import_av()
        for packet in self._packets(first):
            if packet.pts is not None:
                self.fed_ticks = max(packet.pts, self.fed_ticks or packet.pts)
            self._set_skipping(packet.pts)
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                self._add_damage(packet.dts, _reason(error))
                continue
            yield from self._marked(frames)
        try:
            frames = self.video.stream.codec_context.decode(None)
        except (av.error.FFmpegError, ValueError) as error:
            self._add_damage(None, _reason(error))
            return
        yield from self._marked(frames)

    def _set_skipping(self, pts: int | None) -> None:
        skips = self.skip_before is not None and pts is not None and pts < self.skip_before
        if skips != self._skips:
            self._skips = skips
            self.video.stream.codec_context.skip_frame = "NONREF" if skips else "DEFAULT"

    def _marked(self, frames: "list[av.VideoFrame]") -> "Iterator[av.VideoFrame]":
        for frame in frames:
            if frame.is_corrupt:
                # Its own dts is not known here: decoders report that of the packet fed last.
                if frame.pts is not None:
                    self.bad_frames[frame.pts] = "the decoder had to guess parts of the picture"
                self.is_doubtful = True
            elif frame.key_frame:
                self.is_doubtful = False
            yield frame

    def _add_damage(self, dts: int | None, why: str) -> None:
        self._note(dts, why)
        self.is_doubtful = True

    def _note(self, dts: int | None, why: str) -> None:
        """Remember a packet that was not fed; frames fed before it are right."""
        self.bad_packets[NO_TIME if dts is None else dts] = why


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
