"""Checkpoints: complete or not there, safe to read, and clear about what is wrong."""

import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigError,
    InputError,
    OutputError,
)
from vjepa2.training import checkpoint_io
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.checkpoint_folder import clear_leftovers, steps_in
from vjepa2.training.distributed import one_process
from vjepa2.training.state import TrainingState, random_states, set_random_states

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import TinyRun

CONFIG = {"seed": 0, "clip": {"sizes": (4, 5), "crop": 64}, "runtime": {"device": "cpu"}}


def store_in(folder: Path, *, keep: int = 2, config: Any = None, free: Any = ()) -> CheckpointStore:
    return CheckpointStore(
        folder,
        config=CONFIG if config is None else config,
        processes=one_process(),
        keep=keep,
        may_differ=free,
    )


def trained_run(steps: int = 2) -> TinyRun:
    run = TinyRun(one_process())
    for step in range(steps):
        run.run_step(step)
    return run


def contents(run: TinyRun) -> dict[str, torch.Tensor]:
    """Every tensor that matters, by hand: networks and the optimizer's own state dict."""
    tensors = {f"s.{k}": v for k, v in run.objective.state_dict().items()}
    tensors |= {f"t.{k}": v for k, v in run.teacher.state_dict().items()}
    for number, values in run.optimizer.state_dict()["state"].items():
        tensors |= {f"o.{number}.{key}": value for key, value in values.items()}
    return {name: value.clone() for name, value in tensors.items()}


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    run = trained_run()
    store_in(tmp_path).save(2, run.state())
    expected, draws = contents(run), (torch.rand(3), random.random(), np.random.rand())
    other = TinyRun(one_process())
    store = store_in(tmp_path)
    assert store.latest() == 2
    assert store.load(2, other.state()) == {"seen": 16}
    found = contents(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len([name for name in expected if name.startswith("o.")]) == 3 * 11
    assert torch.equal(torch.rand(3), draws[0])
    assert (random.random(), np.random.rand()) == draws[1:]
    # The optimizer goes on from its statistics: the next steps are the same.
    run.run_step(2), other.run_step(2)
    found, expected = contents(other), contents(run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_every_kind_of_number_survives(tmp_path: Path) -> None:
    module = nn.Module()
    kinds = (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)
    for kind in kinds:
        name = str(kind).split(".")[1]
        module.register_buffer(f"{name}_2d", torch.randn(3, 2).mul(9).to(kind))
        module.register_buffer(f"{name}_scalar", torch.tensor(1).to(kind))
    module.register_buffer("empty", torch.zeros(0, 4))
    module.register_buffer("columns", torch.randn(4, 3).T)  # not contiguous
    module.register_buffer("special", torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    store = store_in(tmp_path)
    folder = store.save(0, TrainingState({"m": module}))
    for value in module.buffers():
        value.zero_()
    store.load(0, TrainingState({"m": module}))
    for name, value in module.state_dict().items():
        assert (
            value.numpy(force=True).tobytes() == before[name].numpy(force=True).tobytes()
            if (value.dtype != torch.bfloat16)
            else torch.equal(value, before[name])
        ), name
    # The part file is an ordinary safetensors file.
    written = load_file(folder / "part-0000.safetensors")
    assert torch.equal(written["modules.m.bfloat16_2d"], before["bfloat16_2d"])


def test_random_states_include_the_cached_second_normal() -> None:
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1), np.random.randn()  # each keeps a second number for the next call
    states = random_states(torch.device("cpu"))
    expected = (random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist())
    set_random_states(states, torch.device("cpu"))
    assert (random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist()) == expected


def test_the_newest_stay_and_the_protected_ones(tmp_path: Path) -> None:
    run, store = trained_run(), store_in(tmp_path, keep=2)
    store.save(1, run.state())
    store.protect("best", 1)
    for step in (2, 3, 4):
        store.save(step, run.state())
    assert store.steps() == [1, 3, 4]
    store.protect("healthy", 3)
    store.protect("best", 4)
    assert store.protected() == {"best": 4, "healthy": 3}
    store.save(5, run.state())
    store.save(6, run.state())
    assert store_in(tmp_path).steps() == [3, 4, 5, 6]
    store.discard_after(4)
    assert store.steps() == [3, 4]
    assert store.protected() == {"best": 4, "healthy": 3}
    store.discard_after(3)
    assert store.protected() == {"healthy": 3}
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint step-0000009 to keep"):
        store.protect("best", 9)
    with pytest.raises(ConfigError, match="keep must be 1 or more"):
        store_in(tmp_path, keep=0)


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    run, store = trained_run(), store_in(tmp_path)
    store.save(2, run.state())
    run.values["seen"] = 7
    store.save(2, run.state())
    assert store.load(2, run.state()) == {"seen": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000002"]


def test_leftovers_of_killed_runs_are_never_taken(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    complete = store.save(2, trained_run().state())
    for name in (".writing-step-0000003", ".deleting-step-0000001", ".replaced-step-0000002"):
        shutil.copytree(complete, tmp_path / name)
    # Killed between the two renames that replace a checkpoint.
    complete.rename(tmp_path / ".replaced-step-0000005")
    assert store.steps() == []
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000002", "step-0000005"]
    busy = pytest.raises(OutputError, match="Another run trains in")
    with store.lock(), busy, store_in(tmp_path).lock():
        pass
    with store_in(tmp_path).lock():
        pass


def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = trained_run(), store_in(tmp_path)
    store.save(1, run.state())
    write_part = checkpoint_io.write_part

    def full(path: Path, tensors: Any) -> Any:
        write_part(path, tensors)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io, "write_part", full)
    with pytest.raises(OutputError, match=r"Cannot write .*step-0000002: No space left on device"):
        store.save(2, run.state())
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]
    monkeypatch.undo()
    assert store.load(1, run.state()) == {"seen": 16}


def test_a_file_that_cannot_grow_is_an_error_of_the_writer(tmp_path: Path) -> None:
    """The kernel refuses bytes past a limit, as it does on a full disk."""
    run, store = trained_run(), store_in(tmp_path)
    store.save(1, run.state())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OutputError, match="Cannot write .*step-0000002: File too large"):
            store.save(2, run.state())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Cannot write"):
        store_in(tmp_path / "new").save(1, trained_run().state())


def test_a_file_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OutputError, match="Cannot use"), store_in(tmp_path / "checkpoints").lock():
        pass
    with pytest.raises(OutputError, match="Cannot write"):
        store_in(tmp_path / "checkpoints").save(1, trained_run().state())


