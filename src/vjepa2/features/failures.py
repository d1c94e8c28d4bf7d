"""`FileFailure`: one file of many that could not be used."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FileFailure:
    """A file without a result.

    Attributes:
        source: path or URL.
        error: name of the error class.
        reason: its message.
    """

    source: str
    error: str
    reason: str

    @classmethod
    def of(cls, source: str, error: Exception) -> "FileFailure":
        """The failure that `error` means for `source`."""
        return cls(source=source, error=type(error).__name__, reason=str(error))

    def __str__(self) -> str:
        # Most messages name the file already.
        return self.reason if self.source in self.reason else f"{self.source}: {self.reason}"
