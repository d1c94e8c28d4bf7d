"""The dictionary that the processor returns."""

import copy
import pickle

import pytest
import torch

from vjepa2.errors import ConfigError
from vjepa2.video.batch import VideoBatch


def made() -> VideoBatch:
    return VideoBatch(pixel_values_videos=torch.ones(1, 2), ids=torch.arange(3), note="kept")


def test_keys_are_attributes() -> None:
    batch = made()
    assert batch.pixel_values_videos is batch["pixel_values_videos"]
    batch.more = 5
    assert batch["more"] == 5
    assert set(batch.data) == {"pixel_values_videos", "ids", "note", "more"}
    with pytest.raises(AttributeError, match="has no 'pixels'; it holds: pixel_values_videos, ids"):
        _ = batch.pixels


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ((torch.float16,), {}),
        (("float16",), {}),
        (("meta", torch.float16), {}),
        (("cpu", torch.float16), {}),
        ((), {"dtype": torch.float16}),
    ],
)
def test_only_floats_are_cast_and_all_tensors_move(where: tuple, named: dict) -> None:
    batch = made()
    assert batch.to(*where, **named) is batch
    assert batch.pixel_values_videos.dtype == torch.float16
    assert batch.ids.dtype == torch.int64
    assert batch.note == "kept"
    device = "meta" if "meta" in where else "cpu"
    assert {batch.ids.device.type, batch.pixel_values_videos.device.type} == {device}


def test_wrong_places_are_refused() -> None:
    with pytest.raises(ConfigError, match="'gpu' cannot be used here"):
        made().to(device="gpu")


def test_it_survives_copies_and_other_processes() -> None:
    for twin in (copy.deepcopy(made()), pickle.loads(pickle.dumps(made()))):
        assert isinstance(twin, VideoBatch)
        assert torch.equal(twin.ids, torch.arange(3))
