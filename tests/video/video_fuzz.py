"""Read mutated video files, for `test_fuzz.py`, which runs this file as a process of its own.

Usage: python video_fuzz.py FOLDER FIRST_SEED LAST_SEED. Each file of FOLDER is mutated with each
seed; one line is printed before each case, and a summary as JSON at the end. A case that takes
longer than `SECONDS_PER_CASE` ends the process with a traceback.
"""

import collections
import faulthandler
import json
import random
import resource
import sys
from pathlib import Path

from vjepa2.errors import VideoError
from vjepa2.video.limits import ReadLimits
from vjepa2.video.reader import VideoReader

SECONDS_PER_CASE = 20.0
LIMITS = ReadLimits(max_pixels=2_000_000)


def mutate(original: bytes, rng: random.Random) -> bytes:
    """Change bytes, flip bits, cut, remove, insert, set extreme numbers, or copy a stretch."""
    data = bytearray(original)
    # Headers are short and decide most, so changes go there more often.
    area = min(len(data), rng.choice([64, 512, 2048, len(data)]))
    kind = rng.randrange(7)
    at = rng.randrange(area)
    if kind == 0:
        for _ in range(rng.choice([1, 3, 10, 50])):
            data[rng.randrange(area)] = rng.randrange(256)
    elif kind == 1:
        for _ in range(rng.choice([1, 3, 10])):
            data[rng.randrange(area)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        del data[rng.randrange(len(data)) :]
    elif kind == 3:
        del data[at : at + rng.choice([1, 4, 100, 1000])]
    elif kind == 4:
        data[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
    elif kind == 5:
        size = rng.choice([4, 8])
        data[at : at + size] = rng.choice(
            [b"\xff" * size, bytes(size), b"\x7f" + b"\xff" * (size - 1)]
        )
    else:
        source, size = rng.randrange(len(data)), rng.choice([16, 256])
        data[at : at + size] = data[source : source + size]
    return bytes(data)


def read(data: bytes, rng: random.Random) -> str:
    """Open and read here and there; the name of the error, or "ok"."""
    try:
        mode = rng.choice(["error", "skip"])
        with VideoReader(
            data, limits=LIMITS, on_damage=mode, num_ffmpeg_threads=rng.choice([0, 1])
        ) as reader:
            count = len(reader)
            frames = reader.get_frames_at([0, count - 1, count // 2, count // 3])
            assert frames.data.shape[0] == 4
            assert bool((reader.pts_seconds.diff() >= 0).all())
            facts = reader.metadata
            assert facts.width * facts.height <= LIMITS.max_pixels
            reader.get_frame_played_at(facts.begin_stream_seconds)
    except VideoError as error:
        assert len(str(error)) > 20
        return type(error).__name__
    return "ok"


def peak_bytes() -> int:
    """Largest resident size of this process so far, without what its parent had."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would start from the parent's peak
        line = next(t for t in status.read_text().splitlines() if t.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes


def main() -> None:
    """Run all cases; see the module's docstring."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    before = peak_bytes()
    outcomes: collections.Counter[str] = collections.Counter()
    for path in sorted(folder.iterdir()):
        for seed in range(first, last):
            print(f"{path.name} {seed}", flush=True)
            rng = random.Random(f"{path.name} {seed}")
            faulthandler.dump_traceback_later(SECONDS_PER_CASE, exit=True)
            outcomes[read(mutate(path.read_bytes(), rng), rng)] += 1
            faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"outcomes": outcomes, "added_bytes": peak_bytes() - before}))


if __name__ == "__main__":
    main()
