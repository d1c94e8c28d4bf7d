"""Every exception this package raises on purpose, and the helper that names the nearest option.

    VJEPAError
    ├── ConfigError (ValueError)            an option or a configuration value is wrong
    │   └── UnknownOptionError (TypeError)  ... and does not exist; the nearest name is given
    ├── InputError (ValueError)             a tensor or argument handed to a model is wrong
    │   ├── ShapeError                      rank, size or channel order
    │   ├── DtypeError (TypeError)          element type, NaN or infinity
    │   ├── MaskError                       context/target ids
    │   └── LabelError                      class labels
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
    ├── OutputError (OSError)               a result cannot be written
    └── MissingExtraError (ImportError)     an optional package is not installed

Messages say what was got, what is allowed and what to do next.
"""

import difflib
from collections.abc import Iterable


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


def nearest_hint(name: str, allowed: Iterable[str]) -> str:
    """Return `Did you mean 'x'? Allowed: …` for a name that is not in `allowed`."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Allowed: {', '.join(names)}."


def check_choice(what: str, got: object, allowed: Iterable[str]) -> None:
    """Raise `ConfigError` naming the nearest choice unless `got` is one of `allowed`."""
    names = list(allowed)
    if got not in names:
        raise ConfigError(f"{what} {got!r} does not exist. {nearest_hint(str(got), names)}")


def check_option_names(what: str, got: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise `UnknownOptionError` for the first name in `got` that is not in `allowed`."""
    names = set(allowed)
    for name in got:
        if name not in names:
            raise UnknownOptionError(f"{what} has no option {name!r}. {nearest_hint(name, names)}")
