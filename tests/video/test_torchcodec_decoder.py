"""The torchcodec backend, against a stand-in for torchcodec, and its absence.

torchcodec is an extra that needs a fitting PyTorch and FFmpeg, so the tests bring a module with the
part of its interface that is used (`VideoDecoder(source, num_ffmpeg_threads=)`, `metadata`,
`get_frames_at(indices=)`), as its documentation describes it.
"""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from video_clips import FPS, decode_all, encode, numbers

from vjepa2.errors import MissingExtraError, VideoDecodeError
from vjepa2.video.reader import VideoReader


class StandIn:
    """Decodes with PyAV and answers as torchcodec does."""

    late_by = 0.0  # seconds added to the times
    frames_more = 0  # that the metadata claims
    wrong_size = False
    failure: Exception | None = None
    opened: list[dict[str, Any]]

    def __init__(self, source: Any, *, num_ffmpeg_threads: int = 1) -> None:
        if isinstance(self.failure, OSError):
            raise self.failure
        type(self).opened.append({"threads": num_ffmpeg_threads})
        images, _ = decode_all(source.read())
        self._images = torch.from_numpy(images).permute(0, 3, 1, 2)
        self.metadata = SimpleNamespace(num_frames=len(images) + self.frames_more)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        if self.failure is not None:
            raise self.failure
        at = torch.tensor(indices)
        data = self._images[at]
        return SimpleNamespace(
            data=data[..., 1:] if self.wrong_size else data,
            pts_seconds=at.double() / FPS + self.late_by,
        )


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Fresh(StandIn):
        opened: list[dict[str, Any]] = []  # noqa: RUF012  # one list a test

    decoders = ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = Fresh
    package = ModuleType("torchcodec")
    package.decoders = decoders
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    return Fresh


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(codec="libx264", container="mp4", frames=20, codec_options={"g": "5"})


def test_both_backends_give_the_same_frames(clip: bytes, stand_in: type[StandIn]):
    asked = [19, 2, 2, 7]
    with VideoReader(clip, backend="torchcodec", num_ffmpeg_threads=3) as reader:
        assert len(reader) == 20
        got = reader.get_frames_at(asked)
        assert len(reader.get_frames_at([])) == 0
        assert numbers(reader.get_frame_played_at(0.5).data[None]) == [12]
        facts = reader.metadata
    with VideoReader(clip) as reader:
        expected = reader.get_frames_at(asked)
        assert facts == reader.metadata
    assert torch.equal(got.data, expected.data)
    assert torch.equal(got.pts_seconds, expected.pts_seconds)
    assert torch.equal(got.duration_seconds, expected.duration_seconds)
    assert stand_in.opened == [{"threads": 3}]  # opened once


@dataclass
class Fault:
    attribute: str
    value: Any
    message: str


@pytest.mark.parametrize(
    "fault",
    [
        Fault("late_by", 0.04, r"gives frame 3 the time 0\.160000 s, the file says 0\.120000 s"),
        Fault("frames_more", 2, "finds 22 frames instead of 20"),
        Fault("wrong_size", True, r"returned \[2, 3, 96, 127\], expected \[2, 3, 96, 128\]"),
        Fault("failure", RuntimeError("no more frames"), "cannot decode the frames: no more"),
        Fault("failure", OSError("bad file"), "cannot open the file: bad file"),
    ],
    ids=lambda fault: fault.attribute,
)
def test_what_does_not_agree_with_the_file_is_refused(
    clip: bytes, stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch, fault: Fault
):
    monkeypatch.setattr(stand_in, fault.attribute, fault.value)
    reader = VideoReader(clip, backend="torchcodec")
    with pytest.raises(VideoDecodeError, match=fault.message) as caught:
        reader.get_frames_at(np.array([3, 4]))
    assert "Use backend='pyav' for this file" in str(caught.value)


@pytest.mark.parametrize("kind", [ImportError, OSError, RuntimeError])
def test_a_torchcodec_that_cannot_be_loaded(clip: bytes, monkeypatch, kind: type[Exception]):
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name == "VideoDecoder":
                raise kind("libtorchcodec needs libnvrtc.so.13\nand more lines")
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", Broken("torchcodec.decoders"))
    with pytest.raises(MissingExtraError, match=r"libnvrtc\.so\.13\)\. Install it with") as caught:
        VideoReader(clip, backend="torchcodec")
    assert "pip install 'vjepa2[torchcodec]'" in str(caught.value)


def test_no_torchcodec(clip: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[torchcodec\]'"):
        VideoReader(clip, backend="torchcodec")
