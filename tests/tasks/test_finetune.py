"""Whole fine-tuning runs on generated clips: what is learned, kept, stopped, resumed and saved."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from tiny_finetuning import MOTIONS, tiny_finetuning, write_encoder, write_labelled
from tiny_models import clip
from vjepa2.data.labelled import LabelMap
from vjepa2.data.splits import content_hash
from vjepa2.errors import (
    BadFilesError,
    CheckpointFormatError,
    ConfigError,
    DivergedError,
    LabelError,
    LeakError,
    OutputError,
)
from vjepa2.features.classify import classify
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.tasks.finetune import FineTuneResult, finetune
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.probe_folder import TrainedOn
from vjepa2.video.processor import VJEPA2VideoProcessor


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Lists of 12 and 6 clips, and an encoder."""
    folder = tmp_path_factory.mktemp("finetuning")
    train = write_labelled(folder / "train", count=4, seed=0)
    val = write_labelled(folder / "val", count=2, seed=1)
    return train, val, write_encoder(folder / "encoder")


def run(config: Any, folder: Path, **options: Any) -> FineTuneResult:
    return finetune(config, folder, quiet=True, **options)


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "stall_seconds", "measure_seconds")
    return [
        {name: value for name, value in line.items() if name not in timed}
        for line in lines
        if line["kind"] == kind
    ]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def checkpoint(folder: Path, step: int) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:07d}" / "part-0000.safetensors")


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


# -- learning -------------------------------------------------------------------------------------


def test_it_learns_motions(tmp_path: Path) -> None:
    """The shipped encoder with a fresh head names motions of unseen clips after a minute's work.

    Chance is 1/3; with frames in one order no single frame tells these apart.
    """
    train = write_labelled(tmp_path / "train", count=10, seed=0)
    val = write_labelled(tmp_path / "val", count=8, seed=1)
    write_labelled(tmp_path / "films", count=1, seed=2, suffix=".mp4")
    config = tiny_finetuning(
        train,
        val,
        Path("motion-tiny"),
        views={"num_frames": 8, "crop_size": 48},
        augment={"scale": (0.7, 1.0), "erase": 0.0},
        head={"start": "fresh", "num_self_blocks": 0},
        batch={"batch_size": 8},
        schedule={"epochs": 3, "lr": 5e-4},
    )
    result = run(config, tmp_path / "run")
    assert result.best is not None and result.best["top1"] >= 0.8
    first = lines_of(tmp_path / "run", "step")[0]["loss"]
    assert first > 0.9  # it began with nothing: log 3 is 1.1
    right = 0
    for label in MOTIONS:
        file = tmp_path / "films" / f"{label.replace(' ', '_')}_000.mp4"
        right += classify(file, model=str(result.model), num_frames=8)[0].label == label
    assert right >= 2


