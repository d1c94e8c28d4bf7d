"""Small generated copies of the layouts of published data sets."""

import json
from pathlib import Path

import pytest

from vjepa2.data.epic_kitchens import set_order
from vjepa2.data.label_options import LabelOptions
from vjepa2.data.labelled import LabelledSet, LabelMap
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.layouts import detect_layout
from vjepa2.errors import DataError, DataNotFoundError, LabelError, ListError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path).encode())


def names_and_labels(read: LabelledSet) -> list[tuple[str, str]]:
    """(file name, class name) of the one head, in order."""
    classes = read.label_map.class_names()
    return [(Path(item.path).name, classes[item.labels[0]]) for item in read.items]


# ---- class folders -------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "walk/b2.mp4", tmp_path / "walk/b10.mp4", tmp_path / "run/more/a.webm")
    touch(tmp_path / "run/still.jpg", tmp_path / "run/notes.txt", tmp_path / ".hidden/x.mp4")
    assert detect_layout(tmp_path) == "folders"
    read = read_labelled(tmp_path)
    assert read.label_map.class_names() == ("run", "walk")
    expected = [("still.jpg", "run"), ("a.webm", "run"), ("b2.mp4", "walk"), ("b10.mp4", "walk")]
    assert names_and_labels(read) == expected
    assert [item.is_image for item in read.items] == [True, False, False, False]
    only = read_labelled(tmp_path, options=LabelOptions(kind="video"))
    assert names_and_labels(only) == expected[1:]


def test_class_folders_of_picture_folders(tmp_path: Path) -> None:
    for name in ("walk/c1", "walk/c2", "run/c1"):
        touch(*(tmp_path / name / f"{i}.png" for i in range(3)))
    read = read_labelled(tmp_path, options=LabelOptions(kind="picture_folder"))
    assert names_and_labels(read) == [("c1", "run"), ("c1", "walk"), ("c2", "walk")]
    assert not any(item.is_image for item in read.items)


def test_class_folders_with_splits_share_the_numbers_of_training(tmp_path: Path) -> None:
    touch(*(tmp_path / "train" / name / "a.mp4" for name in ("jump", "run", "walk")))
    touch(tmp_path / "validation/walk/b.mp4")
    with pytest.raises(ListError, match=r"a folder for each split \(train, validation\)"):
        read_labelled(tmp_path)
    val = read_labelled(tmp_path, split="val")
    assert val.label_map == read_labelled(tmp_path, split="train").label_map
    assert val.items[0].labels == (2,)
    with pytest.raises(ListError, match="0 folders of split 'test'"):
        read_labelled(tmp_path, split="test")
    touch(tmp_path / "validation/swim/c.mp4")
    with pytest.raises(LabelError, match=r"'swim' \(1 files\)"):
        read_labelled(tmp_path, split="val")


