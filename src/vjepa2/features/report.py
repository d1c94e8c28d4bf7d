"""The page of the demonstration: the clip, the colours of its tokens, labels, times, and what to
make of them, as one HTML file without references to anything outside."""

import os
import platform
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from vjepa2._version import __version__
from vjepa2.features.demo import DemoResult
from vjepa2.features.pictures import data_uri, encode_png, enlarge, overlay
from vjepa2.features.report_page import (
    bars,
    code,
    escape,
    figure,
    film,
    page,
    paragraph,
    picture,
    section,
    table,
)
from vjepa2.files import atomic_path
from vjepa2.video.writer import H264, encode_video

MAX_COLUMNS = 8

# Films and pictures of tiny models are enlarged to this many pixels at least.
SMALLEST_SIDE = 192

FILM_SECONDS = 2.5
FILM_QUALITY = 20  # CRF


def write_report(path: str | os.PathLike[str], result: DemoResult) -> Path:
    """Write the page; it appears complete or not at all.

    Args:
        path: of the HTML file.
        result: from `run_demo`.

    Raises:
        OutputError: the file cannot be written.
    """
    name = result.video.name
    title = f"What the model sees in {name}"
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            paragraph(_facts(result), kind="soft"),
            paragraph(
                f"A neural network, {result.model.name}, watched this clip. This page shows what "
                "it takes the clip for, how it describes every part of it, and what that cost."
            ),
            _labels_section(result),
            _clip_section(result),
            _features_section(result),
            _times_section(result),
            _model_section(result),
            _next_section(result),
        ]
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page(title=title, body=body), encoding="utf-8")
    return Path(path)


def _facts(result: DemoResult) -> str:
    """One line on the file."""
    facts = result.metadata
    text = (
        f"{facts.num_frames} frames, {facts.duration_seconds:.2f} s, "
        f"{facts.width} x {facts.height} pixels, {facts.codec}"
    )
    return f"{text}. Painted by this demonstration." if result.made_label else f"{text}."


def _labels_section(result: DemoResult) -> str:
    if not result.labels:
        return section(
            "No labels",
            paragraph(
                f"{result.model.name} has no trained classification head: it gives features, and "
                "no names of what it sees."
            ),
        )
    best = result.labels[0]
    parts = [f'<p class="answer">{escape(best.label)}</p>']
    if result.made_label is not None:
        right = best.label == result.made_label
        kind = "good" if right else "bad"
        verdict = "the model is right" if right else "the model is wrong here"
        known = f"Painted into this clip: {result.made_label} - {verdict}."
        if result.made_label not in result.model.network.config.id2label.values():
            kind, known = "soft", f"Painted into this clip: {result.made_label}."
        parts.append(paragraph(known, kind=kind))
    parts += [
        bars([(score.label, score.probability) for score in result.labels]),
        paragraph(
            f"How sure the model is, for the {len(result.labels)} most probable of the "
            f"{result.model.network.config.num_labels} labels it knows. It chooses among those "
            "only, whatever the clip shows.",
            kind="soft",
        ),
    ]
    return section("What it shows, according to the model", *parts)


