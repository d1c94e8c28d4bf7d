"""Where files of a published model come from: a folder, or a repository on a Hugging Face hub.

`open_source("facebook/vjepa2-vitl-fpc64-256")` or `open_source("my/folder")` gives an object with
two methods, `find(filename)` and `require(filename)`. Downloads, the cache, tokens, mirrors
(`HF_ENDPOINT`) and offline mode (`HF_HUB_OFFLINE`) are those of `huggingface_hub`; this module
adds one thing, errors that say what was tried and what to do.

All files of one source come from the same commit: the first download fixes it.
"""

import contextlib
import difflib
import importlib.resources
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType

from vjepa2.errors import (
    CheckpointNotFoundError,
    ConfigError,
    OutputError,
    check_flag,
    check_kind,
    check_path,
)

SHIPPED = ("motion-tiny", "world-tiny")
"""Models that are part of this package: their names work wherever a hub name does."""


def shipped_folder(name: str) -> Path:
    """Folder of a model that is part of this package."""
    return Path(str(importlib.resources.files("vjepa2"))) / "assets" / name


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """How to reach a repository; everything is optional.

    Attributes:
        revision: branch, tag or commit; None means "main". A local folder has none: it is ignored
            there, as in the Hugging Face port.
        cache_dir: folder of downloaded files; None means `huggingface_hub`'s.
        token: access token, True for the stored one, False for none, None for the default.
        local_files_only: make no request; use what was downloaded before.
        subfolder: folder inside the repository or local folder that holds the files.
    """

    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    subfolder: str = ""

    def __post_init__(self) -> None:
        text = "text, or None"
        check_kind("revision", self.revision, (str, NoneType), words=text)
        check_kind("token", self.token, (str, bool, NoneType), words="text, True, False or None")
        check_kind("subfolder", self.subfolder, str, words="text")
        check_flag("local_files_only", self.local_files_only)
        if self.cache_dir is not None:
            check_path("cache_dir", self.cache_dir)


