"""Lists and folders: every format gives the same files, and what is wrong is named."""

import contextlib
import json
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vjepa2.data.file_table import FileTable, TextColumn
from vjepa2.data.manifest import expanded, natural, read_source
from vjepa2.data.settings import SourceConfig
from vjepa2.errors import DataError, DataNotFoundError, ListError

NAMES = ["b 1.mp4", "a,2.mp4", "sub/c.mp4"]
LABELS = [7, 0, 3]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the files of `NAMES`, which need not be videos."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def table(path: Path | str, **options: object) -> FileTable:
    return read_source(SourceConfig(path=str(path), **{"fps": 4, **options}))


def rows(read: FileTable) -> list[tuple[str, int | None]]:
    return [(read[index].path, read[index].label) for index in range(len(read))]


def write_list(folder: Path, kind: str) -> Path:
    """One and the same list in one of the formats."""
    pairs = list(zip(NAMES, LABELS, strict=True))
    path = folder / f"list.{kind.partition('-')[0]}"
    if kind == "csv-header":
        lines = ["label,path,seconds", *(f'{label},"{name}",1.5' for name, label in pairs)]
    elif kind == "tsv-header":
        lines = ["path\tlabel", *(f"{name}\t{label}" for name, label in pairs)]
    elif kind in ("csv-published", "txt-published"):
        lines = [f"{name} {label}" for name, label in pairs]
    elif kind == "csv-colons":
        lines = [f"{name}::{label}" for name, label in pairs]
    elif kind == "jsonl":
        lines = [json.dumps({"path": name, "label": label, "fps": 3}) for name, label in pairs]
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pyarrow.table({"path": NAMES, "label": LABELS}), path
        )
        return path
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "csv-header",
        "tsv-header",
        "csv-published",
        "csv-colons",
        "txt-published",
        "jsonl",
        "parquet",
    ],
)
def test_every_format_gives_the_same_table(files: Path, kind: str) -> None:
    expected = [(str(files / name), label) for name, label in zip(NAMES, LABELS, strict=True)]
    read = table(write_list(files, kind))
    assert rows(read) == expected
    labels = read.labels
    assert labels is not None and labels.tolist() == LABELS


def test_lists_without_labels(files: Path) -> None:
    plain = files / "plain.txt"
    plain.write_text("\n".join(NAMES))
    named = files / "names.npy"
    np.save(named, np.array(NAMES))
    header = files / "one.csv"
    header.write_text('path\n"b 1.mp4"\n"a,2.mp4"\nsub/c.mp4\n')
    for path in (plain, named, header):
        assert rows(table(path)) == [(str(files / name), None) for name in NAMES]
        assert table(path).labels is None


def test_absolute_paths_stay_and_text_labels_are_numbered(files: Path) -> None:
    path = files / "list.csv"
    path.write_text(f"path,label\n{files / 'b 1.mp4'},walk\nsub/c.mp4,jump\n")
    read = table(path)
    assert rows(read) == [(str(files / "b 1.mp4"), 1), (str(files / "sub/c.mp4"), 0)]
    assert read.class_names == ("jump", "walk")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "file,class\nb 1.mp4,3\n", "no column 'path'. Found: file, class. Allowed"),
        ("l.csv", "path,Labels\nb 1.mp4,3\n", "no column 'label'. Found: path, Labels"),
        ("l.csv", "path,label\nb 1.mp4,3,4\n", "line 2: 3 fields, the header has 2"),
        ("l.csv", "b 1.mp4 3\nsub/c.mp4\n", "line 2: 'sub/c.mp4' is no 'path label'"),
        ("l.csv", "path,label\nb 1.mp4,\n", "a label is empty"),
        ("l.jsonl", '{"video": "b 1.mp4"}\n', "line 1 has no column 'path'. Found: video"),
        ("l.jsonl", '{"path": "b 1.mp4"}\n[1]\n', "line 2: no JSON object, got list"),
        ("l.jsonl", "{path: 1}\n", "line 1: no JSON object"),
        ("l.jsonl", '{"path": 3}\n', "row 1: the path must be text"),
        ("l.jsonl", '{"path": "b 1.mp4", "label": 1.5}\n', "a label is an integer or text"),
        ("l.jsonl", '{"path": "b 1.mp4", "label": 1}\n{"path": "x"}\n', "line 2: 'label' is miss"),
        ("l.jsonl", '{"path":"b 1.mp4","label":1}\n{"path":"x","label":"a"}\n', "another kind"),
        ("l.txt", "b 1.mp4\nsub/c.mp4 3\n", "of another kind than those before"),
        ("l.parquet", "no parquet", "cannot be read as Parquet"),
        ("l.npy", "no array", "is no plain array of text"),
        ("l.jsonl", "[" * 100_000, "line 1: no JSON object"),
        ("l.csv", "path,label\nb 1.mp4," + "9" * 30 + "\n", None),
        ("l.jsonl", '{"path": "b 1.mp4", "label": ' + "9" * 30 + "}\n", "an integer or text"),
        ("l.xyz", "b 1.mp4", "unknown kind \\(.xyz\\). Allowed: a folder, a list"),
    ],
)
def test_malformed_lists_are_named(files: Path, name: str, text: str, message: str | None) -> None:
    path = files / name
    path.write_text(text)
    if message is None:  # too long for a number: the name of a class
        assert table(path).class_names == ("9" * 30,)
        return
    with pytest.raises(ListError, match=message):
        table(path)


