"""The demonstration runs the whole chain, and its page is complete, safe and self-contained."""

import base64
import html.parser
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vjepa2 import classify, embed
from vjepa2.errors import ConfigError, InputError, OutputError, VideoError
from vjepa2.features.demo import DemoResult, make_demo_clip, run_demo
from vjepa2.features.embed import make_embedder
from vjepa2.features.embed_files import embed_files
from vjepa2.features.pictures import overlay
from vjepa2.features.report import write_report
from vjepa2.features.report_page import bars, escape, page, table
from vjepa2.features.store import read_rows
from vjepa2.video.reader import VideoReader
from vjepa2.video.synthetic import MOTION_LABELS


class Page(html.parser.HTMLParser):
    """Collects what a page holds, and checks that every element is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.films: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values["src"] or "")
            assert values["alt"]
        if tag == "video":
            self.films.append(values["src"] or "")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert tag != "script" and not [name for name in values if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def decoded(address: str) -> bytes:
    return base64.b64decode(address.partition("base64,")[2], validate=True)


@pytest.fixture(scope="module")
def result(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo"), model=model_folder, seed=1)


@pytest.fixture(scope="module")
def report(result: DemoResult) -> Path:
    return write_report(result.features_file.parent / "report.html", result)


def test_demo_equals_embed_and_classify(result: DemoResult, model_folder: Path) -> None:
    [row] = embed(result.video, model=model_folder, pool="tokens")
    assert row.tokens is not None and result.row.tokens is not None
    assert torch.equal(result.row.tokens, row.tokens)
    assert result.row.t_end == row.t_end
    # The head runs on the tokens instead of the whole network once more.
    for got, wanted in zip(result.labels, classify(result.video, model=model_folder), strict=True):
        assert got.label == wanted.label
        assert got.probability == pytest.approx(wanted.probability, rel=1e-5)
    [stored], settings = read_rows(result.features_file)
    assert stored.tokens is not None and torch.equal(stored.tokens, row.tokens)
    assert settings["model"] == str(model_folder)


def test_demo_clip_is_a_real_file_chosen_by_the_seed(tmp_path: Path) -> None:
    path, label = make_demo_clip(tmp_path / "a.mp4", seed=5)
    with VideoReader(path) as reader:
        facts = reader.metadata
    assert (facts.codec, facts.num_frames, facts.width, facts.average_fps) == ("h264", 48, 256, 24)
    assert label in MOTION_LABELS
    assert make_demo_clip(tmp_path / "b.mp4", seed=5)[1] == label
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert len({make_demo_clip(tmp_path / "c.mp4", seed=seed)[1] for seed in range(3)}) > 1


def test_steps_are_timed_and_named(result: DemoResult) -> None:
    assert [step.name for step in result.steps] == [
        "Paint a clip, write it as H.264",
        "Load the model",
        "Read the video",
        "Resize, crop, normalise",
        "Encoder",
        "Classification head",
        "Colours of the tokens (PCA)",
    ]
    assert all(step.seconds > 0 for step in result.steps)
    assert result.steps[2].detail == "8 of 48 frames, 256 x 256 pixels"
    assert result.steps[4].detail == "16 tokens of 24 numbers"


def test_summary_and_json_say_the_same(result: DemoResult) -> None:
    values = json.loads(json.dumps(result.as_dict()))
    text = str(result)
    assert values["tokens_shape"] == [16, 24] and "16 tokens of 24 numbers" in text
    assert len(values["labels"]) == 5
    for label in values["labels"]:
        assert label["label"] in text
    assert len(values["steps"]) == 7 and values["painted"] == result.made_label
    assert str(result.features_file) in text


def test_page_needs_nothing_from_outside(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    found = Page(text)
    assert found.addresses and all(address.startswith("data:") for address in found.addresses)
    outside = re.sub(r"data:[a-z/0-9]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", outside)
    assert "default-src 'none'" in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text


def test_page_shows_the_frames_and_their_colours(report: Path, result: DemoResult) -> None:
    found = Page(report.read_text(encoding="utf-8"))
    pictures = [np.array(Image.open(io.BytesIO(decoded(address)))) for address in found.images]
    assert len(pictures) == 2 * result.row.grid.t
    for step in range(result.row.grid.t):
        frame, colours = pictures[2 * step : 2 * step + 2]
        # 32 pixels are shown six times as large; every sixth pixel is one of the frame's.
        assert frame.shape == (192, 192, 3)
        shown = torch.from_numpy(frame[::6, ::6].copy()).permute(2, 0, 1)
        assert torch.equal(shown, result.frames[2 * step])
        wanted = result.colours.maps[step]
        assert torch.equal(torch.from_numpy(colours).permute(2, 0, 1), wanted)


def test_page_shows_a_film_of_frames_beside_colours(report: Path, result: DemoResult) -> None:
    [address] = Page(report.read_text(encoding="utf-8")).films
    with av.open(io.BytesIO(decoded(address))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 8 and frames[0].shape == (192, 384, 3)
    maps = result.colours.maps.repeat_interleave(2, dim=0)
    for number, frame in enumerate(frames):
        left, right = frame[3::6, 3:192:6], frame[3::6, 195::6]
        wanted = result.frames[number].permute(1, 2, 0).numpy()
        assert np.abs(left.astype(int) - wanted).mean() < 12  # H.264 halves the colour resolution
        mixed = overlay(result.frames, maps)[number].permute(1, 2, 0).numpy()
        assert np.abs(right.astype(int) - mixed).mean() < 12


def test_page_explains_itself(report: Path, result: DemoResult) -> None:
    text = Page(report.read_text(encoding="utf-8")).text
    for score in result.labels:
        assert score.label in text and f"{100 * score.probability:.1f} %" in text
    for step in result.steps:
        assert step.name in text
    for words in (
        f"Painted into this clip: {result.made_label}",
        "How to read the colours",
        "A colour is not a label",
        "16 pieces, each 2 frames long and 16 x 16 pixels large",
        "describes each of them by 24 numbers",
        f"torch {torch.__version__}",
        "vjepa2 classify YOUR_VIDEO.mp4",
    ):
        assert words in text, words


def test_a_right_and_a_wrong_answer_are_told_apart(result: DemoResult, tmp_path: Path) -> None:
    """The tiny test model does not know the motions, so its labels are replaced."""
    network = result.model.network
    names = dict(network.config.id2label)
    try:
        for label, words in (
            (result.made_label, "the model is right"),
            ("something else", "the model is wrong here"),
        ):
            network.config.id2label = {**names, 0: str(result.made_label), 1: "something else"}
            best = replace(result.labels[0], label=str(label))
            changed = replace(result, labels=[best])
            text = Page(write_report(tmp_path / "r.html", changed).read_text()).text
            assert words in text
    finally:
        network.config.id2label = names


def test_own_videos_and_their_names_are_shown_as_text(
    clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    for name in ("<b>&\"quoted'.mp4", os.fsdecode(b"stra\xdfe.mp4"), "Größe 日本.mp4"):
        path = tmp_path / name
        shutil.copy(clip, path)
        result = run_demo(tmp_path / "out", video=path, model=model_folder)
        text = write_report(tmp_path / "out" / "report.html", result).read_text(encoding="utf-8")
        assert "<b>" not in text
        shown = name.encode("utf-8", "backslashreplace").decode()
        assert shown in Page(text).text
        assert "Painted" not in text and result.made_label is None
    assert not (tmp_path / "out" / "clip.mp4").exists()


def test_a_model_without_a_head_gives_features_and_says_so(
    clip: Path, base_folder: Path, tmp_path: Path
) -> None:
    result = run_demo(tmp_path, video=clip, model=base_folder)
    assert result.labels == [] and "No labels" in str(result)
    assert "Classification head" not in [step.name for step in result.steps]
    assert "no trained classification head" in write_report(tmp_path / "r.html", result).read_text()


def test_bad_videos_and_places_are_errors(
    bad_video: Path, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(VideoError):
        run_demo(tmp_path / "out", video=bad_video, model=model_folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        run_demo(tmp_path / "file" / "out", model=model_folder)


@pytest.mark.parametrize("name", ["clip.mp4", "features.safetensors", "report.html"])
def test_other_peoples_files_are_left_alone(
    name: str, clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    if name == "features.safetensors":  # of the user's own work with this package
        embed_files([clip], tmp_path / name, embedder=make_embedder(model_folder), quiet=True)
    else:
        shutil.copy(clip, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match=rf"{name} exists and was not made by a demonstration"):
        run_demo(tmp_path, model=model_folder)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before
    if name == "clip.mp4":  # it is read, not written
        assert run_demo(tmp_path, video=tmp_path / name, model=model_folder).made_label is None
        assert (tmp_path / name).read_bytes() == before


def test_an_earlier_demonstration_is_replaced(model_folder: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        result = run_demo(tmp_path, model=model_folder, seed=seed)
        write_report(tmp_path / "report.html", result)
    assert result.made_label is not None
    assert result.made_label in (tmp_path / "report.html").read_text()
    (tmp_path / "other").mkdir()
    made = make_demo_clip(tmp_path / "other" / "clip.mp4", seed=2)[0]
    assert (tmp_path / "clip.mp4").read_bytes() == made.read_bytes()


def test_parts_of_a_page_are_escaped() -> None:
    assert escape("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"
    assert "<i>" not in bars([("<i>", 0.5)]) + table([("<i>", "<i>")]) + page(title="<i>", body="")
    assert "width:50.0%" in bars([("a", 0.5)]) and "50.0 %" in bars([("a", 0.5)])


def test_arguments_of_a_wrong_kind(tmp_path: Path) -> None:
    for seed in (-1, 1.5, "1", None, True, 10**30):
        with pytest.raises(ConfigError, match="seed must be"):
            make_demo_clip(tmp_path / "clip.mp4", seed=seed)
    for out in (None, 3, "a\0b"):
        with pytest.raises(ConfigError, match="out "):
            run_demo(out)
    for video in (3, b"a", ["a"]):
        with pytest.raises(InputError, match="video must be a path"):
            run_demo(tmp_path, video=video)
    assert list(tmp_path.iterdir()) == []
