"""The exception tree, and messages that name the nearest option."""

import pickle

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
