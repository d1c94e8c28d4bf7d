"""Every row of the table in docs/checkpoints.md, on a file with the released names and shapes.

The files are sparse and hold random numbers; the published ones cannot be reached from here.
"""

import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import vjepa2
from released_files import ENCODERS, Shapes, file_parts, write_released, write_safetensors
from tiny_models import model_names
from vjepa2.models.configuration import VJEPA2Config

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "checkpoints.md").read_text()


class Row(NamedTuple):
    artefact: str
    command: str
    files: str
    verified: str


def table() -> list[Row]:
    lines = [
        line for line in PAGE.splitlines() if line.startswith("| ") and "from_pretrained" in line
    ]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


ROWS = table()
ORIGINAL = [row for row in ROWS if ".pt`" in row.files]
CONVERTED = [row for row in ROWS if ".pt`" not in row.files]


def run(command: str) -> Any:
    return eval(
        command.strip("`"), dict(vars(vjepa2), **{n: getattr(vjepa2, n) for n in vjepa2.__all__})
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where downloads lie; no address is ever asked. Rows share encoders, as users do."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VJEPA2_CACHE", str(folder))
        patch.setenv("VJEPA2_OFFLINE", "1")
        yield folder / "checkpoints"
    shutil.rmtree(folder)


def test_the_table_is_complete() -> None:
    files = {name for row in ORIGINAL for name in re.findall(r"`([\w/.-]+\.pt)`", row.files)}
    assert files == {
        "vitl.pt",
        "vith.pt",
        "vitg.pt",
        "vitg-384.pt",
        "vjepa2-ac-vitg.pt",
        "vjepa2_1_vitb_dist_vitG_384.pt",
        "vjepa2_1_vitl_dist_vitG_384.pt",
        "vjepa2_1_vitg_384.pt",
        "vjepa2_1_vitG_384.pt",
        "evals/ssv2-vitl-16x2x3.pt",
        "evals/ssv2-vitg-384-64x2x3.pt",
        "evals/diving48-vitl-256.pt",
        "evals/diving48-vitg-384-32x4x3.pt",
        "evals/ek100-vitl-256.pt",
        "evals/ek100-vitg-384.pt",
    }
    assert len(CONVERTED) == 8


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Spare the two steps that read every byte: checksum, and the look for NaN and holes.

    Both have tests of their own (tests/weights); on 20 GB of holes they take minutes.
    """

    def spare() -> None:
        monkeypatch.setattr("vjepa2.weights.load.check_values", lambda *_, **__: None)
        monkeypatch.setattr("vjepa2.weights.download.sha256_of", lambda *_, **__: "0" * 64)

    return spare


@pytest.mark.parametrize("row", ORIGINAL, ids=lambda row: row.artefact)
def test_original_file(row: Row, cache: Path, unread: Callable[[], None]) -> None:
    if "ViT-B" not in row.artefact and "EPIC" not in row.artefact:  # the small ones are read
        unread()
    parts = dict(re.findall(r"`([\w/.-]+\.pt)`: ((?:`[\w\[\]]+`(?:, )?)+)", row.files))
    count = 0
    for tail, keys in parts.items():
        path = cache / tail
        if not path.exists():  # only the smallest two hold two different encoders
            write_released(cache, tail, two_encoders="vitl" in tail or "vitb" in tail)
        released = file_parts(tail)
        for key in re.findall(r"`([\w\[\]]+)`", keys):
            count += sum(math.prod(s) for s in released[key.removesuffix("[0]")][1].values())
    model = run(row.command)
    assert model.num_parameters() == count
    assert type(model).__name__ == row.command.strip("`").partition(".")[0]
    assert not model.load_report.fresh
    check_values(model, torch.load(path, weights_only=True, mmap=True))


def check_values(model: Any, content: dict[str, Any]) -> None:
    """Some tensors of the last file are where they belong, whatever else it holds."""
    values = {name.removeprefix("vjepa2."): tensor for name, tensor in model.state_dict().items()}
    if "classifiers" in content:
        stored = content["classifiers"][0]
        fused = stored["module.pooler.blocks.2.attn.qkv.weight"].chunk(3)
        for name, wanted in zip("qkv", fused, strict=True):
            layer = f"pooler.self_attention_layers.2.self_attn.{name}_proj.weight"
            same_start(values[layer], wanted)
        heads = {"linear": "classifier", "noun_classifier": "classifiers.noun"}
        for theirs, ours in heads.items():
            if f"module.{theirs}.weight" in stored:
                same_start(values[f"{ours}.weight"], stored[f"module.{theirs}.weight"])
        return
    kept = next(key for key in ("target_encoder", "ema_encoder", "encoder") if key in content)
    prefix = next(iter(content[kept])).removesuffix("patch_embed.proj.weight")
    stored = content[kept]
    for name, wanted in zip(
        ("query", "key", "value"), stored[f"{prefix}blocks.7.attn.qkv.weight"].chunk(3), strict=True
    ):
        same_start(values[f"encoder.layer.7.attention.{name}.weight"], wanted)
    if kept != "encoder" and len(stored) <= 302:  # the other encoder has other numbers
        other = content["encoder"][f"{prefix}blocks.7.mlp.fc1.weight"]
        assert not torch.equal(values["encoder.layer.7.mlp.fc1.weight"][0], other[0])
    predictor = content["predictor"]
    same_start(values["predictor.proj.weight"], predictor[f"{prefix}predictor_proj.weight"])
    if f"{prefix}mask_tokens.1" in predictor:
        same_start(
            values["predictor.embeddings.mask_tokens"][1], predictor[f"{prefix}mask_tokens.1"]
        )
    if f"{prefix}state_encoder.weight" in predictor:
        same_start(
            values["predictor.embeddings.state_embeddings.weight"],
            predictor[f"{prefix}state_encoder.weight"],
        )


def same_start(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert torch.equal(got[0], wanted[0]) and bool(wanted[0].flatten()[0] != 0)


# -- the port's repositories ----------------------------------------------------------------------


def converted_shapes(arch: str, classes: int | None) -> Shapes:
    """Tensors of a repository; names from the port, shapes from the architecture."""
    width, depth, _, hidden = ENCODERS[arch]
    shapes: Shapes = {}
    for name in model_names(encoder_depth=depth, predictor_depth=12):
        inside = name.startswith("encoder")
        own, wide = (width, hidden) if inside else (384, 1536)
        shapes[name] = {
            "fc1.weight": (wide, own),
            "fc1.bias": (wide,),
            "fc2.weight": (own, wide),
        }.get(".".join(name.split(".")[-2:]), (own, own) if is_matrix(name) else (own,))
    shapes |= {
        "encoder.embeddings.patch_embeddings.proj.weight": (width, 3, 2, 16, 16),
        "predictor.embeddings.mask_tokens": (10, 1, 1, 384),
        "predictor.embeddings.predictor_embeddings.weight": (384, width),
        "predictor.proj.weight": (width, 384),
        "predictor.proj.bias": (width,),
    }
    if classes is None:
        return shapes
    shapes = {f"vjepa2.{name}": shape for name, shape in shapes.items()}
    shapes |= {"pooler.query_tokens": (1, 1, width), "classifier.weight": (classes, width)}
    shapes["classifier.bias"] = (classes,)
    for index in range(3):
        layer = f"pooler.self_attention_layers.{index}"
        shapes |= head_block(layer, "self_attn", ("q", "k", "v", "out"), width)
    return shapes | head_block("pooler.cross_attention_layer", "cross_attn", ("q", "k", "v"), width)


def is_matrix(name: str) -> bool:
    return name.endswith("weight") and "norm" not in name


def head_block(layer: str, attention: str, maps: tuple[str, ...], width: int) -> Shapes:
    shapes: Shapes = {}
    for norm in ("layer_norm1", "layer_norm2"):
        shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
    matrices = {f"{attention}.{name}_proj": (width, width) for name in maps}
    matrices |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for name, shape in matrices.items():
        shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    return shapes


@pytest.mark.parametrize("row", CONVERTED, ids=lambda row: row.artefact)
def test_converted_repository(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name stands for the repository; downloading has tests of its own."""
    name = re.findall(r'"(facebook/[\w-]+)"', row.command)[0]
    arch = name.split("-")[1]
    width, depth, heads, _ = ENCODERS[arch]
    classes = {"ssv2": 174, "ng48": 48}.get(name[-4:])
    config = VJEPA2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=48 / 11 if arch == "vitg" else 4,
        crop_size=int(re.findall(r"-(256|384)", name)[0]),
        num_labels=classes or 2,
    )
    config.save_pretrained(tmp_path / name)
    shapes = converted_shapes(arch, classes)
    write_safetensors(tmp_path / name / "model.safetensors", shapes)
    monkeypatch.chdir(tmp_path)
    model = run(row.command)
    assert model.num_parameters() == sum(math.prod(shape) for shape in shapes.values())
    assert set(model.state_dict()) == set(shapes)
    if name == "facebook/vjepa2-vitl-fpc64-256":
        assert len(shapes) == 587  # counted in the published file
