"""What the V-JEPA 2 documentation shows, with only the import lines changed.

The port's model page loads a published model by its hub name and a clip from the web; here both
are made on the spot: a folder as `save_pretrained` writes it, and an H.264 file.
"""

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tiny_models import randomise, tiny_config
from vjepa2 import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor
from vjepa2 import VideoReader as VideoDecoder
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.writer import H264, write_video

# The page never closes its reader; here that would be a ResourceWarning in some later test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LABELS = {i: f"Pushing something {i} times" for i in range(7)}


@pytest.fixture(autouse=True)
def _collect_open_readers() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def video_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 frames of 80x60 pixels: a square that goes to the right."""
    frames = torch.full((24, 3, 60, 80), 40, dtype=torch.uint8)
    for t in range(24):
        frames[t, :, 20:40, 2 * t : 2 * t + 20] = 220
    return str(write_video(tmp_path_factory.mktemp("video") / "clip.mp4", frames, codec=H264()))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stands in for "facebook/vjepa2-vitl-fpc16-256-ssv2"."""
    folder = tmp_path_factory.mktemp("model")
    config = tiny_config(frames_per_clip=16, id2label=LABELS, num_labels=len(LABELS))
    randomise(VJEPA2ForVideoClassification(config)).save_pretrained(folder)
    VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_feature_extraction(repository: str, video_path: str, dtype: torch.dtype | None) -> None:
    processor = AutoVideoProcessor.from_pretrained(repository)
    model = AutoModel.from_pretrained(
        repository, dtype=dtype, device_map="auto", attn_implementation="sdpa"
    )
    vr = VideoDecoder(video_path)
    frame_idx = np.arange(0, 16)
    video = vr.get_frames_at(indices=frame_idx).data  # T x C x H x W
    video = processor(video, return_tensors="pt").to(model.device)
    outputs = model(**video)
    encoder_outputs = outputs.last_hidden_state
    predictor_outputs = outputs.predictor_output.last_hidden_state

    assert encoder_outputs.shape == predictor_outputs.shape == (1, 8 * 4 * 4, 32)
    assert encoder_outputs.dtype == (dtype or torch.float32)
    assert torch.equal(encoder_outputs, model.get_vision_features(**video))
    assert torch.isfinite(predictor_outputs).all()


def test_feature_extraction_with_masks(repository: str, video_path: str) -> None:
    """Predict the second half of a clip from the first."""
    processor = AutoVideoProcessor.from_pretrained(repository)
    model = AutoModel.from_pretrained(repository)
    video = VideoDecoder(video_path).get_frames_at(indices=np.arange(16)).data
    inputs = processor(video, return_tensors="pt").to(model.device)
    past = torch.arange(64, device=model.device).unsqueeze(0)
    with torch.no_grad():
        outputs = model(**inputs, context_mask=[past], target_mask=[past + 64])
    assert torch.equal(outputs.masked_hidden_state, outputs.last_hidden_state[:, :64])
    predicted, seen = (
        outputs.predictor_output.last_hidden_state,
        outputs.predictor_output.target_hidden_state,
    )
    assert predicted.shape == seen.shape == (1, 64, 32)
    assert torch.equal(seen, outputs.last_hidden_state[:, 64:])


def test_classification(
    repository: str, video_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = AutoModelForVideoClassification.from_pretrained(repository, device_map="auto")
    processor = AutoVideoProcessor.from_pretrained(repository)
    vr = VideoDecoder(video_path)
    frame_idx = np.arange(0, model.config.frames_per_clip, 8)
    video = vr.get_frames_at(indices=frame_idx).data
    inputs = processor(video, return_tensors="pt").to(model.device)
    with torch.no_grad():
        outputs = model(**inputs)
    logits = outputs.logits

    print("Top 5 predicted class names:")
    top5_indices = logits.topk(5).indices[0]
    top5_probs = torch.softmax(logits, dim=-1).topk(5).values[0]
    for idx, prob in zip(top5_indices, top5_probs, strict=True):
        text_label = model.config.id2label[idx.item()]
        print(f" - {text_label}: {prob:.2f}")

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and video.shape[0] == 2
    printed = [line.removeprefix(" - ").split(": ") for line in lines[1:]]
    exact = torch.softmax(logits[0].double(), 0).tolist()
    best = sorted(range(7), key=exact.__getitem__, reverse=True)[:5]
    assert printed == [[LABELS[i], f"{exact[i]:.2f}"] for i in best]


def test_training_loss(repository: str, video_path: str) -> None:
    """Fine-tuning with labels: the loss of the page's `labels` argument goes down."""
    with pytest.warns(UserWarning, match="2 parameters .* were made fresh: classifier"):
        model = AutoModelForVideoClassification.from_pretrained(
            repository, num_labels=2, ignore_mismatched_sizes=True
        )
    processor = AutoVideoProcessor.from_pretrained(repository)
    frames = VideoDecoder(video_path).get_frames_at(indices=np.arange(16)).data
    inputs = processor([frames, frames.flip(0)], return_tensors="pt").to(model.device)
    labels = torch.tensor([0, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    losses = []
    for _ in range(6):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_picture(repository: str) -> None:
    """Repeated over time, as the model cards show."""
    processor = AutoVideoProcessor.from_pretrained(repository)
    model = AutoModel.from_pretrained(repository)
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    pixel_values = processor(image, return_tensors="pt").to(model.device)["pixel_values_videos"]
    assert pixel_values.shape == (1, 1, 3, 32, 32)
    pixel_values = pixel_values.repeat(1, 16, 1, 1, 1)
    with torch.no_grad():
        image_embeddings = model.get_vision_features(pixel_values)
    assert image_embeddings.shape == (1, 128, 32)
