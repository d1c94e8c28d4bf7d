"""The report of a run: complete in itself, right about the run, and made of whatever is there."""

import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from tiny_pretraining import tiny_run, write_clips
from vjepa2.errors import InputError, OutputError, ShapeError
from vjepa2.features import run_report_words as words
from vjepa2.features.run_report import run_summary, write_run_report
from vjepa2.features.run_report_charts import LEFT, MAX_POINTS, RIGHT, WIDTH, Curve, chart, thinned
from vjepa2.features.run_report_data import read_lines, read_run
from vjepa2.masking import Masks
from vjepa2.shapes import TokenGrid
from vjepa2.tasks.pretrain import pretrain
from vjepa2.training.health_pictures import list_pictures, load_pictures, save_pictures

GRID = TokenGrid(2, 4, 4)
VOID = {"meta", "img", "br", "circle", "line", "polyline", "polygon"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps text and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def health_row(step: int, **changes: float) -> dict[str, Any]:
    numbers = {
        "teacher_token_rank": 20.0 + 0.1 * step,
        "student_token_rank": 20.0,
        "teacher_between": 0.5,
        "teacher_cosine": 0.9,
        "held_out_loss": 0.7,
        "copy_mean_loss": 0.8,
        "copy_nearest_loss": 0.9,
        "skill": 0.125,
        "target_variance": 0.9,
        "visible_targets": 0.0,
        "leak": 0.0,
        "pixel_change": 0.8,
        "pixel_contrast": 0.8,
        "ema_distance": 0.05 if step else 0.0,
    }
    return {"kind": "health", "step": step, **numbers, **changes}


def make_run(
    folder: Path, *, steps: int = 60, torn: bool = False, extra: tuple[dict[str, Any], ...] = ()
) -> Path:
    """A run whose loss falls, then rises, while the rank of the targets rises."""
    rows = [health_row(0)]
    for step in range(steps):
        loss = 0.6 + 0.4 * abs(step / steps - 0.4)
        rows.append({"kind": "step", "step": step, "loss": loss, "lr": 1e-3, "stall_share": 0.01})
        if (step + 1) % 20 == 0:
            rows.append(health_row(step + 1))
    rows += extra
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text + ('{"kind": "step", "st' if torn else ""))
    config = {"recipe": "tiny", "seed": 3, "schedule": {"num_steps": 90}, "health": {"patience": 2}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def add_pictures(run: Path, step: int, **changes: Any) -> Path:
    ids = torch.stack([torch.randperm(32) for _ in range(2)])
    values: dict[str, Any] = {
        "step": step,
        "grid": GRID,
        "frames": torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8),
        "teacher": torch.randn(2, 32, 12),
        "student": torch.randn(2, 32, 12),
        "masks": [Masks(ids[:, :8], ids[:, 8:20]), Masks(ids[:, 20:], ids[:, :5])],
    }
    return save_pictures(run, **{**values, **changes})


def read_page(path: Path) -> Page:
    return Page(path.read_text())


def test_a_page_of_a_whole_run(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "RUN",
        extra=({"kind": "event", "step": 30, "event": "resumed", "processes": 2},),
    )
    for step in (0, 20, 40):
        add_pictures(run, step)
    (run / "bad_files.jsonl").write_text(
        json.dumps({"path": "b.mp4", "reason": "no frames", "count": 7}) + "\n"
    )
    path = write_run_report(run)
    assert path == run / "report.html"
    page = read_page(path)
    assert page.addresses and all(each.startswith("data:image/png") for each in page.addresses)
    for text in (
        "60 of 90 updates",
        "It rises because the targets get richer (the rank of the targets went from 20 to 26)",
        "resumed",
        "processes: 2",
        "b.mp4",
        "no frames",
        "step 40",
        "What is hidden",
        "Best measurement so far: step 60",
    ):
        assert text in page.text, text
    assert "damaged" not in page.text
    # 2 clips x 2 steps in time, each a frame and two masks; and frame + 3 moments of 2 clips.
    assert len(page.addresses) == 2 * 2 * 3 + 4 * 2


def test_every_drawing_is_well_formed(tmp_path: Path) -> None:
    text = write_run_report(make_run(tmp_path)).read_text()
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 7
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # raises where it is not


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    run = make_run(
        tmp_path / "a<b>&",
        extra=(
            {"kind": "event", "step": 1, "event": bad, bad: bad},
            {"kind": "step", "step": 61, bad: 1.0},
        ),
    )
    (run / "bad_files.jsonl").write_text(json.dumps({"path": bad, "reason": bad}) + "\n")
    (run / "config.json").write_text(json.dumps({"recipe": bad, bad: bad}))
    text = write_run_report(run).read_text()
    assert "<script" not in text and "<b>" not in text
    assert html.escape(bad) in text
    assert bad in read_page(run / "report.html").text


