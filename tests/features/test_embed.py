"""`embed` is the chain reader, processor, encoder, and its rows say what they describe."""

from pathlib import Path

import numpy as np
import pytest
import torch

from feature_fixtures import small_config
from vjepa2 import embed
from vjepa2.errors import CheckpointNotFoundError, ConfigError, InputError, VideoError
from vjepa2.features.loading import load, resolve_model
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.shapes import TokenGrid
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from vjepa2.video.sampling import ClipSampling
from wrong_values import assert_named, is_whole


def by_hand(clip: Path, folder: Path, indices: list[int]) -> torch.Tensor:
    """Tokens [N, D] of the chosen frames, step by step."""
    model = VJEPA2Model.from_pretrained(folder)
    processor = VJEPA2VideoProcessor.from_pretrained(folder)
    with VideoReader(clip) as reader:
        frames = reader.get_frames_at(indices)
    with torch.no_grad():
        return model.get_vision_features(**processor(frames.data, return_tensors="pt"))[0]


def test_equals_the_chain_by_hand(clip: Path, model_folder: Path) -> None:
    [row] = embed(clip, model=model_folder, pool="tokens")
    # frames_per_clip is 8, the video has 20 frames: floor(k * 20 / 8).
    tokens = by_hand(clip, model_folder, [0, 2, 5, 7, 10, 12, 15, 17])
    assert row.tokens is not None
    assert torch.equal(row.tokens, tokens)
    torch.testing.assert_close(row.embedding, tokens.double().mean(dim=0).float())
    assert row.embedding.dtype == torch.float32
    assert row.grid == TokenGrid(4, 2, 2) and row.tokens.shape == (16, 24)


def test_rows_say_which_stretch_they_describe(clip: Path, model_folder: Path) -> None:
    [row] = embed(clip, model=model_folder)
    # Frames 0, 2, 5, 7, 10, 12, 15, 17 at 10 a second; two frames a step.
    assert row.pts_seconds == pytest.approx((0.0, 0.5, 1.0, 1.5))
    assert (row.t_start, row.t_end) == pytest.approx((0.0, 1.8))
    assert row.sees_until == row.t_end
    assert row.source == str(clip) and row.model == str(model_folder)
    assert row.tokens is None
    assert "0 to 1.8 s, grid 4x2x2, embedding [24])" in repr(row)


def test_frames_that_fill_no_step_are_not_counted(clip: Path, model_folder: Path) -> None:
    [row] = embed(clip, model=model_folder, num_frames=5, sampling="consecutive")
    assert row.grid.t == 2
    assert row.pts_seconds == pytest.approx((0.0, 0.2))
    assert row.t_end == pytest.approx(0.4)  # frame 4 is not seen


def test_one_frame_is_enough(clip: Path, model_folder: Path) -> None:
    [row] = embed(clip, model=model_folder, num_frames=1)
    assert row.grid.t == 1 and row.pts_seconds == (0.0,)
    assert row.t_end == pytest.approx(0.1)


def test_many_videos_and_clips_keep_their_order(videos: list[Path], model_folder: Path) -> None:
    rows = embed(videos, model=model_folder, num_clips=2, num_frames=2)
    assert [row.source for row in rows] == [str(path) for path in videos for _ in range(2)]
    starts = [row.t_start for row in rows]
    assert starts == pytest.approx([0, 4 / 30] * 3)
    alone = embed(str(videos[1]), model=model_folder, num_clips=2, num_frames=2)
    assert torch.equal(alone[1].embedding, rows[3].embedding)
    assert not torch.allclose(rows[0].embedding, rows[2].embedding)


def test_a_sampling_object_is_taken_as_it_is(clip: Path, model_folder: Path) -> None:
    sampling = ClipSampling(num_frames=4, strategy="stride", stride=3, start_frame=2)
    [row] = embed(clip, model=model_folder, sampling=sampling, pool="tokens")
    assert row.tokens is not None
    assert torch.equal(row.tokens, by_hand(clip, model_folder, [2, 5, 8, 11]))


def test_arrays_work_and_have_no_times(clip: Path, model_folder: Path) -> None:
    with VideoReader(clip) as reader:
        pixels = reader.get_frames_at(range(20)).data
    [row] = embed(pixels, model=model_folder)
    [file] = embed(clip, model=model_folder)
    assert torch.equal(row.embedding, file.embedding)
    assert row.source == "<Tensor>"
    assert row.pts_seconds is row.t_start is row.t_end is row.sees_until is None
    assert "None" not in repr(row)


