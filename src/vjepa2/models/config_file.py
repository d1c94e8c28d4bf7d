"""`config.json` on disk: reading it from a folder or hub repository, and writing it.

`ConfigFile` is the half of `VJEPA2Config` that deals with files; the fields are in the other half.
"""

import abc
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    ConfigError,
    check_kind,
    check_path,
)
from vjepa2.files import atomic_path
from vjepa2.weights.hub import HubOptions, open_source, upload_folder

CONFIG_NAME = "config.json"
# Unknown keys are kept and copied, which takes a piece of the stack for every level.
MAX_DEPTH = 50


class ConfigFile(abc.ABC):
    """Reads and writes `config.json`; a subclass knows the fields."""

    ordered_fields: ClassVar[tuple[str, ...]] = ()
    name_or_path: str

    @classmethod
    @abc.abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from the content of the file."""

    @abc.abstractmethod
    def replaced(self, overrides: Mapping[str, Any]) -> Self:
        """A copy with some fields replaced."""

    @abc.abstractmethod
    def to_diff_dict(self) -> dict[str, Any]:
        """What the file holds."""

    @abc.abstractmethod
    def validate(self) -> None:
        """Raise `ConfigError` when fields do not fit each other."""

    @classmethod
    @abc.abstractmethod
    def of_published(cls, name_or_path: str | os.PathLike[str]) -> Self | None:
        """Configuration of a published model by its name; None for any other name."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        **overrides: Any,
    ) -> Self:
        """Read `config.json` of a folder or hub repository; `overrides` replace its fields.

        The name of a published model (docs/checkpoints.md) gives its geometry without a download.

        Raises:
            UnknownOptionError: an override is not a field.
            CheckpointNotFoundError, CheckpointFormatError, ConfigError: see `from_json_file`.
        """
        check_path("name_or_path", name_or_path)
        if published := cls.of_published(name_or_path):
            return published.replaced(overrides)
        hub = HubOptions(
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            subfolder=subfolder,
        )
        config = cls.from_json_file(open_source(name_or_path, options=hub).require(CONFIG_NAME))
        config.name_or_path = os.fspath(name_or_path)
        return config.replaced(overrides)

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `config.json`.

        Raises:
            CheckpointNotFoundError: there is no such file, or it cannot be read.
            CheckpointFormatError: the file is not a JSON object, or is nested too deep.
            ConfigError: a value in it is wrong (the message names the file), or `path` is no path.
        """
        check_path("path", path)
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointNotFoundError(
                f"{path} cannot be read: {error.strerror or error}. Give the path of a config.json."
            ) from error
        except ValueError as error:
            raise CheckpointFormatError(
                f"{path} is not valid JSON ({error}). Download or copy the file again."
            ) from error
        except RecursionError as error:  # thousands of brackets inside each other
            raise _too_deep(path) from error
        if not isinstance(values, dict):
            raise CheckpointFormatError(
                f"{path} must hold one JSON object, got {type(values).__name__}."
            )
        if _deeper_than(MAX_DEPTH, values):
            raise _too_deep(path)
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def to_json_string(self) -> str:
        """Text of `config.json`: sorted keys, two spaces, a newline at the end.

        Only what `ordered_fields` hold is in the order given.
        """
        values = {
            key: value if key in self.ordered_fields else _sorted(value)
            for key, value in sorted(self.to_diff_dict().items())
        }
        return json.dumps(values, indent=2) + "\n"

    def to_json_file(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json_string()` to `path`, atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_json_string(), encoding="utf-8")

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `folder/config.json`.

        Raises:
            ConfigError: the fields do not fit each other.
            OutputError: the folder cannot be written.
        """
        check_path("folder", folder)
        self.validate()
        self.to_json_file(Path(folder) / CONFIG_NAME)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload configuration",
    ) -> str:
        """Upload `config.json` in one commit and return its address; other files there stay.

        Args:
            repo_id: `owner/name`; made if it does not exist.
            private: visibility of a new repository; None for the owner's default.
            token: access token; None for the stored one.
            revision: branch, made if needed; None for the main one.
            commit_message: first line of the commit.

        Raises:
            ConfigError: the fields do not fit each other, or `repo_id` is no text.
            OutputError: no access, no network, or HF_HUB_OFFLINE=1.
        """
        check_kind("repo_id", repo_id, str, words="the name of a repository, owner/name")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(
                Path(folder),
                repo_id,
                private=private,
                token=token,
                revision=revision,
                commit_message=commit_message,
            )


def _deeper_than(limit: int, values: Any) -> bool:
    """Whether lists and objects lie inside each other more than `limit` deep."""
    level = [values]
    for _ in range(limit + 1):
        inside = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for part in inside for item in part if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _too_deep(path: str | os.PathLike[str]) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"{path} holds lists or objects more than {MAX_DEPTH} deep inside each other, which no "
        "config.json does. Download or copy the file again."
    )


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in sorted(value.items())}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
