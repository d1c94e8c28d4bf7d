"""Models of checkpoints in the middle of a run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny_pretraining import tiny_run, write_clips
from vjepa2.errors import CheckpointNotFoundError
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.pretrain import pretrain
from vjepa2.tasks.pretrain_export import clip_of, export_checkpoint
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import one_process


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with checkpoints of 4, 8 and 12 updates; that of 4 counts as the best."""
    folder = tmp_path_factory.mktemp("export")
    config = tiny_run(
        write_clips(folder / "clips"),
        cooldown_clip={"num_frames": 8, "crop_size": 40, "batch_size": 4},
        runtime={"checkpoint_every": 4, "keep_checkpoints": 5},
    )
    pretrain(config, folder / "run", quiet=True)
    store = CheckpointStore(
        folder / "run/checkpoints",
        config=config.model_dump(mode="json"),
        processes=one_process(),
    )
    store.protect("best", 4)
    return folder / "run"


@pytest.mark.parametrize(
    ("which", "step", "crop_size"), [("best", 4, 32), ("8", 8, 32), ("latest", 12, 40)]
)
def test_the_average_of_a_checkpoint_becomes_a_model(
    run: Path, which: str, step: int, crop_size: int
) -> None:
    folder = export_checkpoint(run, which)
    assert folder == run / f"model-{which}"
    model = VJEPA2Model.from_pretrained(folder)
    stored = load_file(run / f"checkpoints/step-{step:07d}/part-0000.safetensors")
    for name, value in model.encoder.named_parameters():
        assert torch.equal(value, stored[f"modules.average.{name}"])
    for name, value in model.predictor.named_parameters():
        assert torch.equal(value, stored[f"modules.student.predictor.{name}"])
    assert model.config.crop_size == crop_size
    assert (folder / "video_preprocessor_config.json").exists()


def test_the_latest_of_a_finished_run_is_its_model(run: Path) -> None:
    first, second = (
        load_file(folder / "model.safetensors")
        for folder in (export_checkpoint(run, "latest"), run / "model")
    )
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_what_is_not_there_lists_what_is(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"no checkpoint '5'.*4, 8, 12.*best"):
        export_checkpoint(run, "5")
    with pytest.raises(CheckpointNotFoundError, match="no run"):
        export_checkpoint(tmp_path, "best")


def test_geometry_is_that_of_the_clips_seen(run: Path) -> None:
    config = tiny_run(run, cooldown_clip={"num_frames": 8, "crop_size": 40, "batch_size": 4})
    # The cool-down is updates 9, 10 and 11.
    assert [clip_of(config, step).num_frames for step in (0, 9, 10, 12)] == [4, 4, 8, 8]
