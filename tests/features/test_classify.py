"""`classify` gives the model's labels with their probabilities, and refuses to make up any."""

from pathlib import Path

import pytest
import torch

from feature_fixtures import LABELS, small_config
from vjepa2 import classify
from vjepa2.errors import ConfigError, InputError
from vjepa2.features.classify import LabelScore, classify_files, make_classifier
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.reader import VideoReader
from wrong_values import assert_named, is_whole


def logits_by_hand(clip: Path, model: VJEPA2ForVideoClassification, at: list[int]) -> torch.Tensor:
    processor = VJEPA2VideoProcessor(crop_size={"height": 32, "width": 32})
    with VideoReader(clip) as reader:
        frames = reader.get_frames_at(at)
    with torch.no_grad():
        return model(**processor(frames.data, return_tensors="pt")).logits[0].double()


UNIFORM_8_OF_20 = [0, 2, 5, 7, 10, 12, 15, 17]


def test_labels_are_the_softmax_of_the_model(clip: Path, model_folder: Path) -> None:
    scores = classify(clip, model=model_folder, top_k=3)
    model = VJEPA2ForVideoClassification.from_pretrained(model_folder)
    logits = logits_by_hand(clip, model, UNIFORM_8_OF_20)
    wanted = logits.exp() / logits.exp().sum()
    order = sorted(range(6), key=lambda index: -wanted[index])[:3]
    assert [score.index for score in scores] == order
    assert [score.label for score in scores] == [LABELS[index] for index in order]
    for score in scores:
        assert score.probability == pytest.approx(float(wanted[score.index]), rel=1e-5)


def test_clips_are_averaged_as_probabilities(clip: Path) -> None:
    model = VJEPA2ForVideoClassification(small_config())
    scores = classify(clip, model=model, num_clips=2, num_frames=2, top_k=6)
    # Two stretches of ten frames, two frames of each.
    parts = [logits_by_hand(clip, model, at).softmax(0) for at in ([0, 5], [10, 15])]
    wanted = (parts[0] + parts[1]) / 2
    for score in scores:
        assert score.probability == pytest.approx(float(wanted[score.index]), rel=1e-5)


def test_several_labels_at_once_use_the_sigmoid(clip: Path) -> None:
    model = VJEPA2ForVideoClassification(small_config(problem_type="multi_label_classification"))
    scores = classify(clip, model=model, top_k=6)
    logits = logits_by_hand(clip, model, UNIFORM_8_OF_20)
    for score in scores:
        wanted = 1 / (1 + float(torch.exp(-logits[score.index])))
        assert score.probability == pytest.approx(wanted, rel=1e-5)


def test_more_labels_than_there_are_gives_all(clip: Path, model_folder: Path) -> None:
    scores = classify(clip, model=model_folder, top_k=100)
    assert sorted(score.index for score in scores) == list(range(6))
    assert sum(score.probability for score in scores) == pytest.approx(1)


def test_a_model_without_a_trained_head_is_refused(
    clip: Path, base_folder: Path, tmp_path: Path
) -> None:
    for model in (base_folder, VJEPA2Model(small_config())):
        with pytest.raises(ConfigError, match="no trained head .* use embed"):
            classify(clip, model=model)
    number = VJEPA2ForVideoClassification(small_config(id2label={0: "speed"}))
    with pytest.raises(ConfigError, match="no trained head"):
        classify(clip, model=number)


def test_a_head_that_the_caller_trained_is_trusted(clip: Path, base_folder: Path) -> None:
    with pytest.warns(UserWarning, match="made fresh"):
        model = VJEPA2ForVideoClassification.from_pretrained(base_folder)
    assert model.load_report is not None and model.load_report.fresh
    assert len(classify(clip, model=model)) == 5  # it may have been trained since it was loaded


def test_wrong_requests_say_why(clip: Path, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="top_k must be 1 or more, got 0"):
        classify(clip, model=model_folder, top_k=0)
    with pytest.raises(InputError, match="classify takes one video, got 2"):
        classify([clip, clip], model=model_folder)


def test_files_go_on_after_a_bad_one(
    videos: list[Path],
    bad_video: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classifier = make_classifier(model_folder, top_k=1)
    report = classify_files([videos[0], bad_video, videos[1], videos[0]], classifier=classifier)
    assert [source for source, _ in report.results] == [str(videos[0]), str(videos[1])]
    assert "Classify: 3/3" in capsys.readouterr().err
    [failure] = report.failed
    assert failure.source == str(bad_video) and failure.error == "VideoOpenError"
    assert str(bad_video) in str(failure)
    assert str(failure).count(str(bad_video)) == str(failure.reason).count(str(bad_video))
    values = report.as_dict()
    assert values["model"] == str(model_folder)
    assert values["results"][0]["labels"][0].keys() == {"label", "index", "probability"}
    assert values["failed"][0]["reason"] == failure.reason
    text = str(report).splitlines()
    assert text[0] == str(videos[0]) and text[1].endswith(report.results[0][1][0].label)


def test_a_score_prints_as_one_line() -> None:
    assert str(LabelScore(label="left", index=0, probability=0.0712)) == "  7.1%  left"


def test_damaged_weights_are_an_error_not_a_label(model_folder: Path, tmp_path: Path) -> None:
    model = VJEPA2ForVideoClassification.from_pretrained(model_folder)
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    frames = torch.randint(0, 256, (16, 3, 48, 48), dtype=torch.uint8)
    processor = VJEPA2VideoProcessor.from_pretrained(model_folder)
    with pytest.raises(InputError, match="gave NaN or infinity"):
        classify(frames, model=model, processor=processor)


def test_arguments_of_a_wrong_kind(clip: Path, model_folder: Path) -> None:
    model = VJEPA2ForVideoClassification.from_pretrained(model_folder)
    classifier = make_classifier(model)
    assert_named(
        lambda value: make_classifier(model, top_k=value),
        allowed=lambda value: is_whole(value, least=1),
        error=ConfigError,
    )
    assert_named(lambda value: classify_files([clip], classifier=value), error=ConfigError)
    for files in (None, 3, "clip.mp4", b"clip.mp4", clip, [3], [None], [[clip]], object()):
        with pytest.raises(InputError, match=r"files must be a list|A file must be a path"):
            classify_files(files, classifier=classifier)
    with pytest.raises(ConfigError, match="quiet must be True or False"):
        classify_files([clip], classifier=classifier, quiet=1)
