"""Labelled lists in every format, label maps, segments, and what is wrong with them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2.data.label_options import LabelOptions
from vjepa2.data.labelled import (
    LabelledItem,
    LabelledSet,
    LabelMap,
    segment_seconds,
)
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.moments import Clock
from vjepa2.errors import (
    ConfigError,
    DataError,
    DataNotFoundError,
    LabelError,
    ListError,
    UnknownOptionError,
    VJEPAError,
)

VIDEOS = ("a.mp4", "b b.mp4", "c.mp4")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Three files whose content is not looked at."""
    for name in VIDEOS:
        (tmp_path / name).write_bytes(b"video " + name.encode())
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


ROWS = [
    {"path": "a.mp4", "t_start": 0.5, "t_end": 2.0, "verb": "take", "noun": "cup"},
    {"path": "b b.mp4", "t_start": 1.0, "t_end": 3.25, "verb": "put", "noun": "cup"},
    {"path": "c.mp4", "t_start": 0.0, "t_end": 1.0, "verb": "take", "noun": "plate"},
]


def write_rows(folder: Path, kind: str) -> tuple[Path, LabelOptions]:
    """The same table in one of the formats, and the options to read it."""
    names = list(ROWS[0])
    labels = LabelOptions(label_columns=("verb", "noun"))
    path = folder / f"list.{kind.partition('-')[0]}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        parquet.write_table(arrow.Table.from_pylist(ROWS), path)
    elif kind == "txt-columns":
        path.write_text("\n".join(" ".join(map(str, row.values())) for row in ROWS))
        return path, labels.override([f"columns={json.dumps(names)}"])
    else:
        mark = {"csv": ",", "tsv": "\t", "csv-semicolon": ";", "txt": " "}[kind]
        lines = [mark.join(map(str, row.values())) for row in ROWS]
        path.write_text("\n".join([mark.join(names), *lines]) + "\n")
    return path, labels


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "csv-semicolon", "txt", "txt-columns", "jsonl", "parquet"]
)
def test_every_format_gives_the_same_set(videos: Path, kind: str) -> None:
    path, options = write_rows(videos, kind)
    read = read_labelled(path, options=options)
    assert read.label_map.heads == {"verb": ("put", "take"), "noun": ("cup", "plate")}
    assert [item.path for item in read.items] == [str(videos / name) for name in VIDEOS]
    assert [item.labels for item in read.items] == [(1, 0), (0, 0), (1, 1)]
    assert [(i.start_seconds, i.end_seconds) for i in read.items] == [(0.5, 2), (1, 3.25), (0, 1)]
    assert read.counts("verb").tolist() == [1, 2]
    assert read.labels("noun").tolist() == [0, 0, 1]
    assert read.labels("noun").dtype == np.int64
    assert len(read) == 3 and read.source == str(path) and read.notes == ()


@pytest.mark.parametrize("separator", [" ", "::"])
def test_published_lines(videos: Path, separator: str) -> None:
    lines = [f"{name}{separator}{number}" for name, number in zip(VIDEOS, (0, 2, 2), strict=True)]
    read = read_labelled(write(videos, "train.csv", "\n".join(lines)))
    assert read.label_map == LabelMap({"label": ("0", "1", "2")})
    assert [item.labels for item in read.items] == [(0,), (2,), (2,)]
    assert read.counts().tolist() == [1, 0, 2]


def test_segments_in_frames_groups_images_and_heads_by_their_suffix(videos: Path) -> None:
    (videos / "still.PNG").write_bytes(b"picture")
    text = (
        "video,start_frame,stop_frame,verb_class,label_noun,group\n"
        "a.mp4,3,9,1,0,kitchen\nstill.PNG,,,0,0,\n"
    )
    read = read_labelled(write(videos, "list.csv", text))
    assert list(read.label_map.heads) == ["verb", "noun"]
    first, second = read.items
    assert (first.start_frame, first.end_frame, first.group_name) == (3, 9, "kitchen")
    assert first.is_segment and not first.is_image and first.labels == (1, 0)
    assert second.is_image and not second.is_segment and second.group_name == second.path