def damage_truncate(folder: Path) -> None:
    part = folder / "part-0000.safetensors"
    part.write_bytes(part.read_bytes()[:-100])


def damage_bit(folder: Path) -> None:
    part = folder / "part-0000.safetensors"
    data = bytearray(part.read_bytes())
    data[-2000] ^= 1
    part.write_bytes(bytes(data))


def damage_part_missing(folder: Path) -> None:
    (folder / "part-0000.safetensors").unlink()


def damage_index_cut(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_text(path.read_text()[:300])


def damage_index_value(folder: Path) -> None:
    """As an editor saves it; every field is still of its type."""
    path = folder / "checkpoint.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "values": {}}, indent=2))


def damage_index_digits(folder: Path) -> None:
    (folder / "checkpoint.json").write_text(f'{{"step": {"9" * 5000}}}')


def damage_index_nested(folder: Path) -> None:
    (folder / "checkpoint.json").write_text(f'{{"step": {"[" * 100_000}')


def damage_index_missing(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()


def damage_pickle(folder: Path) -> None:
    """What a stranger might send: code that runs when it is unpickled."""
    code = pickle.dumps(Evil())
    (folder / "checkpoint.json").write_bytes(code)
    (folder / ".metadata").write_bytes(code)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_truncate, "has .* bytes; it must have"),
        (damage_bit, "its checksum is wrong"),
        (damage_part_missing, "part-0000.safetensors is missing"),
        (damage_index_cut, "checkpoint.json cannot be read"),
        (damage_index_value, "checkpoint.json was changed or damaged: its checksum is wrong"),
        (damage_index_digits, "checkpoint.json cannot be read"),
        (damage_index_nested, "checkpoint.json cannot be read"),
        (damage_index_missing, "checkpoint.json cannot be read"),
        (damage_pickle, "checkpoint.json"),
    ],
)
def test_damage_is_named_and_so_is_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run, store = trained_run(), store_in(tmp_path / "c", keep=3)
    for step in (1, 2, 3):
        store.save(step, run.state())
    damage(tmp_path / "c" / "step-0000003")
    damage_truncate(tmp_path / "c" / "step-0000002")
    before = contents(run)
    with pytest.raises(CheckpointFormatError, match=words) as found:
        store.load(3, run.state())
    assert "The newest one before it that is complete is step-0000001" in str(found.value)
    assert not Path("pwned").exists()
    assert all(torch.equal(value, before[name]) for name, value in contents(run).items())
    shutil.rmtree(tmp_path / "c" / "step-0000001")
    with pytest.raises(CheckpointFormatError, match="There is no complete one before it"):
        store.load(3, run.state())


