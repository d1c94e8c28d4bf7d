"""Learning to anticipate, from list to table and model; it goes on where it stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tiny_models import randomise, tiny_config
from vjepa2.cli.main import app
from vjepa2.data.labelled import LabelledSet, LabelMap
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointMismatchError,
    ConfigError,
    DtypeError,
    LabelError,
    LeakError,
    ListError,
    VJEPAError,
)
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.anticipate import recipes, run_config
from vjepa2.scoring.accuracy import class_mean_recall_at_k
from vjepa2.tasks.anticipate import learn_to_anticipate
from vjepa2.tasks.anticipate_answers import score_events
from vjepa2.tasks.anticipate_config import AnticipateConfig
from vjepa2.tasks.anticipate_scores import probabilities, rows_text
from vjepa2.tasks.anticipator_folder import has_fresh_predictor, load_anticipator
from vjepa2.tasks.fooling_times import time_findings
from vjepa2.tasks.probe_folder import TrainedOn
from vjepa2.tasks.scored import ScoredSet
from vjepa2.training.checkpoint_folder import steps_in
from vjepa2.video.reader import VideoReader
from vjepa2.video.synthetic_grammar import GrammarConfig
from vjepa2.video.synthetic_grammar_files import write_grammar_videos

# Every action follows every other often enough to be in all sets.
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
    "batch_size=16",
    "runtime.checkpoint_every=3",
]
FRESH: dict[str, Any] = {
    "hidden_size": 24,
    "num_layers": 1,
    "num_heads": 2,
    "pred_hidden_size": 24,
    "pred_num_layers": 1,
    "pred_num_heads": 2,
    "patch_size": 16,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of events and a tiny encoder."""
    made = tmp_path_factory.mktemp("anticipate")
    for name, count, seed in (("train", 4, 0), ("val", 2, 1)):
        write_grammar_videos(
            made / name, count=count, seed=seed, config=GRAMMAR, seconds=16, quiet=True
        )
    randomise(VJEPA2Model(tiny_config())).save_pretrained(made / "encoder")
    return made


