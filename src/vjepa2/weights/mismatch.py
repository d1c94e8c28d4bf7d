"""Say why a checkpoint does not fit a network: which tensors, and the likely cause.

Long lists are folded (`encoder.layer.*.norm1.bias (24)`); the exception keeps all names.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from vjepa2.errors import CheckpointMismatchError
from vjepa2.weights.foreign import META_NAMES, WANTED, WRAPPED, causes_without, first_cause

SHOWN_GROUPS = 6
_LAYER = re.compile(r"^(?P<stack>.*\blayers?|.*_layers)\.(?P<index>\d+)\.")
# Tensor whose shape alone decides one number of the configuration.
_TELLING: tuple[tuple[str, int, str], ...] = (
    (r"encoder\.layernorm\.weight$", 0, "hidden_size"),
    (r"predictor\.layernorm\.weight$", 0, "pred_hidden_size"),
    (r"patch_embeddings\.proj\.weight$", 1, "in_chans"),
    (r"patch_embeddings\.proj\.weight$", 2, "tubelet_size"),
    (r"patch_embeddings\.proj\.weight$", 3, "patch_size"),
    (r"predictor\.embeddings\.mask_tokens$", 0, "pred_num_mask_tokens"),
    (r"^classifier\.weight$", 0, "num_labels"),
)
_PIECES = {
    r"predictor\.embeddings\.mask_tokens$": "the mask tokens of the predictor",
    r"\.modality\.(video|image)$": "the modality vectors of V-JEPA 2.1",
    r"predictor\.proj_context\.": "the predictor's second head, for visible tokens (V-JEPA 2.1)",
    r"\.action_embeddings\.": "the embedding of actions",
    r"\.state_embeddings\.": "the embedding of states",
    r"\.extrinsics_embeddings\.": (
        "the embedding of camera poses (extrinsics), which published V-JEPA 2-AC files have"
    ),
}
_DEPTHS = {
    "encoder.layer": "num_hidden_layers",
    "predictor.layer": "pred_num_hidden_layers",
    "pooler.self_attention_layers": "num_pooler_layers",
}


@dataclass(frozen=True)
class Differences:
    """Names and shapes that do not agree between network (`needed`) and file (`found`).

    Attributes:
        translated: whether the names of Meta's code in `found` became ours as far as they are
            known: those that are left are none of its names.
    """

    needed: Mapping[str, Tensor]
    found: Mapping[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    translated: bool = False

    def describe(self, name: str) -> tuple[str, str, str]:
        """(name, what the file holds, what the network needs) of a mismatched tensor."""
        return name, _kind(self.found[name]), _kind(self.needed[name])

    def error(self, *, network: str, where: str) -> CheckpointMismatchError:
        """The exception that lists everything and names the likely cause."""
        lines = [f"The weights in {where} do not fit {network}."]
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                lines.append(f"  {word} ({len(names)}): {fold(names)}")
        if self.mismatched:
            shown = [
                f"{name}: file {got}, network {wanted}"
                for name, got, wanted in map(self.describe, self.mismatched[:SHOWN_GROUPS])
            ]
            rest = len(self.mismatched) - len(shown)
            more = f"; ... and {rest} more" if rest > 0 else ""
            lines.append(f"  mis-shaped ({len(self.mismatched)}): {'; '.join(shown)}{more}")
        lines.append(f"Likely cause: {self.cause()}.")
        lines.append("All names are in the attributes missing, unexpected and mismatched.")
        return CheckpointMismatchError(
            "\n".join(lines),
            missing=self.missing,
            unexpected=self.unexpected,
            mismatched=map(self.describe, self.mismatched),
        )

    def cause(self) -> str:
        """The likely reason, most specific first."""
        for rule in (
            _foreign,
            _untranslated,
            _dtype,
            _telling,
            _depth,
            _transposed,
            _mlp,
            _biases,
            _pieces,
            _head,
            _little,
        ):
            if text := rule(self):
                return text
        return "another architecture, or a file that was changed by hand"


def fold(names: Iterable[str]) -> str:
    """Names in at most `SHOWN_GROUPS` groups: the finest that fit, from full names to prefixes."""
    ordered = sorted(names)
    deepest = max((name.count(".") for name in ordered), default=0)
    keys: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: re.sub(r"\.\d+\.", ".*.", name),
        *(partial(_prefix, depth=depth) for depth in range(deepest, 0, -1)),
    ]
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups = {}
        for name in ordered:
            groups.setdefault(key(name), []).append(name)
        if len(groups) <= SHOWN_GROUPS:
            break
    shown = [
        members[0] if len(members) == 1 else f"{pattern} ({len(members)})"
        for pattern, members in list(groups.items())[:SHOWN_GROUPS]
    ]
    rest = len(groups) - len(shown)
    return ", ".join(shown) + (f", ... and {rest} more groups" if rest > 0 else "")


def _prefix(name: str, depth: int) -> str:
    parts = name.split(".")
    return ".".join(parts[:depth]) + (".*" if len(parts) > depth else "")


def _kind(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _foreign(diff: Differences) -> str:
    causes = causes_without(*((META_NAMES, WRAPPED) if diff.translated else ()))
    return first_cause(causes, diff.unexpected, own=diff.needed) or first_cause(
        WANTED, diff.missing, own=diff.found
    )


def _untranslated(diff: Differences) -> str:
    """A name that looks like Meta's and is none, or a fused matrix that cannot be taken apart."""
    left = [name for name in diff.unexpected if re.search(META_NAMES, name)]
    if not diff.translated or not left:
        return ""
    shape = list(diff.found[left[0]].shape)
    fused = {"qkv": 3, "xattn.kv": 2}
    for word, count in fused.items():
        if f".{word}." in left[0] and (not shape or shape[0] % count):
            return (
                f"{left[0]!r} of shape {shape} cannot be divided into {count} matrices one above "
                "the other; the file is damaged or was changed by hand"
            )
    if re.search(r"\.0\d+\.", left[0]):
        return f"{left[0]!r} has a number with a zero in front, which Meta's code never writes"
    return f"{left[0]!r} is no name of Meta's original code; the file was changed by hand"


