"""Memory for pictures, and pictures turned upright."""

import mmap

import pytest
import torch

from vjepa2.errors import VideoTooLargeError
from vjepa2.video.rgb import OWN_PAGES_BYTES, empty_pictures


@pytest.mark.parametrize("count", [0, 1, 300])
def test_memory_has_the_shape_asked_for_and_can_be_written(count: int):
    pictures = empty_pictures(count, height=40, width=50)
    assert pictures.shape == (count, 40, 50, 3)
    assert pictures.dtype == torch.uint8
    assert pictures.is_contiguous()
    pictures.fill_(7)
    assert int(pictures.long().sum()) == 7 * pictures.numel()


def test_a_part_keeps_the_memory_alive():
    part = empty_pictures(300, height=40, width=50).fill_(9)[250:]
    others = [empty_pictures(300, height=40, width=50).fill_(1) for _ in range(4)]
    assert bool((part == 9).all())
    assert len(others) == 4


def test_no_memory(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    empty_pictures(1, height=10, width=10)  # small ones do not need it
    rows = OWN_PAGES_BYTES // 300 + 1
    with pytest.raises(VideoTooLargeError, match=r"no memory for 1 frames.*fewer frames at a time"):
        empty_pictures(1, height=rows, width=100)