def test_times_may_be_hours_minutes_and_seconds(videos: Path) -> None:
    text = "path,start_timestamp,stop_timestamp,label\na.mp4,00:01:02.5,01:00:00,x\n"
    (item,) = read_labelled(write(videos, "list.csv", text)).items
    assert (item.start_seconds, item.end_seconds) == (62.5, 3600)


def test_a_column_of_splits_and_a_folder_of_lists(videos: Path) -> None:
    text = "path,label,split\na.mp4,x,train\nb b.mp4,y,train\nc.mp4,y,validation\n"
    path = write(videos, "list.csv", text)
    train = read_labelled(path, split="train")
    assert len(train) == 2
    val = read_labelled(path, split="val", label_map=train.label_map)
    assert [item.labels for item in val.items] == [(1,)]
    with pytest.raises(DataError, match=r"no rows of split 'test'.*train, validation"):
        read_labelled(path, split="test")
    path.unlink()
    write(videos, "my_train.csv", "path,label\na.mp4,x\n")
    write(videos, "my_val.csv", "path,label\nc.mp4,x\n")
    assert [item.path for item in read_labelled(videos, split="val").items] == [
        str(videos / "c.mp4")
    ]
    with pytest.raises(ListError, match="needs a split"):
        read_labelled(videos)
    with pytest.raises(ListError, match="no column 'split'"):
        read_labelled(videos / "my_val.csv", split="val")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("path,label\na.mp4,\n", ListError, "line 2: the label is missing"),
        ("path,score\na.mp4,1\n", ListError, "no column of labels.*Found: path, score"),
        ("file_path,label\na.mp4,1\n", ListError, "no column of path"),
        ("path,label\na.mp4,1.5\nb b.mp4,2\n", LabelError, "'1.5'.*no integer"),
        ("path,label\na.mp4,-1\nc.mp4,0\n", LabelError, "label -1.*no class number"),
        ("path,label\na.mp4,12345678\n", LabelError, "no class number"),
        ("path,t_start,t_end,label\na.mp4,2,2,x\n", ListError, "line 2: .*2 to 2 s has zero"),
        ("path,t_start,t_end,label\na.mp4,2,1,x\n", ListError, "negative length"),
        ("path,t_start,t_end,label\na.mp4,-1,1,x\n", ListError, "begins at -1 s"),
        ("path,t_start,t_end,label\na.mp4,1,inf,x\n", ListError, "ends at inf"),
        ("path,t_start,t_end,label\na.mp4,one,2,x\n", ListError, "'one' is no time"),
        ("path,start_frame,stop_frame,label\na.mp4,5,5,x\n", ListError, "zero length"),
        ("path,start_frame,stop_frame,label\na.mp4,1.5,5,x\n", ListError, "no number of a frame"),
        ("path,start,end,label\na.mp4,1,5,x\n", ListError, "seconds or frames"),
        ("path,t_strat,t_end,label\na.mp4,1,5,x\n", ListError, "Did you mean 't_start'"),
        ("path,label\nhttps://host/a.mp4,x\n", ListError, "is a URL"),
        ("path,label\n,x\n", ListError, "the path must be text"),
        ("path,label\na.mp4,x,y\n", ListError, "3 fields"),
        ("a.mp4\nc.mp4\n", ListError, "no column of path"),
        ("a.mp4 0\nc.mp4\n", ListError, "line 2: 'c.mp4' is no 'path label'"),
        ("path,label\n", DataError, "is empty"),
        ("", DataError, "is empty"),
        ("path,label\nz.mp4,x\n", DataNotFoundError, "None of 1 files"),
        ("\0\0\0", ListError, "zero bytes"),
    ],
)
def test_malformed_lists_are_named(
    videos: Path, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_labelled(write(videos, "list.csv", text))


def test_other_wrong_input(videos: Path) -> None:
    with pytest.raises(DataNotFoundError, match="nothing at"):
        read_labelled(videos / "none.csv")
    with pytest.raises(ListError, match="no labelled list"):
        read_labelled(videos / "a.mp4")
    with pytest.raises(ConfigError, match="layout 'folder' does not exist.*Did you mean 'folders'"):
        read_labelled(videos, layout="folder")  # type: ignore[arg-type]
    with pytest.raises(UnknownOptionError, match="label_columns"):
        LabelOptions(label_column=("x",))  # type: ignore[call-arg]
    path = write(videos, "list.jsonl", '{"path": "a.mp4", "label": ["x", "y"]}\n')
    with pytest.raises(ListError, match="several columns"):
        read_labelled(path)
    path = write(videos, "more.jsonl", '{"path": "a.mp4", "label": "x"}\n{"path": "c.mp4"}\n')
    with pytest.raises(ListError, match=r"line 2: the label is missing"):
        read_labelled(path)


def test_a_missing_value_in_parquet_is_a_missing_label(videos: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"path": ["a.mp4", "c.mp4"], "label": [1.0, float("nan")]})
    parquet.write_table(table, videos / "list.parquet")
    with pytest.raises(ListError, match="line 2: the label is missing"):
        read_labelled(videos / "list.parquet")
    parquet.write_table(table.slice(0, 1), videos / "list.parquet")
    with pytest.raises(LabelError, match=r"1\.0"):
        read_labelled(videos / "list.parquet")


