"""A film of an episode: what the camera saw, the goal, the energy so far, and the plan.

    filmed = FilmedRobot(robot, look=lambda: robot.arm.render(384))
    episode = loop.run(filmed)
    write_film("episode.mp4", filmed.frames, episode.trace, problem.goals,
               project=robot.arm.project, title="reach")

On the left is the frame with the goal's place (ring) and the places the plan leads to (line); on
the right the goal's picture and the energy of what was seen, by the goal of that moment.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.errors import InputError, ShapeError, checked_integer, checked_number
from vjepa2.planning.trace import Trace, TraceStep
from vjepa2.poses import POSE_STATE_SIZE, integrate_pose
from vjepa2.protocols import Observation, Robot
from vjepa2.simulation.drawing import (
    GLYPH_HEIGHT,
    Picture,
    draw_dot,
    draw_line,
    draw_ring,
    draw_words,
    enlarged,
)
from vjepa2.simulation.problems import Goal
from vjepa2.simulation.scene import CAMERA
from vjepa2.video.writer import H264, write_video

# Places [n, 3] in metres to (across, down) [n, 2] as shares of the picture.
Project = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SIDE = 384  # height of the film, and height and width of the frame in it
FPS = 4.0
LAST_SECONDS = 1.5  # that the last frame stays
BACKGROUND, SOFT, BRIGHT = (24, 26, 30), (120, 126, 134), (235, 238, 242)
PLAN, GOAL, ENERGY = (90, 220, 120), (255, 255, 255), (255, 190, 60)
MARGIN = 14


class FilmedRobot:
    """A robot whose observations are kept as frames of a film; everything else goes through.

    Args:
        robot: any.
        camera: whose frames.
        look: the frame to keep instead, uint8 [H, W, 3], such as a larger one.

    Attributes:
        frames: one per observation since the last `reset`.
    """

    def __init__(
        self,
        robot: Robot,
        *,
        camera: str = CAMERA,
        look: Callable[[], UInt8[np.ndarray, "H W 3"]] | None = None,
    ) -> None:
        self._robot, self._camera, self._look = robot, camera, look
        self.frames: list[UInt8[Tensor, "H W 3"]] = []

    def reset(self) -> Observation:
        """See `protocols.Robot`; a new film begins."""
        seen = self._robot.reset()
        self.frames = []
        return self._kept(seen)

    def observe(self) -> Observation:
        """See `protocols.Robot`."""
        return self._kept(self._robot.observe())

    def act(self, action: Float[Tensor, " A"]) -> None:
        """See `protocols.Robot`."""
        self._robot.act(action)

    def stop(self) -> None:
        """See `protocols.Robot`."""
        self._robot.stop()

    def close(self) -> None:
        """See `protocols.Robot`."""
        self._robot.close()

    def _kept(self, seen: Observation) -> Observation:
        if self._look is not None:
            self.frames.append(torch.from_numpy(self._look()))
        elif self._camera in seen.frames:
            self.frames.append(seen.frames[self._camera])
        return seen


def write_film(
    path: str | os.PathLike[str],
    frames: Sequence[UInt8[Tensor, "H W 3"]],
    trace: Trace,
    goals: Sequence[Goal],
    *,
    project: Project | None = None,
    title: str = "",
    ending: str = "",
    fps: float = FPS,
    side: int = SIDE,
) -> Path:
    """Write the film of an episode.

    Args:
        path: of an mp4; it appears complete or not at all.
        frames: one per step of the trace.
        trace: of the loop.
        goals: of the loop's schedule, in its order.
        project: where places are in the picture; without it, neither goal nor plan is drawn in.
        title: words above; only capitals, digits and a few signs can be shown.
        ending: words at the end, such as "reached, 0.8 cm".
        fps: steps of the episode per second of film.
        side: height of the film, a multiple of 4; it is half as wide again.

    Raises:
        InputError: no frames, no goals, or not one frame per step.
        ShapeError: a frame is not uint8 [H, W, 3].
        ConfigError, OutputError: see `video.writer.write_video`.
    """
    side = 4 * (checked_integer("side", side, least=128) // 4)
    checked_number("fps", fps, above=0)
    if not trace.steps or len(frames) != len(trace.steps) or not goals:
        raise InputError(
            f"A film needs one frame per step and a goal, got {len(frames)} frames, "
            f"{len(trace.steps)} steps and {len(goals)} goals. Take FilmedRobot.frames of the "
            "same episode."
        )
    for frame in frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != torch.uint8:
            raise ShapeError(
                f"Frames of a film are uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}."
            )
    last = max(1, round(LAST_SECONDS * fps))

    def pictures() -> Iterator[Tensor]:
        for number, frame in enumerate(frames):
            words = ending if number == len(frames) - 1 else ""
            drawn = _drawn(frame.numpy(), trace.steps, number, goals, project, (title, words), side)
            picture = torch.from_numpy(drawn).permute(2, 0, 1)
            yield from [picture] * (last if number == len(frames) - 1 else 1)

    return write_video(path, pictures(), codec=H264(fps=fps, crf=18))


def planned_places(step: TraceStep) -> Float64[np.ndarray, "n 3"]:
    """Where the hand is now and after each planned action; empty without a plan of an arm."""
    if step.plan is None or len(step.state) != POSE_STATE_SIZE:
        return np.zeros((0, 3))
    state = step.state.double()
    places = [state[:3]]
    for action in step.plan.actions.double():
        state = integrate_pose(state, action)
        places.append(state[:3])
    return torch.stack(places).numpy()


def _drawn(
    frame: Picture,
    steps: Sequence[TraceStep],
    number: int,
    goals: Sequence[Goal],
    project: Project | None,
    words: tuple[str, str],
    side: int,
) -> Picture:
    """One picture of the film."""
    film = np.full((side, side + side // 2, 3), BACKGROUND, dtype=np.uint8)
    step = steps[number]
    goal = goals[min(step.goal, len(goals) - 1)]
    film[:, :side] = enlarged(frame, side, side)
    if project is not None:
        left = film[:, :side]
        at = project(goal.state[:3].double().numpy()[None])[0] * side
        draw_ring(left, (at[0], at[1]), GOAL, radius=side / 40, width=side / 150)
        planned = planned_places(step)
        if len(planned):
            points = [(x, y) for x, y in (project(planned) * side).tolist()]
            draw_line(left, points, PLAN, width=max(2, side // 128))
            draw_dot(left, points[-1], PLAN, radius=side / 90)
    half, size = side // 2, max(1, side // 192)
    film[:half, side:] = enlarged(goal.frame.numpy(), half, half)
    title, ending = words
    shown = f"{title} {number}/{len(steps) - 1}".strip()
    draw_words(film, shown, (MARGIN, MARGIN), BRIGHT, size=size, behind=BACKGROUND)
    draw_words(
        film,
        f"goal: {goal.name}",
        (side + MARGIN // 2, MARGIN // 2),
        BRIGHT,
        size=size,
        behind=BACKGROUND,
    )
    if ending:
        place = (MARGIN, side - MARGIN - GLYPH_HEIGHT * 2 * size)
        draw_words(film, ending, place, BRIGHT, size=2 * size, behind=BACKGROUND)
    _draw_energy(film[half:, side:], steps, number, size=size)
    return film


def _draw_energy(panel: Picture, steps: Sequence[TraceStep], number: int, *, size: int) -> None:
    """The curve of the costs up to now; a new goal begins a new piece."""
    height, width = panel.shape[:2]
    top, bottom, left, right = 3 * MARGIN, height - MARGIN, MARGIN, width - MARGIN
    draw_line(panel, [(left, top), (left, bottom), (right, bottom)], SOFT, width=1)
    costs = [step.cost_now for step in steps]
    finite = [cost for cost in costs if np.isfinite(cost)]
    most = max(finite, default=1.0) or 1.0
    points: list[tuple[float, float]] = []
    for at, cost in enumerate(costs[: number + 1]):
        if at and steps[at].goal != steps[at - 1].goal:
            points = []
        if np.isfinite(cost):
            across = left + (right - left) * at / max(1, len(steps) - 1)
            point = (across, bottom - (bottom - top) * min(max(cost / most, 0.0), 1.0))
            draw_line(panel, [*points[-1:], point], ENERGY, width=2)
            points.append(point)
    if points:
        draw_dot(panel, points[-1], ENERGY, radius=4)
    draw_words(
        panel, f"energy {costs[number]:.3f}", (left, MARGIN), BRIGHT, size=size, behind=BACKGROUND
    )
