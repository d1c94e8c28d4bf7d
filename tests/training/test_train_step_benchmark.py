"""The benchmark of updates runs, and both of its sides compute the same."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("benchmarks.train_step")


def toy(benchmark: Any, **changes: Any) -> Any:
    return benchmark.Case(
        **{"size": "toy", "frames": 4, "pixels": 64, "batch": 2, "source": (40, 50)} | changes
    )


def test_a_toy_update_is_compared_and_timed(benchmark: Any) -> None:
    result = benchmark.run_case(toy(benchmark), repeats=1)
    equality = result["equality"]
    assert equality["loss_ours"] == pytest.approx(equality["loss_plain"], abs=1e-6)
    assert 0.5 < equality["loss_ours"] < 1.0
    assert result["speedup_median_cpu_seconds"] > 0
    assert 0 < result["share_of_matrix_peak"] < 1.5


def test_half_precision_as_on_a_gpu(benchmark: Any) -> None:
    result = benchmark.run_case(toy(benchmark, dtype="bfloat16"), repeats=1)
    assert result["gflop_per_update"] > 0


def test_both_sides_learn_the_same(benchmark: Any, tmp_path: Path) -> None:
    """The same gradients, update and average: three updates on the same pixels and masks."""
    case = toy(benchmark)
    videos = benchmark.decoded_videos(case)
    config = case.config(benchmark.any_source(tmp_path))
    rate = {"start_lr": 1e-4, "lr": 1e-4, "warmup_share": 0.0, "weight_decay": 0.04}
    config = config.model_copy(update={"schedule": config.schedule.model_copy(update=rate)})
    trainer = benchmark.make_trainer(case, config, tmp_path, videos)
    plain = benchmark.make_plain(case, trainer)
    for step in range(1, 4):
        [micro] = trainer.batches.next(step)
        masks = [(mask.context_ids, mask.target_ids) for mask in micro.masks]
        theirs = plain.update(micro.pixels.transpose(1, 2), masks)
        assert trainer.run_step(step)["loss"] == pytest.approx(theirs, abs=2e-6)
    again = benchmark.make_plain(case, trainer)  # their networks with our weights
    for mine, other in ((again.encoder, plain.encoder), (again.predictor, plain.predictor)):
        for one, two in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=2e-5)


def test_different_losses_are_told(benchmark: Any, tmp_path: Path) -> None:
    case = toy(benchmark)
    videos = benchmark.decoded_videos(case)
    trainer = benchmark.make_trainer(
        case, case.config(benchmark.any_source(tmp_path)), tmp_path, videos
    )
    plain = benchmark.make_plain(case, trainer)
    with torch.no_grad():
        plain.encoder.norm.weight.mul_(2.0)
        plain.predictor.predictor_proj.bias.add_(1.0)
    with pytest.raises(AssertionError, match="losses differ"):
        benchmark.check_equal(trainer, plain, videos)
