"""Rows survive the way to a file and back, in three formats, and damaged files are noticed."""

import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from vjepa2.errors import InputError, MissingExtraError, OutputError, ShapeError
from vjepa2.features import header
from vjepa2.features.rows import ClipFeatures
from vjepa2.features.store import FORMATS, can_replace, read_header, read_rows, write_rows
from vjepa2.shapes import TokenGrid

SETTINGS = {"model": "tiny", "pool": "mean", "sampling": {"num_frames": 8}, "dtype": "float32"}
FACTS = ("source", "stamp", "model", "grid", "pts_seconds", "t_start", "t_end", "sees_until")


def row(number: int = 0, *, tokens: torch.dtype | None = None, **changes: Any) -> ClipFeatures:
    values: dict[str, Any] = {
        "source": f"folder/video {number}.mp4",
        "embedding": torch.randn(6),
        "tokens": None if tokens is None else torch.randn(8, 6).to(tokens),
        "grid": TokenGrid(2, 2, 2),
        "pts_seconds": (0.1, 1 / 3),
        "t_start": 0.1,
        "t_end": 0.5,
        "sees_until": 0.5,
        "model": "tiny",
        "stamp": "12-34",
    }
    return ClipFeatures(**(values | changes))


@pytest.fixture(params=sorted(FORMATS))
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_pooled_vectors_and_facts_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    rows = [row(0), row(1, pts_seconds=None, t_start=None, t_end=None, sees_until=None), row(2)]
    write_rows(tmp_path / f"a{suffix}", rows, settings=SETTINGS)
    got, settings = read_rows(tmp_path / f"a{suffix}")
    assert settings == SETTINGS
    assert len(got) == 3
    for one, wanted in zip(got, rows, strict=True):
        assert torch.equal(one.embedding, wanted.embedding)
        assert one.tokens is None
        for name in FACTS:
            assert getattr(one, name) == getattr(wanted, name), name
        assert isinstance(one.grid, TokenGrid)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tokens_come_back(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    rows = [row(0, tokens=dtype), row(1, tokens=dtype)]
    rows = [
        ClipFeatures(
            **{name: getattr(r, name) for name in FACTS},
            tokens=r.tokens,
            embedding=r.tokens.mean(0, dtype=torch.float32),
        )
        for r in rows
        if r.tokens is not None
    ]
    write_rows(tmp_path / f"a{suffix}", rows, settings=SETTINGS)
    got, _ = read_rows(tmp_path / f"a{suffix}")
    for one, wanted in zip(got, rows, strict=True):
        assert one.tokens is not None and wanted.tokens is not None
        assert torch.equal(one.tokens.float(), wanted.tokens.float())
        torch.testing.assert_close(one.embedding, wanted.embedding)


def test_other_programs_read_the_files(tmp_path: Path) -> None:
    rows = [row(0, tokens=torch.float32), row(1, tokens=torch.float32)]
    embedding = torch.stack([r.embedding for r in rows]).numpy()
    for suffix in FORMATS:
        write_rows(tmp_path / f"a{suffix}", rows, settings=SETTINGS)
    plain = safetensors.torch.load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(plain["embedding"].numpy(), embedding)
    assert plain["tokens"].shape == (2, 8, 6)
    assert np.load(tmp_path / "a.npy").shape == (2, 8, 6)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column("source").to_pylist() == [r.source for r in rows]
    np.testing.assert_array_equal(np.array(table.column("embedding").to_pylist()), embedding)
    assert np.array(table.column("tokens").to_pylist()).shape == (2, 8, 6)
    assert table.column("grid").to_pylist() == [[2, 2, 2]] * 2
    assert table.column("t_end").to_pylist() == [0.5, 0.5]


def test_names_that_are_no_text_survive(tmp_path: Path, suffix: str) -> None:
    source = os.fsdecode(b"stra\xdfe/\xf0\x9f\x8e\xac clip.mp4")
    write_rows(tmp_path / f"a{suffix}", [row(source=source)], settings=SETTINGS)
    [got], _ = read_rows(tmp_path / f"a{suffix}")
    assert got.source == source


def test_the_header_is_read_without_the_arrays(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / f"a{suffix}", [row(0), row(1)], settings=SETTINGS)
    found = read_header(tmp_path / f"a{suffix}")
    assert found is not None
    assert found.settings == SETTINGS
    assert [facts["source"] for facts in found.rows] == [
        "folder/video 0.mp4",
        "folder/video 1.mp4",
    ]
    assert read_header(tmp_path / f"b{suffix}") is None


def test_damaged_and_foreign_files_are_noticed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_rows(path, [row(0), row(1)], settings=SETTINGS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert read_header(path) is None
    with pytest.raises(InputError, match="damaged or no feature file"):
        read_rows(path)
    path.write_bytes(b"")
    assert read_header(path) is None
    foreign = tmp_path / f"foreign{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file({"embedding": torch.zeros(1, 6)}, foreign)
    elif suffix == ".npy":
        np.save(foreign, np.zeros((1, 6)))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"embedding": [[0.0]]}), foreign)
    assert read_header(foreign) is None


