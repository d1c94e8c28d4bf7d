"""Teach the shipped classifier two labels of your own in seconds, then save and load it.

The encoder stays as it is; the pooler and a fresh head learn. The loop is the one of the published
documentation: `loss = model(**inputs, labels=labels).loss`.

Run: python examples/04_train_a_classifier.py
"""

import tempfile
import warnings

import torch

from vjepa2 import VJEPA2ForVideoClassification, VJEPA2VideoProcessor
from vjepa2.video.synthetic import make_motion_clip

MOTIONS = ("camera pans left", "camera pans right")  # what the clips show
LABELS = {0: "turning left", 1: "turning right"}  # what we call it


def make_batch(size: int, generator: torch.Generator) -> tuple[list[torch.Tensor], torch.Tensor]:
    labels = torch.randint(0, 2, (size,), generator=generator)
    clips = [
        make_motion_clip(MOTIONS[label], num_frames=16, size=(74, 74), generator=generator)
        for label in labels.tolist()
    ]
    return clips, labels


def main(num_steps: int = 12) -> float:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    processor = VJEPA2VideoProcessor.from_pretrained("motion-tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that the head is new, as it should be
        model = VJEPA2ForVideoClassification.from_pretrained(
            "motion-tiny", id2label=LABELS, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    model.vjepa2.requires_grad_(False)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    for step in range(num_steps):
        clips, labels = make_batch(16, generator)
        loss = model(**processor(clips, return_tensors="pt"), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 4 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        model = VJEPA2ForVideoClassification.from_pretrained(folder)
    clips, labels = make_batch(48, torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(**processor(clips, return_tensors="pt")).logits
    accuracy = (logits.argmax(-1) == labels).float().mean().item()
    print(f"accuracy on new clips: {accuracy:.0%}")
    return accuracy


if __name__ == "__main__":
    main()
