"""Mistakes that make a number look good, injected into real videos, lists and answers.

Each is made once, and has to be found by its kind with a reason; without it nothing may be said.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluated_videos import NAMES, Videos, classifier, make_videos, trained_on
from vjepa2.data.event_clips import EventClipConfig, event_clip
from vjepa2.data.labelled import LabelledItem, LabelMap
from vjepa2.data.moments import Clock
from vjepa2.data.splits import content_hash
from vjepa2.errors import ConfigError, LeakError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.tasks.evaluation import evaluate
from vjepa2.tasks.evaluation_config import AS_IT_IS, EvaluationConfig
from vjepa2.tasks.evaluation_data import findings_before, read_evaluated, read_training
from vjepa2.tasks.evaluation_files import FileFacts
from vjepa2.tasks.evaluation_folder import Answer, AnswerFile
from vjepa2.tasks.evaluation_model import load_evaluated
from vjepa2.tasks.fooling import KINDS, Finding, refuse
from vjepa2.tasks.fooling_future import future_findings
from vjepa2.tasks.fooling_labels import numbering_findings
from vjepa2.tasks.fooling_pictures import copy_findings, picture_marks
from vjepa2.tasks.fooling_scores import (
    coverage_findings,
    level_findings,
    shape_findings,
    shortcut_findings,
)
from vjepa2.tasks.fooling_times import time_findings
from vjepa2.tasks.scored import ScoredItem
from vjepa2.video.reader import VideoReader
from vjepa2.video.writer import H264, write_video

AHEAD = 0.5  # seconds of anticipation
SETTINGS = ("workers=0", "controls=[]", "draws=100")


@dataclass(frozen=True)
class World:
    """Videos with a clean evaluation of them.

    Attributes:
        videos: lists and classifier.
        answered: folder of the clean evaluation.
        scratch: for what a test writes.
    """

    videos: Videos
    answered: Path
    scratch: Path

    def before(
        self,
        data: Path | None = None,
        *,
        model: Path | None = None,
        train: Path | None = None,
    ) -> list[Finding]:
        """All looks that need no answers."""
        folder = self.scratch / "before"
        folder.mkdir()
        ready = load_evaluated(model or self.videos.model, device="cpu")
        config = EvaluationConfig(views=ready.views, train=train and str(train))
        evaluated, findings = read_evaluated(data or self.videos.val, ready, config)
        training = read_training(ready, config)
        facts = FileFacts(folder, quiet=True)
        facts.read(evaluated.items, facts=True)
        if training is not None:
            facts.read(training.items, facts=False)
        return findings + findings_before(ready, evaluated, training, facts, config, quiet=True)

    def after(
        self, data: Path | None = None, *, model: VJEPA2ForVideoClassification | Path | None = None
    ) -> tuple[Finding, ...]:
        """The whole evaluation of the same videos, whose answers are there already."""
        folder = self.scratch / "after"
        shutil.copytree(self.answered, folder)
        result = evaluate(
            model or self.videos.model,
            data or self.videos.val,
            folder,
            settings=SETTINGS,
            quiet=True,
        )
        return result.findings

    def model_trained_on(self, **facts: object) -> Path:
        """A copy of the classifier that says something else of its training."""
        folder = self.scratch / "model"
        shutil.copytree(self.videos.model, folder)
        trained_on(self.videos, **facts).save(folder)  # type: ignore[arg-type]
        return folder

    def copied(self, source: str, target: str) -> str:
        """The path, in lists, of a copy of a video."""
        path = self.videos.folder / target
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        shutil.copyfile(self.videos.folder / source, path)
        return target

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, labels and groups of the clean evaluation."""
        labelled, _ = read_evaluated(
            self.videos.val, load_evaluated(self.videos.model, device="cpu"), EvaluationConfig()
        )
        lines = sorted(answers_in(self.answered).items())
        scores = torch.stack([answer.scores[AS_IT_IS] for _, answer in lines])
        return scores, torch.from_numpy(labelled.labels()), torch.arange(len(lines))

    def events(self, *, anchor: str = "start", start: float = 1.5) -> list[ScoredItem]:
        """Anticipations of one event in every video, with the contexts of the package's reader."""
        scores, _, _ = self.scores()
        config = EventClipConfig(num_frames=4, fps=8.0, seconds=AHEAD, anchor=anchor)  # type: ignore[arg-type]
        found = []
        for number, (path, label) in enumerate(self.videos.rows()):
            item = LabelledItem(
                str(self.videos.folder / path),
                (NAMES.index(label),),
                start_seconds=start,
                end_seconds=start + 1.0,
            )
            clip = event_clip(item, clock_of(item.path), config)
            found.append(
                ScoredItem(
                    item=item,
                    scores={"label": scores[number]},
                    context_end_seconds=clip.context_end_seconds,
                    event_start_seconds=clip.event_start_seconds,
                    event_end_seconds=start + 1.0,
                    anchor="start",
                )
            )
        return found


