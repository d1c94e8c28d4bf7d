"""Every exception this package raises on purpose, and checks of plain arguments that raise them.

    VJEPAError
    ├── ConfigError (ValueError)            an option or a configuration value is wrong
    │   └── UnknownOptionError (TypeError)  ... and does not exist; the nearest name is given
    ├── InputError (ValueError)             a tensor or argument handed to a model is wrong
    │   ├── ShapeError                      rank, size or channel order
    │   ├── DtypeError (TypeError)          element type, NaN or infinity
    │   ├── MaskError                       context/target ids
    │   ├── LabelError                      class labels
    │   └── FrameIndexError (IndexError)    no frame of that number
    ├── VideoError (ValueError)             a video cannot be read
    │   ├── VideoNotFoundError (FileNotFoundError)
    │   ├── VideoAccessError (PermissionError)
    │   ├── VideoOpenError                  not a video, empty, or damaged beyond opening
    │   ├── NoVideoStreamError              audio only, no frames
    │   ├── VideoDecodeError                damaged or truncated inside
    │   ├── VideoTooLargeError              more pixels or bytes than the limit
    │   └── VideoTooShortError              fewer frames than the clip asks for
    ├── WeightsError (RuntimeError)         a checkpoint cannot be used
    │   ├── CheckpointNotFoundError (FileNotFoundError)
    │   ├── CheckpointFormatError           truncated, not a checkpoint, wrong architecture
    │   ├── CheckpointChangedError          not the file that was recorded when first downloaded
    │   ├── CheckpointMismatchError         missing, unexpected or mis-shaped tensors
    │   └── UnsafeCheckpointError           the file would run code
    ├── DataError (ValueError)              a set of training files cannot be used
    │   ├── DataNotFoundError (FileNotFoundError)
    │   ├── ListError                       a list of files is malformed: columns, lines
    │   ├── BadFilesError                   too many of the files cannot be read
    │   ├── EpisodeError                    a robot's episode: lengths, NaN, times
    │   │   └── MissingFramesError          its video lacks frames
    │   ├── LeakError                       what is evaluated was trained on, or seen too early
    │   └── DataWorkerError (RuntimeError)  a decoding process died
    ├── TrainingError (RuntimeError)        a run cannot start or go on
    │   ├── DivergedError                   the loss is NaN or infinite
    │   ├── TrainingMemoryError (MemoryError)  the device has too little memory
    │   └── ProcessesError                  the processes of a run do not find each other
    ├── PlanningError (RuntimeError)        no plan can be made, or none can be carried out
    │   ├── UnsafeActionError               an action was refused before the robot got it
    │   └── RobotError                      a robot raised or did not answer in time
    ├── OutputError (OSError)               a result cannot be written
    └── MissingExtraError (ImportError)     an optional package is not installed

Messages say what was got, what is allowed and what to do next.
"""

import difflib
import math
import numbers
import os
from collections.abc import Iterable
from typing import Any


class VJEPAError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(VJEPAError, ValueError):
    """An option or configuration value is not allowed."""


class UnknownOptionError(ConfigError, TypeError):
    """An option name does not exist; the message gives the nearest one."""


class InputError(VJEPAError, ValueError):
    """An argument handed to a model or processor is wrong."""


class ShapeError(InputError):
    """Rank, size or axis order of a tensor is wrong."""


class DtypeError(InputError, TypeError):
    """Element type of a tensor is wrong, or it holds NaN or infinity."""


class MaskError(InputError):
    """Context or target ids are malformed or out of range."""


class LabelError(InputError):
    """Labels are malformed or out of range."""


class FrameIndexError(InputError, IndexError):
    """A video or a batch of frames has no frame of that number."""


