"""Model outputs: attribute, key and position always agree."""

import copy
import dataclasses
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from vjepa2.errors import InputError, UnknownOptionError
from vjepa2.models.outputs import (
    BaseModelOutput,
    ImageClassifierOutput,
    ModelOutput,
    VJEPA2WithMaskedInputModelOutput,
    VJEPA2WithMaskedInputPredictorOutput,
    levels_that_exist,
    levels_to_keep,
    listed_levels,
)
from wrong_values import assert_named, fits_forward, is_listed, is_whole

LAST, MASKED, LEVEL = torch.ones(1), torch.zeros(2), torch.full((3,), 2.0)


def make() -> VJEPA2WithMaskedInputModelOutput:
    predicted = VJEPA2WithMaskedInputPredictorOutput(
        last_hidden_state=LAST, target_hidden_state=MASKED
    )
    return VJEPA2WithMaskedInputModelOutput(
        last_hidden_state=LAST, predictor_output=predicted, hidden_states=(LEVEL, None)
    )


def test_three_ways_to_read() -> None:
    out = make()
    assert out.last_hidden_state is out["last_hidden_state"] is out[0] is LAST
    assert out.hidden_states is out["hidden_states"] is out[2] is out[-1]
    assert out.predictor_output is out["predictor_output"]
    assert out[1] == out.predictor_output.to_tuple() == (LAST, MASKED)
    assert out[:2] == (LAST, (LAST, MASKED))
    assert out.masked_hidden_state is None


def test_absent_fields_are_absent_everywhere() -> None:
    out = make()
    assert list(out) == ["last_hidden_state", "predictor_output", "hidden_states"]
    assert len(out) == 3 and len(out.to_tuple()) == 3
    assert "masked_hidden_state" not in out
    assert out.get("masked_hidden_state") is None
    assert [key for key, _ in out.items()] == list(out.keys())
    with pytest.raises(KeyError):
        out["masked_hidden_state"]
    with pytest.raises(IndexError):
        out[3]


def test_tuples_are_tuples_all_the_way() -> None:
    values = make().to_tuple()
    assert type(values) is tuple and type(values[1]) is tuple


def test_it_is_a_dictionary_and_a_dataclass() -> None:
    out = make()
    assert isinstance(out, dict) and isinstance(out, OrderedDict)
    assert dict(**out).keys() == dict(out).keys() == out.keys()
    assert dict(out)["last_hidden_state"] is LAST
    assert {**out}["hidden_states"] is out.hidden_states
    assert dataclasses.is_dataclass(out)
    assert dataclasses.replace(out, masked_hidden_state=MASKED).masked_hidden_state is MASKED
    assert repr(out).startswith("VJEPA2WithMaskedInputModelOutput(last_hidden_state=tensor([1.])")


def views(out: ModelOutput, name: str) -> tuple[Any, Any]:
    return getattr(out, name), out.get(name)


def test_writing_keeps_attribute_and_key_equal() -> None:
    out = make()
    out.last_hidden_state = LEVEL
    assert views(out, "last_hidden_state") == (LEVEL, LEVEL) and out[0] is LEVEL
    out["last_hidden_state"] = LAST
    assert views(out, "last_hidden_state") == (LAST, LAST)
    out.masked_hidden_state = MASKED
    assert views(out, "masked_hidden_state") == (MASKED, MASKED) and out[-1] is MASKED
    out.masked_hidden_state = None
    assert views(out, "masked_hidden_state") == (None, None) and len(out) == 3
    del out["hidden_states"]
    assert views(out, "hidden_states") == (None, None) and len(out) == 2
    assert out.pop("predictor_output") is not None
    assert views(out, "predictor_output") == (None, None) and list(out) == ["last_hidden_state"]
    assert out.pop("attentions", 7) == 7
    with pytest.raises(KeyError):
        out.pop("attentions")
    out.update(attentions=(LAST,))
    assert views(out, "attentions") == ((LAST,), (LAST,))


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda out: pickle.loads(pickle.dumps(out))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies(again: Any) -> None:
    out, other = make(), again(make())
    assert type(other) is type(out) and list(other) == list(out)
    assert torch.equal(other.last_hidden_state, LAST)
    assert type(other.predictor_output) is VJEPA2WithMaskedInputPredictorOutput
    assert torch.equal(other.predictor_output.target_hidden_state, MASKED)
    assert torch.equal(other["hidden_states"][0], LEVEL) and other.hidden_states[1] is None
    other.last_hidden_state = MASKED
    assert out.last_hidden_state is LAST


