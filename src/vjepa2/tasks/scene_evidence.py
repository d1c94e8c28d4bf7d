"""What a pretrained encoder knows of the small world, beside contenders that know less or more.

    pretrained   the encoder
    shuffled     the same tokens and probes, with the frames of every test clip in random order
    untrained    the same network with fresh weights, one set per seed
    pixels       patches of pixels on their principal components
    labels       the same network, trained from fresh weights together with the probe

All but the last freeze what makes the tokens and train the same probe on the same labelled clips
(`scene_probes`). Which clips each answered rightly is kept in one small file per contender and
task, so a table can be made of results that were gathered at different times.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from vjepa2.errors import ConfigError, check_choice
from vjepa2.files import atomic_path
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import VJEPA2Encoder
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.nn.init import init_weights
from vjepa2.progress import track
from vjepa2.shapes import TokenGrid
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.clip_sources import SCENE_SOURCES, ClipRequest, ClipSource
from vjepa2.tasks.motion_clips import normalised
from vjepa2.tasks.scene_probes import (
    PixelTokens,
    ProbeConfig,
    Standardised,
    Tokenise,
    answered_rightly,
    bootstrap,
    encoder_tokens,
    place_code,
    probe_network,
    rate_at,
    train_probe,
)
from vjepa2.tasks.scene_tasks import SCENE_TASKS, LabelledClips

Contender = Literal["pretrained", "untrained", "pixels", "labels"]
CONTENDERS: tuple[Contender, ...] = ("pretrained", "untrained", "pixels", "labels")
SHUFFLED = "shuffled"
SETTINGS_NAME = "settings.json"


class EvidenceConfig(StrictConfig):
    """How the evidence is gathered.

    Attributes:
        tasks: names of questions: keys of the sources, such as `SCENE_TASKS`.
        train_clips, test_clips: labelled clips of every task, about (rounded down to as many of
            every answer).
        seeds: of probes, and of the weights of the untrained networks.
        fps: frames per second of the clips.
        probe: how probes learn.
        label_epochs, label_lr, label_seeds: passes over the clips, peak learning rate and seeds of
            the contender that is trained with labels. It is the only one whose encoder learns, so
            it needs many times the work of the others.
    """

    tasks: tuple[str, ...] = tuple(SCENE_TASKS)
    train_clips: int = Field(6000, ge=10)
    test_clips: int = Field(1000, ge=10)
    seeds: tuple[int, ...] = (0, 1, 2)
    fps: float = Field(6.0, gt=0)
    probe: ProbeConfig = ProbeConfig()
    label_epochs: int = Field(16, ge=1)
    label_lr: float = Field(1e-3, gt=0)
    label_seeds: tuple[int, ...] = (0,)


class _Bench:
    """One task's clips, and what the contenders share."""

    def __init__(self, source: ClipSource, network: VJEPA2Config, config: EvidenceConfig) -> None:
        self.network, self.config = network, config
        self.num_answers = len(source.answers)

        def clips(part: Literal["train", "test"], count: int) -> LabelledClips:
            return source.make(
                ClipRequest(
                    part=part,
                    count=count // self.num_answers * self.num_answers,
                    size=network.crop_size,
                    num_frames=network.frames_per_clip,
                    fps=config.fps,
                )
            )

        self.train = clips("train", config.train_clips)
        self.test = clips("test", config.test_clips)
        side = network.crop_size // network.patch_size
        self.grid = TokenGrid(network.frames_per_clip // network.tubelet_size, side, side)
        self.places = place_code(self.grid, width=network.hidden_size)
        self.probe_network = probe_network(
            config.probe,
            width=network.hidden_size,
            num_heads=network.num_attention_heads,
            num_answers=self.num_answers,
        )

    def frozen(
        self, tokenise: Tokenise, *, seeds: Sequence[int], shuffle: bool = False
    ) -> list[UInt8[Tensor, "seeds n"]]:
        """Train a probe per seed; right answers on the test clips, and with shuffled frames."""
        tokens = tokenise(self.train.frames)
        standardised = Standardised.of(tokens)
        tokens = standardised(tokens, self.places)
        shown = standardised(tokenise(self.test.frames), self.places)
        rows: list[list[Tensor]] = [[], []] if shuffle else [[]]
        for seed in seeds:
            probe = train_probe(
                self.probe_network, tokens, self.train.labels, config=self.config.probe, seed=seed
            )
            rows[0].append(answered_rightly(probe, shown, self.test.labels))
            if shuffle:
                mixed = tokenise(shuffled(self.test.frames, seed=seed))
                mixed = standardised(mixed, self.places)
                rows[1].append(answered_rightly(probe, mixed, self.test.labels))
        return [torch.stack(row) for row in rows]

    def with_labels(self, *, seed: int) -> Tensor:
        """Train encoder and probe together; right answers on the test clips."""
        config = self.config.probe.model_copy(
            update={"epochs": self.config.label_epochs, "lr": self.config.label_lr}
        )
        generator = torch.Generator().manual_seed(seed)
        encoder = fresh_encoder(self.network, seed=seed)
        probe = VJEPA2AttentiveProbe(self.probe_network)
        init_weights(probe, std=self.probe_network.initializer_range, generator=generator)
        parameters = [*encoder.parameters(), *probe.parameters()]
        optimizer = torch.optim.AdamW(parameters, weight_decay=config.weight_decay)
        batches = -(-len(self.train.labels) // config.batch_size)
        step = 0
        for _ in range(config.epochs):
            order = torch.randperm(len(self.train.labels), generator=generator)
            for rows in order.split(config.batch_size):
                share = rate_at(step, config=config, num_steps=config.epochs * batches)
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * share
                tokens = encoder(normalised(self.train.frames[rows])).last_hidden_state
                probe(tokens + self.places, labels=self.train.labels[rows]).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                step += 1
        tokens = encoder_tokens(encoder.eval(), self.test.frames) + self.places
        return answered_rightly(probe.eval(), tokens, self.test.labels)


def shuffled(frames: UInt8[Tensor, "B T 3 H W"], *, seed: int) -> UInt8[Tensor, "B T 3 H W"]:
    """The frames of every clip in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(frames.shape[:2], generator=generator).argsort(dim=1)
    return frames[torch.arange(len(frames))[:, None], order]


def fresh_encoder(network: VJEPA2Config, *, seed: int) -> VJEPA2Encoder:
    """The network as it is before training."""
    encoder = VJEPA2Encoder(network)
    generator = torch.Generator().manual_seed(seed)
    init_weights(encoder, std=float(network.initializer_range), generator=generator)
    return encoder.eval()


def gather_evidence(
    encoder: VJEPA2Encoder,
    folder: str | os.PathLike[str],
    *,
    config: EvidenceConfig | None = None,
    contenders: Sequence[Contender] = CONTENDERS,
    sources: Mapping[str, ClipSource] = SCENE_SOURCES,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train and test the probes of some contenders; results of others in the folder stay.

    Args:
        encoder: the pretrained encoder; its configuration gives the network, the size and the
            number of frames of the clips.
        folder: where results are kept; results that are there are not gathered again.
        config: how; a folder holds results of one configuration.
        contenders: which; "pretrained" also gathers "shuffled".
        sources: of the clips, by the names that `config.tasks` holds.
        quiet: no progress on stderr.

    Returns:
        `summary` of everything in the folder.

    Raises:
        ConfigError: a name does not exist, or the folder holds results of other settings.
        OutputError: the folder cannot be written.
    """
    config = EvidenceConfig() if config is None else config
    for contender in contenders:
        check_choice("Contender", contender, CONTENDERS)
    for task in config.tasks:
        check_choice("Task", task, sources)
    folder = Path(folder)
    _keep_settings(folder, config, encoder.config)
    for task in track(config.tasks, total=len(config.tasks), description="tasks", quiet=quiet):
        missing = [name for name in contenders if not _file(folder, name, task).exists()]
        if missing:
            bench = _Bench(sources[task], encoder.config, config)
            for name in missing:
                for kept, right in _results(bench, name, encoder).items():
                    with atomic_path(_file(folder, kept, task)) as temporary:
                        save_file({"right": right.to(torch.uint8)}, temporary)
    return summary(folder, sources=sources)


def _results(
    bench: _Bench, contender: str, encoder: VJEPA2Encoder
) -> dict[str, UInt8[Tensor, "seeds n"]]:
    seeds, network = bench.config.seeds, encoder.config
    if contender == "pretrained":
        right, mixed = bench.frozen(
            lambda frames: encoder_tokens(encoder, frames), seeds=seeds, shuffle=True
        )
        # The contender itself last: its file says that both are there.
        return {SHUFFLED: mixed, contender: right}
    if contender == "labels":
        return {
            contender: torch.stack(
                [bench.with_labels(seed=seed) for seed in bench.config.label_seeds]
            )
        }
    if contender == "pixels":
        pixels = PixelTokens(
            bench.train.frames,
            patch_size=network.patch_size,
            tubelet_size=network.tubelet_size,
            width=network.hidden_size,
        )
        return {contender: bench.frozen(pixels, seeds=seeds)[0]}
    rows = []
    for seed in seeds:
        fresh = fresh_encoder(network, seed=seed)
        rows += bench.frozen(functools.partial(encoder_tokens, fresh), seeds=[seed])
    return {contender: torch.cat(rows)}


def summary(
    folder: str | os.PathLike[str], *, sources: Mapping[str, ClipSource] = SCENE_SOURCES
) -> dict[str, Any]:
    """Accuracies of every contender in a folder, and differences to the pretrained encoder.

    Args:
        folder: of `gather_evidence`.
        sources: that it was gathered from.

    Returns:
        By task: "chance", and by contender the mean share of right answers with its 95 % interval
        and, where the pretrained encoder was tested too, "behind": how much more of the same clips
        that one answers rightly, with the 95 % interval of the difference.
    """
    folder = Path(folder)
    results: dict[str, Any] = {}
    for task, asked in sources.items():
        right: dict[str, Float[Tensor, "seeds n"]] = {
            name: load_file(path)["right"].float()
            for name in (*CONTENDERS, SHUFFLED)
            if (path := _file(folder, name, task)).exists()
        }
        if not right:
            continue
        results[task] = {"chance": 1 / len(asked.answers)}
        for name, values in right.items():
            entry: dict[str, Any] = {"seeds": len(values), "clips": values.shape[1]}
            entry["accuracy"] = bootstrap(values)._asdict()
            own = right.get("pretrained")
            if own is not None and name != "pretrained" and own.shape[1] == values.shape[1]:
                # Contenders of fewer seeds are compared with as many of the encoder's probes.
                shared = min(len(own), len(values))
                entry["behind"] = bootstrap(own[:shared] - values[:shared])._asdict()
            results[task][name] = entry
    return results


def evidence_settings(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Settings that the results in a folder were gathered with."""
    text = (Path(folder) / SETTINGS_NAME).read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)["evidence"]
    return settings


def in_order(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Results by question, those of `SCENE_TASKS` in its order, which files of JSON do not keep."""
    known = [task for task in SCENE_TASKS if task in results]
    return [(task, results[task]) for task in (*known, *sorted(results.keys() - set(known)))]


def evidence_table(results: dict[str, Any]) -> str:
    """The summary as a table in Markdown, percent with 95 % intervals."""
    names = [
        name
        for name in ("pretrained", "untrained", "pixels", "labels", SHUFFLED)
        if any(name in entry for entry in results.values())
    ]
    lines = [
        "| task (chance) | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for task, entry in in_order(results):
        cells = [_cell(entry[name]["accuracy"]) if name in entry else "" for name in names]
        lines.append(f"| {task} ({100 * entry['chance']:.1f}) | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(accuracy: dict[str, float]) -> str:
    mean, low, high = (100 * accuracy[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _file(folder: Path, contender: str, task: str) -> Path:
    return folder / f"{contender}-{task}.safetensors"


def _keep_settings(folder: Path, config: EvidenceConfig, network: VJEPA2Config) -> None:
    """Write down how results come about; refuse to add to results of other settings."""
    settings = {
        "evidence": config.model_dump(mode="json"),
        "geometry": [
            *(network.crop_size, network.frames_per_clip, network.patch_size),
            *(network.tubelet_size, network.hidden_size, network.num_hidden_layers),
        ],
    }
    path = folder / SETTINGS_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        return
    if json.loads(path.read_text(encoding="utf-8")) != settings:
        raise ConfigError(
            f"{folder} holds results of other settings (see {SETTINGS_NAME} in it). Choose "
            "another folder."
        )
