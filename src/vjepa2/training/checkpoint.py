"""Checkpoints of a run: complete or not there, at whatever moment the run is killed.

    checkpoints/
      step-0000100/             100 updates were made; step 100 (0-based) is the next
        checkpoint.json         index, configuration, versions, small values
        part-0000.safetensors   tensors of process 0 ...
      protected.json            which steps are kept for a reason: {"best": 100}
      .lock                     held while a run trains here

A checkpoint is written into a hidden folder, brought to the disk and renamed. What has a name of
its own is therefore complete; hidden leftovers of killed runs are removed by the next one. It can
be read by another number of processes than wrote it. All processes must see the same folder.
"""

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from vjepa2._version import __version__
from vjepa2.errors import (
    CheckpointFormatError,
    CheckpointNotFoundError,
    OutputError,
    VJEPAError,
    checked_integer,
)
from vjepa2.files import write_json
from vjepa2.training.checkpoint_folder import (
    clear_leftovers,
    give_name,
    remove_checkpoint,
    step_name,
    steps_in,
    unfinished,
    write_durably,
)
from vjepa2.training.checkpoint_index import (
    INDEX_NAME,
    CheckpointIndex,
    PartFile,
    TensorEntry,
    config_differences,
    index_text,
    read_index,
)
from vjepa2.training.checkpoint_io import joined_entries, read_state, write_state
from vjepa2.training.distributed import Processes
from vjepa2.training.parts import file_facts
from vjepa2.training.state import TrainingState, trained_in

PROTECTED_NAME = "protected.json"


