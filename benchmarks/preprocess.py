"""Preprocessing, side by side with the processor of `transformers`: equal numbers, time, memory.

    python -m benchmarks.preprocess --reference-path DIR

DIR is a folder that holds torchvision (`pip install --no-deps --target DIR torchvision`), which
the reference needs and this package does not. torchvision's compiled part need not load: the two
operators it would register are declared here, and the processor uses none of them. Without a
reference, only our side is timed.

What is measured:
* equality: 200 random sizes, element types, axis orders and options through both processors;
* time: 64 frames of 1080p uint8, both axis orders; the sides take turns, medians are compared;
* memory: growth of the resident peak while processing them, each side in a process of its own;
* fast mode: how many pixels stay within one grey level, on noise and on a smooth moving picture.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import parser, save

NUM_FRAMES, HEIGHT, WIDTH = 64, 1080, 1920
GREY = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1) * 255  # one grey level, normalised

Processor = Callable[..., Any]


def load_reference(path: str | None) -> Any:
    """Return the reference's class, or None where it cannot be imported."""
    if path is not None:
        sys.path.insert(0, path)
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        load_reference.library = library  # type: ignore[attr-defined]  # keeps the operators
    try:
        from transformers import VJEPA2VideoProcessor as Reference

        Reference()
    except ImportError as error:
        print(f"no reference: {str(error).strip().splitlines()[0]}")
        return None
    return Reference


def load_ours() -> Any:
    from vjepa2.video.processor import VJEPA2VideoProcessor

    return VJEPA2VideoProcessor


# -- equality -------------------------------------------------------------------------------------

DTYPES = (torch.uint8,) * 8 + (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.int16,
    torch.int32,
    torch.int64,
)


def random_case(rng: random.Random) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A video of random size, type and order; options of the constructor; options of the call."""
    height, width = rng.randint(20, 400), rng.randint(20, 400)
    if rng.random() < 0.3:
        height, width = rng.choice([(270, 480), (240, 320), (360, 640), (480, 270), (576, 1024)])
    frames, dtype = rng.randint(1, 4), rng.choice(DTYPES)
    torch.manual_seed(rng.randint(0, 1 << 30))
    video = torch.randint(0, 256, (frames, 3, height, width)).to(dtype)
    if dtype.is_floating_point and dtype != torch.float16:
        video = (video + torch.rand(video.shape, dtype=dtype)).clamp(0, 255)
    if rng.random() < 0.5:
        video = video.permute(0, 2, 3, 1).contiguous()
    given: Any = video.numpy() if rng.random() < 0.5 else video
    if rng.random() < 0.2:
        given = list(given)
    crop: Any = rng.choice([16, 32, 48, 64, 112, 160, 224, 256, rng.randint(8, 256)])
    call: dict[str, Any] = {}
    for name, probability in (
        ("do_resize", 0.1),
        ("do_center_crop", 0.1),
        ("do_rescale", 0.1),
        ("do_normalize", 0.2),
    ):
        if rng.random() < probability:
            call[name] = False
    if rng.random() < 0.3:
        call["resample"] = rng.choice([0, 2, 3, 3])
    if rng.random() < 0.1:
        side = rng.randint(8, 200)
        call["crop_size"] = {"height": side, "width": rng.randint(8, 200)}
    if rng.random() < 0.1:
        call["size"] = rng.choice(
            [{"shortest_edge": rng.randint(8, 300)}, {"height": 90, "width": 70}, 77]
        )
    if rng.random() < 0.1:
        call["image_mean"], call["image_std"] = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    if rng.random() < 0.05:
        call["rescale_factor"] = 1 / 127.5
    return given, {"crop_size": crop}, call


def compare_random(reference: Any, ours: Any, *, count: int, seed: int) -> dict[str, Any]:
    """Process random videos with both and count the results that are equal bit for bit."""
    rng = random.Random(seed)
    equal, uint8, uint8_equal, unequal = 0, 0, 0, []
    for number in range(count):
        video, make, call = random_case(rng)
        wanted = reference(**make)(video, return_tensors="pt", **call).pixel_values_videos
        got = ours(**make)(video, return_tensors="pt", **call).pixel_values_videos
        same = got.dtype == wanted.dtype and torch.equal(got, wanted)
        equal += same
        first = torch.as_tensor(video[0])
        if first.dtype == torch.uint8:
            uint8, uint8_equal = uint8 + 1, uint8_equal + same
        if not same:
            error = float("nan")
            if got.shape == wanted.shape:
                error = float((got.double() - wanted.double()).abs().max())
            unequal.append(
                {
                    "case": number,
                    "frame": [*first.shape],
                    "dtype": str(first.dtype),
                    **make,
                    **call,
                    "got": [*got.shape],
                    "wanted": [*wanted.shape],
                    "max_abs_error": error,
                }
            )
    return {
        "cases": count,
        "seed": seed,
        "equal": equal,
        "uint8_cases": uint8,
        "uint8_equal": uint8_equal,
        "unequal": unequal,
    }


# -- time and memory ------------------------------------------------------------------------------


def video_1080p(order: str, *, frames: int = NUM_FRAMES) -> torch.Tensor:
    """uint8 noise; no smaller tensor is made on the way, so the peak is the video itself."""
    shape = {"THWC": (frames, HEIGHT, WIDTH, 3), "TCHW": (frames, 3, HEIGHT, WIDTH)}[order]
    generator = torch.Generator().manual_seed(0)
    return torch.empty(shape, dtype=torch.uint8).random_(0, 256, generator=generator)


def sides(reference: Any, ours: Any) -> dict[str, Processor]:
    """The processors that are compared, by name."""
    found: dict[str, Processor] = {
        "vjepa2_exact": ours(),
        "vjepa2_fast": ours(resize_mode="fast"),
    }
    return found if reference is None else {"transformers": reference(), **found}


def time_sides(processors: dict[str, Processor], *, rounds: int) -> dict[str, Any]:
    """Time every side in turn, `rounds` times, for both axis orders; each round starts elsewhere.

    Besides the time on the clock, the processor time of all threads is kept: on a machine that
    is busy with something else it is the steadier number.
    """
    results: dict[str, Any] = {}
    for order in ("THWC", "TCHW"):
        video = video_1080p(order)
        clock: dict[str, list[float]] = {name: [] for name in processors}
        busy: dict[str, list[float]] = {name: [] for name in processors}
        for round_number in range(rounds + 1):
            turn = round_number % len(processors)
            names = list(processors)[turn:] + list(processors)[:turn]
            for name, processor in ((name, processors[name]) for name in names):
                time.sleep(0.1)  # threads of the side before spin a little before they rest
                start, start_busy = time.perf_counter(), time.process_time()
                processor(video, return_tensors="pt")
                if round_number:  # the first round warms up
                    clock[name].append(time.perf_counter() - start)
                    busy[name].append(time.process_time() - start_busy)
        results[order] = {
            "milliseconds_median": _milliseconds(clock, statistics.median),
            "milliseconds_min": _milliseconds(clock, min),
            "processor_milliseconds_median": _milliseconds(busy, statistics.median),
        }
        if "transformers" in processors:
            for measure, seconds in (("speedup", clock), ("speedup_processor_time", busy)):
                medians = {name: statistics.median(values) for name, values in seconds.items()}
                results[order][measure] = {
                    name: round(medians["transformers"] / value, 2)
                    for name, value in medians.items()
                    if name != "transformers"
                }
        del video
    return results


def _milliseconds(
    seconds: dict[str, list[float]], summary: Callable[[list[float]], float]
) -> dict[str, float]:
    return {name: round(summary(values) * 1e3, 1) for name, values in seconds.items()}


def peak_bytes() -> int:
    """Largest resident size of this process so far (Linux: not that of the parent, as rusage)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not report VmHWM; memory is measured on Linux only")


