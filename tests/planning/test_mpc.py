"""The loop with a robot that works, raises, hangs, reports NaN, or is led out of its workspace."""

import math
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_form import generator
from torch import Tensor

from vjepa2.errors import ConfigError, DataError, DataNotFoundError, UnsafeActionError
from vjepa2.planning.action_space import arm_space, arm_workspace, box_space, published_space
from vjepa2.planning.cem import CEMSettings, ImprovedCEM
from vjepa2.planning.mpc import Episode, RecedingHorizon
from vjepa2.planning.objective import GoalSchedule, LatentGoal, arm_state_goal
from vjepa2.planning.safety import SafetyFilter
from vjepa2.planning.trace import read_trace
from vjepa2.poses import integrate_pose
from vjepa2.protocols import Observation, Rollout

START = torch.tensor([0.4, 0.0, 0.3, 3.1, 0.0, 0.0, 0.0])


class PointWorld:
    """Features of a frame are the position; a frame holds it in its first numbers."""

    action_size = state_size = 7

    def encode(self, frames: Tensor) -> Tensor:
        return frames[:, 0, 0, :3][:, None].float()

    def begin(self, latents: Tensor, states: Tensor, actions: Tensor | None = None) -> Any:
        assert len(latents) == len(states) == (0 if actions is None else len(actions)) + 1
        return states[-1]

    def rollout(self, situation: Tensor, actions: Tensor) -> Rollout:
        at, states = situation.expand(len(actions), -1), []
        for step in range(actions.shape[1]):
            at = integrate_pose(at, actions[:, step])
            states.append(at)
        stacked = torch.stack(states, dim=1)
        return Rollout(latents=stacked[:, :, None, :3], states=stacked, actions=actions)

    def costs(self, situation: Tensor, actions: Tensor, objective: Any) -> Tensor:
        return objective(self.rollout(situation, actions))


class PointRobot:
    def __init__(self, *, fails_at: int = -1, how: str = "") -> None:
        self.state, self.fails_at, self.how = START.clone(), fails_at, how
        self.acted, self.stopped = 0, 0
        self.released = threading.Event()

    def reset(self) -> Observation:
        return self.observe()

    def observe(self) -> Observation:
        frame = torch.zeros(1, 4, 3)
        frame[0, 0] = self.state[:3]
        state = self.state.clone()
        if self.how == "nan" and self.acted == self.fails_at:
            state[1] = math.nan
        if self.how == "jump" and self.acted == self.fails_at:
            state[1] += 0.5
        return Observation(frames={"wrist": frame}, state=state, time_seconds=float(self.acted))

    def act(self, action: Tensor) -> None:
        if self.acted == self.fails_at and self.how == "raise":
            raise ZeroDivisionError("motor 3")
        if self.acted == self.fails_at and self.how == "hang":
            self.released.wait(20)
        self.state = integrate_pose(self.state, action)
        self.acted += 1

    def stop(self) -> None:
        self.stopped += 1
        if self.how == "stop raises":
            raise OSError("no line")

    def close(self) -> None:
        pass


def goal_at(*position: float) -> LatentGoal:
    return LatentGoal(torch.tensor([position]))


