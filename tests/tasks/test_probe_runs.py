"""Whole probe runs on generated clips: what is learned, cached, resumed, refused and saved."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from tiny_finetuning import MOTIONS, write_encoder, write_labelled
from tiny_models import clip
from tiny_probing import tiny_probing
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.splits import content_hash
from vjepa2.data.views import ViewConfig, item_views, normalised
from vjepa2.errors import (
    CheckpointFormatError,
    ConfigError,
    DivergedError,
    InputError,
    LabelError,
    LeakError,
)
from vjepa2.features.classify import classify
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.probe import probe
from vjepa2.tasks.probe_folder import TrainedOn
from vjepa2.tasks.probe_result import ProbeResult
from vjepa2.video.processor import VJEPA2VideoProcessor

TIMED = ("seconds", "stall_seconds", "measure_seconds")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Lists of 12 and 6 clips, and an encoder."""
    folder = tmp_path_factory.mktemp("probing")
    train = write_labelled(folder / "train", count=4, seed=0)
    val = write_labelled(folder / "val", count=2, seed=1)
    return train, val, write_encoder(folder / "encoder")


def run(config: Any, folder: Path, **options: Any) -> ProbeResult:
    return probe(config, folder, quiet=True, **options)


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in TIMED}
        for line in lines
        if line["kind"] == kind
    ]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


# -- cached or not --------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [{}, {"num_segments": 2, "num_views": 2, "frame_step": 1}])
def test_cached_features_teach_the_same_as_encoding_every_epoch(
    places: tuple[Path, Path, Path], tmp_path: Path, views: dict[str, Any]
) -> None:
    cached = run(tiny_probing(*places, views=views), tmp_path / "cached")
    anew = run(tiny_probing(*places, views=views, cache={"use": False}), tmp_path / "anew")
    assert (tmp_path / "cached" / "features" / "train" / "index.json").exists()
    assert not (tmp_path / "anew" / "features").exists()
    for first, second in zip(cached.results["heads"], anew.results["heads"], strict=True):
        assert first == pytest.approx(second, abs=1e-5)
    steps = zip(
        lines_of(tmp_path / "cached", "step"), lines_of(tmp_path / "anew", "step"), strict=True
    )
    for first, second in steps:
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)
    # Different updates see different videos.
    assert len({line["loss"] for line in lines_of(tmp_path / "cached", "step")}) > 3


def test_one_cache_serves_many_runs_and_refuses_others(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"folder": str(tmp_path / "shared")}
    run(tiny_probing(*places, cache=cache), tmp_path / "first")

    def encodes(*_: object) -> Tensor:
        raise AssertionError("features were on the disk")

    with monkeypatch.context() as patch:
        patch.setattr("vjepa2.tasks.probe_features.FrozenEncoder.tokens", encodes)
        run(tiny_probing(*places, cache=cache, heads={"depth": 2}, seed=5), tmp_path / "second")
    other_encoder = write_encoder(tmp_path / "other", num_hidden_layers=1)
    other_list = write_labelled(tmp_path / "more", count=5, seed=9)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"views": {"num_frames": 6}}, "views.num_frames: 4 and 6"),
        ({"heads": {"levels": (0, 1)}}, r"encoder.levels: 0 and 2"),
        ({"model": str(other_encoder)}, "encoder.weights: '"),
        ({"cache": {**cache, "dtype": "float16"}}, "dtype: 'float32' and 'float16'"),
        ({"augment": {"rand_augment": None}, "cache": {**cache, "versions": 1}}, "augment: None"),
        ({"data": {"train": str(other_list)}}, "files: 12 and 15"),
    ]
    for change, words in wrong:
        config = tiny_probing(*places, **{"cache": cache, **change})
        with pytest.raises(ConfigError, match=words):
            run(config, tmp_path / "wrong")


def test_augmented_versions_take_turns(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = tiny_probing(
        *places,
        augment={"rand_augment": None, "scale": (0.3, 0.6), "erase": 0.0},
        cache={"versions": 2},
    )
    run(config, tmp_path / "run")
    first, second = (
        load_file(tmp_path / "run" / "features" / f"train-{n}" / "shard-000000.safetensors")
        for n in (0, 1)
    )
    assert sorted(first["items"].tolist()) == list(range(12))
    rows = [part["tokens"][part["items"].argsort()] for part in (first, second)]
    assert not torch.allclose(rows[0], rows[1])
    # As encoding anew does in the first two epochs.
    anew = config.override(["cache.versions=0", "schedule.epochs=2"])
    run(anew, tmp_path / "anew")
    short = config.override(["schedule.epochs=2"])
    run(short, tmp_path / "short")
    for one, two in zip(
        lines_of(tmp_path / "short", "step"), lines_of(tmp_path / "anew", "step"), strict=True
    ):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-5)