def test_missing_files_and_contradictions_are_noted(videos: Path) -> None:
    text = "path,label\na.mp4,x\na.mp4,y\nc.mp4,x\nz.mp4,y\n"
    notes = read_labelled(write(videos, "list.csv", text)).notes
    assert len(notes) == 2
    assert "1 of 4 files" in notes[0] and "z.mp4" in notes[0]
    assert "1 entries" in notes[1] and "a.mp4" in notes[1]


# ---- with a label map ----------------------------------------------------------------------


def labelled_as(videos: Path, *labels: str) -> Path:
    rows = [f"{name},{label}" for name, label in zip(VIDEOS, labels, strict=False)]
    return write(videos, "val.csv", "\n".join(["path,label", *rows]))


@pytest.mark.parametrize(
    ("names", "labels", "numbers"),
    [
        (("walk", "run"), ("run", "walk", "run"), [1, 0, 1]),
        (("walk", "run"), ("1", "0", "1"), [1, 0, 1]),
        (("0", "1"), ("1", "0", "1"), [1, 0, 1]),
        (("10", "20"), ("20", "10", "20"), [1, 0, 1]),
        (("Putting [something]", "Taking"), ("Putting something", "taking", "Taking"), [0, 1, 1]),
    ],
)
def test_labels_are_numbered_by_the_map(
    videos: Path, names: tuple[str, ...], labels: tuple[str, ...], numbers: list[int]
) -> None:
    read = read_labelled(labelled_as(videos, *labels), label_map=LabelMap({"label": names}))
    assert read.labels().tolist() == numbers
    assert read.label_map.class_names() == names


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        (("walk", "run"), ("run", "jump", "jump"), r"1 classes with 2 files.*'jump' \(2 files\)"),
        (("walk", "run"), ("1", "2", "1"), "count from 1: subtract 1"),
        (("walk", "run"), ("0", "7", "1"), "1 labels are outside the 2 classes.*such as 7"),
        (("10", "20"), ("1", "0", "1"), "2 classes with 3 files"),
    ],
)
def test_unseen_classes_are_named_before_anything_is_decoded(
    videos: Path, names: tuple[str, ...], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        read_labelled(labelled_as(videos, *labels), label_map=LabelMap({"label": names}))


def test_another_head_is_refused_and_further_columns_are_left_alone(videos: Path) -> None:
    path = write(videos, "list.csv", "path,verb_class,noun_class\na.mp4,1,0\n")
    with pytest.raises(LabelError, match="'verb', 'noun'; the label map needs 'label'"):
        read_labelled(path, label_map=LabelMap({"label": ("0", "1")}))
    read = read_labelled(path, label_map=LabelMap({"noun": ("x", "y")}))
    assert [item.labels for item in read.items] == [(0,)]


# ---- the types -----------------------------------------------------------------------------


def test_a_label_map_is_saved_and_loaded_with_its_order(tmp_path: Path) -> None:
    label_map = LabelMap({"verb": ("take", "put"), "noun": ("zebra", "ä", "apple")})
    label_map.save(tmp_path / "model")
    assert (tmp_path / "model" / "labels.json").exists()
    loaded = LabelMap.load(tmp_path / "model")
    assert loaded == label_map and list(loaded.heads) == ["verb", "noun"]
    assert loaded.num_classes("noun") == 3
    assert loaded.to_config_labels("verb") == {0: "take", 1: "put"}
    with pytest.raises(LabelError, match=r"no head 'nun'\. Did you mean 'noun'"):
        loaded.class_names("nun")
    label_map.save(tmp_path / "other.json")
    assert LabelMap.load(tmp_path / "other.json") == label_map


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"heads": 3}', '{"heads": [["label", [1, 2]]]}', '{"heads": [["label", "xy"]]}'],
)
def test_a_damaged_label_map_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabelError):
        LabelMap.load(write(tmp_path, "labels.json", text))
    with pytest.raises(DataNotFoundError):
        LabelMap.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("heads", "message"),
    [({}, "needs a head"), ({"label": ()}, "no classes"), ({"label": ("x", "x")}, "twice")],
)
def test_label_maps_that_cannot_be(heads: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        LabelMap(heads)


def test_items_and_sets_that_cannot_be() -> None:
    label_map = LabelMap({"label": ("x", "y")})
    with pytest.raises(LabelError, match="zero length"):
        LabelledItem("/a", (0,), start_seconds=1.0, end_seconds=1.0)
    with pytest.raises(LabelError, match="count from 0"):
        LabelledItem("/a", (-1,))
    with pytest.raises(LabelError, match="has 2 labels; the label map has 1 heads"):
        LabelledSet((LabelledItem("/a", (0, 1)),), label_map)
    with pytest.raises(LabelError, match=r"/b has labels \(2,\)"):
        LabelledSet((LabelledItem("/a", (0,)), LabelledItem("/b", (2,))), label_map)


# ---- segments on the clock of a file -------------------------------------------------------


def clock(*times: float, end: float) -> Clock:
    return Clock(
        pts_seconds=torch.tensor(times, dtype=torch.float64),
        end_seconds=end,
        average_fps=len(times) / end,
    )


# Frames of uneven length, and a file that does not begin at 0.
UNEVEN = clock(0.5, 0.6, 1.0, 2.0, end=2.5)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({}, (0.5, 2.5)),
        ({"start_seconds": 0.7}, (0.7, 2.5)),
        ({"end_seconds": 1.5}, (0.5, 1.5)),
        ({"start_seconds": 0.0, "end_seconds": 2.55}, (0.5, 2.5)),
        ({"start_frame": 1, "end_frame": 3}, (0.6, 2.0)),
        ({"start_frame": 2}, (1.0, 2.5)),
        ({"end_frame": 4}, (0.5, 2.5)),
        # Where both are given, seconds hold.
        ({"start_seconds": 1.0, "end_seconds": 2.0, "start_frame": 7, "end_frame": 90}, (1, 2)),
    ],
)
def test_segments_on_the_clock(edges: dict[str, float], expected: tuple[float, float]) -> None:
    item = dataclasses.replace(LabelledItem("/a", (0,)), **edges)
    assert segment_seconds(item, UNEVEN) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "edges",
    [
        {"start_seconds": 2.5, "end_seconds": 2.55},
        {"start_seconds": 1.0, "end_seconds": 2.7},
        {"start_seconds": 9.0},
        {"start_seconds": 0.0, "end_seconds": 0.4},
        {"start_frame": 2, "end_frame": 5},
        {"start_frame": 4},
    ],
)
def test_segments_outside_the_file_are_named(edges: dict[str, float]) -> None:
    item = dataclasses.replace(LabelledItem("/clip.mp4", (0,)), **edges)
    with pytest.raises(LabelError, match=r"/clip\.mp4.*outside the file"):
        segment_seconds(item, UNEVEN)