def drive(robot: PointRobot, goals: GoalSchedule, folder: Path | None = None, **options) -> Episode:
    settings = {"max_steps": 12, "robot_timeout_seconds": 5.0} | options
    planner = ImprovedCEM(
        CEMSettings(horizon=2, samples=60, least_samples=30, iterations=5, top_k=6)
    )
    space = arm_space(fixed=dict.fromkeys((3, 4, 5, 6), 0.0))
    loop = RecedingHorizon(
        PointWorld(),
        planner,
        space,
        goals,
        pixels=lambda seen: seen.frames["wrist"][None],
        **settings,
    )
    return loop.run(robot, trace_folder=folder)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_goal_image_is_reached_and_the_trace_tells_how(
    tmp_path: Path, timeout: float | None
) -> None:
    robot = PointRobot()
    goals = GoalSchedule((goal_at(0.5, 0.1, 0.3),), reached_below=0.004)
    episode = drive(robot, goals, tmp_path / "trace", robot_timeout_seconds=timeout, context=3)
    assert episode.ended_well and episode.reason == "goals reached" and episode.goals_done == 1
    assert (robot.state[:3] - torch.tensor([0.5, 0.1, 0.3])).norm() < 0.02
    assert 3 <= robot.acted <= 6  # 0.2 in sizes, 0.075 each
    assert robot.stopped == 1
    saved = read_trace(tmp_path / "trace")
    assert len(saved.actions) == len(saved.plans) == robot.acted
    assert len(saved.states) == robot.acted + 1
    assert saved.words["reason"] == "goals reached"
    costs = [step["cost_now"] for step in saved.words["steps"]]
    assert costs[0] > costs[1] > costs[2]
    assert saved.words["steps"][0]["plan"]["history"]
    again = START.clone()
    for number in range(robot.acted):
        assert torch.allclose(saved.states[number], again, atol=1e-6)
        again = integrate_pose(again, saved.actions[number])


def test_several_goals_by_counts_and_by_reaching() -> None:
    places = (goal_at(0.45, 0.0, 0.3), goal_at(0.45, 0.05, 0.3), goal_at(0.4, 0.0, 0.3))
    counted = drive(PointRobot(), GoalSchedule(places, counts=(4, 1, 2)))
    assert counted.reason == "schedule done" and counted.goals_done == 3
    assert [step.goal for step in counted.trace.steps] == [0, 0, 0, 0, 1, 2, 2, 3]
    reached = drive(PointRobot(), GoalSchedule(places, reached_below=0.003), max_steps=20)
    assert reached.reason == "goals reached"
    assert len(reached.trace.steps) < 14  # fewer than by counts of four
    published = GoalSchedule(places, counts=(4, 10, 4))
    order = [0]
    taken = 0
    for _ in range(18):
        taken += 1
        after = published.after(order[-1], taken, 1.0)
        taken = 0 if after != order[-1] else taken
        order.append(after)
    assert order == [0] * 4 + [1] * 10 + [2] * 4 + [3]


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("raise", "robot failed", r"act\(\) failed: ZeroDivisionError: motor 3"),
        ("hang", "robot failed", r"act\(\) did not answer within 0.4 s"),
        ("nan", "refused", "state with NaN"),
        ("jump", "refused", "State 1 jumped by 0.5"),
    ],
)
def test_a_robot_that_fails_is_stopped_and_the_trace_saved(
    tmp_path: Path, how: str, reason: str, words: str
) -> None:
    robot = PointRobot(fails_at=2, how=how)
    safety = SafetyFilter(
        space=arm_space(fixed=dict.fromkeys((3, 4, 5, 6), 0.0)), max_state_change=0.2
    )
    goals = GoalSchedule((goal_at(0.7, 0.1, 0.3),))
    episode = drive(robot, goals, tmp_path / "t", robot_timeout_seconds=0.4, safety=safety)
    robot.released.set()
    assert not episode.ended_well
    assert episode.reason == reason
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(episode.error)
    assert robot.stopped >= 1
    saved = read_trace(tmp_path / "t")
    assert saved.words["error"] == episode.error
    assert len(saved.actions) in (2, 3)


def test_errors_of_others_and_a_stop_that_fails() -> None:
    robot = PointRobot(how="stop raises")
    episode = drive(robot, GoalSchedule((goal_at(0.4, 0.0, 0.3),), reached_below=0.1))
    assert episode.reason == "goals reached" and "stop() failed: no line" in episode.error
    robot = PointRobot()
    with pytest.raises(KeyError):
        drive(robot, GoalSchedule((lambda rollout: {}["cost"],)))
    assert robot.stopped == 1
    no_plan = drive(PointRobot(), GoalSchedule((lambda r: r.latents[:, 0, 0, 0] * math.nan,)))
    assert no_plan.reason == "no plan" and "finite cost" in no_plan.error


