"""From one labelled file to its views: what a decoding process of `LabelledLoader` does."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from vjepa2.data.decode import MAX_REASON_CHARACTERS
from vjepa2.data.item_frames import ItemDraws, OpenItems
from vjepa2.data.labelled import LabelledItem
from vjepa2.data.sample import BadFile
from vjepa2.data.train_views import file_train_views
from vjepa2.data.views import TrainViewConfig, ViewConfig, file_views
from vjepa2.errors import LabelError, MissingExtraError, VJEPAError


class LabelledTask(NamedTuple):
    """An item of an epoch.

    Attributes:
        item: what to read.
        draws: its chance; also says which item it is.
        name: what to call it in messages.
    """

    item: LabelledItem
    draws: ItemDraws
    name: str


class LabelledAnswer(NamedTuple):
    """What comes back: views, or why there are none.

    Attributes:
        pixels: uint8 of evaluation, not normalised; float32 of training; None if unreadable.
        bad_file: the file that could not be read.
        label_problem: what is wrong with the list, which reading other files would not mend.
    """

    pixels: Tensor | None = None
    bad_file: BadFile | None = None
    label_problem: str = ""


@dataclass(frozen=True, kw_only=True)
class LabelledDecoder(Dataset[LabelledAnswer]):
    """Makes views; holds settings only when it travels to other processes.

    Attributes:
        views: clips and views of a file.
        train: augmentation of training; None to evaluate.
        files: those that this process keeps open.
    """

    views: ViewConfig
    train: TrainViewConfig | None
    files: OpenItems = field(default_factory=OpenItems)

    def __getitem__(self, task: LabelledTask) -> LabelledAnswer:
        """Read a file; what is wrong with it is an answer, not an error."""
        item, draws = task.item, task.draws
        try:
            with self.files.open(item) as file:
                if self.train is None:
                    return LabelledAnswer(file_views(file, item, self.views, draws=draws))
                return LabelledAnswer(
                    file_train_views(file, item, self.views, self.train, draws=draws)
                )
        except LabelError as error:
            return LabelledAnswer(label_problem=str(error))
        except MissingExtraError:
            raise
        except (VJEPAError, OSError, ValueError, EOFError) as error:
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            bad = BadFile(
                task.name,
                reason[:MAX_REASON_CHARACTERS],
                source=0,
                step=draws.epoch,
                position=draws.index,
            )
            return LabelledAnswer(bad_file=bad)


def item_name(item: LabelledItem) -> str:
    """`clip.mp4`, or `clip.mp4 (1 to 2.5 s)` for a stretch of it."""
    if not item.is_segment:
        return item.path
    in_frames = item.start_seconds is None and item.end_seconds is None
    edges = (
        (item.start_frame, item.end_frame, "frames")
        if in_frames
        else (item.start_seconds, item.end_seconds, "s")
    )
    start = "its beginning" if edges[0] is None else f"{edges[0]:g}"
    end = "its end" if edges[1] is None else f"{edges[1]:g}"
    return f"{item.path} ({start} to {end} {edges[2]})"
