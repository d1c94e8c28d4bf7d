"""A world model is used as it was trained: frames, cameras, robot, and what a folder lacks."""

from pathlib import Path

import pytest
import torch

from tiny_worlds import SIDE, write_encoder
from vjepa2 import VJEPA2ActionModel, VJEPA2Config, VJEPA2Model
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import CheckpointFormatError, ConfigError, DtypeError, ShapeError
from vjepa2.poses import integrate_pose
from vjepa2.protocols import Observation
from vjepa2.tasks.robot_world import WorldFile, encode_steps
from vjepa2.tasks.world_folder import as_world, load_world, processor_for, save_world


def small(size: int = 7) -> VJEPA2ActionModel:
    torch.manual_seed(0)
    config = VJEPA2Config(
        model_type="vjepa2_ac",
        crop_size=SIDE,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        pred_hidden_size=24,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
        action_size=size,
        state_size=size,
    )
    return VJEPA2ActionModel(config).eval()


def pictures(count: int, *, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 24, 32), generator=draw, dtype=torch.uint8)


def test_frames_are_encoded_alone_or_with_those_before(tmp_path: Path) -> None:
    encoder = VJEPA2Model.from_pretrained(write_encoder(tmp_path / "encoder")).encoder.eval()
    pixels = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))

    def clip(*frames: int) -> torch.Tensor:
        with torch.no_grad():
            tokens = encoder(pixels[list(frames)][None]).last_hidden_state[0]
        return torch.nn.functional.layer_norm(tokens, tokens.shape[-1:])

    alone = encode_steps(encoder, pixels, "each")
    together = encode_steps(encoder, pixels, "causal_clip")
    for step in range(4):
        torch.testing.assert_close(alone[step], clip(step, step))
        torch.testing.assert_close(together[step], clip(max(0, step - 1), step))


def test_a_published_model_is_an_arm(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    world = load_world(tmp_path, device="cpu")
    assert world.spec == RobotSpec(gripper_column=6) and world.fps == 4 and world.statistics is None
    frames = pictures(2)
    latents = world.encode(frames)
    pixels = world.processor(frames, return_tensors="pt")["pixel_values_videos"][0]
    assert pixels.shape == (2, 3, SIDE, SIDE)  # squeezed, nothing cut off
    torch.testing.assert_close(
        latents, world.world.model.encode_frames(pixels[None])[0].unflatten(0, (2, -1))
    )
    state, action = torch.rand(1, 7), 0.1 * torch.rand(1, 1, 7)
    ahead = world.world.rollout(world.world.begin(latents[:1], state), action)
    torch.testing.assert_close(ahead.states[:, 0], integrate_pose(state, action[:, 0]))


def test_another_robot_needs_its_specification(tmp_path: Path) -> None:
    small(3).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"robot\.json"):
        load_world(tmp_path, device="cpu")
    RobotSpec(kind="mobile_base")
    (tmp_path / "robot.json").write_text('{"kind": "joints", "joint_columns": [0, 1]}')
    with pytest.raises(ConfigError, match="do not belong together"):
        load_world(tmp_path, device="cpu")
    (tmp_path / "robot.json").write_text('{"kind": "mobile_base"}')
    assert load_world(tmp_path, device="cpu").world.state_size == 3
    (tmp_path / "world.json").write_text("[1")
    with pytest.raises(CheckpointFormatError, match="damaged"):
        load_world(tmp_path, device="cpu")


@pytest.mark.parametrize("kind", ["sampled", "tokens"])
def test_observations_of_several_cameras(tmp_path: Path, kind: str) -> None:
    save_world(
        small(),
        tmp_path,
        spec=RobotSpec(gripper_column=6),
        processor=processor_for(SIDE, whole=True),
        settings=WorldFile(cameras=("left", "right"), multi_camera=kind, fps=5),
    )
    world = load_world(tmp_path, device="cpu")
    left, right = pictures(1, seed=1), pictures(1, seed=2)
    seen = Observation(
        frames={"right": right[0].permute(1, 2, 0), "left": left[0].permute(1, 2, 0)},
        state=torch.zeros(7),
        time_seconds=0.0,
    )
    latents = world.world.encode(world.pixels(seen))
    torch.testing.assert_close(latents, world.encode({"left": left, "right": right}))
    alone = world.world.model.encode_frames(
        world.processor(left, return_tensors="pt")["pixel_values_videos"]
    )
    torch.testing.assert_close(latents[:, :4], alone)
    assert latents.shape[1] == (8 if kind == "tokens" else 4)
    if kind == "tokens":
        with pytest.raises(ShapeError, match="left, right"):
            world.encode(left)
    with pytest.raises(ConfigError, match="left"):
        world.encode({"right": right, "lft": left})


def test_a_camera_that_moved_its_name(tmp_path: Path) -> None:
    save_world(
        small(),
        tmp_path,
        spec=RobotSpec(gripper_column=6, camera="wrist"),
        processor=processor_for(SIDE, whole=False),
        settings=WorldFile(),
    )
    world = load_world(tmp_path, device="cpu")
    picture = pictures(1)[0].permute(1, 2, 0)
    seen = Observation(frames={"wrst": picture}, state=torch.zeros(7), time_seconds=0.0)
    with pytest.raises(ConfigError, match="wrist"):
        world.pixels(seen)


def test_pictures_may_be_arrays_and_anything_else_is_named() -> None:
    world = as_world(small())
    frames = pictures(1)
    assert torch.equal(world.encode(frames.numpy()), world.encode(frames))
    with pytest.raises(DtypeError, match="uint8 tensor or numpy array .* ndarray of float64"):
        world.encode(frames.numpy() / 255)
    with pytest.raises(DtypeError, match="'goal.png'"):
        world.encode("goal.png")
    with pytest.raises(ShapeError, match=r"transpose\(0, 3, 1, 2\)"):
        world.encode(frames.permute(0, 2, 3, 1).numpy())
