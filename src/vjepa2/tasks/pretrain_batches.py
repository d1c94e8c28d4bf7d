"""The micro-batches of every update: pixels on the device, and what is hidden of them.

An update is defined on its whole batch, whatever the number of processes: sample i of update s is
the same clip, crop and masks everywhere. Micro-batch m (`micro_batch` samples in a row) is made by
process m // (micro-batches per process).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vjepa2.data.augment import to_pixels
from vjepa2.data.bad_files import BadFileCounter, check_channels
from vjepa2.data.file_table import FileTable
from vjepa2.data.loader import ClipLoader
from vjepa2.data.manifest import read_source
from vjepa2.data.sample import BadFile, Sample
from vjepa2.data.settings import DataConfig
from vjepa2.errors import DataNotFoundError
from vjepa2.masking import Masks, PackedMasks
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_streams import (
    IMAGE_SEED,
    Stream,
    micro_batch_masks,
    own_micro_batches,
    streams_of,
)
from vjepa2.training.distributed import Processes


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """What one forward and backward pass is made of.

    Attributes:
        pixels: [b, T, C, S, S] normalised, on the device.
        masks: one or several ways to hide tokens of all of them, on the CPU.
        mask_shares: per mask, how much this micro-batch's hidden and visible tokens count beside
            those of the others; 1 unless masks keep all their tokens.
        weight: of its loss in the sum over this process's micro-batches.
        is_image: still images rather than clips.
        number: of the micro-batch in the update, over all processes.
    """

    pixels: Tensor
    masks: tuple[Masks | PackedMasks, ...]
    mask_shares: tuple[tuple[float, float], ...]
    weight: float
    is_image: bool
    number: int


def read_sources(data: DataConfig, moved: str) -> list[FileTable]:
    """The files of every source.

    Args:
        data: sources.
        moved: option that names another place.

    Raises:
        DataError: a source cannot be read.
    """
    try:
        return [read_source(source) for source in data.sources]
    except DataNotFoundError as error:
        raise DataNotFoundError(
            f"{error} If the files were moved, say where to: {moved}."
        ) from error


class StreamBatches:
    """Reads one stream and cuts it into the micro-batches of this process.

    Args:
        stream: what is read.
        config: of the run.
        processes: of the run.
        steps: updates to make.
        samples_before: samples of the run before these updates.
        tables: files of each source.
        counter: of bad files.

    Raises:
        ConfigError: the batch cannot be shared among the processes.
        DataError: a source cannot be read.
    """

    def __init__(
        self,
        stream: Stream,
        config: PretrainConfig,
        processes: Processes,
        *,
        steps: range,
        samples_before: int,
        tables: Sequence[FileTable],
        counter: BadFileCounter,
    ) -> None:
        self.stream, self._config, self._device = stream, config, processes.device
        self.micro_batch, self._own = own_micro_batches(stream.clip, processes)
        size = self.micro_batch
        self.loader = ClipLoader(
            stream.data,
            config.augment,
            seed=stream.seed,
            batch_size=stream.clip.batch_size,
            num_frames=stream.clip.num_frames,
            crop_size=stream.clip.crop_size,
            positions=range(self._own.start * size, self._own.stop * size),
            first_step=steps.start,
            num_steps=len(steps),
            samples_before=samples_before,
            tables=tables,
            counter=counter,
        )
        self._samples = iter(self.loader)

    def next(self, step: int) -> Iterator[MicroBatch]:
        """Micro-batches of update `step`; each is made when it is asked for.

        Clips of different lengths, from sources that have lengths of their own, make a part each.
        """
        found, samples = next(self._samples)
        assert found == step, f"the loader is at update {found}, the run at {step}"
        masks: dict[int, list[list[tuple[Masks | PackedMasks, tuple[float, float]]]]] = {}
        for place in range(len(self._own)):
            micro = samples[place * self.micro_batch : (place + 1) * self.micro_batch]
            lengths = [sample.num_frames for sample in micro]
            for length in sorted(set(lengths)):
                if length not in masks:
                    masks[length] = self._masks(step, num_frames=length)
                rows = [row for row, own in enumerate(lengths) if own == length]
                yield self._micro_batch(
                    [micro[row] for row in rows],
                    [(rows_of(drawn[place][0], rows), drawn[place][1]) for drawn in masks[length]],
                    weight=self.stream.weight / len(self._own) * len(rows) / len(micro),
                    number=self._own[place] + (0 if len(rows) == len(micro) else length << 32),
                )

    def _micro_batch(
        self,
        samples: list[Sample],
        masks: list[tuple[Masks | PackedMasks, tuple[float, float]]],
        *,
        weight: float,
        number: int,
    ) -> MicroBatch:
        return MicroBatch(
            pixels=to_pixels(samples, self._config.augment, device=self._device),
            masks=tuple(mask for mask, _ in masks),
            mask_shares=tuple(shares for _, shares in masks),
            weight=weight,
            is_image=self.stream.is_image,
            # Images count on where no batch of clips is.
            number=number + (IMAGE_SEED if self.stream.is_image else 0),
        )

    def _masks(
        self, step: int, *, num_frames: int
    ) -> list[list[tuple[Masks | PackedMasks, tuple[float, float]]]]:
        """Per mask setting and own micro-batch, for clips of one length."""
        stream = self.stream
        if num_frames != stream.clip.num_frames:
            tubelet = stream.clip.num_frames // stream.grid.t
            stream = replace(stream, grid=stream.grid._replace(t=num_frames // tubelet))
        return [
            micro_batch_masks(
                mask,
                stream,
                truncation=self._config.truncation,
                micro_batch=self.micro_batch,
                own=self._own,
                step=step,
                number=stream.first_mask_number + number,
            )
            for number, mask in enumerate(stream.masks)
        ]


def rows_of(masks: Masks | PackedMasks, rows: Sequence[int]) -> Masks | PackedMasks:
    """Masks of some samples of a micro-batch."""
    if isinstance(masks, PackedMasks):  # packed micro-batches have clips of one length
        assert len(rows) == len(masks.context_lengths)
        return masks
    if len(rows) == len(masks.context_ids):
        return masks
    chosen = torch.tensor(rows)
    return Masks(masks.context_ids[chosen], masks.target_ids[chosen])


class Batches:
    """All micro-batches of a run, from any update on.

    Args:
        config: of the run.
        network: of the student.
        processes: of the run.

    Attributes:
        stall_seconds: time that training waited for samples so far.
    """

    def __init__(self, config: PretrainConfig, network: VJEPA2Config, processes: Processes) -> None:
        self._config, self._network, self._processes = config, network, processes
        self._streams: list[StreamBatches] = []
        self._end = 0
        self._former_stall = 0.0
        for cooldown in (False, True):  # what does not fit is told before any work
            for stream in streams_of(config, network, cooldown=cooldown):
                own_micro_batches(stream.clip, processes)
        self.clip_tables = read_sources(config.data, "--data NEW_FOLDER")
        self._image_tables = (
            []
            if config.images is None
            else read_sources(config.images.data, "--set images.data.sources.0.path=NEW_FOLDER")
        )
        self.fingerprints = [
            table.fingerprint() for table in (*self.clip_tables, *self._image_tables)
        ]
        check_channels(self.clip_tables, config.data, config.augment)
        if config.images is not None:
            check_channels(self._image_tables, config.images.data, config.augment)
        # Of clips and of images; they outlive the loaders, of which every phase has others.
        self._counters = [BadFileCounter(config.data, sum(map(len, self.clip_tables)))]
        if config.images is not None:
            count = sum(map(len, self._image_tables))
            self._counters.append(BadFileCounter(config.images.data, count))
        # Per counter, how often each bad file was told.
        self._told: list[dict[str, int]] = [{} for _ in self._counters]

    def next(self, step: int) -> Iterator[MicroBatch]:
        """Micro-batches of this process for update `step`; clips first, then images."""
        if not self._streams or step >= self._end:
            self._open(step)
        for stream in self._streams:
            yield from stream.next(step)

    def restart(self) -> None:
        """Forget where reading is: the next update may be any."""
        self.close()

    @property
    def stall_seconds(self) -> float:
        """Time that was spent waiting for samples."""
        return self._former_stall + sum(part.loader.stall_seconds for part in self._streams)

    def new_bad_files(self) -> list[BadFile]:
        """Files found bad since the last call; `count` is how often they were drawn since then."""
        found = []
        for counter, told in zip(self._counters, self._told, strict=True):
            for bad in counter.take_changed():
                found.append(replace(bad, count=bad.count - told.get(bad.path, 0)))
                told[bad.path] = bad.count
        return found

    def has_told(self, bad: BadFile) -> bool:
        """Whether `new_bad_files` has named this file."""
        return any(bad.path in told for told in self._told)

    def close(self) -> None:
        """End the decoding processes."""
        self._former_stall = self.stall_seconds
        for part in self._streams:
            part.loader.close()
        self._streams = []

    def _open(self, step: int) -> None:
        self.close()
        schedule = self._config.schedule
        cooldown = schedule.phase(step) == "cooldown"
        self._end = schedule.num_steps if cooldown else schedule.cooldown_start
        for stream in streams_of(self._config, self._network, cooldown=cooldown):
            opened = StreamBatches(
                stream,
                self._config,
                self._processes,
                steps=range(step, self._end),
                samples_before=self._samples_before(step, is_image=stream.is_image),
                tables=self._image_tables if stream.is_image else self.clip_tables,
                counter=self._counters[stream.is_image],
            )
            self._streams.append(opened)

    def _samples_before(self, step: int, *, is_image: bool) -> int:
        """Clips or images of all updates before `step`."""
        config = self._config
        if is_image:
            assert config.images is not None
            return step * config.images.batch_size
        start = min(step, config.schedule.cooldown_start)
        later = config.clip if config.cooldown_clip is None else config.cooldown_clip
        return start * config.clip.batch_size + (step - start) * later.batch_size


def fixed_clips(
    data: DataConfig,
    config: PretrainConfig,
    *,
    seed: int,
    count: int,
    device: torch.device,
    tables: Sequence[FileTable] | None = None,
) -> tuple[Tensor, list[int | None]]:
    """Clips that are the same at every call, without augmentation: pixels [n, T, C, S, S], labels.

    Args:
        data: where they come from.
        config: of the run, for geometry and normalisation.
        seed: other than the run's, so that training draws other moments.
        count: how many.
        device: for the pixels.
        tables: files of each source, where they were read before.
    """
    augment = config.augment.evaluation()
    sources = tuple(source.model_copy(update={"num_frames": None}) for source in data.sources)
    quiet = data.model_copy(update={"workers": 0, "prefetch": 1, "sources": sources})
    with ClipLoader(
        quiet,
        augment,
        seed=seed,
        batch_size=count,
        num_frames=config.clip.num_frames,
        crop_size=config.clip.crop_size,
        num_steps=1,
        tables=tables,
    ) as loader:
        [(_, samples)] = list(loader)
    return to_pixels(samples, augment, device=device), [sample.label for sample in samples]
