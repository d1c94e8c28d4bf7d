"""Folders and lists of labelled files: which layout a path has, and class folders."""

import re
from collections.abc import Mapping
from pathlib import Path

from vjepa2.data.epic_kitchens import EPIC_COLUMNS, EPIC_LISTS, read_epic_kitchens
from vjepa2.data.label_lists import LABEL_LIST_SUFFIXES, read_label_list
from vjepa2.data.label_options import LAYOUTS, LabelOptions, Layout
from vjepa2.data.label_rows import SINGLE_HEAD, LabelRow, LabelTable, same_split, split_name
from vjepa2.data.layout_files import find_lists, list_of_split, read_json, read_table
from vjepa2.data.manifest import natural, read_source
from vjepa2.data.published_layouts import (
    DIVING48_LISTS,
    KINETICS_COLUMNS,
    KINETICS_LISTS,
    SSV2_LABELS,
    SSV2_LISTS,
    read_diving48,
    read_kinetics,
    read_ssv2,
)
from vjepa2.data.settings import SourceConfig
from vjepa2.data.suffixes import file_kind, suffix_of
from vjepa2.errors import DataNotFoundError, ListError, check_choice, check_path

USUAL_SPLITS = ("train", "val", "test")
PLAIN_LISTS = re.compile(
    r"(?:.*[_-])?(train|training|val|valid|validation|test)\.(?:csv|tsv|txt|list|jsonl|parquet)"
)
SYNSET = re.compile(r"n\d{8}")
IMAGENET_FOLDER = Path("Data") / "CLS-LOC"
IMAGENET_ANSWERS = "LOC_val_solution.csv"
MAX_SHOWN = 5


def read_layout(
    path: str | Path,
    options: LabelOptions,
    *,
    layout: Layout,
    split: str | None,
    known: Mapping[str, tuple[str, ...]] | None = None,
) -> LabelTable:
    """Return the rows of a labelled list or folder.

    Args:
        path: of the list or folder.
        options: names of columns and folders.
        layout: "auto" tells by names of files and columns.
        split: which part; needed where a folder holds several.
        known: heads of the label map that the rows will be numbered by.

    Raises:
        ConfigError: no such layout.
        DataError, ListError: see the readers.
        DataNotFoundError: there is nothing at `path`.
    """
    check_choice("layout", layout, LAYOUTS)
    check_path("The path of labelled files", path)
    place = Path(path)
    if not place.exists():
        raise DataNotFoundError(
            f"There is nothing at {place}. Check the spelling; the working folder is {Path.cwd()}. "
            "Allowed: a list, or a folder with one subfolder a class."
        )
    chosen = detect_layout(place) if layout == "auto" else layout
    if chosen == "epic_kitchens":
        return read_epic_kitchens(place, options, split=split, known=known)
    if chosen == "ssv2":
        return read_ssv2(place, options, split=split)
    if chosen == "diving48":
        return read_diving48(place, options, split=split)
    if chosen == "kinetics":
        return read_kinetics(place, options, split=split)
    if chosen == "imagenet":
        return read_imagenet(place, options, split=split)
    if chosen == "folders":
        return read_class_folders(place, options, split=split)
    if place.is_dir():
        place, _ = list_of_split(place, PLAIN_LISTS, split=split, layout="list")
        split = None
    return read_label_list(place, options, split=split)


def detect_layout(path: Path) -> Layout:
    """Tell the layout of an existing path by names of files and columns.

    Raises:
        ListError: a JSON file of another kind.
    """
    if not path.is_dir():
        return _detect_file(path)
    if find_lists(path, EPIC_LISTS):
        return "epic_kitchens"
    if find_lists(path, DIVING48_LISTS):
        return "diving48"
    if find_lists(path, SSV2_LISTS) and find_lists(path, SSV2_LABELS):
        return "ssv2"
    if any(SYNSET.fullmatch(name) for name in _subfolders(_imagenet_root(path) / "train")):
        return "imagenet"
    if any(_has_columns(file, KINETICS_COLUMNS) for file in _lists(path, KINETICS_LISTS)):
        return "kinetics"
    return "list" if _lists(path, PLAIN_LISTS) else "folders"


def _lists(path: Path, pattern: re.Pattern[str]) -> list[Path]:
    return list(find_lists(path, pattern).values())


def _detect_file(path: Path) -> Layout:
    suffix = suffix_of(path.name)
    if suffix == ".json":
        content = read_json(path)
        first = content[0] if isinstance(content, list) and content else None
        if isinstance(first, dict) and "vid_name" in first:
            return "diving48"
        if isinstance(first, dict) and "id" in first:
            return "ssv2"
        raise ListError(
            f"{path} is neither a list of Something-Something v2 nor one of Diving48. For a list "
            f"of your own use {', '.join(LABEL_LIST_SUFFIXES)}."
        )
    if suffix in (".csv", ".tsv"):
        if _has_columns(path, EPIC_COLUMNS):
            return "epic_kitchens"
        if _has_columns(path, KINETICS_COLUMNS):
            return "kinetics"
    return "list"


