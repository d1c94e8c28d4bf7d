"""One weights file on its own: Meta's `.pt` with its sub-dictionaries, or a bare dictionary.

A training checkpoint holds several networks. What is used of it, in this order:

    the encoder     `from_key`, if given; else target_encoder, ema_encoder, encoder
    the predictor   predictor
    the probe       classifiers[0], of a file of its own

Evaluations, and the action-conditioned model, use the averaged encoder (`target_encoder`, in
distilled V-JEPA 2.1 files `ema_encoder`); the Hugging Face port was converted from the one that
was trained (`encoder`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.weights.foreign import foreign_cause
from vjepa2.weights.load import HEADS
from vjepa2.weights.meta_format import PARTS, Part, Renamed, part_of, to_ours, without_wrappers
from vjepa2.weights.read import ENCODER_KEYS, Checkpoint, Origin, read_content, read_tensors

Layout = Literal["nested", "meta", "ours"]
_OURS = re.compile(r"(vjepa2\.)?(encoder|predictor)\.(layer\.|embeddings\.|layernorm)")
Fact = int | float | str | bool


@dataclass(frozen=True)
class WeightsFile:
    """Content of one weights file; tensors are views of the mapped file.

    Attributes:
        path: the file.
        layout: "nested": sub-dictionaries; "meta" and "ours": a bare dictionary of tensors under
            Meta's names, or under ours (those of the Hugging Face port).
        parts: sub-dictionary to its tensors under the names in the file; a bare dictionary is "".
        heads: the probes of `classifiers`.
        facts: numbers and words at the top: epoch, loss, lr, batch_size, world_size.
        others: what else is at the top, with a word on it (optimizer state, ...).
    """

    path: Path
    layout: Layout
    parts: Mapping[str, Mapping[str, Tensor]]
    heads: tuple[Mapping[str, Tensor], ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def encoder_keys(self) -> tuple[str, ...]:
        """Sub-dictionaries of encoders that hold tensors, the preferred one first."""
        return tuple(key for key in ENCODER_KEYS if self.parts.get(key))

    def checkpoint(self, *, from_key: str | None = None) -> Checkpoint:
        """Encoder and predictor under our names; a bare dictionary with all that it holds.

        Args:
            from_key: sub-dictionary of the encoder; None for the preferred one.

        Raises:
            CheckpointFormatError: there is no encoder, `from_key` is not there, a sub-dictionary
                holds another network, or encoders of the file differ.
        """
        if self.layout != "nested":
            if from_key is not None:
                raise CheckpointFormatError(
                    f"{self.path} is one dictionary of tensors without sub-dictionaries; leave "
                    f"from_key={from_key!r} out."
                )
            return self._bare()
        key = self._encoder_key(from_key)
        self._check_same_network(key, asked=from_key is not None)
        renamed = [self._part(key, "encoder")]
        if "predictor" in self.parts:
            renamed.append(self._part("predictor", "predictor"))
        return self._as_checkpoint(renamed, from_key=key)

    def probe(self, *, head: int | None = None) -> Checkpoint:
        """The pooler and classifier of a probe under our names.

        Args:
            head: index in `classifiers`; None when there is only one.

        Raises:
            CheckpointFormatError: there is no probe.
            ConfigError: there are several and `head` does not say which, or it does not exist.
        """
        stored = self._probes()
        if not stored:
            raise CheckpointFormatError(
                f"{self.path} holds no probe: {self._why_no_probe()}. Give one of the published "
                "evals/*.pt files."
            )
        if head is None and len(stored) > 1:
            raise ConfigError(
                f"{self.path} holds {len(stored)} probes, trained with different learning rates. "
                f"Say which with head=0 to head={len(stored) - 1}."
            )
        if head is not None and head not in range(len(stored)):
            raise ConfigError(
                f"head={head} does not exist: {self.path} holds {len(stored)}, counted from 0."
            )
        tensors = stored[head or 0]
        ours = self.layout == "ours"
        renamed = Renamed(dict(tensors)) if ours else to_ours(tensors, "probe")
        return self._as_checkpoint([renamed], from_key="classifiers" if self.heads else "")

    # -- pieces -----------------------------------------------------------------------------------

    def _why_no_probe(self) -> str:
        if word := self.others.get("classifiers"):
            return f"'classifiers' is {word}, not a list of dictionaries"
        if "classifiers" in self.parts:
            return (
                f"'classifiers' is a dictionary of {len(self.parts['classifiers'])} tensors, not a "
                "list of such dictionaries"
            )
        held = ", ".join(key for key in (*self.parts, *self.others) if key)
        return f"'classifiers' is not there{f', but {held}' if held else ''}"

    def _encoder_key(self, from_key: str | None) -> str:
        present = ", ".join(self.encoder_keys) or "none"
        if from_key is not None and self.encoder_keys:
            if from_key not in self.encoder_keys:
                empty = " (it is empty)" if self.parts.get(from_key) == {} else ""
                raise CheckpointFormatError(
                    f"{self.path} has no encoder {from_key!r}{empty}. Encoders there: {present}."
                )
            return from_key
        if self.encoder_keys:
            first = self.encoder_keys[0]
            for better in ENCODER_KEYS[: ENCODER_KEYS.index(first)]:
                if better in self.parts:
                    raise CheckpointFormatError(
                        f"{better!r} of {self.path}, the averaged encoder, is empty. Take another "
                        f"copy, or read the other encoder with from_key={first!r}."
                    )
            return first
        if self.heads:
            raise CheckpointFormatError(
                f"{self.path} holds a probe only, without an encoder. Give the encoder's file "
                f"first: VJEPA2ForVideoClassification.from_pretrained(encoder_file, "
                f"probe={str(self.path)!r})."
            )
        parts = [key if tensors else f"{key} (empty)" for key, tensors in self.parts.items()]
        held = ", ".join([*parts, *self.facts, *self.others][:8]) or "nothing"
        raise CheckpointFormatError(
            f"{self.path} holds no encoder: looked for {', '.join(ENCODER_KEYS)}, found {held}. "
            + self._why_no_encoder()
        )

    def _why_no_encoder(self) -> str:
        if any(key in self.parts for key in ENCODER_KEYS):
            return "It was saved before the encoder was put in, or emptied: take another copy."
        if self.parts.get("predictor"):
            return "A predictor works with its encoder only: give the file that holds both."
        names = [name for tensors in self.parts.values() for name in tensors]
        if cause := foreign_cause(names, translated=True):
            return f"Likely cause: {cause}."
        return "Is it another kind of checkpoint?"

    def _part(self, key: str, part: Part) -> Renamed:
        """One sub-dictionary under our names; it may not hold another part."""
        renamed = to_ours(self.parts[key], part)
        for name in renamed.unexpected:
            other = part_of(name)
            if other not in (None, part):
                raise CheckpointFormatError(
                    f"{key!r} of {self.path} should hold the {part}, but has {name!r} of the "
                    f"{other}: the sub-dictionaries are mixed up. Save the checkpoint again, each "
                    "network under its own name."
                )
        return renamed

    def _check_same_network(self, key: str, *, asked: bool) -> None:
        """Encoders of one file are the same network: one that lacks tensors was cut off."""
        chosen = _shapes(self.parts[key])
        for other_key in () if asked else self.encoder_keys:
            other = _shapes(self.parts[other_key])
            apart = sorted(name for name in chosen | other if chosen.get(name) != other.get(name))
            if apart:
                of_chosen, of_other = chosen.get(apart[0]), other.get(apart[0])
                raise CheckpointFormatError(
                    f"In {self.path} the encoders {key!r} and {other_key!r} should be the same "
                    f"network, but {len(apart)} tensors differ: {apart[0]!r} is "
                    f"{_shape_word(of_chosen)} in the first and {_shape_word(of_other)} in the "
                    "second. One of them is incomplete: copy the file again, or say which is right "
                    f"with from_key={key!r} or {other_key!r}."
                )

    def _bare(self) -> Checkpoint:
        tensors = self.parts[""]
        if self.layout == "ours":
            own = dict(tensors)
            return Checkpoint(own, dict.fromkeys(own, self.path), Origin())
        by_part: dict[Part, dict[str, Tensor]] = {part: {} for part in PARTS}
        for name, tensor in tensors.items():
            by_part[part_of(name) or "encoder"][name] = tensor
        encoder, predictor = by_part["encoder"], by_part["predictor"]
        if predictor and not any("patch_embed" in name for name in encoder):
            # The modality vectors have one name in both networks.
            predictor |= {name: encoder.pop(name) for name in list(encoder) if _modality(name)}
        renamed = [to_ours(by_part[part], part) for part in PARTS if by_part[part]]
        return self._as_checkpoint(renamed, from_key="")

    def _as_checkpoint(self, renamed: list[Renamed], *, from_key: str) -> Checkpoint:
        tensors: dict[str, Tensor] = {}
        names: dict[str, str] = {}
        dropped: dict[str, str] = {}
        for part in renamed:
            for name in part.tensors.keys() & tensors.keys():
                raise CheckpointFormatError(f"{self.path} holds {name!r} in two sub-dictionaries.")
            tensors |= part.tensors
            names |= part.names
            dropped |= part.dropped
        origin = Origin(from_key, names, dropped)
        return Checkpoint(tensors, dict.fromkeys(tensors, self.path), origin)

    def _probes(self) -> tuple[Mapping[str, Tensor], ...]:
        if self.layout == "nested":
            return self.heads
        bare = self.parts[""]
        if self.layout == "ours":
            own = {name: tensor for name, tensor in bare.items() if name.startswith(HEADS)}
        else:
            parts = {name: part_of(name) for name in bare}
            own = {name: bare[name] for name, part in parts.items() if part in ("probe", None)}
            own = own if "probe" in parts.values() else {}
        return (own,) if own else ()


def read_weights_file(path: Path) -> WeightsFile:
    """Read one `.pt`, `.pth`, `.tar`, `.bin` or `.safetensors` file.

    Raises:
        CheckpointFormatError: it is damaged, or holds no tensors by name.
        UnsafeCheckpointError: reading it would run code; nothing of it was run.
    """
    content: Any = read_tensors(path) if path.suffix == ".safetensors" else read_content(path)
    if not isinstance(content, dict) or not content:
        raise CheckpointFormatError(
            f"{path} holds {_word(content)}, not a dictionary of tensors by name."
        )
    if all(isinstance(value, Tensor) for value in content.values()):
        tensors = _checked(content, path=path, key="")
        ours = any(_OURS.match(name) for name in tensors)
        return WeightsFile(path, "ours" if ours else "meta", {"": tensors})
    parts: dict[str, Mapping[str, Tensor]] = {}
    facts: dict[str, Fact] = {}
    others: dict[str, str] = {}
    heads: tuple[Mapping[str, Tensor], ...] = ()
    for key, value in content.items():
        known = key in (*ENCODER_KEYS, "predictor")
        if known or _is_state_dict(value):
            parts[str(key)] = _checked(value, path=path, key=str(key))
        elif key == "classifiers" and value and isinstance(value, list | tuple):
            heads = tuple(
                _checked(head, path=path, key=f"classifiers[{index}]")
                for index, head in enumerate(value)
            )
        elif isinstance(value, int | float | str):
            facts[str(key)] = value
        else:
            others[str(key)] = _word(value)
    return WeightsFile(path, "nested", parts, heads, facts, others)


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def _checked(content: object, *, path: Path, key: str) -> dict[str, Tensor]:
    """The tensors of one sub-dictionary, all of them plain ones.

    Raises:
        CheckpointFormatError: an entry is something else.
    """
    where = f"{key!r} of {path}" if key else f"{path}"
    if not isinstance(content, dict):
        raise CheckpointFormatError(
            f"{where} is {_word(content)}, not a dictionary of tensors by name."
        )
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointFormatError(
                f"{where} must map names to tensors, but {str(name)[:80]!r} is {_word(value)}."
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise CheckpointFormatError(
                f"{where} holds {name!r} as a {value.layout} tensor on {value.device}"
                f"{', quantised' if value.is_quantized else ''}; weights must be plain tensors."
            )
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise CheckpointFormatError(
                f"{where} holds {name!r} of shape {list(value.shape)}, more values than are "
                "stored. The file is damaged."
            )
        tensors[name] = value
    return tensors


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    plain = ((without_wrappers(name), tensor) for name, tensor in tensors.items())
    return {name: tuple(tensor.shape) for name, tensor in plain if not name.endswith("pos_embed")}


def _shape_word(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"{list(shape)}"


def _modality(name: str) -> bool:
    return name.endswith("_mod_embed")


def _word(value: object) -> str:
    if isinstance(value, dict):
        return f"a dictionary of {len(value)} entries"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)} entries"
    return "nothing" if value is None else f"a {type(value).__name__}"
