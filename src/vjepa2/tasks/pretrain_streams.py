"""What an update of pretraining is made of: clips and images, their grids, masks and shares.

Nothing is read here; `pretrain_batches` makes micro-batches of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vjepa2.data.settings import DataConfig
from vjepa2.errors import ConfigError
from vjepa2.masking import MaskConfig, Masks, PackedMasks, draw_masks, fitted_to
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.pretrain_config import ClipConfig, PretrainConfig, Truncation
from vjepa2.training.distributed import Processes

# Images draw other files, moments and crops than clips of the same number.
IMAGE_SEED = 1 << 62


@dataclass(frozen=True)
class Stream:
    """One kind of input of an update, clips or images, with its geometry and its masks.

    Attributes:
        data: sources.
        clip: geometry and batch.
        grid: of the tokens.
        masks: fitted to the grid.
        first_mask_number: so that masks of images and clips differ.
        weight: share of the loss.
        seed: of what is drawn.
        is_image: still images.
    """

    data: DataConfig
    clip: ClipConfig
    grid: TokenGrid
    masks: tuple[MaskConfig, ...]
    first_mask_number: int
    weight: float
    seed: int
    is_image: bool


def streams_of(config: PretrainConfig, network: VJEPA2Config, *, cooldown: bool) -> list[Stream]:
    """The inputs of an update, before or in the cool-down.

    Raises:
        MaskError: a grid is too small for its masks.
    """
    clip = config.cooldown_clip if cooldown and config.cooldown_clip else config.clip
    images = config.images
    streams = [
        Stream(
            data=config.data,
            clip=clip,
            grid=(grid := grid_of(network, clip, is_image=False)),
            masks=_fitted(config, config.masks, grid),
            first_mask_number=0,
            weight=1.0 if images is None else 1.0 - images.share,
            seed=config.seed,
            is_image=False,
        )
    ]
    if images is not None:
        side = images.cooldown_crop_size if cooldown else None
        picture = ClipConfig(
            num_frames=1,
            crop_size=side or images.crop_size,
            batch_size=images.batch_size,
            micro_batch=images.micro_batch,
        )
        grid = grid_of(network, picture, is_image=True)
        streams.append(
            Stream(
                data=images.data,
                clip=picture,
                grid=grid,
                masks=_fitted(config, images.masks, grid),
                first_mask_number=len(config.masks),
                weight=images.share,
                seed=config.seed ^ IMAGE_SEED,
                is_image=True,
            )
        )
    return streams


def grid_of(network: VJEPA2Config, clip: ClipConfig, *, is_image: bool) -> TokenGrid:
    """Token grid of square clips; one frame is one step of tokens."""
    side = clip.crop_size // network.patch_size
    return TokenGrid(1 if is_image else clip.num_frames // network.tubelet_size, side, side)


def _fitted(
    config: PretrainConfig, masks: Sequence[MaskConfig], grid: TokenGrid
) -> tuple[MaskConfig, ...]:
    return tuple(fitted_to(mask, grid) if config.fit_masks else mask for mask in masks)


def own_micro_batches(clip: ClipConfig, processes: Processes) -> tuple[int, range]:
    """Samples of a micro-batch, and which micro-batches of an update this process makes.

    Raises:
        ConfigError: the batch cannot be shared equally.
    """
    world_size, rank = processes.world_size, processes.rank
    micro_batch = clip.micro_batch or max(1, clip.batch_size // world_size)
    count, rest = divmod(clip.batch_size, micro_batch)
    if rest or count % world_size:
        raise ConfigError(
            f"A batch of {clip.batch_size} in micro-batches of {micro_batch} cannot be shared "
            f"equally by {world_size} processes. Start at most "
            f"{clip.batch_size // micro_batch}, or choose batch_size as a multiple of "
            f"micro_batch * {world_size}."
        )
    each = count // world_size
    return micro_batch, range(rank * each, (rank + 1) * each)


def micro_batch_masks(
    mask: MaskConfig,
    stream: Stream,
    *,
    truncation: Truncation,
    micro_batch: int,
    own: range,
    step: int,
    number: int,
) -> list[tuple[Masks | PackedMasks, tuple[float, float]]]:
    """Masks of the micro-batches `own` of one update, each with its shares (see `MicroBatch`)."""
    batch, size, seed, grid = stream.clip.batch_size, micro_batch, stream.seed, stream.grid
    if truncation == "micro_batch":
        drawn = draw_masks(
            mask,
            grid,
            batch=len(own) * size,
            seed=seed,
            step=step,
            number=number,
            first_sample=own.start * size,
            group=size,
        )
        return [(masks, (1.0, 1.0)) for masks in drawn]
    if truncation == "batch":
        # Over the whole batch, also the other processes' part: all must cut to one length.
        whole = draw_masks(mask, grid, batch=batch, seed=seed, step=step, number=number)
        return [(whole.rows(place * size, (place + 1) * size), (1.0, 1.0)) for place in own]
    packed = draw_masks(mask, grid, batch=batch, seed=seed, step=step, number=number, packed=True)
    rows = [packed.rows(place * size, (place + 1) * size) for place in own]
    mean_hidden, mean_visible = (
        sum(lengths) * size / batch for lengths in (packed.target_lengths, packed.context_lengths)
    )
    return [
        (part, (len(part.target_ids) / mean_hidden, len(part.context_ids) / mean_visible))
        for part in rows
    ]
