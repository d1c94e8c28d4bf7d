"""`vjepa2 embed`: features of video files, in files."""

from typing import Annotated

import typer

from vjepa2.cli.answer import answering
from vjepa2.cli.options import Device, Dtype, Json, Model, NumClips, NumFrames, Quiet, Sampling


def embed(
    files: Annotated[list[str], typer.Argument(help="Videos: paths or URLs.")],
    out: Annotated[
        str,
        typer.Option(
            help="One file for all (.safetensors, .npy, .parquet), or a folder for a file each."
        ),
    ],
    model: Model = None,
    num_frames: NumFrames = None,
    sampling: Sampling = "uniform",
    num_clips: NumClips = 1,
    pool: Annotated[
        str, typer.Option(help="mean: one vector a clip. tokens: all tokens as well.")
    ] = "mean",
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="Of files in a folder: safetensors, npy or parquet."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Take nothing over, and replace what is there.")
    ] = False,
    quiet: Quiet = False,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Turn videos into features.

    Goes on after a file that cannot be read, and exits with 1 and the list of those. Run again,
    it only does what is missing or has changed.

    \b
    Examples:
      vjepa2 embed clip.mp4 other.mp4 --out features.safetensors
      vjepa2 embed clip.mp4 --pool tokens --out features/
    """
    with answering(as_json=json) as answer:
        from vjepa2.features.embed import make_embedder
        from vjepa2.features.embed_files import embed_files

        embedder = make_embedder(
            model,
            num_frames=num_frames,
            sampling=sampling,
            num_clips=num_clips,
            pool=pool,
            device=device,
            dtype=dtype,
        )
        report = embed_files(
            files,
            out,
            embedder=embedder,
            file_format=file_format,
            overwrite=overwrite,
            quiet=quiet,
        )
        answer.warn(report.failed)
        answer.put(report.as_dict(), text=str(report), failed=bool(report.failed))