def _dtype(diff: Differences) -> str:
    for name in diff.mismatched:
        found = diff.found[name]
        if found.shape == diff.needed[name].shape:
            return (
                f"the file stores {str(found.dtype).removeprefix('torch.')} values, so it was "
                "quantised or converted; weights must be float32, float16, bfloat16 or float64"
            )
    return ""


def _telling(diff: Differences) -> str:
    for pattern, axis, field in _TELLING:
        for name in diff.mismatched:
            got, wanted = diff.found[name].shape, diff.needed[name].shape
            same_rank = len(got) == len(wanted)
            if re.search(pattern, name) and same_rank and got[axis] != wanted[axis]:
                return _told(field, got[axis], wanted[axis])
    return ""


def _told(field: str, got: int, wanted: int) -> str:
    if field == "num_labels":
        return (
            f"the file's classifier has {got} labels and the network {wanted}. Leave "
            f"num_labels/id2label out to use the stored labels, or pass "
            "ignore_mismatched_sizes=True to start with a fresh head"
        )
    return (
        f"{field} is {got} in the file and {wanted} in the configuration; use the config.json that "
        "belongs to these weights"
    )


def _depth(diff: Differences) -> str:
    for stack, field in _DEPTHS.items():
        got, wanted = (_num_layers(names, stack) for names in (diff.found, diff.needed))
        names = [*diff.missing, *diff.unexpected]
        beyond = [name for name in names if _beyond(name, stack, min(got, wanted))]
        if got != wanted and got and wanted and len(beyond) == len(names):
            return _told(field, got, wanted)
    return ""


def _beyond(name: str, stack: str, depth: int) -> bool:
    match = _LAYER.match(name)
    return bool(match and match["stack"].endswith(stack) and int(match["index"]) >= depth)


def _num_layers(names: Mapping[str, Tensor], stack: str) -> int:
    matches = [_LAYER.match(name) for name in names]
    inside = [match for match in matches if match and match["stack"].endswith(stack)]
    return 1 + max((int(match["index"]) for match in inside), default=-1)


def _transposed(diff: Differences) -> str:
    if diff.mismatched and all(
        diff.found[name].ndim > 1 and diff.found[name].numel() == diff.needed[name].numel()
        for name in diff.mismatched
    ):
        return (
            "these matrices are transposed or reshaped; the file was written by another "
            "framework's export"
        )
    return ""


def _mlp(diff: Differences) -> str:
    if diff.mismatched and all(".mlp.fc" in name for name in diff.mismatched):
        return (
            "mlp_ratio or pred_mlp_ratio differs from the file; use the config.json that belongs "
            "to these weights"
        )
    return ""


def _biases(diff: Differences) -> str:
    names = [*diff.missing, *diff.unexpected]
    if names and all(re.search(r"\.(query|key|value)\.bias$", name) for name in names):
        state = "False" if diff.missing else "True"
        return f"the file was made with qkv_bias={state}; use its own config.json"
    return ""


def _pieces(diff: Differences) -> str:
    """Small parts that are there completely or not at all."""
    found = {
        words: [name for name in diff.missing if re.search(pattern, name)]
        for pattern, words in _PIECES.items()
    }
    of_pieces = sum(map(len, found.values()))
    has_predictor = any(_in_predictor(name) for name in diff.found)
    if diff.unexpected or not of_pieces or of_pieces < len(diff.missing) or not has_predictor:
        return ""
    lost = " and ".join(words for words, names in found.items() if names)
    return f"the file lacks {lost}; it was written without, or is incomplete"


def _in_predictor(name: str) -> bool:
    return name.removeprefix("vjepa2.").startswith("predictor.")


def _head(diff: Differences) -> str:
    has_predictor = any(map(_in_predictor, diff.found))
    checks: tuple[tuple[Callable[[str], bool], str], ...] = (
        (
            _in_predictor,
            "the predictor is incomplete in the file"
            if has_predictor
            else (
                "the file holds an encoder without its predictor; both are needed. For features of "
                "the encoder alone pass fresh_predictor=True, which makes a predictor of random "
                "numbers"
            ),
        ),
        (
            lambda name: name.startswith(("pooler.", "classifier.")),
            "the classifier's head is incomplete in the file",
        ),
    )
    for belongs, text in checks:
        if diff.missing and not diff.unexpected and all(map(belongs, diff.missing)):
            return text
    return ""


def _little(diff: Differences) -> str:
    if diff.missing and len(diff.missing) <= len(diff.needed) // 20 and not diff.unexpected:
        return "the file is incomplete: a few tensors were left out when it was written"
    if diff.unexpected and len(diff.unexpected) <= len(diff.found) // 20 and not diff.missing:
        return "the file holds tensors of something else besides this network"
    if not set(diff.found) & set(diff.needed):
        examples = ", ".join(sorted(diff.found)[:3])
        return f"another architecture: not one name agrees (the file has {examples} ...)"
    return ""