def answers_in(folder: Path) -> dict[int, Answer]:
    with AnswerFile(folder, json.loads((folder / "settings.json").read_text())) as answers:
        return dict(answers.known)


def clock_of(path: str) -> Clock:
    with VideoReader(path) as reader:
        facts = reader.metadata
        return Clock(
            pts_seconds=reader.pts_seconds,
            end_seconds=facts.end_stream_seconds,
            average_fps=facts.average_fps,
        )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("videos")
    videos = make_videos(folder)
    result = evaluate(videos.model, videos.val, folder / "out", settings=SETTINGS, quiet=True)
    assert result.values["measures"]["top1"]["value"] > 0.9
    assert result.findings == ()
    return World(videos, folder / "out", folder)


@pytest.fixture
def world(clean: World, tmp_path: Path) -> World:
    return replace(clean, scratch=tmp_path)


def durations(world: World) -> dict[str, float]:
    return {item.item.path: clock_of(item.item.path).end_seconds for item in world.events()}


# -- videos across splits ---------------------------------------------------------------------


def the_training_list_itself(world: World) -> Sequence[Finding]:
    return world.before(world.videos.train)


def a_copy_under_another_name(world: World) -> Sequence[Finding]:
    source, label = world.videos.rows("train")[3]
    rows = [*world.videos.rows(), [world.copied(source, "val/other-name.mp4"), label]]
    return world.before(world.videos.write("copied", rows))


def the_same_file_in_both_lists(world: World) -> Sequence[Finding]:
    rows = [*world.videos.rows(), world.videos.rows("train")[0]]
    return world.before(world.videos.write("both", rows))


def a_hard_link(world: World) -> Sequence[Finding]:
    source, label = world.videos.rows("train")[1]
    link = world.videos.folder / "val" / "link.mp4"
    link.unlink(missing_ok=True)
    os.link(world.videos.folder / source, link)
    return world.before(
        world.videos.write("linked", [*world.videos.rows(), ["val/link.mp4", label]])
    )


def another_stretch_that_overlaps(world: World) -> Sequence[Finding]:
    path, label = world.videos.rows("train")[2]
    header = "path,start_seconds,end_seconds,label"
    train = [[one, "0.0", "1.5", name] for one, name in world.videos.rows("train")]
    val = [[one, "0.0", "2.0", name] for one, name in world.videos.rows()]
    return world.before(
        world.videos.write("val-part", [*val, [path, "1.0", "2.5", label]], header),
        train=world.videos.write("train-part", train, header),
    )


def one_person_in_both(world: World) -> Sequence[Finding]:
    header = "path,label,group"
    train = [[*row, f"person {n % 3}"] for n, row in enumerate(world.videos.rows("train"))]
    val = [[*row, f"person {n % 3 + 2}"] for n, row in enumerate(world.videos.rows())]
    return world.before(
        world.videos.write("val-people", val, header),
        train=world.videos.write("train-people", train, header),
    )