def test_the_robot_stays_in_its_workspace() -> None:
    space = arm_space(fixed=dict.fromkeys((3, 4, 5, 6), 0.0))
    safety = SafetyFilter(space=space, workspace=arm_workspace((0.2, -0.4, 0.0), (0.5, 0.4, 0.6)))
    robot = PointRobot()
    episode = drive(robot, GoalSchedule((goal_at(0.6, 0.0, 0.3),)), safety=safety, max_steps=5)
    assert episode.reason == "steps used up"
    assert 0.49 < robot.state[0] <= 0.5 + 1e-6


def test_the_safety_filter_clips_a_little_and_refuses_the_rest() -> None:
    space = arm_space(max_norm=0.1, l1_ball=False)
    safety = SafetyFilter(space=space, workspace=arm_workspace((0.2, -1, 0), (0.6, 1, 1)))
    action = torch.zeros(7)
    action[0] = 0.12
    clipped, changed = safety.checked_action(action)
    assert changed and clipped[0].item() == pytest.approx(0.1)
    fine, changed = safety.checked_action(clipped)
    assert not changed and torch.equal(fine, clipped)
    with pytest.raises(UnsafeActionError, match="action jumps: x is 1, which is 0.9 out"):
        safety.checked_action(torch.tensor([1.0, 0, 0, 0, 0, 0, 0]))
    with pytest.raises(UnsafeActionError, match="holds NaN"):
        safety.checked_action(torch.full((7,), math.nan))
    out, further = START.clone(), START.clone()
    out[0], further[0] = 0.7, 0.75
    with pytest.raises(UnsafeActionError, match="workspace: x is 0.7, allowed are 0.2 to 0.6"):
        safety.checked_action(clipped, state=START, predicted=out)
    safety.checked_action(-clipped, state=further, predicted=out)  # on the way back


def test_mistakes_are_named_before_anything_moves(tmp_path: Path) -> None:
    planner, goals = ImprovedCEM(), GoalSchedule((goal_at(0.0, 0.0, 0.0),))
    with pytest.raises(ConfigError, match="actions of 2 numbers, the world model of 7"):
        RecedingHorizon(
            PointWorld(), planner, box_space((-1.0,) * 2, (1.0,) * 2), goals, pixels=lambda s: s
        )
    with pytest.raises(ConfigError, match="must be at least 1 and at most 0"):
        arm_workspace((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="2 goals need as many counts"):
        GoalSchedule((goal_at(0.0), goal_at(0.0)), counts=(4,))
    with pytest.raises(ConfigError, match="Several goals need to know"):
        GoalSchedule((goal_at(0.0), goal_at(0.0)))
    with pytest.raises(DataNotFoundError, match="holds no trace"):
        read_trace(tmp_path)
    (tmp_path / "trace.json").write_text("{")
    (tmp_path / "trace.safetensors").write_bytes(b"1234")
    with pytest.raises(DataError, match="damaged"):
        read_trace(tmp_path)


def test_a_state_goal_with_rotation_needs_seven_numbers() -> None:
    assert generator().initial_seed() == 0
    goal = arm_state_goal(START)
    rollout = PointWorld().rollout(START, torch.zeros(2, 1, 7))
    assert goal(rollout).abs().max() < 1e-6


class OddRobot(PointRobot):
    """Its observations are changed after some actions."""

    def __init__(self, change: Any, *, after: int = 1) -> None:
        super().__init__()
        self.change, self.after = change, after

    def observe(self) -> Any:
        seen = super().observe()
        return self.change(seen) if self.acted >= self.after else seen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda seen: None, "must return an Observation, got None"),
        (lambda seen: replace(seen, frames=None), "must be a mapping from the camera's name"),
        (
            lambda seen: replace(seen, frames={"wrist": seen.frames["wrist"].numpy()}),
            r"camera 'wrist' must be a torch tensor \[H, W, 3\].* numpy array \[1, 4, 3\]",
        ),
        (lambda seen: replace(seen, frames={"wrist": torch.zeros(4)}), r"torch tensor \[4\]"),
        (lambda seen: replace(seen, frames={"top": seen.frames["wrist"]}), "cameras: 'top'"),
        (lambda seen: replace(seen, state=seen.state[:6]), r"tensor of 7 numbers.* \[6\]"),
        (lambda seen: replace(seen, state="here"), "tensor of 7 numbers.* 'here'"),
        (lambda seen: replace(seen, time_seconds=None), "time_seconds of an observation must be"),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_an_observation_of_a_wrong_form_is_the_robots_failure(
    tmp_path: Path, change: Any, words: str, after: int
) -> None:
    robot = OddRobot(change, after=after)
    episode = drive(robot, GoalSchedule((goal_at(0.7, 0.1, 0.3),)), tmp_path / "t")
    assert episode.reason == "robot failed" and re.search(words, episode.error, re.DOTALL)
    assert robot.stopped == 1 and robot.acted == after
    assert read_trace(tmp_path / "t").words["error"] == episode.error


