"""A model that anticipates on events it has not seen: all horizons, label columns and looks."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tiny_models import randomise, tiny_config
from vjepa2.data.event_clips import EventClip, event_clip
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.errors import ConfigError, LabelError, LeakError
from vjepa2.features.anticipation_report import write_table_page
from vjepa2.features.evaluation_report import write_evaluation_report
from vjepa2.features.run_report import run_summary, write_run_report
from vjepa2.features.run_report_data import read_run
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.anticipate import run_config
from vjepa2.scoring import class_mean_recall_at_k, mean_average_precision, top_k_accuracy
from vjepa2.tasks.anticipate import learn_to_anticipate
from vjepa2.tasks.anticipate_answers import EventAnswerer, score_events
from vjepa2.tasks.anticipator_folder import LoadedAnticipator, load_anticipator
from vjepa2.tasks.evaluation import evaluate
from vjepa2.tasks.evaluation_events import evaluate_events
from vjepa2.tasks.fooling_events import disturbed_future
from vjepa2.video.synthetic_grammar import GrammarConfig
from vjepa2.video.synthetic_grammar_files import write_grammar_videos

GRAMMAR = GrammarConfig(
    num_nouns=3,
    num_verbs=2,
    event_ticks=2,
    gap_shares=(1, 1),
    successor_shares=(0.3,),
    table_seed=16,
)
SETTINGS = [
    "clips.num_frames=4",
    "clips.train_seconds=[0.25,1.0]",
    "clips.seconds=0.5",
    "crop_size=32",
    "data.workers=0",
    "probe.lrs=[0.003,0.001]",
    "schedule.epochs=1",
    "horizons=[0.5,1.0]",
]
QUICK = ("draws=100", "workers=0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of events, a tiny encoder, and a finished run in `run`."""
    made = tmp_path_factory.mktemp("events")
    for name, count, seed in (("train", 3, 0), ("val", 2, 1), ("test", 2, 2)):
        write_grammar_videos(
            made / name, count=count, seed=seed, config=GRAMMAR, seconds=14, quiet=True
        )
    randomise(VJEPA2Model(tiny_config())).save_pretrained(made / "encoder")
    config = run_config(
        made / "none",
        train=str(made / "train" / "events.csv"),
        val=str(made / "val" / "events.csv"),
        model=str(made / "encoder"),
        recipe="small",
        settings=SETTINGS,
    )
    learn_to_anticipate(config, made / "run", quiet=True)
    return made


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> Path:
    result = evaluate(
        folder / "run" / "model",
        folder / "test" / "events.csv",
        folder / "evaluated",
        settings=QUICK,
        quiet=True,
    )
    assert result.is_sound, str(result)
    return folder / "evaluated"


def test_every_horizon_and_column_is_measured(folder: Path, evaluated: Path) -> None:
    values = json.loads((evaluated / "evaluation.json").read_text())
    expected = [(s, h) for s in (0.5, 1.0) for h in ("verb", "noun", "action")]
    assert [(row["seconds"], row["head"]) for row in values["horizons"]] == expected
    names = ["encoder only", "predictor only", "both", "chance", "label prior"]
    assert [(row["seconds"], row["head"], row["name"]) for row in values["rows"]] == [
        (*key, name) for key in expected for name in names
    ]
    # By hand, from scores that were made another way.
    model = load_anticipator(folder / "run")
    data = read_labelled(folder / "test" / "events.csv", label_map=model.label_map)
    for seconds in (0.5, 1.0):
        scored = score_events(model, data, seconds=seconds, quiet=True)
        kept = torch.tensor([(one.event_start_seconds or 0) >= 1.25 for one in scored.items])
        for head in ("verb", "noun", "action"):
            scores, labels = scored.scores(head)[kept], scored.labels(head)[kept]
            (row,) = [
                one
                for one in values["horizons"]
                if (one["seconds"], one["head"]) == (seconds, head)
            ]
            assert row["num_items"] == len(labels)
            assert row["top1"]["value"] == pytest.approx(top_k_accuracy(scores, labels))
            recall = class_mean_recall_at_k(scores, labels, 5)
            assert row["recall_at_5"]["value"] == pytest.approx(recall)
            precision = mean_average_precision(scores, labels)
            assert row["mean_average_precision"] == pytest.approx(precision, abs=1e-6)
            assert 0 <= row["ece"] <= 1 and row["top1"]["low"] <= row["top1"]["high"]


