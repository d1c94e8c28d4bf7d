"""What a run trains, and what it takes from the run that it starts from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tiny_pretraining import tiny_run, write_clips
from vjepa2.errors import CheckpointFormatError
from vjepa2.masking import draw_masks
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.masked_prediction import target_tokens
from vjepa2.tasks.pretrain import OPTIMIZER_ANEW, pretrain
from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.tasks.pretrain_folder import load_run_config
from vjepa2.tasks.pretrain_networks import (
    Networks,
    averaged_model,
    make_networks,
    start_model,
)

PLAIN = {"variant": "vjepa2"}
DEEP = {"variant": "vjepa2_1", "levels": [0, 1]}
ONE_LEVEL = {**DEEP, "pred_num_levels": 1}
CHECKPOINT = "checkpoints/step-0000002/part-0000.safetensors"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


def with_images(clips: Path) -> dict[str, Any]:
    return {
        "images": {
            "data": {"sources": [{"path": str(clips), "frame_step": 1}], "workers": 0},
            "crop_size": 32,
            "batch_size": 4,
            "masks": [{"num_blocks": 2, "spatial_scale": (0.2, 0.2)}],
        },
        "objective": {"context_weight": 0.5},
    }


def backward(config: PretrainConfig, *, num_frames: int) -> Networks:
    """One backward pass of random pixels, clips or (one frame) images."""
    networks = make_networks(config)
    pixels = torch.randn(2, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    grid = TokenGrid(max(1, num_frames // 2), 4, 4)
    masks = [draw_masks(config.masks[0], grid, batch=2, seed=0, step=0)]
    targets = target_tokens(networks.target, pixels, several_levels=bool(networks.student.levels))
    networks.student(pixels, targets, masks).total.backward()
    return networks


@pytest.mark.parametrize(
    ("network", "images", "num_frames"),
    [
        pytest.param(PLAIN, False, 4, id="vjepa2"),
        pytest.param(DEEP, False, 4, id="all_levels"),
        pytest.param(ONE_LEVEL, False, 4, id="one_level"),
        *(
            pytest.param(network, True, frames, id=f"{levels}_and_images_{frames}_frames")
            for network, levels in ((DEEP, "all_levels"), (ONE_LEVEL, "one_level"))
            for frames in (4, 1)
        ),
    ],
)
def test_every_trained_weight_has_a_gradient(
    clips: Path, network: dict[str, Any], images: bool, num_frames: int
) -> None:
    """Also those that a micro-batch does not use: DDP waits for every one of them."""
    more = with_images(clips) if images else {}
    student = backward(tiny_run(clips, network=network, **more), num_frames=num_frames).student
    without = [
        name
        for name, parameter in student.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []
    if not images:
        return
    own, other = ("patch_embeddings_img", "patch_embeddings")[:: 1 if num_frames == 1 else -1]
    embeddings = student.encoder.embeddings
    assert not embeddings.get_submodule(other).proj.weight.grad.any()
    assert embeddings.get_submodule(own).proj.weight.grad.any()


@pytest.mark.parametrize("network", [DEEP, ONE_LEVEL], ids=["all_levels", "one_level"])
def test_only_what_the_loss_reaches_is_trained(clips: Path, network: dict[str, Any]) -> None:
    student = make_networks(tiny_run(clips, network=network)).student
    frozen = {name for name, value in student.named_parameters() if not value.requires_grad}
    unread = {f"encoder.layernorms.0.{part}" for part in ("weight", "bias")}
    assert frozen == {
        "encoder.embeddings.patch_embeddings_img.proj.weight",
        "encoder.embeddings.patch_embeddings_img.proj.bias",
        "encoder.embeddings.modality.image",
        "predictor.embeddings.modality.image",
        *(unread if network is ONE_LEVEL else ()),
    }


def run(config: PretrainConfig, folder: Path, *, stop_at: int | None = None) -> Path:
    pretrain(config, folder, stop_at=stop_at, quiet=True)
    return folder


def anew(folder: Path) -> list[str]:
    """What a run says of an optimizer that did not go on."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["advice"] for line in lines if line.get("event") == "optimizer_anew"]


STILL = {"num_steps": 8, "start_lr": 0.0, "lr": 1e-12, "weight_decay": 0.0, "momentum": 1.0}


def continued(clips: Path, start: Path, **more: Any) -> PretrainConfig:
    """A run whose updates move nothing, from another one."""
    return tiny_run(clips, network=None, start_from=str(start), schedule=STILL, **more)


