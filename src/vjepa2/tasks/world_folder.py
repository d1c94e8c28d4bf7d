"""A world model of a robot as a folder: what was trained, and how to use it as it was trained.

FOLDER/config.json, model.safetensors    a `VJEPA2ActionModel`
FOLDER/video_preprocessor_config.json    how pictures become pixels
FOLDER/robot.json                        the `RobotSpec` of its recordings
FOLDER/world.json                        steps per second, cameras, ranges of states and actions

    loaded = load_world("RUN")                           # or its folder `model`
    goal = loaded.encode(goal_frames)[-1]                # uint8 [T, C, H, W] to [N, D]
    loop = RecedingHorizon(loaded.world, ..., pixels=loaded.pixels)
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.robot_statistics import RobotStatistics
from vjepa2.data.trajectories import Episode
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    DtypeError,
    ShapeError,
    check_choice,
    check_path,
    described,
)
from vjepa2.files import write_json
from vjepa2.models.action_model import VJEPA2ActionModel
from vjepa2.models.world_model import DEFAULT_MEMORY_BYTES
from vjepa2.poses import POSE_STATE_SIZE
from vjepa2.protocols import Observation
from vjepa2.runtime import resolve_device
from vjepa2.tasks.pretrain_folder import CHECKPOINTS_NAME, MODEL_NAME
from vjepa2.tasks.robot_world import RobotWorld, WorldFile
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.processor_options import FILE_NAME as PROCESSOR_FILE

WORLD_FILE = "world.json"
ROBOT_FILE = "robot.json"

Pictures = UInt8[Tensor, "T C H W"] | UInt8[NDArray[np.uint8], "T C H W"]


@dataclass(frozen=True)
class LoadedWorld:
    """A world model with all that it takes to use it.

    Attributes:
        world: for planning.
        spec: of the robot.
        processor: pictures to pixels.
        settings: of the model.
        folder: where it lies.
    """

    world: RobotWorld
    spec: RobotSpec
    processor: VJEPA2VideoProcessor
    settings: WorldFile
    folder: Path

    @property
    def fps(self) -> float:
        """Steps per second: one action leads from one step to the next."""
        return self.settings.fps

    @property
    def camera(self) -> str | None:
        """The camera to look through, the first of several; None: the only one there is."""
        cameras = self.settings.cameras
        return cameras[0] if cameras else self.spec.camera

    @property
    def cameras(self) -> tuple[str | None, ...]:
        """The cameras whose pictures make up one frame."""
        if self.settings.num_views > 1:
            return self.settings.cameras
        return (self.camera,)

    @property
    def statistics(self) -> RobotStatistics | None:
        """Of the recordings it was trained on."""
        return self.settings.statistics

    @property
    def context(self) -> int:
        """Frames of a sample in training: past and future should not be longer together."""
        return self.settings.num_frames

    def pixels(self, seen: Observation) -> Float[Tensor, "1 C H W"]:
        """One observation as `world.encode` wants it; for `planning.mpc.RecedingHorizon`.

        Raises:
            ConfigError: the robot has no camera of that name.
        """
        pictures = []
        for camera in self.cameras:
            if camera is None:
                camera = next(iter(seen.frames), None)
            check_choice("camera of the robot", camera, seen.frames)
            assert camera is not None
            pictures.append(seen.frames[camera].permute(2, 0, 1)[None])
        return self._pixels(pictures)

    def encode(self, frames: Pictures | Mapping[str, Pictures]) -> Float[Tensor, "T N D"]:
        """Features of pictures, RGB 0..255, any size.

        Args:
            frames: of the camera, or of each by its name; tensors or arrays of numpy.

        Raises:
            ConfigError: a camera is missing.
            DtypeError: neither uint8 tensors nor uint8 arrays.
            ShapeError: not [T, 3, H, W]; or the model sees several cameras at once, and one was
                given.
        """
        if not isinstance(frames, Mapping):
            if self.settings.num_views > 1:
                raise ShapeError(
                    f"This model sees {', '.join(self.settings.cameras)} at once: give their "
                    "frames by name."
                )
            return self.world.encode(self._pixels([_as_tensor(frames)]))
        chosen = []
        for camera in self.cameras:
            name = next(iter(frames)) if camera is None else camera
            check_choice("camera", name, frames)
            chosen.append(_as_tensor(frames[name]))
        return self.world.encode(self._pixels(chosen))

    def encode_episode(
        self, episode: Episode, indices: Sequence[int] | None = None
    ) -> Float[Tensor, "T N D"]:
        """Features of an episode's frames, by default of all; bring it to `fps` first."""
        cameras = [(camera, episode.frames(camera, indices)) for camera in self.cameras]
        return self.world.encode(self._pixels([frames for _, frames in cameras]))

    def _pixels(self, pictures: Sequence[Tensor]) -> Float[Tensor, "T C H W"]:
        made = [
            self.processor(picture.contiguous(), return_tensors="pt")["pixel_values_videos"][0]
            for picture in pictures
        ]
        model = self.world.model
        return torch.cat(made, dim=2).to(model.device, model.dtype)


