"""Scored sets: what is drawn together, measures of several heads, time to the event."""

import math

import pytest
import torch

from vjepa2.data.labelled import LabelledItem, LabelMap
from vjepa2.errors import LabelError, ShapeError
from vjepa2.tasks.evaluation_measures import event_tables, measures, surest_mistakes
from vjepa2.tasks.scored import ScoredItem, ScoredSet, group_numbers

HEADS = LabelMap({"verb": ("cut", "pour"), "noun": ("cup", "egg", "pan")})


def item(path: str, group: str = "") -> LabelledItem:
    return LabelledItem(path, (0,), group=group)


def test_groups_hold_what_belongs_together() -> None:
    items = [
        item("/a.mp4"), item("/a.mp4"), item("/b.mp4", "kitchen"), item("/c.mp4", "kitchen"),
        item("/d.mp4"), item("/copy.mp4"), item("/e.mp4", "hall"), item("/c.mp4", "hall"),
    ]  # fmt: skip
    hashes = {"/d.mp4": "same", "/copy.mp4": "same"}
    # One file; one group; one content; c.mp4 ties kitchen and hall together.
    assert group_numbers(items, hashes).tolist() == [0, 0, 1, 1, 2, 2, 1, 1]
    assert group_numbers(items, {}).tolist() == [0, 0, 1, 1, 2, 3, 1, 1]


def event(number: int, labels: tuple[int, int], verb: list[float], gap: float) -> ScoredItem:
    return ScoredItem(
        item=LabelledItem(f"/{number}.mp4", labels),
        scores={"verb": torch.tensor(verb), "noun": torch.tensor([0.2, 0.5, 0.3])},
        context_end_seconds=10.0 - gap,
        event_start_seconds=10.0,
    )


def scored() -> ScoredSet:
    items = (
        event(0, (0, 1), [0.9, 0.1], 0.3),
        event(1, (1, 1), [0.6, 0.4], 0.3),
        event(2, (1, 2), [0.2, 0.8], 1.2),
        event(3, (0, 0), [0.3, 0.7], 1.2),
    )
    return ScoredSet(label_map=HEADS, items=items, hashes={})


def test_every_head_is_measured_by_hand() -> None:
    found = measures(scored(), draws=100, prior_counts={"verb": torch.tensor([3, 1])})
    assert list(found) == ["verb", "noun"]
    assert found["verb"]["top1"]["value"] == 0.5 and found["noun"]["top1"]["value"] == 0.5
    assert found["verb"]["mean_class"]["value"] == 0.5
    assert found["noun"]["mean_class"]["value"] == pytest.approx((0 + 1 + 0) / 3)
    assert found["verb"]["baselines"]["majority_class"] == "cut"
    assert found["verb"]["baselines"]["from_training"]
    assert not found["noun"]["baselines"]["from_training"]
    assert found["verb"]["confused"][0]["count"] == 1
    assert [row["name"] for row in found["noun"]["classes"]] == ["cup", "egg", "pan"]
    for name in ("top1", "top5", "mean_class", "recall_at_5"):
        low, high = found["verb"][name]["low"], found["verb"][name]["high"]
        assert low <= found["verb"][name]["value"] <= high


def test_one_video_has_no_interval() -> None:
    whole = scored()
    one = ScoredSet(label_map=HEADS, items=whole.items[:1], hashes={})
    found = measures(one, draws=100)["verb"]["top1"]
    assert found == {"value": 1.0, "low": None, "high": None}


def test_logits_have_no_calibration() -> None:
    whole = scored()
    items = tuple(
        ScoredItem(item=one.item, scores={name: 9 * s for name, s in one.scores.items()})
        for one in whole.items
    )
    found = measures(ScoredSet(label_map=HEADS, items=items, hashes={}), draws=100)["verb"]
    assert found["ece"] is None and found["reliability"] == []
    assert found["top1"]["value"] == 0.5


def test_tables_by_time_to_the_event() -> None:
    tables = event_tables(scored().items, HEADS.heads, edges=(0.0, 1.0, 2.0, 3.0), k=1)
    verb = [
        (row["low"], row["count"], row["accuracy"], row["recall_at_k"]) for row in tables["verb"]
    ]
    assert verb == [(0.0, 2, 0.5, 0.5), (1.0, 2, 0.5, 0.5)]
    noun = [row["recall_at_k"] for row in tables["noun"]]
    assert noun == [1.0, 0.0]
    plain = ScoredItem(item=item("/x.mp4"), scores={})
    assert event_tables([plain], HEADS.heads) == {}


def test_the_surest_mistake_comes_first() -> None:
    rows = surest_mistakes(scored(), "verb", count=5)
    assert [(row["index"], row["label"], row["answer"]) for row in rows] == [
        (3, "cut", "pour"), (1, "pour", "cut")
    ]  # fmt: skip
    assert rows[0]["probability"] == pytest.approx(0.7)
    assert rows[0]["probability_of_label"] == pytest.approx(0.3)
    assert len(surest_mistakes(scored(), "verb", count=1)) == 1


def test_scores_have_to_fit_the_label_map() -> None:
    good = scored().items[0]
    with pytest.raises(ShapeError, match="'noun' has 3 classes; expected scores \\[3\\], got none"):
        bad = ScoredItem(item=good.item, scores={"verb": good.scores["verb"]})
        ScoredSet(label_map=HEADS, items=(bad,), hashes={})
    with pytest.raises(ShapeError, match=r"got \[2\]"):
        bad = ScoredItem(item=good.item, scores=dict.fromkeys(HEADS.heads, good.scores["verb"]))
        ScoredSet(label_map=HEADS, items=(bad,), hashes={})
    with pytest.raises(LabelError, match="1 labels for 2 heads"):
        bad = ScoredItem(item=item("/x.mp4"), scores=good.scores)
        ScoredSet(label_map=HEADS, items=(bad,), hashes={})
    assert math.isfinite(float(scored().scores("verb").sum()))