def test_time_to_event_is_counted_over_all_horizons(evaluated: Path) -> None:
    values = json.loads((evaluated / "evaluation.json").read_text())
    for rows in values["events"].values():
        assert sum(row["count"] for row in rows) == 2 * values["num_items"]
        # Contexts end at a frame, so they are early by less than one.
        assert {row["low"] for row in rows} <= {0.5, 1.0}
    assert values["num_disturbed"] == 2 and values["training"] == "recorded"


def test_ablations_are_those_of_the_training(folder: Path) -> None:
    """On the events that the run was measured on, every line of its table comes out again."""
    result = evaluate(
        folder / "run",
        folder / "val" / "events.csv",
        folder / "again",
        settings=QUICK,
        quiet=True,
    )
    assert "selected_on_these_videos" in {one.kind for one in result.findings}
    trained = json.loads((folder / "run" / "results.json").read_text())["rows"]
    for own, other in zip(result.values["rows"], trained, strict=True):
        for name in ("seconds", "head", "name", "k", "count"):
            assert own[name] == other[name]
        for name in ("accuracy", "recall"):
            assert own[name] == pytest.approx(other[name], abs=1e-9), own
    text = str(result)
    assert "label prior" in text and "encoder only" in text and "calibration error" in text


def test_a_killed_evaluation_goes_on_to_the_same_numbers(
    folder: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / "part"
    shutil.copytree(evaluated, out)
    lines = (out / "answers.jsonl").read_text().splitlines(keepends=True)
    kept = len(lines) // 3
    (out / "answers.jsonl").write_text("".join(lines[:kept]) + lines[kept][:40])
    (out / "evaluation.json").unlink()
    asked: list[int] = []
    real = EventAnswerer.logits

    def counted(self: EventAnswerer, pixels: torch.Tensor, seconds: torch.Tensor) -> object:
        asked.append(len(pixels))
        return real(self, pixels, seconds)

    monkeypatch.setattr(EventAnswerer, "logits", counted)
    data = folder / "test" / "events.csv"
    settings = [*QUICK, "disturbed=0", "batch_size=3"]
    evaluate(folder / "run" / "model", data, out, settings=settings, quiet=True)
    assert len(lines) - kept <= sum(asked) < len(lines) - kept + 3
    values, whole = (json.loads((one / "evaluation.json").read_text()) for one in (out, evaluated))
    for name in ("rows", "horizons", "events", "findings", "worst"):
        assert values[name] == whole[name], name


def test_the_page_shows_every_column_and_horizon(evaluated: Path) -> None:
    text = write_evaluation_report(evaluated).read_text()
    for words in ("0.5 s ahead", "1 s ahead", "encoder only", "label prior", "verb", "noun"):
        assert words in text
    assert "How long before the event?" in text and "data:image/png" in text
    assert "<script" not in text and "Does it need motion" not in text


def test_the_run_has_a_report(folder: Path, tmp_path: Path) -> None:
    text = write_run_report(folder / "run", path=tmp_path / "page.html").read_text()
    assert "Anticipation run" in text and "label prior" in text and "0.5 s ahead" in text
    summary = run_summary(read_run(folder / "run"))
    assert summary["task"] == "anticipation" and summary["damaged_lines"] == 0


def test_events_of_the_training_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="evaluated_on_training_set"):
        evaluate(
            folder / "run",
            folder / "train" / "events.csv",
            tmp_path / "out",
            settings=QUICK,
            quiet=True,
        )
    assert not (tmp_path / "out" / "answers.jsonl").exists()


def test_other_label_columns_and_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    text = (folder / "test" / "events.csv").read_text()
    other = folder / "test" / "other.csv"
    other.write_text(text.replace("label_noun", "label_tool"))
    with pytest.raises(LabelError, match="noun"):
        evaluate(folder / "run", other, tmp_path / "a", settings=QUICK, quiet=True)
    data = folder / "test" / "events.csv"
    for setting in ("horizons=[1,1]", "horizons=[-1]", "views.num_segments=2"):
        with pytest.raises(ConfigError):
            evaluate(folder / "run", data, tmp_path / "b", settings=[setting], quiet=True)


