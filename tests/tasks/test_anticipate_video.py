"""Forecasts along a file look at nothing later; published probes are joined with their encoder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from original_files import probe as original_probe
from tiny_models import randomise, tiny_config
from vjepa2.cli.main import app
from vjepa2.data.event_clips import EventClipConfig
from vjepa2.data.labelled import LabelMap
from vjepa2.data.views import ViewConfig, spatial_views
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    LabelError,
    VideoTooShortError,
)
from vjepa2.models.anticipation import AnticipationSettings, Anticipator
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.anticipate_files import anticipate_files, open_model, read_horizons
from vjepa2.tasks.anticipate_video import anticipate_video
from vjepa2.tasks.anticipator_folder import (
    AnticipatorFile,
    encoder_mark,
    join_published_probe,
    load_anticipator,
    save_anticipator,
)
from vjepa2.video.reader import VideoReader
from vjepa2.video.writer import H264, write_video

HEADS = {"verb": ("go", "stay"), "noun": ("cat", "dog", "bird"), "action": ("a", "b", "c", "d")}
LABELS = LabelMap(HEADS)
CLIPS = EventClipConfig(num_frames=4, fps=4.0)
SETTINGS = AnticipatorFile(
    clips=CLIPS, views=ViewConfig(num_frames=4, fps=4.0, crop_size=32), loss="cross_entropy"
)


def anticipator(**changes: Any) -> Anticipator:
    model = randomise(VJEPA2Model(tiny_config()))
    sizes = {head: len(names) for head, names in HEADS.items()}
    config = tiny_config(**({"head_sizes": sizes} | changes))
    probe = randomise(VJEPA2AttentiveProbe(config), seed=1)
    return Anticipator(model, probe, AnticipationSettings(), fps=CLIPS.fps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and two files of 4 s that are equal up to 2 s; every frame is a keyframe."""
    made = tmp_path_factory.mktemp("forecasts")
    save_anticipator(made / "model", anticipator(), LABELS, SETTINGS, with_encoder=True)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (32, 3, 32, 40), dtype=torch.uint8, generator=generator)
    codec = H264(fps=8.0, keyframe_interval=1, crf=0)
    write_video(made / "a.mp4", frames, codec=codec)
    frames[16:] = 255 - frames[16:]
    write_video(made / "b.mp4", frames, codec=codec)
    (made / "broken.mp4").write_bytes(b"no video" * 50)
    return made


def test_forecasts_are_the_probes_scores_of_the_frames_before(folder: Path) -> None:
    model = load_anticipator(folder / "model", device="cpu")
    found = anticipate_video(folder / "a.mp4", model, every=1.5, horizons=[0.5, 2.0], top_k=2)
    assert [(one.seconds, one.horizon) for one in found.forecasts] == [
        (1.5, 0.5), (1.5, 2.0), (3.0, 0.5), (3.0, 2.0),
    ]  # fmt: skip
    with VideoReader(folder / "a.mp4") as reader:
        frames = reader.get_frames_at([16, 18, 20, 22]).data  # from 2 s on, a quarter apart
    pixels = spatial_views(frames[None], SETTINGS.views)[:, 0]
    with torch.no_grad():
        logits = anticipator().eval()(pixels, 2.0).logits
    last = found.forecasts[-1]
    assert last.sees_until == pytest.approx(2.875)
    for head, scores in logits.items():
        chances = scores[0].softmax(-1)
        best = chances.topk(2)
        assert [label.index for label in last.heads[head]] == best.indices.tolist()
        assert last.heads[head][0].label == HEADS[head][int(best.indices[0])]
        assert last.heads[head][0].probability == pytest.approx(float(best.values[0]), abs=1e-5)


