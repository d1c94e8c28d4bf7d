"""Thumbnails of the worst errors: a few frames of each stretch of video."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from vjepa2.errors import VJEPAError
from vjepa2.features.pictures import data_uri, encode_png
from vjepa2.features.report_page import escape, figure, paragraph, picture
from vjepa2.video.reader import VideoReader

FRAMES = 4
SIDE = 144  # of the longer side of a thumbnail, in pixels


def worst_errors(rows: Sequence[Mapping[str, Any]]) -> str:
    """Wrong answers with frames of what was shown, as HTML; what cannot be read now is said."""
    return "\n".join(_error(row) for row in rows)


def _error(row: Mapping[str, Any]) -> str:
    words = (
        f"<p><strong>{escape(row['label'])}</strong> answered as "
        f'<strong class="bad">{escape(row["answer"])}</strong> with '
        f"{100 * float(row['probability']):.1f} % (the label got "
        f'{100 * float(row["probability_of_label"]):.1f} %)<br><span class="soft">'
        f"{escape(row['name'])}</span></p>"
    )
    try:
        frames, times = _frames(row)
    except VJEPAError as error:
        reason = str(error).partition("\n")[0]
        return words + paragraph(f"The file cannot be shown now: {reason}", kind="soft")
    columns = [
        figure(
            picture(data_uri(encode_png(frame), kind="image/png"), description=f"at {time:.2f} s"),
            caption=f"{time:.2f} s",
        )
        for frame, time in zip(frames, times, strict=True)
    ]
    return words + f'<div class="strip" style="--columns:{FRAMES}">{"".join(columns)}</div>'


def _frames(row: Mapping[str, Any]) -> tuple[list[UInt8[Tensor, "3 h w"]], list[float]]:
    """Frames from all over the stretch, small, and their times in seconds."""
    with VideoReader(str(row["path"]), num_ffmpeg_threads=1) as reader:
        times = reader.pts_seconds
        first, last = 0, len(times) - 1
        if row.get("start_seconds") is not None or row.get("end_seconds") is not None:
            start, end = row.get("start_seconds"), row.get("end_seconds")
            inside = torch.ones(len(times), dtype=torch.bool)
            if start is not None:
                inside &= times >= float(start)
            if end is not None:
                inside &= times < float(end)
            places = inside.nonzero()[:, 0].tolist() or [0]
            first, last = places[0], places[-1]
        elif row.get("start_frame") is not None or row.get("end_frame") is not None:
            first = min(last, int(row.get("start_frame") or 0))
            end_frame = row.get("end_frame")
            last = last if end_frame is None else max(first, min(last, int(end_frame) - 1))
        length = last - first + 1
        count = min(FRAMES, length)
        chosen = [first + (2 * step + 1) * length // (2 * count) for step in range(count)]
        found = reader.get_frames_at(chosen)
        return [_small(frame) for frame in found.data], [float(times[place]) for place in chosen]


def _small(frame: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 h w"]:
    height, width = frame.shape[1:]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return frame
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(frame[None].float(), size=size, mode="bilinear", antialias=True)
    return small[0].round().clamp(0, 255).to(torch.uint8)
