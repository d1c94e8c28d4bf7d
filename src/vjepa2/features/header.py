"""What a feature file says about itself beside its arrays: JSON, written and strictly read back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vjepa2._version import __version__
from vjepa2.errors import OutputError
from vjepa2.features.rows import ClipFeatures

HEADER_KEY = "vjepa2.features"
FORMAT_VERSION = 1

# safetensors and Parquet refuse to read headers of 100 million bytes.
MAX_HEADER_BYTES = 90_000_000

TEXT_FACTS = ("source", "stamp", "model")
TIME_FACTS = ("t_start", "t_end", "sees_until")
MAX_GRID_SIDE = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a feature file says about itself, without its arrays.

    Attributes:
        settings: all that decides what the features are (`Embedder.settings`).
        rows: for each row its fields but the arrays.
    """

    settings: dict[str, Any]
    rows: list[dict[str, Any]]


def header_text(rows: Sequence[ClipFeatures], settings: Mapping[str, Any]) -> str:
    """The header of `rows` as JSON.

    Raises:
        OutputError: too many rows to be read back from one file.
    """
    text = json.dumps(
        {
            "version": FORMAT_VERSION,
            "vjepa2": __version__,
            "settings": settings,
            "rows": [_facts(row) for row in rows],
        }
    )
    if len(text) > MAX_HEADER_BYTES:
        raise OutputError(
            f"{len(rows)} rows are too many for one file ({len(text)} bytes of header). "
            "Write a file per video: give a folder."
        )
    return text


def _facts(row: ClipFeatures) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(row, name) for name in (*TEXT_FACTS, *TIME_FACTS)}
    return facts | {
        "grid": list(row.grid),
        "pts_seconds": None if row.pts_seconds is None else list(row.pts_seconds),
    }


def read_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that JSON text holds; None for anything else, however damaged."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets in each other
        return None
    return values if isinstance(values, dict) else None


def parse_header(text: str | bytes, *, num_rows: int | None = None) -> Header | None:
    """Read what `header_text` wrote; None unless every field is there and of its kind.

    Args:
        text: of the header.
        num_rows: rows of the arrays it describes; None does not compare.
    """
    values = read_object(text)
    if values is None or values.get("version") != FORMAT_VERSION:
        return None
    settings, rows = values.get("settings"), values.get("rows")
    if not isinstance(settings, dict) or not isinstance(rows, list) or not rows:
        return None
    if num_rows not in (None, len(rows)) or not all(_is_row(facts) for facts in rows):
        return None
    return Header(settings=settings, rows=rows)


def _is_row(facts: object) -> bool:
    if not isinstance(facts, dict):
        return False
    grid, pts_seconds = facts.get("grid"), facts.get("pts_seconds", "missing")
    return (
        all(isinstance(facts.get(name), str) for name in TEXT_FACTS)
        and all(_is_time(facts.get(name, "missing")) for name in TIME_FACTS)
        and isinstance(grid, list)
        and len(grid) == 3
        and all(type(side) is int and 1 <= side <= MAX_GRID_SIDE for side in grid)
        and (pts_seconds is None or _is_times(pts_seconds))
    )


def _is_time(value: object) -> bool:
    return value is None or type(value) in (int, float)


def _is_times(value: object) -> bool:
    return isinstance(value, list) and all(type(time) in (int, float) for time in value)
