"""A whole run on array clips: its golden curve, stops and resumes, what it leaves behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vjepa2
from tiny_pretraining import tiny_run, write_clips
from vjepa2.data.order import Order
from vjepa2.errors import (
    BadFilesError,
    CheckpointFormatError,
    ConfigError,
    DataError,
    DivergedError,
    LabelError,
    OutputError,
    VJEPAError,
)
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.pretrain import PretrainResult, pretrain
from vjepa2.tasks.pretrain_batches import Batches, StreamBatches
from vjepa2.tasks.pretrain_folder import (
    Rollbacks,
    load_run_config,
    newest_index,
    read_rollbacks,
    write_rollbacks,
)
from vjepa2.tasks.pretrain_health import labelled_clips
from vjepa2.tasks.pretrain_networks import make_networks, start_model
from vjepa2.tasks.pretrain_resolve import may_differ, with_micro_batches
from vjepa2.tasks.pretrain_streams import own_micro_batches
from vjepa2.tasks.pretrainer import Pretrainer
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.health import HealthMonitor, Verdict

# Losses of 20 updates, seed 3. Another processor rounds otherwise, which grows over the updates.
GOLDEN = [
    0.86837, 0.792394, 0.721479, 0.666889, 0.677422, 0.6448, 0.61441, 0.608529, 0.592831, 0.574803,
    0.59562, 0.56459, 0.513008, 0.484176, 0.472638, 0.521047, 0.501569, 0.540799, 0.495309,
    0.521092,
]  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


def lines_of(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines_of(run, "step")]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def run_quietly(config: Any, folder: Path, **options: Any) -> PretrainResult:
    return pretrain(config, folder, quiet=True, **options)


def test_golden_loss_curve(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, schedule={"num_steps": 20})
    run_quietly(config, tmp_path / "a")
    assert losses(tmp_path / "a") == pytest.approx(GOLDEN, abs=2e-4)
    run_quietly(config, tmp_path / "b")
    assert losses(tmp_path / "b") == losses(tmp_path / "a")


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_a_stopped_run_goes_on_bit_for_bit(clips: Path, tmp_path: Path, stop_at: int) -> None:
    """Stochastic depth, masks, order, optimizer and average; with and without a measurement."""
    config = tiny_run(clips)
    run_quietly(config, tmp_path / "whole")
    stopped = run_quietly(config, tmp_path / "parts", stop_at=stop_at)
    assert (stopped.reason, stopped.step, stopped.model) == ("stop_at", stop_at, None)
    ended = run_quietly(config, tmp_path / "parts")
    assert (ended.reason, ended.step, ended.resumed_from) == ("finished", 12, stop_at)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(first[name], second[name]) for name in first)
    whole, parts = (lines_of(tmp_path / name, "health") for name in ("whole", "parts"))
    assert whole == parts
    assert [line["step"] for line in whole] == [0, 6, 12]


@pytest.mark.parametrize("truncation", ["batch", "none"])
def test_accumulated_gradients_equal_a_large_batch(
    clips: Path, tmp_path: Path, truncation: str
) -> None:
    """Without stochastic depth, which is drawn per micro-batch."""
    for size in (1, 2, 4):
        config = tiny_run(
            clips,
            clip={"micro_batch": size},
            network={"drop_path_rate": 0.0},
            truncation=truncation,
            schedule={"num_steps": 3},
            # At the usual 1e-8 AdamW makes a whole step out of the rounding of a tiny gradient.
            optim={"eps": 1e-6},
        )
        run_quietly(config, tmp_path / str(size))
    for size in (1, 2):
        first, second = weights(tmp_path / "4"), weights(tmp_path / str(size))
        assert max(float((first[name] - second[name]).abs().max()) for name in first) < 2e-6


def test_masks_cut_within_a_micro_batch_stay_on_other_numbers_of_processes(
    clips: Path, tmp_path: Path
) -> None:
    """What is left open is settled at the first start."""
    config = tiny_run(clips, truncation="micro_batch", network={"drop_path_rate": 0.0})
    assert config.clip.micro_batch is None
    run_quietly(config, tmp_path / "run", stop_at=2)
    stored = load_run_config(tmp_path / "run")
    assert stored.clip.micro_batch == 4
    for again in (config, stored):  # the same command, or only the folder
        two = Processes(0, 2, 0, torch.device("cpu"))
        settled = with_micro_batches(again, newest_index(tmp_path / "run"), two)
        assert settled.clip.micro_batch == 4
        with pytest.raises(ConfigError, match="Start at most 1"):
            own_micro_batches(settled.clip, two)
    assert with_micro_batches(config, None, two).clip.micro_batch == 2
    # A checkpoint of an earlier version holds none: of as many processes as wrote it.
    index = newest_index(tmp_path / "run")
    assert index is not None
    index.config["clip"]["micro_batch"] = None
    assert with_micro_batches(config, index, two).clip.micro_batch == 4
    assert "clip.micro_batch" in may_differ(config, index)
    run_quietly(config, tmp_path / "run")


def test_the_model_is_the_average_and_embeds(clips: Path, tmp_path: Path) -> None:
    result = run_quietly(tiny_run(clips), tmp_path / "run")
    assert result.model == tmp_path / "run" / "model"
    model = VJEPA2Model.from_pretrained(result.model)
    [checkpoint] = sorted((tmp_path / "run" / "checkpoints").glob("step-0000012"))
    stored = load_file(checkpoint / "part-0000.safetensors")
    for name, value in model.encoder.named_parameters():
        torch.testing.assert_close(value, stored[f"modules.average.{name}"], rtol=0, atol=0)
    for name, value in model.predictor.named_parameters():
        wanted = stored[f"modules.student.predictor.{name}"]
        torch.testing.assert_close(value, wanted, rtol=0, atol=0)
    [row] = vjepa2.embed(np.load(clips / "clip_00.npy"), model=str(result.model))
    assert row.embedding.shape == (32,)
    assert bool(torch.as_tensor(row.embedding).isfinite().all())


def test_the_average_follows_a_rising_momentum(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(
        clips,
        schedule={"num_steps": 3, "momentum": 0.5, "final_momentum": 0.9},
        runtime={"checkpoint_every": 1, "keep_checkpoints": 5},
    )
    run_quietly(config, tmp_path / "run")
    first, *others = (
        load_file(tmp_path / f"run/checkpoints/step-000000{step}/part-0000.safetensors")
        for step in (1, 2, 3)
    )
    momenta = [config.schedule.rates(step).momentum for step in range(3)]
    assert len(set(momenta)) == 3
    name = "layer.0.attention.query.weight"
    average = first[f"modules.average.{name}"]
    for momentum, stored in zip(momenta[1:], others, strict=True):
        student = stored[f"modules.student.encoder.{name}"]
        average = momentum * average + (1 - momentum) * student
        torch.testing.assert_close(stored[f"modules.average.{name}"], average, rtol=0, atol=1e-7)


def test_the_callers_random_numbers_go_on(clips: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run_quietly(tiny_run(clips, schedule={"num_steps": 1}), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


def test_recomputation_changes_nothing(clips: Path, tmp_path: Path) -> None:
    run_quietly(tiny_run(clips), tmp_path / "plain")
    run_quietly(tiny_run(clips, runtime={"recompute": True}), tmp_path / "again")
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "plain"), abs=1e-6)


def test_bfloat16_stays_near(clips: Path, tmp_path: Path) -> None:
    run_quietly(tiny_run(clips), tmp_path / "full")
    run_quietly(tiny_run(clips, runtime={"dtype": "bfloat16"}), tmp_path / "half")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "full"), abs=0.03)
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "half").values())


def test_cool_down_on_longer_and_larger_clips(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, cooldown_clip={"num_frames": 8, "crop_size": 40, "batch_size": 2})
    run_quietly(config, tmp_path / "whole")
    run_quietly(config, tmp_path / "parts", stop_at=10)  # inside the cool-down, from update 9
    run_quietly(config, tmp_path / "parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    model = VJEPA2Model.from_pretrained(tmp_path / "whole" / "model")
    assert (model.config.crop_size, model.config.frames_per_clip) == (40, 8)


def test_the_next_run_starts_from_a_run(clips: Path, tmp_path: Path) -> None:
    """The published cool-down: networks, average and optimizer go on, the schedule begins anew."""
    run_quietly(tiny_run(clips), tmp_path / "first")
    # One update that moves nothing but the count of updates.
    still = {"num_steps": 4, "start_lr": 0.0, "lr": 1e-12, "weight_decay": 0.0, "momentum": 1.0}
    config = tiny_run(clips, network=None, start_from=str(tmp_path / "first"), schedule=still)
    result = run_quietly(config, tmp_path / "second", stop_at=1)
    assert (result.step, result.resumed_from) == (1, None)
    first = load_file(tmp_path / "first/checkpoints/step-0000012/part-0000.safetensors")
    second = load_file(tmp_path / "second/checkpoints/step-0000001/part-0000.safetensors")
    for name in first:
        if name.startswith("modules."):
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-9)
        elif name.endswith("/step"):
            assert (float(first[name]), float(second[name])) == (12.0, 13.0)


def test_low_rank_adapters_train_and_are_merged(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    first = run_quietly(tiny_run(clips), tmp_path / "first")
    config = tiny_run(
        clips,
        network=None,
        start_from=str(first.model),
        adapters={"rank": 2, "alpha": 4.0},
        schedule={"num_steps": 4},
    )
    result = run_quietly(config, tmp_path / "second")
    before, after = weights(tmp_path / "first"), load_file(result.model / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    in_encoder = {name for name in changed if name.startswith("encoder.")}
    assert in_encoder == {
        f"encoder.layer.{block}.attention.{part}.weight"
        for block in (0, 1)
        for part in ("query", "value")
    }
    assert any(name.startswith("predictor.") for name in changed)


def test_images_beside_clips_with_version_2_1(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(
        clips,
        network={"variant": "vjepa2_1", "levels": [0, 1]},
        images={
            "data": {"sources": [{"path": str(clips), "frame_step": 1}], "workers": 0},
            "crop_size": 40,
            "batch_size": 2,
            "masks": [{"num_blocks": 2, "spatial_scale": (0.2, 0.2)}],
        },
        objective={"context_weight": 0.5, "context_rise": (0.25, 0.5)},
    )
    run_quietly(config, tmp_path / "run")
    steps = lines_of(tmp_path / "run", "step")
    # Both context losses count by 0 before a quarter of the run and by 0.5 after half of it.
    for number, weight in ((0, 0.0), (3, 0.0), (6, 0.5), (11, 0.5)):
        line = steps[number]
        wanted = line["prediction_loss"] + weight * line["context_loss"]
        assert line["loss"] == pytest.approx(wanted, abs=1e-6)
    before = start_model(config)
    after = VJEPA2Model.from_pretrained(tmp_path / "run" / "model")
    for name in ("patch_embeddings_img.proj.weight", "patch_embeddings.proj.weight"):
        first, last = (model.encoder.embeddings.get_parameter(name) for model in (before, after))
        assert not torch.equal(first, last)  # clips and images both trained


def test_files_that_changed_meanwhile_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_clips(tmp_path / "clips", count=3)
    run_quietly(tiny_run(folder), tmp_path / "run", stop_at=2)
    write_clips(folder, count=4)
    run_quietly(tiny_run(folder), tmp_path / "run", stop_at=4)
    assert (
        "names of a source's files are not those that the run began with" in capfd.readouterr().err
    )
    events = [line["event"] for line in lines_of(tmp_path / "run", "event")]
    assert events.count("files_changed") == 1
    run_quietly(tiny_run(folder), tmp_path / "run", stop_at=5)
    assert "began with" not in capfd.readouterr().err


def test_sources_of_several_lengths_train_together(clips: Path, tmp_path: Path) -> None:
    """Every length is a part of the micro-batch with a grid and masks of its own."""
    own = [{"path": str(clips), "frame_step": 1, "num_frames": length} for length in (4, 8)]
    config = tiny_run(clips, data={"sources": own}, clip={"batch_size": 6})
    run_quietly(config, tmp_path / "whole")
    run_quietly(config, tmp_path / "parts", stop_at=5)
    run_quietly(config, tmp_path / "parts")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]
    with pytest.raises(ConfigError, match="several lengths do not go with truncation"):
        tiny_run(clips, data={"sources": own}, truncation="none")
    with pytest.raises(ConfigError, match="multiple of the tubelet_size"):
        tiny_run(clips, data={"sources": [own[0], {**own[1], "num_frames": 5}]})


def test_a_frozen_teacher_of_other_width_is_distilled(clips: Path, tmp_path: Path) -> None:
    """arXiv:2603.14482: the teacher stays, the student's average is the result."""
    levels = {"variant": "vjepa2_1", "levels": [0, 1]}
    teacher_run = tiny_run(clips, network={**levels, "hidden_size": 48}, schedule={"num_steps": 1})
    teacher = run_quietly(teacher_run, tmp_path / "teacher")
    config = tiny_run(
        clips,
        network={**levels, "pred_num_levels": 1, "pred_output_size": 48},
        objective={"teacher": str(teacher.model), "context_weight": 0.5},
    )
    run_quietly(config, tmp_path / "student")
    model = VJEPA2Model.from_pretrained(tmp_path / "student" / "model")
    assert (model.config.hidden_size, model.config.pred_output_size) == (32, 48)
    assert losses(tmp_path / "student")[-1] < losses(tmp_path / "student")[0]
    with pytest.raises(ConfigError, match=r"1 level\(s\) of width 48.*width 40"):
        run_quietly(
            tiny_run(
                clips,
                network={**levels, "pred_num_levels": 1, "pred_output_size": 40},
                objective={"teacher": str(teacher.model)},
            ),
            tmp_path / "other",
        )