@pytest.mark.parametrize(
    ("raised", "reason", "error"),
    [
        (LookupError("no such cost"), "failed", "LookupError: no such cost"),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (KeyboardInterrupt(), "interrupted", ""),
    ],
)
def test_what_goes_upwards_is_in_the_trace(
    tmp_path: Path, raised: BaseException, reason: str, error: str
) -> None:
    def goal(rollout: Rollout) -> Tensor:
        raise raised

    with pytest.raises(type(raised)):
        drive(PointRobot(), GoalSchedule((goal,)), tmp_path / "t")
    words = read_trace(tmp_path / "t").words
    assert (words["reason"], words["error"]) == (reason, error)


def test_by_default_an_arm_does_not_jump_and_its_clock_goes_on() -> None:
    goals = GoalSchedule((goal_at(0.7, 0.1, 0.3),))
    thousand = torch.tensor([1000.0] * 3 + [1.0] * 4)
    millimetres = OddRobot(lambda seen: replace(seen, state=seen.state * thousand), after=2)
    episode = drive(millimetres, goals)
    assert episode.reason == "refused" and "State 0 (x) jumped by" in episode.error
    assert millimetres.acted == 2

    frozen = OddRobot(lambda seen: replace(seen, state=START, time_seconds=1.0), after=0)
    episode = drive(frozen, goals)
    assert episode.reason == "robot failed" and "observations are frozen" in episode.error
    assert frozen.acted == 3

    blocked = OddRobot(lambda seen: replace(seen, state=START), after=0)
    assert drive(blocked, goals, max_steps=5).reason == "steps used up"


def test_jumps_of_rotations_are_measured_as_a_whole() -> None:
    safety = SafetyFilter(space=published_space())
    near_pi = START.clone()
    near_pi[3] = -3.1  # 0.08 beyond pi
    safety.checked_state(near_pi, START)
    turned, closed = START.clone(), START.clone()
    turned[5], closed[6] = 0.6, 1.0
    safety.checked_state(closed, START)
    with pytest.raises(UnsafeActionError, match=r"rotation jumped by 0.6 .* at most 0.5"):
        safety.checked_state(turned, START)
    SafetyFilter(space=box_space((-1.0,) * 7, (1.0,) * 7)).checked_state(9 * START, START)


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_a_robot_that_exits_has_failed_at_once(timeout: float | None) -> None:
    class Exits(PointRobot):
        def act(self, action: Tensor) -> None:
            raise SystemExit(7)

        def stop(self) -> None:
            raise SystemExit(8)

    begun = time.perf_counter()
    episode = drive(Exits(), GoalSchedule((goal_at(0.7, 0.1, 0.3),)), robot_timeout_seconds=timeout)
    assert episode.reason == "robot failed" and "act() failed: SystemExit: 7" in episode.error
    assert "stop() failed: SystemExit: 8" in episode.error
    assert time.perf_counter() - begun < 4