def test_half_a_run_with_a_torn_line_and_without_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path, torn=True)
    whole = read_run(make_run(tmp_path / "whole"))
    torn = read_run(run)
    assert torn.damaged == 0 and torn.steps == whole.steps
    page = read_page(write_run_report(run))
    assert "no pictures so far" in page.text and "60 of 90 updates" in page.text


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    page = read_page(write_run_report(tmp_path))
    assert "Nothing was measured so far" in page.text and "0 updates" in page.text
    (tmp_path / "metrics.jsonl").write_text(json.dumps(health_row(0)) + "\n")
    (tmp_path / "config.json").write_text("{ torn")
    page = read_page(write_run_report(tmp_path))
    assert "Healthy" in page.text and "config.json is missing or damaged" in page.text


def test_damaged_lines_are_counted_and_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:
        file.write("not json\n[1]\n" + "[" * 5000 + "\n")
        file.write('{"kind": "other", "step": 1}\n{"kind": "step", "loss": 1}\n')
        file.write('{"kind": "step", "step": 60, "loss": "x", "lr": true, "big": 1' + "0" * 400)
        file.write("}\n")
    record = read_run(run)
    assert record.damaged == 5
    assert len(record.numbers("loss")) == 60 and record.numbers("big") == []
    assert "5 damaged lines left out" in read_page(write_run_report(run)).text


@pytest.mark.parametrize(
    "damaged",
    [
        '{"step": 2, "kind": ["x"]}',
        '{"step": 2, "kind": {"a": 1}}',
        f'{{"step": {"9" * 5000}, "kind": "health"}}',
        f'{{"step": {"9" * 400}, "kind": "health"}}',
        '{"step": 1e300, "kind": "step"}',
        '{"step": [2], "kind": "step"}',
        '{"a":' * 100_000,
    ],
    ids=["list", "object", "digits", "no float", "large", "step", "nesting"],
)
def test_any_damaged_line_is_counted_and_the_page_is_made(damaged: str, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(damaged + "\n")
    assert run_summary(read_run(run))["damaged_lines"] == 1
    assert "1 damaged lines left out" in read_page(write_run_report(run)).text


def test_numbers_that_are_not_finite_are_an_alarm_and_no_point(tmp_path: Path) -> None:
    run = make_run(tmp_path, extra=({"kind": "step", "step": 60, "loss": math.nan},))
    page = read_page(write_run_report(run))
    assert "Diverged" in page.text and "loss is nan" in page.text
    assert "nan" not in re.sub(r"<p.*?</p>|<td.*?</td>", "", (run / "report.html").read_text())


def test_null_stands_for_a_number_that_is_not_finite(tmp_path: Path) -> None:
    run = make_run(tmp_path, extra=(health_row(80) | {"student_variance": None},))
    assert run_summary(read_run(run))["state"] == "diverged"
    assert "student_variance is nan" in read_page(write_run_report(run)).text


def test_waiting_is_told_from_seconds(tmp_path: Path) -> None:
    rows = [
        {"kind": "step", "step": 60 + at, "loss": 0.7, "seconds": 2.0, "stall_seconds": 1.0}
        for at in range(60)
    ]
    run = make_run(tmp_path, steps=0, extra=(*rows, health_row(130)))
    page = read_page(write_run_report(run))
    assert "Training waited for data 50.0% of the time" in page.text
    assert run_summary(read_run(run))["state"] == "watch"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"event": "diverged", "loss": "nan"}, "ended after step 70: its loss was nan"),
        ({"event": "stopped", "reason": "alarm"}, "stopped itself after step 70"),
    ],
)
def test_how_a_run_ended_is_said_until_it_goes_on(
    event: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    end = {"kind": "event", "step": 70, **event}
    assert expected in read_page(write_run_report(make_run(tmp_path / "a", extra=(end,)))).text
    again = {"kind": "event", "step": 80, "event": "resumed"}
    run = make_run(tmp_path / "b", extra=(end, again))
    assert expected not in read_page(write_run_report(run)).text


def test_other_numbers_get_a_curve_if_they_vary(tmp_path: Path) -> None:
    rows = [
        {"kind": "step", "step": 60 + at, "loss": 0.7, "odd": 0.1 * at, "same": 3.0}
        for at in range(9)
    ]
    text = write_run_report(make_run(tmp_path, steps=0, extra=tuple(rows))).read_text()
    assert "<strong>odd</strong>" in text and "<strong>same</strong>" not in text


def test_alarms_are_those_of_the_monitor_with_the_patience_of_the_run(tmp_path: Path) -> None:
    dead = {"teacher_token_rank": 1.0, "student_token_rank": 1.0}
    run = make_run(tmp_path, extra=(health_row(80, **dead), health_row(100, **dead)))
    summary = run_summary(read_run(run))
    assert summary["state"] == "collapsed" and summary["alarms"] == 1
    assert "EMA closer to 1" in read_page(write_run_report(run)).text
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"health": {"patience": 3}}))
    assert run_summary(read_run(run))["state"] == "watch"