def test_class_folders_that_cannot_be(tmp_path: Path) -> None:
    touch(tmp_path / "walk/a.mp4", tmp_path / "loose.mp4")
    with pytest.raises(ListError, match=r"1 files lie in .* itself.*loose\.mp4"):
        read_labelled(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold no file"):
        read_labelled(tmp_path / "empty")


# ---- Something-Something v2 ----------------------------------------------------------------


SSV2_CLASSES = ("Holding something", "Putting something onto something", "Closing something")


@pytest.fixture(params=["", "something-something-v2-"])
def ssv2(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    prefix = str(request.param)
    folder = tmp_path if prefix else tmp_path / "labels"
    folder.mkdir(exist_ok=True)
    numbers = {name: str(number) for number, name in enumerate(SSV2_CLASSES)}
    (folder / f"{prefix}labels.json").write_text(json.dumps(numbers))
    for split, ids in {"train": (1, 2, 3), "validation": (4, 5), "test": (6,)}.items():
        entries: list[dict[str, object]] = []
        for number in ids:
            touch(tmp_path / "20bn-something-something-v2" / f"{number}.webm")
            template = ("[something]".join(SSV2_CLASSES[number % 3].split("something")),)[0]
            entry: dict[str, object] = {"id": str(number)}
            if split != "test":
                entry |= {"template": template, "label": "holding cup", "placeholders": ["cup"]}
            entries.append(entry)
        (folder / f"{prefix}{split}.json").write_text(json.dumps(entries))
    return tmp_path, prefix


def test_something_something(ssv2: tuple[Path, str]) -> None:
    folder, prefix = ssv2
    assert detect_layout(folder) == "ssv2"
    train = read_labelled(folder, split="train")
    assert train.label_map.class_names() == SSV2_CLASSES
    assert [(Path(item.path).name, item.labels) for item in train.items] == [
        *(("1.webm", (1,)), ("2.webm", (2,)), ("3.webm", (0,))),
    ]
    place = folder if prefix else folder / "labels"
    by_list = read_labelled(place / f"{prefix}validation.json", label_map=train.label_map)
    assert [item.labels for item in by_list.items] == [(1,), (2,)]
    assert by_list.items == read_labelled(folder, split="val").items
    with pytest.raises(ListError, match=r"the label is missing.*'template'"):
        read_labelled(folder, split="test")
    (place / f"{prefix}test-answers.csv").write_text("6;Holding something\n")
    assert read_labelled(folder, split="test").labels().tolist() == [0]


def test_something_something_with_missing_videos_and_classes(ssv2: tuple[Path, str]) -> None:
    folder, prefix = ssv2
    videos = folder / "20bn-something-something-v2"
    (videos / "2.webm").unlink()
    read = read_labelled(folder, split="train")
    assert len(read) == 2
    assert "1 of 3 videos" in read.notes[0] and "such as 2" in read.notes[0]
    for number in (1, 3):
        (videos / f"{number}.webm").unlink()
    with pytest.raises(DataNotFoundError, match="None of the 3 videos"):
        read_labelled(folder, split="train")
    place = folder if prefix else folder / "labels"
    (place / f"{prefix}labels.json").write_text('{"Holding something": "1"}')
    with pytest.raises(ListError, match="not numbered 0"):
        read_labelled(folder, split="val")


# ---- Diving48 ------------------------------------------------------------------------------


def test_diving48(tmp_path: Path) -> None:
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "NoTwis", "PIKE"]]
    (tmp_path / "Diving48_vocab.json").write_text(json.dumps(vocabulary))
    rows = [
        {"vid_name": "x_1", "label": 1, "start_frame": 0, "end_frame": 99},
        {"vid_name": "x_2", "label": 0, "start_frame": 0, "end_frame": 80},
    ]
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps(rows))
    (tmp_path / "Diving48_V2_test.json").write_text(json.dumps(rows[1:]))
    touch(tmp_path / "rgb/x_1.mp4", tmp_path / "rgb/x_2.mp4")
    assert detect_layout(tmp_path) == "diving48"
    assert detect_layout(tmp_path / "Diving48_V2_test.json") == "diving48"
    train = read_labelled(tmp_path, split="train")
    assert train.label_map.class_names() == ("Back/15som/05Twis/FREE", "Back/15som/NoTwis/PIKE")
    assert train.labels().tolist() == [1, 0]
    assert not any(item.is_segment for item in train.items)
    assert read_labelled(tmp_path, split="test").labels().tolist() == [0]
    rows[0]["label"] = 2
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps(rows))
    with pytest.raises(ListError, match="label of x_1 is 2; the vocabulary has 2 classes"):
        read_labelled(tmp_path, split="train")
    rows[0]["label"] = 0.5
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps(rows))
    with pytest.raises(ListError, match=r"is 0\.5, no integer"):
        read_labelled(tmp_path, split="train")


# ---- Kinetics ------------------------------------------------------------------------------


