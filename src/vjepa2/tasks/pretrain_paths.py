"""Where the files of a pretraining run lie: a run goes on from wherever it is started again."""

import os
from pathlib import Path
from typing import Any

from vjepa2.tasks.pretrain_config import PretrainConfig


def with_absolute_paths(config: PretrainConfig) -> PretrainConfig:
    """The same run with every local path from the root of the file system.

    Names of published models stay, as does a path to nothing: its error tells what was given.
    """
    values = config.model_dump()
    named: list[tuple[dict[str, Any], str]] = [
        (values, "start_from"),
        (values["objective"], "teacher"),
        (values["health"], "labelled"),
    ]
    for part in filter(None, (values, values["images"])):
        named += [(source, "path") for source in part["data"]["sources"]]
    for section, name in named:
        section[name] = _absolute(section[name])
    return type(config)(**values)


def _absolute(path: str | None) -> str | None:
    """`path`, or where it is seen from the root if something lies there."""
    if path is None:
        return None
    # Of shards ("name-{000..099}.tar") only the folder is there under this name.
    there = Path(path).exists() or ("{" in path and Path(path).parent.is_dir())
    return os.path.abspath(path) if there else path  # noqa: PTH100  # links stay