def test_disk_is_bounded_before_anything_is_encoded(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"The features of 18 files .* more than cache.max_gb="):
        run(tiny_probing(*places, cache={"max_gb": 1e-6}), tmp_path / "run")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(ConfigError, match=r"has 0.00 GiB to spare"):
        run(tiny_probing(*places), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("shard*"))


def test_an_interrupted_cache_goes_on_where_it_was(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vjepa2.tasks.probe_features import FrozenEncoder

    run(tiny_probing(*places), tmp_path / "whole")
    monkeypatch.setattr("vjepa2.tasks.probe_cache.SHARD_BYTES", 1)  # a shard per batch
    plain, calls = FrozenEncoder.tokens, [0]

    def breaks(self: FrozenEncoder, pixels: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return plain(self, pixels)

    monkeypatch.setattr(FrozenEncoder, "tokens", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_probing(*places), tmp_path / "broken")
    assert len(list((tmp_path / "broken" / "features" / "train").glob("shard*"))) == 2
    run(tiny_probing(*places), tmp_path / "broken")
    assert calls[0] == 6  # 3 before, 1 left of training, 2 of validation
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


# -- stopped and resumed --------------------------------------------------------------------------


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_resumed_run_is_an_undisturbed_one(
    places: tuple[Path, Path, Path], tmp_path: Path, use_cache: bool
) -> None:
    config = tiny_probing(*places, cache={"use": use_cache}, heads={"depth": 2})
    whole = run(config, tmp_path / "whole")
    for stop in (1, 3, 5, 9):
        part = run(config, tmp_path / "parts", stop_at=stop)
        assert (part.model is None) is (stop < 9)
    assert part.results == whole.results
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    for kind in ("step", "validation"):
        assert lines_of(tmp_path / "whole", kind) == lines_of(tmp_path / "parts", kind)
    with pytest.raises(CheckpointFormatError, match=r"heads.depth"):
        run(tiny_probing(*places, cache={"use": use_cache}), tmp_path / "parts")


def test_other_videos_are_refused_on_resume(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run(tiny_probing(*places), tmp_path / "run", stop_at=1)
    others = write_labelled(tmp_path / "others", count=4, seed=8)
    shutil.rmtree(tmp_path / "run" / "features")
    lines = others.read_text().splitlines()
    others.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    with pytest.raises(CheckpointFormatError, match="not those that the run"):
        run(tiny_probing(others, *places[1:]), tmp_path / "run")


# -- what it leaves behind ------------------------------------------------------------------------


def test_the_model_is_what_others_load(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    test = write_labelled(tmp_path / "test", count=1, seed=7, suffix=".mp4")
    result = run(tiny_probing(*places, data={"test": str(test)}), tmp_path / "run")
    assert result.model is not None and result.transformers == ""
    model = VJEPA2ForVideoClassification.from_pretrained(result.model)
    names = tuple(sorted(MOTIONS))
    assert model.config.id2label == dict(enumerate(names))
    theirs = transformers.AutoModelForVideoClassification.from_pretrained(result.model).eval()
    x = clip(model.config)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x).logits, model(x).logits, atol=1e-5, rtol=1e-5)
    frozen = VJEPA2Model.from_pretrained(places[2]).encoder.state_dict()
    assert equal(frozen, model.vjepa2.encoder.state_dict())
    processor = VJEPA2VideoProcessor.from_pretrained(result.model)
    assert processor.crop_size == {"height": 32, "width": 32}
    scores = classify(str(sorted(test.parent.glob("*.mp4"))[0]), model=str(result.model))
    assert {score.label for score in scores} == set(names)

    trained_on = TrainedOn.load(result.model)
    assert set(trained_on.item_hashes) == {
        content_hash(file) for file in places[0].parent.glob("*.npy")
    }
    assert trained_on.task == "probe" and trained_on.encoder.levels == (1,)
    assert trained_on.details["test"]["videos"] == 3
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == result.results
    json.loads(json.dumps(result.as_dict()))
    assert "Test top-1" in str(result)


def test_segments_are_read_together_and_views_are_averaged(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """The measured accuracy, from the saved parts and the definition."""
    views = {"num_segments": 2, "num_views": 3, "frame_step": 1, "num_frames": 2}
    config = tiny_probing(*places, views=views, heads={"levels": (0, 1)})
    result = run(config, tmp_path / "run")
    assert result.model is not None and "blocks [0, 1]" in result.transformers
    encoder = VJEPA2Model.from_pretrained(places[2]).encoder.eval()
    head = VJEPA2AttentiveProbe.from_pretrained(result.model).eval()
    labelled = read_labelled(places[1])
    right = 0
    with torch.no_grad():
        for item in labelled.items:
            own = ViewConfig(**{**views, "crop_size": 32})
            pixels = normalised(item_views(item, own), own)
            probabilities = torch.zeros(3)
            for view in range(3):
                tokens: list[Tensor] = []
                for segment in range(2):
                    output = encoder(pixels[segment, view][None], output_levels=(0, 1))
                    tokens += output.level_hidden_states
                probabilities += head(tokens).logits[0].softmax(dim=-1) / 3
            right += int(probabilities.argmax()) == item.labels[0]
    assert result.results["best"]["top1"] == pytest.approx(right / len(labelled))


def test_every_epoch_tells_how_all_heads_are_beside_what_needs_no_video(
    places: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = probe(tiny_probing(*places), tmp_path / "run")
    lines = lines_of(tmp_path / "run", "validation")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(len(line["heads"]) == 4 for line in lines)
    assert result.results["baselines"]["val"] == {
        "chance": pytest.approx(1 / 3),
        "majority": pytest.approx(1 / 3),
    }
    best = max(lines[-1]["heads"], key=lambda head: (head["top1"], -head["loss"]))
    assert {name: result.results["best"][name] for name in best} == best
    err = capsys.readouterr().err
    assert "epoch 2 of 3: best of 4 heads top-1" in err and "chance 33.3%" in err


def test_the_published_random_evaluation_is_an_option(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    views = {"num_frames": 2, "frame_step": 1}
    fixed = tiny_probing(*places, views=views, schedule={"epochs": 2})
    chance = tiny_probing(*places, views={**views, "moment": "random"}, schedule={"epochs": 2})
    run(fixed, tmp_path / "fixed")
    run(chance, tmp_path / "random")
    assert not (tmp_path / "random" / "features" / "val").exists()
    first, second = (lines_of(tmp_path / name, "validation") for name in ("fixed", "random"))
    assert lines_of(tmp_path / "fixed", "step") == lines_of(tmp_path / "random", "step")
    assert first != second


# -- what is refused ------------------------------------------------------------------------------


def test_wrong_input_is_told_before_anything_is_encoded(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, _, model = places
    one = write_labelled(tmp_path / "one", count=2, seed=3, labels=MOTIONS[:1])
    copies = tmp_path / "copies"
    shutil.copytree(train.parent, copies)
    unseen = write_labelled(tmp_path / "unseen", count=1, seed=4, labels=("object appears",))
    wrong: list[tuple[Any, type[Exception], str]] = [
        (tiny_probing(one, one, model), LabelError, "one class only"),
        (tiny_probing(train, copies / "list.csv", model), LeakError, "same content"),
        (tiny_probing(train, unseen, model), LabelError, "object appears"),
        (tiny_probing(train, None, model), ConfigError, "without validation videos"),
        (tiny_probing(*places, heads={"levels": (1, 9)}), ConfigError, "level set of another"),
        (tiny_probing(*places, heads={"num_heads": 5}), ConfigError, "does not divide"),
        (tiny_probing(*places, views={"crop_size": 4}), ConfigError, "less than the encoder's"),
        (tiny_probing(*places, data={"head": "verb"}), LabelError, "no head 'verb'"),
    ]
    for number, (config, error, words) in enumerate(wrong):
        folder = tmp_path / f"run{number}"
        with pytest.raises(error, match=words):
            run(config, folder)
        assert not list(folder.rglob("shard*"))


def test_a_clip_of_non_finite_features_is_named(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vjepa2.tasks.probe_features import FrozenEncoder

    plain = FrozenEncoder.tokens

    def breaks(self: FrozenEncoder, pixels: Tensor) -> Tensor:
        tokens = plain(self, pixels)
        tokens[1, 0, 3, 2] = float("nan")
        return tokens

    monkeypatch.setattr(FrozenEncoder, "tokens", breaks)
    name = read_labelled(places[0]).items[1].path
    with pytest.raises(InputError, match=f"NaN or infinity for {name}"):
        run(tiny_probing(*places), tmp_path / "run")


def test_a_head_that_diverges_is_named(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = tiny_probing(*places, heads={"lrs": (1e30, 1e-3), "weight_decays": (0.0,)})
    with pytest.raises(DivergedError, match=r"1 of 2 heads .*lr 1e\+30"):
        run(config, tmp_path / "run")


def test_unreadable_files_are_left_out_and_named(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "train"
    shutil.copytree(places[0].parent, folder)
    broken = sorted(folder.glob("*.npy"))[0]
    broken.write_bytes(b"no array")
    config = tiny_probing(folder / "list.csv", *places[1:], data={"max_bad_share": 0.2})
    result = run(config, tmp_path / "run")
    anew = run(config.override(["cache.use=false"]), tmp_path / "anew")
    assert result.bad_files == anew.bad_files == 1
    for kept in ("run", "anew"):
        (line,) = (tmp_path / kept / "bad_files.jsonl").read_text().splitlines()
        assert json.loads(line)["path"] == str(broken)
    for first, second in zip(result.results["heads"], anew.results["heads"], strict=True):
        assert first == pytest.approx(second, abs=1e-5)


def test_a_batch_of_which_nothing_can_be_read_is_no_other_batch(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Neither are later videos counted twice, nor does the cache make a difference."""
    folder = tmp_path / "val"
    shutil.copytree(places[1].parent, folder)
    lines = (folder / "list.csv").read_text().splitlines()[1:]
    for line in lines[:2]:
        (folder / line.partition(",")[0]).write_bytes(b"no array")
    data = {"val": str(folder / "list.csv"), "max_bad_share": 0.5}
    config = tiny_probing(*places, data=data, encode_batch=2)
    cached = run(config, tmp_path / "cached")
    anew = run(config.override(["cache.use=false"]), tmp_path / "anew")
    assert cached.results["best"]["videos"] == anew.results["best"]["videos"] == 4
    for first, second in zip(cached.results["heads"], anew.results["heads"], strict=True):
        assert first == pytest.approx(second, abs=1e-5)
    assert cached.bad_files == anew.bad_files == 2


def test_baselines_are_of_the_videos_that_were_measured(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """The unreadable file is of training's commonest class: 1 of 5 is left of 2 of 6."""
    train = tmp_path / "train.csv"
    named, *rows = places[0].read_text().splitlines()
    often = [row for row in rows if row.endswith(MOTIONS[0])]
    others = [row for row in rows if not row.endswith(MOTIONS[0])]
    kept = [f"{places[0].parent}/{row}" for row in (*often, *others[:4])]
    train.write_text("\n".join([named, *kept]) + "\n")
    lists = {}
    for name, source in (
        ("val", places[1]),
        ("test", write_labelled(tmp_path / "t", count=2, seed=7)),
    ):
        folder = shutil.copytree(source.parent, tmp_path / name)
        sorted(folder.glob(f"{MOTIONS[0].replace(' ', '_')}*"))[0].write_text(f"no array {name}")
        lists[name] = str(folder / "list.csv")
    config = tiny_probing(train, None, places[2], data={**lists, "max_bad_share": 0.5})
    result = run(config, tmp_path / "run")
    for name in ("val", "test"):
        assert result.results["baselines"][name] == {
            "chance": pytest.approx(1 / 3),
            "majority": pytest.approx(1 / 5),
        }
    assert "most frequent class 20.0%" in str(result)


def test_features_too_large_for_the_cache_are_told_before_training(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vjepa2.tasks.probe_features import FrozenEncoder

    plain = FrozenEncoder.tokens

    def large(self: FrozenEncoder, pixels: Tensor) -> Tensor:
        tokens = plain(self, pixels)
        tokens[1, 0, 3, 2] = 70_000.0
        return tokens

    monkeypatch.setattr(FrozenEncoder, "tokens", large)
    name = read_labelled(places[0]).items[1].path
    with pytest.raises(InputError, match=rf"{name}.*70000.*cache.dtype=float16.*bfloat16"):
        run(tiny_probing(*places, cache={"dtype": "float16"}), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("shard*"))
    run(tiny_probing(*places, cache={"dtype": "bfloat16"}), tmp_path / "wide", stop_at=1)


def test_micro_batches_and_half_precision_change_little(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    heads = {"depth": 2}
    plain = run(tiny_probing(*places, heads=heads), tmp_path / "plain")
    micro = run(
        tiny_probing(*places, heads=heads, micro_batch=3, recompute=True), tmp_path / "micro"
    )
    narrow = run(tiny_probing(*places, heads=heads, dtype="bfloat16"), tmp_path / "narrow")
    for first, second, third in zip(
        plain.results["heads"], micro.results["heads"], narrow.results["heads"], strict=True
    ):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-4)
        assert np.isfinite(third["loss"])
