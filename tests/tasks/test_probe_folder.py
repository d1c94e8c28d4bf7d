"""What a model was trained on goes to disk and back, and tells encoders apart."""

import dataclasses
import json
from pathlib import Path

import pytest

from vjepa2.data.labelled import LabelMap
from vjepa2.errors import CheckpointFormatError, CheckpointNotFoundError, ConfigError
from vjepa2.tasks.probe_folder import TRAINING_NAME, EncoderIdentity, TrainedOn

ENCODER = EncoderIdentity(name="tiny", weights="ab12", width=32, num_blocks=4, levels=(3,))
TRAINED = TrainedOn(
    label_map=LabelMap({"label": ("walk", "run")}),
    views={"num_frames": 8, "num_segments": 2},
    item_hashes=("b", "a", "b"),
    encoder=ENCODER,
    head="label",
    details={"lr": 1e-3},
)


def test_round_trip(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    assert TrainedOn.load(tmp_path) == dataclasses.replace(TRAINED, item_hashes=("a", "b"))


def test_training_files_are_found_again(tmp_path: Path) -> None:
    assert TRAINED.seen_among(["c", "b"]) == ["b"]
    assert TRAINED.seen_among(["c"]) == []


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=TRAINING_NAME):
        TrainedOn.load(tmp_path)
    TRAINED.save(tmp_path)
    values = json.loads((tmp_path / TRAINING_NAME).read_text())
    for broken in ("{", "[]", json.dumps({**values, "encoder": 3}), "[" * 100_000):
        (tmp_path / TRAINING_NAME).write_text(broken)
        with pytest.raises(CheckpointFormatError, match=TRAINING_NAME):
            TrainedOn.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 64}, "encoder width: 32 and 64"),
        ({"levels": (1, 3)}, r"level set: \(3,\) and \(1, 3\)"),
        ({"num_blocks": 5}, "number of encoder blocks: 4 and 5"),
        ({"weights": "cd"}, "fingerprint"),
    ],
)
def test_another_encoder_is_refused(change: dict[str, object], words: str) -> None:
    ENCODER.check_same(dataclasses.replace(ENCODER, name="the same elsewhere"))
    other = dataclasses.replace(ENCODER, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        ENCODER.check_same(other)