def encoded_anew(world: World) -> Sequence[Finding]:
    source, label = world.videos.rows("train")[4]
    with VideoReader(str(world.videos.folder / source)) as reader:
        frames = reader[0 : len(reader)]
    smaller = torch.nn.functional.interpolate(frames.float(), size=(64, 64), mode="bilinear")
    path = world.videos.folder / "val" / "anew.mp4"
    write_video(path, smaller.round().to(torch.uint8), codec=H264(fps=12, crf=30))
    assert content_hash(path) != content_hash(world.videos.folder / source)
    rows = [*world.videos.rows(), ["val/anew.mp4", label]]
    return world.before(world.videos.write("anew", rows), train=world.videos.train)


def chosen_by_these_videos(world: World) -> Sequence[Finding]:
    return world.before(
        model=world.model_trained_on(details={"val": str(world.videos.val), "validation": 0.97})
    )


# -- inside the list --------------------------------------------------------------------------


def a_row_twice(world: World) -> Sequence[Finding]:
    rows = world.videos.rows()
    return world.before(world.videos.write("twice", [*rows, rows[7]]))


def one_video_under_two_names(world: World) -> Sequence[Finding]:
    path, label = world.videos.rows()[5]
    rows = [*world.videos.rows(), [world.copied(path, "val/again.mp4"), label]]
    return world.before(world.videos.write("again", rows))


def two_labels_for_one_video(world: World) -> Sequence[Finding]:
    rows = world.videos.rows()
    return world.before(world.videos.write("odd", [*rows, [rows[0][0], NAMES[3]]]))


# -- label maps -------------------------------------------------------------------------------


def saved_in_another_order(world: World) -> Sequence[Finding]:
    return world.before(model=world.model_trained_on(names=tuple(sorted(NAMES))))


def saved_numbers_shifted(world: World) -> Sequence[Finding]:
    return world.before(model=world.model_trained_on(names=(NAMES[-1], *NAMES[:-1])))


def saved_names_changed(world: World) -> Sequence[Finding]:
    names = ("object goes left", *NAMES[1:])
    return world.before(model=world.model_trained_on(names=names))


def label_map_beside_the_list(world: World) -> Sequence[Finding]:
    folder = world.scratch / "set"
    folder.mkdir()
    rows = [[str(world.videos.folder / path), label] for path, label in world.videos.rows()]
    (folder / "val.csv").write_text("path,label\n" + "".join(f"{p},{n}\n" for p, n in rows))
    LabelMap({"label": (*NAMES[2:], *NAMES[:2])[::-1]}).save(folder)
    return world.before(folder / "val.csv")


def names_shuffled_in_the_model(world: World) -> Sequence[Finding]:
    """As when id2label is written by hand: the answers are there, under other names."""
    order = (3, 0, 4, 1, 5, 2)
    model = classifier(NAMES)
    return with_names(world, model, [NAMES[number] for number in order])


def with_names(
    world: World, model: VJEPA2ForVideoClassification, names: list[str]
) -> Sequence[Finding]:
    folder = world.scratch / "renamed"
    shutil.copytree(world.videos.model, folder)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    model.config.save_pretrained(folder)
    (folder / "training.json").unlink()
    (folder / "labels.json").unlink()
    answered = world.scratch / "answered"
    shutil.copytree(world.answered, answered)
    text = (answered / "settings.json").read_text()
    (answered / "settings.json").write_text(text.replace(str(world.videos.model), str(folder)))
    return replace(world, answered=answered).after(model=folder)


def numbers_counted_from_one(world: World) -> Sequence[Finding]:
    rows = [[path, str((NAMES.index(label) + 1) % 6)] for path, label in world.videos.rows()]
    return world.after(world.videos.write("from-one", rows))


