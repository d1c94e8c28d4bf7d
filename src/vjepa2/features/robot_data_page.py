"""A page on the recordings of a robot: findings, ranges, and actions drawn over frames."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.data.episode_checks import Finding
from vjepa2.data.robot_spec import RobotSpec
from vjepa2.data.trajectories import Episode
from vjepa2.features.pictures import data_uri, encode_png
from vjepa2.features.report_page import escape, figure, page, paragraph, section, table
from vjepa2.files import atomic_path

NUM_FRAMES = 8
HEIGHT = 160  # of a picture of the page, in pixels
BARS = 42  # of the strip with bars below, in the same pixels
COLOURS = ("#2f6fde", "#d9822b", "#1d9a6c", "#b04fc0", "#c23b4b", "#7a7f8a", "#111111")


def write_robot_data_page(
    path: str | os.PathLike[str],
    *,
    summary: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    findings: Sequence[Finding],
    episode: Episode | None,
    spec: RobotSpec,
) -> Path:
    """Write the page, one HTML file.

    Args:
        summary: lines on the whole set.
        rows: of the table of states: name, least, most, span, spread of changes.
        findings: as they are to be listed.
        episode: whose frames are shown; None: no pictures.

    Raises:
        EpisodeError: its frames cannot be read.
        OutputError: the page cannot be written.
    """
    parts = ["<h1>Robot data</h1>", *(paragraph(line, kind="soft") for line in summary)]
    if findings:
        told = [
            (
                f"{'wrong' if item.serious else 'look'}: {item.cause}",
                item.episode,
                item.text,
                item.advice,
            )
            for item in findings
        ]
        parts.append(section("Findings", table(told)))
    else:
        parts.append(section("Findings", paragraph("Nothing wrong was found.", kind="good")))
    heads = ("state", "least", "most", "span", "spread of changes")
    parts.append(section("States", table(list(rows), heads=heads)))
    if episode is not None and episode.cameras and len(episode) > 1:
        parts.append(_pictures(episode, spec))
    with atomic_path(path) as temporary:
        temporary.write_text(page(title="Robot data", body="\n".join(parts)), encoding="utf-8")
    return Path(path)


def _pictures(episode: Episode, spec: RobotSpec) -> str:
    actions = spec.actions(spec.states(episode.states))
    largest = actions.abs().amax(dim=0).clamp(min=1e-9)
    count = min(NUM_FRAMES, len(actions))
    chosen = [round(at) for at in torch.linspace(0, len(actions) - 1, count).tolist()]
    frames = episode.frames(spec.camera, chosen)
    drawn = [
        figure(
            _drawing(frame, actions[index] / largest, spec),
            caption=f"{episode.times_seconds[index]:.2f} s",
        )
        for frame, index in zip(frames, chosen, strict=True)
    ]
    legend = ", ".join(
        f"{name} (full: {size:.3g})"
        for name, size in zip(spec.state_names, largest.tolist(), strict=True)
    )
    strip = f'<div class="strip" style="--columns:4">{"".join(drawn)}</div>'
    words = f"Bars, from the left: the action that follows, {legend}."
    if spec.kind != "joints":
        words += " The arrow is its x (right) and y (up), seen from above the robot."
    return section(f"Actions over frames: {episode.name}", strip, paragraph(words, kind="soft"))


def _drawing(frame: UInt8[Tensor, "3 H W"], action: Float[Tensor, " A"], spec: RobotSpec) -> str:
    """A frame with its action, -1..1 in each number, as bars below and an arrow."""
    width = max(1, round(HEIGHT * frame.shape[2] / frame.shape[1]))
    small = F.interpolate(
        frame[None].float(),
        size=(HEIGHT, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0]
    picture = data_uri(encode_png(small.round().to(torch.uint8)), kind="image/png")
    middle, step = HEIGHT + BARS / 2, width / len(action)
    marks = [f'<line x1="0" y1="{middle}" x2="{width}" y2="{middle}" stroke="#888"/>']
    for at, value in enumerate(action.tolist()):
        tall = abs(value) * (BARS / 2 - 1)
        top = middle - tall if value > 0 else middle
        marks.append(
            f'<rect x="{at * step + 1:.1f}" y="{top:.1f}" width="{max(1.0, step - 2):.1f}" '
            f'height="{tall:.1f}" fill="{COLOURS[at % len(COLOURS)]}"/>'
        )
    if spec.kind != "joints":
        x, y = width / 2, HEIGHT / 2
        end_x, end_y = x + 0.4 * width * float(action[0]), y - 0.4 * HEIGHT * float(action[1])
        marks.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end_x:.1f}" y2="{end_y:.1f}" '
            'stroke="#ffd400" stroke-width="3"/>'
            f'<circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="4" fill="#ffd400"/>'
        )
    return (
        f'<svg viewBox="0 0 {width} {HEIGHT + BARS}" role="img" '
        f'aria-label="{escape("frame with its action")}">'
        f'<image href="{picture}" width="{width}" height="{HEIGHT}"/>{"".join(marks)}</svg>'
    )