def test_what_comes_later_changes_nothing_before(folder: Path) -> None:
    model = load_anticipator(folder / "model", device="cpu")
    first, second = (
        anticipate_video(folder / name, model, every=0.5).forecasts for name in ("a.mp4", "b.mp4")
    )
    for one, other in zip(first, second, strict=True):
        if one.seconds <= 2.0:
            assert one == other
    assert first[-1] != second[-1]  # the test can fail
    assert all(one.sees_until <= one.seconds + 1e-6 for one in first)


def test_a_probe_with_one_head_names_its_only_label(folder: Path, tmp_path: Path) -> None:
    labels = LabelMap({"event": ("x", "y", "z")})
    network = anticipator(head_sizes=None, num_labels=3)
    save_anticipator(tmp_path / "model", network, labels, SETTINGS, with_encoder=True)
    model = load_anticipator(tmp_path / "model")
    (first, *_) = anticipate_video(folder / "a.mp4", model, every=2.0).forecasts
    assert list(first.heads) == ["event"]
    assert sum(label.probability for label in first.heads["event"]) == pytest.approx(1.0)


def test_many_files_go_on_after_a_bad_one(folder: Path) -> None:
    model = load_anticipator(folder / "model")
    files = [str(folder / name) for name in ("a.mp4", "broken.mp4", "b.mp4", "a.mp4")]
    report = anticipate_files(files, model, every=2.0, quiet=True)
    assert [Path(result.source).name for result in report.results] == ["a.mp4", "b.mp4"]
    assert [Path(failed.source).name for failed in report.failed] == ["broken.mp4"]


def test_wrong_questions_are_named(folder: Path) -> None:
    model = load_anticipator(folder / "model")
    with pytest.raises(ConfigError, match="every"):
        anticipate_video(folder / "a.mp4", model, every=0)
    with pytest.raises(ConfigError, match="horizons"):
        anticipate_video(folder / "a.mp4", model, horizons=[])
    with pytest.raises(ConfigError, match="horizons"):
        anticipate_video(folder / "a.mp4", model, horizons=[-1.0])
    with pytest.raises(VideoTooShortError, match="less than every=10"):
        anticipate_video(folder / "a.mp4", model, every=10)
    assert read_horizons("1,2 4") == (1.0, 2.0, 4.0)
    for text in ("one", "", " , "):
        with pytest.raises(ConfigError, match="horizons"):
            read_horizons(text)


def test_folders_that_are_no_model_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no model that anticipates"):
        load_anticipator(tmp_path)
    save_anticipator(tmp_path / "model", anticipator(), LABELS, SETTINGS, with_encoder=True)
    LabelMap({**HEADS, "verb": ("go", "stay", "sit")}).save(tmp_path / "model")
    with pytest.raises(LabelError, match="do not belong together"):
        load_anticipator(tmp_path / "model")
    (tmp_path / "model" / "anticipation.json").write_text('{"clips": ')
    with pytest.raises(CheckpointFormatError, match="damaged"):
        load_anticipator(tmp_path / "model")


# -- published files ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and a probe with three heads in Meta's layout."""
    made = tmp_path_factory.mktemp("published")
    randomise(VJEPA2Model(tiny_config())).save_pretrained(made / "encoder")
    sizes = {head: len(names) for head, names in HEADS.items()}
    for name, width in (("probe", 32), ("wide", 48)):
        pair = original_probe(3, width=width, heads=sizes)
        meta = {f"module.{key}": value for key, value in pair.meta.items()}
        torch.save({"classifiers": [meta], "epoch": 20}, made / f"{name}.pt")
    LABELS.save(made / "labels.json")
    return made