def two_classes_swapped(world: World) -> Sequence[Finding]:
    swap = {0: 1, 1: 0}
    rows = [
        [path, str(swap.get(NAMES.index(label), NAMES.index(label)))]
        for path, label in world.videos.rows()
    ]
    return world.after(world.videos.write("swapped", rows))


def labels_of_the_next_row(world: World) -> Sequence[Finding]:
    """In a list whose classes do not follow in turn: else it would be a shift of numbers."""
    scores, labels, groups = world.scores()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    assert not numbering_findings(scores[order], labels[order], groups, NAMES, head="label")
    return numbering_findings(scores[order], labels[order].roll(1), groups, NAMES, head="label")


def one_class_for_all(world: World) -> Sequence[Finding]:
    return world.before(world.videos.write("one", [[p, NAMES[0]] for p, _ in world.videos.rows()]))


def a_class_without_a_video(world: World) -> Sequence[Finding]:
    rows = [row for row in world.videos.rows() if row[1] != NAMES[2]]
    return world.before(world.videos.write("fewer", rows))


def hardly_any_videos(world: World) -> Sequence[Finding]:
    rows = world.videos.rows()
    return world.before(world.videos.write("few", [row for row in rows if row != rows[0]]))


# -- times of anticipation --------------------------------------------------------------------


def times(world: World, items: list[ScoredItem], ahead: float = AHEAD) -> Sequence[Finding]:
    return time_findings(items, anticipation_seconds=ahead, durations=durations(world))


def contexts_that_run_into_the_event(world: World) -> Sequence[Finding]:
    items = world.events()
    moved = [replace(one, context_end_seconds=one.context_end_seconds + 0.75) for one in items[:4]]
    return times(world, [*moved, *items[4:]])


def a_frame_too_many(world: World) -> Sequence[Finding]:
    """The last frame's beginning taken for its end."""
    items = world.events()
    return times(
        world, [replace(one, context_end_seconds=one.context_end_seconds + 1 / 8) for one in items]
    )


def counted_back_from_the_end(world: World) -> Sequence[Finding]:
    return times(world, world.events(anchor="published"))


def some_counted_from_the_end(world: World) -> Sequence[Finding]:
    return times(world, [*world.events()[:20], *world.events(anchor="published")[20:]])


def anchor_told_wrongly(world: World) -> Sequence[Finding]:
    """Short events, whose ends no time gives away: what was recorded does."""
    return times(world, [replace(one, anchor="published") for one in world.events()])


def frames_at_another_rate(world: World) -> Sequence[Finding]:
    """4 frames of 8 per second taken for half a second of 2 per second."""
    items = world.events(start=1.9)
    return times(
        world, [replace(one, context_end_seconds=one.context_end_seconds - 0.75) for one in items]
    )


def frames_taken_for_seconds(world: World) -> Sequence[Finding]:
    items = world.events()
    return times(
        world,
        [
            replace(
                one,
                event_start_seconds=(one.event_start_seconds or 0) * 8,
                event_end_seconds=(one.event_end_seconds or 0) * 8,
                context_end_seconds=(one.event_start_seconds or 0) * 8 - AHEAD,
            )
            for one in items
        ],
    )


def nothing_was_seen(world: World) -> Sequence[Finding]:
    items = world.events()
    early = replace(items[0], event_start_seconds=AHEAD, context_end_seconds=0.0)
    return times(world, [early, *items[1:]])


def the_event_goes_on_already(world: World) -> Sequence[Finding]:
    items = world.events()
    again = replace(
        items[0], event_start_seconds=0.5, event_end_seconds=1.5, context_end_seconds=0.0 + 1e-9
    )
    return times(world, [*items, again])


def nothing_recorded(world: World) -> Sequence[Finding]:
    items = world.events()
    return times(world, [replace(items[0], context_end_seconds=None), *items[1:]])


