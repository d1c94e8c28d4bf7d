"""Every Python block and every `vjepa2` command in the README and the how-tos runs.

Names of published models stand for small random models of the same class here: the network is not
reached. The table of results holds what the result files say.
"""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vjepa2 import (
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.errors import RobotError
from vjepa2.simulation.arm import Arm
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import write_video

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "checkpoints.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
PUBLISHED = {
    "facebook/vjepa2-vitl-fpc64-256": VJEPA2Model,
    "facebook/vjepa2-vitl-fpc16-256-ssv2": VJEPA2ForVideoClassification,
}


def examples() -> list[Any]:
    """Python blocks and commands in the order of the pages: later ones use what earlier ones wrote.

    A command that stands on several pages runs once.
    """
    found, known = [], set()
    for page in PAGES:
        pieces = re.findall(
            r"^```(python|sh)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
        for number, (language, text) in enumerate(pieces):
            if language == "python":
                found.append(pytest.param(language, text, id=f"{page.stem}-{number}"))
                continue
            for line in text.splitlines():
                command = line.split("#")[0].strip()
                if line.startswith("vjepa2 ") and command not in known:
                    known.add(command)
                    found.append(pytest.param(language, command, id=command))
    return found


def skip_what_is_not_here(text: str) -> None:
    """The simulated arm needs an extra and graphics."""
    if "import gymnasium" in text:
        pytest.importorskip("gymnasium")
    if re.match("vjepa2 world-model (collect|drive|demo)", text):
        pytest.importorskip("pyarrow")
        if importlib.util.find_spec("mujoco") is None:
            pytest.skip("the extra sim is not installed")
        try:
            Arm().render(32)
        except RobotError as error:
            pytest.skip(f"no graphics here: {error}")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with short videos, some with labels, and small stand-ins for published models."""
    folder = tmp_path_factory.mktemp("readme")
    generator = torch.Generator().manual_seed(0)
    for name in ("clip.mp4", "other.mp4"):
        clip = make_motion_clip(
            "object moves left", num_frames=50, size=(72, 96), generator=generator
        )
        write_video(folder / name, clip)
    # Labelled: class folders, and a list of them.
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        lines = ["path,label"]
        for side in ("left", "right"):
            (folder / split / side).mkdir(parents=True)
            for number in range(count):
                clip = make_motion_clip(
                    f"object moves {side}", num_frames=16, size=(72, 96), generator=generator
                )
                write_video(folder / split / side / f"{number}.mp4", clip)
                lines.append(f"{split}/{side}/{number}.mp4,{side}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    (folder / "videos").mkdir()
    for name in ("clip.mp4", "other.mp4"):
        (folder / "videos" / name).write_bytes((folder / name).read_bytes())
    config = {
        "crop_size": 32, "patch_size": 16, "hidden_size": 48, "num_attention_heads": 2,
        "num_hidden_layers": 1, "pred_hidden_size": 24, "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1, "num_pooler_layers": 1,
    }  # fmt: skip
    for name, model_class in PUBLISHED.items():
        model_class(VJEPA2Config(**config)).save_pretrained(folder / name)
        VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder / name)
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize(("language", "text"), examples())
def test_example_runs(language: str, text: str, workspace: Path) -> None:
    skip_what_is_not_here(text)
    if language == "python":
        run([sys.executable, "-W", "error", "-c", text], workspace)
        return
    program = str(Path(sys.executable).with_name("vjepa2"))
    assert run([program, *shlex.split(text)[1:]], workspace).stdout


def test_there_are_examples_to_run() -> None:
    languages = [example.values[0] for example in examples()]
    assert languages.count("python") >= 5 and languages.count("sh") >= 4


def test_specifications_of_robots_are_what_they_say() -> None:
    page = (ROOT / "docs" / "how-to" / "my-robot.md").read_text()
    found = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    specs = [RobotSpec(**json.loads(text)) for text in found]
    assert [(spec.kind, spec.state_size) for spec in specs] == [
        ("arm_pose", 7),
        ("joints", 7),
        ("mobile_base", 3),
    ]


def test_evidence_is_what_the_card_says() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.evidence import BEGIN, END, PAGE, render
    finally:
        sys.path.remove(str(ROOT))
    assert PAGE.read_text().split(BEGIN)[1].split(END)[0].strip() == render().strip()


def test_evidence_with_labels_is_what_the_results_say() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.label_evidence import BEGIN, END, PAGE, render
    finally:
        sys.path.remove(str(ROOT))
    assert PAGE.read_text().split(BEGIN)[1].split(END)[0].strip() == render().strip()


def test_table_is_what_the_results_say() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.table import BEGIN, END, render
    finally:
        sys.path.remove(str(ROOT))
    readme = (ROOT / "README.md").read_text()
    assert readme[readme.index(BEGIN) + len(BEGIN) : readme.index(END)].strip() == render().strip()


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