def test_kinetics(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    (tmp_path / "train.csv").write_text(
        f'{header}abseiling,-A,4,14,train,0\n"air, drumming",B_b,0,10,train,0\n'
        "abseiling,C,20,30,train,0\nabseiling,gone,1,11,train,0\n"
    )
    (tmp_path / "validate.csv").write_text(f"{header}abseiling,D,3,13,validate,0\n")
    touch(
        tmp_path / "train/abseiling/-A_000004_000014.mp4", tmp_path / "train/B_b_000000_000010.mkv"
    )
    touch(tmp_path / "train/C.mp4", tmp_path / "val/D_000003_000013.mp4")
    assert detect_layout(tmp_path) == "kinetics"
    assert detect_layout(tmp_path / "train.csv") == "kinetics"
    train = read_labelled(tmp_path, split="train")
    assert train.label_map.class_names() == ("abseiling", "air, drumming")
    assert train.labels().tolist() == [0, 1, 0]
    assert [item.group for item in train.items] == ["-A", "B_b", "C"]
    # A file called by its id alone is the whole video, and the row a stretch of it.
    assert [(i.start_seconds, i.end_seconds) for i in train.items] == [
        *((None, None), (None, None), (20, 30)),
    ]
    assert "1 of 4 videos" in train.notes[0] and "gone_000001_000011" in train.notes[0]
    val = read_labelled(tmp_path, split="validation", label_map=train.label_map)
    assert names_and_labels(val) == [("D_000003_000013.mp4", "abseiling")]
    (tmp_path / "validate.csv").write_text(f"{header},D,3,13,validate,0\n")
    with pytest.raises(ListError, match="line 2: the label is missing"):
        read_labelled(tmp_path, split="val")
    (tmp_path / "validate.csv").write_text(f"{header}abseiling,D,3,3,validate,0\n")
    with pytest.raises(ListError, match="line 2: .*zero length"):
        read_labelled(tmp_path, split="val")


# ---- ImageNet ------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "Data/CLS-LOC"])
def test_imagenet(tmp_path: Path, inside: str) -> None:
    root = tmp_path / inside
    for synset in ("n01440764", "n01443537", "n01484850"):
        touch(*(root / "train" / synset / f"{synset}_{i}.JPEG" for i in range(2)))
    touch(*(root / "val" / f"ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2)))
    assert detect_layout(tmp_path) == "imagenet"
    train = read_labelled(tmp_path, split="train")
    assert train.label_map.class_names() == ("n01440764", "n01443537", "n01484850")
    assert train.labels().tolist() == [0, 0, 1, 1, 2, 2]
    assert all(item.is_image for item in train.items)
    with pytest.raises(ListError, match="labels of .*val are missing"):
        read_labelled(tmp_path, split="val")
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n01484850 5 6 7 8 n01484850 1 1 1 1 \n"
    )
    val = read_labelled(tmp_path, split="val", label_map=train.label_map)
    assert val.labels().tolist() == [2, 0]
    touch(root / "val" / "n01443537" / "x.JPEG")
    for number in (1, 2):
        (root / "val" / f"ILSVRC2012_val_0000000{number}.JPEG").unlink()
    assert read_labelled(tmp_path, split="val").labels().tolist() == [1]


# ---- EPIC-KITCHENS-100 ---------------------------------------------------------------------


EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
TRAIN_PAIRS = ((3, 9), (0, 4), (3, 4), (70, 250), (3, 9))


def epic_row(number: int, video: str, pair: tuple[int, int], start: float) -> str:
    person = video.partition("_")[0]
    times = f"00:00:{start:05.2f},00:00:{start + 1.5:05.2f}"
    frames = f"{int(start * 60)},{int((start + 1.5) * 60)}"
    return (
        f"{video}_{number},{person},{video},00:00:01.000,{times},{frames},take the cup,take,"
        f"{pair[0]},cup,{pair[1]},\"['cup', 'plate']\",\"[{pair[1]}, 2]\"\n"
    )


@pytest.fixture(params=["{person}/{video}.MP4", "{person}/videos/{video}.MP4"])
def epic(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two training videos and one validation video, in one of both published ways."""
    train = [
        epic_row(number, f"P01_0{1 + number % 2}", pair, 2.0 * number)
        for number, pair in enumerate(TRAIN_PAIRS)
    ]
    # The second pair never occurs in training, though its verb and noun do.
    val = [
        epic_row(i, "P22_05", pair, 3.0 * i) for i, pair in enumerate([(3, 4), (0, 9), (70, 250)])
    ]
    (tmp_path / "EPIC_100_train.csv").write_text(EPIC_HEADER + "".join(train))
    (tmp_path / "EPIC_100_validation.csv").write_text(EPIC_HEADER + "".join(val))
    for video in ("P01_01", "P01_02", "P22_05"):
        name = str(request.param).format(person=video.partition("_")[0], video=video)
        touch(tmp_path / "EPIC" / name)
    return tmp_path


def test_epic_kitchens(epic: Path) -> None:
    assert detect_layout(epic) == "epic_kitchens"
    assert detect_layout(epic / "EPIC_100_validation.csv") == "epic_kitchens"
    train = read_labelled(epic, split="train")
    assert train.label_map.heads == {
        "verb": ("0", "3", "70"),
        "noun": ("4", "9", "250"),
        "action": ("0 4", "3 4", "3 9", "70 250"),
    }
    assert [item.labels for item in train.items] == [
        *((1, 1, 2), (0, 0, 0), (1, 0, 1), (2, 2, 3), (1, 1, 2)),
    ]
    first = train.items[1]
    assert (first.start_seconds, first.end_seconds) == (2.0, 3.5)
    assert (first.start_frame, first.end_frame) == (120, 210)
    assert [item.group for item in train.items[:2]] == ["P01_01", "P01_02"]
    assert Path(first.path).name == "P01_02.MP4"


def test_epic_kitchens_validation_keeps_only_pairs_of_training(epic: Path) -> None:
    train = read_labelled(epic, split="train")
    val = read_labelled(epic, split="validation")
    assert val.label_map == train.label_map
    assert [item.labels for item in val.items] == [(1, 0, 1), (2, 2, 3)]
    assert "1 of 3 rows" in val.notes[0] and "1 pairs" in val.notes[0]
    (epic / "EPIC_100_train.csv").unlink()
    by_map = read_labelled(epic / "EPIC_100_validation.csv", label_map=train.label_map)
    assert by_map.items == val.items
    with pytest.raises(ListError, match=r"needs EPIC_100_train\.csv"):
        read_labelled(epic / "EPIC_100_validation.csv")
    strange = LabelMap({"verb": ("x",), "noun": ("y",), "action": ("x y",)})
    with pytest.raises(DataError, match="No row"):
        read_labelled(epic / "EPIC_100_validation.csv", label_map=strange)


def test_epic_kitchens_names_and_published_order(epic: Path) -> None:
    verbs = {0: "take", 3: "open", 70: "turn-down"}
    nouns = {4: "cup", 9: "drawer", 250: "heat:dial"}
    for kind, names in (("verb", verbs), ("noun", nouns)):
        lines = [f"{number},{name},\"['{name}']\",x\n" for number, name in names.items()]
        (epic / f"EPIC_100_{kind}_classes.csv").write_text(
            "id,key,instances,category\n" + "".join(lines)
        )
    plain = read_labelled(epic, split="train")
    assert plain.label_map.class_names("action")[3] == "turn-down heat:dial"
    published = read_labelled(epic, split="train", options=LabelOptions(class_order="published"))
    # What the original code does, in its own words: sets, numbered as they are walked through.
    pairs = set(TRAIN_PAIRS)
    expected = [f"{verbs[verb]} {nouns[noun]}" for verb, noun in pairs]
    assert list(published.label_map.class_names("action")) == expected
    assert list(published.label_map.class_names("verb")) == [
        verbs[verb] for verb in {verb for verb, _ in pairs}
    ]
    names = [published.label_map.class_names("action")[i.labels[2]] for i in published.items]
    assert names == [plain.label_map.class_names("action")[i.labels[2]] for i in plain.items]
    with pytest.raises(LabelError, match="head 'action'|head 'verb'|head 'noun'"):
        plain.label_map.check_same(published.label_map)


FROZEN_VERBS = [0, 40, 3, 96]
FROZEN_NOUNS = [120, 299, 7]
FROZEN_ACTIONS = [
    (0, 7),
    (3, 120),
    (0, 120),
    (96, 120),
    (40, 7),
    (0, 299),
    (3, 7),
    (96, 299),
    (96, 7),
    (40, 299),
    (3, 299),
    (40, 120),
]


def test_the_published_order_does_not_change_with_the_machine() -> None:
    # Written down once from CPython 3.11 on 64 bits; hashes of integers are not salted.
    pairs = [(verb, noun) for verb in (96, 3, 40, 0) for noun in (299, 7, 120)]
    verbs, nouns, actions = set_order(pairs)
    assert verbs == FROZEN_VERBS
    assert nouns == FROZEN_NOUNS
    assert actions == FROZEN_ACTIONS
    assert actions != sorted(actions) and sorted(actions) == sorted(pairs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",3,cup", ",,cup", "the label verb_class is missing"),
        (",3,cup", ",3.5,cup", r"the label verb_class is '3\.5', no integer"),
        ("00:00:03.50", "00:00:02.00", "zero length"),
        ("verb_class", "verb_number", "no column 'verb_class'"),
    ],
)
def test_wrong_epic_kitchens_rows_are_named(epic: Path, old: str, new: str, message: str) -> None:
    file = epic / "EPIC_100_train.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ListError, match=message):
        read_labelled(epic, split="train", layout="epic_kitchens")


def test_two_videos_of_one_name_are_refused(epic: Path) -> None:
    touch(epic / "copy" / "P01_01.MP4")
    with pytest.raises(ListError, match=r"Two videos are called 'P01_01'.*Set root"):
        read_labelled(epic, split="train")
    options = LabelOptions(root=str(epic / "EPIC"))
    assert len(read_labelled(epic, split="train", options=options)) == 5


def test_a_json_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('[{"name": 1}]')
    with pytest.raises(ListError, match="neither a list of Something-Something"):
        read_labelled(path)
    path.write_text("{")
    with pytest.raises(ListError, match="no JSON file"):
        read_labelled(path)