def test_classifier_and_base_checkpoints_give_the_same_features(
    clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    classifier = VJEPA2ForVideoClassification.from_pretrained(model_folder)
    classifier.vjepa2.save_pretrained(tmp_path)
    VJEPA2VideoProcessor.from_pretrained(model_folder).save_pretrained(tmp_path)
    results = [embed(clip, model=model) for model in (model_folder, classifier, tmp_path)]
    for [row] in results:
        assert torch.equal(row.embedding, results[0][0].embedding)


def test_a_loaded_model_stays_as_it_is(clip: Path) -> None:
    model = VJEPA2Model(small_config(attention_probs_dropout_prob=0.5)).train()
    [first], [second] = embed(clip, model=model), embed(clip, model=model)
    assert torch.equal(first.embedding, second.embedding)  # no dropout while embedding
    assert model.training
    assert first.model == "VJEPA2Model"
    # The default processor follows the model: 32 pixels make 2 x 2 patches.
    assert first.grid == TokenGrid(4, 2, 2)


def test_features_can_be_trained_on(clip: Path, model_folder: Path) -> None:
    [row] = embed(clip, model=model_folder)
    assert not row.embedding.requires_grad
    probe = torch.nn.Linear(24, 2)
    probe(row.embedding).sum().backward()  # inference tensors would refuse
    assert probe.weight.grad is not None


def test_half_precision_pools_in_float32(clip: Path, model_folder: Path) -> None:
    [row] = embed(clip, model=model_folder, dtype="bfloat16", pool="tokens")
    assert row.tokens is not None and row.tokens.dtype == torch.bfloat16
    assert row.embedding.dtype == torch.float32
    torch.testing.assert_close(row.embedding, row.tokens.double().mean(dim=0).float())


def test_another_processor_can_be_given(clip: Path, model_folder: Path) -> None:
    large = VJEPA2VideoProcessor(crop_size={"height": 48, "width": 64})
    [row] = embed(clip, model=model_folder, processor=large)
    assert row.grid == TokenGrid(4, 3, 4)


def test_wrong_options_say_what_is_allowed(clip: Path, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="pool 'maen' does not exist. Did you mean 'mean'"):
        embed(clip, model=model_folder, pool="maen")  # type: ignore[arg-type]
    model = VJEPA2Model(small_config())
    with pytest.raises(ConfigError, match=r"device=cpu was given .* network\.to\('cpu'\)"):
        embed(clip, model=model, device="cpu")
    with pytest.raises(ConfigError, match="dtype=float16 was given for a network that is loaded"):
        embed(clip, model=model, dtype="float16")
    with pytest.raises(ConfigError, match="cannot be used here"):
        embed(clip, model=model_folder, device="cuda:99")
    with pytest.raises(InputError, match="empty list"):
        embed([], model=model_folder)
    with pytest.raises(CheckpointNotFoundError):
        embed(clip, model="./no/such/model")


def test_a_bad_video_is_an_error_here(bad_video: Path, model_folder: Path) -> None:
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        embed(bad_video, model=model_folder)


def test_the_shipped_model_has_one_name() -> None:
    assert resolve_model(None) == resolve_model("motion-tiny")
    assert resolve_model("some/model") == "some/model"
    assert resolve_model(Path("some") / "model") == str(Path("some") / "model")


def test_weights_id_tells_models_apart(model_folder: Path) -> None:
    ready = load(model_folder, kind=VJEPA2Model)
    before = ready.weights_id()
    assert before == load(model_folder, kind=VJEPA2Model).weights_id()
    with torch.no_grad():
        ready.base.encoder.layernorm.bias += 1e-3
    assert ready.weights_id() != before


def test_arguments_of_a_wrong_kind(clip: Path) -> None:
    torch.manual_seed(0)
    model = VJEPA2Model(small_config()).eval()
    with VideoReader(clip) as reader:
        frames = reader.get_frames_at(range(8))
    for name, allowed in (
        ("processor", lambda value: value is None),
        ("num_frames", lambda value: value is None or is_whole(value, least=1, most=65536)),
        ("num_clips", lambda value: is_whole(value, least=1, most=8)),
        ("sampling", lambda value: False),
        ("pool", lambda value: False),
    ):
        assert_named(
            lambda value, name=name: embed(frames, model=model, **{name: value}), allowed=allowed
        )
    assert_named(lambda value: embed(value, model=model))
    for name in ("device", "dtype"):
        for value in (3.5, True, [], "gpu", object(), "meta", np.array(["cpu", "cpu"])):
            with pytest.raises(ConfigError):
                embed(frames, **{name: value})
    for value in (3, True, [], {}, object(), b"a", np.zeros(3), torch.nn.Linear(2, 2)):
        with pytest.raises(ConfigError, match="model must be"):
            embed(frames, model=value)
