"""Questions about the small world: balanced, reproducible, and right when read off the pixels."""

import math

import pytest
import torch
from torch import Tensor

from vjepa2.errors import ConfigError
from vjepa2.tasks.scene_tasks import (
    BAR_HALF_WIDTH,
    DIRECTIONS,
    LONG_RANGE,
    SCENE_TASKS,
    make_task_clips,
)
from vjepa2.video.synthetic_world import clips_of
from vjepa2.video.synthetic_world_physics import move
from vjepa2.video.synthetic_world_scene import Draws, WorldConfig, draw_scenes

SIZE = 48


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_answers_are_balanced_and_clips_reproducible(task: str) -> None:
    count = 4 * len(SCENE_TASKS[task].answers)
    clips = make_task_clips(task, count=count, seed=3, size=SIZE)
    assert clips.frames.shape == (count, 16, 3, SIZE, SIZE)
    assert torch.bincount(clips.labels).tolist() == [4] * len(SCENE_TASKS[task].answers)
    again = make_task_clips(task, count=count, seed=3, size=SIZE)
    assert torch.equal(again.frames, clips.frames) and torch.equal(again.labels, clips.labels)
    other = make_task_clips(task, count=count, seed=4, size=SIZE)
    assert not any((other.frames == clip).flatten(1).all(dim=1).any() for clip in clips.frames)
    assert len({clip.numpy().tobytes() for clip in clips.frames}) == count


def moving_centre(frames: Tensor, frame: int) -> Tensor:
    """Mean (x, y) of what differs from the picture without the object (the median over time)."""
    rest = frames.float().median(dim=0).values
    weight = (frames[frame].float() - rest).abs().sum(dim=0)
    weight = (weight - 60).clamp(min=0)
    place = torch.arange(SIZE, dtype=torch.float32)
    return torch.stack([(weight.sum(0) * place).sum(), (weight.sum(1) * place).sum()]) / (
        weight.sum()
    )


def test_directions_are_what_the_pixels_show() -> None:
    clips = make_task_clips("direction", count=48, seed=1, size=SIZE)
    right = 0
    for frames, label in zip(clips.frames, clips.labels.tolist(), strict=True):
        x, y = (moving_centre(frames, 1) - moving_centre(frames, 0)).tolist()
        angle = math.atan2(y, x) - label * 2 * math.pi / len(DIRECTIONS)
        right += math.cos(angle) > math.cos(math.pi / 4)
    # The border is met at once in a few clips, and slow objects hardly move in one frame.
    assert right > 40


def lit(frames: Tensor) -> Tensor:
    """[T, H, W], True where a pixel has the colour of a flash."""
    red, green, blue = frames.short().unbind(dim=1)
    return ((red - 255).abs() < 6) & ((green - 242).abs() < 6) & ((blue - 64).abs() < 8)


def test_the_order_of_flashes_is_what_the_pixels_show() -> None:
    clips = make_task_clips("order", count=40, seed=1, size=SIZE)
    for frames, label in zip(clips.frames, clips.labels.tolist(), strict=True):
        x = torch.arange(SIZE, dtype=torch.float32)
        seen = [
            (frame, float((mask.sum(dim=0) * x).sum() / mask.sum()))
            for frame, mask in enumerate(lit(frames))
            if mask.sum() >= 4
        ]
        first, last = seen[0], seen[-1]
        assert last[0] - first[0] >= 3, "two flashes, apart in time"
        assert label == int(first[1] > last[1])


def test_collisions_turn_the_paths_and_passes_do_not() -> None:
    config = WorldConfig(size=(SIZE, SIZE))
    numbers = torch.arange(400)
    scene = draw_scenes(config, seed=2, numbers=numbers)
    task, draws = SCENE_TASKS["collision"], Draws(3, numbers, torch.device("cpu"))
    scene, labels = task.ask(scene, config, draws)
    fit = labels >= 0
    assert (labels == 0).sum() > 10 and (labels == 1).sum() > 10
    never = move(scene.changed(collides=torch.zeros(400, dtype=torch.bool)), config)
    apart = (move(scene, config).position - never.position)[:, -1, :2].norm(dim=-1).amax(dim=1)
    assert torch.equal((apart > 0.3)[fit], labels[fit] == 1)
    assert (apart < 1e-6)[fit & (labels == 0)].all()
    # Without bounces all would have met, well inside the clip.
    gap = (never.position[:, :, 0] - never.position[:, :, 1]).norm(dim=-1)
    reach = scene.radius[:, 0] + scene.radius[:, 1]
    assert (gap.amin(dim=1) < 1.05 * reach)[fit].all()
    assert (gap[fit, 0] > reach[fit]).all()


def test_hidden_objects_come_out_where_the_label_says() -> None:
    config = WorldConfig(size=(SIZE, SIZE))
    numbers = torch.arange(200)
    scene = draw_scenes(config, seed=2, numbers=numbers)
    task = SCENE_TASKS["hidden"]
    scene, labels = task.ask(scene, config, Draws(3, numbers, torch.device("cpu")))
    fair = task.check(clips_of(scene, config)) & (labels >= 0)
    assert fair.sum() >= 10
    for row in fair.nonzero()[:, 0].tolist():
        x, y = scene.position[row, 0].tolist()
        vx, vy = scene.velocity[row, 0].tolist()
        radius = float(scene.radius[row, 0])
        # Slow loop in small steps, with mirrors at the borders.
        while not (x * vx > 0 and abs(x) > BAR_HALF_WIDTH):
            x, y = x + vx / 1000, y + vy / 1000
            if abs(y) > 1 - radius and y * vy > 0:
                vy = -vy
        height = (y + 1) / 2 * 4
        near_an_edge = abs(height - round(height)) < 0.15
        assert near_an_edge or int(height) == int(labels[row])


def test_wrong_questions_and_counts_are_named() -> None:
    with pytest.raises(ConfigError, match="hidden"):
        make_task_clips("hiden", count=8, seed=0)
    with pytest.raises(ConfigError, match="8 answers"):
        make_task_clips("direction", count=12, seed=0)
    assert set(LONG_RANGE) < set(SCENE_TASKS)


def test_clips_in_which_the_question_makes_no_sense_are_an_error() -> None:
    with pytest.raises(ConfigError, match="seldom fit"):
        make_task_clips("hidden", count=4, seed=0, num_frames=2, fps=100.0, size=16)
