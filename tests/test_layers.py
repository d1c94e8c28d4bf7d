"""Imports go one way: a module imports only from rows below its own (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "vjepa2"

# Bottom row first. A package of one row never imports another package of the same row, except
# where the row is one package.
ROWS = [
    {
        *("errors", "shapes", "runtime", "strict_config", "protocols", "files", "progress"),
        *("numbered_random", "norms", "packing", "poses", "_version"),
    },
    {"weights"},
    {"video", "nn", "masking", "losses", "ema", "scoring", "planning"},
    {"models"},
    {"data"},
    {"training", "simulation"},
    {"features", "tasks"},
    {"recipes"},
    {"cli", "serving"},
]
FORBIDDEN = [("serving", "tasks"), ("planning", "models"), ("nn", "video"), ("video", "nn")]


def row_of(name: str) -> int:
    for number, names in enumerate(ROWS):
        if name in names:
            return number
    raise AssertionError(f"{name!r} has no row: add it to ROWS and to docs/architecture.md")


def imported_parts(text: str) -> set[str]:
    """Top-level parts of vjepa2 that a module's text imports, also inside functions."""
    parts = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "vjepa2" and len(pieces) > 1:
                parts.add(pieces[1])
    return parts


def violations(own: str, text: str) -> list[str]:
    found = []
    for part in imported_parts(text) - {own}:
        if (SOURCE / part).is_dir() or (SOURCE / f"{part}.py").exists():
            if own in ROWS[0] and part in ROWS[0]:
                continue
            if row_of(part) >= row_of(own) or (own, part) in FORBIDDEN:
                found.append(f"{own} imports {part}")
    return found


MODULES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if path.parent != SOURCE or path.stem != "__init__"
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert violations(own, path.read_text()) == []


def test_the_test_can_fail() -> None:
    assert violations("video", "from vjepa2.models.encoder import VJEPA2Encoder")
    assert violations("nn", "def f():\n    import vjepa2.video.frames")
    assert not violations("models", "from vjepa2.nn.block import Block")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_readable_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
