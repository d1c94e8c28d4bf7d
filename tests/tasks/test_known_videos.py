"""Evaluating on videos that a model was trained on, or chosen by, is told for every kind of run."""

import json
import shutil
from pathlib import Path

import pytest

from tiny_finetuning import tiny_finetuning, write_encoder, write_labelled
from tiny_models import randomise, tiny_config
from tiny_probing import tiny_probing
from vjepa2.data.labelled_lists import read_labelled
from vjepa2.data.splits import content_hashes
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.recipes.anticipate import run_config
from vjepa2.tasks.anticipate import learn_to_anticipate
from vjepa2.tasks.evaluation import evaluate
from vjepa2.tasks.evaluation_data import record_findings
from vjepa2.tasks.finetune import finetune
from vjepa2.tasks.fooling_files import HashedSet
from vjepa2.tasks.probe import probe
from vjepa2.tasks.probe_folder import TrainedOn
from vjepa2.video.synthetic_grammar import GrammarConfig
from vjepa2.video.synthetic_grammar_files import write_grammar_videos

QUICK = ("workers=0", "draws=100", "controls=[]")
REFUSED = {"evaluated_on_training_set"}
ABOUT = {"evaluated_on_training_set", "trained_on", "selected_on_these_videos"}
EXPECTED = {
    "train": {"evaluated_on_training_set"},
    "val": {"selected_on_these_videos"},
    "new": set(),
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of clips, and copies of them elsewhere: content tells what they are, not the path."""
    folder = tmp_path_factory.mktemp("known")
    made = {"encoder": write_encoder(folder / "encoder")}
    for seed, name in enumerate(EXPECTED):
        made[name] = write_labelled(folder / name, count=2, seed=seed)
        shutil.copytree(folder / name, folder / f"copy_{name}")
        made[f"copy_{name}"] = folder / f"copy_{name}" / "list.csv"
    return made


@pytest.mark.parametrize("kind", ["probe", "finetune"])
def test_a_classifier_knows_what_it_learned_from_and_was_chosen_by(
    lists: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    places = (lists["train"], lists["val"], lists["encoder"])
    if kind == "probe":
        probe(tiny_probing(*places, schedule={"epochs": 1}), tmp_path / "run", quiet=True)
    else:
        short = {"epochs": 1, "warmup_epochs": 0}
        finetune(tiny_finetuning(*places, schedule=short), tmp_path / "run", quiet=True)
    for name, expected in EXPECTED.items():
        result = evaluate(
            str(tmp_path / "run" / "model"),
            lists[f"copy_{name}"],
            tmp_path / name,
            settings=(*QUICK, f"allow={json.dumps(sorted(expected & REFUSED))}"),
            quiet=True,
        )
        assert {one.kind for one in result.findings} & ABOUT == expected


def test_a_model_that_anticipates_knows_them_too(tmp_path: Path) -> None:
    grammar = GrammarConfig(
        num_nouns=3,
        num_verbs=2,
        event_ticks=2,
        gap_shares=(1, 1),
        successor_shares=(0.3,),
        table_seed=16,
    )
    for name, count, seed in (("train", 4, 0), ("val", 2, 1), ("new", 1, 2)):
        folder = tmp_path / name
        write_grammar_videos(folder, count=count, seed=seed, config=grammar, seconds=16, quiet=True)
    randomise(VJEPA2Model(tiny_config())).save_pretrained(tmp_path / "encoder")
    config = run_config(
        tmp_path / "none",
        train=str(tmp_path / "train" / "events.csv"),
        val=str(tmp_path / "val" / "events.csv"),
        model=str(tmp_path / "encoder"),
        recipe="small",
        settings=[
            "clips.num_frames=2",
            "clips.train_seconds=[0.5,1.0]",
            "crop_size=32",
            "data.workers=0",
            "probe.lrs=[0.001]",
            "schedule.epochs=1",
            "schedule.warmup_epochs=0",
        ],
    )
    learn_to_anticipate(config, tmp_path / "run", quiet=True)
    trained_on = TrainedOn.load(tmp_path / "run" / "model")
    for name, expected in EXPECTED.items():
        copy = shutil.copytree(tmp_path / name, tmp_path / f"copy_{name}")
        labelled = read_labelled(copy / "events.csv", label_map=trained_on.label_map)
        hashes = content_hashes((item.path for item in labelled.items), quiet=True)
        found = record_findings(trained_on, HashedSet(labelled, hashes))
        assert {one.kind for one in found} == expected