class VideoError(VJEPAError, ValueError):
    """A video cannot be read."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """The path or URL does not exist."""


class VideoAccessError(VideoError, PermissionError):
    """The path exists but may not be read."""


class VideoOpenError(VideoError):
    """The file is empty, not a video, or damaged beyond opening."""


class NoVideoStreamError(VideoError):
    """The container holds no video frames (audio only, for example)."""


class VideoDecodeError(VideoError):
    """The file opens but frames inside it are damaged or missing."""


class VideoTooLargeError(VideoError):
    """The video asks for more memory or bytes than the limit allows."""


class VideoTooShortError(VideoError):
    """The video has fewer frames than the clip asks for."""


class WeightsError(VJEPAError, RuntimeError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(WeightsError, FileNotFoundError):
    """No such folder, file or hub repository."""


class CheckpointFormatError(WeightsError):
    """The file is truncated, is not a checkpoint, or belongs to another architecture."""


class CheckpointChangedError(WeightsError):
    """The file is not the one recorded at its first download; nothing was overwritten."""


class CheckpointMismatchError(WeightsError):
    """Tensors are missing, unexpected or of another shape; the attributes list all of them.

    Attributes:
        missing: names that the network needs and the checkpoint lacks, sorted.
        unexpected: names that the checkpoint holds and the network has no place for, sorted.
        mismatched: (name, what the file holds, what the network needs), sorted.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
        mismatched: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.missing = sorted(missing)
        self.unexpected = sorted(unexpected)
        self.mismatched = sorted(mismatched)


class UnsafeCheckpointError(WeightsError):
    """The file holds pickled objects that would run code when loaded; it was not loaded."""


class DataError(VJEPAError, ValueError):
    """A set of training files cannot be used."""


class DataNotFoundError(DataError, FileNotFoundError):
    """No such folder or list, or none of the files that it names exists."""


class ListError(DataError):
    """A list of files is malformed: its columns, a line, or its format."""


class BadFilesError(DataError):
    """More files than allowed cannot be read.

    Attributes:
        bad_files: those that are known, as `vjepa2.data.sample.BadFile`.
    """

    def __init__(self, message: str, *, bad_files: Iterable[Any] = ()) -> None:
        super().__init__(message)
        self.bad_files = tuple(bad_files)


class EpisodeError(DataError):
    """An episode of a robot cannot be used: missing frames, unequal lengths, NaN, no states."""


class MissingFramesError(EpisodeError):
    """The video of an episode lacks frames that the episode needs."""


