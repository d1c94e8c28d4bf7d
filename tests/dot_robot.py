"""A robot that is drawn with soft dots, and a small world model that learned it in seconds."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tiny_models import tiny_config
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import robot_statistics
from vjepa2.data.trajectories import Episode
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.robot_world import RobotWorld, WorldFile
from vjepa2.tasks.world_folder import LoadedWorld, processor_for

SIDE = 32
FPS = 4.0
TIMES = np.arange(40) / FPS
SPEC = RobotSpec(gripper_column=6, recorded_actions="changes")
Table = NDArray[np.float64]


def dot_states(count: int, *, seed: int) -> Table:
    """[T, 7]: the hand wanders in a box of 30 cm, by some centimetres a step; the gripper too."""
    random = np.random.default_rng(seed)
    place = random.uniform(-0.1, 0.1, 3)
    way = np.zeros(3)
    rows = []
    closed = float(random.integers(2))
    for _ in range(count):
        rows.append([0.5 + place[0], place[1], 0.2 + place[2], 0.1, 0.0, 0.2, closed])
        way = np.clip(0.4 * way + random.normal(size=3) * 0.035, -0.075, 0.075)
        following = place + way
        outside = np.abs(following) > 0.15
        way[outside] *= -1
        place = np.clip(place + way, -0.15, 0.15)
        if random.random() < 0.15:
            closed = 1 - closed
    return np.array(rows)


def dot_frames(states: Table) -> NDArray[np.uint8]:
    """[T, 32, 32, 3]: the glow of a hand and its shadow on a table, and a lamp that stands.

    The hand is seen obliquely: x moves it down and a little to the right, y to the right, z up.
    The shadow shows where it is above the table; an open gripper glows green.
    """
    x, y, z = states[:, 0] - 0.5, states[:, 1], states[:, 2] - 0.2
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(float)

    def glow(column: Table, row: Table, width: float) -> Table:
        square = (columns - column[:, None, None]) ** 2 + (rows - row[:, None, None]) ** 2
        return np.exp(-square / (2 * width**2))

    across, down = 16 + 50 * y + 15 * x, 19 + 40 * x
    hand = glow(across, down - 3 - 45 * z, 4.5)
    shadow = glow(across, down, 4.0)
    lamp = glow(np.full(len(x), 5.0), np.full(len(x), 27.0), 3.0)
    ground = 90 + 1.0 * columns + 0.5 * rows
    opened = (1 - states[:, 6])[:, None, None]
    red = ground + 120 * hand - 60 * shadow
    green = ground + 60 * opened * hand - 60 * shadow + 60 * lamp
    blue = ground - 60 * shadow - 60 * hand + 100 * lamp
    return np.rint(np.clip(np.stack([red, green, blue], axis=-1), 0, 255)).astype(np.uint8)


def load(model: VJEPA2ActionModel, *, spec: RobotSpec = SPEC) -> LoadedWorld:
    """As `load_world` returns it."""
    trained_on = [
        Episode(name=str(seed), cameras={}, states=dot_states(40, seed=seed), times_seconds=TIMES)
        for seed in range(1000, 1006)
    ]
    settings = WorldFile(fps=FPS, statistics=robot_statistics(trained_on, spec))
    world = RobotWorld(model.eval().requires_grad_(False), spec=spec, settings=settings)
    return LoadedWorld(world, spec, processor_for(SIDE, whole=True), settings, Path())


def fresh_model(*, seed: int = 0, size: int = 7) -> VJEPA2ActionModel:
    torch.manual_seed(seed)
    config = tiny_config(
        model_type="vjepa2_ac",
        crop_size=SIDE,
        hidden_size=64,
        num_attention_heads=4,
        pred_hidden_size=64,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=2,
        action_size=size,
        state_size=size,
    )
    model = VJEPA2ActionModel(config).eval()
    with (
        torch.no_grad()
    ):  # centimetres are small numbers: seconds do not suffice to make them count
        for layer in (model.predictor.embeddings.action_embeddings,):
            layer.weight.mul_(40)
    return model


@cache
def dot_world(*, updates: int = 500, seed: int = 0) -> LoadedWorld:
    """A world model of the drawn robot; one step ahead, from sound recordings."""
    model = fresh_model(seed=seed)
    make = processor_for(SIDE, whole=True)
    before, after, states, actions = [], [], [], []
    for number in range(24):
        rows = dot_states(40, seed=1000 + number)
        frames = torch.from_numpy(dot_frames(rows)).permute(0, 3, 1, 2).contiguous()
        pixels = make(frames, return_tensors="pt")["pixel_values_videos"][0]
        with torch.no_grad():
            tokens = model.encode_frames(pixels[None])[0].unflatten(0, (len(rows), -1))
        held = SPEC.states(rows)
        before.append(tokens[:-1])
        after.append(tokens[1:])
        states.append(held[:-1])
        actions.append(SPEC.actions(held.double()).float())
    data = [torch.cat(parts) for parts in (before, after, states, actions)]
    side = SIDE // 8
    model.predictor.train()
    optimizer = torch.optim.AdamW(model.predictor.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(updates, 2))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        rows = torch.randint(len(data[0]), (64,), generator=generator)
        z, target, state, action = (part[rows] for part in data)
        predicted = model.predict_next(
            z, action[:, None], state[:, None], grid=TokenGrid(1, side, side)
        )
        loss = (predicted - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return load(model)


def write_dots(
    folder: Path, rows: list[Table], frames: list[NDArray[np.uint8]], **more: list[Table]
) -> Path:
    """npz files, one per episode; `more`: lists of actions or times."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (states, pixels) in enumerate(zip(rows, frames, strict=True)):
        extra = {name: values[number] for name, values in more.items()}
        np.savez(folder / f"{number:02d}.npz", observations=pixels, states=states, **extra)
    return folder
