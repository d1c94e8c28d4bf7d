"""Batches are the same whoever makes them and wherever they begin; bad files are named."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_clips import write_clip
from torch import Tensor

from vjepa2.data import item_frames
from vjepa2.data.item_frames import ItemDraws
from vjepa2.data.labelled import LabelledItem, LabelledSet, LabelMap
from vjepa2.data.labelled_loader import LabelledBatch, LabelledLoader
from vjepa2.data.sample import FileRef
from vjepa2.data.train_views import train_views
from vjepa2.data.views import TrainViewConfig, ViewConfig, item_views, normalised
from vjepa2.errors import BadFilesError, ConfigError, LabelError, ShapeError

VIEWS = ViewConfig(num_frames=3, frame_step=2, num_segments=2, crop_size=16)
TRAIN = TrainViewConfig(flip=0.5)
LABELS = LabelMap({"verb": ("take", "put"), "noun": ("cup", "lid", "pan")})


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    folder = tmp_path_factory.mktemp("seven")
    paths = [
        write_clip(folder / f"clip{number}.mp4", 16, height=32, width=40 + 8 * (number % 3))
        for number in range(7)
    ]
    items = tuple(LabelledItem(str(path), (i % 2, i % 3)) for i, path in enumerate(paths))
    return LabelledSet(items, LABELS)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"this is no video " * 40)
    return path


def with_files(given: LabelledSet, **replaced: Path) -> LabelledSet:
    """The same set with other files at some places: `at2=path`."""
    items = list(given.items)
    for name, path in replaced.items():
        place = int(name.removeprefix("at"))
        items[place] = LabelledItem(str(path), items[place].labels)
    return LabelledSet(tuple(items), given.label_map)


def loader(given: LabelledSet, **options: object) -> LabelledLoader:
    settings: dict[str, object] = {"batch_size": 3, "workers": 0, "seed": 4, **options}
    return LabelledLoader(given, VIEWS, **settings)  # type: ignore[arg-type]


def by_item(batches: list[LabelledBatch]) -> dict[int, Tensor]:
    return {i: p for batch in batches for i, p in zip(batch.indices, batch.pixels, strict=True)}


# ---- what comes out ------------------------------------------------------------------------


def test_evaluation_follows_the_list_without_chance(seven: LabelledSet) -> None:
    batches = list(loader(seven))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(loader(seven)) == 3
    indices, pixels, labels = batches[1]
    assert pixels.shape == (3, 2, 1, 3, 3, 16, 16)
    assert pixels.dtype == torch.float32
    assert labels.tolist() == [[1, 0], [0, 1], [1, 2]]
    assert labels.dtype == torch.int64
    for index, views in zip(indices, pixels, strict=True):
        assert torch.equal(views, normalised(item_views(seven.items[index], VIEWS), VIEWS))
    later = list(loader(seven, seed=9, num_epochs=5).epoch(4))
    assert torch.equal(later[0].pixels, batches[0].pixels)


def test_training_shuffles_and_augments_by_seed_epoch_and_item(seven: LabelledSet) -> None:
    made = loader(seven, train=TRAIN, num_epochs=3)
    orders = []
    for epoch in range(3):
        batches = list(made.epoch(epoch))
        orders.append([index for batch in batches for index in batch.indices])
        assert sorted(orders[-1]) == list(range(7))
        for index, views in by_item(batches).items():
            item, draws = seven.items[index], ItemDraws(4, epoch, index)
            assert torch.equal(views, train_views(item, VIEWS, TRAIN, draws=draws))
    assert len({tuple(order) for order in orders}) == 3
    others = list(loader(seven, train=TRAIN, seed=5).epoch(0))
    assert [index for batch in others for index in batch.indices] != orders[0]


def test_batches_are_the_same_with_any_number_of_workers(seven: LabelledSet) -> None:
    """Also over the end of an epoch, where processes go on with the next one."""
    alone = loader(seven, train=TRAIN, num_epochs=2)
    with loader(seven, train=TRAIN, num_epochs=2, workers=2, prefetch=1) as together:
        for epoch in range(2):
            for one, other in zip(alone.epoch(epoch), together.epoch(epoch), strict=True):
                assert one.indices == other.indices
                assert torch.equal(one.pixels, other.pixels)
                assert torch.equal(one.labels, other.labels)


def test_an_epoch_can_be_entered_anywhere(seven: LabelledSet) -> None:
    whole = list(loader(seven, train=TRAIN, num_epochs=3).epoch(2))
    rest = list(loader(seven, train=TRAIN, num_epochs=3).epoch(2, first_batch=1))
    assert [batch.indices for batch in rest] == [batch.indices for batch in whole[1:]]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(rest, whole[1:], strict=True))
    left = loader(seven, train=TRAIN, num_epochs=3)
    next(left.epoch(2))  # left after one batch, then asked from the beginning
    assert next(left.epoch(2)).indices == whole[0].indices
    assert list(loader(seven).epoch(0, first_batch=3)) == []


def test_processes_share_each_batch(seven: LabelledSet) -> None:
    whole = list(loader(seven, train=TRAIN))
    parts = [list(loader(seven, train=TRAIN, shard=(rank, 2))) for rank in range(2)]
    for number in range(2):
        first, second = (part[number].indices for part in parts)
        assert [first[0], second[0], first[1]] == whole[number].indices
    assert parts[0][2].indices == whole[2].indices  # one item is left for the first process
    assert len(parts[1]) == 2


def test_an_incomplete_last_batch_may_be_left_out(seven: LabelledSet) -> None:
    batches = list(loader(seven, drop_last=True))
    assert [len(batch.indices) for batch in batches] == [3, 3]
    with pytest.raises(ConfigError, match="drop_last leaves nothing of 7 items"):
        loader(seven, batch_size=8, drop_last=True)


def test_random_evaluation_follows_from_seed_and_epoch(seven: LabelledSet) -> None:
    """The published evaluation is different each time; here it can be had again."""
    views = VIEWS.override(["moment=random", "num_segments=1", "num_frames=2"])

    def pixels(seed: int, epoch: int) -> Tensor:
        made = LabelledLoader(seven, views, batch_size=7, workers=0, seed=seed, num_epochs=2)
        return next(made.epoch(epoch)).pixels

    assert torch.equal(pixels(0, 0), pixels(0, 0))
    assert not torch.equal(pixels(0, 0), pixels(0, 1))
    assert not torch.equal(pixels(0, 0), pixels(1, 0))


def test_segments_of_a_recording_are_read_from_one_open_file(
    seven: LabelledSet, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was read from it before: the pixels are those of a file opened for each."""
    paths = [item.path for item in seven.items[:6]]
    items = [
        LabelledItem(path, (0, 0), start_seconds=start, end_seconds=start + 0.5)
        for start in (0.5, 0.0, 0.75)
        for path in paths[:3]
    ]
    items += [LabelledItem(path, (0, 0), start_seconds=0.1) for path in (*paths, paths[0])]
    items.append(LabelledItem(str(broken), (0, 0), start_seconds=0.1))
    expected = [item_views(item, VIEWS) for item in items[:-1]]
    opened = []
    plain = item_frames.open_file

    def counted(ref: FileRef, *args: object, **options: object) -> object:
        opened.append(ref.path)
        return plain(ref, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(item_frames, "open_file", counted)
    with loader(LabelledSet(tuple(items), LABELS), batch_size=17) as made:
        (batch,) = made
    assert batch.indices == list(range(16))
    for views, own in zip(batch.pixels, expected, strict=True):
        assert torch.equal(views, normalised(own, VIEWS))
    # Three of them once; with four kept, the first ones had been closed when all six were asked
    # for, and the very first was so again after them.
    assert opened == [*paths[:3], *paths[3:], paths[0], str(broken)]


# ---- what goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize("train", [None, TRAIN])
def test_a_bad_file_is_left_out_and_named(
    seven: LabelledSet, broken: Path, train: TrainViewConfig | None
) -> None:
    made = loader(with_files(seven, at4=broken), train=train, num_epochs=2)
    batches = list(made.epoch(0))
    assert sorted(index for batch in batches for index in batch.indices) == [0, 1, 2, 3, 5, 6]
    assert sum(len(batch.labels) for batch in batches) == 6
    (bad,) = made.bad_files
    assert (bad.path, bad.position, bad.count) == (str(broken), 4, 1)
    assert bad.reason.startswith("VideoOpenError:")
    assert made.new_bad_files() == [bad]
    assert made.new_bad_files() == []
    list(made.epoch(1))
    assert made.bad_files[0].count == 2
    # The others are what they are without it.
    good = by_item(list(loader(seven, train=train)))
    assert all(torch.equal(good[index], views) for index, views in by_item(batches).items())


def test_too_many_bad_files_stop_the_loader_and_are_named(seven: LabelledSet, broken: Path) -> None:
    gone = with_files(seven, at2=broken, at5=broken.with_name("gone.mp4"))
    with pytest.raises(BadFilesError, match=r"2 of 7 distinct files.*broken\.mp4.*gone\.mp4"):
        list(loader(gone))
    assert len(list(loader(gone, max_bad_share=0.5))) == 3
    with pytest.raises(BadFilesError, match="1 of 1 distinct file cannot"):
        list(loader(with_files(seven, at0=broken), max_bad_share=0))
    nothing = with_files(seven, at0=broken, at1=broken, at2=broken)
    batches = list(loader(nothing, max_bad_share=1))
    assert [batch.indices for batch in batches] == [[3, 4, 5], [6]]


@pytest.mark.parametrize("train", [None, TRAIN])
def test_a_batch_is_asked_for_by_its_number(
    seven: LabelledSet, broken: Path, train: TrainViewConfig | None
) -> None:
    """One of which nothing can be read is None; the one after it is decoded ahead as ever."""
    order = [
        index for batch in loader(seven, train=train) for index in batch.indices
    ]  # of a seed, whatever can be read
    unreadable = {f"at{index}": broken for index in order[3:6]}
    made = loader(with_files(seven, **unreadable), train=train, max_bad_share=1)
    found = [made.batch(0, place) for place in range(3)]
    assert [None if batch is None else batch.indices for batch in found] == [
        order[:3], None, order[6:]
    ]  # fmt: skip
    again = made.batch(0, 0)
    assert again is not None and again.indices == order[:3]
    with pytest.raises(ConfigError, match="place"):
        made.batch(0, 3)


@pytest.mark.parametrize("train", [None, TRAIN])
def test_an_array_that_holds_nan_is_a_bad_file(
    seven: LabelledSet, tmp_path: Path, train: TrainViewConfig | None
) -> None:
    """Labelled arrays are uint8, so that no NaN comes through."""
    path = tmp_path / "floats.npy"
    np.save(path, np.full((8, 24, 24, 3), np.nan, dtype=np.float32))
    made = loader(with_files(seven, at4=path), train=train)
    assert sorted(index for batch in made for index in batch.indices) == [0, 1, 2, 3, 5, 6]
    (bad,) = made.bad_files
    assert bad.path == str(path) and "must be uint8" in bad.reason


def test_a_segment_outside_its_file_is_a_mistake_of_the_list(seven: LabelledSet) -> None:
    """It stops the loader at once: leaving it out would hide wrong labels."""
    item = LabelledItem(seven.items[1].path, (0, 0), start_seconds=5.0, end_seconds=6.0)
    wrong = LabelledSet((*seven.items, item), LABELS)
    with pytest.raises(LabelError, match=r"clip1\.mp4: the segment 5 to 6 s lies outside"):
        list(loader(wrong))


def test_short_videos_are_bad_files_where_they_are_not_to_be_filled_up(seven: LabelledSet) -> None:
    views = VIEWS.override(["frame_step=8", "short_video=skip"])
    item = LabelledItem(seven.items[0].path, (0, 0), start_seconds=0.5, end_seconds=1.0)
    made = LabelledLoader(
        LabelledSet((item,), LABELS), views, batch_size=1, workers=0, max_bad_share=1
    )
    assert list(made) == []
    assert made.bad_files[0].path.endswith("clip0.mp4 (0.5 to 1 s)")
    assert made.bad_files[0].reason.startswith("VideoTooShortError: A clip of 3 frames")


def test_still_frames_and_clips_do_not_mix_in_a_batch(seven: LabelledSet, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(path)
    mixed = LabelledSet((seven.items[0], LabelledItem(str(path), (0, 0), is_image=True)), LABELS)
    assert len(next(iter(loader(mixed))).indices) == 2
    views = VIEWS.override(["images=frame"])
    with pytest.raises(ShapeError, match="images='frame'"):
        next(iter(LabelledLoader(mixed, views, batch_size=2, workers=0)))


def test_numbers_are_checked_before_anything_is_read(seven: LabelledSet) -> None:
    for options, words in (
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"shard": (2, 2)}, r"shard=\(2, 2\)"),
        ({"seed": -1}, "seed must be 0"),
        ({"max_bad_share": math.inf}, "max_bad_share"),
    ):
        with pytest.raises(ConfigError, match=words):
            loader(seven, **options)  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="There are no labelled files"):
        loader(LabelledSet((), LABELS))
    with pytest.raises(ConfigError, match="first_batch must be 3 or less"):
        list(loader(seven).epoch(0, first_batch=4))
