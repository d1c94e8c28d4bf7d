"""Loading Meta's original files: time and peak memory, beside torch.load + load_state_dict.

    python -m benchmarks.load_original            # 1.3 GB: averaged encoder and predictor of ViT-L
    python -m benchmarks.load_original --giant    # a folder of ViT-G in place of it: 7.6 GB

The file is made once with random weights, in a temporary place, and is read once, so that all sides
find it in the page cache. Every measurement is a fresh process with one thread; imports are not
counted. Sides:

* `ours`: `VJEPA2Model.from_pretrained(file)`, from nothing to a model in evaluation mode, every
  value looked at;
* `reference`: `torch.load` and `load_state_dict` into a plain network of the same tensors that is
  already there (making it is not counted);
* `reference_mapped`: the same with `mmap=True` and `assign=True`, the leanest that PyTorch has; it
  looks at no value;
* `folder`: `from_pretrained` of the same weights in a folder of this package, whose values are not
  looked at either.

`peak_mib` is the largest resident memory of the process (VmHWM), mapped pages of the file included;
`peak_mib_read` that after every weight was read once more.

ViT-G is loaded from a folder of this package as it is stored, in float32, and converted to
bfloat16 while loading.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import parser, save

SIDES = ("ours", "reference", "reference_mapped", "folder")
CHILD = """
import json, sys, time
import torch
{imports}

def peak_mib():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024

path = sys.argv[1]
{before}
result = {{"imports_mib": peak_mib()}}
start = time.perf_counter()
{load}
result["seconds"] = time.perf_counter() - start
result["peak_mib"] = peak_mib()
for parameter in model.parameters():
    parameter.detach().sum()
result["peak_mib_read"] = peak_mib()
print(json.dumps(result))
"""
PLAIN = """
from benchmarks.load_original import plain_network
model = plain_network(path)
"""
CODE = {
    "ours": {
        "imports": "from vjepa2 import VJEPA2Model",
        "before": "",
        "load": "model = VJEPA2Model.from_pretrained(path)",
    },
    "reference": {
        "imports": "",
        "before": PLAIN,
        "load": """
content = torch.load(path, map_location="cpu", weights_only=True)
for key in ("target_encoder", "predictor"):
    model[key].load_state_dict(content[key])
del content
""",
    },
    "reference_mapped": {
        "imports": "",
        "before": PLAIN,
        "load": """
content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
for key in ("target_encoder", "predictor"):
    model[key].load_state_dict(content[key], assign=True)
del content
""",
    },
    "folder": {
        "imports": "from vjepa2 import VJEPA2Model",
        "before": "",
        "load": "model = VJEPA2Model.from_pretrained(path)",
    },
    "folder_as_bfloat16": {
        "imports": "from vjepa2 import VJEPA2Model",
        "before": "",
        "load": "model = VJEPA2Model.from_pretrained(path, dtype=torch.bfloat16)",
    },
}


def plain_network(path: str) -> Any:
    """A network with the tensors of the file under their names, memory untouched so far."""
    import torch
    from torch import nn

    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    network = nn.ModuleDict()
    for key in ("target_encoder", "predictor"):
        part = network[key] = nn.Module()
        for name, tensor in content[key].items():
            *inner, leaf = name.split(".")
            owner = part
            for child in inner:
                if child not in dict(owner.named_children()):
                    owner.add_module(child, nn.Module())
                owner = owner.get_submodule(child)
            owner.register_parameter(leaf, nn.Parameter(torch.empty(tensor.shape)))
    return network


def write_original(path: Path, folder: Path) -> int:
    """An original file with random weights of ViT-L, and a folder; returns the file's bytes."""
    import torch

    from vjepa2 import VJEPA2Config, VJEPA2Model
    from vjepa2.weights.meta_format import original_content

    model = VJEPA2Model(VJEPA2Config())
    model.save_pretrained(folder)
    content, _ = original_content(model.state_dict())
    del content["encoder"]
    torch.save({**content, "opt": None, "scaler": None, "epoch": 40, "loss": 0.4}, path)
    return path.stat().st_size


def write_giant(folder: Path) -> int:
    """A folder of this package with ViT-G's parameters in float32; returns its size in bytes.

    Written shard by shard, so that making it needs little memory.
    """
    import torch
    from safetensors.torch import save_file

    from vjepa2.models.presets import get_preset
    from vjepa2.models.vjepa2 import VJEPA2Model

    config = get_preset("vjepa2.1-vitG-384").to_config()
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in VJEPA2Model(config).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    weight_map: dict[str, str] = {}
    waiting: dict[str, torch.Tensor] = {}
    size_bytes = 0

    def write() -> None:
        file = f"model-{len(set(weight_map.values())) + 1:05}.safetensors"
        save_file(waiting, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(waiting, file))
        waiting.clear()

    for name, shape in shapes.items():
        waiting[name] = torch.empty(shape).normal_(0.0, 0.02, generator=generator)
        size_bytes += waiting[name].nbytes
        if sum(tensor.nbytes for tensor in waiting.values()) > 2**29:
            write()
    write()
    index = {"metadata": {"total_size": size_bytes}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    return size_bytes


def measure(side: str, path: Path) -> dict[str, float]:
    """Numbers of one process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(**CODE[side]), str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


def original(repeats: int) -> dict[str, Any]:
    """ViT-L in one original file, sides in turn."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "vitl.pt"
        size_bytes = write_original(path, Path(name) / "folder")
        for _ in range(repeats):
            for side in SIDES:
                place = Path(name) / "folder" if side == "folder" else path
                runs[side].append(measure(side, place))
    sides = {side: medians(numbers) for side, numbers in runs.items()}
    ratios = [
        own["seconds"] / theirs["seconds"]
        for own, theirs in zip(runs["ours"], runs["reference"], strict=True)
    ]
    return {
        "file_mib": round(size_bytes / 2**20),
        "repeats": repeats,
        **sides,
        "ratio_seconds": round(statistics.median(ratios), 3),
        **{
            f"ratio_{key}": round(sides["ours"][key] / sides["reference"][key], 3)
            for key in ("peak_mib", "peak_mib_read")
        },
    }


def giant() -> dict[str, Any]:
    """ViT-G as a folder of this package: as it is, and converted while loading."""
    folder = Path(tempfile.mkdtemp())
    try:
        size_mib = write_giant(folder) / 2**20
        found: dict[str, Any] = {"weights_mib": round(size_mib), "stored_type": "float32"}
        for side in ("folder", "folder_as_bfloat16"):
            numbers = measure(side, folder)
            found[side] = {key: round(value, 3) for key, value in numbers.items()}
            found[side]["ratio_peak"] = round(numbers["peak_mib"] / size_mib, 3)
            found[side]["ratio_peak_read"] = round(numbers["peak_mib_read"] / size_mib, 3)
    finally:
        shutil.rmtree(folder)
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument(
        "--giant",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="ViT-G in place of ViT-L: needs 8 GB of disk and of memory",
    )
    options = arguments.parse_args()
    what = "load_giant" if options.giant else "load_original"
    results = giant() if options.giant else original(options.repeats)
    results = {"threads_of_the_measured_processes": 1, **results}
    print(json.dumps(results, indent=2))
    save(what, results)


if __name__ == "__main__":
    main()
