"""The parts of finding frames that whole files do not reach."""

import av
import numpy as np
import pytest

from vjepa2.video.frame_table import FrameTable, PacketScan, _is_hidden, _is_ordered, _repaired


def packet(*data: int) -> av.Packet:
    return av.Packet(bytes(data))


@pytest.mark.parametrize(
    ("first", "last", "hidden"),
    [
        (0b10_00_0_1_1_0, 0, False),  # frame marker, profile 0, not repeated, delta, shown
        (0b10_00_0_1_0_0, 0, True),  # not shown
        (0b10_00_1_0_0_0, 0, False),  # shows a stored frame
        (0b10_10_0_1_0_0, 0, True),  # profile 1
        (0b10_11_0_0_1_0, 0, False),  # profile 3 has one bit more: not judged
        (0b10_00_0_1_0_0, 0b110_00_001, False),  # a superframe ends with a shown frame
        (0b00_00_0_1_0_0, 0, False),  # no VP9 frame: left to the decoder
    ],
)
def test_hidden_vp9_frames(first: int, last: int, hidden: bool):
    assert _is_hidden(packet(first, 1, 2, last), "vp9") is hidden


def test_hidden_vp8_frames_and_no_others():
    assert _is_hidden(packet(0b0000_0001, 1), "vp8")
    assert not _is_hidden(packet(0b0001_0001, 1), "vp8")
    assert not _is_hidden(packet(0, 1), "h264")


def scan(pts: list[int], keys: list[int]) -> PacketScan:
    is_key = np.zeros(len(pts), dtype=bool)
    is_key[keys] = True
    ticks = np.array(pts, dtype=np.int64)
    shown = np.ones(len(pts), dtype=bool)
    return PacketScan(ticks, ticks, np.ones_like(ticks), is_key, shown, "")


def test_frames_may_be_reordered_within_neighbouring_groups_only():
    assert _is_ordered(scan([0, 3, 1, 2, 6, 4, 5], [0, 4]))  # 4, 5 lean on both keyframes
    assert _is_ordered(scan([0, 3, 1, 2], [0]))
    assert not _is_ordered(scan([100, 103, 101, 0, 3, 1], [0, 3]))  # the clock was set back
    # Shown before the keyframe of the group before its own.
    assert not _is_ordered(scan([10, 13, 20, 9, 30], [0, 2, 4]))


def test_times_are_repaired_so_that_they_rise():
    swapped = np.array([0.0, 0.12, 0.04, 0.08, 0.16])
    np.testing.assert_allclose(_repaired(swapped, fps=25), [0, 0.04, 0.08, 0.12, 0.16])
    set_back = np.array([100.0, 100.04, 3.0, 3.04])
    np.testing.assert_allclose(_repaired(set_back, fps=25), [100, 100.04, 100.08, 100.12])


def test_keyframes_before_a_frame_and_a_table_of_some_frames():
    ticks = np.arange(6, dtype=np.int64) * 10
    table = FrameTable(
        ticks=ticks,
        dts=ticks - 5,
        pts_seconds=ticks / 100,
        duration_seconds=np.full(6, 0.1),
        key_pts=np.array([0, 30], dtype=np.int64),
        key_dts=np.array([-5, 25], dtype=np.int64),
        by_pts=True,
    )
    assert table.key_before(np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
    assert table.average_fps == pytest.approx(10)
    some = table.keep(np.array([0, 1, 4]))
    assert some.ticks.tolist() == [0, 10, 40]
    assert some.dts.tolist() == [-5, 5, 35]
    # What is left out is bridged by the frame before it.
    np.testing.assert_allclose(some.duration_seconds, [0.1, 0.3, 0.1])
    assert some.end_seconds == pytest.approx(0.5)