def frames_of_the_future(world: World, shift: float = 1.0) -> Sequence[Finding]:
    """Times are recorded rightly; the frames are others."""

    def answer(path: Path, moment: float) -> Tensor:
        with VideoReader(path) as reader:
            seen = (reader.pts_seconds < moment + shift - 1e-9).nonzero()[:, 0]
            return reader.get_frames_at(seen).data.float().mean(dim=(0, 2, 3))

    cases = [(str(world.videos.folder / path), 1.0) for path, _ in world.videos.rows()[:2]]
    return future_findings(answer, cases, folder=world.scratch / "future")


# -- answers ----------------------------------------------------------------------------------


def labels_by_lot(world: World) -> Sequence[Finding]:
    scores, labels, groups = world.scores()
    lot = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    return level_findings(scores, lot, groups, head="label", majority=1 / 6)


def better_than_can_be(world: World) -> Sequence[Finding]:
    scores, labels, groups = world.scores()
    return level_findings(scores, labels, groups, head="label", majority=1 / 6, best_possible=0.6)


def an_empty_input(world: World) -> Sequence[Finding]:
    scores, _, _ = world.scores()
    return shape_findings(scores[:1].expand_as(scores), ["x"] * len(scores), head="label")


def damaged_scores(world: World) -> Sequence[Finding]:
    scores, _, _ = world.scores()
    scores[4, 2] = math.nan
    return shape_findings(scores, [path for path, _ in world.videos.rows()], head="label")


def logits_for_probabilities(world: World) -> Sequence[Finding]:
    scores, _, _ = world.scores()
    return shape_findings(scores.log(), [path for path, _ in world.videos.rows()], head="label")


def a_padded_batch(world: World) -> Sequence[Finding]:
    names = [path for path, _ in world.videos.rows()]
    return coverage_findings(names, [*names, *names[:2]])


def videos_left_out(world: World) -> Sequence[Finding]:
    names = [path for path, _ in world.videos.rows()]
    return coverage_findings(names, names[3:])


def rates_that_tell_the_label(world: World) -> Sequence[Finding]:
    """Two sources: one class was filmed at another rate and size than the others."""
    rows = []
    for number, (path, label) in enumerate(world.videos.rows()):
        if label in NAMES[:3]:
            with VideoReader(str(world.videos.folder / path)) as reader:
                frames = reader[0 : len(reader)]
            path = f"val/rate-{number}.mp4"
            rate = (10, 12, 15)[NAMES.index(label)]
            write_video(world.videos.folder / path, frames, codec=H264(fps=rate))
        rows.append([path, label])
    return world.before(world.videos.write("rates", rows))


