"""What a run says before its first update: size, work, memory and time."""

import sys
from typing import Any

import torch

from vjepa2.masking import PackedMasks
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_streams import Stream, micro_batch_masks, own_micro_batches, streams_of
from vjepa2.training.distributed import Processes
from vjepa2.training.forecast import UTILISATION, Forecast, forecast, measured_peak
from vjepa2.training.sharding import choose_sharding

# What a process on a CPU comes to hold that no update does: decoder and codecs, measuring and
# saving; fitted on the runs of benchmarks/process_memory.py.
BESIDE_UPDATE_BYTES = 100 * 2**20


def run_forecasts(
    config: PretrainConfig,
    network: VJEPA2Config,
    processes: Processes,
    *,
    teacher: VJEPA2Config | None = None,
) -> dict[str, Forecast]:
    """The cost of one update, by what it is made of: "clips", "images", "cool-down clips"...

    Health is measured in portions of a micro-batch, without gradient, and needs less.

    Args:
        config: of the run.
        network: of the student.
        processes: of the run.
        teacher: a frozen one, where there is one.
    """
    found: dict[str, Forecast] = {}
    for name, stream in _different_streams(config, network).items():
        found[name] = _of_stream(config, network, processes, stream, teacher)
    return found


def _different_streams(config: PretrainConfig, network: VJEPA2Config) -> dict[str, Stream]:
    """What a run reads; of the cool-down only what differs from before."""
    schedule = config.schedule
    streams: dict[str, Stream] = {}
    if schedule.cooldown_start > 0:
        for stream in streams_of(config, network, cooldown=False):
            streams["images" if stream.is_image else "clips"] = stream
    if schedule.cooldown_steps > 0:
        has_both = bool(streams)
        for stream in streams_of(config, network, cooldown=True):
            name = "images" if stream.is_image else "clips"
            if stream != streams.get(name):
                streams[f"cool-down {name}" if has_both else name] = stream
    return streams


def _of_stream(
    config: PretrainConfig,
    network: VJEPA2Config,
    processes: Processes,
    stream: Stream,
    teacher: VJEPA2Config | None,
) -> Forecast:
    micro_batch, own = own_micro_batches(stream.clip, processes)
    adapters = config.adapters
    return forecast(
        network,
        num_frames=stream.clip.num_frames,
        crop_size=(stream.clip.crop_size, stream.clip.crop_size),
        batch_size=stream.clip.batch_size,
        masks=_mask_counts(config, stream, micro_batch, own),
        micro_batch=micro_batch,
        processes=processes.world_size,
        sharding=choose_sharding(config.runtime.sharding, processes),
        dtype=config.runtime.dtype,
        device=processes.device.type,
        recompute=config.runtime.recompute,
        teacher_network=teacher,
        adapter_rank=0 if adapters is None else adapters.rank,
        adapter_targets=() if adapters is None else adapters.targets,
    )


def _mask_counts(
    config: PretrainConfig, stream: Stream, micro_batch: int, own: range
) -> list[tuple[int, int]]:
    """Visible and hidden tokens of a clip, per mask, as the first update draws them."""
    counts = []
    for number, mask in enumerate(stream.masks):
        [(drawn, _), *_] = micro_batch_masks(
            mask,
            stream,
            truncation=config.truncation,
            micro_batch=micro_batch,
            own=own[:1],
            step=0,
            number=stream.first_mask_number + number,
        )
        if isinstance(drawn, PackedMasks):
            sizes = (drawn.context_ids.numel(), drawn.target_ids.numel())
            counts.append((round(sizes[0] / micro_batch), round(sizes[1] / micro_batch)))
        else:
            counts.append((drawn.context_ids.shape[1], drawn.target_ids.shape[1]))
    return counts


def announce(
    forecasts: dict[str, Forecast],
    config: PretrainConfig,
    device: torch.device,
    *,
    resident: int,
    quiet: bool,
) -> dict[str, Any]:
    """Print the forecasts on stderr; return the main numbers for the log.

    Args:
        forecasts: of `run_forecasts`.
        config: of the run.
        device: of this process.
        resident: bytes that this process held before the networks were made. On a CPU they are
            part of what the run needs.
        quiet: print nothing.
    """
    beside = resident + BESIDE_UPDATE_BYTES if device.type == "cpu" else 0
    peak = measured_peak(device, config.runtime.dtype)
    utilisation = UTILISATION["cuda" if device.type == "cuda" else "cpu"]
    numbers: dict[str, Any] = {"device": str(device), "matrix_peak_flops": peak}
    for name, found in forecasts.items():
        seconds = found.seconds(peak, utilisation=utilisation)
        numbers[name] = {
            "parameters": found.num_parameters["trainable"],
            "tokens": sum(found.tokens.values()),
            "flops": found.flops["total"],
            "memory_bytes": found.memory_bytes["total"] + beside,
            "seconds": seconds,
        }
        if not quiet:
            steps = config.schedule.num_steps if len(forecasts) == 1 else None
            text = found.text(seconds=seconds, num_steps=steps, beside=beside)
            heading = "" if len(forecasts) == 1 else f"An update of {name}:\n"
            sys.stderr.write(f"{heading}{text}\n")
    return numbers
