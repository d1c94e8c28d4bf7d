"""Embedding many files: bad ones, interruptions, repetitions and places that cannot be written."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa2 import embed
from vjepa2.errors import ConfigError, InputError, OutputError
from vjepa2.features import outputs
from vjepa2.features.clips import source_identity
from vjepa2.features.embed import Embedder, make_embedder
from vjepa2.features.embed_files import EmbedInterrupted, EmbedReport, embed_files
from vjepa2.features.outputs import plain_name, read_target, source_stamp
from vjepa2.features.store import read_header, read_rows, write_rows
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.video.writer import H264, write_video


@pytest.fixture
def embedder(model_folder: Path) -> Embedder:
    return make_embedder(model_folder)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for every clip that goes through the encoder."""
    calls: list[int] = []
    original = VJEPA2Model.get_vision_features

    def counting(self: VJEPA2Model, pixels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return original(self, pixels)

    monkeypatch.setattr(VJEPA2Model, "get_vision_features", counting)
    return calls


def run(files: Any, out: Path | str, embedder: Embedder, **options: Any) -> EmbedReport:
    return embed_files(files, out, embedder=embedder, quiet=True, **options)


OUTS = ["all.safetensors", "all.npy", "all.parquet", "folder"]


# -- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTS)
def test_files_hold_what_embed_returns(
    videos: list[Path], embedder: Embedder, tmp_path: Path, out: str
) -> None:
    report = run(videos, tmp_path / out, embedder)
    assert report.embedded == tuple(map(str, videos)) and report.num_rows == 3
    assert report.failed == report.reused == ()
    if out == "folder":
        rows = [
            read_rows(tmp_path / out / f"video{number}.safetensors")[0][0] for number in range(3)
        ]
    else:
        rows, settings = read_rows(tmp_path / out)
        assert settings == report.settings
    for row, wanted in zip(rows, embed(videos, model=embedder.model.network), strict=True):
        assert torch.equal(row.embedding, wanted.embedding)
        assert (row.source, row.t_end) == (wanted.source, wanted.t_end)
        assert row.stamp == source_stamp(row.source) != ""


@pytest.mark.parametrize("file_format", ["safetensors", "npy", "parquet"])
def test_a_folder_holds_tokens_and_a_manifest(
    videos: list[Path], bad_video: Path, embedder: Embedder, tmp_path: Path, file_format: str
) -> None:
    embedder = make_embedder(embedder.model.network, pool="tokens", num_clips=2, num_frames=2)
    out = tmp_path / "features"
    run([videos[0], bad_video], out, embedder, file_format=file_format)
    rows, _ = read_rows(out / f"video0.{file_format}")
    assert [row.tokens.shape for row in rows if row.tokens is not None] == [(4, 24)] * 2
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"] == json.loads(json.dumps(embedder.settings()))
    [entry] = manifest["videos"]
    assert entry["source"] == str(videos[0]) and entry["file"] == f"video0.{file_format}"
    assert [clip["t_start"] for clip in entry["clips"]] == [row.t_start for row in rows]
    [failure] = manifest["failed"]
    assert failure["source"] == str(bad_video) and failure["error"] == "VideoOpenError"


@pytest.mark.parametrize("out", OUTS)
def test_a_bad_file_in_the_middle_stops_nothing(
    videos: list[Path], bad_video: Path, embedder: Embedder, tmp_path: Path, out: str
) -> None:
    missing = tmp_path / "missing.mp4"
    files = [videos[0], bad_video, videos[1], missing, videos[2]]
    report = run(files, tmp_path / out, embedder)
    assert report.embedded == tuple(map(str, videos))
    assert [failure.error for failure in report.failed] == [
        "VideoOpenError",
        "VideoNotFoundError",
    ]
    assert str(report).startswith("3 of 5 videos embedded") and "2 failed" in str(report)
    json.dumps(report.as_dict())


def test_nothing_but_bad_files_writes_no_features(
    bad_video: Path, embedder: Embedder, tmp_path: Path
) -> None:
    report = run([bad_video], tmp_path / "all.npy", embedder)
    assert not report.embedded and len(report.failed) == 1
    assert not (tmp_path / "all.npy").exists()
    assert report.out is None and report.as_dict()["out"] is None
    assert str(report).endswith(" s, 1 failed.")


def test_a_video_that_fails_midway_leaves_no_row(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int]
) -> None:
    """Only the last frame is damaged: the first clip can be read, the second cannot."""
    damaged = write_video(
        tmp_path / "damaged.mp4",
        torch.randint(0, 256, (4, 3, 48, 64), dtype=torch.uint8),
        codec=H264(keyframe_interval=1),
    )
    data = damaged.read_bytes()
    index = data.index(b"moov") - 4  # the table of contents follows the frames
    damaged.write_bytes(data[: index - 1000] + bytes(1000) + data[index:])
    embedder = make_embedder(embedder.model.network, num_clips=2, num_frames=2)
    report = run([damaged, videos[1]], tmp_path / "all.npy", embedder)
    assert len(encoded) == 3
    assert [failure.error for failure in report.failed] == ["VideoDecodeError"]
    assert report.embedded == (str(videos[1]),) and report.num_rows == 2
    assert [facts["source"] for facts in header_rows(tmp_path / "all.npy")] == [str(videos[1])] * 2


