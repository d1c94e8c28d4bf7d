"""Importing the package does nothing but define names: no torch, no time, no side effects."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "av", "transformers", "huggingface_hub", "pydantic")


def heavy_after(statement: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import vjepa2", "import vjepa2.cli.main", "dir(__import__('vjepa2'))"]
)
def test_quick_imports_load_nothing_heavy(statement: str) -> None:
    assert heavy_after(statement) == set()


def test_the_test_can_fail() -> None:
    assert "torch" in heavy_after("from vjepa2 import VJEPA2Model")


def test_models_need_neither_transformers_nor_a_video_decoder() -> None:
    loaded = heavy_after("from vjepa2 import VJEPA2Model, VJEPA2VideoProcessor, AutoModel")
    assert loaded.isdisjoint({"transformers", "av"})


def test_importing_leaves_random_numbers_and_threads_alone() -> None:
    code = (
        "import torch\n"
        "torch.manual_seed(0); state = torch.get_rng_state(); threads = torch.get_num_threads()\n"
        "import vjepa2\n"
        "from vjepa2 import *\n"
        "assert torch.equal(state, torch.get_rng_state())\n"
        "assert threads == torch.get_num_threads()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