class FolderSource:
    """Files in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def find(self, filename: str) -> Path | None:
        """Path of the file, or None."""
        path = self.folder / filename
        return path if path.is_file() else None

    def require(self, filename: str) -> Path:
        """Path of the file.

        Raises:
            CheckpointNotFoundError: there is none; the message lists what the folder holds.
        """
        path = self.find(filename)
        if path is None:
            present = sorted(entry.name for entry in self.folder.iterdir())
            raise CheckpointNotFoundError(
                f"{self.folder} has no file {filename!r}. {_nearest(filename, present)}"
                f"It holds: {', '.join(present[:12]) or 'nothing'}"
                f"{' ...' if len(present) > 12 else ''}. "
                "Give the folder that save_pretrained wrote, or use subfolder=."
            )
        return path


class HubSource:
    """Files of one commit of a repository, downloaded when asked for."""

    def __init__(self, repo_id: str, options: HubOptions) -> None:
        self.name = repo_id
        self._options = options
        self._was_reached = False

    def find(self, filename: str) -> Path | None:
        """Local path of the file, downloaded if need be; None when the commit has none.

        Raises:
            CheckpointNotFoundError: the repository or revision does not exist, is closed to this
                token, or cannot be reached.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            LocalEntryNotFoundError,
        )

        options = self._options
        self._ask_once(filename)
        try:
            path = hf_hub_download(
                self.name,
                filename,
                subfolder=options.subfolder or None,
                revision=options.revision,
                cache_dir=None if options.cache_dir is None else Path(options.cache_dir),
                token=options.token,
                local_files_only=options.local_files_only,
                library_name="vjepa2",
            )
        except LocalEntryNotFoundError as error:
            if self._closed():
                return None
            raise CheckpointNotFoundError(self._explain(error, filename)) from error
        except EntryNotFoundError:
            return None
        except http_errors() as error:
            raise CheckpointNotFoundError(self._explain(error, filename)) from error
        self._fix_commit(Path(path))
        return Path(path)

    def _ask_once(self, filename: str) -> None:
        """Ask for a file that is not here yet: a download would ask for half a minute.

        Raises:
            CheckpointNotFoundError: there is no network, or nobody answers.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        if self._was_reached or self._closed():
            return
        options = self._options
        path = f"{options.subfolder}/{filename}" if options.subfolder else filename
        try:
            cache = None if options.cache_dir is None else Path(options.cache_dir)
            revision = options.revision
            if try_to_load_from_cache(self.name, path, cache_dir=cache, revision=revision):
                return
            get_hf_file_metadata(
                hf_hub_url(self.name, path, revision=revision), token=options.token
            )
        except (HfHubHTTPError, HFValidationError):
            pass  # an answer, or no name of a repository: the download says what it means
        except http_errors() as error:
            raise CheckpointNotFoundError(self._unreachable(error, filename)) from error
        self._was_reached = True

    def require(self, filename: str) -> Path:
        """As `find`, but a missing file is an error.

        Raises:
            CheckpointNotFoundError: also when the commit has no such file.
        """
        path = self.find(filename)
        if path is not None:
            return path
        inside = f"{self._options.subfolder}/{filename}" if self._options.subfolder else filename
        if closed := self._closed():
            raise CheckpointNotFoundError(
                f"{inside!r} of {self.name!r} is not in the local cache, and no request was made "
                f"because of {closed}. There is no folder {self.name!r} in {Path.cwd()} either. "
                "Allow the download once, or give a local folder."
            )
        raise CheckpointNotFoundError(
            f"{self.name!r} at {_endpoint()} (revision {self._options.revision or 'main'!r}) has "
            f"no file {inside!r}. Check the name and subfolder=."
        )

    def _closed(self) -> str:
        """Why no request may be made; empty when one may."""
        from huggingface_hub import constants

        if self._options.local_files_only:
            return "local_files_only=True"
        return "HF_HUB_OFFLINE=1" if constants.HF_HUB_OFFLINE else ""

    def _explain(self, error: Exception, filename: str) -> str:
        from huggingface_hub import errors

        here = f"{self.name!r} at {_endpoint()}"
        match error:
            case errors.GatedRepoError():
                return (
                    f"Access to {here} must be granted first. Open {_endpoint()}/{self.name} in a "
                    "browser and accept the conditions, then log in with `hf auth login` or pass "
                    "token=."
                )
            case errors.RepositoryNotFoundError() | errors.HFValidationError():
                folder, leaf = os.path.split(self.name)
                return (
                    f"{self.name!r} is neither a folder (looked in {Path.cwd()}) nor a repository "
                    f"at {_endpoint()} that this token may read (names are written owner/name). "
                    f"{_nearest(leaf, _names(Path(folder)))}Check the spelling; for a private "
                    "repository log in with `hf auth login` or pass token=."
                )
            case errors.RevisionNotFoundError():
                return (
                    f"{here} has no revision {self._options.revision!r}. Give an existing branch, "
                    "tag or full commit, or leave revision= out for 'main'."
                )
            case errors.LocalEntryNotFoundError():
                return self._unreachable(error, filename)
        return f"Downloading {filename!r} of {here} failed: {_first_line(error)}"

    def _unreachable(self, error: Exception, filename: str) -> str:
        return (
            f"{_endpoint()} could not be reached, and {filename!r} of {self.name!r} was not "
            f"downloaded before ({_first_line(error)}). Check the network or HF_ENDPOINT, or give "
            "a local folder."
        )

    def _fix_commit(self, path: Path) -> None:
        parts = path.parts
        if "snapshots" in parts:
            commit = parts[len(parts) - 1 - parts[::-1].index("snapshots") + 1]
            self._options = replace(self._options, revision=commit)


Source = FolderSource | HubSource
"""A place that holds the files of one model."""


def expanded(text: str, *, what: str) -> Path:
    """The path, with a home folder in place of `~`; whether it exists can be asked.

    Raises:
        ConfigError: it names a user who does not exist, is too long, or may not be looked at.
    """
    try:
        path = Path(text).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except RuntimeError as error:
        raise ConfigError(f"{what} {text[:80]!r} begins with a user who has no home.") from error
    except OSError as error:
        raise ConfigError(f"{what} {text[:80]!r} cannot be opened: {error.strerror}.") from error
    return path


def open_source(
    name_or_path: str | os.PathLike[str], *, options: HubOptions | None = None
) -> Source:
    """Decide whether a name is a folder or a repository; nothing is downloaded yet.

    Args:
        name_or_path: an existing folder, or `owner/name` of a repository. What looks like a path
            (absolute, `./`, `~`, more than one `/`) is never looked up on the hub.
        options: how to reach the repository.

    Raises:
        CheckpointNotFoundError: a path that does not exist (near names are given), a file in
            place of a folder. Repositories are asked by `find` and `require`.
    """
    options = options or HubOptions()
    text = os.fspath(name_or_path)
    path = shipped_folder(text) if text in SHIPPED else expanded(text, what="The folder")
    if path.is_dir():
        return FolderSource(_existing(path / options.subfolder))
    if path.exists():
        raise CheckpointNotFoundError(
            f"{text} is a file. Give the folder that holds it and config.json: {path.parent}"
        )
    if not isinstance(name_or_path, str) or _looks_like_path(text):
        _existing(path)
    return HubSource(text, options)


def upload_folder(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str,
) -> str:
    """Upload the files of `folder` in one commit; the repository and branch are made if needed.

    Returns:
        Address of the commit.

    Raises:
        OutputError: no access, no network, or offline mode.
    """
    from huggingface_hub import HfApi

    check_kind("repo_id", repo_id, str, words="text, owner/name")
    api = HfApi(token=token, library_name="vjepa2")
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
        )
    except http_errors() as error:
        raise OutputError(
            f"Cannot upload to {repo_id!r} at {_endpoint()}: {_first_line(error)} Log in with "
            "`hf auth login` or pass token=; the name is written owner/name."
        ) from error
    return str(commit.commit_url)


def http_errors() -> tuple[type[Exception], ...]:
    """What a request may raise, with the HTTP library's own errors (`huggingface_hub` extends them,
    and which library it is depends on its version)."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    library_errors = [base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)]
    return (*library_errors, HFValidationError, OSError)


def _looks_like_path(text: str) -> bool:
    path = Path(text)
    return path.is_absolute() or text.startswith((".", "~")) or "\\" in text or text.count("/") > 1


def _existing(folder: Path) -> Path:
    """`folder` if it exists; else an error that names the first missing part and its neighbours."""
    if folder.is_dir():
        return folder
    missing = folder
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    present = _names(missing.parent)
    raise CheckpointNotFoundError(
        f"There is no folder {folder}: {missing.parent} has no {missing.name!r}. "
        f"{_nearest(missing.name, present)}Give an existing folder, or a hub name such as "
        "facebook/vjepa2-vitl-fpc64-256."
    )


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _nearest(name: str, present: list[str]) -> str:
    close = difflib.get_close_matches(name, present, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(item) for item in close)}? " if close else ""


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
