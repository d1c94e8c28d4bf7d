"""The measurement of a run: in portions of a micro-batch, with the numbers of one pass."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_pretraining import tiny_run, write_clips
from vjepa2.data.manifest import read_source
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.tasks.pretrain_health import HeldOut
from vjepa2.tasks.pretrain_networks import make_networks
from vjepa2.training.distributed import Processes
from vjepa2.training.health_pictures import list_pictures, load_pictures

VARIANTS: dict[str, dict[str, Any]] = {
    "2": {},
    "2.1": {
        "network": {"variant": "vjepa2_1", "levels": [0, 1]},
        "objective": {"context_weight": 0.5},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_portions_measure_what_one_pass_measures(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_clips(tmp_path / "clips")
    labels = "".join(f"{folder / f'clip_{i:02d}.npy'},{i % 2}\n" for i in range(8))
    (tmp_path / "labels.csv").write_text("path,label\n" + labels)
    encode, sizes = VJEPA2Encoder.forward, set()

    def watched(self: Any, pixels: torch.Tensor, *args: Any, **options: Any) -> Any:
        sizes.add(len(pixels))
        return encode(self, pixels, *args, **options)

    monkeypatch.setattr(VJEPA2Encoder, "forward", watched)

    def measured(micro_batch: int) -> dict[str, float]:
        config = tiny_run(
            folder,
            clip={"batch_size": 12, "micro_batch": micro_batch},
            health={"num_clips": 5, "labelled": str(tmp_path / "labels.csv")},
            **VARIANTS[variant],
        )
        networks = make_networks(config)
        for value in networks.average.parameters():
            value.mul_(1.1)
        held_out = HeldOut(
            config,
            networks,
            Processes(0, 1, 0, torch.device("cpu")),
            tables=[read_source(config.data.sources[0])],
        )
        sizes.clear()
        numbers = held_out.measure(networks.student)
        assert networks.student.training
        held_out.save_pictures(tmp_path / str(micro_batch), micro_batch, is_last=False)
        return numbers

    whole = measured(6)
    assert max(sizes) == 6  # of the labelled clips
    for micro_batch in (2, 3):
        assert measured(micro_batch) == pytest.approx(whole, abs=1e-6, rel=1e-6)
        assert max(sizes) == micro_batch
        [one], [other] = (list_pictures(tmp_path / str(n)).values() for n in (6, micro_batch))
        one, other = load_pictures(one), load_pictures(other)
        assert len(one.frames) == 4 and torch.equal(one.frames, other.frames)
        torch.testing.assert_close(one.teacher, other.teacher, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(one.student, other.student, atol=2e-3, rtol=2e-3)
