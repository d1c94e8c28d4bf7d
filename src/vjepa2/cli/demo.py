"""`vjepa2 demo`: the whole chain once, with pictures."""

from pathlib import Path
from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Dtype, Json, Model


def demo(
    file: Annotated[
        str | None, typer.Argument(help="A video of your own. Default: a clip is painted.")
    ] = None,
    out: Annotated[
        str, typer.Option(help="Folder for the report, the features and the clip.")
    ] = "vjepa2-demo",
    seed: Annotated[int, typer.Option(help="Chooses the clip that is painted.")] = 1,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Go from a video to features, labels and a page.

    \b
    Examples:
      vjepa2 demo
      vjepa2 demo clip.mp4 --out my-report
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.demo import run_demo
        from vjepa2.features.demo_files import REPORT_NAME
        from vjepa2.features.report import write_report

        result = run_demo(out, video=file, seed=seed, model=model, device=device, dtype=dtype)
        report = write_report(Path(out) / REPORT_NAME, result)
        answer.put(
            result.as_dict() | {"report": str(report.resolve())},
            text=f"{result}\n\nOpen the report: {report.resolve()}",
        )
