"""Origin of frames and the choice of frames."""

import pytest

from vjepa2.errors import ConfigError, InputError, UnknownOptionError, VideoTooShortError
from vjepa2.video.metadata import FrameChoice, VideoMetadata, as_metadata


def test_frames_are_chosen_evenly_from_the_first_on() -> None:
    video = VideoMetadata(total_num_frames=10, fps=5.0)
    assert FrameChoice(num_frames=4).indices(video) == [0, 2, 5, 7]  # 0, 2.5, 5, 7.5
    assert FrameChoice(fps=2.0).indices(video) == [0, 2, 5, 7]  # two seconds, two a second
    assert FrameChoice(fps=0.1).indices(video) == [0]  # never none
    assert FrameChoice().indices(video) == list(range(10))


def test_choices_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(VideoTooShortError, match="11 frames were asked for, the video has 10"):
        FrameChoice(num_frames=11).indices(VideoMetadata(total_num_frames=10))
    with pytest.raises(InputError, match="own frame rate is not known. Pass video_metadata"):
        FrameChoice(fps=2).indices(VideoMetadata(total_num_frames=10))


def test_times_are_the_measured_ones_or_follow_from_the_rate() -> None:
    made = VideoMetadata(total_num_frames=9, fps=4.0, frames_indices=[0, 2, 8])
    assert made.timestamps == [0.0, 0.5, 2.0]
    made.pts_seconds = [1.0, 1.6, 3.1]
    assert made.timestamps == [1.0, 1.6, 3.1]
    with pytest.raises(InputError, match="times of these frames are not known"):
        _ = VideoMetadata(total_num_frames=9).timestamps


def test_fields_are_keys_too() -> None:
    made = VideoMetadata(total_num_frames=9, fps=4.0)
    assert (made["fps"], len(made)) == (4.0, 8)
    assert dict(made)["total_num_frames"] == 9
    with pytest.raises(KeyError):
        made["timestamps"]


def test_one_mapping_belongs_to_each_video() -> None:
    one, two = {"total_num_frames": 5}, VideoMetadata(total_num_frames=6)
    assert as_metadata(None, num_videos=2) == [None, None]
    assert as_metadata(one, num_videos=1) == [VideoMetadata(total_num_frames=5)]
    found = as_metadata([[one], [two]], num_videos=2)
    assert [item.total_num_frames for item in found if item is not None] == [5, 6]
    with pytest.raises(InputError, match="2 videos but 1 video_metadata entries"):
        as_metadata([one], num_videos=2)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (7, ConfigError, "must be a mapping with the keys total_num_frames, fps"),
        ({"total_num_frames": 3, "fsp": 2}, UnknownOptionError, "Did you mean 'fps'"),
        ({"fps": 2.0}, ConfigError, "needs total_num_frames"),
    ],
)
def test_wrong_mappings_are_refused(given: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_metadata(given, num_videos=1)