def header_rows(path: Path) -> list[dict[str, Any]]:
    header = read_header(path)
    assert header is not None
    return header.rows


# -- doing it again -------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTS)
def test_what_is_done_is_not_done_again(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int], out: str
) -> None:
    run(videos[:2], tmp_path / out, embedder)
    assert len(encoded) == 2
    report = run(videos, tmp_path / out, embedder)
    assert len(encoded) == 3
    assert report.reused == tuple(map(str, videos[:2])) and report.embedded == (str(videos[2]),)
    assert "2 were done before" in str(report)
    again = run(videos, tmp_path / out, embedder)
    assert len(encoded) == 3 and len(again.reused) == 3
    run(videos, tmp_path / out, embedder, overwrite=True)
    assert len(encoded) == 6


@pytest.mark.parametrize("out", OUTS)
def test_other_settings_do_it_again(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int], out: str
) -> None:
    run(videos[:2], tmp_path / out, embedder)
    network = embedder.model.network
    for number, changed in enumerate(
        [
            make_embedder(network, num_frames=4),
            make_embedder(network, sampling="consecutive"),
            make_embedder(network, num_clips=2),
        ]
    ):
        encoded.clear()
        report = run(videos[:2], tmp_path / out, changed)
        assert len(report.embedded) == 2 and len(encoded) == (4 if number == 2 else 2)
    with torch.no_grad():
        embedder.model.base.encoder.layernorm.bias.add_(1)
    assert len(run(videos[:2], tmp_path / out, changed).embedded) == 2  # other weights


@pytest.mark.parametrize("out", OUTS)
def test_a_changed_file_is_done_again(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int], out: str
) -> None:
    run(videos, tmp_path / out, embedder)
    before = read_any(tmp_path / out, 1)
    shutil.copy(videos[2], videos[1])
    report = run(videos, tmp_path / out, embedder)
    assert report.embedded == (str(videos[1]),) and len(encoded) == 4
    after = read_any(tmp_path / out, 1)
    assert not torch.equal(before, after)
    assert torch.equal(after, read_any(tmp_path / out, 2))


def read_any(out: Path, number: int) -> torch.Tensor:
    if out.is_dir():
        return read_rows(out / f"video{number}.safetensors")[0][0].embedding
    return read_rows(out)[0][number].embedding


