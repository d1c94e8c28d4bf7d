"""Class numbers of labels that are integers: numbers already, or names that look like numbers."""

from pathlib import Path

import pytest

from vjepa2.data.label_numbers import new_classes, numbers_of
from vjepa2.data.labelled import LabelMap
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.errors import LabelError


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("0", "1", "2"), ("0", "1", "2")),
        (("0", "2"), ("0", "1", "2")),  # class 1 has no file here
        (("1", "2", "3"), ("0", "1", "2", "3")),
        (("2020", "2019"), ("2019", "2020")),
        (("100", "9", "20"), ("9", "20", "100")),  # as numbers, not as texts
        (("0", "1", "400"), ("0", "1", "400")),
        (("007", "7", "40"), ("7", "40")),
    ],
)
def test_integers_are_numbers_where_most_of_them_occur(
    labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    found = new_classes(set(labels), source="list.csv", head="label")
    assert found == names
    numbers = numbers_of(dict.fromkeys(labels, 1), found, source="list.csv", head="label")
    assert [int(names[numbers[label]]) for label in labels] == [int(label) for label in labels]


def years(folder: Path, *labels: str) -> Path:
    folder.mkdir()
    for number in range(len(labels)):
        (folder / f"{number}.mp4").write_bytes(b"bytes")
    lines = [f"{number}.mp4,{label}" for number, label in enumerate(labels)]
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return folder / "list.csv"


def test_years_are_classes_and_the_list_says_so(tmp_path: Path) -> None:
    read = read_labelled(years(tmp_path / "train", "2020", "2019", "2020"))
    assert read.label_map == LabelMap({"label": ("2019", "2020")})
    assert read.labels().tolist() == [1, 0, 1]
    (note,) = read.notes
    assert "2019, 2020" in note and "names of 2 classes, not class numbers" in note
    # A list that is measured is read by the map of training, and an unknown year is named.
    val = years(tmp_path / "val", "2020")
    assert read_labelled(val, label_map=read.label_map).labels().tolist() == [1]
    with pytest.raises(LabelError, match=r"'2021' \(1 files\)"):
        read_labelled(years(tmp_path / "later", "2021"), label_map=read.label_map)
