"""From a task to a sample: what a decoding process does, again and again."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from vjepa2.data.crop import axis_taps, choose_box
from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.moments import clip_frames
from vjepa2.data.opened import OpenedFile, open_file
from vjepa2.data.sample import Answer, BadFile, ClipTask, FileRef, Sample
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import VideoDecodeError, VJEPAError

MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class ClipDecoder(Dataset[Answer]):
    """Makes samples; holds settings only, so that it travels to other processes.

    Attributes:
        config: of the data.
        augment: crop and flip.
        num_frames: T of a source that does not say otherwise.
        size: height and width of the pixels that samples become.
    """

    config: DataConfig
    augment: AugmentConfig
    num_frames: int
    size: tuple[int, int]

    def __getitem__(self, task: ClipTask) -> Answer:
        """Read the first of the task's files that can be read."""
        bad: list[BadFile] = []
        for attempt, ref in enumerate(task.files):
            try:
                return Answer(self._sample(task, ref, attempt=attempt), tuple(bad))
            except (VJEPAError, OSError, ValueError, EOFError) as error:
                reason = f"{type(error).__name__}: {error}".replace("\n", " ")
                bad.append(
                    BadFile(
                        ref.name,
                        reason[:MAX_REASON_CHARACTERS],
                        source=task.source,
                        step=task.step,
                        position=task.position,
                    )
                )
        return Answer(None, tuple(bad))

    def _sample(self, task: ClipTask, ref: FileRef, *, attempt: int) -> Sample:
        source = self.config.sources[task.source]

        def draws(purpose: Purpose) -> Draws:
            return Draws(
                task.seed, purpose, step=task.step, position=task.position, attempt=attempt
            )

        with open_file(ref, source, num_channels=self.augment.num_channels) as file:
            moment = draws(Purpose.MOMENT).uniform() if self.config.moment == "random" else 0.5
            shown, pts_seconds = self._frame_ids(file, source, moment=moment)
            ids, frame_ids = np.unique(shown, return_inverse=True)
            height, width = file.frame_size
            box = choose_box(
                self.augment,
                height=height,
                width=width,
                size=self.size,
                draws=draws(Purpose.CROP),
            )
            rows = axis_taps(box.height, self.size[0]).kept
            columns = axis_taps(box.width, self.size[1]).kept
            frames = file.take(ids.tolist(), box, rows, columns)
        if frames.is_floating_point() and not bool(frames.isfinite().all()):
            raise VideoDecodeError(f"{ref.name} holds NaN or infinite values.")
        return Sample(
            frames=frames,
            frame_ids=frame_ids.reshape(-1),
            pts_seconds=pts_seconds,
            box=box,
            frame_size=(height, width),
            size=self.size,
            flip=draws(Purpose.FLIP).uniform() < self.augment.flip,
            path=ref.name,
            label=ref.label,
            source=task.source,
            step=task.step,
            position=task.position,
            attempt=attempt,
            is_image=file.is_image,
        )

    def _frame_ids(
        self, file: OpenedFile, source: SourceConfig, *, moment: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers of the frames that are shown, and when each appears: int64 and float64 [T]."""
        num_frames = self.num_frames if source.num_frames is None else source.num_frames
        if file.is_image:
            return np.zeros(num_frames, dtype=np.int64), np.zeros(num_frames)
        clock = file.clock
        ids = np.array(
            clip_frames(
                source,
                clock,
                num_frames=num_frames,
                short_video=self.config.short_video,
                moment=moment,
            )
        )
        return ids, clock.pts_seconds.numpy()[ids]
