"""The published example end to end, with a tiny random model and an episode made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tiny_models import randomise, tiny_config
from vjepa2.cli.main import app
from vjepa2.errors import ConfigError, DataError, DataNotFoundError, ShapeError
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.poses import integrate_pose
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.plan import PlanConfig, plan
from vjepa2.video.processor import VJEPA2VideoProcessor

FIRST = [0.58, -0.002, 0.2476, -3.0666, 0.0305, -1.9128, 0.997]
SECOND = [0.6728, 0.029, 0.3318, -3.0514, 0.0177, -1.9125, 0.997]


@pytest.fixture(scope="module")
def model() -> VJEPA2ActionModel:
    return randomise(VJEPA2ActionModel(tiny_config(model_type="vjepa2_ac"))).eval()


@pytest.fixture
def episode(tmp_path: Path) -> Path:
    """In the published layout, of another size than the model's."""
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, 40, 40, 3), dtype=np.uint8)
    path = tmp_path / "episode.npz"
    np.savez(path, observations=frames, states=np.array([[FIRST, SECOND]], dtype=np.float32))
    return path


def energies_one_by_one(model: VJEPA2ActionModel, frames: np.ndarray, points: int) -> torch.Tensor:
    """As the notebook: encode both, one step of the predictor per action, mean difference."""
    side = model.config.crop_size
    processor = VJEPA2VideoProcessor(
        size={"height": side, "width": side}, crop_size=side, do_center_crop=False
    )
    video = torch.from_numpy(frames[0]).permute(0, 3, 1, 2)
    pixels = processor(video, return_tensors="pt")["pixel_values_videos"]
    tokens = model.encode_frames(pixels)
    size = tokens.shape[1] // 2
    rows = int(size**0.5)
    found = torch.zeros(points, points, points)
    axis = torch.linspace(-0.075, 0.075, points)
    for i in range(points):
        for j in range(points):
            for k in range(points):
                action = torch.tensor([[[axis[i], axis[j], axis[k], 0, 0, 0, 0]]])
                predicted = model.predict_next(
                    tokens[:, :size], action, torch.tensor([[FIRST]]), grid=TokenGrid(1, rows, rows)
                )
                found[i, j, k] = (predicted - tokens[:, size:]).abs().mean()
    return found


@torch.no_grad()
def test_energies_equal_the_notebook_and_the_minimum_is_told(
    model: VJEPA2ActionModel, episode: Path, tmp_path: Path
) -> None:
    result = plan(
        episode,
        model,
        tmp_path / "out",
        config=PlanConfig(points=3, samples=20, iterations=2, horizon=2),
    )
    expected = energies_one_by_one(model, np.load(episode)["observations"], 3)
    assert torch.allclose(result.energies, expected, atol=1e-5)
    true = result.true_action
    assert torch.allclose(true[:3], torch.tensor([0.0928, 0.031, 0.0842]), atol=1e-5)
    again = integrate_pose(torch.tensor(FIRST), true)
    assert torch.allclose(again, torch.tensor(SECOND), atol=1e-5)
    i, j, k = np.unravel_index(int(expected.argmin()), (3, 3, 3))
    axis = torch.linspace(-0.075, 0.075, 3)
    assert torch.equal(result.best_action[:3], axis[[i, j, k]])
    assert result.rank == int((expected < expected[2, 1, 2]).sum())  # nearest to the true action
    assert result.plan.actions.shape == (2, 7)
    assert bool((result.plan.actions[:, 3:6] == 0).all())
    saved = load_file(tmp_path / "out" / "plan.safetensors")
    assert torch.equal(saved["energies"], result.energies)
    words = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert words["offset_centimetres"] == pytest.approx(100 * result.offset_metres)


@pytest.mark.parametrize("name", ["cem", "mppi", "gradient", "hybrid"])
def test_other_planners_turn_the_hand_too(
    model: VJEPA2ActionModel, episode: Path, tmp_path: Path, name: str
) -> None:
    settings: dict[str, Any] = {"planner": name, "points": 2, "samples": 8, "iterations": 2}
    result = plan(episode, model, tmp_path, config=PlanConfig(**settings, horizon=1))
    assert result.plan.actions[0, 3:6].abs().max() > 0
    assert result.plan.actions[0, :3].abs().sum() <= 0.075 + 1e-6


def test_the_verb_writes_page_and_json(
    model: VJEPA2ActionModel, episode: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    arguments = ["plan", episode, "--model", tmp_path / "model", "--out", tmp_path / "plan"]
    numbers = ["--horizon", "1", "--samples", "20", "--iterations", "2", "--reverse", "--json"]
    result = CliRunner().invoke(app, [str(part) for part in [*arguments, *numbers]])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["num_points"] == 125
    assert answer["true_action"][0] == pytest.approx(-0.0928, abs=1e-5)
    page = (tmp_path / "plan" / "plan.html").read_text()
    assert page.count("<rect") == 25 and "least energy" in page and "data:image/png" in page


def test_states_are_read_as_the_models_robot_says(
    model: VJEPA2ActionModel, episode: Path, tmp_path: Path
) -> None:
    """A model of recordings in millimetres with the gripper first: the same two moments."""
    model.save_pretrained(tmp_path / "model")
    spec = {
        "position_unit": "mm",
        "position_columns": [1, 2, 3],
        "rotation_columns": [4, 5, 6],
        "gripper_column": 0,
    }
    (tmp_path / "model" / "robot.json").write_text(json.dumps(spec))
    stored = dict(np.load(episode))
    moved = np.roll(stored["states"], 1, axis=2) * ([1] + [1000] * 3 + [1] * 3)
    np.savez(tmp_path / "mm.npz", observations=stored["observations"], states=moved)
    config = PlanConfig(points=2, samples=4, iterations=1)
    here = plan(tmp_path / "mm.npz", tmp_path / "model", tmp_path / "a", config=config)
    there = plan(episode, model, tmp_path / "b", config=config)
    assert torch.allclose(here.true_action, there.true_action, atol=1e-5)
    assert torch.allclose(here.energies, there.energies, atol=1e-5)


def test_wrong_episodes_are_named(model: VJEPA2ActionModel, episode: Path, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no .npz files"):
        plan(tmp_path / "none.npz", model, tmp_path)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK no zip")
    with pytest.raises(DataError, match="cannot be read"):
        plan(bad, model, tmp_path)
    stored = dict(np.load(episode))
    one = {name: value[:, :1] for name, value in stored.items()}
    for changed, words in (
        ({"observations": stored["observations"][..., :2]}, r"uint8 \[2, 40, 40, 2\]"),
        (one, "holds one moment"),
        ({"states": stored["states"][:, :1]}, "2 frames, the episode has 1 states"),
        ({"states": stored["states"] * np.nan}, "NaN"),
        ({"states": np.array([[{"a": 1}]], dtype=object)}, "cannot be read"),
    ):
        np.savez(bad, **{**stored, **changed})
        with pytest.raises(DataError, match=words):
            plan(bad, model, tmp_path)
    np.savez(bad, **{**stored, "states": stored["states"][..., :6]})
    with pytest.raises(ShapeError, match="names column 6"):
        plan(bad, model, tmp_path)
    np.savez(bad, states=stored["states"])
    with pytest.raises(DataError, match="no 'observations'"):
        plan(bad, model, tmp_path)


def test_wrong_settings_are_named_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="planner: Input should be 'published'"):
        PlanConfig(planner="cme")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="points"):
        PlanConfig(points=1)
