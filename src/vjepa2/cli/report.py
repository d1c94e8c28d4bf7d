"""`vjepa2 report`: is a run healthy, and does it learn?"""

from pathlib import Path
from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Json


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write. Default: report.html in the folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a page on a run: curves, words, masks.

    Of vjepa2 pretrain, finetune, probe or anticipate. It is made from the files of the run alone,
    at any time, also while the run goes on.

    \b
    Examples:
      vjepa2 report RUN
      vjepa2 report RUN --out page.html --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.run_report import run_summary, write_run_report
        from vjepa2.features.run_report_data import read_run

        path = write_run_report(run, path=out)
        summary = run_summary(read_run(run))
        state = summary["state"] or "nothing measured yet"
        text = f"{state}: {summary['reason']} {summary['advice']}".strip(": ")
        answer.put(
            {"report": str(path), **summary},
            text=f"{text}\nReport: {path}",
        )
