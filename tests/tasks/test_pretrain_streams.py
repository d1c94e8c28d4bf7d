"""Which samples and masks a process makes, against the same drawn for the whole batch."""

from pathlib import Path

import pytest
import torch

from tiny_models import tiny_config
from tiny_pretraining import tiny_run
from vjepa2.errors import ConfigError
from vjepa2.masking import MaskConfig, Masks, PackedMasks, draw_masks, image_masks
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.pretrain_config import ClipConfig
from vjepa2.tasks.pretrain_streams import grid_of, micro_batch_masks, own_micro_batches, streams_of
from vjepa2.training.distributed import Processes


def process(rank: int, world_size: int) -> Processes:
    return Processes(rank, world_size, rank, torch.device("cpu"))


@pytest.mark.parametrize(
    ("micro_batch", "world_size", "wanted"),
    [
        (None, 1, [(8, [0])]),
        (2, 1, [(2, [0, 1, 2, 3])]),
        (2, 2, [(2, [0, 1]), (2, [2, 3])]),
        (None, 4, [(2, [0]), (2, [1]), (2, [2]), (2, [3])]),
    ],
)
def test_processes_share_the_micro_batches(
    micro_batch: int | None, world_size: int, wanted: list[tuple[int, list[int]]]
) -> None:
    clip = ClipConfig(num_frames=4, crop_size=32, batch_size=8, micro_batch=micro_batch)
    for rank, (size, own) in enumerate(wanted):
        got_size, got = own_micro_batches(clip, process(rank, world_size))
        assert (got_size, list(got)) == (size, own)


@pytest.mark.parametrize(("micro_batch", "world_size"), [(4, 3), (None, 3), (2, 8)])
def test_a_batch_that_cannot_be_shared_is_refused(micro_batch: int | None, world_size: int) -> None:
    clip = ClipConfig(num_frames=4, crop_size=32, batch_size=8, micro_batch=micro_batch)
    with pytest.raises(ConfigError, match="cannot be shared"):
        own_micro_batches(clip, process(0, world_size))


def masks_for(truncation: str, own: range) -> tuple[MaskConfig, TokenGrid, list]:
    config = tiny_run(Path(), clip={"batch_size": 6, "micro_batch": 2})
    [stream] = streams_of(config, tiny_config(), cooldown=False)
    got = micro_batch_masks(
        stream.masks[0], stream, truncation=truncation, micro_batch=2, own=own, step=7, number=1
    )
    return stream.masks[0], stream.grid, got


def test_masks_cut_over_the_whole_batch_are_rows_of_it() -> None:
    mask, grid, got = masks_for("batch", range(1, 3))
    whole = draw_masks(mask, grid, batch=6, seed=3, step=7, number=1)
    assert isinstance(whole, Masks)
    for place, (part, shares) in zip((1, 2), got, strict=True):
        assert shares == (1.0, 1.0)
        assert torch.equal(part.context_ids, whole.context_ids[2 * place : 2 * place + 2])
        assert torch.equal(part.target_ids, whole.target_ids[2 * place : 2 * place + 2])


def test_masks_cut_per_micro_batch_are_those_of_its_samples_alone() -> None:
    mask, grid, got = masks_for("micro_batch", range(1, 3))
    for place, (part, _) in zip((1, 2), got, strict=True):
        alone = draw_masks(mask, grid, batch=2, seed=3, step=7, number=1, first_sample=2 * place)
        assert torch.equal(part.context_ids, alone.context_ids)


def test_shares_of_whole_masks_are_those_of_their_tokens() -> None:
    _, _, got = masks_for("none", range(0, 3))
    hidden = [len(part.target_ids) for part, _ in got]
    visible = [len(part.context_ids) for part, _ in got]
    for (part, shares), h, v in zip(got, hidden, visible, strict=True):
        assert isinstance(part, PackedMasks)
        assert shares == pytest.approx((3 * h / sum(hidden), 3 * v / sum(visible)))


def test_images_have_one_step_of_tokens_and_masks_of_their_own() -> None:
    folder = Path()
    config = tiny_run(
        folder,
        network={"variant": "vjepa2_1", "levels": [0, 1]},
        images={
            "data": {"sources": [{"path": ".", "kind": "image"}]},
            "crop_size": 64,
            "cooldown_crop_size": 128,
            "batch_size": 2,
            "masks": [mask.model_dump() for mask in image_masks()],
            "share": 0.25,
        },
    )
    network = config.network.network(crop_size=32, num_frames=4)
    for cooldown, side in ((False, 8), (True, 16)):
        clips, images = streams_of(config, network, cooldown=cooldown)
        assert (clips.grid, images.grid) == (TokenGrid(2, 4, 4), TokenGrid(1, side, side))
        assert (clips.weight, images.weight) == (0.75, 0.25)
        assert images.first_mask_number == len(config.masks)
        assert images.seed != clips.seed
    assert grid_of(network, config.clip, is_image=False) == TokenGrid(2, 4, 4)