MIXED_UNITS = [
    (
        "t_start,stop_frame",
        "0.6,3",
        {"start_seconds": 0.6, "end_frame": 3},
        "in seconds and ends in",
    ),
    (
        "start_frame,t_end",
        "1,2.0",
        {"start_frame": 1, "end_seconds": 2.0},
        "in frames and ends in s",
    ),
    (
        "t_start,start_frame,stop_frame",
        "0.6,1,3",
        {"start_seconds": 0.6, "start_frame": 1, "end_frame": 3},
        "in seconds and ends in frames",
    ),
]


@pytest.mark.parametrize(("columns", "values", "edges", "words"), MIXED_UNITS)
def test_a_segment_in_two_units_does_not_lose_its_end(
    videos: Path, columns: str, values: str, edges: dict[str, float], words: str
) -> None:
    path = write(videos, "list.csv", f"path,{columns},label\na.mp4,{values},x\n")
    with pytest.raises(ListError, match=rf"line 2: .*{words}.*t_start and t_end") as caught:
        read_labelled(path)
    assert "give both" in str(caught.value)
    with pytest.raises(LabelError, match=words):
        dataclasses.replace(LabelledItem("/a", (0,)), **edges)


# ---- how label maps differ -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names[1:] + names[:1], "shifted by -1; class 0 is 'c0' against 'c1'"),
        (lambda names: names[-1:] + names[:-1], "shifted by 1"),
        (lambda names: (names[1], names[0], *names[2:]), "another order, 2 of them.*class 0 is"),
        (lambda names: names[:-1], r"5 against 4 classes; 1 classes are only in the first \('c4'"),
        (lambda names: (*names, "new"), r"only in the second \('new'"),
        (lambda names: ("background", *names), "only in the second.*all numbers.* shifted by 1"),
    ],
)
def test_differences_of_label_maps_are_said(
    change: Callable[[tuple[str, ...]], tuple[str, ...]], message: str
) -> None:
    names = tuple(f"c{number}" for number in range(5))
    with pytest.raises(LabelError, match=message):
        LabelMap({"label": names}).check_same(LabelMap({"label": change(names)}))


