"""`vjepa2 classify`: which of a model's labels videos show."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Dtype, Json, Model, NumClips, NumFrames, Quiet, Sampling


def classify(
    files: Annotated[list[str], typer.Argument(help="Videos: paths or URLs.")],
    model: Model = None,
    top: Annotated[int, typer.Option(help="Labels to print.")] = 5,
    num_frames: NumFrames = None,
    sampling: Sampling = "uniform",
    num_clips: NumClips = 1,
    quiet: Quiet = False,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Name what videos show.

    The model inside the package names motions (object moves left, camera zooms in, ...). Published
    classifiers name actions, for example facebook/vjepa2-vitl-fpc16-256-ssv2.

    \b
    Examples:
      vjepa2 classify clip.mp4
      vjepa2 classify clip.mp4 other.mp4 --top 3 --json
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.classify import classify_files, make_classifier

        classifier = make_classifier(
            model,
            top_k=top,
            num_frames=num_frames,
            sampling=sampling,
            num_clips=num_clips,
            device=device,
            dtype=dtype,
        )
        report = classify_files(files, classifier=classifier, quiet=quiet)
        answer.warn(report.failed)
        answer.put(report.as_dict(), text=str(report), failed=bool(report.failed))