# -- looks for contexts that saw their event ---------------------------------------------------


def test_recorded_times_are_looked_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts that are said to end 0.6 s later than they should are an error of the result."""
    real = EventAnswerer.answers

    def late(self: EventAnswerer, *args: object, **kwargs: object) -> object:
        for found in real(self, *args, **kwargs):  # type: ignore[arg-type]
            clips = [
                EventClip(
                    frame_ids=clip.frame_ids,
                    seconds=clip.seconds,
                    context_end_seconds=clip.context_end_seconds + 0.6,
                    event_start_seconds=clip.event_start_seconds,
                    event_end_seconds=clip.event_end_seconds,
                )
                for clip in found.clips
            ]
            yield found._replace(clips=clips)

    monkeypatch.setattr(EventAnswerer, "answers", late)
    result = evaluate(
        folder / "run",
        folder / "test" / "events.csv",
        tmp_path / "out",
        settings=[*QUICK, "disturbed=0"],
        quiet=True,
    )
    assert not result.is_sound
    assert "context_after_event" in {one.kind for one in result.findings}


class _SeesTheFuture:
    """Stands in for `event_clip`: takes frames up to the end of the file."""

    def __init__(self, real: object) -> None:
        self.real = real

    def __call__(self, item: object, clock: object, config: object, **options: object) -> EventClip:
        clip: EventClip = self.real(item, clock, config, **options)  # type: ignore[operator]
        last = len(clock) - 1  # type: ignore[arg-type]
        return EventClip(
            frame_ids=(*clip.frame_ids[:-1], last),
            seconds=clip.seconds,
            context_end_seconds=clip.context_end_seconds,
            event_start_seconds=clip.event_start_seconds,
            event_end_seconds=clip.event_end_seconds,
        )


def test_frames_of_the_future_change_the_answer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are recorded rightly, the frames are others: only the noise shows it."""
    model = load_anticipator(folder / "run")
    data = read_labelled(folder / "test" / "events.csv", label_map=model.label_map)
    items = score_events(model, data, seconds=1.0, quiet=True).items
    clean = disturbed_future(model, items, seconds=1.0, folder=tmp_path / "clean")
    assert (clean.findings, clean.tried, clean.note) == ([], 2, "")
    assert not (tmp_path / "clean").exists()
    monkeypatch.setattr("vjepa2.data.event_loader.event_clip", _SeesTheFuture(event_clip))
    seen = disturbed_future(model, items, seconds=1.0, folder=tmp_path / "seen")
    (finding,) = seen.findings
    assert finding.kind == "future_changes_answer" and finding.count == 2
    none = disturbed_future(model, [], seconds=1.0, folder=tmp_path / "none")
    assert none.tried == 0 and "was not tried" in none.note


def test_training_ends_with_the_same_looks(folder: Path) -> None:
    results = json.loads((folder / "run" / "results.json").read_text())
    assert results["disturbed"] == 2
    assert [one for one in results["findings"] if one["severity"] == "error"] == []


def test_a_run_with_the_published_anchor_is_found_out(folder: Path, tmp_path: Path) -> None:
    config = run_config(
        tmp_path / "none",
        train=str(folder / "train" / "events.csv"),
        val=str(folder / "val" / "events.csv"),
        model=str(folder / "encoder"),
        recipe="small",
        settings=[*SETTINGS, "clips.anchor=published", "ablations=false", "horizons=[0.25]"],
    )
    result = learn_to_anticipate(config, tmp_path / "run", quiet=True)
    kinds = {one.kind for one in result.findings}
    assert {"context_after_event", "future_changes_answer"} <= kinds
    assert "error: context_after_event" in str(result)
    page = write_table_page(result.as_dict(), tmp_path / "page.html").read_text()
    assert "go on after their event has begun" in page
    assert "the model sees the future" in page
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {one["kind"] for one in stored["findings"]} == kinds
    bare: LoadedAnticipator = load_anticipator(tmp_path / "run")
    judged = evaluate_events(
        bare,
        read_labelled(folder / "test" / "events.csv", label_map=bare.label_map),
        tmp_path / "judged",
        settings=QUICK,
        quiet=True,
    )
    assert not judged.is_sound and "no anticipation" in str(judged)
    assert judged.values["training"] == "unknown"