def test_heads_are_compared_and_spelling_is_no_difference() -> None:
    one = LabelMap({"verb": ("x",), "noun": ("y",)})
    with pytest.raises(LabelError, match="heads stand in another order"):
        one.check_same(LabelMap({"noun": ("y",), "verb": ("x",)}))
    with pytest.raises(LabelError, match="the heads are"):
        one.check_same(LabelMap({"verb": ("x",)}))
    published = LabelMap({"label": ("Putting [something] down", "Turn-on")})
    published.check_same(LabelMap({"label": ("Putting something down", "turn on")}))
    # Names that are alike without their marks are compared to the letter.
    with pytest.raises(LabelError, match="another order|shifted"):
        LabelMap({"label": ("a+", "a-")}).check_same(LabelMap({"label": ("a-", "a+")}))


# ---- damage --------------------------------------------------------------------------------


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes changed, cut out or put in."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 4))):
        place = int(generator.integers(0, max(1, len(data))))
        kind = int(generator.integers(0, 3))
        if kind == 0 and data:
            data[place] = int(generator.integers(0, 256))
        elif kind == 1:
            del data[place : place + int(generator.integers(1, 12))]
        else:
            data[place:place] = generator.bytes(int(generator.integers(1, 6)))
    return bytes(data)


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "jsonl", "parquet"])
def test_damaged_lists_are_read_or_named(videos: Path, kind: str) -> None:
    path, options = write_rows(videos, kind)
    content = path.read_bytes()
    refused = 0
    for seed in range(60):
        path.write_bytes(damaged(content, np.random.default_rng(seed)))
        try:
            read_labelled(path, options=options)
        except VJEPAError as error:
            refused += 1
            assert len(str(error)) < 2000
    assert refused > 10


@pytest.mark.parametrize(
    "text",
    ['{"path": "\\ud800.mp4", "label": 1}', '{"path": 3, "label": 1}', '{"path": "a.mp4"}'],
)
def test_lines_that_no_file_name_can_hold(videos: Path, text: str) -> None:
    with pytest.raises(ListError):
        read_labelled(write(videos, "list.jsonl", text))
