"""Readers of Something-Something v2, Kinetics and Diving48 as they are handed out."""

import re
from pathlib import Path
from typing import Any

from vjepa2.data.label_columns import is_missing, seconds_of
from vjepa2.data.label_options import LabelOptions
from vjepa2.data.label_rows import SINGLE_HEAD, LabelRow, LabelTable, same_split, segment_problem
from vjepa2.data.layout_files import (
    VideoIndex,
    find_lists,
    list_of_split,
    read_json,
    read_objects,
    read_table,
    with_videos,
)
from vjepa2.errors import DataError, ListError

_SPLITS = r"(train|val|valid|validate|validation|test)"
SSV2_LISTS = re.compile(rf"(?:something-something-v2-)?{_SPLITS}\.json")
SSV2_LABELS = re.compile(r"(?:something-something-v2-)?(labels)\.json")
SSV2_ANSWERS = re.compile(r"(?:something-something-v2-)?(test-answers)\.csv")
DIVING48_LISTS = re.compile(rf"diving48_(?:v2_)?{_SPLITS}\.json")
DIVING48_VOCABULARY = re.compile(r"diving48_(vocab)\.json")
KINETICS_LISTS = re.compile(rf"(?:.*[_-])?{_SPLITS}\.csv")
KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")


# ---- Something-Something v2 ----------------------------------------------------------------


def read_ssv2(path: Path, options: LabelOptions, *, split: str | None) -> LabelTable:
    """Something-Something v2: `train.json`, `validation.json`, `labels.json`, `ID.webm`.

    A class is a template without its brackets; labels.json numbers them. The test split takes its
    labels from `test-answers.csv`.

    Raises:
        ListError: files are missing or malformed, or a class is not in labels.json.
        DataNotFoundError: no video is there.
    """
    file, folder = list_of_split(path, SSV2_LISTS, split=split, layout="ssv2")
    names = _ssv2_classes(folder)
    known = set(names)
    is_test = same_split(file.stem.rpartition("-")[2], "test")
    answers = find_lists(folder, SSV2_ANSWERS) if is_test else {}
    if answers:
        labels = _ssv2_answers(next(iter(answers.values())))
        items = [
            (str(item["id"]), labels.get(str(item["id"]))) for item in read_objects(file, ["id"])
        ]
    else:
        entries = read_objects(file, ["id", "template"])
        items = [(str(item["id"]), _without_brackets(item["template"])) for item in entries]
    for name, label in items:
        if label not in known:
            raise ListError(
                f"{file}: the class of video {name} is {label!r}, which labels.json does not hold."
            )
    root = Path(options.root or folder)
    index = VideoIndex(root)
    found, notes = with_videos([name for name, _ in items], index.find, source=file, root=root)
    label_of = dict(items)
    rows = tuple(LabelRow(video, (str(label_of[name]),)) for name, video in found)
    return LabelTable((SINGLE_HEAD,), rows, {SINGLE_HEAD: names}, notes)


def _ssv2_classes(folder: Path) -> tuple[str, ...]:
    files = find_lists(folder, SSV2_LABELS)
    if not files:
        raise ListError(f"{folder} has no labels.json, which numbers the classes.")
    file = files["labels"]
    content = read_json(file)
    try:
        numbers = {int(number): str(name) for name, number in content.items()}
    except (AttributeError, ValueError, TypeError) as error:
        raise ListError(f'{file} must hold {{"class name": "number"}}.') from error
    if sorted(numbers) != list(range(len(content))):
        raise ListError(f"{file}: the {len(content)} classes are not numbered 0 to the last one.")
    return tuple(numbers[number] for number in range(len(numbers)))


def _ssv2_answers(file: Path) -> dict[str, str]:
    answers = {}
    for line in file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines():
        name, _, label = line.partition(";")
        answers[name.strip()] = _without_brackets(label.strip())
    return answers


def _without_brackets(template: Any) -> str:
    return str(template).replace("[", "").replace("]", "")


# ---- Diving48 ------------------------------------------------------------------------------


