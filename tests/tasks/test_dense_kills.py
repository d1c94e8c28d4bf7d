"""Training of dense heads whose process is killed: it ends with the numbers of an undisturbed one.

Run as a program, this file trains in a folder.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tiny_models import tiny_config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.init import init_weights
from vjepa2.tasks.dense_config import DenseProbeConfig
from vjepa2.tasks.dense_probe import train_dense_probe
from vjepa2.tasks.dense_sets import WorldStills
from vjepa2.training.checkpoint_folder import steps_in

UPDATES = 120
KILLS = 2


def train(folder: Path) -> None:
    """The run that is disturbed: 120 updates, a checkpoint every third."""
    network = VJEPA2Model(tiny_config())
    init_weights(network, std=0.1, generator=torch.Generator().manual_seed(0))
    sets = [
        WorldStills("segmentation", seed=seed, count=count, sizes=((41, 53), (47, 36)))
        for seed, count in ((0, 6), (1, 3))
    ]
    config = DenseProbeConfig(
        task="segmentation",
        lrs=(3e-2, 1e-3),
        weight_decays=(1e-3,),
        sizes=(40,),
        epochs=UPDATES // 2,
        batch_size=3,
        checkpoint_every=3,
    )
    train_dense_probe(network.eval(), *sets, config, folder, quiet=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes that are killed: sums of several threads may round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_killed_runs_end_with_the_same_numbers(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    killed = tmp_path / "killed"
    checkpoints = killed / "checkpoints"
    paths = [str(Path(__file__).parent.parent), *sys.path]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    stopped_at = []
    for _ in range(KILLS):
        before = max(steps_in(checkpoints), default=0)
        process = subprocess.Popen([sys.executable, __file__, str(killed)], env=environment)
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if max(steps_in(checkpoints), default=0) > before:
                break
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        stopped_at.append(max(steps_in(checkpoints)))
    assert 0 < stopped_at[0] < stopped_at[1] < UPDATES
    assert not (killed / "results.json").exists()
    train(killed)
    written = [path for path in (tmp_path / "whole" / "model").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in written)
    for path in (tmp_path / "whole" / "results.json", *written):
        other = killed / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes(), path.name


if __name__ == "__main__":
    train(Path(sys.argv[1]))