def test_a_published_probe_reads_encoder_and_future_with_three_queries(published: Path) -> None:
    encoder = str(published / "encoder")
    loaded = join_published_probe(encoder, str(published / "probe.pt"), LABELS)
    assert loaded.network.probe.pooler.query_tokens.shape == (1, 3, 32)
    clips, future = loaded.settings.clips, loaded.settings.future
    assert (clips.num_frames, clips.fps, clips.seconds, future.mask_index) == (32, 8.0, 1.0, 1)
    assert loaded.settings.loss == "focal" and loaded.settings.views.crop_size == 32
    pair = original_probe(3, width=32, heads={head: len(n) for head, n in HEADS.items()})
    state = loaded.network.probe.state_dict()
    assert set(state) == set(pair.ours)
    for name, value in pair.ours.items():
        assert torch.equal(state[name], value), name
    pixels = torch.randn(1, 4, 3, 32, 32)
    tokens = loaded.network.tokens(pixels, 1.0)
    assert tokens.shape == (1, 32 + 16, 32)
    expected = loaded.network.probe(tokens).logits
    torch.testing.assert_close(loaded.network(pixels, 1.0).logits, expected)


def test_a_published_probe_of_another_encoder_or_other_labels_is_refused(published: Path) -> None:
    encoder = str(published / "encoder")
    with pytest.raises(ConfigError, match="48 wide, the model's are 32 wide"):
        join_published_probe(encoder, str(published / "wide.pt"), LABELS)
    other = LabelMap({**HEADS, "noun": ("cat", "dog")})
    with pytest.raises(LabelError, match="do not belong together"):
        join_published_probe(encoder, str(published / "probe.pt"), other)


# -- the command line ---------------------------------------------------------------------------


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["anticipate", *(str(argument) for argument in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_files_become_text_json_and_a_page(folder: Path, tmp_path: Path) -> None:
    model, page = folder / "model", tmp_path / "next.html"
    options = ("--model", model, "--every", 2, "--horizons", "1,2", "--quiet")
    plain = call(folder / "a.mp4", *options, "--page", page)
    assert plain.exit_code == 0, plain.stderr
    assert "+2 s" in plain.stdout and f"Report: {page}" in plain.stdout
    text = page.read_text()
    assert "a.mp4" in text and "in 2 s" in text and "<script" not in text
    done = call(folder / "a.mp4", folder / "broken.mp4", *options, "--json")
    assert done.exit_code == 1 and "broken.mp4" in done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    forecasts = values["results"][0]["forecasts"]
    assert [(one["seconds"], one["horizon"]) for one in forecasts] == [
        (2.0, 1.0), (2.0, 2.0), (4.0, 1.0), (4.0, 2.0),
    ]  # fmt: skip
    assert set(forecasts[0]["heads"]) == set(HEADS)


def test_published_files_work_from_the_command_line(folder: Path, published: Path) -> None:
    probe = ("--probe", published / "probe.pt")
    labels = ("--labels", published / "labels.json")
    model = ("--model", published / "encoder")
    done = call(folder / "a.mp4", *model, *probe, *labels, "--every", 4, "--json", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert call(folder / "a.mp4", *model, *probe).exit_code == 2  # which classes?
    assert call(folder / "a.mp4", "--model", folder / "model", *labels).exit_code == 2
    assert call(folder / "a.mp4").exit_code == 2  # which model?
    with pytest.raises(ConfigError, match="labels"):
        open_model("encoder", probe="probe.pt")


def test_recipes_are_listed_and_a_missing_run_is_named(tmp_path: Path) -> None:
    assert "ek100_published_anchor" in call("--recipes").stdout
    done = call("--out", tmp_path / "none")
    assert done.exit_code == 2 and "no run in" in done.stderr


def test_a_probe_knows_its_encoder_in_half_precision() -> None:
    """Files of half precision are trained on as float32: the same values are the same encoder."""
    model = VJEPA2Model.from_pretrained("world-tiny")
    assert model.dtype == torch.float16
    for future in (AnticipationSettings(tokens="encoder"), AnticipationSettings(tokens="both")):
        stored = encoder_mark(VJEPA2Model.from_pretrained("world-tiny").float(), future)
        assert encoder_mark(model, future) == stored
        with torch.no_grad():
            other = VJEPA2Model.from_pretrained("world-tiny")
            next(other.encoder.parameters()).add_(0.01)
        assert encoder_mark(other, future) != stored
