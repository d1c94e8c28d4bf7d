"""Runs that learn a world model: they learn, go on as if never stopped, and fit other robots."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tiny_worlds import SIDE, SPEC, dot_frames, dot_states, tiny_world, write_dots, write_encoder
from vjepa2 import VJEPA2ActionModel
from vjepa2.data.robot_layouts import read_episodes
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import (
    BadFilesError,
    CheckpointFormatError,
    CheckpointMismatchError,
    ConfigError,
    DivergedError,
    WeightsError,
)
from vjepa2.tasks.world_folder import load_world
from vjepa2.tasks.world_model import train_world_model

Written = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, encoder, features, and a finished run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    write_dots(folder / "data")
    write_encoder(folder / "encoder")
    train_world_model(run_of(folder), folder / "run", quiet=True)
    return folder


def run_of(place: Path, **changes: Any) -> Any:
    settings = {"encoder": str(place / "encoder"), "cache": {"folder": str(place / "cache")}}
    if "start_from" in changes:
        del settings["encoder"]
    return tiny_world(place / "data", **{**settings, **changes})


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    timed = ("seconds", "measure_seconds")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key not in timed}
        for row in rows
        if row["kind"] == kind
    ]


def weights(run: Path) -> Written:
    return load_file(run / "model" / "model.safetensors")


def changed(before: Written, after: Written) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_it_learns_what_actions_do(tmp_path: Path) -> None:
    data = write_dots(tmp_path / "data", count=24, length=24)
    encoder = write_encoder(tmp_path / "encoder")
    schedule = {
        "num_steps": 500,
        "lr": 4e-3,
        "start_lr": 4e-4,
        "warmup_share": 0.05,
        "cooldown_share": 0.5,
    }
    config = tiny_world(
        data,
        encoder=str(encoder),
        normalise=True,
        batch_size=16,
        schedule=schedule,
        health={"every": 500, "num_clips": 32},
    )
    result = train_world_model(config, tmp_path / "run", quiet=True)
    own = result.measured
    assert own["held_out_loss"] < 0.75 * own["copy_last_loss"]
    assert own["other_action_loss"] > 1.4 * own["held_out_loss"]
    assert result.verdict is not None and result.verdict.state == "healthy"
    assert "nothing changes" in str(result)

    # A new episode, through the finished model, in metres: what was learned is what is used.
    world = load_world(tmp_path / "run", device="cpu")
    states = dot_states(24, seed=99)
    frames = torch.from_numpy(dot_frames(states)).permute(0, 3, 1, 2)
    latents, known = world.encode(frames), world.spec.states(states)
    actions = world.spec.actions(known.double()).float()
    errors = []
    for number in range(23):
        situation = world.world.begin(latents[number : number + 1], known[number : number + 1])
        told = torch.stack([actions[number], -actions[number]])[:, None]
        ahead = world.world.rollout(situation, told)
        errors.append((ahead.latents[:, 0] - latents[number + 1]).abs().mean((1, 2)))
    right, wrong = torch.stack(errors).mean(dim=0).tolist()
    still = float((latents[1:] - latents[:-1]).abs().mean())
    # From a single frame, which is harder than with those before it.
    assert right < 0.9 * still and wrong > 1.2 * right


def test_a_run_goes_on_as_if_it_never_stopped(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = train_world_model(run_of(place), run, stop_at=4, quiet=True)
    assert (first.reason, first.step, first.model) == ("stop_at", 4, None)
    assert "vjepa2 world-model train --out" in str(first)
    with pytest.raises(WeightsError, match="has not ended"):
        load_world(run)
    second = train_world_model(run_of(place), run, quiet=True)
    assert (second.reason, second.resumed_from) == ("finished", 4)
    assert changed(weights(place / "run"), weights(run)) == set()
    for kind in ("step", "health"):
        assert lines(place / "run", kind) == lines(run, kind)
    again = train_world_model(run_of(place), run, quiet=True)
    assert again.step == 6 and again.model == run / "model"


def test_what_the_folder_holds(place: Path) -> None:
    world = load_world(place / "run", device="cpu")
    assert world.spec == SPEC and world.fps == 4 and world.context == 4 and world.camera is None
    assert world.processor.crop_size == {"height": SIDE, "width": SIDE}
    assert world.statistics is not None and world.statistics.actions.count == 3 * 11
    assert world.settings.validation is not None
    model = VJEPA2ActionModel.from_pretrained(place / "run" / "model")
    encoder = load_file(place / "encoder" / "model.safetensors")
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, encoder[f"encoder.{name}"])
    # The last measurement is that of the saved model.
    held_out = [e for e in read_episodes(place / "data") if _is_held_out(place, e.name)]
    assert len(held_out) == 1
    latents = world.encode_episode(held_out[0])
    still = np.mean(
        [
            float((latents[at + 1 : at + 4] - latents[at : at + 3]).abs().mean())
            for at in np.linspace(0, 8, 6).round().astype(int)
        ]
    )
    assert world.settings.validation["copy_last_loss"] == pytest.approx(still, rel=2e-3)


def _is_held_out(place: Path, name: str) -> bool:
    from vjepa2.tasks.world_recordings import read_recordings

    items = read_recordings(run_of(place), quiet=True).items
    return next(item.held_out for item in items if item.episode.name == name)


@pytest.mark.parametrize("normalise", [False, True])
def test_a_run_starts_from_another(place: Path, tmp_path: Path, normalise: bool) -> None:
    """Its first measurement is the last one of the model that it starts from."""
    config = run_of(place, start_from=str(place / "run"), normalise=normalise)
    train_world_model(config, tmp_path / "run", stop_at=1, quiet=True)
    before, after = lines(place / "run", "health")[-1], lines(tmp_path / "run", "health")[0]
    assert before["step"] == 6 and after["step"] == 0
    for name in ("held_out_loss", "rollout_loss_3", "other_action_loss"):
        assert after[name] == pytest.approx(before[name], rel=1e-5)


@pytest.mark.parametrize("trained", ["last_blocks", "lora"])
def test_part_of_the_predictor_learns(place: Path, tmp_path: Path, trained: str) -> None:
    config = run_of(
        place,
        start_from=str(place / "run"),
        trained=trained,
        last_blocks=1,
        adapters={"rank": 2, "targets": ["query"]},
    )
    run = tmp_path / "run"
    train_world_model(config, run, stop_at=3, quiet=True)
    result = train_world_model(config, run, quiet=True)
    assert result.resumed_from == 3
    moved = {
        name.removeprefix("predictor.") for name in changed(weights(place / "run"), weights(run))
    }
    conditions = {
        f"embeddings.{part}_embeddings.{kind}"
        for part in ("action", "state")
        for kind in ("weight", "bias")
    }
    if trained == "lora":
        assert moved == conditions | {"layer.0.attention.query.weight"}
        # The saved weights, adapters merged, are what was measured last.
        world = load_world(run, device="cpu")
        assert world.settings.validation == pytest.approx(
            {k: v for k, v in lines(run, "health")[-1].items() if k not in ("kind", "step")}
        )
        again = run_of(place, start_from=str(run))
        train_world_model(again, tmp_path / "again", stop_at=1, quiet=True)
        first = lines(tmp_path / "again", "health")[0]["held_out_loss"]
        assert first == pytest.approx(lines(run, "health")[-1]["held_out_loss"], rel=1e-5)
    else:
        assert conditions < moved and "proj.weight" in moved
        assert "embeddings.predictor_embeddings.weight" not in moved


def test_another_robot_keeps_the_rest_of_a_model(place: Path, tmp_path: Path) -> None:
    base = RobotSpec(kind="mobile_base", heading_column=6)
    config = run_of(place, start_from=str(place / "run"), robot=base.model_dump())
    train_world_model(config, tmp_path / "run", stop_at=0, quiet=True)
    finished = train_world_model(config, tmp_path / "run", quiet=True)
    world = load_world(tmp_path / "run", device="cpu")
    assert (world.world.action_size, world.world.state_size) == (3, 3)
    assert world.spec == base and finished.model is not None
    before = lines(place / "run", "health")[-1]["held_out_loss"]
    fresh = lines(place / "run", "health")[0]["held_out_loss"]
    started = lines(tmp_path / "run", "health")[0]["held_out_loss"]
    assert abs(started - before) < abs(started - fresh)  # the rest is what was learned


def test_causal_clips(place: Path, tmp_path: Path) -> None:
    config = run_of(place, frames_mode="causal_clip", cache={"batch_size": 5})
    train_world_model(config, tmp_path / "run", stop_at=0, quiet=True)
    whole = train_world_model(config, tmp_path / "run", quiet=True)
    assert whole.reason == "finished"
    world = load_world(tmp_path / "run", device="cpu")
    episode = read_episodes(place / "data")[0]
    together = world.encode_episode(episode)
    alone = world.encode_episode(episode, [5])
    before = world.encode_episode(episode, [4, 5])
    assert not torch.allclose(together[5], alone[0], atol=1e-3)
    torch.testing.assert_close(together[5], before[1])


@pytest.mark.parametrize("kind", ["sampled", "tokens"])
def test_several_cameras(place: Path, tmp_path: Path, kind: str) -> None:
    from vjepa2.data.lerobot_writer import LeRobotWriter

    data = tmp_path / "data"
    names = ["x", "y", "z", "a", "b", "c", "g"]
    with LeRobotWriter(
        data, fps=4, state_names=names, action_names=names, cameras=["front", "mirror"]
    ) as out:
        for seed in range(3):
            states = dot_states(8, seed=seed)
            views = {"front": dot_frames(states), "mirror": dot_frames(states, mirrored=True)}
            frames = {
                name: torch.from_numpy(view).permute(0, 3, 1, 2) for name, view in views.items()
            }
            out.add(states=states, actions=states, frames=frames, task="move")
    config = tiny_world(
        data,
        encoder=str(place / "encoder"),
        data={"cameras": ["front", "mirror"], "multi_camera": kind},
    )
    train_world_model(config, tmp_path / "run", quiet=True)
    world = load_world(tmp_path / "run", device="cpu")
    episode = read_episodes(data)[0]
    latents = world.encode({name: episode.frames(name) for name in ("mirror", "front")})
    front = load_world(place / "run", device="cpu").encode(episode.frames("front"))
    assert latents.shape == (8, 8 if kind == "tokens" else 4, 32)
    torch.testing.assert_close(latents[:, :4], front)
    situation = world.world.begin(latents[:1], world.spec.states(episode.states)[:1])
    ahead = world.world.rollout(situation, torch.zeros(2, 2, 7))
    assert ahead.latents.shape == (2, 2, *latents.shape[1:])


def test_features_are_computed_once(place: Path, tmp_path: Path) -> None:
    shards = sorted((place / "cache").glob("*.safetensors"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    train_world_model(run_of(place), tmp_path / "run", stop_at=1, quiet=True)
    assert [shard.stat().st_mtime_ns for shard in shards] == times and len(times) == 1
    other = run_of(place, cache={"folder": str(place / "cache"), "dtype": "float32"})
    with pytest.raises(ConfigError, match="dtype"):
        train_world_model(other, tmp_path / "other", stop_at=1, quiet=True)


def test_features_from_the_disk_are_those_in_memory(place: Path, tmp_path: Path) -> None:
    config = run_of(place, cache={"folder": str(place / "cache"), "memory_gb": 0})
    train_world_model(config, tmp_path / "run", quiet=True)
    assert changed(weights(place / "run"), weights(tmp_path / "run")) == set()


def test_a_run_goes_on_only_with_its_own_data(place: Path, tmp_path: Path) -> None:
    data = write_dots(tmp_path / "data")
    config = tiny_world(data, encoder=str(place / "encoder"))
    train_world_model(config, tmp_path / "run", stop_at=1, quiet=True)
    shutil.rmtree(data)
    write_dots(data, first_seed=50)
    shutil.rmtree(tmp_path / "run" / "latents")
    with pytest.raises(CheckpointFormatError, match="not those that this run began"):
        train_world_model(config, tmp_path / "run", quiet=True)
    other = tiny_world(data, encoder=str(place / "encoder"), auto_steps=3)
    with pytest.raises(WeightsError, match="auto_steps"):
        train_world_model(other, tmp_path / "run", quiet=True)


def test_unusable_episodes(place: Path, tmp_path: Path) -> None:
    data = write_dots(tmp_path / "data", count=5)
    states = dot_states(12, seed=1)
    frames = dot_frames(states)
    states[3, 0] = np.nan
    np.savez(data / "4.npz", observations=frames, states=states)
    config = tiny_world(data, encoder=str(place / "encoder"))
    with pytest.raises(BadFilesError, match=r"1 of 5 episodes .* NaN.*check-data"):
        train_world_model(config, tmp_path / "run", quiet=True)
    config = config.override(["data.max_bad_share=0.5"])
    result = train_world_model(config, tmp_path / "run", stop_at=1, quiet=True)
    assert result.bad_files == 1 and "cannot be used" in str(result)
    row = json.loads((tmp_path / "run" / "bad_files.jsonl").read_text())
    assert "NaN" in row["reason"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"path": None}}, "--data"),
        ({"robot": None}, "--robot"),
        ({"encoder": None}, "--encoder"),
        ({"data": {"num_frames": 2}}, "auto_steps=2"),
        ({"data": {"num_frames": 13}}, "has 12 steps"),
        ({"data": {"cameras": ["wrist"]}}, "wrist"),
        ({"data": {"fps": 10}}, "4.00 Hz"),
        ({"trained": "lora"}, "set start_from"),
        ({"crop_size": 20}, "multiple of the patches"),
        ({"health": {"action": "rollback"}}, "rollback"),
        ({"cache": {"max_gb": 1e-9}}, "cache.max_gb"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_mistakes_are_named_before_any_update(
    place: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    settings = {"encoder": str(place / "encoder"), **changes}
    with pytest.raises((ConfigError, BadFilesError), match=message):
        train_world_model(tiny_world(place / "data", **settings), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_rate_too_high_is_told(place: Path, tmp_path: Path) -> None:
    config = run_of(place, schedule={"num_steps": 6, "lr": 1e30, "start_lr": 1e30})
    with pytest.raises(DivergedError, match=r"schedule\.lr"):
        train_world_model(config, tmp_path / "run", quiet=True)


def test_an_encoder_of_another_size(place: Path, tmp_path: Path) -> None:
    wide = write_encoder(tmp_path / "wide", hidden_size=48)
    config = run_of(place, start_from=str(place / "run"), encoder=str(wide))
    with pytest.raises(CheckpointMismatchError, match="does not fit"):
        train_world_model(config, tmp_path / "run", quiet=True)
    config = run_of(place, encoder=str(place / "run" / "model"))
    with pytest.raises(ConfigError, match="start_from"):
        train_world_model(config, tmp_path / "run", quiet=True)


def test_a_standing_camera_is_told(place: Path, tmp_path: Path) -> None:
    data = write_dots(tmp_path / "data", count=3)
    for path in data.glob("*.npz"):
        with np.load(path) as held:
            frames, states = held["observations"], held["states"]
        np.savez(path, observations=np.repeat(frames[:1], len(frames), axis=0), states=states)
    config = tiny_world(data, encoder=str(place / "encoder"))
    train_world_model(config, tmp_path / "run", stop_at=1, quiet=True)
    told = [row["event"] for row in lines(tmp_path / "run", "event")]
    assert "frames_alike" in told


def test_recordings_of_a_higher_rate_are_read_in_several_phases(
    place: Path, tmp_path: Path
) -> None:
    from vjepa2.tasks.world_recordings import read_recordings

    config = run_of(place, data={"path": str(place / "data"), "fps": 2.0, "phases": 2})
    found = read_recordings(config, quiet=True).items
    assert len(found) == 8 and {len(item) for item in found} == {6}
    first, second = found[:2]
    raw = SPEC.states(read_episodes(place / "data")[0].states)
    torch.testing.assert_close(first.states, raw[::2])
    torch.testing.assert_close(second.states, raw[1::2])
    assert first.held_out == second.held_out
