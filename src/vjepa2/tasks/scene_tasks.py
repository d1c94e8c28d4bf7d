"""Five questions about clips of the small world, with balanced answers.

    direction   which way the only object moves at first (eight directions)
    count       how many objects there are (one to five)
    collision   whether two objects bounce off each other, or pass in front of one another
    order       whether the left or the right one of two objects lights up first
    hidden      an object went behind a wide bar and the clip ends: at which height will it come
                out on the other side (four bins)

Two neighbouring frames answer the first. The others need more: in "collision" both answers begin
with the same scenes, in "order" every clip shows both flashes, and in "hidden" nothing at the end
of the clip tells anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vjepa2.errors import ConfigError, check_choice
from vjepa2.video.synthetic_world import WorldClips, clips_of
from vjepa2.video.synthetic_world_physics import Motion, move
from vjepa2.video.synthetic_world_scene import NEVER, Draws, Scene, WorldConfig, draw_scenes

CANDIDATES = 256  # scenes that are drawn at a time
MAX_ROUNDS = 400
PATIENCE = 10  # rounds in a row without a fitting clip
UNFIT = -1
BAR_HALF_WIDTH = 0.42
CLEAR_BOUNCE = 0.4  # how far apart the two answers end, half short sides
HIDDEN, WELL_SEEN = 0.03, 0.4
FAR_APART = 0.25  # left and right are told from each other, half short sides


@dataclass(frozen=True)
class LabelledClips:
    """Clips and the number of the right answer to one question."""

    frames: UInt8[Tensor, "B T 3 H W"]
    labels: Int[Tensor, " B"]


@dataclass(frozen=True)
class SceneTask:
    """One question.

    Attributes:
        name: of the question.
        answers: words for the labels 0, 1, ...
        ask: changes drawn scenes so that the question makes sense and gives the label of each;
            `UNFIT` where it makes none.
        check: looks at the painted clips and says which are fair.
    """

    name: str
    answers: tuple[str, ...]
    ask: Callable[[Scene, WorldConfig, Draws], tuple[Scene, Int[Tensor, " B"]]]
    check: Callable[[WorldClips], Tensor]


def make_task_clips(
    task: str, *, count: int, seed: int, size: int = 64, num_frames: int = 16, fps: float = 6.0
) -> LabelledClips:
    """Make clips of one question, as many of every answer.

    Args:
        task: name of the question, a key of `SCENE_TASKS`.
        count: number of clips, a multiple of the number of answers.
        seed: of the clips; two seeds share none.
        size: height and width, pixels.
        num_frames, fps: of the clips.

    Returns:
        The clips, answers in mixed order.

    Raises:
        ConfigError: the question does not exist, or `count` is no such multiple.
    """
    check_choice("Task", task, SCENE_TASKS)
    asked = SCENE_TASKS[task]
    quota, rest = divmod(count, len(asked.answers))
    if rest or count < 1:
        raise ConfigError(
            f"Task {task!r} has {len(asked.answers)} answers: count must be a multiple of it so "
            f"that all are as frequent, got {count}."
        )
    config = WorldConfig(size=(size, size), num_frames=num_frames, fps=fps)
    left = torch.full((len(asked.answers),), quota)
    kept = []
    fruitless = 0
    for number in range(MAX_ROUNDS):
        frames, labels = _round(asked, config, seed=seed, number=number, left=left)
        kept.append((frames, labels))
        left -= torch.bincount(labels, minlength=len(left))
        fruitless = 0 if len(labels) else fruitless + 1
        if not left.any() or fruitless == PATIENCE:
            break
    if left.any():
        raise ConfigError(
            f"Clips of {num_frames} frames at {fps} per second seldom fit the task {task!r}: "
            f"{int(left.sum())} of {count} are missing after {(number + 1) * CANDIDATES} scenes."
        )
    frames, labels = (torch.cat([part[i] for part in kept]) for i in (0, 1))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return LabelledClips(frames[order], labels[order])


def _round(
    task: SceneTask, config: WorldConfig, *, seed: int, number: int, left: Tensor
) -> tuple[Tensor, Tensor]:
    """Frames and labels of the fitting clips among some candidates, `left` at most."""
    numbers = torch.arange(number * CANDIDATES, (number + 1) * CANDIDATES)
    scene = draw_scenes(config, seed=seed, numbers=numbers)
    # A stream of its own: what the question draws does not shift what the scene drew.
    draws = Draws(seed + 1, numbers + 2**40, torch.device("cpu"))
    scene, labels = task.ask(scene, config, draws)
    # Painting costs most: only what may still be needed is painted.
    wanted = _first_of_each(labels, left * 2 + 8)
    if not len(wanted):
        height, width = config.size
        nothing = torch.empty(0, config.num_frames, 3, height, width, dtype=torch.uint8)
        return nothing, labels[wanted]
    clips = clips_of(scene[wanted], config)
    fair = task.check(clips)
    labels = torch.where(fair, labels[wanted], UNFIT)
    chosen = _first_of_each(labels, left)
    return clips.frames[chosen], labels[chosen]


def _first_of_each(labels: Tensor, most: Tensor) -> Tensor:
    """Places of the first `most[answer]` clips of every answer."""
    rows = [(labels == answer).nonzero()[:limit, 0] for answer, limit in enumerate(most.tolist())]
    return torch.cat(rows).sort().values


def _plain(scene: Scene) -> Scene:
    """Nothing appears, lights up, hides or falls, and the camera rests."""
    return scene.changed(
        since=torch.full_like(scene.since, -NEVER),
        until=torch.full_like(scene.until, NEVER),
        flash=torch.full_like(scene.flash, NEVER),
        boxes=torch.zeros_like(scene.boxes),
        gravity=torch.zeros_like(scene.gravity),
        pan=torch.zeros_like(scene.pan),
        zoom=torch.zeros_like(scene.zoom),
    )


def _first_slots(scene: Scene, count: int) -> Tensor:
    """Objects in the first `count` slots and no others."""
    return (torch.arange(scene.exists.shape[1]) < count).expand_as(scene.exists)


def _all_fair(clips: WorldClips) -> Tensor:
    return torch.ones(len(clips.scene), dtype=torch.bool)


# -- direction --------------------------------------------------------------------------------

DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")


def _ask_direction(scene: Scene, config: WorldConfig, draws: Draws) -> tuple[Scene, Tensor]:
    scene = _plain(scene).changed(exists=_first_slots(scene, 1))
    velocity = scene.velocity[:, 0]
    turn = torch.atan2(velocity[:, 1], velocity[:, 0]) / (2 * torch.pi) * len(DIRECTIONS)
    return scene, turn.round().long() % len(DIRECTIONS)


# -- count ------------------------------------------------------------------------------------


def _ask_count(scene: Scene, config: WorldConfig, draws: Draws) -> tuple[Scene, Tensor]:
    scene = _plain(scene).changed(boxes=scene.boxes, pan=scene.pan)
    return scene, scene.exists.sum(dim=1) - 1


def _every_object_is_seen(clips: WorldClips) -> Tensor:
    best = clips.seen.amax(dim=1)  # [B, K]
    return ((best > WELL_SEEN) | ~clips.scene.exists).all(dim=1)


# -- collision --------------------------------------------------------------------------------


def _ask_collision(scene: Scene, config: WorldConfig, draws: Draws) -> tuple[Scene, Tensor]:
    scene = _plain(scene).changed(exists=_first_slots(scene, 2))
    yes = torch.ones_like(scene.collides)
    bounces, passes = (move(scene.changed(collides=answer), config) for answer in (yes, ~yes))
    hit = bounces.hit_time[:, 0, 1]
    middle = (hit > 0.25 * config.seconds) & (hit < 0.7 * config.seconds)
    # A touch that hardly changes the paths would be a bounce in name only.
    apart = (bounces.position - passes.position)[:, -1, :2].norm(dim=-1).amax(dim=1)
    really = draws.chance(0.5, 1)[:, 0]
    label = torch.where(middle & (apart > CLEAR_BOUNCE), really.long(), UNFIT)
    return scene.changed(collides=really), label


# -- order ------------------------------------------------------------------------------------


def _ask_order(scene: Scene, config: WorldConfig, draws: Draws) -> tuple[Scene, Tensor]:
    scene = _plain(scene).changed(exists=_first_slots(scene, 3))
    first = draws.even(1, low=0.1, high=0.5)
    second = first + draws.even(1, low=0.2, high=0.4)
    moments = torch.cat([first, second], dim=1) * config.seconds
    swap = draws.chance(0.5, 1)
    flash = torch.full_like(scene.flash, NEVER)
    flash[:, :2] = torch.where(swap, moments.flip(1), moments)
    x = move(scene, config).position[..., :2, 0]  # [B, T, 2]
    left = (x[..., 0] < x[..., 1] - FAR_APART).all(dim=1)
    right = (x[..., 0] > x[..., 1] + FAR_APART).all(dim=1)
    left_one_first = left ^ swap[:, 0]
    return scene.changed(flash=flash), torch.where(left | right, (~left_one_first).long(), UNFIT)


# -- hidden -----------------------------------------------------------------------------------

HEIGHTS = ("at the top", "above the middle", "below the middle", "at the bottom")


def _ask_hidden(scene: Scene, config: WorldConfig, draws: Draws) -> tuple[Scene, Tensor]:
    scene = _plain(scene).changed(exists=_first_slots(scene, 3))
    scene = scene.changed(collides=torch.zeros_like(scene.collides))
    side = torch.where(draws.chance(0.5, 1), 1.0, -1.0)
    radius = scene.radius.clamp(max=0.24)
    start = torch.cat(
        [side * draws.even(1, low=0.62, high=0.76), draws.even(1, low=-0.7, high=0.7)], 1
    )
    speed = torch.cat(
        [-side * draws.even(1, low=0.3, high=0.6), draws.even(1, low=-0.3, high=0.3)], 1
    )
    position, velocity = scene.position.clone(), scene.velocity.clone()
    position[:, 0], velocity[:, 0] = start, speed
    # The others stay at their side of the bar, so that only one object is ever hidden.
    position[:, 1:, 0] = torch.where(position[:, 1:, 0] < 0, -0.75, 0.75)
    velocity[:, 1:, 0] = 0
    boxes = torch.zeros_like(scene.boxes)
    boxes[:, 0] = torch.tensor([0.0, 0.0, BAR_HALF_WIDTH, 4.0])
    scene = scene.changed(position=position, velocity=velocity, boxes=boxes, radius=radius)
    # What happens after the clip.
    later = move(scene, config.model_copy(update={"num_frames": 3 * config.num_frames}))
    height = _height_of_return(later, side[:, 0])
    label = ((height + 1) / 2 * len(HEIGHTS)).floor().clamp(0, len(HEIGHTS) - 1)
    # Most clips that would not be fair need not be painted.
    gap = later.position[:, : config.num_frames, 0, 0].abs() - BAR_HALF_WIDTH
    early, late = _ends(gap)
    hides = (early > 0).all(dim=1) & (late < -radius[:, :1]).all(dim=1)
    return scene, torch.where(height.isfinite() & hides, label, UNFIT).long()


def _height_of_return(later: Motion, side: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Where the middle of the object leaves the bar on the other side; NaN: it does not."""
    x, y = later.position[:, :, 0].unbind(dim=-1)  # [B, T]
    out = (x * -side[:, None]) > BAR_HALF_WIDTH
    frame = out.float().argmax(dim=1, keepdim=True)
    return torch.where(out.any(dim=1), y.gather(1, frame)[:, 0], torch.nan)


def _goes_into_hiding(clips: WorldClips) -> Tensor:
    """Well seen at first, gone for the last frames."""
    early, late = _ends(clips.seen[:, :, 0])
    return (early.amin(dim=1) > WELL_SEEN) & (late.amax(dim=1) < HIDDEN)


def _ends(values: Float[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
    """The first eighth and the last fifth of the frames."""
    frames = values.shape[1]
    return values[:, : max(1, frames // 8)], values[:, -max(1, frames // 5) :]


SCENE_TASKS = {
    task.name: task
    for task in (
        SceneTask("direction", DIRECTIONS, _ask_direction, _all_fair),
        SceneTask(
            "count", ("one", "two", "three", "four", "five"), _ask_count, _every_object_is_seen
        ),
        SceneTask("collision", ("pass", "bounce"), _ask_collision, _all_fair),
        SceneTask("order", ("left first", "right first"), _ask_order, _every_object_is_seen),
        SceneTask("hidden", HEIGHTS, _ask_hidden, _goes_into_hiding),
    )
}
LONG_RANGE = ("count", "collision", "order", "hidden")
