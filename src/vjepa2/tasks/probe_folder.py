"""What a trained model was trained on, kept beside it so that evaluation can look for mistakes.

A folder that `vjepa2 probe`, `finetune` or `anticipate` writes holds, beside the model:

labels.json     names of the classes by their number (`data.labelled.LabelMap`)
training.json   `TrainedOn`: views, normalisation, encoder, and a hash of every training file
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from vjepa2._version import __version__
from vjepa2.data.labelled import LABELS_NAME, LabelMap
from vjepa2.errors import CheckpointFormatError, CheckpointNotFoundError, ConfigError
from vjepa2.files import write_json

TRAINING_NAME = "training.json"
MAX_BYTES = 1 << 30  # of the file; a hash is 64 characters


@dataclass(frozen=True)
class EncoderIdentity:
    """Which encoder, and which of its tokens, a head reads.

    Attributes:
        name: hub name or folder, as it was given.
        weights: `fingerprint.weights_mark` of the encoder; "" where it was trained along.
        width: D, numbers per token.
        num_blocks: of the encoder.
        levels: blocks (0-based) whose tokens are read.
    """

    name: str
    weights: str
    width: int
    num_blocks: int
    levels: tuple[int, ...]

    def difference(self, other: "EncoderIdentity") -> str:
        """The first thing in which another one differs, in words; "" where they are the same."""
        for name, words in (
            ("width", "encoder width"),
            ("num_blocks", "number of encoder blocks"),
            ("levels", "level set"),
            ("weights", "encoder weights (fingerprint)"),
        ):
            own, others = getattr(self, name), getattr(other, name)
            if own != others:
                return f"{words}: {own} and {others}"
        return ""

    def check_same(self, other: "EncoderIdentity") -> None:
        """Refuse a head for another encoder.

        Raises:
            ConfigError: the first difference.
        """
        if difference := self.difference(other):
            raise ConfigError(
                f"This head was trained on tokens of {self.name}; {other.name} is another encoder "
                f"or gives other tokens ({difference}). Use the encoder it was trained on, or "
                "train a head for this one: vjepa2 probe."
            )


@dataclass(frozen=True)
class TrainedOn:
    """How a model was trained, as far as an honest evaluation has to know it.

    Attributes:
        label_map: names of the classes by their number.
        views: fields of the `data.views.ViewConfig` that it is evaluated with.
        item_hashes: sorted sha256 of the bytes of every training file (`data.splits`).
        encoder: whose tokens the head reads.
        task: "probe", "finetune" or "anticipation".
        head: name of the label map's head that was learned; "" for all of them.
        details: further facts as JSON values: settings, scores, the data they are from.
        version: of this package.
    """

    label_map: LabelMap
    views: Mapping[str, Any]
    item_hashes: tuple[str, ...]
    encoder: EncoderIdentity
    task: str = "probe"
    head: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `labels.json` and `training.json` into a folder, each at once.

        Raises:
            OutputError: a file cannot be written.
        """
        self.label_map.save(Path(folder) / LABELS_NAME)
        write_json(
            Path(folder) / TRAINING_NAME,
            {
                "task": self.task,
                "head": self.head,
                "views": dict(self.views),
                "encoder": asdict(self.encoder),
                "details": dict(self.details),
                "version": self.version,
                "item_hashes": sorted(set(self.item_hashes)),
            },
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointNotFoundError: the folder has no such files.
            CheckpointFormatError: `training.json` is damaged.
            LabelError: `labels.json` is damaged.
        """
        path = Path(folder) / TRAINING_NAME
        if not path.is_file():
            raise CheckpointNotFoundError(
                f"{path} does not exist, so it is not known what the model in {folder} was "
                "trained on. Folders of vjepa2 probe, finetune and anticipate have this file."
            )
        label_map = LabelMap.load(Path(folder) / LABELS_NAME)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
            values = json.loads(path.read_text(encoding="utf-8"))
            encoder = values["encoder"]
            return cls(
                label_map=label_map,
                views=dict(values["views"]),
                item_hashes=tuple(map(str, values["item_hashes"])),
                encoder=EncoderIdentity(
                    name=str(encoder["name"]),
                    weights=str(encoder["weights"]),
                    width=int(encoder["width"]),
                    num_blocks=int(encoder["num_blocks"]),
                    levels=tuple(map(int, encoder["levels"])),
                ),
                task=str(values["task"]),
                head=str(values["head"]),
                details=dict(values["details"]),
                version=str(values["version"]),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointFormatError(
                f"{path} is damaged: {type(error).__name__} {error}. Take the file of the run "
                "again, or train anew."
            ) from error

    def seen_among(self, hashes: Collection[str]) -> list[str]:
        """Those of some content hashes that were trained on, sorted."""
        return sorted(set(hashes) & set(self.item_hashes))