@pytest.mark.parametrize("out", ["all.npy", "folder"])
def test_a_file_that_became_bad_loses_its_row(
    videos: list[Path], embedder: Embedder, tmp_path: Path, out: str
) -> None:
    run(videos, tmp_path / out, embedder)
    videos[1].write_bytes(b"broken now")
    report = run(videos, tmp_path / out, embedder)
    assert len(report.failed) == 1 and len(report.reused) == 2
    if out == "folder":
        manifest = json.loads((tmp_path / out / "manifest.json").read_text())
        assert [entry["source"] for entry in manifest["videos"]] == [str(videos[0]), str(videos[2])]
    else:
        assert [facts["source"] for facts in header_rows(tmp_path / out)] == [
            str(videos[0]),
            str(videos[2]),
        ]


def test_a_folder_grows_and_its_manifest_with_it(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    run(videos[:1], tmp_path / "out", embedder)
    run(videos[1:], tmp_path / "out", embedder)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["source"] for entry in manifest["videos"]] == list(map(str, videos))
    (tmp_path / "out" / "video0.safetensors").unlink()
    run(videos[1:], tmp_path / "out", embedder)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["source"] for entry in manifest["videos"]] == list(map(str, videos[1:]))


def test_the_same_file_twice_is_embedded_once(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int]
) -> None:
    report = run([videos[0], str(videos[0])], tmp_path / "all.npy", embedder)
    assert len(encoded) == report.num_rows == 1


# -- interruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTS)
def test_ctrl_c_keeps_what_is_done(
    videos: list[Path],
    embedder: Embedder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    out: str,
) -> None:
    original = VJEPA2Model.get_vision_features
    calls: list[int] = []

    def interrupted(self: VJEPA2Model, pixels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, pixels)

    monkeypatch.setattr(VJEPA2Model, "get_vision_features", interrupted)
    with pytest.raises(EmbedInterrupted, match="1 of 3 videos are done .* goes on") as caught:
        run(videos, tmp_path / out, embedder)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.report.embedded == (str(videos[0]),)
    names = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert names == []
    report = run(videos, tmp_path / out, embedder)
    assert report.reused == (str(videos[0]),) and len(report.embedded) == 2