def test_an_index_written_in_another_way_says_the_same(tmp_path: Path) -> None:
    run, store = trained_run(), store_in(tmp_path)
    index = store.save(1, run.state()) / "checkpoint.json"
    values = json.loads(index.read_text())
    index.write_text(json.dumps(dict(reversed(values.items())), indent=1))
    assert store.load(1, run.state()) == {"seen": 16}


@pytest.mark.parametrize("text", ['{"best": ' + "9" * 5000 + "}", "[" * 100_000, "[1]"])
def test_a_damaged_note_of_protected_ones_is_named(tmp_path: Path, text: str) -> None:
    store = store_in(tmp_path)
    store.save(1, trained_run().state())
    (tmp_path / "protected.json").write_text(text)
    with pytest.raises(CheckpointFormatError, match="protected.json cannot be read.*Remove it"):
        store.protected()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("files", "../../secret", "num_bytes"), 3, "no part file|not as this version"),
        (("files", "part-0000.safetensors", "num_bytes"), -1, "not as this version"),
        (
            ("tensors", "modules.teacher.mask_tokens", "dtype"),
            "__class__",
            "is of type '__class__'",
        ),
        (("tensors", "modules.teacher.mask_tokens", "shape"), [-3], "has shape"),
        (
            ("tensors", "modules.teacher.mask_tokens", "parts"),
            [["part-0000.safetensors", 0, 2]],
            "has 2 of 3 rows",
        ),
        (
            ("tensors", "modules.teacher.mask_tokens", "parts"),
            [["part-0000.safetensors", 1, 3]],
            "lacks rows from 0 on",
        ),
        (("tensors", "modules.teacher.mask_tokens", "parts"), [["x", 0, 3]], "is not listed"),
        (("format",), "vjepa2-training-9", "not as this version"),
        (("stp",), 9, "not as this version writes it.*Did you mean 'step'"),
    ],
)
def test_an_index_is_checked_field_by_field(
    tmp_path: Path, path: tuple[str, ...], value: Any, words: str
) -> None:
    run, store = trained_run(), store_in(tmp_path)
    index = store.save(1, run.state()) / "checkpoint.json"
    values = json.loads(index.read_text())
    *sections, leaf = path
    place = values
    for section in sections:
        place = place.setdefault(section, {})
    place[leaf] = value
    index.write_text(json.dumps(values))
    with pytest.raises(CheckpointFormatError, match=words):
        store.load(1, run.state())


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    run = trained_run()
    store_in(tmp_path).save(1, run.state())
    other = {"seed": 1, "clip": {"sizes": (4, 6, 7)}, "runtime": {"device": "cuda"}, "new": True}
    with pytest.raises(CheckpointFormatError) as found:
        store_in(tmp_path, config=other, free=("runtime",)).load(1, run.state())
    listed = [line.strip() for line in str(found.value).splitlines()[1:-1]]
    assert listed == [
        "clip.crop: 64 in the checkpoint, absent now",
        "clip.sizes.1: 5 in the checkpoint, 6 now",
        "clip.sizes.2: absent in the checkpoint, 7 now",
        "new: absent in the checkpoint, true now",
        "seed: 0 in the checkpoint, 1 now",
    ]
    with pytest.raises(CheckpointFormatError, match='runtime.device: "cpu" in the checkpoint'):
        store_in(tmp_path, config={**CONFIG, "runtime": {"device": "cuda"}}).load(1, run.state())
    free = ("runtime.device", "see")  # "see" is no start of a section's name
    changed = {**CONFIG, "runtime": {"device": "cuda"}}
    store_in(tmp_path, config=changed, free=free).load(1, run.state())
    with pytest.raises(CheckpointFormatError, match="seed"):
        store_in(tmp_path, config={**CONFIG, "seed": 1}, free=free).load(1, run.state())
    assert store_in(tmp_path, config={}).stored_config(1)["clip"] == {"sizes": [4, 5], "crop": 64}


