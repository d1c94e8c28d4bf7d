"""Time of one pretraining update beside a plain one, both sides taking turns.

    python -m benchmarks.train_step                      # ViT-Tiny on the CPU, float32
    python -m benchmarks.train_step --quick              # a toy network, nothing saved
    python -m benchmarks.train_step --device cuda --size vit_large --frames 16 --pixels 256 \\
        --batch 24 --dtype bfloat16 --compile [--data FOLDER_OF_VIDEOS]

An update is everything from decoded frames on: crop, resize, flip, normalise, masks, teacher,
student, predictor, backward, AdamW, average of the student. Ours is `tasks.pretrainer.Pretrainer`,
the plain side `benchmarks/plain_step.py`. Before anything is timed, both must give the same loss
for the same weights, masks and pixels.

Beside seconds there are CPU seconds of the process, which other programs disturb less. With --data
the real loader decodes videos, and the share of the time that training waited for it is reported.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import parser, save
from benchmarks.plain_step import PlainSettings, PlainStep, cut
from vjepa2.data.augment import to_pixels
from vjepa2.data.crop import Box, random_box
from vjepa2.data.draws import Draws, Purpose
from vjepa2.data.sample import Sample
from vjepa2.data.settings import DataConfig, SourceConfig
from vjepa2.masking import Masks
from vjepa2.tasks.masked_prediction import target_tokens
from vjepa2.tasks.pretrain_batches import MicroBatch
from vjepa2.tasks.pretrain_config import ClipConfig, NetworkConfig, PretrainConfig, RuntimeConfig
from vjepa2.tasks.pretrain_networks import make_networks
from vjepa2.tasks.pretrain_streams import micro_batch_masks, streams_of
from vjepa2.tasks.pretrainer import Pretrainer
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import Processes
from vjepa2.training.forecast import Forecast, forecast, measured_peak
from vjepa2.training.health import HealthConfig
from vjepa2.training.metrics import MetricsLog
from vjepa2.training.schedules import ScheduleConfig
from vjepa2.weights.meta_format import to_meta


def vit(width: int, depth: int, heads: int, *predictor: int) -> dict[str, int]:
    """Encoder and predictor: width, blocks and heads of each."""
    names = ("hidden_size", "num_layers", "num_heads")
    encoder = dict(zip(names, (width, depth, heads), strict=True))
    return encoder | dict(zip([f"pred_{name}" for name in names], predictor, strict=True))


SIZES = {
    # Heads of the predictor are 32 wide, as published; its width is about 0.4 times the encoder's.
    "toy": vit(48, 2, 2, 24, 2, 2),
    "vit_tiny": vit(192, 12, 3, 96, 12, 3),
    "vit_tiny_wide_predictor": vit(192, 12, 3, 384, 12, 12),  # the width of the large models
    "vit_small": vit(384, 12, 6, 192, 12, 6),
    "vit_base": vit(768, 12, 12, 384, 12, 12),
    "vit_large": vit(1024, 24, 16, 384, 12, 12),
    "vit_huge": vit(1280, 32, 16, 384, 12, 12),
}
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Case:
    """One network, one geometry, one way to compute."""

    size: str = "vit_tiny"
    frames: int = 16
    pixels: int = 128
    batch: int = 8
    source: tuple[int, int] = (256, 340)  # rows and columns of the decoded frames
    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False
    data: str | None = None

    def config(self, source: Path) -> PretrainConfig:
        """The run's configuration; `source` is not read again where frames are in memory."""
        return PretrainConfig(
            recipe="benchmark",
            network=NetworkConfig(**SIZES[self.size], pred_num_mask_tokens=2),
            data=DataConfig(
                sources=(
                    SourceConfig(
                        path=self.data or str(source),
                        fps=4.0,
                        kind="auto" if self.data else "array",
                    ),
                ),
                workers=14,
            ),
            clip=ClipConfig(num_frames=self.frames, crop_size=self.pixels, batch_size=self.batch),
            schedule=ScheduleConfig(num_steps=10_000, momentum=0.99925),
            health=HealthConfig(every=1_000_000),
            runtime=RuntimeConfig(device=self.device, dtype=self.dtype, compile=self.compiled),
        )


