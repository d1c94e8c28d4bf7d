"""A few clips that a run is looked at with, again and again: measures, probes, pictures."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vjepa2.data.file_table import FileTable
from vjepa2.data.manifest import read_source
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import LabelError
from vjepa2.masking import Masks, draw_masks
from vjepa2.tasks.masked_prediction import MaskedPrediction, read_tokens, target_tokens
from vjepa2.tasks.pretrain_batches import fixed_clips
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_networks import Networks
from vjepa2.tasks.pretrain_streams import own_micro_batches, streams_of
from vjepa2.training.distributed import Processes
from vjepa2.training.health_held_out import held_out_numbers
from vjepa2.training.health_pictures import MAX_FILE_CLIPS, save_pictures
from vjepa2.training.health_probe import pooled_features, probe_numbers

# Other moments and crops than those that the run draws.
HELD_OUT_SEED = 1 << 61
MAX_LABELLED_CLIPS = 512


class HeldOut:
    """Clips drawn once; every process has the same.

    They come from the sources of the run at moments that training does not draw (of short files
    they can be the same), in one size without augmentation.

    Args:
        config: of the run.
        networks: of the run, on their devices.
        processes: of the run; each measures on its own device, as many clips at a time as an
            update's micro-batch has, so that this needs no more memory than an update.
        tables: files of every source of clips.

    Raises:
        DataError: the sources cannot be read.
        LabelError: the labelled list has no labels.
    """

    def __init__(
        self,
        config: PretrainConfig,
        networks: Networks,
        processes: Processes,
        *,
        tables: Sequence[FileTable],
    ) -> None:
        self._config, self._networks, self._device = config, networks, processes.device
        self._portion, _ = own_micro_batches(config.clip, processes)
        self.pixels, _ = fixed_clips(
            # Files of the run are judged, and noted, while it trains.
            config.data.model_copy(update={"max_bad_share": 1.0}),
            config,
            seed=config.seed ^ HELD_OUT_SEED,
            count=config.health.num_clips,
            device=torch.device("cpu"),
            tables=tables,
        )
        network = networks.student.encoder.config
        self._patch_size, self._tubelet_size = network.patch_size, network.tubelet_size
        [stream, *_] = streams_of(config, network, cooldown=False)
        self.grid = stream.grid
        self.masks: list[Masks] = [
            draw_masks(
                mask, self.grid, batch=len(self.pixels), seed=HELD_OUT_SEED, step=0, number=number
            )
            for number, mask in enumerate(stream.masks)
        ]
        self._labelled = labelled_clips(config) if config.health.labelled else None
        self._tokens: tuple[_Shown, _Shown] | None = None

    @torch.no_grad()
    def measure(self, student: nn.Module) -> dict[str, float]:
        """All numbers of one measurement; the networks are as before afterwards.

        Args:
            student: the run's `MaskedPrediction`, unwrapped.
        """
        assert isinstance(student, MaskedPrediction)
        teacher = self._networks.target
        with evaluating(student):
            found = _Shown(lambda pixels: read_tokens(teacher, pixels, levels=()))
            own = _Shown(student.encode)
            numbers = held_out_numbers(
                self.pixels,
                self.masks,
                encode_student=own,
                encode_teacher=found,
                make_targets=functools.partial(
                    target_tokens, teacher, several_levels=bool(student.levels)
                ),
                predict=student.predict_hidden,
                grid=self.grid,
                patch_size=self._patch_size,
                tubelet_size=self._tubelet_size,
                exponent=student.exponent,
                portion=self._portion,
                device=self._device,
            )
            if self._labelled is not None:
                numbers |= self._probe(student)
        self._tokens = found, own
        return numbers

    def save_pictures(self, folder: Path, step: int, *, is_last: bool) -> None:
        """Keep clips and tokens of the newest measurement, at growing distances and at the end."""
        number = step // self._config.health.every
        if self._tokens is None or not (is_last or _is_power_of_two(number)):
            return
        teacher, student = (shown.tokens() for shown in self._tokens)
        count = len(teacher)
        save_pictures(
            folder,
            step=step,
            grid=self.grid,
            frames=as_pictures(self.pixels[:count], self._config.augment),
            teacher=teacher,
            student=student,
            masks=[mask.rows(0, count) for mask in self.masks],
        )

    def _probe(self, student: MaskedPrediction) -> dict[str, float]:
        assert self._labelled is not None
        pixels, labels = self._labelled
        numbers: dict[str, float] = {}
        for name in ("teacher", "student"):
            features = []
            for part in pixels.split(self._portion):
                part = part.to(self._device)
                if name == "teacher":
                    tokens = read_tokens(self._networks.target, part, levels=())
                else:
                    tokens = student.encode(part)
                features.append(pooled_features(tokens).cpu())
            numbers |= probe_numbers(torch.cat(features), labels, name=name)
        return numbers


class _Shown:
    """An encoder that keeps its tokens of the first clips, for the pictures.

    Args:
        encode: pixels [B, T, C, H, W] to tokens [B, N, D].
    """

    def __init__(self, encode: Callable[[Tensor], Tensor]) -> None:
        self._encode = encode
        self._kept: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        """Tokens of the next clips."""
        tokens = self._encode(pixels)
        missing = MAX_FILE_CLIPS - sum(map(len, self._kept))
        if missing > 0:
            self._kept.append(tokens[:missing].float().cpu())
        return tokens

    def tokens(self) -> Tensor:
        """Those that are kept, on the CPU."""
        return torch.cat(self._kept).half()  # half tokens cannot be joined under autocast


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout and stochastic depth inside the block."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def as_pictures(pixels: Tensor, augment: AugmentConfig) -> Tensor:
    """Normalised pixels [n, T, C, H, W] as uint8 RGB; of other than 3 channels the first, grey."""
    mean, std = (
        torch.tensor(values, device=pixels.device).view(-1, 1, 1)
        for values in (augment.mean, augment.std)
    )
    shown = (pixels.float() * std + mean).clamp(0, 1)
    if shown.shape[2] != 3:
        shown = shown[:, :, :1].expand(-1, -1, 3, -1, -1)
    return (shown * 255).round().to(torch.uint8)


def labelled_clips(config: PretrainConfig) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the list for the online probe, on the CPU."""
    path = config.health.labelled
    assert path is not None
    moving = [source for source in config.data.sources if source.kind != "image"]
    if moving:
        source = SourceConfig(
            path=path,
            fps=moving[0].fps,
            frame_step=moving[0].frame_step,
            duration_seconds=moving[0].duration_seconds,
            frames_per_second=moving[0].frames_per_second,
        )
    else:
        source = SourceConfig(path=path, kind="image")
    table = read_source(source)
    if len(table) > MAX_LABELLED_CLIPS:  # from all of it: lists are often sorted by class
        chance = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(table), generator=chance)[:MAX_LABELLED_CLIPS]
        table = table.some(chosen.sort().values.tolist())
    pixels, labels = fixed_clips(
        DataConfig(sources=(source,), order="listed", moment="middle"),
        config,
        seed=0,
        count=len(table),
        device=torch.device("cpu"),
        tables=[table],
    )
    known = [label for label in labels if label is not None]
    if len(known) < len(labels):
        raise LabelError(
            f"health.labelled={path}: {len(labels) - len(known)} of {len(labels)} files have no "
            "label. The list needs a column 'label' with a whole number for each."
        )
    return pixels, torch.tensor(known)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