def test_trees_of_tensors_look_inside() -> None:
    """torch.export, FSDP and functional transforms walk outputs this way."""
    out = make()
    doubled = pytree.tree_map(lambda leaf: None if leaf is None else leaf * 2, out)
    assert type(doubled) is VJEPA2WithMaskedInputModelOutput
    assert torch.equal(doubled.hidden_states[0], LEVEL * 2)
    assert torch.equal(doubled.predictor_output.last_hidden_state, LAST * 2)
    leaves, spec = pytree.tree_flatten(out)
    expected = (LAST, LAST, MASKED, LEVEL, None)
    assert all(leaf is wanted for leaf, wanted in zip(leaves, expected, strict=True))
    assert pytree.tree_unflatten(leaves, spec).predictor_output.target_hidden_state is MASKED
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(out)[0]]
    assert paths[:2] == ["['last_hidden_state']", "['predictor_output']['last_hidden_state']"]


def test_wrappers_rebuild_outputs_from_pairs() -> None:
    """accelerate calls `type(out)({...})`, DataParallel `type(out)((key, value) for ...)`."""
    out = make()
    for again in (type(out)(dict(out)), type(out)((key, out[key]) for key in out)):
        assert list(again) == list(out)
        assert again.last_hidden_state is LAST and again["hidden_states"] is out.hidden_states
        assert again.predictor_output is out.predictor_output
    with pytest.raises(UnknownOptionError, match="Did you mean 'logits'"):
        ImageClassifierOutput({"logit": LAST})


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [(True, [0, 1, 2]), (False, []), (None, []), ([], []), (1, [1]), (0, [0]), ([-1, 0], [2, 0])],
)
def test_levels_to_keep(wanted: Any, kept: list[int]) -> None:
    assert levels_to_keep(wanted, num_levels=3) == kept


@pytest.mark.parametrize("wanted", [3, -4, [0, 7]])
def test_levels_that_do_not_exist(wanted: Any) -> None:
    with pytest.raises(InputError, match=r"there are 3: 0 \(the embeddings\) to 2 .* -3 to -1"):
        levels_to_keep(wanted, num_levels=3)


def test_levels_that_exist() -> None:
    assert levels_that_exist([0, 5, -1, -9, 2], num_levels=3) == [0, -1, 2]
    assert levels_that_exist(7, num_levels=3) == []
    assert levels_that_exist(2, num_levels=3) == [2]
    assert levels_that_exist(True, num_levels=3) is True
    assert levels_that_exist(None, num_levels=3) is None


def test_every_output_has_only_optional_fields() -> None:
    """So that wrappers may make an empty one and fill it key by key (FSDP does)."""
    for kind in (BaseModelOutput, ImageClassifierOutput, VJEPA2WithMaskedInputPredictorOutput):
        out = kind()
        assert len(out) == 0 and out.to_tuple() == ()
        out["hidden_states"] = (LAST,)
        assert out.hidden_states == (LAST,)


def test_only_whole_numbers_and_lists_of_them_name_levels() -> None:
    assert_named(
        lambda value: levels_to_keep(value, num_levels=3),
        allowed=lambda value: fits_forward("output_hidden_states", value, depth=2),
        error=InputError,
    )
    assert_named(
        lambda value: levels_to_keep([0, value], num_levels=3),
        allowed=lambda value: is_whole(value, least=-3, most=2),
        error=InputError,
    )
    assert levels_to_keep([np.int64(-1), 0], num_levels=3) == [2, 0]
    assert levels_to_keep(range(1, 3), num_levels=3) == [1, 2]


def test_lists_of_blocks() -> None:
    assert listed_levels("output_levels", (np.int64(4), -7)) == [4, -7]
    assert_named(
        lambda value: listed_levels("output_levels", value),
        allowed=lambda value: is_listed(value, least=0, most=9),
        error=InputError,
    )
    with pytest.raises(InputError, match=r"output_levels must be a list of whole .* got None"):
        listed_levels("output_levels", None)


def test_levels_that_exist_refuse_what_names_none() -> None:
    with pytest.raises(InputError, match="output_hidden_states, unless True, False or one level, "):
        levels_that_exist("all", num_levels=3)  # type: ignore[arg-type]
