"""The forecast against PyTorch's own counts on small real updates, and against a real process."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vjepa2.ema import frozen_copy
from vjepa2.errors import ConfigError
from vjepa2.masking import Masks
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.masked_prediction import MaskedPrediction, target_tokens
from vjepa2.training.forecast import Forecast, forecast, measured_peak

BATCH, FRAMES, SIDE = 2, 8, 64
MASKS = ((20, 30), (7, 40))  # of 4 x 4 x 4 tokens


def network(attention: str = "sdpa", **changes: Any) -> VJEPA2Config:
    sizes: dict[str, Any] = {
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "pred_hidden_size": 48,
        "pred_num_hidden_layers": 2,
        "pred_num_attention_heads": 2,
        "pred_num_mask_tokens": 1,
        "attn_implementation": attention,
    }
    return VJEPA2Config(**sizes | changes)


LEVELS = {"model_type": "vjepa2_1", "hierarchical_layers": [0, 1, 2, 3]}
ONE_LEVEL = {**LEVELS, "pred_num_levels": 1}


class CountedProducts(TorchDispatchMode):
    """Floating point operations by PyTorch's formulas.

    `FlopCounterMode` watches modules with hooks, and watched modules take no shortcuts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


class Update:
    """One real forward and backward pass: what it multiplied and what autograd kept."""

    def __init__(
        self,
        config: VJEPA2Config,
        *,
        frames: int = FRAMES,
        recompute: bool = False,
        half: bool = False,
        teacher_config: VJEPA2Config | None = None,
    ) -> None:
        torch.manual_seed(0)
        model = VJEPA2Model(config)
        student = MaskedPrediction(model.encoder, model.predictor).train()
        teacher = frozen_copy(model.encoder)
        if teacher_config is not None:
            teacher = frozen_copy(VJEPA2Model(teacher_config).encoder)
        for part in (model.encoder, model.predictor):
            part.gradient_checkpointing = recompute
        side = SIDE if frames > 1 else 2 * SIDE  # 64 tokens either way
        pixels = torch.randn(BATCH, frames, 3, side, side)
        weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
        kept: dict[int, int] = {}

        def remember(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with CountedProducts() as counted:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                targets = target_tokens(teacher, pixels, several_levels=bool(student.levels))
                with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
                    losses = student(pixels, targets, drawn(MASKS), 0.5 if student.levels else 0.0)
            losses.total.backward()
        self.flops, self.kept_bytes = counted.total, sum(kept.values())


def drawn(masks: Sequence[tuple[int, int]]) -> list[Masks]:
    made = []
    for visible, hidden in masks:
        ids = torch.stack([torch.randperm(64)[: visible + hidden] for _ in range(BATCH)])
        made.append(Masks(ids[:, :visible].sort(1).values, ids[:, visible:].sort(1).values))
    return made


def expected(config: VJEPA2Config, **options: Any) -> Forecast:
    return forecast(
        config,
        num_frames=FRAMES,
        crop_size=(SIDE, SIDE),
        batch_size=BATCH,
        masks=options.pop("masks", MASKS),
        **options,
    )


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("changes", [{}, LEVELS, ONE_LEVEL], ids=["2", "2.1", "2.1 one level"])
def test_operations_are_those_that_are_counted(changes: dict[str, Any], recompute: bool) -> None:
    config = network("eager", **changes)  # PyTorch has no formula for the CPU's fused attention
    update = Update(config, recompute=recompute)
    assert expected(config, recompute=recompute).flops["total"] == pytest.approx(
        update.flops, rel=0.002
    )


@pytest.mark.parametrize("changes", [{}, LEVELS], ids=["2", "2.1"])
@pytest.mark.parametrize(("attention", "half"), [("sdpa", False), ("sdpa", True), ("eager", False)])
def test_activations_are_those_that_autograd_keeps(
    attention: str, half: bool, changes: dict[str, Any]
) -> None:
    config = network(attention, **changes)
    memory = expected(config, dtype="bfloat16" if half else "float32").memory_bytes
    counted = memory["activations"] + memory.get("bfloat16 copies of weights", 0)
    assert counted / 1.1 == pytest.approx(Update(config, half=half).kept_bytes, rel=0.03)


def test_recomputing_keeps_inputs_of_blocks() -> None:
    config = network()
    memory = expected(config, recompute=True).memory_bytes
    kept = Update(config, recompute=True).kept_bytes
    # Rotary tables are held by the blocks' calls rather than by autograd.
    tables = BATCH * 4 * 2 * ((20 + 7) * 32 + (50 + 47) * 24)
    assert memory["activations"] / 1.1 == pytest.approx(kept + tables, rel=0.03)
    assert memory["activations"] < 0.4 * expected(config).memory_bytes["activations"]


def test_parts_that_do_not_depend_on_the_batch() -> None:
    config = network()
    model = VJEPA2Model(config)
    encoder, predictor = (
        sum(value.numel() for value in part.parameters())
        for part in (model.encoder, model.predictor)
    )
    found = expected(config, micro_batch=1)
    assert found.num_parameters == {
        "encoder": encoder,
        "predictor": predictor,
        "trainable": encoder + predictor,
        "average": encoder,
        "teacher": encoder,
    }
    numbers = {"weights": 1, "gradients": 1, "optimizer state": 2}
    for name, count in numbers.items():  # float32, and what allocators add
        assert found.memory_bytes[name] == int(4 * count * (encoder + predictor) * 1.1)
    assert found.memory_bytes["average"] == int(4 * encoder * 1.1)
    assert found.tokens == {"teacher": 128, "student": 54, "predictor": 194}
    assert found.memory_bytes["total"] == sum(
        value for name, value in found.memory_bytes.items() if name != "total"
    )


def test_the_fullest_moment() -> None:
    """Many tokens: when all activations are there. Few: when all gradients are."""
    large = network(hidden_size=768, num_attention_heads=12)
    assert expected(network()).peak_moment == "backward"
    few = expected(large, masks=((2, 2),))
    assert few.peak_moment == "optimizer"
    assert few.memory_bytes["gradients"] > 0
    assert "gradients" not in expected(network()).memory_bytes  # one micro-batch: not yet there
    assert "gradients" in expected(network(), micro_batch=1).memory_bytes


def test_processes_share_work_and_weights() -> None:
    config = network()
    one = forecast(
        config, num_frames=FRAMES, crop_size=(SIDE, SIDE), batch_size=8, masks=MASKS, device="cuda"
    )
    four = forecast(
        config,
        num_frames=FRAMES,
        crop_size=(SIDE, SIDE),
        batch_size=8,
        masks=MASKS,
        device="cuda",
        processes=4,
        sharding="fsdp2",
    )
    assert one.flops == four.flops
    assert four.seconds(1e9, utilisation=0.5) == one.seconds(1e9, utilisation=0.5) / 4
    assert one.seconds(1e9, utilisation=0.5) == one.flops["total"] / 0.5e9
    for name in ("weights", "average", "optimizer state", "activations"):
        assert four.memory_bytes[name] == pytest.approx(one.memory_bytes[name] / 4, abs=2)


WIDE_TEACHER = {
    **LEVELS,
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "hierarchical_layers": [1, 5],
    "num_attention_heads": 6,
}


def test_a_frozen_teacher_is_held_and_works() -> None:
    """Distillation: besides the average, which does not teach, and costs its memory as before."""
    student = network("eager", **ONE_LEVEL, pred_output_size=192)
    teacher = network("eager", **WIDE_TEACHER)
    found = expected(student, teacher_network=teacher)
    alone = expected(student)
    counted = Update(student, teacher_config=teacher).flops
    assert found.flops["total"] == pytest.approx(counted, rel=0.002)
    assert found.flops["total"] > 1.2 * alone.flops["total"]
    for name in ("student", "predictor", "backward"):
        assert found.flops[name] == alone.flops[name]
    numbers = sum(value.numel() for value in VJEPA2Model(teacher).encoder.parameters())
    assert found.num_parameters["teacher"] == numbers
    assert found.num_parameters["trainable"] == alone.num_parameters["trainable"]
    assert found.memory_bytes["teacher"] == int(4 * numbers * 1.1)
    assert found.memory_bytes["average"] == alone.memory_bytes["average"]
    more = found.memory_bytes["total"] - alone.memory_bytes["total"]
    assert more == found.memory_bytes["teacher"]


def test_a_large_teacher_reading_long_clips_is_the_fullest_moment() -> None:
    """A student that sees few tokens keeps little; the teacher sees all of them."""
    teacher = network(hidden_size=768, num_attention_heads=12)
    student = network(hidden_size=24, num_attention_heads=2, num_hidden_layers=1)
    found = expected(student, masks=((2, 2),), teacher_network=teacher)
    assert found.peak_moment == "teacher"
    # One block of the teacher: wide activation before and after, queries, keys and values.
    assert found.memory_bytes["workspace"] >= BATCH * 64 * 4 * (2 * 4 + 3) * 768
    assert "teacher's pass" in found.text()


def test_shares_of_tokens_and_counts_are_the_same() -> None:
    shares = [(visible / 64, hidden / 64) for visible, hidden in MASKS]
    assert expected(network(), masks=shares) == expected(network())


def test_adapters_train_little() -> None:
    config = network()
    whole, thin = expected(config), expected(config, adapter_rank=4)
    added = 4 * 2 * 4 * (96 + 96)  # blocks, targets, rank, both widths
    assert thin.num_parameters["encoder"] == whole.num_parameters["encoder"] + added
    assert thin.num_parameters["trainable"] == whole.num_parameters["predictor"] + added
    assert thin.memory_bytes["optimizer state"] < whole.memory_bytes["optimizer state"] / 2
    assert thin.flops["backward"] < whole.flops["backward"]


def test_published_model_in_words() -> None:
    """ViT-L on 16 frames of 256 px: the numbers of the paper's pretraining."""
    text = forecast(
        VJEPA2Config(),
        num_frames=16,
        crop_size=(256, 256),
        batch_size=3072,
        micro_batch=24,
        processes=128,
        sharding="ddp",
        masks=((0.25, 0.472), (0.064, 0.706)),
        dtype="bfloat16",
        device="cuda",
        recompute=True,
    ).text(seconds=2.0, num_steps=252_000)
    assert "304 M encoder, 22.1 M predictor; 326 M are trained" in text
    assert "6.29 M teacher" in text
    assert "140.0 h for 252000 updates" in text and "at least" in text


@pytest.mark.parametrize(
    "change",
    [{"masks": ((65, 1),)}, {"dtype": "float16"}, {"sharding": "zero"}, {"processes": 0}],
)
def test_what_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        expected(network(), **change)


def test_peak_of_matrix_products() -> None:
    assert measured_peak("cpu", "float32", seconds=0.01) > 1e8


CHILD = """
import json, sys
import torch
sys.path.insert(0, {tests!r})
import test_forecast as forecasts
from vjepa2.ema import MovingAverage, frozen_copy
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.masked_prediction import MaskedPrediction, target_tokens
torch.set_num_threads(1)
warm = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(warm.parameters(), fused=True)
warm(torch.zeros(1, 8)).sum().backward()
optimizer.step()
before = forecasts.resident_bytes()
config = forecasts.network(hidden_size=192, num_hidden_layers=12)
model = VJEPA2Model(config)
student, teacher = MaskedPrediction(model.encoder, model.predictor).train(), None
teacher = frozen_copy(model.encoder)
average = MovingAverage(teacher, model.encoder)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
pixels = torch.randn(16, 8, 3, 64, 64)
forecasts.BATCH = 16
for step in range(3):
    targets = target_tokens(teacher, pixels, several_levels=False)
    student(pixels, targets, forecasts.drawn(forecasts.MASKS)).total.backward()
    optimizer.step()
    optimizer.zero_grad()
    average.update(0.99)
print(json.dumps(forecasts.peak_bytes() - before))
"""


def resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` would begin with that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory as Linux does")
def test_memory_of_a_real_process() -> None:
    """ViT-Tiny, 16 clips: within a fifth of the peak beyond what Python and PyTorch take."""
    tests = str(__file__).rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(tests=tests)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    config = network(hidden_size=192, num_hidden_layers=12)
    found = forecast(
        config, num_frames=FRAMES, crop_size=(SIDE, SIDE), batch_size=16, masks=MASKS
    ).memory_bytes
    # Its pixels come from nowhere: no frames to decode and cut, no libraries for that.
    wanted = found["total"] - found["input"] - found["libraries"] + 16 * 8 * 3 * 64**2 * 4
    assert wanted == pytest.approx(json.loads(done.stdout), rel=0.2)