def config_of(folder: Path, *settings: str, recipe: str = "small") -> AnticipateConfig:
    return run_config(
        folder / "none",
        train=str(folder / "train" / "events.csv"),
        val=str(folder / "val" / "events.csv"),
        model=None if recipe == "from_scratch" else str(folder / "encoder"),
        recipe=recipe,
        settings=[*SETTINGS, *settings],
    )


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run with a frozen encoder."""
    made = folder / "run"
    config = config_of(folder, "horizons=[0.5,1.0]")
    learn_to_anticipate(config, made, quiet=True)
    return made


def answers(folder: Path, run: Path) -> ScoredSet:
    """What the model of a run says of the validation events."""
    model = load_anticipator(run)
    val = read_labelled(folder / "val" / "events.csv", label_map=model.label_map)
    return score_events(model, val, quiet=True)


def test_every_number_stands_beside_ablations_chance_and_prior(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    names = ["encoder only", "predictor only", "both", "chance", "label prior"]
    got = [(row["seconds"], row["head"], row["name"]) for row in results["rows"]]
    assert got == [
        (seconds, head, name)
        for seconds in (0.5, 1.0)
        for head in ("verb", "noun", "action")
        for name in names
    ]
    chance = {row["head"]: row["accuracy"] for row in results["rows"] if row["name"] == "chance"}
    assert chance == {"verb": 1 / 2, "noun": 1 / 3, "action": 1 / 6}
    by_name = {row["name"]: row for row in results["rows"][-5:]}
    assert by_name["both"]["k"] == 5 and by_name["chance"]["recall"] == pytest.approx(5 / 6)
    low, high = by_name["both"]["accuracy_interval"]
    assert low <= by_name["both"]["accuracy"] <= high
    assert results["anchor"] == "start" and results["chosen_on"] == "validation"


def test_the_prior_is_that_of_training(folder: Path, run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    rows = (folder / "train" / "events.csv").read_text().splitlines()[1:]
    verbs = [line.split(",")[3] for line in rows]
    commonest = max(set(verbs), key=verbs.count)
    val = (folder / "val" / "events.csv").read_text().splitlines()[1:]
    # Events that begin at 1 s have no context of 1 s before them.
    kept = [line.split(",")[3] for line in val if float(line.split(",")[1]) >= 1.25]
    (prior,) = [
        row["accuracy"]
        for row in results["rows"]
        if (row["seconds"], row["head"], row["name"]) == (0.5, "verb", "label prior")
    ]
    assert prior == pytest.approx(kept.count(commonest) / len(kept))


def test_a_run_that_is_stopped_goes_on_to_the_same_model(folder: Path, run: Path) -> None:
    other = folder / "stopped"
    config = config_of(folder, "horizons=[0.5,1.0]")
    part = learn_to_anticipate(config, other, stop_at=3, quiet=True)
    assert part.reason == "stop_at" and part.model is None
    assert "Go on:  vjepa2 anticipate --out" in str(part)
    stored = run_config(other)
    assert learn_to_anticipate(stored, other, quiet=True).reason == "finished"
    for name in ("results.json", "model/probe/model.safetensors"):
        assert (other / name).read_bytes() == (run / name).read_bytes(), name


def test_the_model_folder_is_complete(folder: Path, run: Path) -> None:
    loaded = load_anticipator(run)
    assert list(loaded.label_map.heads) == ["verb", "noun", "action"]
    assert loaded.settings.clips.num_frames == 4 and loaded.settings.loss == "focal"
    known = TrainedOn.load(run / "model")
    assert known.task == "anticipation" and len(known.item_hashes) == 4
    assert not (run / "model" / "encoder").exists()  # it is the user's, and stays where it is
    pixels = torch.randn(2, 4, 3, 32, 32)
    scores = loaded.network(pixels, 0.5).logits
    assert {head: tuple(value.shape) for head, value in scores.items()} == {
        "verb": (2, 2),
        "noun": (2, 3),
        "action": (2, 6),
    }


def test_a_predictor_that_never_learned_is_told(folder: Path, run: Path) -> None:
    assert has_fresh_predictor(VJEPA2Model(tiny_config()))
    assert not has_fresh_predictor(randomise(VJEPA2Model(tiny_config())))
    fresh = folder / "fresh"
    VJEPA2Model(tiny_config()).save_pretrained(fresh)
    config = config_of(folder).override([f"start_from={fresh}"])
    result = learn_to_anticipate(config, folder / "fresh_run", stop_at=1, quiet=True)
    assert "predictor of this model was never trained" in result.notes[0]
    notes = json.loads((run / "results.json").read_text())["notes"]
    assert not any("never trained" in note for note in notes)


def test_an_exchanged_encoder_is_noticed(folder: Path, run: Path, tmp_path: Path) -> None:
    randomise(VJEPA2Model(tiny_config()), seed=9).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="not the encoder and predictor that the probe"):
        load_anticipator(run, encoder=str(tmp_path / "other"))
    randomise(VJEPA2Model(tiny_config(hidden_size=48))).save_pretrained(tmp_path / "wide")
    with pytest.raises(ConfigError, match="not the encoder"):
        load_anticipator(run, encoder=str(tmp_path / "wide"))
    # The probe reads predicted tokens too, so the same encoder with another predictor will not do.
    model = VJEPA2Model.from_pretrained(folder / "encoder")
    with torch.no_grad():
        model.predictor.proj.bias.add_(1.0)
    model.save_pretrained(tmp_path / "half")
    with pytest.raises(ConfigError, match="not the encoder and predictor"):
        load_anticipator(run, encoder=str(tmp_path / "half"))
    target = tmp_path / "run"
    shutil.copytree(run, target)
    with pytest.raises(CheckpointFormatError, match="start_from_weights"):
        learn_to_anticipate(
            run_config(target).override([f"start_from={tmp_path / 'half'}"]), target, quiet=True
        )


def test_a_network_is_learned_along_and_kept_in_the_folder(folder: Path, tmp_path: Path) -> None:
    network = json.dumps({**FRESH})
    config = config_of(
        folder,
        f"network={network}",
        "probe.lrs=[0.01]",
        "schedule.lr=0.01",
        "ablations=false",
        recipe="from_scratch",
    )
    result = learn_to_anticipate(config, tmp_path / "run", quiet=True)
    assert {row.name for row in result.rows} == {"both", "chance", "label prior"}
    loaded = load_anticipator(tmp_path / "run" / "model")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        assert config.network is not None
        start = VJEPA2Model(config.network.network(crop_size=32, num_frames=4))
    learned = loaded.network.tokens.model
    for part in ("encoder.layer.0.mlp.fc1.weight", "predictor.layer.0.mlp.fc1.weight"):
        assert not torch.equal(learned.state_dict()[part], start.state_dict()[part])
    assert loaded.settings.loss == "cross_entropy"


def test_the_callers_random_numbers_go_on_and_the_table_is_whole(run: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    result = learn_to_anticipate(run_config(run), run, quiet=True)
    assert torch.equal(torch.rand(3), expected)
    text = rows_text(result.rows)
    assert len(text.splitlines()) == 1 + len(result.rows)
    assert "label prior" in text and "@5" in text
    assert LabelMap.load(run / "model").heads["verb"] == ("moves left", "moves right")


def test_recall_is_that_of_the_measures(folder: Path, run: Path) -> None:
    scored = answers(folder, run)
    scores, labels = scored.scores("action"), scored.labels("action")
    results = json.loads((run / "results.json").read_text())["rows"]
    (row,) = [
        row
        for row in results
        if (row["seconds"], row["head"], row["name"]) == (0.5, "action", "both")
    ]
    # Events that can be anticipated 0.5 s ahead, of which those were left out that cannot be 1 s.
    kept = torch.tensor([scored_item.item.start_seconds >= 1.25 for scored_item in scored.items])
    recall = class_mean_recall_at_k(scores[kept], labels[kept], 5)
    assert row["recall"] == pytest.approx(recall, abs=1e-9)
    assert row["count"] == int(kept.sum())


def test_scores_add_up_only_after_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0, 2.0]])
    torch.testing.assert_close(probabilities(logits, loss="focal"), logits.sigmoid())
    assert float(probabilities(logits, loss="cross_entropy").sum()) == pytest.approx(1.0)
    with pytest.raises(VJEPAError, match="not finite"):
        probabilities(torch.tensor([float("nan")]), loss="focal")


def test_the_published_anchor_is_told_and_found_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(
        folder, "clips.anchor=published", "clips.seconds=0.25", "schedule.epochs=1",
        "ablations=false", "probe.lrs=[0.001]",
    )  # fmt: skip
    result = learn_to_anticipate(config, tmp_path / "run")
    assert "Such numbers are no anticipation" in capsys.readouterr().err
    scored = answers(folder, tmp_path / "run")
    kinds = {finding.kind for finding in time_findings(scored.items, anticipation_seconds=0.25)}
    assert "context_after_event" in kinds
    assert "no anticipation" in str(result)
    # A script notices too; the same command on the finished run only looks again.
    again = CliRunner().invoke(app, ["anticipate", "--out", str(tmp_path / "run"), "--quiet"])
    assert again.exit_code == 1 and "error: " in again.stdout, again.output


def test_answers_of_the_strict_anchor_pass_every_look_at_times(folder: Path, run: Path) -> None:
    scored = answers(folder, run)
    findings = time_findings(scored.items, anticipation_seconds=0.5)
    assert [finding for finding in findings if finding.severity == "error"] == []


def test_events_in_frames_keep_their_ends(folder: Path, run: Path) -> None:
    """The same events, once in seconds and once in frames, give the same answers with ends."""
    val = folder / "val"
    header, *rows = (val / "events.csv").read_text().splitlines()
    with VideoReader(str(val / rows[0].split(",")[0])) as reader:
        fps = reader.metadata.average_fps
    lines = [header.replace("_seconds", "_frame")]
    for row in rows:
        path, start, end, *labels = row.split(",")
        lines.append(",".join([path, *(str(round(float(t) * fps)) for t in (start, end)), *labels]))
    (val / "frames.csv").write_text("\n".join(lines) + "\n")
    model = load_anticipator(run)
    in_frames, in_seconds = (
        score_events(model, read_labelled(val / name, label_map=model.label_map), quiet=True)
        for name in ("frames.csv", "events.csv")
    )
    assert len(in_frames) == len(in_seconds) > 0
    for one, other in zip(in_frames.items, in_seconds.items, strict=True):
        assert one.event_end_seconds == pytest.approx(other.item.end_seconds, abs=1e-6)
        assert one.event_start_seconds == pytest.approx(other.item.start_seconds, abs=1e-6)
    (item, *_) = in_frames.items
    bare = replace(in_frames.items[0].item, end_frame=None)
    scored = score_events(model, LabelledSet((bare,), model.label_map), quiet=True)
    assert item.event_end_seconds is not None and scored.items[0].event_end_seconds is None


# -- bad input ----------------------------------------------------------------------------------


def changed_list(folder: Path, tmp_path: Path, name: str, **values: str) -> Path:
    """A copy of a set whose first event is changed."""
    target = tmp_path / name
    shutil.copytree(folder / name, target)
    header, first, *rest = (target / "events.csv").read_text().splitlines()
    fields = dict(zip(header.split(","), first.split(","), strict=True)) | values
    lines = [header, ",".join(fields.values()), *rest]
    (target / "events.csv").write_text("\n".join(lines) + "\n")
    return target / "events.csv"


BAD_EVENTS: list[tuple[str, dict[str, str], type[VJEPAError], str]] = [
    ("val", {"start_seconds": "3", "end_seconds": "3"}, ListError, "3"),
    ("val", {"start_seconds": "300", "end_seconds": "301"}, LabelError, "outside the file"),
    ("val", {"label_action": "blue whale sings"}, LabelError, "blue whale sings"),
    ("val", {"label_verb": ""}, ListError, "head 'verb'"),
]


@pytest.mark.parametrize(("name", "values", "error", "words"), BAD_EVENTS)
def test_bad_events_are_named_before_anything_is_computed(
    folder: Path,
    tmp_path: Path,
    name: str,
    values: dict[str, str],
    error: type[VJEPAError],
    words: str,
) -> None:
    path = changed_list(folder, tmp_path, name, **values)
    config = config_of(folder, f"data.{name}={path}")
    with pytest.raises((error, LabelError), match=words):
        learn_to_anticipate(config, tmp_path / "run", quiet=True)
    assert not steps_in(tmp_path / "run" / "checkpoints")


def test_a_video_in_both_sets_is_found(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "val"
    shutil.copytree(folder / "val", target)
    shutil.copy(folder / "train" / "events-00000000.mp4", target / "events-00000001.mp4")
    config = config_of(folder, f"data.val={target / 'events.csv'}")
    with pytest.raises(LeakError, match=r"events-00000001\.mp4"):
        learn_to_anticipate(config, tmp_path / "run", quiet=True)


def test_one_class_only_is_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "train"
    shutil.copytree(folder / "train", target)
    text = (target / "events.csv").read_text()
    lines = [line for line in text.splitlines() if "moves right," in line or "label" in line]
    (target / "events.csv").write_text("\n".join(lines) + "\n")
    val = tmp_path / "val"
    shutil.copytree(folder / "val", val)
    text = (val / "events.csv").read_text()
    kept = [line for line in text.splitlines() if "moves right," in line or "label" in line]
    (val / "events.csv").write_text("\n".join(kept) + "\n")
    config = config_of(
        folder, f"data.train={target / 'events.csv'}", f"data.val={val / 'events.csv'}"
    )
    with pytest.raises(LabelError, match="one class only"):
        learn_to_anticipate(config, tmp_path / "run", quiet=True)


def test_features_that_are_not_finite_end_the_run(folder: Path, tmp_path: Path) -> None:
    model = randomise(VJEPA2Model(tiny_config()))
    with torch.no_grad():
        model.encoder.layer[0].mlp.fc1.bias.fill_(1e38)
        model.encoder.layer[0].mlp.fc2.weight.fill_(1e38)
    model.save_pretrained(tmp_path / "encoder")
    config = config_of(folder).override([f"start_from={tmp_path / 'encoder'}"])
    with pytest.raises(DtypeError, match="NaN or infinity"):
        learn_to_anticipate(config, tmp_path / "run", quiet=True)


def test_another_configuration_or_other_events_do_not_go_on(
    folder: Path, run: Path, tmp_path: Path
) -> None:
    target = tmp_path / "run"
    shutil.copytree(run, target)
    with pytest.raises((CheckpointMismatchError, CheckpointFormatError), match="batch_size"):
        learn_to_anticipate(run_config(target, settings=["batch_size=4"]), target, quiet=True)
    path = changed_list(folder, tmp_path, "val", start_seconds="3.3", end_seconds="3.8")
    config = run_config(target).override([f"data.val={path}"])
    with pytest.raises(CheckpointFormatError, match="not those that this run began with"):
        learn_to_anticipate(config, target, quiet=True)


WRONG: list[tuple[list[str], str]] = [
    (["learn=all"], "keep one of each"),
    (["horizons=[1,1]"], "twice"),
    (["horizons=[-1]"], "horizons"),
    (["runtime.compile=true"], "no effect here"),
    (['network={"hidden_size":24}'], "leave out one"),
    (["clips.train_seconds=[2,1]"], "rising"),
    (["loss=hinge"], "loss"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_settings_that_contradict_each_other_are_refused(
    folder: Path, settings: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?i){words}"):
        config_of(folder, *settings)


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run in"):
        run_config(tmp_path)
    with pytest.raises(ConfigError, match="data.train and data.val"):
        learn_to_anticipate(recipes()["ek100"](), tmp_path / "run")


def test_published_recipes_hold_the_published_numbers() -> None:
    assert set(recipes()) == {"ek100", "ek100_published_anchor", "from_scratch", "small"}
    config = recipes()["ek100"]()
    assert (config.clips.num_frames, config.clips.fps, config.clips.seconds) == (32, 8.0, 1.0)
    assert config.clips.train_seconds == (0.25, 1.75) and config.clips.anchor == "start"
    assert len(config.probe.grid) == 20 and config.probe.num_self_blocks == 3
    assert config.augment.flip == 0.5 and config.loss == "focal"
    assert config.future.mask_index == 1 and config.future.num_output_frames == 2
    published = recipes()["ek100_published_anchor"]()
    assert published.clips.anchor == "published" and published.clips.train_point == (0, 0.25)
