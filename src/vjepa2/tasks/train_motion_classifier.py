"""Train the small motion classifier that ships with the package, on a CPU, in minutes.

What made it learn in minutes (docs/reproduce.md has the numbers): weights whose random features
already tell directions apart (space-time filters in the patch embedding, a larger initial
deviation), every clip beside its own reversal, orthogonalised updates, and most tokens dropped
for most of the run.

A run lives in one folder: `clips/`, `checkpoint.pt`, and at the end the model.
"""

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vjepa2.errors import CheckpointFormatError
from vjepa2.files import atomic_path
from vjepa2.models.classification import VJEPA2ForVideoClassification, classification_loss
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.models.encoder import attention_of
from vjepa2.nn.init import init_weights
from vjepa2.progress import track
from vjepa2.strict_config import StrictConfig
from vjepa2.tasks.motion_clips import ClipPool, LabelChanges, MotionClips, normalised
from vjepa2.tasks.motion_filters import start_with_space_time_filters
from vjepa2.tasks.motion_optimizer import Muon
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.synthetic import MOTION_LABELS

CHECKPOINT_NAME = "checkpoint.pt"
MEASURED_CLIPS = 64  # clips that the patch embedding is scaled on


class MotionClassifierConfig(StrictConfig):
    """One training run.

    Attributes:
        labels: classes; a label's id is its place. Every label's opposite, mirror image and
            transpose must be among them.
        seed: of clips, weights and order.
        num_clips: different clips; each is used forwards and backwards, mirrored and transposed.
        steps: updates.
        clips_per_step: B; a batch holds these and their reversals.
        matrix_lr: peak learning rate of the hidden matrices (Muon).
        other_lr: peak learning rate of everything else (AdamW).
        weight_decay: of AdamW, on matrices.
        warmup_steps: linear rise of both rates, which then fall to 0 along half a cosine.
        keep_share: share of tokens that is encoded, drawn anew for every clip and step.
        full_share: share of the steps, at the end, in which all tokens are encoded.
        checkpoint_every: steps from one checkpoint to the next.
        workers: processes that make clips; 0 for none.
        crop_size, num_frames, patch_size, tubelet_size: geometry of a clip.
        hidden_size, num_layers, num_heads, num_pooler_layers: size of the network.
        initializer_range: deviation of fresh weights, about 1 / sqrt(hidden_size).
    """

    labels: tuple[str, ...] = MOTION_LABELS
    seed: int = 0
    num_clips: int = 6000
    steps: int = 1000
    clips_per_step: int = 16
    matrix_lr: float = 0.02
    other_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 50
    keep_share: float = 0.4
    full_share: float = 0.1
    checkpoint_every: int = 100
    workers: int = 1
    crop_size: int = 64
    num_frames: int = 16
    patch_size: int = 8
    tubelet_size: int = 2
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_pooler_layers: int = 1
    initializer_range: float = 0.08

    def network(self) -> VJEPA2Config:
        """Configuration of the model."""
        return VJEPA2Config(
            patch_size=self.patch_size,
            crop_size=self.crop_size,
            frames_per_clip=self.num_frames,
            tubelet_size=self.tubelet_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_pooler_layers=self.num_pooler_layers,
            pred_hidden_size=64,
            pred_num_attention_heads=4,
            pred_num_hidden_layers=2,
            initializer_range=self.initializer_range,
            id2label=dict(enumerate(self.labels)),
        )

    def clips(self) -> MotionClips:
        """The clips that are learned from."""
        return MotionClips(
            seed=self.seed,
            count=self.num_clips,
            crop_size=self.crop_size,
            num_frames=self.num_frames,
            labels=self.labels,
        )


def training_facts(
    config: MotionClassifierConfig,
    model: VJEPA2ForVideoClassification,
    *,
    minutes: float,
    hardware: str,
) -> dict[str, Any]:
    """What a model card says about a run, as JSON values."""
    return {
        "seed": config.seed,
        "num_clips": config.num_clips,
        "steps": config.steps,
        "clips_per_step": config.clips_per_step,
        "num_labels": len(config.labels),
        "num_parameters": model.num_parameters(),
        "geometry": (
            f"{config.num_frames} frames of {config.crop_size} x {config.crop_size} pixels, "
            f"patches of {config.patch_size} x {config.patch_size} pixels and "
            f"{config.tubelet_size} frames, width {config.hidden_size}, "
            f"{config.num_layers} blocks, {config.num_heads} heads"
        ),
        "minutes": round(minutes, 1),
        "hardware": hardware,
        "torch": torch.__version__,
    }