def test_a_small_set_is_learned_by_heart_with_all_weights(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    config = tiny_finetuning(
        places[0],
        None,
        places[2],
        augment={"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "erase": 0.0},
        batch={"batch_size": 12},
        schedule={"epochs": 30, "lr": 1e-2, "warmup_epochs": 3},
        optim={"clip_norm": 1.0},
    )
    result = run(config, tmp_path / "run")
    losses = [line["loss"] for line in lines_of(tmp_path / "run", "step")]
    assert losses[0] > 1.0 and losses[-1] < 0.3
    assert result.best is None and "last epoch" in str(result)
    before = load_file(places[2] / "model.safetensors")
    after = weights(tmp_path / "run")
    moved = {n for n, v in before.items() if not torch.equal(v, after[f"vjepa2.{n}"])}
    assert moved == {name for name in before if name.startswith("encoder.")}


@pytest.mark.parametrize("method", ["last_blocks", "lora"])
def test_frozen_parts_stay_as_they_are_bit_for_bit(
    places: tuple[Path, Path, Path], tmp_path: Path, method: str
) -> None:
    config = tiny_finetuning(
        *places,
        method=method,
        last_blocks=1,
        adapters={"rank": 2, "targets": ("query", "fc1")},
        optim={"clip_norm": 1.0},
        schedule={"epochs": 1, "lr": 1e-2, "warmup_epochs": 0},
    )
    run(config, tmp_path / "run")
    before = {f"vjepa2.{n}": v for n, v in load_file(places[2] / "model.safetensors").items()}
    after = weights(tmp_path / "run")
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    if method == "last_blocks":
        assert moved == {n for n in before if "encoder.layer.1." in n or "encoder.layernorm" in n}
        return
    # Adapters are merged into these; what they were merged into never moved.
    assert moved == {
        f"vjepa2.encoder.layer.{block}.{part}.weight"
        for block in (0, 1)
        for part in ("attention.query", "mlp.fc1")
    }
    stored = checkpoint(tmp_path / "run", 3)
    for name in moved:
        base = stored[f"modules.network.{name.removesuffix('.weight')}.base_layer.weight"]
        assert torch.equal(base, before[name])


def test_deep_blocks_learn_faster(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """One update of AdamW moves every weight by its rate: 0.5 for each block further down."""
    config = tiny_finetuning(
        *places,
        optim={"layer_decay": 0.5},
        head={"lr_factor": 3.0},
        schedule={"epochs": 1, "lr": 1e-3, "warmup_epochs": 0, "weight_decay": 0.0},
        runtime={"checkpoint_every": 1, "keep_checkpoints": 9},
    )
    run(config, tmp_path / "run", stop_at=1)
    before = load_file(places[2] / "model.safetensors")
    after = checkpoint(tmp_path / "run", 1)

    def moved(name: str) -> float:
        step = after[f"modules.network.vjepa2.{name}"] - before[name]
        return float(step.abs().median())

    last = moved("encoder.layernorm.weight")
    assert moved("encoder.layer.1.mlp.fc2.bias") == pytest.approx(last / 2, rel=0.01)
    assert moved("encoder.layer.0.mlp.fc2.bias") == pytest.approx(last / 4, rel=0.01)
    bias = after["modules.network.classifier.bias"].abs()  # began at 0
    assert float(bias.median()) == pytest.approx(3 * last, rel=0.01)


# -- the same result however it is computed -------------------------------------------------------


@pytest.mark.parametrize("mix", [{}, {"mixup": 0.5, "label_smoothing": 0.1}])
def test_accumulated_gradients_equal_a_large_batch(
    places: tuple[Path, Path, Path], tmp_path: Path, mix: dict[str, float]
) -> None:
    for size in (1, 3, 4):
        config = tiny_finetuning(
            *places,
            mix=mix,
            batch={"micro_batch": size},
            schedule={"epochs": 1},
            optim={"eps": 1e-5},  # smaller ones turn rounding of gradients near 0 into steps
        )
        run(config, tmp_path / str(size))
    whole = lines_of(tmp_path / "4", "step")
    for size in (1, 3):
        first, second = weights(tmp_path / "4"), weights(tmp_path / str(size))
        assert max(float((first[name] - second[name]).abs().max()) for name in first) < 2e-6
        parts = lines_of(tmp_path / str(size), "step")
        for one, other in zip(whole, parts, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def test_mixing_and_smoothing_change_the_loss(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    losses = {}
    for name, mix in {
        "none": {},
        "mixup": {"mixup": 0.8},
        "smooth": {"label_smoothing": 0.2},
    }.items():
        run(tiny_finetuning(*places, mix=mix), tmp_path / name, stop_at=1)
        losses[name] = lines_of(tmp_path / name, "step")[0]["loss"]
    assert len(set(losses.values())) == 3


def test_recomputation_changes_nothing(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    for name, runtime in {"plain": {}, "again": {"recompute": True}}.items():
        run(tiny_finetuning(*places, runtime=runtime, schedule={"epochs": 1}), tmp_path / name)
    first, second = weights(tmp_path / "plain"), weights(tmp_path / "again")
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-6


def test_bfloat16_stays_near(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        run(tiny_finetuning(*places, runtime={"dtype": dtype}), tmp_path / dtype, stop_at=3)
    full, half = (
        [line["loss"] for line in lines_of(tmp_path / dtype, "step")]
        for dtype in ("float32", "bfloat16")
    )
    assert full != half and half == pytest.approx(full, abs=0.05)


@pytest.mark.parametrize("stop_at", [2, 3, 5])
def test_a_stopped_run_goes_on_bit_for_bit(
    places: tuple[Path, Path, Path], tmp_path: Path, stop_at: int
) -> None:
    """Within an epoch and between two; dropout, mixing, augmentation, order, best epoch."""
    config = tiny_finetuning(
        *places, mix={"mixup": 0.5}, drop_path_rate=0.3, head={"dropout": 0.1},
        method="lora", adapters={"rank": 2, "dropout": 0.1},
    )  # fmt: skip
    run(config, tmp_path / "whole")
    stopped = run(config, tmp_path / "parts", stop_at=stop_at)
    assert (stopped.reason, stopped.step, stopped.model) == ("stop_at", stop_at, None)
    assert "vjepa2 finetune --out" in str(stopped)
    # As after a kill: what was written since the checkpoint is there, half a checkpoint too.
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 8, "kind": "step", "loss": 9}\n{"step": 7, "ki')
    (tmp_path / "parts" / "checkpoints" / ".step-0000007.part").mkdir()
    ended = run(config, tmp_path / "parts")
    assert (ended.reason, ended.step, ended.resumed_from) == ("finished", 9, stop_at)
    for kind in ("step", "validation"):
        assert lines_of(tmp_path / "whole", kind) == lines_of(tmp_path / "parts", kind)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert ended.history == tuple(
        {name: value for name, value in line.items() if name != "kind"}
        for line in lines_of(tmp_path / "whole", "validation")
    )


def test_a_run_goes_on_without_what_it_started_from(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(places[2], tmp_path / "start")
    config = tiny_finetuning(places[0], places[1], tmp_path / "start", drop_path_rate=0.3)
    run(config, tmp_path / "whole")
    run(config, tmp_path / "parts", stop_at=4)
    shutil.rmtree(tmp_path / "start")
    run(config, tmp_path / "parts")
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_best_epoch_is_kept(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle epoch is made the best one: its checkpoint is what the model is."""
    from vjepa2.tasks import finetuner

    wanted = iter([0.2, 0.9, 0.4])
    monkeypatch.setattr(finetuner, "top_k_accuracy", lambda *_: next(wanted))
    config = tiny_finetuning(*places, runtime={"keep_checkpoints": 1, "checkpoint_every": 100})
    result = run(config, tmp_path / "run")
    assert result.best is not None
    assert (result.best["epoch"], result.best["step"], result.best["top1"]) == (2, 6, 0.9)
    stored, last = checkpoint(tmp_path / "run", 6), checkpoint(tmp_path / "run", 9)
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, stored[f"modules.network.{name}"])
    name = "modules.network.classifier.weight"
    assert not torch.equal(stored[name], last[name])
    trained_on = TrainedOn.load(tmp_path / "run" / "model")
    assert trained_on.details["validation"]["epoch"] == 2


# -- what it leaves behind ------------------------------------------------------------------------


def test_the_model_is_what_others_load(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = tiny_finetuning(*places, method="lora", adapters={"rank": 2})
    result = run(config, tmp_path / "run")
    assert result.model == tmp_path / "run" / "model"
    names = sorted(MOTIONS)
    model = VJEPA2ForVideoClassification.from_pretrained(result.model)
    assert model.config.id2label == dict(enumerate(names))
    assert (model.config.crop_size, model.config.frames_per_clip) == (32, 4)
    theirs = transformers.AutoModelForVideoClassification.from_pretrained(result.model).eval()
    x = clip(model.config)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x).logits, model(x).logits, atol=1e-5, rtol=1e-5)
    processor = VJEPA2VideoProcessor.from_pretrained(result.model)
    assert processor.crop_size == {"height": 32, "width": 32}

    trained_on = TrainedOn.load(result.model)
    assert trained_on.label_map == LabelMap({"label": tuple(names)})
    files = sorted(places[0].parent.glob("*.npy"))
    assert set(trained_on.item_hashes) == {content_hash(file) for file in files}
    assert trained_on.views["num_frames"] == 4 and trained_on.task == "finetune"
    assert trained_on.encoder.width == 32 and trained_on.encoder.levels == (1,)
    json.loads(json.dumps(result.as_dict()))

    # Validation, done by hand with the published protocol of one view.
    from vjepa2.data.labelled_lists import read_labelled
    from vjepa2.data.views import ViewConfig, item_views, normalised

    views, right = ViewConfig(num_frames=4, crop_size=32), 0
    items = read_labelled(places[1], label_map=trained_on.label_map).items
    for item in items:
        pixels = normalised(item_views(item, views), views)[:, 0]
        with torch.no_grad():
            right += int(model(pixels).logits.argmax()) == item.labels[0]
    assert result.best is not None and result.best["top1"] == pytest.approx(right / len(items))


def test_a_classifier_is_trained_further_with_its_own_numbers(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Its classes are in another order than a list would number them, and one has no video."""
    names = ("object moves right", "something else", "nothing moves", "object moves left")
    start = tmp_path / "start"
    from tiny_models import randomise, tiny_config

    config = tiny_config(num_labels=None, id2label=dict(enumerate(names)))
    randomise(VJEPA2ForVideoClassification(config)).save_pretrained(start)
    result = run(tiny_finetuning(places[0], None, start, schedule={"epochs": 1}), tmp_path / "run")
    model = VJEPA2ForVideoClassification.from_pretrained(result.model)
    assert model.config.id2label == dict(enumerate(names))
    assert TrainedOn.load(result.model).label_map.class_names() == names


def test_several_segments_and_views(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = tiny_finetuning(
        *places,
        views={"num_segments": 2, "num_views": 3, "frame_step": 1},
        head={"levels": (0, 1)},
        schedule={"epochs": 1},
    )
    result = run(config, tmp_path / "run")
    assert result.history[0]["videos"] == 6
    assert "--sampling stride=1 --num-clips 2" in str(result)


def test_the_callers_random_numbers_go_on(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tiny_finetuning(*places), tmp_path / "run", stop_at=1)
    assert torch.equal(torch.get_rng_state(), before)


# -- what goes wrong ------------------------------------------------------------------------------


def test_bad_files_are_named_and_too_many_stop_the_run(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(places[0].parent, tmp_path / "train")
    files = sorted((tmp_path / "train").glob("*.npy"))
    files[0].write_bytes(b"nothing")
    train = tmp_path / "train" / "list.csv"
    result = run(tiny_finetuning(train, *places[1:]), tmp_path / "one")
    assert result.reason == "finished" and result.bad_files == 1
    assert files[0].name in (tmp_path / "one" / "bad_files.jsonl").read_text()
    for file in files[1:5]:
        file.write_bytes(b"nothing")
    with pytest.raises(BadFilesError, match="max_bad_share"):
        run(tiny_finetuning(train, *places[1:]), tmp_path / "many")
    assert (tmp_path / "many" / "bad_files.jsonl").exists()


def test_what_cannot_be_trained_is_refused_before_it_begins(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, val, start = places
    one = tmp_path / "one.csv"
    one.write_text(f"path,label\n{next(train.parent.glob('*.npy'))},a\n")
    unknown = tmp_path / "unknown.csv"
    unknown.write_text(f"path,label\n{next(val.parent.glob('*.npy'))},object jumps\n")
    copied = tmp_path / "copy.npy"
    shutil.copy(next(train.parent.glob("*.npy")), copied)
    leak = tmp_path / "leak.csv"
    leak.write_text(f"path,label\ncopy.npy,{MOTIONS[0]}\n")
    for lists, error, words in (
        ((one, None), LabelError, "one class"),
        ((train, unknown), LabelError, "object jumps"),
        ((train, leak), LeakError, "copy.npy"),
        ((tmp_path / "none.csv", None), FileNotFoundError, "none.csv"),
    ):
        with pytest.raises(error, match=words):
            run(tiny_finetuning(*lists, start), tmp_path / "run")
    with pytest.raises(ConfigError, match="last_blocks=9"):
        run(tiny_finetuning(*places, method="last_blocks", last_blocks=9), tmp_path / "run")
    with pytest.raises(LabelError, match="no head 'verb'"):
        run(tiny_finetuning(*places, data={"head": "verb"}), tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        run(tiny_finetuning(*places), tmp_path / "file")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"start_from": None}, "no model to start from"),
        ({"data": {"train": None}}, "nothing to learn from"),
        ({"mix": {"mixup": 0.01}}, "hardly ever mixes"),
        ({"method": "lora", "optim": {"layer_decay": 0.5}}, "layer_decay"),
        ({"schedule": {"epochs": 1, "warmup_epochs": 2}}, "more than the whole run"),
        ({"runtime": {"sharding": "fsdp2"}}, "fsdp2"),
        ({"metod": "lora"}, "Did you mean 'method'"),
    ],
)
def test_settings_that_make_no_sense(
    places: tuple[Path, Path, Path], tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(FineTuneConfig(**{**tiny_finetuning(*places).model_dump(), **values}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_list_or_configuration_is_not_the_same_run(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, val, start = places
    run(tiny_finetuning(*places), tmp_path / "run", stop_at=2)
    with pytest.raises(CheckpointFormatError, match=r"schedule\.lr: 0.002 in the checkpoint"):
        run(tiny_finetuning(*places, schedule={"lr": 1e-3}), tmp_path / "run")
    lines = train.read_text().splitlines()
    (train.parent / "shorter.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(CheckpointFormatError, match="train videos"):
        run(tiny_finetuning(train.parent / "shorter.csv", val, start), tmp_path / "run")
    # The same files elsewhere are the same run.
    moved = shutil.copytree(train.parent, tmp_path / "moved")
    config = tiny_finetuning(moved / "list.csv", val, start, batch={"micro_batch": 2})
    assert run(config, tmp_path / "run", stop_at=3).resumed_from == 2


def test_a_loss_that_is_no_number_reaches_no_weight(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    config = tiny_finetuning(*places, schedule={"lr": 1e30, "warmup_epochs": 0})
    with pytest.raises(DivergedError, match="Lower schedule.lr"):
        run(config, tmp_path / "run")
    for folder in sorted((tmp_path / "run" / "checkpoints").glob("step-*")):
        stored = load_file(folder / "part-0000.safetensors")
        assert all(bool(value.isfinite().all()) for value in stored.values())
