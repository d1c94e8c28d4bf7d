"""Films of episodes: frames of the robot with goal, energy and plan; drawing on plain arrays."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2.errors import InputError, RobotError, ShapeError
from vjepa2.planning.plan import Plan
from vjepa2.planning.trace import Trace, TraceStep
from vjepa2.poses import integrate_pose
from vjepa2.simulation.arm import Arm
from vjepa2.simulation.baselines import baseline_loop
from vjepa2.simulation.drawing import (
    GLYPHS,
    draw_dot,
    draw_line,
    draw_ring,
    draw_words,
    enlarged,
    words_width,
)
from vjepa2.simulation.film import ENERGY, GOAL, PLAN, FilmedRobot, planned_places, write_film
from vjepa2.simulation.problems import Goal, make_problem
from vjepa2.simulation.robot import SimulatedArm
from vjepa2.video.reader import VideoReader

HAS_MUJOCO = importlib.util.find_spec("mujoco") is not None
needs_mujoco = pytest.mark.skipif(not HAS_MUJOCO, reason="the extra sim is not installed")


def plan_of(actions: torch.Tensor) -> Plan:
    return Plan(
        actions=actions, cost=0.0, iterations=1, samples=1, history=(), complete=True, seconds=0.0
    )


def grey_goal(name: str) -> Goal:
    return Goal(
        name=name,
        frame=torch.full((16, 16, 3), 200, dtype=torch.uint8),
        state=torch.tensor([0.25, 0.75, 0, 0, 0, 0, 0]),
        cube=torch.zeros(3),
        num_actions=2,
    )


def trace_of(costs: list[float], goals: list[int]) -> Trace:
    state = torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0])
    right = torch.tensor([[0.3, 0.0, 0, 0, 0, 0, 0]])
    steps = [
        TraceStep(state=state, action=right[0], plan=plan_of(right), goal=goal, cost_now=cost)
        for cost, goal in zip(costs, goals, strict=True)
    ]
    return Trace(steps=steps)


def near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour).max(axis=2) <= tolerance).nonzero()


def read(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return reader.get_frames_at(list(range(len(reader)))).data.permute(0, 2, 3, 1).numpy()


def test_a_film_shows_frame_goal_plan_and_energy(tmp_path: Path) -> None:
    """On a black frame, with a projection that takes x and y as shares of the picture."""
    frames = [torch.zeros(32, 32, 3, dtype=torch.uint8)] * 3
    trace = trace_of([1.0, 0.5, 0.25], [0, 0, 0])
    path = write_film(
        tmp_path / "film.mp4", frames, trace, [grey_goal("there")], project=lambda p: p[:, :2]
    )
    film = read(path)
    assert film.shape == (2 + 6, 384, 576, 3)  # the last frame stays for 1.5 s
    picture = film[1]
    down, across = near(picture[:, :384], PLAN)
    assert down.mean() == pytest.approx(192, abs=6)
    assert across.min() == pytest.approx(192, abs=8) and across.max() == pytest.approx(307, abs=10)
    down, across = near(picture[200:, :384], GOAL)
    assert down.mean() + 200 == pytest.approx(288, abs=4)
    assert across.mean() == pytest.approx(96, abs=4)
    assert np.median(picture[60:180, 400:]) == pytest.approx(200, abs=4)
    heights = [near(one[222:, 384:], ENERGY)[0].max() for one in film[[0, 1, 2]]]
    assert heights[0] < heights[1] < heights[2]  # less energy is further down


def test_the_plan_is_where_its_actions_lead() -> None:
    state = torch.tensor([0.5, 0.0, 0.2, 0.1, 0, 0.3, 0])
    actions = torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) * 0.1
    step = TraceStep(state=state, action=None, plan=plan_of(actions), goal=0, cost_now=0.0)
    expected = [state]
    for action in actions:
        expected.append(integrate_pose(expected[-1], action))
    assert planned_places(step) == pytest.approx(torch.stack(expected)[:, :3].numpy(), abs=1e-6)
    nothing = TraceStep(state=state, action=None, plan=None, goal=0, cost_now=0.0)
    assert planned_places(nothing).shape == (0, 3)


def test_costs_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    frames = [torch.zeros(16, 16, 3, dtype=torch.uint8)] * 3
    trace = trace_of([float("nan"), float("inf"), 0.5], [0, 0, 1])
    goals = [grey_goal("one"), grey_goal("two")]
    film = read(write_film(tmp_path / "film.mp4", frames, trace, goals, side=128, ending="done"))
    assert film.shape[1:] == (128, 192, 3)
    assert len(near(film[0, 64:, 128:], ENERGY)[0]) == 0
    assert len(near(film[2, 64:, 128:], ENERGY)[0]) > 4


def test_what_makes_no_film_is_named(tmp_path: Path) -> None:
    frame, goal = torch.zeros(16, 16, 3, dtype=torch.uint8), grey_goal("there")
    trace = trace_of([1.0, 1.0], [0, 0])
    for frames, goals in (([frame], [goal]), ([frame] * 2, []), ([], [goal])):
        with pytest.raises(InputError, match="one frame per step"):
            write_film(tmp_path / "film.mp4", frames, trace, goals)
    with pytest.raises(ShapeError, match=r"\[H, W, 3\]"):
        write_film(tmp_path / "film.mp4", [frame.permute(2, 0, 1)] * 2, trace, [goal])
    assert not (tmp_path / "film.mp4").exists()


@needs_mujoco
def test_places_are_where_the_camera_sees_them() -> None:
    """The bright fingers are around the place that is projected."""
    arm = Arm()
    for place in ((0.35, -0.15, 0.05), (0.65, 0.1, 0.25), (0.5, 0.0, 0.15)):
        arm.place(np.array([*place, 0, 0, 0, 1.0]), cube=(0.2, 0.6))
        try:
            picture = arm.render(128).astype(int)
        except RobotError as error:
            pytest.skip(f"no graphics here: {error}")
        fingers = (picture[..., 0] > 90) & (picture[..., 1] < 60) & (picture[..., 2] > 60)
        down, across = fingers.nonzero()
        tips = np.array([np.median(across), np.median(down)])
        at = arm.project(np.array([place]))[0] * 128
        assert np.linalg.norm(at - tips) < 6, (place, at, tips)
    with pytest.raises(ShapeError, match=r"\[n, 3\]"):
        arm.project(np.zeros(3))


@needs_mujoco
def test_an_episode_of_the_arm_is_filmed(tmp_path: Path) -> None:
    robot = SimulatedArm(size=32)
    try:
        problem = make_problem("reach", robot, seed=0)
    except RobotError as error:
        pytest.skip(f"no graphics here: {error}")
    robot.start = problem.start
    filmed = FilmedRobot(robot, look=lambda: robot.arm.render(128))
    episode = baseline_loop("state", problem, robot).run(filmed)
    assert episode.error == "" and len(filmed.frames) == len(episode.trace.steps) == 13
    assert filmed.frames[0].shape == (128, 128, 3)
    path = write_film(
        tmp_path / "film.mp4",
        filmed.frames,
        episode.trace,
        problem.goals,
        project=robot.arm.project,
        title="reach",
        ending="reached",
        side=192,
    )
    film = read(path)
    assert len(film) == 12 + 6
    assert np.abs(film[0].astype(int) - film[4]).mean() > 1
    filmed.reset()
    assert len(filmed.frames) == 1


def test_drawing_stays_inside_and_hits_what_it_should() -> None:
    picture = np.zeros((20, 30, 3), dtype=np.uint8)
    draw_line(picture, [(-10, 5), (50, 5)], (255, 0, 0), width=1)
    assert (picture[5, :, 0] == 255).all() and picture[..., 0].sum() == 30 * 255
    draw_dot(picture, (29, 19), (0, 255, 0), radius=2)
    assert picture[19, 29, 1] == 255 and (picture[..., 1] > 0).sum() == 6
    draw_ring(picture, (10, 12), (0, 0, 255), radius=4, width=1)
    assert picture[12, 14, 2] == 255 and picture[12, 10, 2] == 0
    words = np.zeros((20, 30, 3), dtype=np.uint8)
    draw_words(words, "i", (1, 2), (9, 9, 9), size=1)
    assert words[2:7, 1:4, 0].tolist() == [[9, 9, 9]] + [[0, 9, 0]] * 3 + [[9, 9, 9]]
    draw_words(words, "far outside", (28, 18), (9, 9, 9))
    assert words_width("ab", size=2) == 16
    assert all(len(rows) == 5 and set(rows) <= set("01234567") for rows in GLYPHS.values())
    assert len(set(GLYPHS.values())) == len(GLYPHS)


def test_enlarging_keeps_pixels_square() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarged(picture, 4, 6)
    assert large.shape == (4, 6, 3)
    assert (large[:2, :3] == picture[0, 0]).all() and (large[2:, 3:] == picture[1, 1]).all()
