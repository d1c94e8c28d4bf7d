"""Every example runs and prints a number that means something."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
# What the example's main() returns, and the range it must fall in.
EXPECTED = {
    "01_embed_a_video": (0.2, 1.0),  # cosine similarity of two halves of one clip
    "02_name_the_motion": (0.3, 1.0),  # probability of the true label; chance is 1/17
    "03_predict_hidden_tokens": (32, 32),  # a quarter of 8 x 4 x 4 tokens
    "04_train_a_classifier": (0.9, 1.0),  # accuracy; chance is 1/2
    "05_segment_a_video": (0.8, 1.0),  # J; the first mask left where it is reaches 0.25
    "minimal_jepa": (0.3, 0.9),  # last loss over first
}


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_an_expectation() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = FOLDER / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 75
    low, high = EXPECTED[name]
    assert low <= load(path).main() <= high
    assert any(character.isdigit() for character in capsys.readouterr().out)