def _as_tensor(pictures: object) -> UInt8[Tensor, "T C H W"]:
    if isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8:
        pictures = torch.tensor(pictures)
    if not isinstance(pictures, Tensor) or pictures.dtype != torch.uint8:
        got = getattr(pictures, "dtype", None)
        raise DtypeError(
            "Pictures must be a uint8 tensor or numpy array [T, 3, H, W], RGB 0..255, got "
            f"{described(pictures) if got is None else f'{type(pictures).__name__} of {got}'}."
        )
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ShapeError(
            f"Pictures must be [T, 3, H, W], got {list(pictures.shape)}. From [T, H, W, 3]: "
            "tensor.permute(0, 3, 1, 2), array.transpose(0, 3, 1, 2)."
        )
    return pictures


def save_world(
    model: VJEPA2ActionModel,
    folder: Path,
    *,
    spec: RobotSpec,
    processor: VJEPA2VideoProcessor,
    settings: WorldFile,
) -> None:
    """Write everything that `load_world` reads.

    Raises:
        OutputError: the folder cannot be written.
    """
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_json(folder / ROBOT_FILE, spec.model_dump(mode="json"))
    write_json(folder / WORLD_FILE, settings.model_dump(mode="json"))


def world_folder(folder: str | os.PathLike[str]) -> Path:
    """Where the model of a run lies; a folder of a model itself stays.

    Raises:
        CheckpointNotFoundError: the run has not ended.
    """
    path = Path(folder)
    if (path / MODEL_NAME).is_dir():
        return path / MODEL_NAME
    if (path / CHECKPOINTS_NAME).is_dir():
        raise CheckpointNotFoundError(
            f"The run in {path} has not ended: it has no folder {MODEL_NAME!r} yet. Let it go on: "
            f"vjepa2 world-model train --out {path}"
        )
    return path


def load_world(
    folder: str | os.PathLike[str],
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> LoadedWorld:
    """Load what `vjepa2 world-model train` wrote, or a published action-conditioned model.

    Args:
        folder: of the model or of the run that made it; or a name that `from_pretrained` takes.
        memory_bytes: for candidates that are computed at once.
        device: None: the best there is.
        dtype: of matrix products, see `ActionWorldModel`.

    Raises:
        CheckpointNotFoundError: there is no such model, or its run has not ended.
        CheckpointFormatError: a file is damaged.
        ConfigError: a model of another robot than seven numbers, without `robot.json`.
    """
    check_path("The folder of the world model", folder)
    path = world_folder(folder)
    name = os.fspath(path) if path.is_dir() else os.fspath(folder)
    model = VJEPA2ActionModel.from_pretrained(name)
    model = model.to(resolve_device(device)).eval().requires_grad_(False)
    if (path / ROBOT_FILE).is_file():
        spec = RobotSpec.from_file(path / ROBOT_FILE)
    else:
        spec = _published_robot(model, name)
    settings = WorldFile(**_read(path / WORLD_FILE))
    if (path / PROCESSOR_FILE).is_file():
        processor = VJEPA2VideoProcessor.from_pretrained(path)
    else:
        processor = processor_for(model.config.crop_size, whole=True)
    world = RobotWorld(model, spec=spec, settings=settings, memory_bytes=memory_bytes, dtype=dtype)
    return LoadedWorld(world, spec, processor, settings, path)


def as_world(model: VJEPA2ActionModel, *, spec: RobotSpec | None = None) -> LoadedWorld:
    """A model in memory, used as a published one is: its own camera, whole pictures.

    Args:
        model: stays where it is.
        spec: of the robot; None: an arm of seven numbers.

    Raises:
        ConfigError: the model has actions or states of another size than the robot.
    """
    robot = _published_robot(model, "This model") if spec is None else spec
    settings = WorldFile()
    world = RobotWorld(model.eval().requires_grad_(False), spec=robot, settings=settings)
    processor = processor_for(model.config.crop_size, whole=True)
    return LoadedWorld(world, robot, processor, settings, Path())


def processor_for(side: int, *, whole: bool) -> VJEPA2VideoProcessor:
    """The processor that makes square pictures of a size.

    Args:
        side: height and width in pixels.
        whole: squeeze the whole picture, as the published planning example does; else its middle.
    """
    if not whole:
        return VJEPA2VideoProcessor(crop_size={"height": side, "width": side})
    return VJEPA2VideoProcessor(
        size={"height": side, "width": side}, crop_size=side, do_center_crop=False
    )


def _published_robot(model: VJEPA2ActionModel, name: str) -> RobotSpec:
    sizes = model.config.action_size, model.config.state_size
    if sizes != (POSE_STATE_SIZE, POSE_STATE_SIZE):
        raise ConfigError(
            f"{name} has actions and states of {sizes[0]} and {sizes[1]} numbers and no "
            f"{ROBOT_FILE}: write the robot's specification (RobotSpec) into its folder."
        )
    return RobotSpec(gripper_column=6)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointFormatError(f"{path} is damaged: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointFormatError(f"{path} is damaged: it must hold one JSON object.")
    return values
