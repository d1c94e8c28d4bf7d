"""Features of many files, written as they are made: long work that survives bad files and stops.

A file that cannot be read is noted and the others go on. What is done already is not done again.
Memory holds two clips, the one in the network and the next one that is being read, and the rows of
one video; with one output file, the pooled vectors of all.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vjepa2.errors import InputError, VideoError, check_flag, check_kind
from vjepa2.features.clips import PixelClip, one_ahead, source_identity, source_names
from vjepa2.features.embed import Embedder
from vjepa2.features.failures import FileFailure
from vjepa2.features.outputs import FeatureSink, open_sink, read_target, source_stamp
from vjepa2.features.rows import ClipFeatures
from vjepa2.progress import track


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What became of each file.

    Attributes:
        out: file or folder of the features; None if no video gave any.
        embedded: sources that were embedded now.
        reused: sources whose features were there already.
        failed: sources that could not be read, and why.
        settings: with which the features were made (`Embedder.settings`).
        num_files: files in all.
        num_rows: rows that were made now.
        seconds: time it took.
    """

    out: Path | None
    embedded: tuple[str, ...]
    reused: tuple[str, ...]
    failed: tuple[FileFailure, ...]
    settings: dict[str, Any]
    num_files: int
    num_rows: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"out": None if self.out is None else str(self.out)}

    def __str__(self) -> str:
        parts = [
            f"{len(self.embedded)} of {self.num_files} videos embedded in {self.seconds:.1f} s"
        ]
        if self.reused:
            parts.append(f"{len(self.reused)} were done before")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        place = "" if self.out is None else f" Features: {self.out}"
        return f"{', '.join(parts)}.{place}"


class EmbedInterrupted(KeyboardInterrupt):
    """Ctrl-C during `embed_files`; what was done is kept and `report` says what that is."""

    def __init__(self, report: EmbedReport) -> None:
        done = len(report.embedded) + len(report.reused)
        kept = f"done and kept in {report.out}" if report.out is not None else "done"
        super().__init__(
            f"Stopped. {done} of {report.num_files} videos are {kept}. "
            "The same command goes on from there."
        )
        self.report = report


def embed_files(
    files: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    embedder: Embedder,
    file_format: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> EmbedReport:
    """Embed video files and write the features.

    Args:
        files: paths and URLs; one named twice, in whatever way, is embedded once. Results hold
            absolute paths as their sources, the report names files as given here.
        out: one file for all, or a folder; see `outputs.read_target`.
        embedder: model and settings, from `make_embedder`.
        file_format: of the files in a folder: "safetensors" (default), "npy" or "parquet".
        overwrite: do not take over features of an earlier run.
        quiet: show no progress; a single file shows none anyway.

    Returns:
        What became of each file; `failed` lists those that could not be read.

    Raises:
        OutputError: the results cannot be written, or `out` holds something else.
        ConfigError: an option is wrong.
        MissingExtraError: Parquet without pyarrow.
        EmbedInterrupted: Ctrl-C; what was done is kept.
    """
    start = time.monotonic()
    check_kind("embedder", embedder, Embedder, words="an Embedder of make_embedder")
    check_flag("overwrite", overwrite)
    check_flag("quiet", quiet)
    sources = source_names(files)
    if not sources:
        raise InputError("There are no files to embed.")
    settings = embedder.settings()
    target = read_target(out, file_format=file_format)
    identities = [source_identity(source) for source in sources]
    sink = open_sink(target, identities, settings=settings, overwrite=overwrite)
    run = _Run(embedder, sink)
    quiet = quiet or len(sources) == 1

    def report() -> EmbedReport:
        return EmbedReport(
            out=target.path if run.embedded or run.reused else None,
            embedded=tuple(run.embedded),
            reused=tuple(run.reused),
            failed=tuple(run.failed),
            settings=settings,
            num_files=len(sources),
            num_rows=run.num_rows,
            seconds=time.monotonic() - start,
        )

    try:
        work = track(run.outcomes(sources), total=len(sources), description="Embed", quiet=quiet)
        for _ in work:
            pass
    except KeyboardInterrupt as stop:
        run.finish()
        raise EmbedInterrupted(report()) from stop
    run.finish()
    return report()


class _Run:
    """One pass over the files, and what became of them."""

    def __init__(self, embedder: Embedder, sink: FeatureSink) -> None:
        self.embedded: list[str] = []
        self.reused: list[str] = []
        self.failed: list[FileFailure] = []
        self.num_rows = 0
        self._embedder = embedder
        self._sink = sink

    def outcomes(self, sources: Sequence[str]) -> Iterator[str]:
        """Yield each source when it is done, reused or failed."""
        todo = []
        for source in sources:
            if self._sink.holds(source_identity(source), source_stamp(source)):
                self.reused.append(source)
                yield source
            else:
                todo.append(source)
        # While the network computes, a second thread reads the next clip: an accelerator need not
        # wait for it. On the CPU both share the cores, and it takes as long as one after the other.
        events = one_ahead(self._read(todo))
        rows: list[ClipFeatures] = []
        with self._embedder.model.inference():
            for source, stamp, event in events:
                if isinstance(event, PixelClip):
                    identity = source_identity(source)
                    rows.append(self._embedder.row(event, source=identity, stamp=stamp))
                    continue
                if event is None:
                    self._sink.put(source_identity(source), rows)
                    self.embedded.append(source)
                    self.num_rows += len(rows)
                else:
                    self.failed.append(event)
                rows = []
                yield source

    def _read(
        self, sources: Sequence[str]
    ) -> Iterator[tuple[str, str, PixelClip | FileFailure | None]]:
        """Clips of each file, then None, or why it cannot be read."""
        for source in sources:
            stamp = source_stamp(source)
            try:
                for clip in self._embedder.clips(source):
                    yield source, stamp, clip
            except (VideoError, InputError) as error:
                yield source, stamp, FileFailure.of(source, error)
            else:
                yield source, stamp, None

    def finish(self) -> None:
        """Write what is not written yet."""
        self._sink.finish(
            [
                asdict(failure) | {"source": source_identity(failure.source)}
                for failure in self.failed
            ]
        )
