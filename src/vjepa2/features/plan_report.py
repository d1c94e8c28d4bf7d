"""The page of `vjepa2 plan`: two frames, the energy of movements, the true one and the planned one.

It is made from the files in the folder alone.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vjepa2.errors import DataError, DataNotFoundError
from vjepa2.features.pictures import data_uri, encode_png
from vjepa2.features.report_page import escape, figure, page, paragraph, picture, section, table
from vjepa2.files import atomic_path

WORDS, ARRAYS, PAGE = "plan.json", "plan.safetensors", "plan.html"
CELL, MARGIN = 44, 46
LOW, HIGH = (18, 52, 120), (246, 242, 224)  # little energy is dark


def write_plan_report(folder: str | os.PathLike[str]) -> Path:
    """Write `plan.html` into a folder of `vjepa2 plan`.

    Raises:
        DataNotFoundError, DataError: the folder holds no plan, or a damaged one.
        OutputError: the page cannot be written.
    """
    place = Path(folder)
    if not (place / WORDS).is_file() or not (place / ARRAYS).is_file():
        raise DataNotFoundError(f"{place} holds no plan: run vjepa2 plan with --out {place}.")
    try:
        words = json.loads((place / WORDS).read_text(encoding="utf-8"))
        arrays = load_file(place / ARRAYS)
        body = _body(words, arrays)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"The plan in {place} is damaged: {error}") from error
    with atomic_path(place / PAGE) as temporary:
        temporary.write_text(page(title="Plan", body=body), encoding="utf-8")
    return place / PAGE


def _body(words: dict[str, Any], arrays: dict[str, Tensor]) -> str:
    frames = [
        figure(
            picture(
                data_uri(encode_png(frame.permute(2, 0, 1).contiguous()), kind="image/png"),
                description=caption,
            ),
            caption=caption,
        )
        for frame, caption in zip(arrays["frames"], ("now", "goal"), strict=True)
    ]
    points = {
        "true": words["true_action"],
        "least energy": words["best_action"],
        "planned": words["plan"]["actions"][0],
    }
    rows = [
        (name, *(f"{100 * value:+.1f} cm" for value in action[:3]), f"{action[6]:+.2f}")
        for name, action in points.items()
    ]
    # As published: summed over the movements along y.
    drawing = energy_map(arrays["energies"].sum(dim=1), words["axis_metres"], points)
    plan = words["plan"]
    return "\n".join(
        [
            "<h1>Energy of movements, and a plan</h1>",
            section("Frames", f'<div class="strip" style="--columns:2">{"".join(frames)}</div>'),
            section(
                "Energy",
                drawing,
                paragraph(
                    "Each cell is a movement along x and z, summed over those along y; dark is "
                    "little energy: the predicted features are near those of the goal. The least "
                    f"energy of all {words['num_points']} movements lies "
                    f"{words['offset_centimetres']:.1f} cm from the true one; "
                    f"{words['rank_of_nearest']} have less energy than the one nearest to it."
                ),
                table(rows),
                paragraph("Columns: x, y, z, gripper.", kind="soft"),
            ),
            section(
                "Planner",
                paragraph(
                    f"{plan['samples']} candidates in {plan['iterations']} iterations, "
                    f"{plan['seconds']:.2f} s; energy {plan['cost']:.4f}"
                    f"{'' if plan['complete'] else '; stopped by its deadline'}."
                ),
            ),
        ]
    )


def energy_map(
    energies: Float[Tensor, "x z"], axis: Sequence[float], points: dict[str, Sequence[float]]
) -> str:
    """SVG of energies over movements along x (to the right) and z (upwards), with marked actions.

    Actions beyond the grid are drawn at its edge.
    """
    count = len(axis)
    side = count * CELL
    low, span = energies.min().item(), (energies.max() - energies.min()).item() or 1.0
    parts = []
    for column in range(count):
        for row in range(count):
            value = energies[column, row].item()
            share = (value - low) / span
            colour = ",".join(
                str(round(a + (b - a) * share)) for a, b in zip(LOW, HIGH, strict=True)
            )
            title = f"x {100 * axis[column]:+.2f} cm, z {100 * axis[row]:+.2f} cm: {value:.4f}"
            parts.append(
                f'<rect x="{MARGIN + column * CELL}" y="{MARGIN + side - (row + 1) * CELL}" '
                f'width="{CELL}" height="{CELL}" fill="rgb({colour})">'
                f"<title>{escape(title)}</title></rect>"
            )
    step = axis[1] - axis[0]
    colours = {"true": "#1d9f5f", "least energy": "#d9822b", "planned": "#d0342c"}
    for number, (name, action) in enumerate(points.items()):
        across, up = (
            min(max((action[index] - axis[0]) / step + 0.5, 0.1), count - 0.1) * CELL
            for index in (0, 2)
        )
        parts.append(
            f'<circle cx="{MARGIN + across:.1f}" cy="{MARGIN + side - up:.1f}" '
            f'r="{10 - 3 * number}" fill="none" stroke="{colours[name]}" stroke-width="3">'
            f"<title>{escape(name)}</title></circle>"
        )
        parts.append(
            f'<text x="{MARGIN + 100 * number}" y="20" fill="{colours[name]}">{escape(name)}</text>'
        )
    for words, x, y in (
        ("x: -", MARGIN, MARGIN + side + 20),
        ("+", MARGIN + side - 10, MARGIN + side + 20),
        ("z: -", 10, MARGIN + side),
        ("+", 24, MARGIN + 12),
    ):
        parts.append(f'<text x="{x}" y="{y}" fill="currentColor">{words}</text>')
    size = side + 2 * MARGIN
    return (
        f'<svg viewBox="0 0 {max(size, MARGIN + 300)} {size}" role="img" '
        'aria-label="Energy of movements along x and z" style="max-width:26rem;width:100%" '
        f'font-size="14">{"".join(parts)}</svg>'
    )
