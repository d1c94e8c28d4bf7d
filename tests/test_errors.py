"""The exception tree, and messages that name the nearest option."""

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vjepa2 import errors
from vjepa2.errors import (
    ConfigError,
    MissingExtraError,
    UnknownOptionError,
    VJEPAError,
    check_choice,
    check_option_names,
    nearest_hint,
)
from wrong_values import assert_named

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type)
    and issubclass(value, Exception)
    and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_a_vjepa_error_with_a_docstring_and_stands_in_the_tree(cls: type) -> None:
    assert issubclass(cls, VJEPAError)
    assert cls.__doc__ or cls is MissingExtraError
    assert cls.__name__ in (errors.__doc__ or "")


def test_users_can_catch_the_builtin_they_know() -> None:
    assert issubclass(errors.ShapeError, ValueError)
    assert issubclass(errors.DtypeError, TypeError)
    assert issubclass(errors.VideoNotFoundError, FileNotFoundError)
    assert issubclass(errors.CheckpointMismatchError, RuntimeError)
    assert issubclass(errors.MissingExtraError, ImportError)
    assert issubclass(errors.OutputError, OSError)


def test_nearest_hint_guesses_only_when_something_is_near() -> None:
    assert nearest_hint("skip_predictors", ["skip_predictor", "labels"]).startswith(
        "Did you mean 'skip_predictor'?"
    )
    assert "Did you mean" not in nearest_hint("zzz", ["skip_predictor"])
    assert "skip_predictor" in nearest_hint("zzz", ["skip_predictor"])


def test_check_choice_and_option_names() -> None:
    check_choice("pool", "mean", ["mean", "tokens"])
    with pytest.raises(ConfigError, match="pool 'maen' does not exist. Did you mean 'mean'"):
        check_choice("pool", "maen", ["mean", "tokens"])
    check_option_names("embed", ["pool"], ["pool"])
    with pytest.raises(UnknownOptionError, match="embed has no option 'pol'. Did you mean 'pool'"):
        check_option_names("embed", ["pol"], ["pool"])


def test_missing_extra_holds_the_install_line() -> None:
    error = MissingExtraError("pyarrow", extra="parquet", needed_for="Parquet output", reason="no")
    assert "pip install 'vjepa2[parquet]'" in str(error)
    assert "Parquet output" in str(error)
    assert "(no)" in str(error)


def test_plain_errors_survive_pickling_between_worker_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.VideoDecodeError("frame 3 is damaged")))
    assert isinstance(error, errors.VideoDecodeError)
    assert str(error) == "frame 3 is damaged"


def test_messages_show_the_beginning_of_a_value_and_its_type() -> None:
    assert errors.described("text") == "'text' (str)"
    assert errors.described([1] * 99) == f"{repr([1] * 99)[:60]}... (list)"
    assert errors.described("two\nlines") == "'two\\nlines' (str)"
    assert errors.described(10**5000) == "a number of 16610 bits (int)"


def test_plain_arguments_are_checked() -> None:
    assert errors.checked_integer("n", np.int64(3), least=3, most=3) == 3
    assert errors.checked_number("x", Fraction(1, 2), above=0) == 0.5
    for value, message in (
        (2, "n must be 3 or more, got 2"),
        (5, "n must be 4 or less, got 5"),
        (10**5000, "got a number of 16610 bits"),
        (True, r"n must be an integer, got True \(bool\)"),
        (3.0, r"n must be an integer, got 3.0 \(float\)"),
        ("3", r"n must be an integer, got '3' \(str\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            errors.checked_integer("n", value, least=3, most=4)
    for value, message in (
        (0, "x must be above 0, got 0"),
        (9, "x must be at most 8, got 9"),
        (float("nan"), "x must be a finite number"),
        (10**400, "x is too large a number"),
        (1j, "x must be a number"),
        (False, "x must be a number"),
    ):
        with pytest.raises(errors.InputError, match=message):
            errors.checked_number("x", value, above=0, most=8, error=errors.InputError)
    errors.check_flag("quiet", True)
    with pytest.raises(ConfigError, match="quiet must be True or False, got 1"):
        errors.check_flag("quiet", 1)


def test_paths_are_checked() -> None:
    for fine in ("a/b", Path("a"), ".", "x" * 255, "\udc80"):
        errors.check_path("out", fine)
    for wrong, message in (
        (3, "out must be a path"),
        (b"a", "out must be a path"),
        ("", "out is empty"),
        ("a\0b", "null character"),
        ("x" * 256, "longer than 255 bytes"),
        ("\ud800", "no file name can hold"),
    ):
        with pytest.raises(ConfigError, match=message):
            errors.check_path("out", wrong)


def test_every_choice_and_name_is_checked_whatever_its_kind() -> None:
    def is_text(value: object) -> bool:
        return isinstance(value, str) and value == "text"

    assert_named(lambda value: check_choice("pool", value, ["text"]), allowed=is_text)
    with pytest.raises(UnknownOptionError, match="no option 1"):
        check_option_names("embed", {1: 2}, ["pool"])


def test_a_frame_that_does_not_exist_is_an_index_error() -> None:
    assert issubclass(errors.FrameIndexError, IndexError)
    assert issubclass(errors.FrameIndexError, errors.InputError)
