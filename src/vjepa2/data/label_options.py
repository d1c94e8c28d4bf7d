"""How labelled lists and layouts are read, where the defaults do not fit."""

from typing import Literal, get_args

from vjepa2.strict_config import StrictConfig

Layout = Literal[
    "auto", "list", "folders", "ssv2", "kinetics", "diving48", "imagenet", "epic_kitchens"
]
LAYOUTS: tuple[str, ...] = get_args(Layout)


class LabelOptions(StrictConfig):
    """Options of `read_labelled`.

    Attributes:
        root: folder at which relative paths begin, or where a layout's videos lie; "" is the folder
            of the list, or that of the layout.
        path_column: of a list; "" takes the first of `PATH_COLUMNS` that is there.
        label_columns: of a list, one a head; () takes "label" or "class", or else every column
            that begins with "label_" or ends in "_label" or "_class". One column makes the head
            "label", several make heads of their names.
        columns: names of the columns of a list that has no header, in order, such as ("path",
            "start_frame", "stop_frame", "label").
        kind: which files of a class folder count. With "picture_folder", every folder that holds
            pictures is one video.
        class_order: of EPIC-KITCHENS-100: "sorted" by number, or "published": the order in which
            the original code met its sets of classes, which the released probes were trained with.
    """

    root: str = ""
    path_column: str = ""
    label_columns: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    kind: Literal["auto", "video", "image", "picture_folder"] = "auto"
    class_order: Literal["sorted", "published"] = "sorted"
