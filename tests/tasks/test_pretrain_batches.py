"""The micro-batches of an update, from files."""

from pathlib import Path

import pytest
import torch

from tiny_models import tiny_config
from tiny_pretraining import tiny_run, write_clips
from vjepa2.tasks.pretrain_batches import Batches
from vjepa2.training.distributed import Processes


def test_weights_of_an_update_are_shares_of_its_clips(tmp_path: Path) -> None:
    """Micro-batches of three clips, of which some are longer."""
    folder = write_clips(tmp_path / "clips")
    own = [{"path": str(folder), "frame_step": 1, "num_frames": length} for length in (4, 8)]
    config = tiny_run(folder, data={"sources": own}, clip={"batch_size": 6, "micro_batch": 3})
    batches = Batches(config, tiny_config(), Processes(0, 1, 0, torch.device("cpu")))
    parts = [part for step in range(4) for part in batches.next(step)]
    batches.close()
    assert len(parts) > 8  # some were cut by length
    for part in parts:
        assert part.weight == pytest.approx(len(part.pixels) / 6)
    assert sum(part.weight for part in parts) == pytest.approx(4)
