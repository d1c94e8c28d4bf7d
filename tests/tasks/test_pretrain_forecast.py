"""What a run announces: which updates it makes, and what a teacher adds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_pretraining import tiny_run, write_clips
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.recipes.pretrain import get_recipe
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_forecast import run_forecasts
from vjepa2.training.distributed import Processes

ALONE = Processes(0, 1, 0, torch.device("cpu"))


def network_of(config: PretrainConfig) -> VJEPA2Config:
    assert config.network is not None
    return config.network.network(
        crop_size=config.clip.crop_size, num_frames=config.clip.num_frames
    )


def with_images(**images: Any) -> PretrainConfig:
    return tiny_run(
        Path(),
        network={"variant": "vjepa2_1", "levels": [0, 1]},
        images={
            "data": {"sources": []},
            "crop_size": 32,
            "batch_size": 4,
            "masks": [{"num_blocks": 3, "spatial_scale": (0.15, 0.15)}],
            **images,
        },
    )


def test_larger_images_of_the_cool_down_are_told_without_other_clips() -> None:
    config = with_images(cooldown_crop_size=64)
    found = run_forecasts(config, network_of(config), ALONE)
    assert list(found) == ["clips", "images", "cool-down images"]
    assert found["images"].tokens["teacher"] == 4 * 4 * 4
    assert found["cool-down images"].tokens["teacher"] == 4 * 8 * 8
    config = with_images()
    assert list(run_forecasts(config, network_of(config), ALONE)) == ["clips", "images"]


@pytest.mark.parametrize(
    ("share", "wanted"),
    [(0.0, ["clips"]), (0.25, ["clips", "cool-down clips"]), (1.0, ["clips"])],
)
def test_only_updates_that_are_made_are_told(share: float, wanted: list[str]) -> None:
    config = tiny_run(
        Path(),
        cooldown_clip={"num_frames": 8, "crop_size": 32, "batch_size": 4},
        schedule={"warmup_share": 0.0, "cooldown_share": share},
    )
    found = run_forecasts(config, network_of(config), ALONE)
    assert list(found) == wanted
    tubelets = 4 if share > 0 else 2
    assert found[wanted[-1]].tokens["teacher"] == 4 * tubelets * 16


def test_the_published_teacher_weighs_more_than_the_student() -> None:
    """ViT-B from ViT-G: 1.8 billion numbers more in memory, and most of the operations."""
    config = get_recipe("vjepa21_vitb_distilled")
    teacher = VJEPA2Config.from_pretrained("vjepa2.1-vitG-384")
    processes = Processes(0, 32, 0, torch.device("cpu"))
    network = network_of(config)
    alone = run_forecasts(config, network, processes)
    found = run_forecasts(config, network, processes, teacher=teacher)
    for name in ("clips", "images"):
        assert found[name].num_parameters["teacher"] == 1_845_216_768
        more = found[name].memory_bytes["total"] - alone[name].memory_bytes["total"]
        assert more >= 4 * 1_845_216_768
        assert found[name].flops["teacher"] > 15 * alone[name].flops["teacher"]


CHILD = """
import json, sys
import json
import subprocess
import sys
from pathlib import Path

from vjepa2.tasks.pretrain import pretrain
from vjepa2.tasks.pretrain_config import PretrainConfig

config = PretrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
pretrain(config, sys.argv[2], quiet=True)
[line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(int(line.split()[1]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory as Linux does")
def test_the_announced_memory_is_that_of_the_whole_process(tmp_path: Path) -> None:
    """On a CPU: what the system counts at the end is within a fifth of what was announced."""
    config = tiny_run(
        write_clips(tmp_path / "clips"),
        clip={"num_frames": 8, "crop_size": 64, "batch_size": 16},
        schedule={"num_steps": 2, "warmup_share": 0.0, "cooldown_share": 0.0},
    )
    settings = tmp_path / "settings.json"
    settings.write_text(config.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(settings), str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "run" / "forecast.json").read_text())["clips"]["memory_bytes"]
    assert told == pytest.approx(int(done.stdout), rel=0.2)
