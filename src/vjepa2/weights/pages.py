"""Give memory of a mapped file back once its values were read.

Pages of a memory-mapped file stay in a process after they were read. A value that was only looked
at, or converted to another type, is not needed there any more: giving its pages back keeps the
peak of loading near the size of what is kept. The system still has the pages in its cache, and
they come back by themselves when they are used.
"""

import ctypes
import functools
import mmap
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

# Smaller tensors are not worth a system call.
_LEAST_BYTES = 1 << 16


class FilePages:
    """The mapped memory of some files. Only Linux can give it back; elsewhere nothing happens."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)

    def give_back(self, tensor: Tensor) -> None:
        """Give back the pages that lie entirely inside `tensor`, if they are mapped from the files.

        The caller has not written to the tensor: a private change would be lost.
        """
        size_bytes = tensor.numel() * tensor.element_size()
        if size_bytes < _LEAST_BYTES or not tensor.is_contiguous():
            return
        page = mmap.PAGESIZE
        start = -(-tensor.data_ptr() // page) * page
        stop = (tensor.data_ptr() + size_bytes) // page * page
        # Memory of any other kind would lose its content: look up where the tensor really lies.
        if any(first <= start and stop <= last for first, last in self._ranges):
            libc = ctypes.CDLL(None)
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)

    @functools.cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        """Addresses where the files are mapped now: the tensors keep them there."""
        if sys.platform != "linux":
            return []
        wanted = {os.path.realpath(path) for path in self._paths}
        ranges = []
        with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5] in wanted:
                    first, last = fields[0].split("-")
                    ranges.append((int(first, 16), int(last, 16)))
        return ranges
