"""Duplicates over splits, groups, classes that cannot be learned, and splitting by group."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vjepa2.data.splits as splits_module
from vjepa2.data.labelled import LabelledItem, LabelledSet, LabelMap
from vjepa2.data.split_by_group import split_by_group
from vjepa2.data.splits import (
    check_not_trained_on,
    check_splits,
    content_hash,
    content_hashes,
    equal_files,
)
from vjepa2.errors import ConfigError, DataError, DataNotFoundError, LabelError, LeakError

LARGE = 20_000  # bytes: more than both edges that are compared first


def content(number: int, size: int = LARGE) -> bytes:
    """Bytes of one size that differ from the first on."""
    return np.random.default_rng(number).bytes(size)


def written(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    for name, value in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return {name: str(folder / name) for name in contents}


def labelled(paths: list[str], labels: list[int], names: str = "xy") -> LabelledSet:
    items = tuple(LabelledItem(path, (label,)) for path, label in zip(paths, labels, strict=True))
    return LabelledSet(items, LabelMap({"label": tuple(names)}), "set")


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, LabelledSet]:
    """Twelve training and four validation files of two classes, all different."""
    train = written(tmp_path, {f"train/{n}.mp4": content(n) for n in range(12)})
    val = written(tmp_path, {f"val/{n}.mp4": content(100 + n) for n in range(4)})
    return {
        "train": labelled(list(train.values()), [0, 1] * 6),
        "val": labelled(list(val.values()), [0, 1] * 2),
    }


# ---- contents ------------------------------------------------------------------------------


def test_a_hash_is_that_of_the_bytes_and_follows_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"first")
    assert content_hash(path) == hashlib.sha256(b"first").hexdigest()
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))
    assert content_hash(str(path)) == hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DataNotFoundError, match="cannot be read"):
        content_hash(tmp_path / "none")


def test_a_file_is_read_once_while_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = written(tmp_path, {"a.mp4": b"once"}).values()
    calls = []
    real = splits_module.sha256_of

    def counted(path: Path, *, quiet: bool) -> str:
        calls.append(path)
        return real(path, quiet=quiet)

    monkeypatch.setattr(splits_module, "sha256_of", counted)
    assert content_hash(path) == content_hash(path)
    assert len(calls) == 1
    os.utime(path, ns=(5, 5))
    content_hash(path)
    assert len(calls) == 2


def test_a_folder_of_pictures_is_its_pictures_in_order_whatever_their_names(tmp_path: Path) -> None:
    written(tmp_path, {"a/1.png": b"p", "a/2.png": b"q", "a/.thumbs": b"z"})
    written(tmp_path, {"b/frame9.png": b"p", "b/frame10.png": b"q"})
    written(tmp_path, {"c/1.png": b"q", "c/2.png": b"p"})
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    assert content_hash(tmp_path / "a") != content_hash(tmp_path / "c")


def test_hashes_of_many_files_show_progress_and_leave_out_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = list(written(tmp_path, {f"{n}.mp4": content(n, 9) for n in range(5)}).values())
    found = content_hashes([*paths, paths[0], str(tmp_path / "none")])
    assert list(found) == paths and len(set(found.values())) == 5
    assert "Comparing files: 6/6" in capsys.readouterr().err
    content_hashes(paths, quiet=True)
    assert capsys.readouterr().err == ""


def test_equal_files_are_found_and_few_are_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = content(1)
    middle = bytearray(one)
    middle[LARGE // 2] ^= 1  # differs where the edges do not look
    contents = {
        "a": one,
        "longer": one + b"x",
        "other": content(2),
        "copy": one,
        "middle": bytes(middle),
        "empty": b"",
        "empty2": b"",
    }
    paths = list(written(tmp_path, contents).values())
    read: list[str] = []
    real = splits_module.sha256_of

    def counted(path: Path, *, quiet: bool) -> str:
        read.append(path.name)
        return real(path, quiet=quiet)

    monkeypatch.setattr(splits_module, "sha256_of", counted)
    assert equal_files(paths, quiet=True) == [[0, 3]]
    assert sorted(read) == ["a", "copy", "middle"]
    # Of one side only: nothing to find, and nothing to read.
    read.clear()
    assert equal_files(paths, sides=[0] * len(paths), quiet=True) == []
    assert read == []


# ---- leaks ---------------------------------------------------------------------------------


def test_clean_splits_pass(sets: dict[str, LabelledSet]) -> None:
    assert check_splits(sets, quiet=True) == ()


def test_a_copy_under_another_name_is_found(sets: dict[str, LabelledSet]) -> None:
    first, copy = sets["train"].items[3].path, sets["val"].items[1].path
    Path(copy).write_bytes(Path(first).read_bytes())
    with pytest.raises(
        LeakError, match=r"1 files have the same content.*\(train\) = .*\(val\)"
    ) as e:
        check_splits(sets, quiet=True)
    assert e.value.pairs == ((first, copy),)


def test_a_link_to_a_training_file_is_found(sets: dict[str, LabelledSet]) -> None:
    first, link = Path(sets["train"].items[0].path), Path(sets["val"].items[0].path)
    link.unlink()
    link.symlink_to(first)
    with pytest.raises(LeakError, match="same content"):
        check_splits(sets, quiet=True)


def test_a_copied_folder_of_pictures_is_found(tmp_path: Path) -> None:
    for name, numbers in {"a": (1, 2), "b": (3, 4), "c": (1, 2)}.items():
        written(tmp_path, {f"{name}/{i}.png": content(n) for i, n in enumerate(numbers)})
    train = labelled([str(tmp_path / "a"), str(tmp_path / "b")], [0, 1])
    val = labelled([str(tmp_path / "c")], [0])
    with pytest.raises(LeakError, match="same content"):
        check_splits({"train": train, "val": val}, quiet=True)


def test_copies_between_validation_and_test_count_and_copies_inside_a_split_do_not(
    sets: dict[str, LabelledSet], tmp_path: Path
) -> None:
    items = sets["train"].items
    Path(items[0].path).write_bytes(Path(items[2].path).read_bytes())
    assert check_splits(sets, quiet=True) == ()
    (path,) = written(tmp_path, {"test/a.mp4": content(100)}).values()
    with pytest.raises(LeakError, match=r"\(val\) = .*\(test\)"):
        check_splits({**sets, "test": labelled([path], [0])}, quiet=True)


def test_one_path_or_group_in_two_splits(sets: dict[str, LabelledSet]) -> None:
    train, val = sets["train"], sets["val"]
    shared = dataclasses.replace(train.items[0], start_seconds=1.0, end_seconds=2.0)
    twice = dataclasses.replace(val, items=(*val.items, shared))
    with pytest.raises(LeakError, match=r"1 groups or files are in two splits: .*0\.mp4") as error:
        check_splits({"train": train, "val": twice}, quiet=True)
    assert error.value.pairs == ((shared.path, shared.path),)
    grouped = {
        name: dataclasses.replace(
            found,
            items=tuple(
                dataclasses.replace(item, group=f"{name if place else 'day 1'}")
                for place, item in enumerate(found.items)
            ),
        )
        for name, found in sets.items()
    }
    with pytest.raises(LeakError, match=r"day 1 \(train and val\)"):
        check_splits(grouped, quiet=True)


def test_evaluating_on_training_files_is_refused(sets: dict[str, LabelledSet]) -> None:
    trained = content_hashes((item.path for item in sets["train"].items), quiet=True).values()
    check_not_trained_on(sets["val"], trained, quiet=True)
    path = Path(sets["val"].items[2].path)
    path.write_bytes(content(7))
    with pytest.raises(LeakError, match=r"1 of 4 files were trained on.*val/2\.mp4") as error:
        check_not_trained_on(sets["val"], trained, quiet=True)
    assert error.value.pairs == ((str(path), hashlib.sha256(content(7)).hexdigest()),)


def test_missing_files_are_counted(sets: dict[str, LabelledSet]) -> None:
    Path(sets["val"].items[0].path).unlink()
    (warning,) = check_splits(sets, quiet=True)
    assert "1 of 16 files do not exist" in warning


def test_segments_are_looked_up_in_their_files(clip_folder: Path) -> None:
    path = str(clip_folder / "clip1.mp4")  # 48 frames at 12 a second: 4 s
    other = LabelledItem(str(clip_folder / "clip2.mp4"), (1,))
    label_map = LabelMap({"label": ("x", "y")})
    inside = LabelledItem(path, (0,), start_seconds=1.0, end_seconds=4.0)
    good = LabelledSet((inside, other), label_map)
    assert "fewer than 5" in check_splits({"train": good}, quiet=True)[0]
    outside = LabelledItem(path, (0,), start_seconds=1.0, end_seconds=5.0)
    late = LabelledItem(path, (0,), start_frame=40, end_frame=49)
    bad = LabelledSet((inside, outside, late, other), label_map, "list.csv")
    with pytest.raises(LabelError, match=r"2 segments of list\.csv.*1 to 5 s.*frames 40 to 49"):
        check_splits({"train": bad}, quiet=True)
    check_splits({"train": bad}, segments=False, quiet=True)


def test_a_file_with_segments_that_is_no_video_is_counted(half_bad_folder: Path) -> None:
    items = [
        LabelledItem(str(half_bad_folder / f"{kind}{n}.mp4"), (n % 2,), end_seconds=1.0)
        for kind in ("good", "bad")
        for n in range(2)
    ]
    found = LabelledSet(tuple(items), LabelMap({"label": ("x", "y")}))
    warnings = check_splits({"train": found}, quiet=True)
    assert "2 of 4 files with segments cannot be opened" in warnings[1]


# ---- classes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, val: (train, labelled(["/v"], [2], "xyz")), r"differ.*'y', 'z'|only in"),
        (lambda train, val: (train, labelled(["/v"], [0], "yx")), "same 2 names"),
        (lambda train, val: (labelled(["/a", "/b"], [1, 1]), val), "one class only.*'y'"),
        (lambda train, val: (labelled([], []), val), "one class only.*'none'"),
        (
            lambda train, val: (
                labelled(["/a", "/b"], [0, 1], "xyz"),
                labelled(["/c", "/d"], [2, 0], "xyz"),
            ),
            r"1 classes of split 'val'.*no training file: 'z' \(1 files\)",
        ),
    ],
)
def test_classes_that_cannot_be_learned(
    sets: dict[str, LabelledSet],
    change: Callable[[LabelledSet, LabelledSet], tuple[LabelledSet, LabelledSet]],
    message: str,
) -> None:
    train, val = change(sets["train"], sets["val"])
    with pytest.raises(LabelError, match=message):
        check_splits({"train": train, "val": val}, quiet=True)


def test_every_head_is_looked_at(tmp_path: Path) -> None:
    paths = list(written(tmp_path, {f"{n}": content(n) for n in range(2)}).values())
    label_map = LabelMap({"verb": ("take", "put"), "noun": ("cup", "plate")})
    items = tuple(LabelledItem(path, (n, 1)) for n, path in enumerate(paths))
    with pytest.raises(LabelError, match=r"one class only \(head 'noun': 'plate'\)"):
        check_splits({"train": LabelledSet(items, label_map)}, quiet=True)


def test_few_files_a_large_class_and_classes_that_are_not_measured_are_warned_of() -> None:
    train = labelled([f"/t{n}" for n in range(13)], [0] * 7 + [1] * 5 + [2], "xyz")
    val = labelled([f"/v{n}" for n in range(5)], [0, 0, 0, 0, 1], "xyz")
    few, absent, large, missing = check_splits({"train": train, "val": val}, quiet=True)
    assert "1 of 3 classes have fewer than 5 training files (0 have none), such as z" in few
    assert "5 in the middle, 7 at most" in few
    assert "1 of 3 classes that are trained have no file in split 'val'" in absent
    assert "80% of split 'val' are 'x'" in large
    assert "18 of 18 files do not exist" in missing


def test_thousands_of_classes_with_few_files() -> None:
    names = tuple(f"c{n}" for n in range(3000))
    items = tuple(LabelledItem(f"/{n}", (n % 2500,)) for n in range(4000))
    train = LabelledSet(items, LabelMap({"label": names}))
    warning = check_splits({"train": train}, quiet=True)[0]
    assert "3000 of 3000 classes have fewer than 5 training files (500 have none)" in warning
    assert "a class has 1.5 in the middle, 2 at most" in warning
    assert "With 3000 classes and 4000 files" in warning


# ---- splitting -----------------------------------------------------------------------------


def many(folder: Path, *, groups: int = 40) -> LabelledSet:
    """Groups of 1 to 4 items, each of one class; class 3 is rare (one group)."""
    items = []
    for group in range(groups):
        label = 3 if group == 7 else group % 3
        for number in range(1 + group % 4):
            items.append(
                LabelledItem(str(folder / f"g{group}/{number}.mp4"), (label,), group=f"g{group}")
            )
    return LabelledSet(tuple(items), LabelMap({"label": ("a", "b", "c", "d")}), str(folder))


SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def test_groups_stay_together_and_classes_keep_their_share(tmp_path: Path) -> None:
    whole = many(tmp_path)
    parts = split_by_group(whole, SHARES, seed=3, quiet=True)
    assert list(parts) == list(SHARES)
    together = [item for part in parts.values() for item in part.items]
    assert sorted(i.path for i in together) == sorted(i.path for i in whole.items)
    groups = [{item.group for item in part.items} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40
    totals = whole.counts()
    for name, share in SHARES.items():
        counts = parts[name].counts()
        # A group has at most 4 items, so that a class can be off by about one group.
        assert np.abs(counts[:3] - share * totals[:3]).max() <= 4, (name, counts)
        assert [i.path for i in parts[name].items] == [
            i.path for i in whole.items if i in parts[name].items
        ]
    assert parts["train"].counts()[3] == totals[3]
    check_splits(parts, quiet=True)


def test_a_split_depends_on_the_seed_and_not_on_where_the_folder_is(tmp_path: Path) -> None:
    def groups(folder: str, seed: int) -> list[set[str]]:
        parts = split_by_group(many(tmp_path / folder), SHARES, seed=seed, quiet=True)
        return [{item.group for item in part.items} for part in parts.values()]

    assert groups("here", 0) == groups("some/where/else", 0)
    assert len({str(sorted(groups("here", seed)[1])) for seed in range(5)}) == 5

    # Without groups, names below the common folder are what counts.
    def alone(folder: str) -> list[list[str]]:
        paths = [str(tmp_path / folder / f"{n}.mp4") for n in range(20)]
        parts = split_by_group(labelled(paths, [0, 1] * 10), SHARES, quiet=True)
        return [[Path(item.path).name for item in part.items] for part in parts.values()]

    assert alone("here") == alone("there")


def test_copies_and_stretches_of_one_file_stay_together(tmp_path: Path) -> None:
    paths = list(written(tmp_path, {f"{n}.mp4": content(n // 2) for n in range(40)}).values())
    items = [
        LabelledItem(path, (number // 2 % 2,), start_seconds=start)
        for number, path in enumerate(paths)
        for start in (0.0, 1.0)
    ]
    whole = LabelledSet(tuple(items), LabelMap({"label": ("x", "y")}))
    parts = split_by_group(whole, {"train": 0.5, "val": 0.5}, quiet=True)
    numbers = [Counter(int(Path(i.path).stem) // 2 for i in part.items) for part in parts.values()]
    assert set(numbers[0]) & set(numbers[1]) == set()
    assert set(numbers[0].values()) | set(numbers[1].values()) == {4}
    check_splits(parts, segments=False, quiet=True)


@pytest.mark.parametrize(
    ("shares", "error", "message"),
    [
        ({}, ConfigError, "sum 1"),
        ({"train": 0.5, "val": 0.2}, ConfigError, r"whose sum is 0\.7"),
        ({"train": 1.2, "val": -0.2}, ConfigError, "at most 1"),
        ({"train": 1.0, "val": 0.0}, ConfigError, "above 0"),
        ({"train": 0.4, "val": 0.3, "test": 0.3}, DataError, "2 groups of files, too few for 3"),
    ],
)
def test_splits_that_cannot_be(
    shares: dict[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        split_by_group(labelled(["/a", "/b"], [0, 1]), shares, quiet=True)
