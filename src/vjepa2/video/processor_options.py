"""Options of the video processor and the file that holds them.

Names, defaults and file are those of transformers 5.23 `VJEPA2VideoProcessor`. Options of our own
are written only when they differ from the default, so a file with default options equals the
port's byte for byte, and the port reads every file of ours.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    check_kind,
    check_option_names,
    check_path,
    checked_integer,
    checked_number,
)
from vjepa2.files import atomic_path
from vjepa2.runtime import resolve_device
from vjepa2.strict_config import StrictConfig
from vjepa2.video.geometry import CropRounding, crop_dict, default_size, size_dict
from vjepa2.video.inputs import Layout
from vjepa2.video.resize import BILINEAR, ResizeMode, resample_number
from vjepa2.weights.hub import HubOptions, open_source, upload_folder

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FILE_NAME = "video_preprocessor_config.json"

# Options of the file that are written only when they differ from the default: the port's file has
# none of them, and a file with default options stays equal to the port's byte for byte.
_WRITTEN_WHEN_CHANGED = (
    "do_convert_rgb",
    "do_sample_frames",
    "num_frames",
    "fps",
    "input_data_format",
    "crop_rounding",
    "resize_mode",
)


class ProcessorOptions(StrictConfig):
    """What a video processor does, frozen and checked.

    Attributes:
        crop_size: of the result in pixels: n, (height, width) or a dictionary of both.
        size: of the frame before the crop (`geometry.size_dict` lists the forms); by default the
            short side becomes int(crop_size * 256 / 224).
        resample: filter by Pillow's number: 0 nearest, 2 bilinear, 3 bicubic; the last two
            antialiased.
        do_resize, do_center_crop, do_rescale, do_normalize: whether each step happens.
        rescale_factor: multiplies pixels, 1/255 for uint8.
        image_mean, image_std: of the rescaled channels: three numbers, or one for all.
        do_convert_rgb: repeat grey three times, lay transparent pixels on white (`inputs.to_rgb`).
        input_data_format: "channels_first" or "channels_last" of arrays; None finds out.
        device: where to resize and normalise; None: where the frames are. Frames travel in their
            own type.
        do_sample_frames: take only `num_frames` evenly spread frames, or `fps` a second.
        num_frames, fps: see there; without do_sample_frames they have no effect (and warn).
        return_metadata: also return `video_metadata`, one `VideoMetadata` a video.
        crop_rounding: "port", or "meta" for the original code's crop, one pixel further right or
            down where the margin is odd (every 16:9 video).
        resize_mode: "exact", or "fast": uint8 videos are shrunk by the bilinear filter vertically
            first; at least 99.9 % of pixels stay within one grey level of the exact result.
            Accelerators and float videos resize only what the crop keeps.
    """

    crop_size: dict[str, int] = Field(default_factory=lambda: crop_dict(256))
    size: dict[str, int] = Field(default_factory=dict)  # empty: the one of crop_size
    resample: int = BILINEAR
    do_resize: bool = True
    do_center_crop: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    rescale_factor: float = Field(default=1 / 255, gt=0)
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    do_convert_rgb: bool = False
    input_data_format: Layout | None = None
    device: str | None = None
    do_sample_frames: bool = False
    num_frames: int | None = Field(default=None, gt=0)
    fps: float | None = Field(default=None, gt=0)
    return_metadata: bool = False
    crop_rounding: CropRounding = "port"
    resize_mode: ResizeMode = "exact"

    # Entries of a loaded file that this class does not know; `save_pretrained` keeps them.
    _other_entries: dict[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("crop_size", mode="before")
    @classmethod
    def _read_crop(cls, value: object) -> dict[str, int]:
        return crop_dict(value)

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, value: object, info: ValidationInfo) -> dict[str, int]:
        if value is None or value == {}:
            crop = info.data.get("crop_size")  # missing where it was refused itself
            return {} if crop is None else default_size(crop)
        return size_dict(value)

    @field_validator("resample", mode="before")
    @classmethod
    def _read_resample(cls, value: Any) -> int:
        return resample_number(value)

    @field_validator("num_frames", mode="before")
    @classmethod
    def _read_count(cls, value: object) -> int | None:
        return None if value is None else checked_integer("num_frames", value, least=1)

    @field_validator("fps", "rescale_factor", mode="before")
    @classmethod
    def _read_number(cls, value: object, info: ValidationInfo) -> float | None:
        if value is None and info.field_name == "fps":
            return None
        return checked_number(str(info.field_name), value, above=0)

    @field_validator("device", mode="before")
    @classmethod
    def _read_device(cls, value: Any) -> str | None:
        return None if value is None else str(resolve_device(value))

    @field_validator("image_mean", "image_std", mode="before")
    @classmethod
    def _read_channels(cls, value: Any) -> list[float]:
        try:
            given = np.asarray(value).reshape(-1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"needs 3 numbers, or 1 for all channels ({error})") from error
        if given.dtype.kind not in "uif":
            raise ConfigError("needs 3 numbers, or 1 for all channels; something else was given")
        numbers = [float(item) for item in given]
        if len(numbers) not in (1, 3):
            raise ConfigError(f"needs 3 numbers, or 1 for all channels; {len(numbers)} were given")
        return numbers

    @field_validator("image_std")
    @classmethod
    def _check_std(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(number > 0 for number in value):
            raise ConfigError("must be above 0, pixels are divided by it")
        return value

    # -- files ------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        **overrides: object,
    ) -> Self:
        """Load the options of a published or saved processor.

        Reads the "video_processor" part of processor_config.json, else
        video_preprocessor_config.json, else preprocessor_config.json. `size` in a file counts only
        if this class wrote it for an explicit `size`: the port computes it from `crop_size`.

        Args:
            name_or_folder: hub name `owner/name`, folder, or JSON file.
            revision, cache_dir, token, local_files_only, subfolder: see `weights.hub.HubOptions`.
            overrides: options that replace those of the file.

        Raises:
            CheckpointNotFoundError: no such folder or repository, or none of the files in it.
            CheckpointFormatError: the file is not JSON, or an option in it is not allowed.
            UnknownOptionError: an override does not exist.
            ConfigError: `name_or_folder` is neither text nor a path, or an override is wrong.
        """
        check_option_names(f"{cls.__name__}.from_pretrained", overrides, cls.model_fields)
        check_path("name_or_folder", name_or_folder)
        if Path(name_or_folder).is_file():
            return cls.from_dict(_read_json(Path(name_or_folder)), **overrides)
        source = open_source(
            name_or_folder,
            options=HubOptions(
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                local_files_only=local_files_only,
                subfolder=subfolder,
            ),
        )
        names = ("processor_config.json", FILE_NAME, "preprocessor_config.json")
        for name in names:
            path = source.find(name)
            if path is None:
                continue
            values = _read_json(path)
            if name == names[0]:
                values = values.get("video_processor")
            if isinstance(values, dict):
                try:
                    return cls.from_dict(values, **overrides)
                except ConfigError as error:
                    raise CheckpointFormatError(f"{path}: {error}") from error
        raise CheckpointNotFoundError(
            f"{source.name} holds no processor options; looked for {', '.join(names)}. "
            f"For the defaults use {cls.__name__}(crop_size=...)."
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: object) -> Self:
        """Make a processor from the content of a file (`to_dict`); unknown entries are kept.

        Raises:
            ConfigError: `values` is no mapping, or an option in it is not allowed.
            UnknownOptionError: an override does not exist.
        """
        check_kind("values", values, Mapping, words="a mapping of option names to values")
        for name in values:
            check_kind("An option's name", name, str, words="text")
        check_option_names(f"{cls.__name__}.from_dict", overrides, cls.model_fields)
        entries = {name: value for name, value in values.items() if value is not None}
        if not entries.pop("size_is_explicit", False):
            entries.pop("size", None)
        entries.pop("video_processor_type", None)
        known = {name: value for name, value in entries.items() if name in cls.model_fields}
        if "crop_size" in overrides and "size" not in overrides:
            known.pop("size", None)
        processor = cls(**(known | overrides))
        processor._other_entries = {n: v for n, v in entries.items() if n not in cls.model_fields}
        return processor

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the saved file, in the port's form."""
        values = dict(self._other_entries)
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "device" or (name in _WRITTEN_WHEN_CHANGED and value == field.default):
                continue
            values[name] = list(value) if isinstance(value, tuple) else value
        if self.size != default_size(self.crop_size):
            values["size_is_explicit"] = True
        values["video_processor_type"] = type(self).__name__
        return values

    def to_json_string(self) -> str:
        """Return the saved file's text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, folder: str | os.PathLike[str]) -> list[str]:
        """Write video_preprocessor_config.json into a folder, which is made; returns its path.

        Raises:
            OutputError: the file cannot be written.
            ConfigError: `folder` is no path.
        """
        check_path("folder", folder)
        target = Path(folder) / FILE_NAME
        with atomic_path(target) as path:
            path.write_text(self.to_json_string(), encoding="utf-8")
        return [str(target)]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload processor",
    ) -> str:
        """Upload the file of `save_pretrained` in one commit and return its address.

        Args:
            repo_id: `owner/name`; made if it does not exist. Other files there stay.
            private: visibility of a new repository; None for the owner's default.
            token: access token; None for the stored one.
            revision: branch, made if needed; None for the main one.
            commit_message: first line of the commit.

        Raises:
            ConfigError: `repo_id` is no text.
            OutputError: no access, no network, or HF_HUB_OFFLINE=1.
        """
        check_kind("repo_id", repo_id, str, words="the name of a repository, owner/name")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(
                Path(folder),
                repo_id,
                private=private,
                token=token,
                revision=revision,
                commit_message=commit_message,
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    __str__ = __repr__


def _read_json(path: Path) -> Any:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # thousands of brackets in each other
        raise CheckpointFormatError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointFormatError(f"{path} holds {type(values).__name__}, expected an object.")
    return values