INJECTIONS: list[tuple[str, str, Callable[[World], Sequence[Finding]], str]] = [
    ("videos", "evaluated_on_training_set", the_training_list_itself, "All 12 evaluated items"),
    ("videos", "trained_on", a_copy_under_another_name, "1 of 31 .* same bytes"),
    ("videos", "trained_on", the_same_file_in_both_lists, "1 of 31"),
    ("videos", "trained_on", a_hard_link, "1 of 31"),
    ("videos", "overlaps_training_segment", another_stretch_that_overlaps, "1 evaluated stretch"),
    ("videos", "same_group", one_person_in_both, "'person 2'"),
    ("videos", "copy_of_training_video", encoded_anew, "1 of 31 .*encoded anew"),
    ("videos", "selected_on_these_videos", chosen_by_these_videos, "30 of 30 .* third set"),
    ("list", "duplicate_rows", a_row_twice, "1 rows are in the list more than once"),
    ("list", "same_content", one_video_under_two_names, "1 videos .* under several names"),
    ("list", "contradicting_labels", two_labels_for_one_video, "more than 30 of 31 rows"),
    ("labels", "labels_in_another_order", saved_in_another_order, "another order"),
    ("labels", "labels_shifted", saved_numbers_shifted, "shifted by"),
    ("labels", "labels_renamed", saved_names_changed, "'object goes left'"),
    ("labels", "labels_in_another_order", label_map_beside_the_list, "labels.json"),
    ("labels", "shuffled_label_map", names_shuffled_in_the_model, "6 classes are consistently"),
    ("labels", "labels_shifted", numbers_counted_from_one, r"moved by -1"),
    ("labels", "shuffled_label_map", two_classes_swapped, "2 classes are consistently"),
    ("labels", "rows_shifted", labels_of_the_next_row, "label of the next row"),
    ("labels", "one_class_only", one_class_for_all, "All 30 labels"),
    ("labels", "classes_missing", a_class_without_a_video, "1 of 6 classes"),
    ("labels", "few_samples", hardly_any_videos, r"1 of 6 classes .* fewer than 5"),
    ("times", "context_after_event", contexts_that_run_into_the_event, "4 of 30 .* up to 0.25 s"),
    ("times", "context_too_late", a_frame_too_many, r"down to 0\.375 s"),
    ("anchor", "anchored_at_stop", counted_back_from_the_end, "30 of 30 .* from the END"),
    ("anchor", "mixed_anchors", some_counted_from_the_end, "10 of 30 .* others from its start"),
    ("anchor", "anchored_at_stop", anchor_told_wrongly, "30 of 30"),
    ("anchor", "other_anticipation_time", frames_at_another_rate, "half of them by 1.2"),
    ("anchor", "event_outside_video", frames_taken_for_seconds, "taken for seconds"),
    ("times", "context_before_video", nothing_was_seen, "1 of 30 contexts end at or before"),
    ("times", "event_already_running", the_event_goes_on_already, "1 of 31 events"),
    ("times", "times_missing", nothing_recorded, "For 1 of 30"),
    ("times", "future_changes_answer", frames_of_the_future, "2 of 2 videos the answer changes"),
    ("answers", "not_above_majority", labels_by_lot, "always naming the commonest class"),
    ("answers", "above_the_best_possible", better_than_can_be, "60.0% is the most"),
    ("answers", "same_answer_for_all", an_empty_input, "All 30 items have the same scores"),
    ("answers", "not_finite", damaged_scores, "1 of 30"),
    ("answers", "not_probabilities", logits_for_probabilities, "30 of 30"),
    ("answers", "answers_repeated", a_padded_batch, "2 more answers than items"),
    ("answers", "answers_missing", videos_left_out, "3 of 30 items .* at most 90.0%"),
    ("answers", "label_in_the_file", rates_that_tell_the_label, "frames per second|length"),
]


# What else is rightly said of an injection.
BESIDES = {
    the_training_list_itself: {"few_samples"},
    another_stretch_that_overlaps: {"trained_on"},
    names_shuffled_in_the_model: {"not_above_majority"},
    numbers_counted_from_one: {"not_above_majority"},
    counted_back_from_the_end: {"context_after_event"},
    some_counted_from_the_end: {"context_after_event"},
}


@pytest.mark.parametrize(
    ("kind", "inject", "words"),
    [case[1:] for case in INJECTIONS],
    ids=[case[2].__name__ for case in INJECTIONS],
)
def test_injection_is_found_with_its_reason(
    kind: str, inject: Callable[[World], Sequence[Finding]], words: str, world: World
) -> None:
    found = {finding.kind: finding for finding in inject(world)}
    assert set(found) == {kind} | BESIDES.get(inject, set())
    assert re.search(words, found[kind].reason, re.DOTALL), found[kind].reason
    assert found[kind].count > 0


def test_every_kind_is_injected() -> None:
    assert {case[1] for case in INJECTIONS} == set(KINDS)
    assert len({case[2] for case in INJECTIONS}) == len(INJECTIONS)
    families = {"videos", "labels", "times", "anchor"}  # those of leakage
    assert len({case[1] for case in INJECTIONS if case[0] in families}) >= 20


