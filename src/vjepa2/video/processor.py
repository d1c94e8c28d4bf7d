"""`VJEPA2VideoProcessor`: videos in, `pixel_values_videos` [B, T, 3, h, w] out.

The object is its options: frozen fields, checked when it is made, that a call may override for
that call. Numbers, option names, call and file are those of the published processor (transformers
5.23 `VJEPA2VideoProcessor`); the class docstring lists what differs.
"""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from vjepa2.errors import (
    ConfigError,
    DtypeError,
    ShapeError,
    VideoTooLargeError,
    check_choice,
    check_option_names,
)
from vjepa2.video.batch import VideoBatch
from vjepa2.video.geometry import AxisCrop, CropRounding, Geometry, center_crop, resized_size
from vjepa2.video.inputs import Clip, Layout, split_videos
from vjepa2.video.metadata import FrameChoice, VideoMetadata, as_metadata
from vjepa2.video.pixels import check_values, to_rgb
from vjepa2.video.processor_options import ProcessorOptions
from vjepa2.video.resize import ResizeMode
from vjepa2.video.streams import StreamedClip, opened_clip
from vjepa2.video.transforms import ColorScale, color_scale, transform_frames


class VJEPA2VideoProcessor(ProcessorOptions):
    """Resize the short side, crop the centre, rescale and normalise videos for V-JEPA 2.

    ```python
    processor = VJEPA2VideoProcessor(crop_size=256)
    inputs = processor(video, return_tensors="pt")  # video: uint8 [T, H, W, 3] or [T, 3, H, W]
    inputs["pixel_values_videos"]  # float32 [1, T, 3, 256, 256]
    ```

    Where it differs from the reference: `size` given explicitly is honoured; crops that are not
    square never pad; the axis order is found for every video of a list by itself; floats within
    0..1 are refused instead of divided by 255 again (a nearly black float video, all below one
    grey level, is therefore refused too); paths, URLs, readers and `Frames` are accepted.

    Attributes: see `ProcessorOptions`.

    Raises:
        UnknownOptionError: an option does not exist; the nearest name is given.
        ConfigError: an option has a value that is not allowed.
    """

    model_input_names: ClassVar[tuple[str, ...]] = ("pixel_values_videos",)

    def __call__(
        self,
        videos: object,
        *,
        return_tensors: Literal["pt", "np"] | None = None,
        device: str | torch.device | None = None,
        video_metadata: object = None,
        return_metadata: bool | None = None,
        do_sample_frames: bool | None = None,
        num_frames: int | None = None,
        fps: float | None = None,
        input_data_format: Layout | None = None,
        do_convert_rgb: bool | None = None,
        do_resize: bool | None = None,
        size: object = None,
        resample: int | str | None = None,
        do_center_crop: bool | None = None,
        crop_size: object = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: object = None,
        image_std: object = None,
        crop_rounding: CropRounding | None = None,
        resize_mode: ResizeMode | None = None,
        **unknown: object,
    ) -> VideoBatch:
        """Process one video or several.

        Args:
            videos: one video or any list of them (forms: `vjepa2.video.inputs`). uint8 0..255, or
                other numbers in the range that `rescale_factor` brings to 0..1.
            return_tensors: "pt" for one tensor, "np" for one array; None for a list of tensors,
                where videos may have different numbers of frames.
            video_metadata: origin of array videos, a mapping each with `total_num_frames` and,
                if known, `fps`.
            crop_size: for this call, cut out of the frame as resized for the processor's own
                `size`, as in the port. To see the whole picture at another size make another
                processor, `VJEPA2VideoProcessor(crop_size=n)`, or give `size` as well.

        The other arguments replace the attributes of the same name for this call.

        Returns:
            `pixel_values_videos`: [B, T, 3, h, w], float32 unless neither rescaled nor normalised
            (then the type of the input); with `return_metadata`, `video_metadata` too.

        Raises:
            UnknownOptionError, ConfigError: as the constructor.
            InputError, ShapeError, DtypeError: `videos` is no video; frames of a wrong range,
                type or axis order; videos of different lengths with `return_tensors`.
            VideoError: a file cannot be read, or the result does not fit into memory.
        """
        given = {
            name: value
            for name, value in locals().items()
            if name in type(self).model_fields and value is not None
        }
        check_option_names(
            f"{type(self).__name__}()", unknown, [*type(self).model_fields, *_CALL_OPTIONS]
        )
        if return_tensors is not None:
            check_choice("return_tensors", return_tensors, ["pt", "np"])
        options = self._with(given) if given else self
        choice = options._frame_choice(named=bool({"num_frames", "fps"} & set(given)))
        sources = split_videos(videos)
        known = as_metadata(video_metadata, num_videos=len(sources))
        return options._process(sources, known, choice=choice, return_tensors=return_tensors)

    preprocess = __call__  # type: ignore[pydantic-field]  # a method, no option

    def _with(self, given: Mapping[str, Any]) -> Self:
        """This processor with some options changed; `size` stays unless it is given."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if "num_frames" in given or "fps" in given:
            values |= {"num_frames": None, "fps": None}  # one replaces the other
        return type(self)(**(values | dict(given)))

    def _frame_choice(self, *, named: bool) -> FrameChoice | None:
        if not self.do_sample_frames:
            if named:
                warnings.warn(
                    "num_frames and fps have no effect without do_sample_frames=True; "
                    "all frames are used.",
                    stacklevel=3,
                )
            return None
        if self.num_frames is not None and self.fps is not None:
            raise ConfigError(
                f"num_frames={self.num_frames} and fps={self.fps:g} exclude each other; "
                "give one of them."
            )
        return FrameChoice(num_frames=self.num_frames, fps=self.fps)

    def _process(
        self,
        sources: list[object],
        known: list[VideoMetadata | None],
        *,
        choice: FrameChoice | None,
        return_tensors: str | None,
    ) -> VideoBatch:
        """Process videos one by one; files are decoded a few frames at a time."""
        results: list[Tensor] = []
        origins: list[VideoMetadata] = []
        batch: Tensor | None = None
        scale = self._scale()
        for video, metadata in zip(sources, known, strict=True):
            with opened_clip(
                video, layout=self.input_data_format, choice=choice, known=metadata
            ) as clip:
                if isinstance(clip, Clip):  # decoders give RGB, arrays may hold anything
                    clip = to_rgb(clip, convert=self.do_convert_rgb)
                    check_values(clip, rescale_factor=self.rescale_factor * self.do_rescale)
                geometry = self._geometry(*clip.shape[2:])
                shape = (clip.shape[0], 3, geometry.rows.size, geometry.columns.size)
                dtype = scale.result_dtype(clip.dtype)
                if batch is None:
                    device = clip.device if self.device is None else torch.device(self.device)
                    _check_has_pixels(clip, wanted_on=device)
                    batch = _empty((len(sources), *shape), dtype=dtype, device=device)
                fits = (shape, dtype) == (batch.shape[1:], batch.dtype)
                out = batch[len(results)] if fits else batch.new_empty(shape, dtype=dtype)
                transform_frames(clip, geometry=geometry, scale=scale, out=out)
            results.append(out)
            origins.append(clip.metadata)
        assert batch is not None
        values = VideoBatch(pixel_values_videos=_collect(results, batch, kind=return_tensors))
        if self.return_metadata:
            values["video_metadata"] = origins
        return values

    def _geometry(self, height: int, width: int) -> Geometry:
        """What happens to frames of this size."""
        if self.do_resize:
            height, width = resized_size(self.size, height=height, width=width)
        rows, columns = AxisCrop(0, height, 0, height), AxisCrop(0, width, 0, width)
        if self.do_center_crop:
            rows = center_crop(height, self.crop_size["height"], rounding=self.crop_rounding)
            columns = center_crop(width, self.crop_size["width"], rounding=self.crop_rounding)
        return Geometry(
            height=height,
            width=width,
            rows=rows,
            columns=columns,
            resample=self.resample,
            mode=self.resize_mode,
        )

    def _scale(self) -> ColorScale:
        return color_scale(
            rescale_factor=self.rescale_factor if self.do_rescale else None,
            mean=self.image_mean if self.do_normalize else None,
            std=self.image_std if self.do_normalize else None,
        )


def _check_has_pixels(clip: Clip | StreamedClip, *, wanted_on: torch.device) -> None:
    if clip.device.type == "meta" != wanted_on.type:
        raise DtypeError(
            f"The video is a tensor on the meta device, which holds no pixels to bring to "
            f"{wanted_on}. Pass the pixels themselves."
        )


def _empty(shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for the result.

    Raises:
        VideoTooLargeError: there is not enough.
    """
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except RuntimeError as error:  # of the allocators, on the CPU and elsewhere
        raise VideoTooLargeError(
            f"There is no memory on {device} for pixels of the shape {list(shape)}. Take fewer "
            "frames or videos at a time, or a smaller crop_size."
        ) from error


_CALL_OPTIONS = ("return_tensors", "video_metadata")


def _collect(results: list[Tensor], batch: Tensor, *, kind: str | None) -> object:
    """The batch if all videos are in it, else the list of them (or an error)."""
    if kind is None:
        return results
    odd = [out for out in results if (out.shape, out.dtype) != (batch.shape[1:], batch.dtype)]
    if odd:
        got = ", ".join(f"{list(out.shape)} {out.dtype}" for out in (batch[0], odd[0]))
        raise ShapeError(
            f"return_tensors={kind!r} needs videos of one length and size, got [T, C, H, W] = "
            f"{got}. Take the same number of frames of each, or leave return_tensors out for a "
            "list."
        )
    return batch.cpu().numpy() if kind == "np" else batch