class MotionTrainer:
    """The state of a run and one step of it.

    Args:
        config: of the run.
        pool: clips to learn from.

    Raises:
        ConfigError: labels are not closed under the changes.
    """

    def __init__(self, config: MotionClassifierConfig, pool: ClipPool) -> None:
        self.config, self.pool = config, pool
        self.changes = LabelChanges(config.labels)
        self.step = 0
        self.generator = torch.Generator().manual_seed(config.seed)
        self.model = VJEPA2ForVideoClassification(config.network())
        init_weights(self.model, std=config.initializer_range, generator=self.generator)
        first = torch.arange(min(MEASURED_CLIPS, len(pool)))
        start_with_space_time_filters(self.model, normalised(pool.take(first)[0]))
        self.optimizers = _optimizers(self.model, config)
        self.model.train()

    def run_step(self) -> tuple[float, float]:
        """One update; returns loss and accuracy on its batch, both before the update."""
        config = self.config
        rate = _rate(self.step, config)
        numbers = torch.randint(len(self.pool), (config.clips_per_step,), generator=self.generator)
        frames, label_ids = self.changes.with_reversed(*self.pool.take(numbers))
        frames, label_ids = self.changes.randomly_turned(
            frames, label_ids, generator=self.generator
        )
        logits = self._logits(normalised(frames))
        loss = classification_loss(logits, label_ids, problem_type=None)
        loss.backward()
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, max_norm=1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        correct = (logits.argmax(dim=1) == label_ids).float().mean()
        return loss.item(), correct.item()

    def _logits(self, pixels: Tensor) -> Tensor:
        config, network = self.config, self.model
        encoder = network.vjepa2.encoder
        num_tokens = encoder.grid(pixels).num_tokens
        keep_ids = None
        if self.step < config.steps * (1 - config.full_share):
            order = torch.rand(len(pixels), num_tokens, generator=self.generator).argsort(dim=1)
            num_kept = max(1, round(num_tokens * config.keep_share))
            keep_ids = order[:, :num_kept].sort(dim=1).values
        tokens = encoder(pixels, keep_ids).last_hidden_state
        logits: Tensor = network.classifier(network.pooler(tokens, attention_of(network.config)))
        return logits

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs, atomically."""
        state = {
            "config": self.config.model_dump_json(),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration.

        Raises:
            CheckpointFormatError: it belongs to a run with another configuration.
        """
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["config"] != self.config.model_dump_json():
            raise CheckpointFormatError(
                f"{path} belongs to a run with another configuration: {state['config']}. "
                "Go on with that one, or choose another folder."
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.generator.set_state(state["generator"])


def train_motion_classifier(
    config: MotionClassifierConfig,
    folder: str | os.PathLike[str],
    *,
    stop_at: int | None = None,
    quiet: bool = False,
) -> VJEPA2ForVideoClassification:
    """Train, or go on training, and write the model into `folder`.

    Args:
        config: of the run.
        folder: of the run; an earlier, interrupted run in it is continued.
        stop_at: end before this step, leaving a checkpoint and no model; None for the whole run.
        quiet: no progress on stderr.

    Returns:
        The model, in evaluation mode.

    Raises:
        ConfigError: the configuration cannot be trained.
        CheckpointFormatError: the folder holds a run with another configuration.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    LabelChanges(config.labels)  # before minutes are spent on clips
    pool = ClipPool(folder / "clips", config.clips(), workers=config.workers, quiet=quiet)
    trainer = MotionTrainer(config, pool)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.exists():
        trainer.load(checkpoint)
    end = config.steps if stop_at is None else stop_at
    with (folder / "progress.csv").open("a", encoding="utf-8") as log:
        for _ in track(
            range(trainer.step, end), total=end - trainer.step, description="steps", quiet=quiet
        ):
            loss, accuracy = trainer.run_step()
            log.write(f"{trainer.step},{loss:.5f},{accuracy:.5f}\n")
            if trainer.step % config.checkpoint_every == 0 or trainer.step == end:
                log.flush()
                trainer.save(checkpoint)
    trainer.model.eval()
    if trainer.step == config.steps:
        trainer.model.save_pretrained(folder)
        side = config.crop_size
        VJEPA2VideoProcessor(crop_size={"height": side, "width": side}).save_pretrained(folder)
    return trainer.model


def _optimizers(
    model: VJEPA2ForVideoClassification, config: MotionClassifierConfig
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the hidden matrices, AdamW for the rest; the predictor is not trained."""
    hidden: list[Tensor] = []
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if name.startswith("vjepa2.predictor."):
            continue
        if parameter.dim() < 2 or name.startswith("pooler.query"):
            vectors.append(parameter)
        elif parameter.dim() == 2 and not name.startswith("classifier."):
            hidden.append(parameter)
        else:
            matrices.append(parameter)
    adam = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    muon = Muon(hidden, weight_decay=0.005, momentum=0.9)
    for optimizer, peak in ((adam, config.other_lr), (muon, config.matrix_lr)):
        for group in optimizer.param_groups:
            group["peak_lr"] = peak
    return adam, muon


def _rate(step: int, config: MotionClassifierConfig) -> float:
    """Learning rate of a step as a share of the peak."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))