@pytest.mark.parametrize("name", ["nothing", "file", "empty"])
def test_a_folder_that_is_no_run_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"Give the folder .*--out"):
        write_run_report(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "RUN")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write_run_report(run, path=tmp_path / "file" / "page.html")


# -- pictures -------------------------------------------------------------------------------------


def test_pictures_are_read_back(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (6, 4, 3, 32, 32), dtype=torch.uint8)
    teacher, ids = torch.randn(6, 32, 5), torch.arange(6 * 7).reshape(6, 7) % 32
    path = add_pictures(
        tmp_path, 20, frames=frames, teacher=teacher, student=-teacher, masks=[Masks(ids, ids)]
    )
    add_pictures(tmp_path, 3)
    (tmp_path / "pictures" / "other.txt").write_text("")
    assert list(list_pictures(tmp_path)) == [3, 20] and list_pictures(tmp_path)[20] == path
    got = load_pictures(path)
    assert got.step == 20 and got.grid == GRID
    assert torch.equal(got.frames, frames[:4])
    assert torch.equal(got.teacher, teacher[:4].half().float())
    assert torch.equal(got.student, -got.teacher)
    assert torch.equal(got.masks[0].target_ids, ids[:4])


def test_a_full_disk_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("vjepa2.training.health_pictures.save_file", full)
    with pytest.raises(OutputError, match=r"step-0000003.*No space left"):
        add_pictures(tmp_path, 3)
    assert list((tmp_path / "pictures").iterdir()) == []


def test_a_damaged_picture_file_is_named_and_the_page_is_made(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    add_pictures(run, 0)
    broken = add_pictures(run, 20)
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        load_pictures(broken)
    text = read_page(write_run_report(run)).text
    assert "step-0000020.safetensors is no file of pictures" in text and "step 0" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": torch.zeros(2, 4, 3, 32, 32)},
        {"teacher": torch.zeros(2, 31, 4)},
        {"student": torch.zeros(1, 32, 4)},
        {"masks": [Masks(torch.zeros(1, 3).long(), torch.zeros(2, 3).long())]},
        {"masks": [Masks(torch.zeros(2, 3).long(), torch.full((2, 3), 32))]},
    ],
)
def test_pictures_that_do_not_fit_together_are_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ShapeError):
        add_pictures(tmp_path, 1, **changes)
    assert list_pictures(tmp_path) == {}


# -- curves and words -----------------------------------------------------------------------------


def test_a_curve_is_drawn_where_its_numbers_are() -> None:
    drawing = chart("x", [Curve("a", [(10, 1.0), (20, 3.0), (30, 2.0)])])
    points = re.findall(r'<polyline points="(.*?)"', drawing)
    assert len(points) == 1
    places = [tuple(map(float, each.split(","))) for each in points[0].split()]
    xs, ys = zip(*places, strict=True)
    assert xs == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    assert ys[2] == pytest.approx((ys[0] + ys[1]) / 2) and ys[1] < ys[2] < ys[0]


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0, 0.0], [-1e-30, 1e30], [1e-9, 2e-9]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_unusual_curves_are_drawn(values: list[float], logarithmic: bool) -> None:
    drawing = chart("x", [Curve("a", list(enumerate(values)))], logarithmic=logarithmic)
    assert "nan" not in drawing and "inf" not in drawing
    ElementTree.fromstring(re.findall(r"<svg.*</svg>", drawing)[0])


def test_an_empty_curve_is_no_chart() -> None:
    assert chart("x", [Curve("a", [])]) == ""


