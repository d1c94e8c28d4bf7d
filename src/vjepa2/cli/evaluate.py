"""`vjepa2 evaluate`: how good is a model on labelled videos or events, and is the number honest?"""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Dtype, Json, Quiet


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Folder or hub name of a classifier; folder of vjepa2 anticipate."),
    ],
    out: Annotated[str, typer.Option(help="Folder for answers, numbers and page; goes on there.")],
    data: Annotated[
        str | None, typer.Argument(help="Labelled list, or folder of class folders; or --data.")
    ] = None,
    data_option: Annotated[
        str | None, typer.Option("--data", help="The same, as an option.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="List or folder of the training, to compare groups and pictures too."),
    ] = None,
    segments: Annotated[int | None, typer.Option(help="Clips per video.")] = None,
    views: Annotated[int | None, typer.Option(help="Crops per clip.")] = None,
    horizons: Annotated[
        str | None, typer.Option(help="Seconds ahead, of vjepa2 anticipate: 1,2,4.")
    ] = None,
    probe_head: Annotated[
        int | None, typer.Option(help="Head of a probe run by its number; default: the best.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Go on in spite of a finding of this kind. Repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting: --set seed=1"),
    ] = None,
    quiet: Quiet = False,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled videos or events, honestly.

    Before anything is computed: were these videos trained on, are classes numbered alike? Every
    video is also shown with its frames shuffled, backwards, and as one frame. Interrupted, the
    same command goes on. Exit code 1 where a finding makes the number worthless.
    Anticipation is measured at every horizon and for every label column, beside ablations,
    chance and label prior; were contexts over before their event?

    \b
    Examples:
      vjepa2 evaluate motion-tiny val.csv --out evaluation
      vjepa2 evaluate my_probe val.csv --train train.csv --segments 2 --views 3 --out evaluation
      vjepa2 evaluate run/model --data events.csv --horizons 1,2 --out evaluation
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.evaluation_report import write_evaluation_report
        from vjepa2.tasks.anticipate_files import read_horizons
        from vjepa2.tasks.evaluation import evaluate as run_evaluation
        from vjepa2.tasks.evaluation_config import as_settings, chosen_list

        result = run_evaluation(
            model,
            chosen_list(data, data_option),
            out,
            settings=as_settings(
                settings or (),
                train=train,
                num_segments=segments,
                num_views=views,
                horizons=read_horizons(horizons, default=()) or None,
                probe_head=probe_head,
                allow=allow,
                device=device,
                dtype=dtype,
            ),
            quiet=quiet,
        )
        page = write_evaluation_report(result.folder)
        answer.put(
            {**result.as_dict(), "report": str(page)},
            text=f"{result}\nReport: {page}",
            failed=not result.is_sound,
        )
