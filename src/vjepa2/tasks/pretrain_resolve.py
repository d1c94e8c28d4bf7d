"""What the start of a pretraining run settles for all of it, and what may change later.

A run goes on from wherever it is started again, on any number of processes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vjepa2.tasks.pretrain_config import PretrainConfig
from vjepa2.training.checkpoint_index import CheckpointIndex
from vjepa2.training.distributed import Processes

# What may differ between the start of a run and its continuation: it changes how a run is
# computed and watched, not what is learned.
MAY_DIFFER = (
    "runtime",
    "health",
    "recipe",
    "start_from",  # all of it is in the checkpoint
    "objective.teacher",  # its weights are told by their mark
    "data.workers",
    "data.prefetch",
    "data.max_bad_share",
    "data.judge_after",
)
CLIP_SECTIONS = ("clip", "cooldown_clip", "images")


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


def with_micro_batches(
    config: PretrainConfig, written: CheckpointIndex | None, processes: Processes
) -> PretrainConfig:
    """The same run with every micro-batch as a number, where masks are cut within it.

    Another number of processes would otherwise make other masks.

    Args:
        config: of the run.
        written: its newest checkpoint; None at the start.
        processes: that a new run begins on.
    """
    if config.truncation != "micro_batch":
        return config
    values = config.model_dump()
    for name in CLIP_SECTIONS:
        section = values[name]
        if section is None or section["micro_batch"] is not None:
            continue
        section["micro_batch"] = _stored_micro_batch(written, name)
        count = processes.world_size if written is None else written.world_size
        if section["micro_batch"] is None and section["batch_size"] % count == 0:
            section["micro_batch"] = section["batch_size"] // count
    return type(config)(**values)


def _stored_micro_batch(written: CheckpointIndex | None, name: str) -> int | None:
    section = None if written is None else written.config.get(name)
    found = section.get("micro_batch") if isinstance(section, Mapping) else None
    return found if isinstance(found, int) else None


def may_differ(config: PretrainConfig, written: CheckpointIndex | None) -> tuple[str, ...]:
    """Fields that may change when a run goes on from a checkpoint.

    The same files may lie elsewhere by then; other files are told by their fingerprint.
    """
    images = () if config.images is None else config.images.data.sources
    moved = [f"data.sources.{number}.path" for number in range(len(config.data.sources))]
    moved += [f"images.data.sources.{number}.path" for number in range(len(images))]
    # Micro-batches decide nothing where masks are cut over the whole batch, or not at all; and
    # checkpoints of earlier versions hold none.
    free = [
        f"{name}.micro_batch"
        for name in CLIP_SECTIONS
        if config.truncation != "micro_batch" or _stored_micro_batch(written, name) is None
    ]
    return (*MAY_DIFFER, *moved, *free)