def test_long_curves_are_averaged_without_losing_peaks() -> None:
    points = [(step, float(step == 777)) for step in range(10_000)]
    rows = thinned(points)
    assert len(rows) <= MAX_POINTS
    assert max(high for *_, high in rows) == 1 and min(low for _, _, low, _ in rows) == 0
    size = math.ceil(10_000 / MAX_POINTS)
    assert rows[777 // size][1] == pytest.approx(1 / size)
    assert thinned(points[:5]) == [(step, 0.0, 0.0, 0.0) for step in range(5)]


def line(first: float, last: float, count: int = 40) -> list[tuple[int, float]]:
    return [(at, first + (last - first) * at / (count - 1)) for at in range(count)]


@pytest.mark.parametrize(
    ("loss", "rank", "skill", "expected"),
    [
        (line(0.5, 0.7), line(20, 35), 0.2, "rises because the targets get richer"),
        (line(0.8, 0.4, 20) + line(0.4, 0.6, 20), line(20, 35), 0.2, "fell first, then rose"),
        (line(0.5, 0.7), line(20, 20), 0.2, "harmless"),
        (line(0.5, 0.7), line(20, 5), 0.2, "not healthy"),
        (line(0.8, 0.4), line(20, 5), 0.0, "little is learned"),
        (line(0.8, 0.4), line(20, 10), 0.2, "targets became simpler"),
        (line(0.8, 0.4), line(20, 20), 0.2, "healthy"),
        (line(0.8, 0.8), line(20, 20), 0.2, "hardly changes"),
    ],
)
def test_words_about_the_loss(
    loss: words.Points, rank: words.Points, skill: float, expected: str
) -> None:
    assert expected in words.about_loss(loss, rank, [(0, skill)])


def test_the_better_trivial_predictor_is_named_with_what_it_saves() -> None:
    mean, nearest = [(0, 0.2)], [(0, 0.5)]
    fell, kept = line(0.8, 0.4), line(20, 20)
    # Loss 0.4 against 0.2: skill -1, and the mean costs half of it.
    said = words.about_loss(fell, kept, [(0, -1.0)], mean, nearest)
    assert "predicting the mean everywhere would cost 50% less" in said
    assert "hardly" not in said
    said = words.about_loss(fell, kept, [(0, -1.0)], nearest, mean)
    assert "copying the nearest visible token would cost 50% less" in said
    said = words.about_loss(fell, kept, [(0, 0.01)], mean, nearest)
    assert "predicting the mean everywhere would cost hardly more" in said
    assert "the better trivial predictor would cost 20% less" in words.about_loss(
        fell, kept, [(0, -0.25)]
    )
    assert "predicting the mean everywhere costs 50% less" in words.about_skill(
        [(0, -1.0)], mean, nearest
    )


def test_words_without_numbers_are_none() -> None:
    assert words.about_loss([(0, 1.0)], [], []) == ""
    assert "By itself" in words.about_loss(line(1, 2), [], [])
    assert words.about_rank([], []) == words.about_skill([], [], []) == ""
    assert words.about_variance([], []) == words.about_distance([]) == ""
    assert words.about_stall([]) == words.about_probe([], []) == ""


def test_words_about_other_curves() -> None:
    assert "does not lag behind at all" in words.about_distance([(0, 0.0), (1, 0.0)])
    assert "runs away" in words.about_distance([(0, 0.0), (1, 0.9)])
    assert "1 updates" in words.about_gradients([[*line(1, 1), (41, 50.0)]])
    assert "More workers" in words.about_stall([(0, 0.3)])
    assert "partial collapse" in words.about_rank(line(20, 5), line(20, 20))


def test_lines_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == ([], 0)


# -- a real run -----------------------------------------------------------------------------------


def test_a_page_of_a_run_of_the_trainer(tmp_path: Path) -> None:
    config = tiny_run(
        write_clips(tmp_path / "clips"), health={"every": 3}, masks=[{"num_blocks": 2}]
    )
    (tmp_path / "clips" / "bad.npy").write_bytes(b"no array")
    run = tmp_path / "RUN"
    pretrain(config, run, stop_at=6, quiet=True)
    half = run_summary(read_run(run))
    assert half["steps_done"] == 6 and half["state"] is not None
    result = pretrain(config, run, quiet=True)
    record = read_run(run)
    summary = run_summary(record)
    assert summary["steps_done"] == 12 and summary["damaged_lines"] == 0
    assert result.verdict is not None and summary["state"] == result.verdict.state
    assert [row["step"] for row in record.health] == [0, 3, 6, 9, 12]
    page = read_page(write_run_report(run))
    for text in ("12 of 12 updates", "recipe test", "resumed", "step 12", "Training waited"):
        assert text in page.text, text
    for name in ("Loss", "Effective rank", "Gradient norms", "Learning rate"):
        assert f"<strong>{name}</strong>" in (run / "report.html").read_text()
    if record.bad_files:
        assert "bad.npy" in page.text
