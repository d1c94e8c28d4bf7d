"""Small labelled videos and a classifier of six motions that is right most of the time.

The classifier is the shipped one with the rows of six motions of its head.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from vjepa2.data.labelled import LabelMap
from vjepa2.data.splits import content_hash
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.models.configuration import VJEPA2Config
from vjepa2.tasks.probe_folder import EncoderIdentity, TrainedOn
from vjepa2.video.processor import VJEPA2VideoProcessor
from vjepa2.video.synthetic import make_motion_clip
from vjepa2.video.writer import H264, write_video
from vjepa2.weights.hub import shipped_folder

NAMES = (
    "object moves left",
    "object moves right",
    "object moves up",
    "object moves down",
    "camera zooms in",
    "camera zooms out",
)
PER_CLASS = 5
FPS = 8.0
FRAMES = 24


@dataclass(frozen=True)
class Videos:
    """Paths of a small world.

    Attributes:
        folder: of everything.
        model: folder of the classifier, with `training.json` of `train`.
        train, val: lists; six motions, five videos each in `val`.
    """

    folder: Path
    model: Path
    train: Path
    val: Path

    def rows(self, name: str = "val") -> list[list[str]]:
        """Rows of a list: path, label."""
        text = (self.folder / f"{name}.csv").read_text()
        return [line.split(",") for line in text.splitlines()[1:]]

    def write(self, name: str, rows: list[list[str]], header: str = "path,label") -> Path:
        """Write a list beside the others."""
        path = self.folder / f"{name}.csv"
        path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
        return path


def make_videos(folder: Path) -> Videos:
    """Write videos, lists and the classifier."""
    generator = torch.Generator().manual_seed(11)
    lists = {}
    for name, count in (("train", 2), ("val", PER_CLASS)):
        rows = []
        for number in range(count):
            for label in NAMES:
                path = f"{name}/{label.replace(' ', '-')}-{number}.mp4"
                clip = make_motion_clip(
                    label, num_frames=FRAMES, size=(64, 64), generator=generator
                )
                write_video(folder / path, clip, codec=H264(fps=FPS))
                rows.append(f"{path},{label}")
        lists[name] = folder / f"{name}.csv"
        lists[name].write_text("\n".join(["path,label", *rows]) + "\n")
    model = folder / "model"
    classifier(NAMES).save_pretrained(model)
    VJEPA2VideoProcessor.from_pretrained(shipped_folder("motion-tiny")).save_pretrained(model)
    videos = Videos(folder, model, lists["train"], lists["val"])
    trained_on(videos).save(model)
    return videos


def classifier(names: tuple[str, ...]) -> VJEPA2ForVideoClassification:
    """The shipped classifier for some of its classes, in this order."""
    whole = VJEPA2ForVideoClassification.from_pretrained(shipped_folder("motion-tiny"))
    numbers = [whole.config.label2id[name] for name in names]
    values = whole.config.to_dict() | {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    part = VJEPA2ForVideoClassification(VJEPA2Config.from_dict(values))
    state = whole.state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][numbers].clone()
    part.load_state_dict(state)
    return part.eval()


def trained_on(
    videos: Videos,
    *,
    names: tuple[str, ...] = NAMES,
    more: tuple[str, ...] = (),
    details: dict[str, object] | None = None,
) -> TrainedOn:
    """What the classifier says it was trained on: the list `train`, and more hashes."""
    hashes = [content_hash(videos.folder / path) for path, _ in videos.rows("train")]
    return TrainedOn(
        label_map=LabelMap({"label": names}),
        views={"num_frames": 16, "crop_size": 64, "resize": "antialiased"},
        item_hashes=(*hashes, *more),
        encoder=EncoderIdentity("motion-tiny", "", 128, 4, (3,)),
        head="label",
        details=details or {},
    )
