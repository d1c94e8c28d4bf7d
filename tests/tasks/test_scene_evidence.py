"""Probes and evidence: what can be learned is learned, what cannot is not, results are kept."""

import json
import math
from pathlib import Path

import pytest
import torch

from vjepa2.errors import ConfigError
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.clip_sources import ClipRequest, ClipSource
from vjepa2.tasks.motion_clips import normalised
from vjepa2.tasks.scene_evidence import (
    EvidenceConfig,
    evidence_table,
    fresh_encoder,
    gather_evidence,
    shuffled,
    summary,
)
from vjepa2.tasks.scene_probes import (
    PixelTokens,
    ProbeConfig,
    Standardised,
    answered_rightly,
    bootstrap,
    place_code,
    probe_network,
    train_probe,
)
from vjepa2.tasks.scene_tasks import LabelledClips

GRID = TokenGrid(2, 2, 2)
WIDTH = 16


def tokens_with_a_sign(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise; one token of each clip says the answer, at a random place."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, GRID.num_tokens, WIDTH, generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    place = torch.randint(GRID.num_tokens, (count,), generator=generator)
    tokens[torch.arange(count), place, 0] = 6.0
    tokens[torch.arange(count), place, 1] = labels * 6.0 - 3.0
    return tokens, labels


def rightly(seed: int, *, labels_from: int | None = None, epochs: int = 40) -> float:
    config = ProbeConfig(num_self_blocks=0, epochs=epochs)
    network = probe_network(config, width=WIDTH, num_heads=2, num_answers=2)
    tokens, labels = tokens_with_a_sign(256, seed=1)
    test_tokens, test_labels = tokens_with_a_sign(256, seed=2)
    if labels_from is not None:
        labels = tokens_with_a_sign(256, seed=labels_from)[1]
    standardised = Standardised.of(tokens)
    places = place_code(GRID, width=WIDTH)
    probe = train_probe(network, standardised(tokens, places), labels, config=config, seed=seed)
    right = answered_rightly(probe, standardised(test_tokens, places), test_labels)
    return float(right.float().mean())


def test_a_probe_finds_the_token_that_tells_and_nothing_where_none_does() -> None:
    assert rightly(0) > 0.9
    assert abs(rightly(0, labels_from=9) - 0.5) < 0.13


def test_a_probe_is_reproducible() -> None:
    assert rightly(5, epochs=2) == rightly(5, epochs=2)


def test_places_differ_and_standardised_tokens_have_unit_deviation() -> None:
    code = place_code(TokenGrid(3, 4, 5), width=32)
    gaps = torch.cdist(code, code) + torch.eye(60) * 9
    assert gaps.min() > 0.3
    tokens = torch.randn(8, 60, 32) * 5 + 3
    plain = Standardised.of(tokens)(tokens, torch.zeros(60, 32))
    assert torch.allclose(plain.mean(dim=(0, 1)), torch.zeros(32), atol=1e-4)
    assert torch.allclose(plain.std(dim=(0, 1)), torch.ones(32), atol=1e-4)


def test_pixel_tokens_are_patches_in_the_encoders_order() -> None:
    frames = torch.randint(0, 256, (6, 4, 3, 8, 8), dtype=torch.uint8)
    pixels = PixelTokens(frames, patch_size=4, tubelet_size=2, width=96)
    tokens = pixels(frames)  # 4 * 4 * 2 * 3 = 96 numbers: nothing is lost
    assert tokens.shape == (6, 8, 96)
    back = tokens @ pixels.components.T + pixels.mean
    # Token 1 * 4 + 1 * 2 + 0: second time step, second row, first column.
    patch = normalised(frames)[2, 2:4, :, 4:8, 0:4]  # [2, C, 4, 4]
    assert torch.allclose(back[2, 6], patch.permute(1, 0, 2, 3).flatten(), atol=1e-3)


def test_the_interval_is_that_of_a_share_and_holds_differences() -> None:
    right = (torch.arange(1000) % 4 < 3).float().expand(3, -1)
    interval = bootstrap(right)
    assert interval.mean == pytest.approx(0.75)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 1000)
    assert interval.low == pytest.approx(0.75 - half, abs=0.006)
    assert interval.high == pytest.approx(0.75 + half, abs=0.006)
    # A difference on the same clips is much surer than two separate intervals.
    better = right.clone()
    better[:, :40] = 1.0
    assert bootstrap(better - right).low > 0
    assert bootstrap(better).low < interval.high