# -- nothing is said of what is clean ---------------------------------------------------------


def test_nothing_is_said_of_what_is_clean(world: World) -> None:
    assert world.before(train=world.videos.train) == []
    assert world.after() == ()
    events = world.events()
    assert time_findings(events, anticipation_seconds=AHEAD, durations=durations(world)) == []
    assert frames_of_the_future(world, shift=0.0) == []


@pytest.mark.parametrize("accuracy", [0.2, 0.5, 0.8])
def test_a_weak_model_is_not_taken_for_a_shuffled_one(accuracy: float) -> None:
    generator = torch.Generator().manual_seed(int(100 * accuracy))
    groups, names = torch.arange(60), tuple(map(str, range(5)))
    said = 0
    for _ in range(20):
        labels = torch.randint(5, (60,), generator=generator)
        other = torch.randint(5, (60,), generator=generator)
        right = torch.rand(60, generator=generator) < accuracy
        scores = torch.nn.functional.one_hot(torch.where(right, labels, other), 5).double()
        said += bool(numbering_findings(scores, labels, groups, names, head="label"))
        facts = [{"length": str(int(number))} for number in other]
        said += bool(shortcut_findings(facts, labels, groups, head="label"))
    assert said == 0


def test_nothing_is_said_of_so_few_videos() -> None:
    """Of two videos both may fit the next row's labels better, which an interval takes as sure."""
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1])
    scores = torch.nn.functional.one_hot(1 - labels, 2).double()
    few, many = torch.arange(12) // 6, torch.arange(12)
    assert not numbering_findings(scores, labels, few, tuple("ab"), head="label")
    assert numbering_findings(scores, labels, many, tuple("ab"), head="label")


def test_a_list_sorted_by_class_is_not_taken_for_one_that_is_shifted() -> None:
    labels = torch.arange(5).repeat_interleave(12)
    scores = torch.nn.functional.one_hot(labels, 5).double()
    assert not numbering_findings(scores, labels, torch.arange(60), tuple("abcde"), head="label")


def test_plain_videos_that_look_alike_are_told_and_do_not_stop(world: World) -> None:
    """Two honest clips, of a small and of a larger dot on an even ground, share a mark."""
    paths = []
    for side in (14, 15):
        frames = torch.full((16, 3, 64, 64), 40, dtype=torch.uint8)
        for number in range(16):
            frames[number, :, 28 : 28 + side, 2 * number : 2 * number + side] = 220
        paths.append(world.scratch / f"dot-{side}.mp4")
        write_video(paths[-1], frames, codec=H264(fps=8))
    first, second = (picture_marks([str(path)], quiet=True) for path in paths)
    (found,) = copy_findings(first, second)
    assert (found.kind, found.severity) == ("copy_of_training_video", "warning")
    refuse([found])
    # The same bytes under another name stay an error.
    with pytest.raises(LeakError, match="trained_on"):
        refuse(a_copy_under_another_name(world))


# -- and what follows -------------------------------------------------------------------------


def test_errors_stop_an_evaluation_before_anything_is_computed(world: World) -> None:
    with pytest.raises(LeakError, match=r"--allow evaluated_on_training_set") as caught:
        evaluate(world.videos.model, world.videos.train, world.scratch / "out", quiet=True)
    assert "All 12 evaluated items" in str(caught.value)
    assert not (world.scratch / "out" / "answers.jsonl").exists()


def test_errors_are_raised_unless_their_kind_is_allowed() -> None:
    error = Finding.of("trained_on", "error", "Because.", ["a.mp4"])
    with pytest.raises(LeakError, match="trained_on: Because"):
        refuse([error])
    refuse([error], allow=["trained_on"])
    refuse([Finding("few_samples", "warning", "So few.")])
    with pytest.raises(ConfigError, match="Did you mean 'trained_on'"):
        refuse([], allow=["traind_on"])