def test_damaged_lists_are_named_errors_whatever_is_damaged(files: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(files / "list.npy", np.array(NAMES))
    lists = [write_list(files, kind) for kind in ("csv-header", "jsonl", "parquet")]
    for good in (*lists, files / "list.npy"):
        for _ in range(80):
            data = bytearray(good.read_bytes())
            for place in rng.integers(0, len(data), 2):
                data[place] = rng.integers(0, 256)
            bad = files / f"bad{good.suffix}"
            bad.write_bytes(bytes(data))
            with contextlib.suppress(DataError):  # anything else is raised
                table(bad)


def test_other_column_names_are_asked_for(files: Path) -> None:
    path = files / "list.csv"
    path.write_text('file,class\n"b 1.mp4",3\n')
    assert rows(table(path, path_column="file", label_column="class")) == [
        (str(files / "b 1.mp4"), 3)
    ]
    with pytest.raises(ListError, match="no column 'kind'"):
        table(path, path_column="file", label_column="kind")


def test_pickled_lists_are_refused(files: Path) -> None:
    path = files / "list.npy"
    np.save(path, np.array(NAMES, dtype=object), allow_pickle=True)
    with pytest.raises(ListError, match="could run code"):
        table(path)
    np.save(path, np.zeros(3))
    with pytest.raises(ListError, match="must hold one row of text, got float64"):
        table(path)


def test_empty_and_missing(files: Path) -> None:
    for name, text in (("l.csv", "path,label\n"), ("l.txt", "\n"), ("l.jsonl", "")):
        (files / name).write_text(text)
        with pytest.raises(DataError, match="is empty"):
            table(files / name)
    with pytest.raises(DataNotFoundError, match="There is nothing at"):
        table(files / "none.csv")
    (files / "gone.txt").write_text("x.mp4\ny.mp4\n")
    with pytest.raises(DataNotFoundError, match=r"None of 2 files tried .*x\.mp4. Relative paths"):
        table(files / "gone.txt")
    (files / "some.txt").write_text("x.mp4\nb 1.mp4\n")  # the missing one is found in its turn
    assert len(table(files / "some.txt")) == 2


def test_wrong_columns_are_said_once_and_bytes_are_escaped(files: Path) -> None:
    path = files / "list.csv"
    path.write_text("paths,class\nb 1.mp4,3\n")
    with pytest.raises(ListError) as caught:
        table(path)
    assert str(caught.value).count("Allowed") == 1
    assert "Did you mean 'paths'?" in str(caught.value)
    for content in (b"\x1b[2J\x07\xff\xfe,\x02\n", b"\x00\x00\x00\x20ftypisom\x1b\xff"):
        path.write_bytes(content)
        with pytest.raises(ListError) as caught:
            table(path)
        assert str(caught.value).isprintable()
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        table(path)


def test_a_line_that_is_a_path_as_a_whole_has_no_label(files: Path) -> None:
    (files / "frames 12").mkdir()
    path = files / "list.txt"
    path.write_text("frames 12\n")
    assert rows(table(path)) == [(str(files / "frames 12"), None)]
    path.write_text("b 1.mp4 12\n")
    assert rows(table(path)) == [(str(files / "b 1.mp4"), 12)]


# ---- folders -------------------------------------------------------------------------------


def test_a_folder_is_searched_in_natural_order(tmp_path: Path) -> None:
    for name in ("v10.mp4", "v2.MP4", ".hidden.mp4", "notes.txt", "z/p.jpg", "a/c.npy", "a/10.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "z" / "loop").symlink_to(tmp_path)
    expected = ["v2.MP4", "v10.mp4", "a/10.mkv", "a/c.npy", "z/p.jpg"]
    assert [path for path, _ in rows(table(tmp_path))] == [str(tmp_path / n) for n in expected]
    images = table(tmp_path, kind="image", fps=None)
    assert [path for path, _ in rows(images)] == [str(tmp_path / "z/p.jpg")]
    pictures = table(tmp_path, kind="picture_folder")
    assert [path for path, _ in rows(pictures)] == [str(tmp_path / "z")]


def test_a_folder_without_such_files_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="they are empty"):
        table(tmp_path)
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(DataError, match="only 2 x .txt"):
        table(tmp_path)


def test_one_file_is_a_source(files: Path) -> None:
    assert rows(table(files / "b 1.mp4")) == [(str(files / "b 1.mp4"), None)]


def test_natural_order() -> None:
    names = ["clip10", "Clip2", "clip2", "clip1b", "clip"]
    assert sorted(names, key=natural) == ["clip", "clip1b", "Clip2", "clip2", "clip10"]


def test_ranges_of_shards() -> None:
    assert expanded("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expanded("{0..1}/{0..1}.tar") == ["0/0.tar", "0/1.tar", "1/0.tar", "1/1.tar"]
    with pytest.raises(ListError, match="must count up"):
        expanded("a-{5..4}.tar")
    with pytest.raises(ListError, match="must count up"):
        expanded("a-{0..99999999999}.tar")


# ---- memory --------------------------------------------------------------------------------


def test_a_long_list_takes_little_more_than_its_text(files: Path) -> None:
    path = files / "long.txt"
    count, name = 100_000, "sub/c.mp4"
    path.write_text(f"{name}\n" * count)
    tracemalloc.start()
    read = table(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read) == count
    # Text, its end and a label: 9 + 8 + 8 bytes, and room to grow.
    assert held < count * 25 * 1.3
    assert peak < count * 25 * 1.3 + 2_000_000


def test_the_fingerprint_follows_names_and_order_only(files: Path) -> None:
    def written(name: str, text: str) -> str:
        (files / name).write_text(text)
        return table(files / name).fingerprint()

    base = written("1.csv", 'path,label\nsub/c.mp4,1\n"a,2.mp4",2\n')
    assert written("2.csv", 'path,label\nsub/c.mp4,7\n"a,2.mp4",2\n') == base
    assert written("3.csv", 'path,label\n"a,2.mp4",2\nsub/c.mp4,1\n') != base
    assert TextColumn(["ab", "c"]).fingerprint() != TextColumn(["a", "bc"]).fingerprint()


def test_names_that_are_no_text_keep_their_bytes() -> None:
    odd = os.fsdecode(b"\xff\xfe.mp4")
    column = TextColumn(["a", "", odd, "ü"])
    assert [column[index] for index in range(4)] == ["a", "", odd, "ü"]


def test_a_folder_of_shards_and_files_is_refused_and_neither_is_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        shard.addfile(tarfile.TarInfo("inside.mp4"))
    assert [read.member for read in [table(tmp_path)[0]]] == ["inside.mp4"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 shards \(a.tar\) beside 1 files.*two sources"):
        table(tmp_path)


def test_a_subfolder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(path: str) -> object:  # permissions do not stop the super-user
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match="closed cannot be read .Permission denied"):
        table(tmp_path)
