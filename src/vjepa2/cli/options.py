"""Options that several verbs share."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Model = Annotated[
    str | None,
    typer.Option(help="Hub name or folder. Default: motion-tiny, which is part of the package."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the best there is.")
]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16. Default: that of the file.")
]
NumFrames = Annotated[
    int | None, typer.Option(help="Frames of a clip. Default: as the model was trained.")
]
Sampling = Annotated[
    str, typer.Option(help="Which frames: uniform, consecutive, fps=NUMBER or stride=NUMBER.")
]
NumClips = Annotated[
    int, typer.Option(help="Clips per video, from stretches of equally many frames.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
FromKey = Annotated[
    str | None,
    typer.Option(
        help="Encoder of an original file: target_encoder, ema_encoder or encoder. Default: the "
        "first of these that is there."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Configuration field that the file does not tell, as num_attention_heads=4.",
    ),
]
Head = Annotated[
    int | None, typer.Option(help="Which of several probes in a file, counted from 0.")
]