def test_an_array_and_a_description_that_do_not_belong_together_are_noticed(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.npy", [row(0)], settings=SETTINGS)
    write_rows(tmp_path / "b.npy", [row(1)], settings=SETTINGS)
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    assert read_header(tmp_path / "a.npy") is None
    description = json.loads((tmp_path / "b.npy.json").read_text())
    assert description["rows"][0]["source"] == "folder/video 1.mp4"


def broken_rows(name: str, value: object) -> Any:
    """Changes a field of the first row; `...` removes it."""

    def change(values: dict[str, Any]) -> None:
        if value is ...:
            del values["rows"][0][name]
        else:
            values["rows"][0][name] = value

    return change


DAMAGES = [
    lambda values: values.pop("settings"),
    lambda values: values.update(settings=[]),
    lambda values: values.pop("rows"),
    lambda values: values.update(rows=5),
    lambda values: values.update(rows={}),
    lambda values: values.update(rows=[]),
    lambda values: values.update(rows=[{}]),
    lambda values: values.update(rows=[3]),
    lambda values: values["rows"].append(values["rows"][0]),
    *(
        broken_rows(name, value)
        for name in ("source", "stamp", "model")
        for value in (..., None, 3)
    ),
    *(broken_rows(name, value) for name in ("t_start", "t_end") for value in (..., "1", True, [])),
    *(broken_rows("grid", value) for value in (..., None, 5, [2, 2], [2, 2, -2], [2, 2, "2"])),
    *(broken_rows("grid", value) for value in ([2, 2, 2.0], [2, 2, True], [2, 2, 10**30])),
    *(broken_rows("pts_seconds", value) for value in (..., 5, ["a"], "ab", [None])),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damaged_descriptions_are_named(
    tmp_path: Path, suffix: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    original = header.header_text

    def damaged(*arguments: Any) -> str:
        values = json.loads(original(*arguments))
        DAMAGES[number](values)
        return json.dumps(values)

    for module in ("store", "parquet"):
        monkeypatch.setattr(f"vjepa2.features.{module}.header_text", damaged)
    write_rows(path, [row(0)], settings=SETTINGS)
    assert read_header(path) is None and not can_replace(path)
    with pytest.raises(InputError, match="damaged or no feature file"):
        read_rows(path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[]", "3", "null", "", "{"])
def test_descriptions_that_are_no_objects_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.npy"
    write_rows(path, [row(0)], settings=SETTINGS)
    (tmp_path / "a.npy.json").write_text(text)
    with pytest.raises(InputError, match="damaged or no feature file"):
        read_rows(path)


def test_arrays_that_are_not_those_described_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    text = header.header_text([row(0)], SETTINGS)
    for tensors in (
        {"other": torch.zeros(1, 6)},
        {"embedding": torch.tensor(0.0)},
        {"embedding": torch.zeros(1)},
        {"embedding": torch.zeros(2, 6)},
        {"embedding": torch.zeros(1, 6), "tokens": torch.zeros(8)},
        {"embedding": torch.zeros(1, 6), "tokens": torch.zeros(1, 7, 6)},
        {"embedding": torch.zeros(1, 6), "tokens": torch.zeros(1, 8, 5)},
        {"embedding": torch.zeros(1, 6), "tokens": torch.zeros(2, 8, 6)},
    ):
        safetensors.torch.save_file(tensors, path, metadata={header.HEADER_KEY: text})
        with pytest.raises(InputError, match="damaged or no feature file"):
            read_rows(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"other": [0.0]},
        {"embedding": [0.0]},
        {"embedding": [["a"]]},
        {"embedding": [[0.0]]},  # lists of any length
        {"embedding": pyarrow.array([None], type=pyarrow.list_(pyarrow.float32(), 2))},
        {
            "embedding": pyarrow.array([[0, 1]], type=pyarrow.list_(pyarrow.float32(), 2)),
            "tokens": [[[0.0]]],
        },
        {
            "embedding": pyarrow.array([[0, 1]], type=pyarrow.list_(pyarrow.float32(), 2)),
            "tokens": pyarrow.array(
                [[[0, 1]]], type=pyarrow.list_(pyarrow.list_(pyarrow.float32(), 2))
            ),
        },
    ],
)
def test_columns_that_are_not_those_described_are_named(tmp_path: Path, columns: Any) -> None:
    text = header.header_text([row(0)], SETTINGS)
    table = pyarrow.table(columns).replace_schema_metadata({header.HEADER_KEY: text})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="damaged or no feature file"):
        read_rows(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "array", [np.zeros(1), np.zeros((1, 8, 6, 1)), np.zeros((1, 6), int), np.zeros((1, 6), ">f4")]
)
def test_arrays_of_other_kinds_are_named(tmp_path: Path, array: np.ndarray) -> None:
    path, beside = tmp_path / "a.npy", tmp_path / "a.npy.json"
    write_rows(path, [row(0)], settings=SETTINGS)
    np.save(path, array)
    values = json.loads(beside.read_text()) | {"crc32": zlib.crc32(path.read_bytes())}
    beside.write_text(json.dumps(values))
    with pytest.raises(InputError, match="damaged or no feature file"):
        read_rows(path)


def test_what_may_be_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert can_replace(path)
    write_rows(path, [row(0)], settings=SETTINGS)
    assert can_replace(path)
    path.unlink()
    assert can_replace(path)  # a description alone is still ours
    (tmp_path / "a.npy.json").write_text("{}")
    assert can_replace(path) == (suffix != ".npy")
    path.write_bytes(b"mine")
    assert not can_replace(path)
    link = tmp_path / f"link{suffix}"
    link.symlink_to(tmp_path / "nowhere")
    assert not can_replace(link)


def test_tokens_and_grid_agree(tmp_path: Path) -> None:
    wrong = row(0, tokens=torch.float32, grid=TokenGrid(1, 2, 2))
    with pytest.raises(ShapeError, match=r"grid of \(1, 2, 2\) has 4 tokens, got 8"):
        write_rows(tmp_path / "a.npy", [wrong], settings=SETTINGS)


def test_a_later_format_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write_rows(path, [row(0)], settings=SETTINGS)
    beside = tmp_path / "a.npy.json"
    beside.write_text(beside.read_text().replace('"version": 1', '"version": 2'))
    assert read_header(path) is None


def test_rows_of_different_shapes_do_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"one shape, got embedding \(6,\) .* give a folder"):
        write_rows(tmp_path / "a.npy", [row(0), row(1, tokens=torch.float32)], settings=SETTINGS)
    with pytest.raises(ShapeError, match="got none"):
        write_rows(tmp_path / "a.npy", [], settings=SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_could_not_be_read_back_is_not_written(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header, "MAX_HEADER_BYTES", 100)
    with pytest.raises(OutputError, match="1 rows are too many for one file .* give a folder"):
        write_rows(tmp_path / f"a{suffix}", [row(0)], settings=SETTINGS)
    assert not (tmp_path / f"a{suffix}").exists()


def test_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"end in \.safetensors, \.npy, \.parquet"):
        write_rows(tmp_path / "a.csv", [row(0)], settings=SETTINGS)


def test_parquet_without_its_package_gives_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[parquet\]'"):
        write_rows(tmp_path / "a.parquet", [row(0)], settings=SETTINGS)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    write_rows(path, [row(0)], settings=SETTINGS)
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("safetensors.torch.save_file", "numpy.save", "pyarrow.parquet.write_table"):
        monkeypatch.setattr(name, full)
    with pytest.raises(OutputError, match="No space left"):
        write_rows(path, [row(1)], settings=SETTINGS)
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_arguments_of_a_wrong_kind(tmp_path: Path) -> None:
    rows = [row()]
    for call in (read_rows, read_header, lambda value: write_rows(value, rows, settings={})):
        for path in (None, 3, b"a.npy", ["a.npy"], "a\0.npy", object()):
            with pytest.raises(InputError, match="path "):
                call(path)
    for wrong in (None, 3, ["a"], object(), [None]):
        with pytest.raises(InputError, match="ow"):
            write_rows(tmp_path / "a.npy", wrong, settings={})
    for settings in (None, [1], {"a": object()}, {"a": float("nan")}, {(1, 2): 3}):
        with pytest.raises(InputError, match="settings must be"):
            write_rows(tmp_path / "a.npy", rows, settings=settings)
    assert list(tmp_path.iterdir()) == []