def test_images_left_out_of_the_next_run_restart_the_optimizer(
    clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = run(tiny_run(clips, network=DEEP, **with_images(clips)), tmp_path / "a", stop_at=2)
    config = continued(clips, first, objective={"context_weight": 0.5})
    second = run(config, tmp_path / "b", stop_at=2)
    before, after = (load_file(folder / CHECKPOINT) for folder in (first, second))
    for name in before:
        if name.startswith("modules."):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)
    counts = {float(after[name]) for name in after if name.endswith("/step")}
    assert counts == {2.0}
    [said] = anew(second)
    assert said.startswith(OPTIMIZER_ANEW) and "4 parameters were trained only there" in said
    assert said in capfd.readouterr().err
    # With images again the same parameters are trained, and all goes on.
    third = run(continued(clips, first, **with_images(clips)), tmp_path / "c", stop_at=2)
    after = load_file(third / CHECKPOINT)
    assert {float(after[name]) for name in after if name.endswith("/step")} == {4.0}
    assert anew(third) == []


def test_adapters_start_from_the_average_of_a_run(clips: Path, tmp_path: Path) -> None:
    """And a run with all weights from one with adapters: they are merged."""
    pytest.importorskip("peft")
    first = run(tiny_run(clips), tmp_path / "a", stop_at=2)
    stored = load_file(first / CHECKPOINT)
    config = continued(clips, first, adapters={"rank": 2, "alpha": 4.0})
    networks = make_networks(config)
    for encoder in (networks.student.encoder, networks.average):
        for name, value in encoder.state_dict().items():
            if "lora_" not in name:
                wanted = stored[f"modules.average.{name.replace('base_layer.', '')}"]
                assert torch.equal(value, wanted), name
    for name, value in networks.student.predictor.state_dict().items():
        assert torch.equal(value, stored[f"modules.student.predictor.{name}"]), name
    adapted = config.model_copy(update={"schedule": tiny_run(clips).schedule})
    second = run(adapted, tmp_path / "b", stop_at=2)
    assert anew(second) == [f"{OPTIMIZER_ANEW} One of the two runs trains adapters."]
    merged = start_model(continued(clips, second)).encoder.layer[0].attention.query
    assert type(merged) is nn.Linear
    stored = load_file(second / CHECKPOINT)
    place = "modules.average.layer.0.attention.query"
    low_rank = stored[f"{place}.lora_B.default.weight"] @ stored[f"{place}.lora_A.default.weight"]
    assert low_rank.abs().max() > 0
    wanted = stored[f"{place}.base_layer.weight"] + 4.0 / 2 * low_rank
    torch.testing.assert_close(merged.weight.detach(), wanted, rtol=0, atol=1e-6)
    third = run(continued(clips, second), tmp_path / "c")
    assert len(anew(third)) == 1
    VJEPA2Model.from_pretrained(third / "model")


def test_a_run_goes_on_without_what_it_started_from(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named from the working folder; then that run is moved, renamed and removed."""
    first = run(tiny_run(clips), tmp_path / "first", stop_at=2)
    monkeypatch.chdir(tmp_path)
    labels = "".join(f"{clips / f'clip_{i:02d}.npy'},{i % 2}\n" for i in range(4))
    Path("labels.csv").write_text("path,label\n" + labels)
    config = continued(clips, Path("first"), health={"labelled": "labels.csv"})
    second = run(config, Path("second"), stop_at=2).absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    stored = load_run_config(second)
    assert stored.start_from == str(first)
    assert stored.health.labelled == str(tmp_path / "labels.csv")
    first.rename(tmp_path / "renamed")
    run(stored, second, stop_at=4)
    renamed = stored.model_copy(update={"start_from": str(tmp_path / "renamed")})
    run(renamed, second, stop_at=5)
    shutil.rmtree(tmp_path / "renamed")
    run(stored, second)
    assert VJEPA2Model.from_pretrained(second / "model").config.hidden_size == 32
    # Also as a start for others, such as a third run, or a model of its checkpoint.
    assert torch.equal(
        averaged_model(second).encoder.layernorm.weight,
        VJEPA2Model.from_pretrained(second / "model").encoder.layernorm.weight,
    )
    run(continued(clips, second), tmp_path / "third", stop_at=1)


def test_a_teacher_may_be_moved_but_not_replaced(clips: Path, tmp_path: Path) -> None:
    one, other = (
        run(tiny_run(clips, seed=seed, schedule={"num_steps": 1}), tmp_path / str(seed)) / "model"
        for seed in (1, 2)
    )
    run(tiny_run(clips, objective={"teacher": str(one)}), tmp_path / "run", stop_at=2)
    one = one.rename(tmp_path / "moved")
    run(tiny_run(clips, objective={"teacher": str(one)}), tmp_path / "run", stop_at=3)
    with pytest.raises(CheckpointFormatError, match="is another network than"):
        run(tiny_run(clips, objective={"teacher": str(other)}), tmp_path / "run")


def test_adapters_begin_alike_on_every_process(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    first = run(tiny_run(clips), tmp_path / "a", stop_at=2)
    config = continued(clips, first, adapters={"rank": 2, "alpha": 4.0})
    states = []
    for other_numbers in (1, 2):
        torch.manual_seed(other_numbers)
        states.append(make_networks(config).student.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