def test_one_file_is_written_now_and_then(
    videos: list[Path], embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a killed process loses a minute and not a night."""
    counts: list[int] = []

    def counting(path: Path, rows: list[Any], *, settings: Any) -> None:
        counts.append(len(rows))
        write_rows(path, rows, settings=settings)

    monkeypatch.setattr(outputs, "write_rows", counting)
    run(videos, tmp_path / "late.npy", embedder)
    assert counts == [3]
    counts.clear()
    monkeypatch.setattr(outputs, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(outputs, "WRITING_SHARE", float("inf"))
    run(videos, tmp_path / "often.npy", embedder)
    assert counts == [1, 2, 3]


# -- places and names -----------------------------------------------------------------------------


def test_targets(tmp_path: Path) -> None:
    assert not read_target("a/b.safetensors").is_folder
    assert not read_target("a/B.NPY").is_folder
    for folder in ("out", "out/", "out.d/", str(tmp_path)):
        target = read_target(folder)
        assert target.is_folder and target.suffix == ".safetensors"
    assert read_target("out", file_format="npy").suffix == ".npy"
    assert read_target("a.npy", file_format="npy").suffix == ".npy"
    with pytest.raises(ConfigError, match=r"end the name in \.safetensors.* a folder write a.csv/"):
        read_target("a.csv")
    with pytest.raises(ConfigError, match="Format 'numpy' does not exist. Did you mean 'npy'"):
        read_target("out", file_format="numpy")
    with pytest.raises(ConfigError, match="is no npy file"):
        read_target("a.parquet", file_format="npy")


def test_videos_of_one_name_get_files_of_their_own(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    twins = [tmp_path / folder / "clip.mp4" for folder in ("a", "b", "c")]
    for twin, video in zip(twins, videos, strict=True):
        twin.parent.mkdir()
        shutil.copy(video, twin)
    run(twins[:2], tmp_path / "out", embedder)
    run([twins[2]], tmp_path / "out", embedder)  # must not replace the first
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(names) == 3 and "clip.safetensors" in names
    found = {header_rows(tmp_path / "out" / name)[0]["source"] for name in names}
    assert found == set(map(str, twins))
    report = run(list(reversed(twins)), tmp_path / "out", embedder)
    assert len(report.reused) == 3  # each finds its own file again, in any order


def test_names_that_differ_in_case_only_do_not_meet(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    twins = [tmp_path / "v" / name for name in ("Clip.mp4", "clip.mp4")]
    twins[0].parent.mkdir()
    for twin, video in zip(twins, videos[:2], strict=True):
        shutil.copy(video, twin)
    run(twins, tmp_path / "out", embedder)
    names = {path.name.casefold() for path in (tmp_path / "out").glob("*.safetensors")}
    assert len(names) == 2


def test_strange_names(videos: list[Path], embedder: Embedder, tmp_path: Path) -> None:
    names = [
        "with space.mp4",
        "Größe 日本 \N{CLAPPER BOARD}.mp4",
        "new\nline.mp4",
        os.fsdecode(b"stra\xdfe.mp4"),
        "-dash.mp4",
        "no_suffix",
        "manifest.mp4",
    ]
    paths = [tmp_path / "strange" / name for name in names]
    paths[0].parent.mkdir()
    for path in paths:
        shutil.copy(videos[0], path)
    for out in ("folder", "all.safetensors", "all.parquet", "all.npy"):
        report = run(paths, tmp_path / out, embedder)
        assert len(report.embedded) == len(names), report.failed
        assert len(run(paths, tmp_path / out, embedder).reused) == len(names)
    assert (tmp_path / "folder" / "with space.safetensors").is_file()
    assert (tmp_path / "folder" / "manifest.json").is_file()


def test_plain_names() -> None:
    assert plain_name("a/b/clip.v2.mp4") == "clip.v2"
    assert plain_name("https://host/dir/film.webm?x=1&y=2") == "film"
    assert plain_name("https://host/") == "host" or plain_name("https://host/") == "video"
    assert plain_name("a/" + "x" * 300 + ".mp4") == "x" * 60
    assert plain_name("..mp4") not in ("", ".", "..")
    assert "/" not in plain_name("weird:na/me?.mp4") and ":" not in plain_name("we:ird.mp4")


def test_other_peoples_files_are_left_alone(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    own = tmp_path / "all.npy"
    own.write_bytes(b"my own numbers")
    with pytest.raises(OutputError, match="damaged or no feature file.*--overwrite"):
        run(videos, own, embedder)
    assert own.read_bytes() == b"my own numbers"
    run(videos[:2], own, embedder, overwrite=True)
    with pytest.raises(OutputError, match=r"features of 1 other videos \(first: .*video1.mp4\)"):
        run([videos[0], videos[2]], own, embedder)
    assert len(header_rows(own)) == 2
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "video0.safetensors").write_bytes(b"my own tensors")
    run(videos[:1], folder, embedder)
    assert (folder / "video0.safetensors").read_bytes() == b"my own tensors"
    assert len(list(folder.glob("video0-*.safetensors"))) == 1
    run(videos[:1], folder, embedder, overwrite=True)
    assert header_rows(folder / "video0.safetensors")[0]["source"] == str(videos[0])


FOREIGN_LISTS = [
    '{"my": "dataset"}',
    "no json",
    "[" * 200_000,
    "[]",
    '{"version": 1, "vjepa2": "0.1", "settings": {}, "videos": 5}',
    '{"version": 1, "vjepa2": "0.1", "settings": {}, "videos": [{"source": "a", "clips": []}]}',
    '{"version": 1, "vjepa2": "0.1", "settings": {}, "videos": [3]}',
    '{"version": 1, "vjepa2": "0.1", "videos": []}',
]


@pytest.mark.parametrize("text", FOREIGN_LISTS, ids=range(len(FOREIGN_LISTS)))
def test_a_foreign_or_damaged_manifest_is_left_alone(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int], text: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=r"manifest.json exists and is damaged .*--overwrite"):
        run(videos[:1], folder, embedder)
    assert encoded == [] and (folder / "manifest.json").read_text() == text
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    run(videos[:1], folder, embedder, overwrite=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [entry["file"] for entry in manifest["videos"]] == ["video0.safetensors"]


def test_a_foreign_file_beside_an_array_is_left_alone(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    beside = tmp_path / "u.npy.json"
    beside.write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=r"u.npy.json exists and is damaged or no feature file"):
        run(videos[:1], tmp_path / "u.npy", embedder)
    assert beside.read_text() == '{"mine": 1}' and not (tmp_path / "u.npy").exists()
    run(videos[:1], tmp_path / "u.npy", embedder, overwrite=True)
    assert len(header_rows(tmp_path / "u.npy")) == 1
    (tmp_path / "out").mkdir()
    beside = tmp_path / "out" / "video0.npy.json"
    beside.write_text('{"mine": 1}')
    run(videos[:1], tmp_path / "out", embedder, file_format="npy")
    assert beside.read_text() == '{"mine": 1}'
    assert len(list((tmp_path / "out").glob("video0-????????.npy"))) == 1


@pytest.mark.parametrize("out", OUTS)
def test_tokens_are_not_replaced_by_pooled_vectors(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int], out: str
) -> None:
    run(videos[:1], tmp_path / out, make_embedder(embedder.model.network, pool="tokens"))
    encoded.clear()
    with pytest.raises(OutputError, match=r"holds all tokens, which would be lost.*--overwrite"):
        run(videos[:1], tmp_path / out, embedder)
    assert encoded == []
    run(videos[:1], tmp_path / out, embedder, overwrite=True)
    found = tmp_path / out
    rows, _ = read_rows(found / "video0.safetensors" if found.is_dir() else found)
    assert rows[0].tokens is None


@pytest.mark.parametrize("out", ["../all.safetensors", "../all.npy", "../folder"])
def test_the_same_name_in_two_folders_is_two_videos(
    videos: list[Path],
    embedder: Embedder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    out: str,
) -> None:
    twins = [tmp_path / folder / "clip.mp4" for folder in "ab"]
    for twin, video in zip(twins, videos[:2], strict=True):
        twin.parent.mkdir()
        shutil.copy(video, twin)
    monkeypatch.chdir(twins[0].parent)
    assert run(["clip.mp4"], out, embedder).embedded == ("clip.mp4",)  # shown as it was typed
    monkeypatch.chdir(twins[1].parent)
    if out != "../folder":
        with pytest.raises(OutputError, match=r"1 other videos \(first: /.*/a/clip.mp4\)"):
            run(["clip.mp4"], out, embedder)
        assert [facts["source"] for facts in header_rows(Path(out))] == [str(twins[0])]
        return
    run(["clip.mp4"], out, embedder)
    listed = json.loads((tmp_path / "folder" / "manifest.json").read_text())["videos"]
    assert [entry["source"] for entry in listed] == list(map(str, twins))
    for entry, twin in zip(listed, twins, strict=True):
        [row] = read_rows(tmp_path / "folder" / entry["file"])[0]
        assert torch.equal(row.embedding, embed(twin, model=embedder.model.network)[0].embedding)
    # From anywhere, in any spelling, each is found again.
    monkeypatch.chdir(tmp_path)
    assert len(run(["a/clip.mp4", "a/../b/clip.mp4"], "folder", embedder).reused) == 2


def test_one_video_in_two_spellings_is_embedded_once(
    videos: list[Path], embedder: Embedder, tmp_path: Path, encoded: list[int]
) -> None:
    folder = videos[0].parent
    (tmp_path / "link").symlink_to(folder)
    files = [
        videos[0],
        folder / ".." / folder.name / videos[0].name,
        f"{folder}//./{videos[0].name}",
        tmp_path / "link" / videos[0].name,
    ]
    report = run(files, tmp_path / "out", embedder)
    assert len(encoded) == 1 and report.embedded == (str(videos[0]),)
    # A link to a file is a name of its own.
    (folder / "again.mp4").symlink_to(videos[0])
    assert len(run([videos[0], folder / "again.mp4"], tmp_path / "out", embedder).embedded) == 1


@pytest.mark.parametrize("out", ["all.safetensors", "folder"])
def test_files_with_names_as_they_were_typed_are_taken_over(
    videos: list[Path],
    embedder: Embedder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoded: list[int],
    out: str,
) -> None:
    """Feature files held names as typed before they held absolute paths."""
    monkeypatch.chdir(videos[0].parent)
    target = tmp_path / out / "video0.safetensors" if out == "folder" else tmp_path / out
    [row] = embed("video0.mp4", model=embedder.model.network)
    row = replace(row, stamp=source_stamp("video0.mp4"), model=embedder.model.name)
    write_rows(target, [row], settings=embedder.settings())
    encoded.clear()
    assert run(["video0.mp4"], tmp_path / out, embedder).reused == ("video0.mp4",)
    assert encoded == []


def test_identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_identity("a.mp4") == source_identity("./a.mp4") == str(tmp_path / "a.mp4")
    assert source_identity("x/../a.mp4") == str(tmp_path / "a.mp4")
    for text in ("https://host/a/../b.mp4", "", "a\0b/c"):
        assert source_identity(text) == text


def test_places_that_cannot_be_written_are_named(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for out in ("file/out.npy", "file/out"):
        with pytest.raises(OutputError, match="Cannot write .*file.*out"):
            run(videos, tmp_path / out, embedder)


def test_tokens_of_many_videos_need_a_folder(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    tokens = make_embedder(embedder.model.network, pool="tokens")
    with pytest.raises(ConfigError, match="All tokens of 3 videos .* Give a folder: .*all/"):
        run(videos, tmp_path / "all.npy", tokens)
    assert run(videos[:1], tmp_path / "one.npy", tokens).num_rows == 1


def test_no_files_is_an_error(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no files to embed"):
        run([], tmp_path / "all.npy", embedder)


def test_progress_goes_to_stderr(
    videos: list[Path], embedder: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed_files(videos, tmp_path / "all.npy", embedder=embedder)
    captured = capsys.readouterr()
    assert "Embed: 3/3" in captured.err and captured.out == ""
    embed_files(videos[:1], tmp_path / "one.npy", embedder=embedder)  # as `classify_files`
    assert capsys.readouterr().err == ""


class GivesNoPath(os.PathLike[str]):
    def __fspath__(self) -> str:
        return 3  # type: ignore[return-value]


def test_an_address_that_is_none_fails_alone(
    videos: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    report = run(["http://[::1", videos[0]], tmp_path / "out", embedder)
    assert [failure.error for failure in report.failed] == ["VideoOpenError"]
    assert len(report.embedded) == 1


def test_arguments_of_a_wrong_kind(videos: list[Path], embedder: Embedder, tmp_path: Path) -> None:
    out = tmp_path / "features"
    for files in (None, 3, str(videos[0]), videos[0], [3], [None], object()):
        with pytest.raises(InputError, match=r"files must be a list|A file must be a path"):
            embed_files(files, out, embedder=embedder)
    with pytest.raises(InputError, match="gives no path"):
        embed_files([GivesNoPath()], out, embedder=embedder)
    for target in (None, 3, "a\0b", "x" * 300, ["a"], object()):
        with pytest.raises(ConfigError, match="out "):
            embed_files(videos, target, embedder=embedder)
    with pytest.raises(ConfigError, match="embedder must be an Embedder"):
        embed_files(videos, out, embedder=embedder.model)
    for name in ("overwrite", "quiet"):
        for value in (None, 1, "yes", torch.zeros(2)):
            with pytest.raises(ConfigError, match=f"{name} must be True or False"):
                embed_files(videos, out, embedder=embedder, **{name: value})
    assert not out.exists()
