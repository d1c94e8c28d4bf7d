"""Options and their file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    OutputError,
    UnknownOptionError,
)
from vjepa2.video.processor import VJEPA2VideoProcessor as Processor
from wrong_values import assert_named, is_number, is_whole

FIXTURES = Path(__file__).parent / "fixtures" / "processor"
FILE_NAME = "video_preprocessor_config.json"


@pytest.mark.parametrize("crop", [256, 384])
def test_saved_file_equals_the_ports_byte_for_byte(crop: int, tmp_path: Path) -> None:
    processor = Processor(crop_size=crop)
    assert processor.save_pretrained(tmp_path / "new") == [str(tmp_path / "new" / FILE_NAME)]
    wanted = (FIXTURES / f"saved_{crop}.json").read_bytes()
    assert (tmp_path / "new" / FILE_NAME).read_bytes() == wanted
    assert processor.to_json_string().encode() == wanted
    assert repr(processor) == str(processor) == f"VJEPA2VideoProcessor {wanted.decode()}"


@pytest.mark.parametrize("crop", [256, 384])
def test_the_ports_file_is_read(crop: int, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / f"saved_{crop}.json", tmp_path / FILE_NAME)
    for place in (tmp_path, str(tmp_path), tmp_path / FILE_NAME):
        assert Processor.from_pretrained(place) == Processor(crop_size=crop)
    assert Processor.from_pretrained(tmp_path.parent, subfolder=tmp_path.name).size == {
        "shortest_edge": {256: 292, 384: 438}[crop]
    }


def test_every_option_survives_saving(tmp_path: Path) -> None:
    processor = Processor(
        crop_size=(32, 48),
        size={"shortest_edge": 60},
        resample="bicubic",
        do_resize=False,
        do_center_crop=False,
        do_rescale=False,
        do_normalize=False,
        rescale_factor=0.5,
        image_mean=0.1,
        image_std=(0.2, 0.3, 0.4),
        do_convert_rgb=True,
        input_data_format="channels_last",
        do_sample_frames=True,
        num_frames=8,
        return_metadata=True,
        crop_rounding="meta",
        resize_mode="fast",
    )
    assert processor.size == {"shortest_edge": 60}
    processor.save_pretrained(tmp_path)
    assert Processor.from_pretrained(tmp_path) == processor


def test_files_are_looked_for_in_the_ports_order(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"crop_size": 16}')
    assert Processor.from_pretrained(tmp_path).crop_size == {"height": 16, "width": 16}
    (tmp_path / FILE_NAME).write_text('{"crop_size": {"height": 32, "width": 32}}')
    assert Processor.from_pretrained(tmp_path).crop_size["height"] == 32
    (tmp_path / "processor_config.json").write_text('{"other": {}}')
    assert Processor.from_pretrained(tmp_path).crop_size["height"] == 32
    (tmp_path / "processor_config.json").write_text('{"video_processor": {"crop_size": 64}}')
    assert Processor.from_pretrained(tmp_path).crop_size["height"] == 64


def test_overrides_replace_what_the_file_says(tmp_path: Path) -> None:
    Processor(crop_size=64, size={"shortest_edge": 99}).save_pretrained(tmp_path)
    assert Processor.from_pretrained(tmp_path).size == {"shortest_edge": 99}
    larger = Processor.from_pretrained(tmp_path, crop_size=384, do_normalize=False)
    assert larger.size == {"shortest_edge": 438}
    assert larger.do_normalize is False
    with pytest.raises(UnknownOptionError, match="no option 'crop_sise'. Did you mean 'crop_size'"):
        Processor.from_pretrained(tmp_path, crop_sise=384)


def test_a_size_in_a_foreign_file_is_recomputed_as_in_the_port(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"crop_size": 64, "size": {"shortest_edge": 999}}')
    assert Processor.from_pretrained(tmp_path).size == {"shortest_edge": 73}


def test_entries_of_other_versions_are_kept_and_nulls_are_defaults(tmp_path: Path) -> None:
    entries = {"do_pad": True, "data_format": "channels_first", "image_mean": None, "fps": None}
    (tmp_path / FILE_NAME).write_text(json.dumps(entries))
    processor = Processor.from_pretrained(tmp_path)
    assert processor.image_mean == (0.485, 0.456, 0.406)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / FILE_NAME).read_text())
    assert (saved["do_pad"], saved["data_format"]) == (True, "channels_first")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="looked for processor_config.json, video_"):
        Processor.from_pretrained(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match="There is no folder"):
        Processor.from_pretrained(tmp_path / "absent")
    path = tmp_path / FILE_NAME
    for text, words in (
        ("{", "is not a JSON file"),
        ("[" * 200_000, "is not a JSON file"),
        ("\x80", "is not a JSON file"),
        ("[1]", "holds list, expected an object"),
        ('{"crop_size": -2}', r"crop_size=-2 \(int\) is not a size in pixels"),
    ):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(CheckpointFormatError, match=words) as caught:
            Processor.from_pretrained(tmp_path)
        assert str(path) in str(caught.value)


def test_a_file_in_the_way_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        Processor().save_pretrained(tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_size": 0}, r"crop_size=0 \(int\) is not a size in pixels"),
        ({"size": {"longest_edge": 5}}, "is not a frame size"),
        ({"resample": 1}, "resample=1 is not available"),
        ({"image_mean": (1, 2)}, "needs 3 numbers, or 1 for all channels; 2 were given"),
        ({"image_std": (0, 1, 1)}, "must be above 0, pixels are divided by it"),
        ({"rescale_factor": 0}, "rescale_factor must be above 0"),
        ({"num_frames": 0}, "num_frames must be 1 or more"),
        ({"fps": -1}, "fps must be above 0"),
        ({"crop_rounding": "up"}, "'port' or 'meta'"),
        ({"resize_mode": "best"}, "'exact' or 'fast'"),
        ({"input_data_format": "THWC"}, "'channels_first' or 'channels_last'"),
        ({"device": "gpu"}, "'gpu' cannot be used here"),
    ],
)
def test_wrong_values_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Processor(**options)


def test_options_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Processor().do_resize = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("crop_size", lambda value: is_whole(value, least=1, most=8192)),
        ("size", lambda value: value in (None, {}) or is_whole(value, least=1, most=8192)),
        ("resample", lambda value: is_whole(value, least=0, most=3)),
        ("rescale_factor", lambda value: is_number(value, above=0)),
        ("num_frames", lambda value: value is None or is_whole(value, least=1)),
        ("fps", lambda value: value is None or is_number(value, above=0)),
        ("crop_rounding", lambda value: False),
        ("resize_mode", lambda value: False),
        ("input_data_format", lambda value: value is None),
        ("device", lambda value: value is None),
    ],
)
def test_options_of_a_wrong_kind(name: str, allowed: Callable[[Any], bool]) -> None:
    assert_named(
        lambda value: Processor(**{name: value}),
        # An array is compared element by element; none is allowed.
        allowed=lambda value: (
            (not hasattr(value, "ndim") and allowed(value))
            or (isinstance(value, np.integer) and allowed(int(value)))
        ),
        error=ConfigError,
    )


@pytest.mark.parametrize("name", ["image_mean", "image_std"])
@pytest.mark.parametrize("value", ["text", b"a", None, {}, {1: 2}, object(), [None], ["1"], [True]])
def test_means_of_a_wrong_kind(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        Processor(**{name: value})


def test_switches_and_files_of_a_wrong_kind(tmp_path: Path) -> None:
    for value in ("maybe", None, 3, [], object()):
        for name in ("do_resize", "do_rescale", "return_metadata", "do_sample_frames"):
            with pytest.raises(ConfigError, match=name):
                Processor(**{name: value})
    assert_named(Processor.from_pretrained)
    assert_named(
        Processor.from_dict, allowed=lambda value: isinstance(value, dict) and 1 not in value
    )
    for value in (None, 3, b"a", "a\0b", ["a"], object()):
        with pytest.raises(ConfigError, match="folder"):
            Processor().save_pretrained(value)  # type: ignore[arg-type]
