"""The page of a report card: the verdict, findings, curves, and one landscape with its frames."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from jaxtyping import Float, UInt8
from torch import Tensor

from vjepa2.data.episode_checks import Finding
from vjepa2.features.pictures import data_uri, encode_png
from vjepa2.features.plan_report import energy_map
from vjepa2.features.report_page import figure, page, paragraph, picture, section, table
from vjepa2.features.run_report_charts import Curve, chart, charts_in_columns
from vjepa2.files import atomic_path


class Landscape(Protocol):
    """Energies of movements along x and z, between two frames.

    Attributes:
        frames: uint8 [2, 3, H, W] the start and the goal.
        energies: [P, P] over x and z.
        axis: [P] movements in metres.
        true, best: [3] the movement that was made, and the one of least energy on the map.
    """

    @property
    def frames(self) -> UInt8[Tensor, "2 3 H W"]: ...
    @property
    def energies(self) -> Float[Tensor, "P P"]: ...
    @property
    def axis(self) -> Sequence[float]: ...
    @property
    def true(self) -> Sequence[float]: ...
    @property
    def best(self) -> Sequence[float]: ...


def write_report_card_page(
    path: str | os.PathLike[str],
    *,
    model: str,
    data: str,
    rows: Sequence[tuple[str, str]],
    verdict: Sequence[str],
    findings: Sequence[Finding],
    errors: Mapping[str, Sequence[float]],
    curves: Mapping[str, Sequence[float]],
    lags: Mapping[int, float],
    landscape: Landscape | None,
) -> Path:
    """Write the page, one HTML file.

    Args:
        model, data: names of what was judged, and on what.
        rows: measures, in words and numbers.
        verdict: what the model is worth, in sentences.
        findings: what is wrong with the data.
        errors: after 1, 2, .. actions, by what predicts.
        curves: energy over that at the true action, minus 1, by the number of an action; evenly
            spaced movements around the true one.
        lags: R2 of movements read from frames, were they late by so many moments.
        landscape: None: no picture.

    Raises:
        OutputError: the page cannot be written.
    """
    parts = [
        "<h1>Report card of a world model</h1>",
        paragraph(f"{model}, judged on {data}", kind="soft"),
        section("Verdict", *(paragraph(sentence) for sentence in verdict)),
        section("The data", _findings(findings)),
        section("Measures", table(list(rows))),
        section("Predictions and actions", charts_in_columns(_charts(errors, curves, lags))),
    ]
    if landscape is not None:
        parts.append(_landscape(landscape))
    body = "\n".join(parts)
    with atomic_path(path) as temporary:
        temporary.write_text(page(title="Report card", body=body), encoding="utf-8")
    return Path(path)


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return paragraph("Nothing wrong was found.", kind="good")
    told = [
        (
            f"{'wrong' if item.serious else 'look'}: {item.cause}",
            item.episode,
            item.text,
            item.advice,
        )
        for item in findings
    ]
    return table(told)


def _charts(
    errors: Mapping[str, Sequence[float]],
    curves: Mapping[str, Sequence[float]],
    lags: Mapping[int, float],
) -> list[str]:
    rollouts = [
        Curve(name, [(step + 1, value) for step, value in enumerate(values)], dashed=number > 0)
        for number, (name, values) in enumerate(errors.items())
    ]
    made = [
        chart(
            "Error of rollouts",
            rollouts,
            axis="{:.0f} actions",
            note="Mean absolute difference of features. Below both dashed lines the model knows "
            "more than that nothing changes, or that all changes as it does on average.",
        )
    ]
    if curves:
        around = [
            Curve(name, list(zip(_percent(len(values)), values, strict=True)))
            for name, values in curves.items()
        ]
        made.append(
            chart(
                "Energy around the true action",
                around,
                axis="{:+.0f} %",
                note="Above that at the true action, by what is added to one number of it, as a "
                "share of the largest usual movement. A good model has its minimum in the middle; "
                "a flat line is a number that it ignores.",
            )
        )
    if lags:
        made.append(
            chart(
                "Movements read from frames, by lag",
                [Curve("R2", [(lag, value) for lag, value in sorted(lags.items())])],
                axis="{:+.0f} moments",
                note="R2 of inverse dynamics on episodes left out, were the frames late by so many "
                "moments. The peak belongs at 0.",
            )
        )
    return made


def _percent(count: int) -> list[float]:
    return [200 * at / max(count - 1, 1) - 100 for at in range(count)]


def _landscape(shown: Landscape) -> str:
    frames = [
        figure(
            picture(
                data_uri(encode_png(frame.contiguous()), kind="image/png"), description=caption
            ),
            caption=caption,
        )
        for frame, caption in zip(shown.frames, ("start", "goal"), strict=True)
    ]
    points = {"true": shown.true, "least energy": shown.best}
    rows = [
        (name, ", ".join(f"{100 * value:+.1f} cm" for value in values))
        for name, values in points.items()
    ]
    return section(
        "One landscape",
        f'<div class="strip" style="--columns:2">{"".join(frames)}</div>',
        energy_map(shown.energies, shown.axis, points),
        paragraph("Movements along x and z, all else as it was; dark is little energy."),
        table(rows),
        paragraph("Columns: x, y, z.", kind="soft"),
    )