def read_diving48(path: Path, options: LabelOptions, *, split: str | None) -> LabelTable:
    """Diving48: `Diving48_V2_train.json`, `Diving48_V2_test.json`, `Diving48_vocab.json`.

    A class is a take-off, somersaults, twists and a position; its name joins the four with "/".
    Files are cut to one dive, so the frames in the lists are not used.

    Raises:
        ListError: files are missing or malformed, or a label is outside the vocabulary.
        DataNotFoundError: no video is there.
    """
    file, folder = list_of_split(path, DIVING48_LISTS, split=split, layout="diving48")
    vocabularies = find_lists(folder, DIVING48_VOCABULARY)
    if not vocabularies:
        raise ListError(f"{folder} has no Diving48_vocab.json, which names the classes.")
    vocabulary = read_json(vocabularies["vocab"])
    if not isinstance(vocabulary, list) or not vocabulary:
        raise ListError(f"{vocabularies['vocab']} must hold a list of classes.")
    names = tuple(
        "/".join(map(str, name)) if isinstance(name, list) else str(name) for name in vocabulary
    )
    labels = {}
    for item in read_objects(file, ["vid_name", "label"]):
        label = item["label"]
        if isinstance(label, bool) or not isinstance(label, int):
            raise ListError(f"{file}: the label of {item['vid_name']} is {label!r}, no integer.")
        if not 0 <= label < len(names):
            raise ListError(
                f"{file}: the label of {item['vid_name']} is {label}; the vocabulary has "
                f"{len(names)} classes, numbered from 0."
            )
        labels[str(item["vid_name"])] = names[label]
    root = Path(options.root or folder)
    index = VideoIndex(root)
    found, notes = with_videos(list(labels), index.find, source=file, root=root)
    rows = tuple(LabelRow(video, (labels[name],)) for name, video in found)
    return LabelTable((SINGLE_HEAD,), rows, {SINGLE_HEAD: names}, notes)


# ---- Kinetics ------------------------------------------------------------------------------


def read_kinetics(path: Path, options: LabelOptions, *, split: str | None) -> LabelTable:
    """Kinetics: a csv of label, youtube_id, time_start, time_end, split; `ID_SSSSSS_EEEEEE.mp4`.

    The videos may lie in any subfolders (by split, by class, or flat). A file that is called by
    its id alone is taken for the whole video, and the row for a segment of it. The group of a row
    is its id. Classes are numbered in the order of their sorted names.

    Raises:
        ListError: columns are missing or a line is malformed.
        DataError: the split has no rows.
        DataNotFoundError: no video is there.
    """
    file, folder = list_of_split(path, KINETICS_LISTS, split=split, layout="kinetics")
    kept = []
    for number, row in read_table(file, KINETICS_COLUMNS):
        place = f"{file}, line {number}"
        stated = row.get("split", "")
        # A list of one split need not repeat it in a column.
        if split is not None and stated and not same_split(stated, split):
            continue
        start, end = (seconds_of(row[name], place) for name in KINETICS_COLUMNS[1:])
        problem = segment_problem(start, end, None, None)
        if problem is not None or start is None or end is None:
            raise ListError(f"{place}: {problem or 'time_start or time_end is missing'}.")
        if is_missing(row.get("label")):
            raise ListError(f"{place}: the label is missing, as in lists of the test split.")
        kept.append(_Clip(row["youtube_id"], start, end, row["label"].strip()))
    if not kept:
        raise DataError(f"The list {file} has no rows{f' of split {split!r}' if split else ''}.")
    root = Path(options.root or folder)
    index = VideoIndex(root)
    found, notes = with_videos(
        kept, lambda clip: index.find(clip.file_stem, clip.name), source=file, root=root
    )
    rows = []
    for clip, video in found:
        whole = Path(video).stem == clip.file_stem
        rows.append(
            LabelRow(
                video,
                (clip.label,),
                start_seconds=None if whole else clip.start,
                end_seconds=None if whole else clip.end,
                group=clip.name,
            )
        )
    return LabelTable((SINGLE_HEAD,), tuple(rows), {}, notes)


class _Clip:
    """One row of a Kinetics list."""

    def __init__(self, name: str, start: float, end: float, label: str) -> None:
        self.name, self.start, self.end, self.label = name, start, end, label
        self.file_stem = f"{name}_{int(start):06d}_{int(end):06d}"

    def __str__(self) -> str:
        return self.file_stem