class LeakError(DataError):
    """An answer would be known before it is asked: videos in two splits, frames of the event.

    Attributes:
        pairs: where files are to blame, those that must not meet, such as one of train and its
            copy in val.
    """

    def __init__(self, message: str, *, pairs: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.pairs = tuple(pairs)


class DataWorkerError(DataError, RuntimeError):
    """A decoding process died before it answered."""


class TrainingError(VJEPAError, RuntimeError):
    """A training run cannot start or go on."""


class DivergedError(TrainingError):
    """The loss is NaN or infinite; the last checkpoint is from before."""


class TrainingMemoryError(TrainingError, MemoryError):
    """The device has too little memory for a step; the message says what to change."""


class ProcessesError(TrainingError):
    """The processes of a run do not find each other, or were not started as they must be."""


class PlanningError(VJEPAError, RuntimeError):
    """No plan can be made, or a robot cannot go on with one."""


class UnsafeActionError(PlanningError):
    """An action was refused before the robot got it; the message names the number and its bound."""


class RobotError(PlanningError):
    """A robot raised or did not answer in time; it was told to stop."""


class OutputError(VJEPAError, OSError):
    """A result cannot be written."""


class MissingExtraError(VJEPAError, ImportError):
    """An optional package is needed; the message holds the install line."""

    def __init__(self, package: str, *, extra: str = "", needed_for: str, reason: str = "") -> None:
        detail = f" ({reason})" if reason else ""
        install = f"'vjepa2[{extra}]'" if extra else package
        super().__init__(
            f"{needed_for} needs the package {package!r}, which cannot be imported{detail}. "
            f"Install it with: pip install {install}"
        )


MAX_SHOWN_CHARACTERS = 60
MAX_SHOWN_BITS = 128
MAX_NAME_BYTES = 255  # of one part of a path, on every common file system


def described(value: object) -> str:
    """`'text' (str)`: the beginning of a value's text and its type, for messages."""
    text = in_digits(value) if isinstance(value, int) else repr(value).partition("\n")[0]
    if len(text) > MAX_SHOWN_CHARACTERS:
        text = f"{text[:MAX_SHOWN_CHARACTERS]}..."
    return f"{text} ({type(value).__name__})"


def in_digits(value: int) -> str:
    """The digits of a number; of an enormous one (Python refuses to print those) how many bits."""
    enormous = value.bit_length() > MAX_SHOWN_BITS
    return f"a number of {value.bit_length()} bits" if enormous else repr(value)


def nearest_hint(name: str, allowed: Iterable[str]) -> str:
    """Return `Did you mean 'x'? Allowed: …` for a name that is not in `allowed`."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name[:MAX_NAME_BYTES], names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Allowed: {', '.join(names)}."


def check_choice(what: str, got: object, allowed: Iterable[str]) -> None:
    """Raise `ConfigError` naming the nearest choice unless `got` is one of `allowed`."""
    names = list(allowed)
    if not isinstance(got, str):
        raise ConfigError(f"{what} must be text, got {described(got)}. {nearest_hint('', names)}")
    if got not in names:
        raise ConfigError(
            f"{what} {got[:MAX_NAME_BYTES]!r} does not exist. {nearest_hint(got, names)}"
        )


def check_option_names(what: str, got: Iterable[object], allowed: Iterable[str]) -> None:
    """Raise `UnknownOptionError` for the first name in `got` that is not in `allowed`."""
    names = set(allowed)
    for name in got:
        if name not in names:
            raise UnknownOptionError(
                f"{what} has no option {name!r}. {nearest_hint(str(name), names)}"
            )


def check_kind(
    what: str,
    got: object,
    kinds: type | tuple[type, ...],
    *,
    words: str,
    error: type[VJEPAError] = ConfigError,
) -> None:
    """Raise `error` unless `got` is of one of `kinds`, which `words` name for people."""
    if not isinstance(got, kinds):
        raise error(f"{what} must be {words}, got {described(got)}.")


def check_flag(what: str, got: object) -> None:
    """Raise `ConfigError` unless `got` is True or False."""
    check_kind(what, got, bool, words="True or False")


def checked_integer(
    what: str,
    got: object,
    *,
    least: int | None = None,
    most: int | None = None,
    error: type[VJEPAError] = ConfigError,
) -> int:
    """Return `got` as an int: Python's or NumPy's whole numbers; True and 3.0 are none.

    Raises:
        error: not a whole number, below `least` or above `most`.
    """
    if isinstance(got, bool) or not isinstance(got, numbers.Integral):
        raise error(f"{what} must be an integer, got {described(got)}.")
    value = int(got)
    if least is not None and value < least:
        raise error(f"{what} must be {least} or more, got {in_digits(value)}.")
    if most is not None and value > most:
        raise error(f"{what} must be {most} or less, got {in_digits(value)}.")
    return value


def checked_number(
    what: str,
    got: object,
    *,
    above: float | None = None,
    most: float | None = None,
    error: type[VJEPAError] = ConfigError,
) -> float:
    """Return `got` as a float: any real number that is finite; True and "3" are none.

    Raises:
        error: not a finite number, not above `above`, or more than `most`.
    """
    if isinstance(got, bool) or not isinstance(got, numbers.Real):
        raise error(f"{what} must be a number, got {described(got)}.")
    try:
        value = float(got)
    except OverflowError as problem:
        raise error(f"{what} is too large a number: {described(got)}.") from problem
    if not math.isfinite(value):
        raise error(f"{what} must be a finite number, got {value}.")
    if above is not None and not value > above:
        raise error(f"{what} must be above {above:g}, got {value:g}.")
    if most is not None and value > most:
        raise error(f"{what} must be at most {most:g}, got {value:g}.")
    return value


def check_path(what: str, got: object, *, error: type[VJEPAError] = ConfigError) -> None:
    """Raise `error` unless `got` is text or a path object that can name a file somewhere."""
    text = os.fspath(got) if isinstance(got, str | os.PathLike) else None
    if not isinstance(text, str):
        raise error(f"{what} must be a path, text or pathlib.Path, got {described(got)}.")
    if not text:
        raise error(f"{what} is empty. Give a path; the current folder is '.'.")
    try:
        parts = os.fsencode(text).replace(b"\\", b"/").split(b"/")
    except UnicodeEncodeError as problem:
        raise error(f"{what} holds a character that no file name can hold: {text!a}.") from problem
    if "\0" in text or any(len(part) > MAX_NAME_BYTES for part in parts):
        raise error(
            f"{what} cannot be a path: a name in it is longer than {MAX_NAME_BYTES} bytes or "
            f"holds a null character: {described(text)}."
        )