def test_online_probes_of_a_labelled_list(clips: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in clips.glob("*.npy"))
    rows = [f"{clips / name},{number % 2}" for number, name in enumerate(names)]
    labelled = tmp_path / "labelled.csv"
    labelled.write_text("\n".join(["path,label", *rows]) + "\n")
    run_quietly(
        tiny_run(clips, health={"labelled": str(labelled)}, schedule={"num_steps": 2}),
        tmp_path / "run",
    )
    for line in lines_of(tmp_path / "run", "health"):
        for name in ("teacher_knn", "teacher_linear", "student_knn", "student_linear"):
            assert 0 <= line[name] <= 1
        assert line["probe_chance"] == pytest.approx(0.5, abs=0.11)
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(["path", *(str(clips / name) for name in names)]) + "\n")
    with pytest.raises(LabelError, match="10 of 10 files have no label"):
        run_quietly(tiny_run(clips, health={"labelled": str(bare)}), tmp_path / "unlabelled")


def test_every_part_of_a_long_labelled_list_is_asked(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorted by class, with any numbers as labels; the first source holds still images."""
    monkeypatch.setattr("vjepa2.tasks.pretrain_health.MAX_LABELLED_CLIPS", 20)
    rows = [f"{clips}/clip_{i % 10:02d}.npy,{-1 if i < 40 else 10**12}" for i in range(80)]
    (tmp_path / "labelled.csv").write_text("\n".join(["path,label", *rows]))
    config = tiny_run(
        clips,
        data={
            "sources": [
                {"path": str(clips), "kind": "image"},
                {"path": str(clips), "frame_step": 1},
            ]
        },
        health={"labelled": str(tmp_path / "labelled.csv")},
    )
    pixels, labels = labelled_clips(config)
    assert len(pixels) == len(labels) == 20
    assert set(labels.tolist()) == {-1, 10**12}


def alarm_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor finds a collapse at one measurement, the first time it is made."""
    really = HealthMonitor.add_health
    seen: set[int] = set()

    def add_health(monitor: HealthMonitor, number: int, numbers: Any) -> Verdict:
        verdict = really(monitor, number, numbers)
        if number != step or number in seen:
            return verdict
        seen.add(number)
        monitor.last_healthy_step = 4
        return Verdict(
            step=number, state="collapsed", reason="All alike.", advice="", alarm=True, new=True
        )

    monkeypatch.setattr(HealthMonitor, "add_health", add_health)


def test_an_alarm_stops_the_run_after_saving(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm_at(6, monkeypatch)
    result = run_quietly(tiny_run(clips, health={"action": "stop", "every": 2}), tmp_path / "run")
    assert (result.reason, result.step, result.model) == ("alarm", 6, None)
    assert "All alike" in result.alarm and "All alike" in str(result)
    assert (tmp_path / "run/checkpoints/step-0000006").is_dir()
    [event] = [line for line in lines_of(tmp_path / "run", "event") if line["event"] == "alarm"]
    assert event["step"] == 6 and event["state"] == "collapsed"


def test_an_alarm_rolls_back_to_the_last_healthy_checkpoint_at_half_the_rate(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_run(clips, health={"every": 2}, runtime={"checkpoint_every": 2})
    run_quietly(plain, tmp_path / "plain")
    alarm_at(6, monkeypatch)
    config = tiny_run(
        clips, health={"action": "rollback", "every": 2}, runtime={"checkpoint_every": 2}
    )
    result = run_quietly(config, tmp_path / "run")
    assert result.reason == "finished"
    rates, before = (
        [line["lr"] for line in lines_of(tmp_path / name, "step")] for name in ("run", "plain")
    )
    assert rates[:4] == before[:4]
    assert rates[4:] == pytest.approx([rate / 2 for rate in before[4:]])
    events = [line["event"] for line in lines_of(tmp_path / "run", "event")]
    assert events.count("rollback") == 1


def test_a_rolled_back_run_keeps_its_rate_after_a_kill_and_lowers_it_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "health": {"action": "rollback", "every": 2},
        "runtime": {"checkpoint_every": 2, "keep_checkpoints": 5},
    }
    alarm_at(6, monkeypatch)
    run_quietly(tiny_run(clips, **options), tmp_path / "run", stop_at=8)
    # As after a kill between the roll-back and the next checkpoint.
    for step in (6, 8):
        shutil.rmtree(tmp_path / f"run/checkpoints/step-000000{step}")
    alarm_at(6, monkeypatch)
    run_quietly(tiny_run(clips, **options), tmp_path / "run", stop_at=8)
    monkeypatch.undo()
    rates = [line["lr"] for line in lines_of(tmp_path / "run", "step")]
    wanted = [tiny_run(clips).schedule.rates(step).lr for step in range(8)]
    assert rates[:4] == pytest.approx(wanted[:4])
    assert rates[4:] == pytest.approx([rate / 4 for rate in wanted[4:]])


def test_a_kill_in_the_middle_of_a_roll_back_changes_nothing(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the note and the discarding of later checkpoints."""
    options = {
        "health": {"action": "rollback", "every": 2},
        "runtime": {"checkpoint_every": 2, "keep_checkpoints": 5},
    }
    alarm_at(6, monkeypatch)
    run_quietly(tiny_run(clips, **options), tmp_path / "whole")
    monkeypatch.undo()
    alarm_at(6, monkeypatch)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "discard_after", killed)
        with pytest.raises(KeyboardInterrupt):
            run_quietly(tiny_run(clips, **options), tmp_path / "killed")
    assert (tmp_path / "killed/checkpoints/step-0000006").exists()
    result = run_quietly(tiny_run(clips, **options), tmp_path / "killed")
    assert result.resumed_from == 4
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    note = Rollbacks(lr_factor=0.5, count=1)
    assert read_rollbacks(tmp_path / "killed") == read_rollbacks(tmp_path / "whole") == note
    # Also over several starts, a run goes back three times only.
    write_rollbacks(tmp_path / "killed", replace(note, count=3))
    shutil.rmtree(tmp_path / "killed/checkpoints/step-0000012")
    monkeypatch.undo()
    alarm_at(10, monkeypatch)
    with pytest.raises(DivergedError, match="3 times already"):
        run_quietly(tiny_run(clips, **options), tmp_path / "killed")


def test_notes_of_an_earlier_run_do_not_reach_a_new_one(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_rollbacks(run, Rollbacks(lr_factor=0.5, count=1, to_step=0))
    (run / "bad_files.jsonl").write_text('{"path": "old.mp4", "count": 1}\n')
    run_quietly(tiny_run(clips), run, stop_at=2)
    result = run_quietly(tiny_run(clips), run, stop_at=4)
    assert result.bad_files == 0
    wanted = [tiny_run(clips).schedule.rates(step).lr for step in range(4)]
    assert [line["lr"] for line in lines_of(run, "step")] == pytest.approx(wanted)


def test_an_alarm_stops_every_start_until_told_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(4):
        np.save(folder / f"{number}.npy", np.full((8, 40, 40, 3), 80, np.uint8))
    config = tiny_run(folder, health={"action": "stop", "every": 2})
    first, *others = [run_quietly(config, tmp_path / "run") for _ in range(3)]
    assert first.reason == "alarm"
    for again in others:
        assert (again.reason, again.step) == ("alarm", first.step)
        assert "health.action=warn" in again.alarm
    config = tiny_run(folder, health={"action": "warn", "every": 2})
    assert run_quietly(config, tmp_path / "run").reason == "finished"


@pytest.mark.parametrize(("channels", "pixel_max"), [(1, 255.0), (12, 10_000.0)])
def test_frames_of_any_number_of_channels(tmp_path: Path, channels: int, pixel_max: float) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        frames = generator.integers(0, int(pixel_max), size=(8, channels, 40, 40))
        np.save(folder / f"{number}.npy", frames.astype(np.uint16))
    config = tiny_run(
        folder,
        network={"in_chans": channels},
        augment={"mean": [0.5] * channels, "std": [0.3] * channels, "pixel_max": pixel_max},
        schedule={"num_steps": 2},
    )
    result = run_quietly(config, tmp_path / "run")
    model = VJEPA2Model.from_pretrained(result.model)
    assert model.config.in_chans == channels
    # Processors are for colour; the text does not promise one.
    assert not (result.model / "video_preprocessor_config.json").exists()
    assert "vjepa2 embed" not in str(result)


def test_the_processor_knows_the_greatest_pixel(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, augment={"pixel_max": 200.0}, schedule={"num_steps": 1})
    result = run_quietly(config, tmp_path / "run")
    saved = json.loads((result.model / "video_preprocessor_config.json").read_text())
    assert saved["rescale_factor"] == pytest.approx(1 / 200)


def test_a_cool_down_without_updates_does_not_name_the_model(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(
        clips,
        cooldown_clip={"num_frames": 8, "crop_size": 40, "batch_size": 4},
        schedule={"num_steps": 2, "cooldown_share": 0.0},
    )
    result = run_quietly(config, tmp_path / "run")
    assert VJEPA2Model.from_pretrained(result.model).config.crop_size == 32


def test_a_run_goes_on_elsewhere_and_remembers_what_was_changed(
    clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_quietly(tiny_run(clips), tmp_path / "run", stop_at=2)
    moved = shutil.copytree(clips, tmp_path / "moved")
    run_quietly(tiny_run(moved, runtime={"checkpoint_every": 3}), tmp_path / "run", stop_at=4)
    assert "began with" not in capfd.readouterr().err
    stored = load_run_config(tmp_path / "run")
    assert stored.data.sources[0].path == str(moved)
    assert stored.runtime.checkpoint_every == 3
    (tmp_path / "run/config.json").unlink()  # the checkpoints hold it too
    assert load_run_config(tmp_path / "run") == stored
    run_quietly(stored, tmp_path / "run")
    run_quietly(tiny_run(clips), tmp_path / "plain")
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"network": {"variant": "vjepa2"}, "objective": {"context_weight": 0.5}}, "V-JEPA 2.1"),
        ({"clip": {"batch_size": 4, "micro_batch": 3}}, "must divide batch_size=4"),
        ({"clip": {"num_frames": 3}}, "multiple of the tubelet_size, 2"),
        ({"clip": {"crop_size": 30}}, "multiple of the patch_size, 8"),
        ({"start_from": "somewhere"}, "network to null"),
        ({"network": {"in_chans": 12}}, "one per channel"),
        ({"adapters": {}}, "fresh ones would stay random"),
        ({"network": {"levels": [0, 1]}}, "levels belong to V-JEPA 2.1"),
        ({"optim": {"betas": (2.0, 0.9)}}, "betas.0: Input should be less than 1"),
        ({"augment": {"scale": (0.3, 50.0)}}, "at most 1, got"),
        ({"masks": []}, "nothing to predict"),
        ({"objective": {"context_rise": (0.5, 0.2)}}, "rising"),
        ({"schedule": {"warmup_share": 0.9, "cooldown_share": 0.9}}, "at most 1"),
    ],
)
def test_contradictions_are_refused_before_any_work(
    clips: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        tiny_run(clips, **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"network": None}, "set start_from"),
        ({"data": {"sources": []}}, "nothing to learn from"),
        ({"runtime": {"sharding": "ddp"}}, "torchrun"),
        ({"runtime": {"device": "cuda:77"}}, "cannot be used"),
    ],
)
def test_what_cannot_run_leaves_nothing_behind(
    clips: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        run_quietly(tiny_run(clips, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_colour_files_are_refused_for_twelve_channels_at_once(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"never opened")
    config = tiny_run(
        tmp_path,
        network={"in_chans": 12},
        augment={"mean": [0.5] * 12, "std": [0.5] * 12},
    )
    with pytest.raises(ConfigError, match=r"12 channels.*holds videos.*clip\.mp4"):
        run_quietly(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run_lists_the_differences(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_quietly(tiny_run(clips), tmp_path, stop_at=2)
    other = tiny_run(clips, seed=4, schedule={"lr": 1e-3}, data={"workers": 1})
    # Before networks are made.
    monkeypatch.setattr("vjepa2.tasks.pretrain.make_networks", None)
    with pytest.raises(CheckpointFormatError) as caught:
        run_quietly(other, tmp_path)
    message = str(caught.value)
    assert "seed" in message and "schedule.lr" in message and "0.003" in message
    assert "workers" not in message
    assert load_run_config(tmp_path).seed == 3  # of the first run, still


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"objective": {"context_weight": 0.5}}, "belong to V-JEPA 2.1"),
        ({"clip": {"num_frames": 5}}, "multiple of the tubelet_size, 2"),
        ({"clip": {"crop_size": 36}}, "multiple of the patch_size, 8"),
        ({"augment": {"mean": [0.5], "std": [0.5]}}, "reads 3 channels"),
    ],
)
@pytest.mark.parametrize("start", ["", "model"])
def test_contradictions_with_a_loaded_network(
    clips: Path, tmp_path: Path, changes: dict[str, Any], text: str, start: str
) -> None:
    run_quietly(tiny_run(clips, schedule={"num_steps": 1}), tmp_path / "first")
    config = tiny_run(clips, network=None, start_from=str(tmp_path / "first" / start), **changes)
    with pytest.raises(ConfigError, match=text):
        run_quietly(config, tmp_path / "second")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("action", ["warn", "stop", "rollback"])
def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """The loss is finite; one gradient of update 6 is not, once."""
    really = Pretrainer._backward
    spoiled: list[int] = []

    def backward(trainer: Pretrainer, micro: Any, step: int) -> Any:
        numbers = really(trainer, micro, step)
        if step == 6 and not spoiled:
            spoiled.append(step)
            next(trainer.student.parameters()).grad.view(-1)[0] = float("nan")
        return numbers

    monkeypatch.setattr(Pretrainer, "_backward", backward)
    config = tiny_run(clips, health={"action": action, "every": 2}, runtime={"checkpoint_every": 2})
    if action == "rollback":
        assert run_quietly(config, tmp_path / "run").reason == "finished"
        assert all(bool(value.isfinite().all()) for value in weights(tmp_path / "run").values())
        return
    with pytest.raises(DivergedError, match=r"Update 6 was not made.*from before: 6 updates"):
        run_quietly(config, tmp_path / "run")
    for path in (tmp_path / "run/checkpoints").glob("*/*.safetensors"):
        stored = {name: value for name, value in load_file(path).items() if "random" not in name}
        assert all(bool(value.isfinite().all()) for value in stored.values())
    monkeypatch.undo()
    run_quietly(config, tmp_path / "run")
    run_quietly(tiny_run(clips, health={"every": 2}), tmp_path / "plain")
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")


def test_a_file_is_no_folder_for_a_run(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        run_quietly(tiny_run(clips), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_missing_and_empty_sources(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        config = tiny_run(clips, data={"sources": [{"path": str(path), "frame_step": 1}]})
        with pytest.raises(VJEPAError) as caught:
            run_quietly(config, tmp_path / "run")
        assert str(path) in str(caught.value)
        assert ("--data NEW_FOLDER" in str(caught.value)) == (path.name == "nowhere")
        assert isinstance(caught.value, DataError)


def test_bad_files_are_counted_and_named(clips: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", count=6)
    (folder / "broken.npy").write_bytes(b"no array")
    source = {"path": str(folder), "frame_step": 1}
    result = run_quietly(
        tiny_run(clips, data={"sources": [source], "max_bad_share": 0.9}), tmp_path / "run"
    )
    assert result.reason == "finished"
    rows = [
        json.loads(line) for line in (tmp_path / "run/bad_files.jsonl").read_text().splitlines()
    ]
    [row] = rows
    assert row["path"].endswith("broken.npy") and row["count"] >= 1 and row["reason"]
    assert "1 files could not be read" in str(result) and result.as_dict()["bad_files"] == 1
    # Stopped in between, the counts of both parts add up.
    config = tiny_run(clips, data={"sources": [source], "max_bad_share": 0.9})
    run_quietly(config, tmp_path / "parts", stop_at=5)
    run_quietly(config, tmp_path / "parts")
    [again] = (tmp_path / "parts/bad_files.jsonl").read_text().splitlines()
    assert json.loads(again)["count"] >= row["count"]


def test_too_many_bad_files_stop_the_run(clips: Path, tmp_path: Path) -> None:
    """They are judged after 20 tries: not among the two held-out clips, but while training."""
    folder = write_clips(tmp_path / "clips", count=10)
    for number in range(6):
        (folder / f"broken_{number}.npy").write_bytes(b"no array")
    data = {
        "sources": [{"path": str(folder), "frame_step": 1}],
        "judge_after": 20,
        "max_bad_share": 0.1,
    }
    with pytest.raises(BadFilesError, match="max_bad_share"):
        run_quietly(tiny_run(clips, data=data, health={"num_clips": 2}), tmp_path / "run")
    assert (tmp_path / "run/bad_files.jsonl").exists()
    assert list((tmp_path / "run/checkpoints").glob("step-*"))  # what was learned so far


def test_a_source_of_bad_files_only_names_them(tmp_path: Path) -> None:
    """The first clips that are read are those of the measurement."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        (folder / f"broken_{number}.npy").write_bytes(b"no array")
    with pytest.raises(BadFilesError, match=r"Mend or remove them, or set the source's kind"):
        run_quietly(tiny_run(folder), tmp_path / "run")
    rows = (tmp_path / "run/bad_files.jsonl").read_text().splitlines()
    assert {Path(json.loads(row)["path"]).name for row in rows} == {
        f"broken_{number}.npy" for number in range(3)
    }


def test_bad_files_before_a_cool_down_are_not_forgotten(tmp_path: Path) -> None:
    """One that only updates 7 to 9 read, between the measurement and the cool-down."""
    folder = write_clips(tmp_path / "clips", count=60)
    config = tiny_run(folder)
    order = Order([60], weights=None, order="weighted", seed=3, batch_size=4)
    drawn = [{order(step, place).item for place in range(4)} for step in range(12)]
    found = set().union(*drawn[6:9]) - set().union(*drawn[:6], *drawn[9:])
    name = sorted(path.name for path in folder.iterdir())[min(found)]
    (folder / name).write_bytes(b"no array")
    assert run_quietly(config, tmp_path / "run").bad_files == 1
    [row] = (tmp_path / "run/bad_files.jsonl").read_text().splitlines()
    assert json.loads(row)["path"].endswith(name)


def test_epochs_go_on_in_a_cool_down_of_other_batches(clips: Path, tmp_path: Path) -> None:
    read = Path(shutil.copytree(clips, tmp_path / "clips"))
    config = tiny_run(
        read,
        data={"order": "epochs"},
        clip={"batch_size": 2},
        cooldown_clip={"num_frames": 4, "crop_size": 32, "batch_size": 1},
        schedule={"num_steps": 8, "cooldown_share": 0.5},
    )
    processes = Processes(0, 1, 0, torch.device("cpu"))
    batches = Batches(config, make_networks(config).student.encoder.config, processes)
    files: list[str] = []
    really = StreamBatches._micro_batch

    def watched(self: StreamBatches, samples: list[Any], *args: Any, **options: Any) -> Any:
        files.extend(sample.path for sample in samples)
        return really(self, samples, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StreamBatches, "_micro_batch", watched)
        for step in range(6):  # 4 of two clips, 2 of one: all ten files
            list(batches.next(step))
    batches.close()
    assert len(set(files)) == len(files) == 10


def test_a_diverged_run_stops_with_a_reason(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, schedule={"lr": 1e30, "start_lr": 1e30})
    with pytest.raises(DivergedError, match=r"schedule\.lr"):
        run_quietly(config, tmp_path / "run")
