"""A model drives the simulated arm: what is written, going on, and what is refused."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from vjepa2 import VJEPA2ActionModel, VJEPA2Config
from vjepa2.errors import ConfigError, OutputError, RobotError
from vjepa2.simulation.robot import SimulatedArm, robot_spec
from vjepa2.tasks.closed_loop import DriveConfig, drive, model_loop
from vjepa2.tasks.world_folder import LoadedWorld, load_world
from vjepa2.video.reader import VideoReader

SMALL = DriveConfig(
    episodes=2, horizon=1, samples=6, iterations=1, picture_size=32, baselines=("zero",)
)


pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None, reason="the extra sim is not installed"
)


@pytest.fixture(scope="module", autouse=True)
def _graphics() -> None:
    robot = SimulatedArm(size=16)
    try:
        robot.reset()
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")
    finally:
        robot.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> LoadedWorld:
    """A network that knows nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("world")
    VJEPA2ActionModel(
        VJEPA2Config(
            model_type="vjepa2_ac",
            crop_size=16,
            patch_size=8,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            pred_hidden_size=16,
            pred_num_hidden_layers=1,
            pred_num_attention_heads=2,
            action_size=7,
            state_size=7,
        )
    ).save_pretrained(folder)
    return load_world(folder, device="cpu")


def test_attempts_traces_and_film_are_written_and_kept(world: LoadedWorld, tmp_path: Path) -> None:
    result = drive(world, tmp_path / "drive", config=SMALL, quiet=True)
    rows = {
        path.stem: json.loads(path.read_text())
        for path in sorted((tmp_path / "drive" / "attempts").iterdir())
    }
    assert list(rows) == ["model-0000", "model-0001", "zero-0000", "zero-0001"]
    for name, row in result.contenders.items():
        own = [value for key, value in rows.items() if key.startswith(name)]
        assert row["episodes"] == 2
        assert row["success"]["value"] == sum(value["success"] for value in own) / 2
        mean = sum(value["distance_metres"] for value in own) / 2
        assert row["mean_distance_cm"] == pytest.approx(100 * mean, abs=0.01)
    # Nothing moves when nothing is done.
    still = rows["zero-0000"]
    assert still["distance_metres"] == pytest.approx(still["first_distance_metres"], abs=5e-3)
    assert sorted(path.name for path in (tmp_path / "drive" / "traces").iterdir()) == [
        "0000",
        "0001",
    ]
    with VideoReader(str(result.films[0])) as film:
        assert film.metadata.num_frames >= rows["model-0000"]["num_actions"] + 1
    assert json.loads((tmp_path / "drive" / "results.json").read_text()) == json.loads(
        json.dumps(result.as_dict())
    )


def test_it_goes_on_and_grows(
    world: LoadedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drive(world, tmp_path / "whole", config=SMALL, quiet=True)
    first = SMALL.model_copy(update={"episodes": 1, "baselines": ()})
    drive(world, tmp_path / "parts", config=first, quiet=True)
    kept = tmp_path / "parts" / "attempts" / "model-0000.json"
    before = kept.stat().st_mtime_ns
    grown = drive(world, tmp_path / "parts", config=SMALL, quiet=True)
    assert kept.stat().st_mtime_ns == before
    for name, row in whole.contenders.items():
        own = grown.contenders[name]
        assert own["mean_distance_cm"] == row["mean_distance_cm"]
        assert own["success"] == row["success"]


def test_other_settings_and_damaged_files_are_refused(world: LoadedWorld, tmp_path: Path) -> None:
    once = SMALL.model_copy(update={"episodes": 1, "baselines": (), "films": 0})
    drive(world, tmp_path, config=once, quiet=True)
    with pytest.raises(ConfigError, match="horizon"):
        drive(world, tmp_path, config=once.model_copy(update={"horizon": 2}), quiet=True)
    (tmp_path / "attempts" / "model-0000.json").write_text("{")
    with pytest.raises(OutputError, match="Delete it"):
        drive(world, tmp_path, config=once, quiet=True)
    with pytest.raises(ConfigError, match="horizon"):
        DriveConfig().override(["horizn=2"])


def test_a_film_can_be_asked_for_later(world: LoadedWorld, tmp_path: Path) -> None:
    once = SMALL.model_copy(update={"episodes": 1, "baselines": (), "films": 0})
    first = drive(world, tmp_path, config=once, quiet=True)
    again = drive(world, tmp_path, config=once.model_copy(update={"films": 1}), quiet=True)
    assert not first.films and again.films[0].exists()
    row, same = (result.contenders["model"] for result in (first, again))
    assert row["mean_distance_cm"] == same["mean_distance_cm"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position_unit": "mm"}, "is not the simulated arm"),
        ({"gripper_open": 1.0, "gripper_closed": 0.0}, "is not the simulated arm"),
        ({"frame": "camera", "camera_pose": (0.0, 0, 0, 0, 0, 3.14)}, "is not the simulated arm"),
    ],
)
def test_models_of_other_robots_are_refused(
    world: LoadedWorld, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    from dataclasses import replace

    spec = robot_spec().model_copy(update=changes)
    with pytest.raises(ConfigError, match=words):
        drive(replace(world, spec=spec), tmp_path, config=SMALL, quiet=True)
    slow = replace(world, settings=world.settings.model_copy(update={"fps": 1.0}))
    with pytest.raises(ConfigError, match="4 actions a second"):
        drive(slow, tmp_path, config=SMALL, quiet=True)
    assert not list(tmp_path.iterdir())


def test_the_goal_is_a_picture(world: LoadedWorld) -> None:
    """The state of the goal is not told to the planner: another one changes nothing."""
    from dataclasses import replace

    from vjepa2.simulation.problems import make_problem

    robot = SimulatedArm(size=32)
    try:
        problem = make_problem("reach", robot, seed=0)
        [goal] = problem.goals
        [lied] = [replace(goal, state=goal.state + 1, cube=goal.cube + 1)]
        plans = []
        for shown in (goal, lied):
            loop = model_loop(world, replace(problem, goals=(shown,)), SMALL, seed=3)
            robot.start = problem.start
            plans.append(loop.run(robot).trace.steps[0].plan)
    finally:
        robot.close()
    assert plans[0] is not None and plans[1] is not None
    assert torch.equal(plans[0].actions, plans[1].actions)
