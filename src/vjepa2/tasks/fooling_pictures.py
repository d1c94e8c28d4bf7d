"""Videos that look like one another: copies that were encoded anew, cut to another size or rate.

A content hash tells files apart that differ in one byte. So videos are also compared by a mark: a
few moments, made very small and grey. What stays the same in all moments (the scene) and what
changes (the motion) are compared apart: two clips of one room are no copies. A mark is small, and
honest clips of plain scenes (one object on an even ground) can share one, so that what is found
here is a warning; files of the same bytes are an error, see `fooling_files`.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import VJEPAError
from vjepa2.progress import track
from vjepa2.tasks.fooling import Finding
from vjepa2.video.reader import VideoReader

SIDE = 12
MOMENTS = 6
SCENE_ALIKE = 0.97
MOTION_ALIKE = 0.93
LEAST_CONTRAST = 0.01  # deviation of grey values 0..1: below, there is nothing to compare
LEAST_MOTION = 0.004
PORTION = 1024


def picture_marks(paths: Sequence[str], *, quiet: bool = False) -> dict[str, Tensor]:
    """A mark of each video: float32 [MOMENTS, SIDE * SIDE], grey 0..1.

    Videos that cannot be read are left out.
    """
    found = {}
    unique = list(dict.fromkeys(paths))
    for path in track(unique, total=len(unique), description="Pictures", quiet=quiet):
        try:
            with VideoReader(path, num_ffmpeg_threads=1) as reader:
                count = len(reader)
                places = [int((moment + 0.5) * count / MOMENTS) for moment in range(MOMENTS)]
                rows = [reader.get_frame_at(place).data[None].float() for place in places]
        except VJEPAError:
            continue
        small = torch.cat([F.adaptive_avg_pool2d(row, SIDE).mean(dim=1) for row in rows])
        found[path] = small.flatten(1) / 255
    return found


def copy_findings(
    evaluated: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    *,
    same: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Look for evaluated videos that look like a training video: a warning, see above.

    Args:
        evaluated, training: marks of each path.
        same: content hash of each path: files of one content are found by that, and left out here.
    """
    hashes = same or {}
    trained = {hashes.get(path, path) for path in training}
    left = [path for path in evaluated if hashes.get(path, path) not in trained]
    if not left or not training:
        return []
    names = list(training)
    others = torch.stack([training[name] for name in names])
    pairs = []
    for start in range(0, len(left), PORTION):
        part = left[start : start + PORTION]
        scene, motion = _likeness(torch.stack([evaluated[path] for path in part]), others)
        alike = (scene >= SCENE_ALIKE) & (motion >= MOTION_ALIKE)
        for row in alike.any(dim=1).nonzero()[:, 0].tolist():
            best = int(torch.where(alike[row], motion[row], -1.0).argmax())
            pairs.append(f"{part[row]} looks like {names[best]}")
    if not pairs:
        return []
    return [
        Finding.of(
            "copy_of_training_video",
            "warning",
            f"{len(pairs)} of {len(evaluated)} evaluated videos look like a video that was trained "
            "on, though their bytes differ: copies that were encoded anew, resized or cut, or "
            "other videos of a scene so plain that they cannot be told apart. Look at the pairs; "
            "take copies out of one of the two lists.",
            pairs,
        )
    ]


def _likeness(
    first: Float[Tensor, "n M P"], second: Float[Tensor, "m M P"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Correlation of the scenes and of the motions; where nothing moves in both, that is 1."""
    scenes = [_scene(marks) for marks in (first, second)]
    motions = [_motion(marks) for marks in (first, second)]
    scene = scenes[0][0] @ scenes[1][0].T
    motion = motions[0][0] @ motions[1][0].T
    still = ~motions[0][1][:, None] & ~motions[1][1][None]
    motion = torch.where(still, torch.ones_like(motion), motion)
    # Nothing to see: neither can be told.
    plain = ~scenes[0][1][:, None] | ~scenes[1][1][None]
    scene = torch.where(plain, torch.where(still, 0.0, 1.0), scene)
    return scene, motion


def _scene(marks: Float[Tensor, "n M P"]) -> tuple[Tensor, Tensor]:
    return _unit(marks.mean(dim=1), least=LEAST_CONTRAST)


def _motion(marks: Float[Tensor, "n M P"]) -> tuple[Tensor, Tensor]:
    changes = marks - marks.mean(dim=1, keepdim=True)
    return _unit(changes.flatten(1), least=LEAST_MOTION)


def _unit(values: Float[Tensor, "n P"], *, least: float) -> tuple[Tensor, Tensor]:
    """Rows of mean 0 and length 1, and which of them vary at all; others are 0."""
    centred = values - values.mean(dim=1, keepdim=True)
    varies = centred.std(dim=1) > least
    unit = F.normalize(centred, dim=1)
    return torch.where(varies[:, None], unit, torch.zeros_like(unit)), varies