def test_shuffling_keeps_the_frames_of_every_clip() -> None:
    frames = torch.arange(2 * 16).reshape(2, 16, 1, 1, 1).expand(2, 16, 3, 2, 2).to(torch.uint8)
    mixed = shuffled(frames, seed=0)
    assert not torch.equal(mixed, frames)
    assert torch.equal(mixed[:, :, 0, 0, 0].sort(dim=1).values, frames[:, :, 0, 0, 0])


NETWORK = VJEPA2Config(
    patch_size=8, crop_size=16, frames_per_clip=4, tubelet_size=2, hidden_size=16,
    num_hidden_layers=1, num_attention_heads=2, initializer_range=0.2,
)  # fmt: skip
SMALL = EvidenceConfig(
    tasks=("order", "direction"), train_clips=16, test_clips=16, seeds=(0, 1), fps=2.0,
    probe=ProbeConfig(epochs=1), label_epochs=1, label_seeds=(0, 1),
)  # fmt: skip


def test_evidence_is_gathered_kept_and_put_together(tmp_path: Path) -> None:
    encoder = fresh_encoder(NETWORK, seed=3)
    results = gather_evidence(encoder, tmp_path, config=SMALL, quiet=True)
    for task, chance in (("order", 1 / 2), ("direction", 1 / 8)):
        assert results[task]["chance"] == chance
        for contender in ("pretrained", "shuffled", "untrained", "pixels", "labels"):
            entry = results[task][contender]
            assert (entry["seeds"], entry["clips"]) == (2, 16)
            accuracy = entry["accuracy"]
            assert 0 <= accuracy["low"] <= accuracy["mean"] <= accuracy["high"] <= 1
            if contender != "pretrained":
                gap = results[task]["pretrained"]["accuracy"]["mean"] - accuracy["mean"]
                assert entry["behind"]["mean"] == pytest.approx(gap, abs=1e-6)
    assert json.loads(json.dumps(results)) == summary(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    gather_evidence(encoder, tmp_path, config=SMALL, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    table = evidence_table(results)
    assert table.splitlines()[0].startswith("| task (chance) | pretrained | untrained | pixels")
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_an_untrained_encoder_is_no_better_than_the_untrained_contender(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"tasks": ("order",), "seeds": (3,)})
    encoder = fresh_encoder(NETWORK, seed=3)
    results = gather_evidence(
        encoder, tmp_path, config=config, contenders=("pretrained", "untrained"), quiet=True
    )
    assert results["order"]["untrained"]["behind"]["mean"] == 0


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    encoder = fresh_encoder(NETWORK, seed=3)
    config = SMALL.model_copy(update={"tasks": ("order",)})
    gather_evidence(encoder, tmp_path, config=config, contenders=("pixels",), quiet=True)
    with pytest.raises(ConfigError, match="other settings"):
        gather_evidence(encoder, tmp_path, config=SMALL, contenders=("pixels",), quiet=True)
    with pytest.raises(ConfigError, match="pixels"):
        gather_evidence(encoder, tmp_path, config=config, contenders=("pixel",))  # type: ignore[arg-type]


def test_clips_of_another_source(tmp_path: Path) -> None:
    """Dark and bright clips: pixels tell them apart, and the chance is that of the answers."""
    requests = []

    def make(wanted: ClipRequest) -> LabelledClips:
        requests.append(wanted)
        generator = torch.Generator().manual_seed(int(wanted.part == "test"))
        labels = torch.randint(3, (wanted.count,), generator=generator)
        shape = (wanted.count, wanted.num_frames, 3, wanted.size, wanted.size)
        noise = torch.randint(60, shape, generator=generator)
        return LabelledClips((noise + 80 * labels.view(-1, 1, 1, 1, 1)).to(torch.uint8), labels)

    sources = {"light": ClipSource(answers=("dark", "grey", "bright"), make=make)}
    config = SMALL.model_copy(
        update={
            "tasks": ("light",),
            "train_clips": 64,
            "probe": ProbeConfig(num_self_blocks=0, epochs=30, warmup_steps=5),
        }
    )
    encoder = fresh_encoder(NETWORK, seed=3)
    results = gather_evidence(
        encoder, tmp_path, config=config, contenders=("pixels",), sources=sources, quiet=True
    )
    assert [(one.part, one.count, one.size, one.num_frames) for one in requests] == [
        ("train", 63, 16, 4), ("test", 15, 16, 4),
    ]  # fmt: skip
    assert results["light"]["chance"] == 1 / 3
    assert results["light"]["pixels"]["accuracy"]["mean"] > 0.9
    assert results == summary(tmp_path, sources=sources)
    assert "| light (33.3) |" in evidence_table(results)
    with pytest.raises(ConfigError, match="light"):
        gather_evidence(encoder, tmp_path, config=SMALL, sources=sources, quiet=True)