class CheckpointStore:
    """The checkpoints of one run.

    All processes make one together and call its methods together.

    Args:
        folder: for the checkpoints; made when the first one is written.
        config: resolved configuration of the run as JSON values.
        processes: of the run.
        keep: the newest ones that stay; protected ones stay besides.
        may_differ: fields and sections of `config` that may change from start to resume.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        config: Mapping[str, Any],
        processes: Processes,
        keep: int = 2,
        may_differ: tuple[str, ...] = (),
    ) -> None:
        self.folder = Path(folder)
        self.keep = checked_integer("keep", keep, least=1)
        self._config = json.loads(json.dumps(config))  # tuples become lists, as on the disk
        self._processes = processes
        self._may_differ = may_differ

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only run that writes here, and clear away what killed ones left.

        Raises:
            OutputError: another run trains in this folder, or it cannot be written.
        """
        first = self._processes.is_first
        lock = FileLock(self.folder / ".lock", timeout=0)
        with self._together(f"use {self.folder}"):
            if first:
                self.folder.mkdir(parents=True, exist_ok=True)
                try:
                    lock.acquire()
                except Timeout:
                    raise OutputError(
                        f"Another run trains in {self.folder}: wait for it, or choose another "
                        "folder."
                    ) from None
                clear_leftovers(self.folder)
        try:
            yield
        finally:
            lock.release()

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        return sorted(self._processes.from_first(steps_in(self.folder)))

    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: TrainingState) -> Path:
        """Write a checkpoint; one of the same step is replaced, old ones are removed.

        Args:
            step: updates that were made.
            state: of the run now.

        Returns:
            its folder.

        Raises:
            OutputError: the disk is full or not writable; the earlier checkpoints are as before.
        """
        target = self.folder / step_name(step)
        temporary = unfinished(target)
        first = self._processes.is_first
        try:
            with self._together(f"write {target}"):
                if first:
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir(parents=True)
            part = f"part-{self._processes.rank:04d}.safetensors"
            own: tuple[PartFile, dict[str, TensorEntry]] | None = None
            with self._together(f"write {target}"):
                own = write_state(temporary / part, state, self._processes)
            assert own is not None
            written = self._processes.gather((part, *own))
            with self._together(f"write {target}"):
                if first:
                    self._finish(step, state, temporary, target, written)
        finally:
            if first:
                shutil.rmtree(temporary, ignore_errors=True)
        if first:
            self._remove_old()
        return target

    def load(self, step: int, state: TrainingState) -> dict[str, Any]:
        """Bring modules, optimizer and random numbers back to where a checkpoint was written.

        Args:
            step: of the checkpoint, see `latest`.
            state: live modules and optimizer, changed in place; without an optimizer the stored
                statistics are passed over.

        Returns:
            `values` of the saved state.

        Raises:
            CheckpointNotFoundError: there is none of this step.
            CheckpointFormatError: it is damaged (the next older one is named), or belongs to a run
                of another configuration (the differences are listed).
            CheckpointMismatchError: its tensors are not those of the modules.
        """
        index = self._index(step, check_sums=True)
        folder = self.folder / step_name(step)
        with self._together(f"read {folder}"):
            read_state(folder, index, state, self._processes)
        return index.values

    def values(self, step: int) -> dict[str, Any]:
        """The small values of a checkpoint, before anything is made to load it into.

        Raises:
            CheckpointNotFoundError, CheckpointFormatError: as `load` does; tensors are not
                looked at.
        """
        return self._index(step, check_sums=False).values

    def stored_config(self, step: int) -> dict[str, Any]:
        """The configuration that a checkpoint was written with.

        Raises:
            CheckpointFormatError: the checkpoint is damaged or not there.
        """
        return read_index(self.folder / step_name(step)).config

    def trained(self, step: int) -> set[str]:
        """Names of the parameters that have statistics of the optimizer in a checkpoint.

        Raises:
            CheckpointFormatError: the checkpoint is damaged or not there.
        """
        with self._together(f"read {step_name(step)}"):
            return trained_in(read_index(self.folder / step_name(step)).tensors)

    def protect(self, reason: str, step: int) -> None:
        """Keep a checkpoint however old it gets, in place of the one kept so far for this reason.

        Args:
            reason: such as "best" or "healthy".
            step: of a checkpoint that is there.

        Raises:
            CheckpointNotFoundError: there is none of this step.
            OutputError: the note cannot be written.
        """
        with self._together(f"protect {step_name(step)}"):
            if step not in steps_in(self.folder):
                raise CheckpointNotFoundError(f"There is no checkpoint {step_name(step)} to keep.")
            if self._processes.is_first:
                write_json(self.folder / PROTECTED_NAME, {**self._protected(), reason: step})
        if self._processes.is_first:
            self._remove_old()

    def protected(self) -> dict[str, int]:
        """Step of the checkpoint that is kept for each reason."""
        noted: dict[str, int] = {}
        with self._together("read what is protected"):
            noted = self._protected() if self._processes.is_first else {}
        return self._processes.from_first(noted)

    def discard_after(self, step: int) -> None:
        """Remove the checkpoints after `step`, before going back to it.

        Raises:
            OutputError: the note of protected ones cannot be written.
        """
        with self._together("go back"):
            if self._processes.is_first:
                noted = self._protected()
                kept = {reason: kept for reason, kept in noted.items() if kept <= step}
                if kept != noted:
                    write_json(self.folder / PROTECTED_NAME, kept)
                for later in steps_in(self.folder):
                    if later > step:
                        remove_checkpoint(self.folder, later)

    @contextlib.contextmanager
    def _together(self, doing: str) -> Iterator[None]:
        """If the block fails in one process, it raises in all of them."""
        error: VJEPAError | None = None
        try:
            yield
        except VJEPAError as problem:
            error = problem
        except OSError as problem:
            error = OutputError(f"Cannot {doing}: {problem.strerror or problem}.")
            error.__cause__ = problem
        self._processes.raise_together(error)

    def _finish(
        self,
        step: int,
        state: TrainingState,
        temporary: Path,
        target: Path,
        written: list[tuple[str, PartFile, dict[str, TensorEntry]]],
    ) -> None:
        """Write the index and give the checkpoint its name."""
        text = index_text(
            {
                "step": step,
                "world_size": self._processes.world_size,
                "config": self._config,
                "versions": {
                    "vjepa2": __version__,
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                },
                "values": json.loads(json.dumps(dict(state.values))),
                "files": {name: file for name, file, _ in written},
                "tensors": joined_entries([entries for _, _, entries in written]),
            }
        )
        if absent := [name for name, _, _ in written if not (temporary / name).is_file()]:
            raise OutputError(
                f"{', '.join(absent)} of {target} cannot be seen from process 0. All processes "
                "must write into the same folder, on a file system that all machines share."
            )
        write_durably(temporary / INDEX_NAME, text)
        give_name(temporary, target)

    def _index(self, step: int, *, check_sums: bool) -> CheckpointIndex:
        """The index of a checkpoint of this configuration; every process gets it, or raises."""
        folder = self.folder / step_name(step)
        index: CheckpointIndex | None = None
        with self._together(f"read {folder}"):
            if not folder.is_dir():
                raise CheckpointNotFoundError(
                    f"There is no checkpoint {folder}. There are: "
                    f"{', '.join(map(step_name, steps_in(self.folder))) or 'none'}."
                )
            try:
                index = read_index(folder)
                if check_sums:
                    self._check_sums(folder, index)
            except CheckpointFormatError as error:
                raise self._damaged(folder, step, error) from error
            self._check_config(folder, index)
        assert index is not None
        return index

    def _check_sums(self, folder: Path, index: CheckpointIndex) -> None:
        """Each process looks at its share of the files."""
        rank, world_size = self._processes.rank, self._processes.world_size
        for name in sorted(index.files)[rank::world_size]:
            try:
                found = file_facts(folder / name)
            except OSError as error:
                raise CheckpointFormatError(f"{folder / name} cannot be read: {error}.") from error
            if found.checksum != index.files[name].checksum:
                raise CheckpointFormatError(f"{folder / name} is damaged: its checksum is wrong.")

    def _check_config(self, folder: Path, index: CheckpointIndex) -> None:
        lines = config_differences(index.config, self._config, may_differ=self._may_differ)
        if lines:
            listed = "\n  ".join(lines)
            raise CheckpointFormatError(
                f"{folder} belongs to a run of another configuration:\n  {listed}\n"
                "Go on with that configuration, or train in another folder."
            )

    def _damaged(
        self, folder: Path, step: int, error: CheckpointFormatError
    ) -> CheckpointFormatError:
        older = next(
            (
                found
                for found in reversed(steps_in(self.folder))
                if found < step and self._is_ok(found)
            ),
            None,
        )
        advice = (
            f"The newest one before it that is complete is {step_name(older)}: remove the folder "
            f"{folder} to go on from there."
            if older is not None
            else "There is no complete one before it: train in another folder."
        )
        return CheckpointFormatError(f"{error} {advice}")

    def _is_ok(self, step: int) -> bool:
        try:
            read_index(self.folder / step_name(step))
        except CheckpointFormatError:
            return False
        return True

    def _protected(self) -> dict[str, int]:
        path = self.folder / PROTECTED_NAME
        if not path.exists():
            return {}
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            there = set(steps_in(self.folder))
            return {str(reason): int(step) for reason, step in noted.items() if step in there}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointFormatError(f"{path} cannot be read: {error}. Remove it.") from error

    def _remove_old(self) -> None:
        steps = steps_in(self.folder)
        kept = {*steps[-self.keep :], *self._protected().values()}
        for step in steps:
            if step not in kept:
                remove_checkpoint(self.folder, step)