def memory_of(processor: Processor, order: str) -> int:
    """Growth of the resident peak while processing, in bytes (result included)."""
    small = video_1080p(order, frames=2)
    processor(small, return_tensors="pt")
    video = video_1080p(order)
    before = peak_bytes()
    processor(video, return_tensors="pt")
    return peak_bytes() - before


def memory_sides(names: list[str], arguments: list[str]) -> dict[str, Any]:
    """Run `memory_of` for every side and order in a process of its own."""
    results: dict[str, Any] = {}
    for order in ("THWC", "TCHW"):
        mebibytes = {}
        for name in names:
            command = [
                sys.executable,
                "-m",
                "benchmarks.preprocess",
                *arguments,
                "--memory-of",
                f"{name}:{order}",
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            mebibytes[name] = round(int(done.stdout.strip().splitlines()[-1]) / 2**20, 1)
        results[order] = {"mebibytes_above_the_video": mebibytes}
    return results


def fast_accuracy(ours: Any) -> dict[str, Any]:
    """Share of pixels of the fast mode within one grey level of the exact one."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = 127 + 60 * np.sin(x / 37 + y / 23) + 60 * np.sin(x / 5 - y / 9)
    videos = {
        "noise": rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8),
        "waves": np.repeat(smooth[None, :, :, None], 3, axis=3).astype(np.uint8),
        "edges": np.where((x // 24 + y // 24) % 2, 255, 0)[None, :, :, None].repeat(3, axis=3),
    }
    shares = {}
    for name, video in videos.items():
        pixels = [
            ours(resize_mode=mode)(video.astype(np.uint8), return_tensors="pt").pixel_values_videos
            for mode in ("exact", "fast")
        ]
        levels = ((pixels[0] - pixels[1]) * GREY).abs().round()
        shares[name] = {
            "equal": round(float((levels == 0).double().mean()), 6),
            "within_one_level": round(float((levels <= 1).double().mean()), 6),
            "largest_difference_levels": int(levels.max()),
        }
    return shares


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--reference-path", help="folder that holds torchvision")
    arguments.add_argument("--cases", type=int, default=200, help="random cases (default 200)")
    arguments.add_argument("--seed", type=int, default=0, help="of the random cases")
    arguments.add_argument("--rounds", type=int, default=9, help="timed rounds (default 9)")
    arguments.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    reference, ours = load_reference(options.reference_path), load_ours()
    processors = sides(reference, ours)
    if options.memory_of:
        name, order = options.memory_of.split(":")
        print(memory_of(processors[name], order))
        return
    passed = ["--reference-path", options.reference_path] if options.reference_path else []
    results = {
        "clip": f"{NUM_FRAMES} frames of {WIDTH}x{HEIGHT} uint8 to 256x256",
        "time": time_sides(processors, rounds=options.rounds),
        "memory": memory_sides(list(processors), passed),
        "fast_mode_against_exact": fast_accuracy(ours),
    }
    if reference is None:
        print("Nothing saved: the claim is a comparison, and the reference is missing.")
        return
    results["equality"] = compare_random(reference, ours, count=options.cases, seed=options.seed)
    save("preprocess", results)


if __name__ == "__main__":
    main()