class DecodedBatches:
    """Stands in for `pretrain_batches.Batches`: the same micro-batches, of frames in memory."""

    def __init__(self, config: PretrainConfig, network: Any, videos: Sequence[Tensor]) -> None:
        [self.stream] = streams_of(config, network, cooldown=False)
        self.config, self.videos = config, videos
        self.device = torch.device(config.runtime.device)
        self.stall_seconds = 0.0

    def samples(self, step: int) -> list[Sample]:
        """Clips cut to their boxes, as decoding processes hand them over."""
        augment, size = self.config.augment, self.config.clip.crop_size
        found = []
        for place, video in enumerate(self.videos):
            draws = Draws(0, Purpose.CROP, step=step, position=place)
            box = random_box(
                *video.shape[1:3], scale=augment.scale, ratio=augment.ratio, draws=draws
            )
            found.append(sample_of(video, box, flip=draws.uniform(0, 1) < augment.flip, size=size))
        return found

    def masks(self, step: int) -> list[list[Masks]]:
        """Per mask setting, those of every micro-batch."""
        clip = self.config.clip
        size = clip.micro_batch or clip.batch_size
        return [
            [
                masks
                for masks, _ in micro_batch_masks(
                    mask,
                    self.stream,
                    truncation="batch",
                    micro_batch=size,
                    own=range(clip.batch_size // size),
                    step=step,
                    number=number,
                )
                if isinstance(masks, Masks)
            ]
            for number, mask in enumerate(self.stream.masks)
        ]

    def next(self, step: int) -> Iterator[MicroBatch]:
        """The micro-batches of an update."""
        samples, masks = self.samples(step), self.masks(step)
        count = len(masks[0])
        size = len(samples) // count
        for number in range(count):
            yield MicroBatch(
                pixels=to_pixels(
                    samples[number * size : (number + 1) * size],
                    self.config.augment,
                    device=self.device,
                ),
                masks=tuple(drawn[number].to(self.device) for drawn in masks),
                mask_shares=((1.0, 1.0),) * len(masks),
                weight=1.0 / count,
                is_image=False,
                number=number,
            )

    def close(self) -> None:
        """There is nothing to end."""


def sample_of(video: Tensor, box: Box, *, flip: bool, size: int) -> Sample:
    """A sample as the loader makes it, of decoded frames uint8 [T, H, W, C]."""
    top, left, height, width = box
    frames = video[:, top : top + height, left : left + width].permute(0, 3, 1, 2).contiguous()
    return Sample(
        frames=frames,
        frame_ids=np.arange(len(video)),
        pts_seconds=np.arange(len(video)) / 4.0,
        box=box,
        frame_size=(video.shape[1], video.shape[2]),
        size=(size, size),
        flip=flip,
        path="memory",
        label=None,
        source=0,
        step=0,
        position=0,
        attempt=0,
        is_image=False,
    )


def decoded_videos(case: Case) -> list[Tensor]:
    """Random frames uint8 [T, H, W, C] in place of decoded ones."""
    generator = torch.Generator().manual_seed(1)
    shape = (case.frames, *case.source, 3)
    return [
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        for _ in range(case.batch)
    ]


def any_source(folder: Path) -> Path:
    """A file that a trainer can list: one black clip."""
    path = folder / "clip.npy"
    np.save(path, np.zeros((16, 32, 32, 3), dtype=np.uint8))
    return path


def make_trainer(
    case: Case, config: PretrainConfig, folder: Path, videos: Sequence[Tensor]
) -> Pretrainer:
    """Our side, on frames in memory unless the case names a folder of videos."""
    networks = make_networks(config)
    device = torch.device(case.device)
    processes = Processes(rank=0, world_size=1, local_rank=0, device=device)
    store = CheckpointStore(folder, config={}, processes=processes)
    log = MetricsLog(folder / "metrics.jsonl", enabled=False)
    trainer = Pretrainer(config, networks, processes, store=store, log=log, folder=folder)
    if case.data is None:
        batches = DecodedBatches(config, networks.average.config, videos)
        trainer.batches = batches  # type: ignore[assignment]
    return trainer


def make_plain(case: Case, trainer: Pretrainer) -> PlainStep:
    """The other side, with the weights of ours."""
    student = trainer.networks.student
    plain = PlainStep(
        student.encoder.config,
        frames=case.frames,
        size=case.pixels,
        settings=PlainSettings(device=case.device, dtype=getattr(torch, case.dtype)),
    )
    weights = {name.replace("_orig_mod.", ""): v for name, v in student.state_dict().items()}
    whole = to_meta(weights)
    plain.load(whole["encoder"], whole["predictor"])
    return plain


def check_equal(
    trainer: Pretrainer, plain: PlainStep, videos: Sequence[Tensor]
) -> dict[str, float]:
    """Losses of both sides for the same weights, masks and pixels.

    Raises:
        AssertionError: they differ.
    """
    batches = DecodedBatches(trainer.config, trainer.networks.average.config, videos)
    [micro] = batches.next(1)
    masks = [(mask.context_ids, mask.target_ids) for mask in micro.masks]
    with torch.no_grad(), trainer._precision():
        targets = target_tokens(trainer.networks.target, micro.pixels, several_levels=False)
        ours = float(trainer.student(micro.pixels, targets, micro.masks).total)
        theirs = float(plain.loss(micro.pixels.transpose(1, 2), masks))
    clips = [
        cut(video, sample.box, flip=sample.flip, size=sample.size[0])
        for video, sample in zip(videos, batches.samples(1), strict=True)
    ]
    apart = float((torch.stack(clips, 0).transpose(1, 2) - micro.pixels.cpu()).abs().max())
    limit = TOLERANCE if trainer.config.runtime.dtype == "float32" else 1e-2
    assert abs(ours - theirs) < limit, f"losses differ: {ours} and {theirs}"
    assert apart < 1e-4, f"pixels differ by {apart}"
    return {"loss_ours": ours, "loss_plain": theirs, "largest_difference_of_pixels": apart}


def take_turns(
    sides: dict[str, Callable[[], object]], *, repeats: int, synchronize: Callable[[], object]
) -> dict[str, Any]:
    """Seconds and CPU seconds of each side, in turn; the first round only warms up.

    Returns:
        Median and minimum of each, and the median over rounds of plain / ours.
    """
    clocks = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}
    times: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name in sides} for clock in clocks
    }
    for number in range(repeats + 1):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            starts = {clock: read() for clock, read in clocks.items()}
            sides[name]()
            synchronize()
            for clock, read in clocks.items():
                times[clock][name].append(read() - starts[clock])
    result: dict[str, Any] = {"repeats": repeats}
    for clock, by_side in times.items():
        timed = {name: values[1:] for name, values in by_side.items()}
        for name, values in timed.items():
            result[f"{name}_median_{clock}"] = round(statistics.median(values), 4)
            result[f"{name}_min_{clock}"] = round(min(values), 4)
        if {"ours", "plain"} <= set(timed):
            ratios = [p / o for p, o in zip(timed["plain"], timed["ours"], strict=True)]
            result[f"speedup_median_{clock}"] = round(statistics.median(ratios), 3)
            result[f"speedup_of_minima_{clock}"] = round(
                min(timed["plain"]) / min(timed["ours"]), 3
            )
    return result


