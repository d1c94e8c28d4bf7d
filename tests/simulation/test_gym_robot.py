"""Environments of Gymnasium as robots: a point that is moved in a square."""

import sys
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    MissingExtraError,
    RobotError,
    ShapeError,
)
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.mpc import RecedingHorizon
from vjepa2.planning.objective import GoalSchedule, StateGoal
from vjepa2.protocols import Objective, Robot, Rollout
from vjepa2.simulation.gym_robot import GymnasiumRobot

gymnasium = pytest.importorskip("gymnasium", reason="the extra sim is not installed")


class Point(gymnasium.Env):  # type: ignore[misc]
    """A bright pixel in a square of 16, moved by actions [1, 2]; it ends at the right border."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = "rgb_array", dictionary: bool = False) -> None:
        self.render_mode, self.dictionary = render_mode, dictionary
        self.action_space = gymnasium.spaces.Box(-0.1, 0.1, (1, 2), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
        self.place, self.closed = np.zeros(2), False

    def _seen(self) -> Any:
        place = self.place.astype(np.float32)
        return {"place": place} if self.dictionary else place

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(0.2, 0.5, 2)
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action.shape == (1, 2) and action.dtype == np.float32
        self.place = self.place + action[0].astype(np.float64)
        return self._seen(), 1.0, bool(self.place[0] > 0.95), False, {}

    def render(self) -> np.ndarray:
        picture = np.zeros((16, 16, 3), np.uint8)
        column, row = (self.place.clip(0, 0.99) * 16).astype(int)
        picture[row, column] = 255
        return picture

    def close(self) -> None:
        self.closed = True


class Sum:
    """A world in which actions add up."""

    action_size = state_size = 2

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(frames), 1, 1)

    def begin(self, latents: Any, states: torch.Tensor, actions: Any = None) -> torch.Tensor:
        return states[-1]

    def rollout(self, situation: torch.Tensor, actions: torch.Tensor) -> Rollout:
        states = situation + actions.cumsum(dim=1)
        return Rollout(
            latents=actions.new_zeros(*states.shape[:2], 1, 1), states=states, actions=actions
        )

    def costs(self, situation: Any, actions: torch.Tensor, objective: Objective) -> torch.Tensor:
        return objective(self.rollout(situation, actions))


def test_an_environment_is_driven_to_a_goal() -> None:
    robot = GymnasiumRobot(Point())
    assert isinstance(robot, Robot)
    space = robot.space()
    assert space.low == pytest.approx((-0.1, -0.1)) and space.high == pytest.approx((0.1, 0.1))
    goal = StateGoal(torch.tensor([0.8, 0.1]), torch.ones(2))
    loop = RecedingHorizon(
        Sum(),
        ImprovedCEM(CEMSettings(horizon=2, samples=64, iterations=4)),
        space,
        GoalSchedule((goal,), reached_below=1e-3),
        pixels=lambda seen: seen.frames["camera"].permute(2, 0, 1)[None].float(),
        max_steps=12,
    )
    episode = loop.run(robot)
    assert episode.error == "" and episode.reason == "goals reached"
    assert robot.observe().state == pytest.approx([0.8, 0.1], abs=0.04)
    robot.close()


def test_observations_hold_picture_state_and_time() -> None:
    env = Point()
    robot = GymnasiumRobot(env, seed=5, repeat=2, camera="top")
    seen = robot.reset()
    assert robot.control_rate_hz == 5
    assert seen.frames["top"].shape == (16, 16, 3) and seen.frames["top"].dtype == torch.uint8
    assert seen.state == pytest.approx(env.place, abs=1e-6) and seen.time_seconds == 0
    before = env.place.copy()
    robot.act(torch.tensor([0.05, -0.1]))
    after = robot.observe()
    assert env.place - before == pytest.approx([0.1, -0.2], abs=1e-6)
    assert after.time_seconds == pytest.approx(0.2) and after.facts["reward"] == 2.0
    assert not torch.equal(seen.frames["top"], after.frames["top"])


def test_episodes_belong_to_the_seed() -> None:
    first, second = GymnasiumRobot(Point(), seed=1), GymnasiumRobot(Point(), seed=1)
    states = [(first.reset().state, second.reset().state) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in states)
    assert not torch.equal(states[0][0], states[1][0])


def test_the_end_of_an_episode_and_a_stop_are_told() -> None:
    robot = GymnasiumRobot(Point())
    with pytest.raises(RobotError, match="reset"):
        robot.act(torch.zeros(2))
    with pytest.raises(RobotError, match="reset"):
        robot.observe()
    robot.reset()
    with pytest.raises(RobotError, match="terminated"):
        for _ in range(12):
            robot.act(torch.tensor([0.1, 0.0]))
    assert "terminated" in robot.observe().facts["ended"]
    robot.reset()
    robot.stop()
    with pytest.raises(RobotError, match="stopped"):
        robot.act(torch.zeros(2))


def test_wrong_actions_are_refused_and_rounding_is_not() -> None:
    robot = GymnasiumRobot(Point())
    robot.reset()
    robot.act(torch.tensor([0.1, 0.1]))  # float32(0.1) is above 0.1
    with pytest.raises(RobotError, match="Number 1 .* allows -0.1 to 0.1"):
        robot.act(torch.tensor([0.0, 0.2]))
    with pytest.raises(ShapeError, match=r"\[2\]"):
        robot.act(torch.zeros(3))
    with pytest.raises(DtypeError, match="finite"):
        robot.act(torch.tensor([0.0, float("nan")]))


def test_environments_that_cannot_be_robots_are_named() -> None:
    with pytest.raises(ConfigError, match="rgb_array"):
        GymnasiumRobot(Point(render_mode=None))
    discrete, endless = Point(), Point()
    discrete.action_space = gymnasium.spaces.Discrete(3)
    endless.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    with pytest.raises(ConfigError, match="Box"):
        GymnasiumRobot(discrete)
    with pytest.raises(ConfigError, match="bounds"):
        GymnasiumRobot(endless)
    with pytest.raises(ShapeError, match="state="):
        GymnasiumRobot(Point(dictionary=True)).reset()
    robot = GymnasiumRobot(Point(dictionary=True), state=lambda seen: seen["place"])
    assert robot.reset().state.shape == (2,)


def test_without_the_package_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium.spaces", None)
    with pytest.raises(MissingExtraError, match=r"vjepa2\[sim\]"):
        GymnasiumRobot(Point())