def _clip_section(result: DemoResult) -> str:
    grid, tubelet = result.row.grid, result.model.base.config.tubelet_size
    firsts = result.frames[: grid.t * tubelet : tubelet].cpu()
    count = min(MAX_COLUMNS, grid.t)
    steps = [index * grid.t // count for index in range(count)]
    scale = _scale(firsts)
    columns = [
        figure(
            picture(_png(firsts[step], scale=scale), description=f"frame at {_time(result, step)}"),
            picture(
                _png(result.colours.maps[step], scale=1),
                description=f"colours of the tokens at {_time(result, step)}",
                kind="cells",
            ),
            caption=_time(result, step),
        )
        for step in steps
    ]
    strip = f'<div class="strip" style="--columns:{count}">{"".join(columns)}</div>'
    side = result.model.base.config.patch_size
    shown = sum(result.colours.shares)
    width = result.row.embedding.shape[0]
    return section(
        "The clip, and what the encoder makes of it",
        film(
            data_uri(_film(result), kind="video/mp4"),
            caption="Left: the frames as the encoder gets them. Right: the colours of its tokens "
            "laid over them.",
        ),
        strip,
        paragraph(
            f"The encoder cuts the clip into {grid.num_tokens} pieces, each {tubelet} frames long "
            f"and {side} x {side} pixels large, and describes each of them by {width} numbers, a "
            "token. A token knows its surroundings: the encoder looks at all pieces of the clip "
            "at once."
        ),
        paragraph(
            "How to read the colours: the three directions in which the tokens of this clip "
            "differ most are shown as red, green and blue. Pieces of like colour are alike to the "
            "encoder, in all pictures on this page. A colour is not a label, and colours of two "
            f"reports cannot be compared. The three directions hold {shown:.0%} of all "
            "differences; the rest is not visible here."
        ),
    )


def _scale(frames: UInt8[Tensor, "t 3 h w"]) -> int:
    """Whole factor that brings small frames to a size that can be seen."""
    side = min(frames.shape[2:])
    return max(1, -(-SMALLEST_SIDE // side))


def _png(image: UInt8[Tensor, "3 h w"], *, scale: int) -> str:
    _, height, width = image.shape
    enlarged = enlarge(image[None].cpu(), height=height * scale, width=width * scale)[0]
    return data_uri(encode_png(enlarged), kind="image/png")


def _film(result: DemoResult) -> bytes:
    """An mp4 with the frames on the left, and on the right the colours of their step."""
    grid, tubelet = result.row.grid, result.model.base.config.tubelet_size
    frames = result.frames[: grid.t * tubelet].cpu()
    maps = result.colours.maps.repeat_interleave(tubelet, dim=0)[: len(frames)]
    both = torch.cat([frames, overlay(frames, maps)], dim=3)
    _, _, height, width = both.shape
    scale = _scale(frames)
    scale += scale * height % 2  # H.264 for every player needs even sizes; the width is even
    enlarged = enlarge(both, height=height * scale, width=width * scale)
    rate = max(2.0, len(frames) / FILM_SECONDS)
    return encode_video(enlarged, codec=H264(fps=rate, crf=FILM_QUALITY))


def _time(result: DemoResult, step: int) -> str:
    assert result.row.pts_seconds is not None
    return f"{result.row.pts_seconds[step]:.2f} s"


def _features_section(result: DemoResult) -> str:
    row = result.row
    assert row.tokens is not None
    grid, width = row.grid, row.embedding.shape[0]
    rows = [
        (
            "Tokens",
            f"{grid.num_tokens} x {width}",
            f"{grid.t} steps in time, {grid.h} rows, {grid.w} columns",
        ),
        ("Pooled vector", f"{width}", "mean over all tokens; one vector for the clip"),
        (
            "Stretch of video",
            f"{row.t_start:.2f} to {row.t_end:.2f} s",
            f"seen until {row.sees_until:.2f} s",
        ),
        ("File", str(result.features_file), "both, with times and settings"),
    ]
    return section("Features", table(rows))


def _times_section(result: DemoResult) -> str:
    rows = [(step.name, step.detail, f"{1000 * step.seconds:.1f} ms") for step in result.steps]
    total = sum(step.seconds for step in result.steps)
    rows.append(("All of it", "", f"{1000 * total:.1f} ms"))
    return section(
        "Times",
        table(rows, heads=("Step", "How much", "Time")),
        paragraph(
            f"Measured once, on {result.model.device}, with what a first call costs.", kind="soft"
        ),
    )


def _model_section(result: DemoResult) -> str:
    network = result.model.network
    config = network.config
    rows = [
        ("Name", result.model.name),
        ("Size", f"{network.num_parameters() / 1e6:.2f} million parameters"),
        (
            "Encoder",
            (
                f"{config.num_hidden_layers} blocks, {config.hidden_size} wide, "
                f"{config.num_attention_heads} heads"
            ),
        ),
        (
            "Input",
            (
                f"{len(result.frames)} frames of {result.frames.shape[3]} x "
                f"{result.frames.shape[2]} pixels"
            ),
        ),
        (
            "Versions",
            f"vjepa2 {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        ),
    ]
    return section("Model", table(rows))


def _next_section(result: DemoResult) -> str:
    lines = [
        "vjepa2 demo YOUR_VIDEO.mp4",
        "vjepa2 classify YOUR_VIDEO.mp4",
        "vjepa2 embed *.mp4 --out features.safetensors",
        "vjepa2 demo YOUR_VIDEO.mp4 --model facebook/vjepa2-vitl-fpc16-256-ssv2",
    ]
    python = 'import vjepa2\nvjepa2.embed("YOUR_VIDEO.mp4")[0].embedding'
    return section("Go on", code("\n".join(lines)), paragraph("In Python:"), code(python))
