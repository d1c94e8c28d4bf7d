"""Files that cannot be read: counted, reported, and a reason to stop when there are too many."""

from dataclasses import replace

from vjepa2.data.sample import Answer, BadFile, Sample
from vjepa2.data.settings import DataConfig
from vjepa2.errors import BadFilesError

NUM_SHOWN = 5


class BadFileCounter:
    """Counts what comes back from decoding.

    Args:
        config: the limits.

    Attributes:
        num_tried, num_bad: files that were opened, and those that could not be read.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._files: dict[str, BadFile] = {}
        self._changed: set[str] = set()
        self.num_tried = 0
        self.num_bad = 0

    def accept(self, answer: Answer) -> Sample:
        """Count the bad files of an answer and return its sample.

        Raises:
            BadFilesError: there is no sample, or too many files were bad.
        """
        for bad in answer.bad_files:
            known = self._files.get(bad.path, replace(bad, count=0))
            self._files[bad.path] = replace(known, count=known.count + 1)
            self._changed.add(bad.path)
        self.num_bad += len(answer.bad_files)
        self.num_tried += len(answer.bad_files) + (answer.sample is not None)
        if answer.sample is None:
            source = self._config.sources[answer.bad_files[0].source]
            raise BadFilesError(
                f"{len(answer.bad_files)} files of {source.path}, drawn one after the other, "
                f"cannot be read. {self._examples()}"
            )
        share = self._config.max_bad_share
        judged = share == 0 or self.num_tried >= self._config.judge_after
        if judged and self.num_bad > share * self.num_tried:
            raise BadFilesError(
                f"{self.num_bad} of {self.num_tried} files that were drawn cannot be read, more "
                f"than max_bad_share={share:g} allows. Mend or remove them, or raise "
                f"data.max_bad_share. {self._examples()}"
            )
        return answer.sample

    def all(self) -> list[BadFile]:
        """Every bad file, with how often it was drawn."""
        return list(self._files.values())

    def take_changed(self) -> list[BadFile]:
        """Bad files that are new, or were drawn again, since the last call."""
        changed = [bad for path, bad in self._files.items() if path in self._changed]
        self._changed.clear()
        return changed

    def _examples(self) -> str:
        shown = list(self._files.values())[-NUM_SHOWN:]
        return "Such as: " + "; ".join(f"{bad.path}: {bad.reason}" for bad in shown)
