"""The other ways to fine-tune: the documentation's own loop, and the Trainer, on labelled clips.

Both are held against our own run: the same loss and the same gradients from the same videos.
"""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils.data import Dataset

from tiny_finetuning import write_encoder, write_labelled
from vjepa2 import AutoModelForVideoClassification, VJEPA2VideoProcessor
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.tasks.finetune_config import FineTuneConfig
from vjepa2.tasks.finetune_loss import soft_targets
from vjepa2.tasks.finetune_networks import ClassifierStep, find_start, make_classifier
from vjepa2.video.reader import VideoReader

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    folder = tmp_path_factory.mktemp("films")
    return read_labelled(write_labelled(folder, count=2, seed=0, suffix=".mp4"))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder")


def clips_of(labelled: LabelledSet) -> tuple[Tensor, Tensor]:
    """Pixels of all videos as the documentation makes them, and their class numbers."""
    processor = VJEPA2VideoProcessor(crop_size=32)
    videos = [VideoReader(item.path)[0:8:2] for item in labelled.items]
    inputs = [processor(video, return_tensors="pt")["pixel_values_videos"] for video in videos]
    return torch.cat(inputs), torch.from_numpy(labelled.labels())


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: v.grad.clone() for n, v in model.named_parameters() if v.grad is not None}


def test_the_documentations_way(labelled: LabelledSet, encoder: Path) -> None:
    """`loss = model(**inputs, labels=labels).loss; loss.backward()`, step by step."""
    names = labelled.label_map.to_config_labels()
    with pytest.warns(UserWarning, match="made fresh"):
        model = AutoModelForVideoClassification.from_pretrained(encoder, id2label=names)
    pixels, labels = clips_of(labelled)
    inputs = {"pixel_values_videos": pixels}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    losses = []
    for step in range(12):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        if step == 0:
            own = ClassifierStep(model)(pixels[:, None], soft_targets(labels, 3))
            torch.testing.assert_close(own.loss, loss)
            found = gradients(model)
            model.zero_grad()
            own.loss.backward()
            for name, value in gradients(model).items():
                torch.testing.assert_close(value, found[name], atol=1e-6, rtol=1e-4)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


class Videos(Dataset[dict[str, Tensor]]):
    """As the Trainer takes them: one dictionary a video."""

    def __init__(self, labelled: LabelledSet) -> None:
        self.pixels, self.labels = clips_of(labelled)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values_videos": self.pixels[index], "labels": self.labels[index]}


def test_the_trainer_of_transformers(labelled: LabelledSet, encoder: Path, tmp_path: Path) -> None:
    """Epochs with accumulation, validation each, checkpoints, resume, the best one at the end."""
    names = labelled.label_map.class_names()
    config = FineTuneConfig(start_from=str(encoder))
    videos = Videos(labelled)

    def trainer(epochs: int) -> transformers.Trainer:
        arguments = transformers.TrainingArguments(
            str(tmp_path / "trainer"),
            num_train_epochs=epochs,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=3,
            learning_rate=3e-3,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        return transformers.Trainer(
            model=make_classifier(config, find_start(str(encoder)), names),
            args=arguments,
            train_dataset=videos,
            eval_dataset=videos,
            compute_metrics=lambda found: {
                "accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())
            },
        )

    whole = trainer(6)
    whole.train()
    measured = [line["eval_loss"] for line in whole.state.log_history if "eval_loss" in line]
    assert len(measured) == 6 and measured[-1] < 0.9 * measured[0]
    assert "eval_accuracy" in whole.evaluate()

    again = trainer(6)
    again.train(resume_from_checkpoint=str(tmp_path / "trainer" / "checkpoint-3"))
    resumed = [line["eval_loss"] for line in again.state.log_history if "eval_loss" in line]
    assert resumed[3:] == pytest.approx(measured[3:], abs=1e-4)

    whole.model.save_pretrained(tmp_path / "saved")
    ours = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "saved")
    theirs = transformers.AutoModelForVideoClassification.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        wanted = whole.model.eval()(videos.pixels).logits
        torch.testing.assert_close(ours(videos.pixels).logits, wanted)
        torch.testing.assert_close(theirs(videos.pixels).logits, wanted, atol=1e-5, rtol=1e-5)
