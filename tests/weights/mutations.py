"""Changes of valid files, and what must happen to each: `CASES` for test_mutations.py.

A mutation changes a `Sample` and returns what must happen: `loads()`, after bringing the expected
parameters up to date, or `refused(...)` with the class of the error and a word of its message.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from original_files import FAMILIES, Sample, encoder
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointMismatchError,
    ConfigError,
    UnsafeCheckpointError,
    VJEPAError,
)

FORMAT, MISMATCH, CONFIG = CheckpointFormatError, CheckpointMismatchError, ConfigError


@dataclass
class Outcome:
    """What must happen, and how the file is loaded.

    Attributes:
        error: exact class of the error; None when the file loads.
        words: pattern in the message.
        options: of from_pretrained, beside those of the sample.
        damage: done to the file after it was written.
    """

    error: type[VJEPAError] | None = None
    words: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    damage: Callable[[Path], None] = lambda path: None


def refused(error: type[VJEPAError], words: str, **options: Any) -> Outcome:
    return Outcome(error, words, options)


def loads(**options: Any) -> Outcome:
    return Outcome(options=options)


Change = Callable[[Sample, random.Random], Outcome]


class Case(NamedTuple):
    change: Change
    family: str
    seed: int


CASES: list[Case] = []
NETWORKS = ("v2", "v21_deep", "v21_distilled", "action")
ALL = tuple(FAMILIES)


def mutation(families: tuple[str, ...], seeds: int = 1) -> Callable[[Change], Change]:
    """Put a change into the list, for some families and random seeds."""

    def register(change: Change) -> Change:
        CASES.extend(Case(change, name, seed) for name in families for seed in range(seeds))
        return change

    return register


# -- helpers of the mutations ---------------------------------------------------------------------


def stack_of(sample: Sample) -> str:
    """What stands before the number of a block."""
    return "pooler.blocks." if sample.part == "classifiers" else "blocks."


def depth_of(sample: Sample) -> int:
    names, stack = sample.tensors(), stack_of(sample)
    return 1 + max(int(n.partition(stack)[2].split(".")[0]) for n in names if stack in n)


def depth_option(sample: Sample, depth: int) -> dict[str, Any]:
    if sample.part == "classifiers":
        return {"num_pooler_layers": depth}
    levels = {"hierarchical_layers": [0, 1, 2, depth - 1]} if depth > 6 else {}
    return {"num_hidden_layers": depth, **levels}


def depth_words(got: int, wanted: int) -> str:
    return rf"num_(hidden|pooler)_layers is {got} in the file and {wanted} in the configuration"


def pick(sample: Sample, rng: random.Random, *, ending: str) -> str:
    """A random name with that ending, never of block 0, whose shapes tell the geometry."""
    names = [name for name in sample.tensors() if name.endswith(ending) and ".0." not in name]
    return rng.choice(sorted(names))


def in_both(sample: Sample, name: str, change: Callable[[Tensor], Tensor]) -> None:
    for tensors in sample.both():
        tensors[name] = change(tensors[name])


def in_both_renamed(sample: Sample, rename: Callable[[str], str]) -> None:
    for tensors in sample.both():
        renamed = {rename(name): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)


def ours_of(sample: Sample, tensor: Tensor) -> str:
    """Our name of the one expected parameter with these numbers."""
    [name] = [n for n, value in sample.expected.items() if torch.equal(value, tensor)]
    return name


# -- depth ----------------------------------------------------------------------------------------


@mutation(ALL, seeds=2)
def missing_block(sample: Sample, rng: random.Random) -> Outcome:
    index = rng.randrange(depth_of(sample))
    tensors = sample.tensors()
    for name in [n for n in tensors if f"{stack_of(sample)}{index}." in n]:
        del tensors[name]
    if sample.twin:
        return refused(FORMAT, "should be the same network, but 12 tensors differ.*is missing in")
    if sample.part == "encoder" and index == 0:
        return refused(FORMAT, r"not a whole one: no 'encoder\.layer\.0\.")
    return refused(MISMATCH, rf"missing \(16\).*\.{index}\..*Likely cause")


@mutation(NETWORKS)
def missing_block_in_both_encoders(sample: Sample, rng: random.Random) -> Outcome:
    depth = depth_of(sample)
    for tensors in sample.both():
        for name in [n for n in tensors if f".blocks.{depth - 1}." in n]:
            del tensors[name]
    return refused(MISMATCH, depth_words(depth - 1, depth), **depth_option(sample, depth))


@mutation(NETWORKS)
def missing_predictor_block(sample: Sample, rng: random.Random) -> Outcome:
    tensors = sample.content["predictor"]
    for name in [n for n in tensors if ".predictor_blocks.1." in n]:
        del tensors[name]
    return refused(MISMATCH, "pred_num_hidden_layers is 1 in the file and 2 in the configuration")


@mutation(ALL)
def wrong_depth(sample: Sample, rng: random.Random) -> Outcome:
    depth = depth_of(sample)
    return refused(MISMATCH, depth_words(depth, depth + 1), **depth_option(sample, depth + 1))


@mutation(ALL)
def extra_block(sample: Sample, rng: random.Random) -> Outcome:
    depth, stack = depth_of(sample), stack_of(sample)
    for tensors in sample.both():
        last = {n: t for n, t in tensors.items() if f"{stack}{depth - 1}." in n}
        for name, tensor in last.items():
            tensors[name.replace(f"{stack}{depth - 1}.", f"{stack}{depth}.")] = tensor
    return refused(MISMATCH, depth_words(depth + 1, depth), **depth_option(sample, depth))


@mutation(("v2", "v21_deep", "v21_distilled"))
def extra_block_in_one_encoder(sample: Sample, rng: random.Random) -> Outcome:
    depth, tensors = depth_of(sample), sample.tensors()
    for name in [n for n in tensors if f".blocks.{depth - 1}." in n]:
        tensors[name.replace(f".{depth - 1}.", f".{depth}.")] = tensors[name]
    return refused(FORMAT, "should be the same network.* missing in the second")


# -- names ----------------------------------------------------------------------------------------


@mutation(ALL, seeds=2)
def one_tensor_missing(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=rng.choice([".norm2.bias", "mlp.fc2.weight", "attn.qkv.bias"]))
    for tensors in sample.both():
        del tensors[name]
    return refused(MISMATCH, r"missing \([13]\).*Likely cause")


@mutation(ALL, seeds=2)
def renamed_key(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=rng.choice([".norm1.bias", "mlp.fc1.weight"]))
    other = name.replace(".norm1.", ".ln_1.").replace(".fc1.", ".up.")
    in_both_renamed(sample, lambda old: other if old == name else old)
    return refused(MISMATCH, rf"unexpected \(1\): {other}\n")


@mutation(ALL)
def extra_tensor(sample: Sample, rng: random.Random) -> Outcome:
    for tensors in sample.both():
        tensors["module.running_mean"] = torch.ones(3)
    return refused(MISMATCH, r"unexpected \(1\): module\.running_mean")


@mutation(ALL)
def double_prefix(sample: Sample, rng: random.Random) -> Outcome:
    in_both_renamed(sample, lambda name: f"module.{name}")
    return loads()


@mutation(ALL)
def no_prefix(sample: Sample, rng: random.Random) -> Outcome:
    in_both_renamed(sample, lambda name: name.replace("module.", "").replace("backbone.", ""))
    return loads()


@mutation(ALL)
def prefixes_in_another_order(sample: Sample, rng: random.Random) -> Outcome:
    in_both_renamed(sample, lambda name: f"backbone.{name.replace('backbone.', '')}")
    return loads()


@mutation(ALL)
def the_same_tensor_under_two_names(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=".norm1.bias")
    for tensors in sample.both():
        tensors[f"module.{name}"] = tensors[name] + 1
    return refused(FORMAT, "are two tensors for the same place")


@mutation(("v2", "v21_deep", "action", "probe_one"))
def number_with_a_leading_zero(sample: Sample, rng: random.Random) -> Outcome:
    in_both_renamed(sample, lambda name: name.replace("blocks.1.", "blocks.01."))
    return refused(MISMATCH, r"unexpected \(12\): .*blocks\.01\..*cause: .* a zero in front")


@mutation(NETWORKS)
def a_name_of_another_layer(sample: Sample, rng: random.Random) -> Outcome:
    in_both_renamed(sample, lambda name: name.replace("blocks.1.mlp.fc1", "blocks.1.mlp.fc0"))
    return refused(MISMATCH, r"mlp\.fc0\.bias' is no name of Meta's original code")


@mutation(ALL)
def compiled_before_it_was_wrapped(sample: Sample, rng: random.Random) -> Outcome:
    tensors = sample.tensors()
    renamed = {name.replace("module.", "module._orig_mod.", 1): t for name, t in tensors.items()}
    tensors.clear()
    tensors.update(renamed)
    return loads()


@mutation(("action",))
def no_camera_poses(sample: Sample, rng: random.Random) -> Outcome:
    predicts = sample.content["predictor"]
    del predicts["module.extrinsics_encoder.weight"], predicts["module.extrinsics_encoder.bias"]
    return refused(MISMATCH, r"cause: the file lacks the embedding of camera poses")


@mutation(("v21_deep", "v21_distilled"))
def no_modality_vectors(sample: Sample, rng: random.Random) -> Outcome:
    for tensors in (*sample.both(), sample.content["predictor"]):
        for name in [n for n in tensors if n.endswith("_mod_embed")]:
            del tensors[name]
    return refused(MISMATCH, r"cause: the file lacks the modality vectors")


@mutation(("v21_deep", "v21_distilled"))
def no_head_for_visible_tokens(sample: Sample, rng: random.Random) -> Outcome:
    predicts = sample.content["predictor"]
    for name in [n for n in predicts if "proj_context" in n]:
        del predicts[name]
    return refused(MISMATCH, r"cause: the file lacks the predictor's second head")


@mutation(("v2", "v21_deep", "v21_distilled"))
def no_mask_tokens(sample: Sample, rng: random.Random) -> Outcome:
    predicts = sample.content["predictor"]
    for name in [n for n in predicts if "mask_tokens" in n]:
        del predicts[name]
    return refused(MISMATCH, r"cause: the file lacks the mask tokens")


@mutation(("v2", "v21_deep", "v21_distilled"))
def gap_in_the_mask_tokens(sample: Sample, rng: random.Random) -> Outcome:
    del sample.content["predictor"]["module.backbone.mask_tokens.1"]
    return refused(MISMATCH, r"unexpected \(2\): module\.backbone\.mask_tokens\.0")


@mutation(("v2", "action"))
def old_tables_of_positions(sample: Sample, rng: random.Random) -> Outcome:
    for tensors in sample.both():
        tensors["module.backbone.pos_embed"] = torch.ones(1, 8, 24)
    return loads()


@mutation(("v2",))
def first_generation(sample: Sample, rng: random.Random) -> Outcome:
    for tensors in sample.both():
        tensors["module.backbone.pos_embed"] = torch.ones(1, 8, 24)
    predicts = sample.content["predictor"]
    predicts["module.backbone.predictor_pos_embed"] = torch.ones(1, 8, 16)
    del predicts["module.backbone.mask_tokens.2"]
    return refused(FORMAT, "looks like V-JEPA 1.*no rotary positions")


@mutation(("v2",), seeds=2)
def first_generation_with_one_table(sample: Sample, rng: random.Random) -> Outcome:
    predicts = sample.content["predictor"]
    del predicts["module.backbone.mask_tokens.2"]
    if rng.random() < 0.5:
        for tensors in sample.both():
            tensors["module.backbone.pos_embed"] = torch.ones(1, 8, 24)
    else:
        predicts["module.backbone.predictor_pos_embed"] = torch.ones(1, 8, 16)
    return refused(FORMAT, "looks like V-JEPA 1.*no rotary positions")


# -- shapes ---------------------------------------------------------------------------------------


@mutation(ALL, seeds=2)
def one_matrix_of_another_width(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=rng.choice(["attn.proj.weight", "mlp.fc2.weight"]))
    in_both(sample, name, lambda tensor: torch.cat([tensor, tensor[:, :1]], dim=1))
    return refused(MISMATCH, r"mis-shaped \(1\): .*: file \[\d+, \d+\] float32, network \[")


@mutation(ALL)
def swapped_width(sample: Sample, rng: random.Random) -> Outcome:
    return refused(MISMATCH, r"mis-shaped.*Likely cause", hidden_size=36)


@mutation(ALL, seeds=2)
def transposed_matrix(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=rng.choice(["attn.qkv.weight", "mlp.fc2.weight"]))
    in_both(sample, name, lambda tensor: tensor.T.contiguous())
    return refused(MISMATCH, "transposed or reshaped")


@mutation(ALL)
def fused_matrix_that_is_no_three(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending="attn.qkv.weight")
    in_both(sample, name, lambda tensor: tensor[:-1])
    return refused(
        MISMATCH,
        r"missing \(3\).*unexpected \(1\): .*attn\.qkv\.weight.*be divided into 3 matrices",
    )


@mutation(ALL)
def fused_matrix_of_one_number(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending="attn.qkv.bias")
    in_both(sample, name, lambda tensor: tensor[0])
    return refused(MISMATCH, r"'.*qkv\.bias' of shape \[\] cannot be divided into 3 matrices")


@mutation(NETWORKS)
def images_for_videos(sample: Sample, rng: random.Random) -> Outcome:
    name = next(n for n in sample.tensors() if n.endswith("patch_embed.proj.weight"))
    in_both(sample, name, lambda tensor: tensor[:, :, 0])
    return refused(FORMAT, r"has the shape \[\d+, 3, 4, 4\]; it must have 5 axes")


@mutation(("v2", "v21_deep", "probe_one"))
def no_axis_at_all(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=".norm2.weight")
    in_both(sample, name, lambda tensor: torch.tensor(1.0))
    return refused(MISMATCH, r"mis-shaped \(1\): .*file \[\] float32")


# -- values ---------------------------------------------------------------------------------------


@mutation(ALL, seeds=2)
def whole_numbers(sample: Sample, rng: random.Random) -> Outcome:
    dtype = rng.choice([torch.int8, torch.int64, torch.uint8, torch.bool])
    name = pick(sample, rng, ending="mlp.fc1.weight")
    in_both(sample, name, lambda tensor: tensor.to(dtype))
    return refused(MISMATCH, rf"stores {str(dtype)[6:]} values.*must be float32")


@mutation(("v2", "action", "probe_one"))
def complex_numbers(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending="mlp.fc1.weight")
    in_both(sample, name, lambda tensor: tensor.to(torch.complex64))
    return refused(MISMATCH, r"stores complex64 values.*must be float32")


@mutation(ALL)
def some_in_half_precision(sample: Sample, rng: random.Random) -> Outcome:
    """The model takes the type that holds all values: nothing is rounded."""
    tensors = sample.tensors()
    for name in [n for n in tensors if n.endswith(("attn.proj.weight", "norm1.bias"))]:
        ours = ours_of(sample, tensors[name])
        tensors[name] = tensors[name].half()
        sample.expected[ours] = tensors[name].float()
    return loads()


@mutation(ALL)
def all_in_bfloat16(sample: Sample, rng: random.Random) -> Outcome:
    parts = [value for value in sample.content.values() if isinstance(value, dict)]
    parts += sample.content.get("classifiers", [])
    for tensors in parts:
        tensors.update({n: t.bfloat16() for n, t in tensors.items() if isinstance(t, Tensor)})
    sample.expected = {name: value.bfloat16() for name, value in sample.expected.items()}
    return loads()


@mutation(ALL, seeds=2)
def not_a_number(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=rng.choice(["mlp.fc2.weight", "attn.qkv.bias"]))
    value = rng.choice([float("nan"), float("inf"), float("-inf")])
    tensor = sample.tensors()[name]
    tensor.view(-1)[rng.randrange(tensor.numel())] = value
    return refused(FORMAT, rf"'{name}' in .* holds NaN or infinity")


@mutation(ALL, seeds=2)
def hole_of_zeros(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending=rng.choice(["mlp.fc1.weight", "norm1.weight", "proj.weight"]))
    sample.tensors()[name].zero_()
    return refused(FORMAT, rf"'{name}' in .* is zero throughout")


@mutation(ALL)
def zeros_that_may_be(sample: Sample, rng: random.Random) -> Outcome:
    """Biases and mask tokens of a good file are often zero; the expected ones are the same."""
    for name, tensor in sample.expected.items():
        if name.endswith(("mlp.fc2.bias", "mask_tokens")):
            tensor.zero_()
    for value in sample.content.values():
        for tensors in value if isinstance(value, list) else [value]:
            for name in tensors if isinstance(tensors, dict) else []:
                if name.endswith("mlp.fc2.bias") or "mask_tokens" in name:
                    tensors[name].zero_()
    return loads()


# -- sub-dictionaries -----------------------------------------------------------------------------


@mutation(("v2", "v21_deep", "v21_distilled"))
def the_trained_encoder_when_asked(sample: Sample, rng: random.Random) -> Outcome:
    """`encoder`, not the averaged one: the numbers of the other seed."""
    width, depth = (
        (24, 3) if sample.part == "target_encoder" and depth_of(sample) == 3 else (12, 12)
    )
    trained = encoder(100, width=width, depth=depth, second=depth == 12)
    sample.expected |= trained.ours
    return loads(from_key="encoder")


@mutation(("v2", "v21_deep", "v21_distilled"))
def only_the_trained_encoder(sample: Sample, rng: random.Random) -> Outcome:
    outcome = the_trained_encoder_when_asked(sample, rng)
    del sample.content[sample.part]
    outcome.options = {}
    return outcome


@mutation(("v2", "v21_deep", "v21_distilled"))
def averaged_encoder_is_not_there(sample: Sample, rng: random.Random) -> Outcome:
    del sample.content[sample.part]
    return refused(
        FORMAT, rf"no encoder '{sample.part}'\. Encoders there: encoder", from_key=sample.part
    )


@mutation(NETWORKS)
def wrong_sub_dictionary(sample: Sample, rng: random.Random) -> Outcome:
    return refused(FORMAT, r"no encoder 'predictor'\. Encoders there: ", from_key="predictor")


@mutation(NETWORKS)
def predictor_in_place_of_the_encoder(sample: Sample, rng: random.Random) -> Outcome:
    for key in {sample.part, sample.twin or sample.part}:
        sample.content[key] = dict(sample.content["predictor"])
    return refused(FORMAT, "should hold the encoder, but has .* of the predictor")


@mutation(NETWORKS)
def encoder_in_place_of_the_predictor(sample: Sample, rng: random.Random) -> Outcome:
    sample.content["predictor"] = dict(sample.tensors())
    return refused(FORMAT, "should hold the predictor, but has .* of the encoder")


@mutation(NETWORKS)
def no_predictor(sample: Sample, rng: random.Random) -> Outcome:
    del sample.content["predictor"]
    if sample.part == "encoder":  # without its predictor it looks like V-JEPA 2
        return refused(CONFIG, "needs model_type 'vjepa2_ac'")
    return refused(MISMATCH, "an encoder without its predictor", pred_hidden_size=16)


@mutation(NETWORKS)
def empty_encoders(sample: Sample, rng: random.Random) -> Outcome:
    for tensors in sample.both():
        tensors.clear()
    return refused(FORMAT, rf"holds no encoder: .*{sample.part} \(empty\).*take another copy")


@mutation(NETWORKS)
def predictor_alone(sample: Sample, rng: random.Random) -> Outcome:
    sample.content = {"predictor": sample.content["predictor"], "epoch": 3}
    return refused(FORMAT, "found predictor, epoch.*give the file that holds both")


@mutation(("probe_one", "probe_three"))
def no_probe(sample: Sample, rng: random.Random) -> Outcome:
    sample.content["classifiers"] = []
    return refused(FORMAT, "holds no probe")


@mutation(("probe_one", "probe_three"))
def several_probes(sample: Sample, rng: random.Random) -> Outcome:
    first = sample.tensors()
    sample.content["classifiers"] = [{n: t + 1 for n, t in first.items()}, first]
    return refused(CONFIG, "holds 2 probes.*head=0 to head=1")


@mutation(("probe_one", "probe_three"))
def one_of_several_probes(sample: Sample, rng: random.Random) -> Outcome:
    several_probes(sample, rng)
    return loads(head=1)


@mutation(ALL)
def number_in_place_of_a_tensor(sample: Sample, rng: random.Random) -> Outcome:
    tensors: dict[str, Any] = sample.tensors()
    tensors[pick(sample, rng, ending=".norm1.bias")] = 0.5
    return refused(FORMAT, r"must map names to tensors, but '.*norm1\.bias' is a float")


@mutation(ALL)
def nothing_in_place_of_tensors(sample: Sample, rng: random.Random) -> Outcome:
    sample.content[sample.part] = [None] if sample.part == "classifiers" else None
    return refused(FORMAT, "is nothing, not a dictionary of tensors by name")


@mutation(("v2", "action"))
def bare_dictionary(sample: Sample, rng: random.Random) -> Outcome:
    sample.content = {**sample.tensors(), **sample.content["predictor"]}
    return loads()


# -- the file -------------------------------------------------------------------------------------


@mutation(ALL, seeds=2)
def truncated(sample: Sample, rng: random.Random) -> Outcome:
    share = rng.random()

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return Outcome(FORMAT, "is not a complete checkpoint", damage=cut)


class Runs:
    """Pickles to a call that would make a file."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.target),)


@mutation(ALL)
def code(sample: Sample, rng: random.Random) -> Outcome:
    sample.content["opt"] = {"state": [Runs("was-run")]}
    return refused(UnsafeCheckpointError, "would run code")


@mutation(("v2", "probe_one"))
def sparse_tensor(sample: Sample, rng: random.Random) -> Outcome:
    name = pick(sample, rng, ending="mlp.fc1.weight")
    in_both(sample, name, lambda tensor: tensor.to_sparse())
    return refused(FORMAT, "weights must be plain tensors")
