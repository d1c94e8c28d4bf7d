"""The page of an evaluation: complete, without network or script; what was found comes first."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa2.errors import InputError
from vjepa2.features.evaluation_report import write_evaluation_report
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import H264, write_video

HOSTILE = "</script><script>alert(1)</script>&\"'"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Text and images of a page; fails at scripts, references and open tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.images: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "link", "object", "form"}
        values = dict(attrs)
        assert not any(name.startswith("on") or name == "href" for name in values)
        if "src" in values:
            self.images.append(str(values["src"]))
            assert str(values["src"]).startswith("data:image/png;base64,")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"rect", "circle", "line", *VOID}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def interval(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def values(video: str, *, num_classes: int = 3) -> dict[str, Any]:
    """An evaluation of a few numbers."""
    names = [HOSTILE, "pours", *(f"class {number}" for number in range(2, num_classes))]
    classes = [
        {
            "name": name, "count": 4, "answered": 4, "recall": 0.5, "recall_at_5": 1.0,
            "precision": 0.5, "mistaken_for": names[1], "mistaken_count": 2,
        }
        for name in names
    ]  # fmt: skip
    classes[1] |= {"recall": 0.25, "mistaken_for": None}
    mistake = {
        "index": 3, "path": video, "start_seconds": 0.5, "end_seconds": 1.5, "start_frame": None,
        "end_frame": None, "name": f"{video} (0.5 to 1.5 s)", "label": "pours", "answer": HOSTILE,
        "probability": 0.93, "probability_of_label": 0.02,
    }  # fmt: skip
    return {
        "model": "models/my probe", "data": "lists/val.csv", "head": "label", "version": "0.1",
        "training": "recorded",
        "num_items": 12, "num_videos": 6,
        "measures": {
            "num_classes": num_classes, "top1": interval(0.5, 0.25, 0.75),
            "top5": interval(1.0), "mean_class": interval(0.5, 0.3, 0.7),
            "recall_at_5": interval(0.9, 0.8, 1.0), "mean_average_precision": 0.66, "ece": 0.125,
            "reliability": [
                {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
                {"low": 0.5, "high": 1.0, "count": 12, "confidence": 0.8, "accuracy": 0.5},
            ],
            "baselines": {
                "chance": 1 / 3, "chance_at_5": 1.0, "majority": 0.4, "majority_class": "pours",
                "prior": 0.35, "prior_at_5": 1.0, "prior_recall_at_5": 1.0, "from_training": True,
            },
            "classes": classes,
            "confused": [
                {"label": HOSTILE, "answer": HOSTILE, "count": 2},
                {"label": HOSTILE, "answer": "pours", "count": 2},
            ],
        },
        "controls": {"as_it_is": interval(0.5), "first_frame": interval(0.45)},
        "motion": {
            "verdict": "one frame", "sentence": "This task does not need motion.", "falls": {},
        },
        "findings": [], "worst": [mistake], "unreadable": [], "notes": [],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clip = make_motion_clip(
        "object moves left", num_frames=16, size=(48, 320), generator=torch.Generator()
    )
    write_video(tmp_path / "v.mp4", clip, codec=H264(fps=8))
    return tmp_path


def written(folder: Path, content: dict[str, Any]) -> Page:
    (folder / "evaluation.json").write_text(json.dumps(content))
    path = write_evaluation_report(folder)
    assert path == folder / "report.html"
    text = path.read_text()
    assert "default-src 'none'" in text and "<script>alert" not in text
    return Page(text)


def test_the_page_says_the_numbers_and_shows_the_errors(folder: Path) -> None:
    page = written(folder, values(str(folder / "v.mp4")))
    for words in (
        "50.0 % (25.0 to 75.0) of the answers are right",
        "Top-5 100.0 %",
        "33.3 %, top-5 100.0 %",
        "prior counted on the training list",
        "40.0 % (pours)",
        "This task does not need motion.",
        "first frame only",
        "calibration error: 12.5 %",
        "answered as",
        "93.0 % (the label got 2.0 %)",
        "and none of the videos was trained on.",
    ):
        assert words in page.text, words
    # Four frames of the stretch, which holds frames at 0.5 .. 1.375 s.
    assert len(page.images) == 4
    assert "0.62 s" in page.text and "1.38 s" in page.text and "0.00 s" not in page.text
    # The worst class comes first.
    table = page.text[page.text.index("Class by class") :]
    assert table.index("pours") < table.index("alert")


def test_findings_stand_above_the_numbers_they_spoil(folder: Path) -> None:
    content = values(str(folder / "v.mp4"))
    content["findings"] = [
        {
            "kind": "trained_on", "severity": "error", "reason": "2 of 12 were trained on.",
            "count": 2, "examples": ["a.mp4", HOSTILE],
        }
    ]  # fmt: skip
    page = written(folder, content)
    assert "Do not quote this number" in page.text
    assert "error: trained on. 2 of 12 were trained on." in page.text
    assert page.text.index("Do not quote") < page.text.index("Top-1")


def test_videos_that_are_gone_are_said_and_the_rest_is_shown(folder: Path) -> None:
    content = values(str(folder / "gone.mp4"))
    content["unreadable"] = ["b.mp4: it is empty"]
    content["notes"] = ["3 files are missing"]
    content["training"] = "unknown"
    page = written(folder, content)
    assert page.images == [] and "cannot be shown now" in page.text
    assert "What this model was trained on is not known" in page.text
    assert "none of the videos was trained on" not in page.text
    assert "b.mp4: it is empty" in page.text and "3 files are missing" in page.text


def test_many_classes_become_a_table(folder: Path) -> None:
    content = values(str(folder / "v.mp4"), num_classes=60)
    page = written(folder, content)
    assert "Rows: labels" not in page.text and "How often" in page.text
    few = written(folder, values(str(folder / "v.mp4")))
    assert "Rows: labels" in few.text


def test_time_to_event_is_shown_where_it_was_measured(folder: Path) -> None:
    content = values(str(folder / "v.mp4"))
    row = {"low": 0.5, "high": 1.0, "count": 7, "accuracy": 0.25}
    content["events"] = {"verb": [row | {"accuracy_at_k": 0.75, "recall_at_k": 0.7}]}
    page = written(folder, content)
    assert "0.5 to 1 7 25.0 % 75.0 % 70.0 %" in page.text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"measures": {}}', '{"measures": 3}'])
def test_damaged_files_are_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(InputError, match=r"evaluation\.json is damaged"):
        write_evaluation_report(tmp_path)


def test_an_unfinished_evaluation_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unfinished one goes on"):
        write_evaluation_report(tmp_path)