def _has_columns(path: Path, columns: tuple[str, ...]) -> bool:
    try:
        next(read_table(path, columns), None)
    except ListError:
        return False
    return True


# ---- class folders -------------------------------------------------------------------------


def read_class_folders(path: Path, options: LabelOptions, *, split: str | None) -> LabelTable:
    """One subfolder a class, `walk/clip1.mp4`; or one a split first, `train/walk/clip1.mp4`.

    Classes are numbered in the order of their sorted names; where there are splits, of those of
    the training split, so that all splits have the same numbers.

    Raises:
        ListError: a split is needed or missing, or files lie in no class folder.
        DataError: no files.
    """
    if not path.is_dir():
        raise ListError(f"{path} is no folder with one subfolder a class.")
    folder = _split_folder(path, split)
    names = _class_names(path if folder != path else None, folder)
    kind = options.kind
    table = read_source(
        SourceConfig(path=str(folder), fps=None if kind == "image" else 1.0, kind=kind)
    )
    rows, loose = [], []
    for index in range(len(table)):
        ref = table[index]
        if ref.member:
            raise ListError(
                f"{ref.path} is a shard: class folders hold files. Unpack it, or write a list."
            )
        inside = Path(ref.path).relative_to(folder).parts
        if len(inside) < 2:
            loose.append(inside[0])
            continue
        is_image = kind != "picture_folder" and file_kind(ref.path) == "image"
        rows.append(LabelRow(str(Path(ref.path).absolute()), (inside[0],), is_image=is_image))
    if loose:
        raise ListError(
            f"{len(loose)} files lie in {folder} itself and not in the folder of a class, such as "
            f"{', '.join(loose[:MAX_SHOWN])}. Move them to FOLDER/CLASS/FILE, or write a list."
        )
    return LabelTable((SINGLE_HEAD,), tuple(rows), {SINGLE_HEAD: names} if names else {})


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = [item.name for item in folder.iterdir() if item.is_dir() and item.name[0] != "."]
    return sorted(names, key=natural)


def _split_folder(path: Path, split: str | None) -> Path:
    names = _subfolders(path)
    if split is not None:
        fitting = [name for name in names if same_split(name, split)]
        if len(fitting) == 1:
            return path / fitting[0]
        there = ", ".join((fitting or names)[:MAX_SHOWN]) or "none"
        raise ListError(
            f"{path} has {len(fitting)} folders of split {split!r}, expected one; there are: "
            f"{there}."
        )
    if names and all(split_name(name) in USUAL_SPLITS for name in names):
        raise ListError(
            f"{path} has a folder for each split ({', '.join(names)}). Set split, or give one of "
            "these folders."
        )
    return path


def _class_names(parent: Path | None, folder: Path) -> tuple[str, ...]:
    """Sorted names of the classes of the training split, or of the folder itself."""
    train = [name for name in _subfolders(parent) if split_name(name) == "train"] if parent else []
    source = parent / train[0] if parent is not None and train else folder
    return tuple(sorted(_subfolders(source)))


# ---- ImageNet ------------------------------------------------------------------------------


def read_imagenet(path: Path, options: LabelOptions, *, split: str | None) -> LabelTable:
    """ImageNet: `train/n01440764/*.JPEG` and `val`, with folders or with `LOC_val_solution.csv`.

    Classes are the synsets of the training split in the order of their sorted names.

    Raises:
        ListError: a split is needed, or the labels of a flat validation folder are missing.
        DataError: no images.
    """
    root = _imagenet_root(path)
    folder = _split_folder(root, split)
    images = options.override(["kind=image"])
    if any(SYNSET.fullmatch(name) for name in _subfolders(folder)):
        return read_class_folders(root, images, split=split)
    answers = next(
        (place / IMAGENET_ANSWERS for place in (path, root) if (place / IMAGENET_ANSWERS).exists()),
        None,
    )
    if answers is None:
        raise ListError(
            f"The labels of {folder} are missing: it has neither a folder for each synset nor "
            f"{IMAGENET_ANSWERS} beside it. Sort its images into folders such as n01440764."
        )
    labels = {
        row["ImageId"]: row["PredictionString"].partition(" ")[0]
        for _, row in read_table(answers, ("ImageId", "PredictionString"))
    }
    table = read_source(SourceConfig(path=str(folder), kind="image"))
    rows = []
    for index in range(len(table)):
        file = Path(table[index].path)
        if not labels.get(file.stem):
            raise ListError(f"{answers} has no label for {file}.")
        rows.append(LabelRow(str(file.absolute()), (labels[file.stem],), is_image=True))
    names = tuple(sorted(_subfolders(root / "train")) or sorted(set(labels.values())))
    return LabelTable((SINGLE_HEAD,), tuple(rows), {SINGLE_HEAD: names})


def _imagenet_root(path: Path) -> Path:
    inside = path / IMAGENET_FOLDER
    return inside if inside.is_dir() else path