def test_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(1, TrainingState({"m": nn.Linear(3, 2), "n": nn.Linear(1, 1)}))
    other = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(CheckpointMismatchError, match="4 are missing, 4 have no place") as found:
        store.load(1, TrainingState({"other": other, "k": nn.Linear(2, 2)}))
    assert found.value.missing == [
        "modules.k.bias",
        "modules.k.weight",
        "modules.other.0.bias",
        "modules.other.0.weight",
    ]
    with pytest.raises(CheckpointMismatchError) as found:
        store.load(1, TrainingState({"m": nn.Linear(3, 4), "n": nn.Linear(1, 1).double()}))
    assert found.value.mismatched == [
        ("modules.m.bias", "float32 [2]", "float32 [4]"),
        ("modules.m.weight", "float32 [2, 3]", "float32 [4, 3]"),
        ("modules.n.bias", "float32 [1]", "float64 [1]"),
        ("modules.n.weight", "float32 [1, 1]", "float64 [1, 1]"),
    ]
    with pytest.raises(CheckpointNotFoundError, match="There are: step-0000001"):
        store.load(4, TrainingState({}))


def test_an_optimizer_of_other_modules_is_refused(tmp_path: Path) -> None:
    run = trained_run()
    state = TrainingState({"teacher": run.teacher}, run.optimizer)
    with pytest.raises(InputError, match="in none of the modules teacher"):
        store_in(tmp_path).save(1, state)


def test_statistics_that_do_not_exist_yet_are_not_made_up(tmp_path: Path) -> None:
    """A parameter without gradients so far has no count of updates; it must stay so."""
    module = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module[0](torch.ones(2)).sum().backward()
    optimizer.step()
    store = store_in(tmp_path)
    store.save(1, TrainingState({"m": module}, optimizer))
    fresh = torch.optim.AdamW(module.parameters(), lr=0.1)
    store.load(1, TrainingState({"m": module}, fresh))
    assert {id(p) for p in fresh.state} == {id(p) for p in module[0].parameters()}
    assert steps_in(tmp_path) == [1]


KILLS = """
import os, random, signal, sys, time
sys.path.insert(0, {here!r})
from test_checkpoint import *
from vjepa2.training.engine import run_training
from vjepa2.training.metrics import MetricsLog
torch.set_num_threads(1)
folder = Path({folder!r})

def train(where, pause):
    run = TinyRun(one_process(), num_steps=40)
    step = run.run_step
    def slow_step(number):
        time.sleep(pause)
        return step(number)
    run.run_step = slow_step
    store, log = store_in(where / "c"), MetricsLog(where / "m.jsonl")
    result = run_training(run, store, log, processes=one_process(), num_steps=40,
                          checkpoint_every=2, quiet=True)
    torch.save(contents(run), where / "end.pt")
    return result

train(folder / "calm", 0)
random.seed(5)
kills = 0
while kills < 400:
    child = os.fork()
    if child == 0:
        train(folder / "wild", 0.01)
        os._exit(0)
    # The later kills come later, so that the run gets on even on a slow machine.
    time.sleep(random.uniform(0.02, 0.15) * (1 + kills / 20))
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] == 0:
        break
    kills += 1
calm, wild = (torch.load(folder / name / "end.pt") for name in ("calm", "wild"))
print(kills, all(torch.equal(calm[name], wild[name]) for name in calm))
"""


def test_random_kills_change_nothing(tmp_path: Path) -> None:
    """SIGKILL while training and saving: every resume works, the end equals an undisturbed run."""
    code = KILLS.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=250
    )
    assert done.returncode == 0, done.stderr
    kills, equal = done.stdout.split()
    assert int(kills) >= 3 and equal == "True", done.stdout
    calm, wild = (
        [json.loads(line) for line in (tmp_path / name / "m.jsonl").read_text().splitlines()]
        for name in ("calm", "wild")
    )
    losses = [
        [(line["step"], line["loss"]) for line in lines if line["kind"] == "step"]
        for lines in (calm, wild)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 40