def run_case(case: Case, *, repeats: int) -> dict[str, Any]:
    """Check and time one case."""
    synchronize = torch.cuda.synchronize if case.device.startswith("cuda") else lambda: None
    with tempfile.TemporaryDirectory() as folder:
        videos = decoded_videos(case)
        trainer = make_trainer(case, case.config(any_source(Path(folder))), Path(folder), videos)
        plain = make_plain(case, trainer)
        result: dict[str, Any] = {"case": dataclasses.asdict(case)}
        result["case"].pop("data")
        result["equality"] = check_equal(trainer, plain, videos)
        steps = iter(range(1, 1_000_000))
        stalls: list[float] = []

        def ours() -> None:
            stalls.append(trainer.run_step(next(steps))["stall_share"])

        sides: dict[str, Callable[[], object]] = {"ours": ours}
        if case.data is None:
            sides["plain"] = lambda: plain(videos)
        result |= take_turns(sides, repeats=repeats, synchronize=synchronize)
        if case.data is not None:
            result["stall_share_median"] = round(statistics.median(stalls[1:]), 4)
        else:
            micro = list(trainer.batches.next(0))
            prepared = plain.prepare(videos)
            parts: dict[str, Callable[[], object]] = {
                "ours": lambda: list(trainer.batches.next(0)),
                "plain": lambda: plain.prepare(videos),
            }
            result["pixels_and_masks"] = take_turns(parts, repeats=repeats, synchronize=synchronize)
            del micro, prepared
        trainer.close()
    result |= share_of_peak(case, trainer, result["ours_min_seconds"])
    return result


def forecast_of(case: Case, trainer: Pretrainer, **options: Any) -> Forecast:
    """What the package expects of the case's updates, for the masks of the first."""
    network = trainer.networks.average.config
    masks = DecodedBatches(trainer.config, network, []).masks(1)
    return forecast(
        network,
        num_frames=case.frames,
        crop_size=(case.pixels, case.pixels),
        batch_size=case.batch,
        masks=[(drawn[0].context_ids.shape[1], drawn[0].target_ids.shape[1]) for drawn in masks],
        dtype="bfloat16" if case.dtype == "bfloat16" else "float32",
        device=case.device,
        **options,
    )


def share_of_peak(case: Case, trainer: Pretrainer, seconds: float) -> dict[str, float]:
    """How much of the measured matrix peak an update reaches."""
    flops = forecast_of(case, trainer).flops["total"]
    dtype: Any = case.dtype
    peak = measured_peak(case.device, dtype, seconds=0.5)
    return {
        "gflop_per_update": round(flops / 1e9, 2),
        "matrix_peak_gflops": round(peak / 1e9, 1),
        "share_of_matrix_peak": round(flops / seconds / peak, 3),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--size", default="vit_tiny", choices=list(SIZES))
    arguments.add_argument("--frames", type=int, default=16)
    arguments.add_argument("--pixels", type=int, default=128)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    arguments.add_argument("--compile", action="store_true")
    arguments.add_argument("--data", help="folder of videos: measure how long training waits")
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--quick", action="store_true")
    options = arguments.parse_args()
    case = Case(
        size="toy" if options.quick else options.size,
        frames=options.frames,
        pixels=options.pixels,
        batch=options.batch,
        device=options.device,
        dtype=options.dtype,
        compiled=options.compile,
        data=options.data,
    )
    result = run_case(case, repeats=options.repeats)
    for name, value in result.items():
        print(f"{name}: {value}")
    if not options.quick:
        what = "train_step" if options.size == "vit_tiny" else f"train_step_{options.size}"
        save(what, result, hardware="cpu" if options.device == "cpu" else "gpu")


if __name__ == "__main__":
    main()
