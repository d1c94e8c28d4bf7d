"""The evaluation as a whole: the answers, going on after a kill, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from evaluated_videos import NAMES, Videos, classifier, make_videos
from vjepa2.data.labelled import LabelledSet
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.views import ViewConfig, read_clips, spatial_views
from vjepa2.errors import ConfigError, LabelError, UnknownOptionError
from vjepa2.features.classify import classify
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.tasks.evaluation import evaluate
from vjepa2.tasks.evaluation_config import AS_IT_IS
from vjepa2.tasks.evaluation_model import load_evaluated

QUICK = ("workers=0", "draws=100")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    return make_videos(tmp_path_factory.mktemp("videos"))


def some(videos: Videos, name: str, count: int) -> Path:
    """A list of the first videos."""
    return videos.write(name, videos.rows()[:count])


def answers(folder: Path) -> dict[int, dict[str, list[float]]]:
    lines = (folder / "answers.jsonl").read_text().splitlines()
    return {row["index"]: row["scores"] for row in map(json.loads, lines)}


def test_answers_are_those_of_classify(videos: Videos, tmp_path: Path) -> None:
    """The default views of a classifier are what `vjepa2 classify` shows it."""
    data = some(videos, "four", 4)
    evaluate(videos.model, data, tmp_path / "out", settings=(*QUICK, "controls=[]"), quiet=True)
    for index, scores in answers(tmp_path / "out").items():
        path = videos.folder / videos.rows()[index][0]
        labels = classify(path, model=videos.model, top_k=6)
        expected = {score.index: score.probability for score in labels}
        found = dict(enumerate(scores[AS_IT_IS]))
        assert found == pytest.approx(expected, abs=2e-3)
        assert max(found, key=found.__getitem__) == labels[0].index


def test_several_segments_and_views_by_hand(videos: Videos) -> None:
    """Tokens of all segments of one view are read together; views are averaged."""
    ready = load_evaluated(videos.model, device="cpu")
    network = ready.network
    views = ViewConfig(num_frames=8, crop_size=32, num_segments=2, num_views=3)
    item = read_labelled(videos.val).items[0]
    pixels = spatial_views(read_clips(item, views).frames, views)
    found = ready.probabilities(pixels[None])
    by_view = []
    with torch.no_grad():
        for view in range(3):
            tokens = [
                network.vjepa2.encoder(pixels[segment, view][None]).last_hidden_state
                for segment in range(2)
            ]
            logits = network.classifier(network.pooler(torch.cat(tokens, dim=1)))
            by_view.append(logits.softmax(dim=-1))
    assert torch.allclose(found, torch.stack(by_view).mean(dim=0), atol=1e-5)


def test_task_that_needs_motion_is_told(videos: Videos, tmp_path: Path) -> None:
    data = some(videos, "eighteen", 18)
    result = evaluate(videos.model, data, tmp_path / "out", settings=QUICK, quiet=True)
    controls = result.values["controls"]
    assert controls["as_it_is"]["value"] > 0.9
    assert controls["first_frame"]["value"] < 0.5
    # Left becomes right: what is answered backwards is wrong nearly always.
    assert controls["reversed"]["value"] < 0.2
    assert result.values["motion"]["verdict"] == "motion"
    assert result.values["motion"]["sentence"].startswith("This task needs motion")
    assert result.values["training"] == "recorded" and "not known" not in str(result)
    assert result.is_sound and {one.kind for one in result.findings} == {"few_samples"}
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert stored == json.loads(json.dumps(result.values))
    assert stored["measures"]["baselines"]["chance"] == pytest.approx(1 / 6)
    assert sum(row["count"] for row in stored["measures"]["confused"]) == stored["num_items"] == 18
    text = str(result)
    assert "top-1" in text and "without looking" in text and "needs motion" in text
    # Finished: the same again computes nothing, and says the same.
    written = (tmp_path / "out" / "answers.jsonl").stat().st_mtime_ns
    again = evaluate(videos.model, data, tmp_path / "out", settings=QUICK, quiet=True)
    assert json.loads(json.dumps(again.values)) == stored
    assert (tmp_path / "out" / "answers.jsonl").stat().st_mtime_ns == written


def test_killed_evaluation_goes_on_to_the_same_numbers(videos: Videos, tmp_path: Path) -> None:
    data = some(videos, "nine", 9)
    settings = [*QUICK, "batch_size=1", "controls=[]"]
    whole = evaluate(videos.model, data, tmp_path / "whole", settings=settings, quiet=True)
    code = (
        "import sys; from vjepa2.tasks.evaluation import evaluate; "
        "evaluate(sys.argv[1], sys.argv[2], sys.argv[3], settings=sys.argv[4:], quiet=True)"
    )
    out = tmp_path / "killed"
    arguments = [sys.executable, "-c", code, str(videos.model), str(data), str(out), *settings]
    process = subprocess.Popen(arguments, env=os.environ | {"OMP_NUM_THREADS": "1"})
    path, limit = out / "answers.jsonl", time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    assert 3 <= before.count(b"\n") < 9
    path.write_bytes(before + b'{"index": 8, "scores": {"as_it_is": [0.1, 0.')  # cut off
    resumed = evaluate(videos.model, data, out, settings=settings, quiet=True)
    assert path.read_bytes().startswith(before)
    assert answers(out) == answers(tmp_path / "whole")
    assert resumed.values == whole.values


def test_answers_of_two_evaluations_are_not_mixed(videos: Videos, tmp_path: Path) -> None:
    data, out = some(videos, "three", 3), tmp_path / "out"
    settings = [*QUICK, "controls=[]"]
    evaluate(videos.model, data, out, settings=settings, quiet=True)
    with pytest.raises(ConfigError, match="another evaluation .*views"):
        evaluate(videos.model, data, out, settings=[*settings, "views.num_frames=8"], quiet=True)
    with pytest.raises(ConfigError, match="another evaluation .*items"):
        evaluate(videos.model, some(videos, "two", 2), out, settings=settings, quiet=True)
    other = classifier(NAMES)
    with torch.no_grad():
        other.classifier.bias[0] += 1
    with pytest.raises(ConfigError, match="weights"):
        evaluate(other, data, out, settings=settings, quiet=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        evaluate(videos.model, data, tmp_path / "full", settings=settings, quiet=True)


def test_other_videos_under_the_same_names_are_not_answered_with_the_old(
    videos: Videos, tmp_path: Path
) -> None:
    rows = videos.rows()[:3]
    paths = [videos.folder / row[0] for row in rows]
    for number, path in enumerate(paths):
        shutil.copy(path, tmp_path / f"{number}.mp4")
    data = tmp_path / "list.csv"
    lines = [f"{number}.mp4,{row[1]}" for number, row in enumerate(rows)]
    data.write_text("\n".join(["path,label", *lines]))
    settings = [*QUICK, "controls=[]"]
    evaluate(videos.model, data, tmp_path / "out", settings=settings, quiet=True)
    shutil.copy(paths[1], tmp_path / "0.mp4")
    with pytest.raises(ConfigError, match="another evaluation .*files"):
        evaluate(videos.model, data, tmp_path / "out", settings=settings, quiet=True)


def test_unreadable_files_are_named_and_counted(videos: Videos, tmp_path: Path) -> None:
    bad = videos.folder / "val" / "broken.mp4"
    bad.write_bytes(b"no video" * 50)
    rows = [*videos.rows()[:5], ["val/broken.mp4", NAMES[1]]]
    settings = [*QUICK, "controls=[]", "max_bad_share=0.5"]
    result = evaluate(
        videos.model, videos.write("broken", rows), tmp_path / "out", settings=settings, quiet=True
    )
    assert result.values["num_items"] == 5
    assert "broken.mp4" in result.values["unreadable"][0]
    kinds = {finding.kind: finding for finding in result.findings}
    assert "1 of 6 items have no answer" in kinds["answers_missing"].reason


def test_classes_that_the_model_does_not_know_are_refused(videos: Videos, tmp_path: Path) -> None:
    rows = [*videos.rows()[:3], [videos.rows()[4][0], "object dances"]]
    with pytest.raises(LabelError, match="object dances"):
        evaluate(videos.model, videos.write("odd", rows), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_models_without_a_trained_head_are_refused(tmp_path: Path, videos: Videos) -> None:
    classifier(NAMES).vjepa2.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ConfigError, match="no trained head"):
        evaluate(tmp_path / "encoder", videos.val, tmp_path / "out", quiet=True)


def test_settings_are_checked(videos: Videos, tmp_path: Path) -> None:
    with pytest.raises(UnknownOptionError, match="num_segments"):
        evaluate(videos.model, videos.val, tmp_path, settings=["views.num_segment=2"], quiet=True)
    with pytest.raises(ConfigError, match="Did you mean 'trained_on'"):
        evaluate(
            videos.model, videos.val, tmp_path / "out", settings=['allow=["traind_on"]'], quiet=True
        )


def test_a_set_in_memory_and_a_loaded_model(videos: Videos, tmp_path: Path) -> None:
    network = VJEPA2ForVideoClassification.from_pretrained(videos.model)
    whole = read_labelled(videos.val, label_map=load_evaluated(videos.model).label_map)
    part = LabelledSet(whole.items[:3], whole.label_map, "memory")
    result = evaluate(network, part, tmp_path / "out", settings=[*QUICK, "controls=[]"], quiet=True)
    assert result.values["data"] == "memory" and result.values["num_items"] == 3
    assert result.values["training"] == "unknown"
    assert "What the model was trained on is not known" in str(result)
