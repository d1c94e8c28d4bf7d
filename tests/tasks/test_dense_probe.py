"""Linear heads on frozen features: better than no look at all, the same after a stop, refusals."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_models import tiny_config
from vjepa2.errors import (
    CheckpointFormatError,
    ConfigError,
    DataNotFoundError,
    InputError,
    LabelError,
    ListError,
    ShapeError,
    VideoDecodeError,
)
from vjepa2.models.dense import DenseHead, FeatureSource
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.nn.init import init_weights
from vjepa2.tasks.dense_config import DenseProbeConfig
from vjepa2.tasks.dense_features import DenseFeatures
from vjepa2.tasks.dense_probe import evaluate_dense, train_dense_probe
from vjepa2.tasks.dense_sets import DenseFolder, DenseItem, WorldStills
from vjepa2.video.label_pictures import read_label_picture
from vjepa2.video.processor import VJEPA2VideoProcessor

# Odd sizes, both orientations.
SIZES = ((41, 53), (47, 36))


@pytest.fixture(scope="module")
def model() -> VJEPA2Model:
    """Not trained: its random features still tell bright from dark."""
    network = VJEPA2Model(tiny_config(model_type="vjepa2_1", hierarchical_layers=[0, 1]))
    init_weights(network, std=0.1, generator=torch.Generator().manual_seed(0))
    return network.eval()


class Changed:
    """A set with its labels changed; items are made once."""

    def __init__(self, data: WorldStills, change: Any) -> None:
        self.task, self.class_names = data.task, data.class_names
        items = [data[index] for index in range(len(data))]
        self.items = [item._replace(target=change(item.target)) for item in items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> DenseItem:
        return self.items[index]


def world(task: Any, *, seed: int = 0, count: int) -> WorldStills:
    return WorldStills(task, seed=seed, count=count, sizes=SIZES)


@functools.cache
def stills(task: Any, *, seed: int = 0, count: int = 24) -> Changed:
    return Changed(world(task, seed=seed, count=count), lambda target: target)


def config(task: Any, **changes: Any) -> DenseProbeConfig:
    values: dict[str, Any] = {
        "task": task,
        "lrs": (3e-2, 1e-4),
        "weight_decays": (1e-3,),
        "sizes": (40, 64),
        "epochs": 8,
        "batch_size": 8,
        "num_bins": 32,
        "only_mean_steps": 3,
        "checkpoint_every": 5,
    }
    return DenseProbeConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def trained() -> VJEPA2Model:
    """The network that is shipped: it learned motion, from other clips."""
    return VJEPA2Model.from_pretrained("motion-tiny")


def test_segmentation_beats_the_commonest_class(trained: VJEPA2Model, tmp_path: Path) -> None:
    result = train_dense_probe(
        trained,
        stills("segmentation", count=24),
        stills("segmentation", seed=1, count=12),
        config("segmentation", lrs=(3e-2, 1e-4), sizes=(64, 40), epochs=14, num_frames=2),
        tmp_path,
        quiet=True,
    )
    assert result is not None
    assert result.baseline_says == "everything 'background'"
    assert result.best.scores["mean_iou"] > result.baseline["mean_iou"] + 0.08
    assert result.best is max(result.heads, key=lambda head: head.scores["mean_iou"])
    assert set(result.best.by_size) == {40, 64}
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["best"]["by_size"]["64"] == result.best.scores
    assert [head["lr"] for head in written["heads"]] == [3e-2, 1e-4]
    # What is on the disk says the same as what was measured.
    saved = DenseHead.from_pretrained(tmp_path / "model")
    data = stills("segmentation", seed=1, count=12)
    scores = evaluate_dense(trained, saved, data, short_side=64, quiet=True)
    assert scores == result.best.scores
    other = VJEPA2Model(trained.config)
    with pytest.raises(ConfigError, match="trained on features of .* with weights="):
        evaluate_dense(other, saved, data, short_side=64, quiet=True)
    by_shape = WorldStills("segmentation", seed=0, count=2, classes="shape")
    with pytest.raises(LabelError, match="names and their order"):
        evaluate_dense(trained, saved, by_shape, short_side=64, quiet=True)


@pytest.mark.parametrize("distances", ["bins", "log"])
def test_depth_beats_the_mean_distance(
    trained: VJEPA2Model, tmp_path: Path, distances: str
) -> None:
    result = train_dense_probe(
        trained,
        stills("depth", count=24),
        stills("depth", seed=1, count=12),
        config(
            "depth",
            distances=distances,
            epochs=12,
            sizes=(64,),
            lrs=(1e-2,),
            num_frames=2,
            least_distance=0.5,
        ),
        tmp_path,
        quiet=True,
    )
    assert result is not None
    assert "m away" in result.baseline_says
    assert result.best.scores["rmse"] < 0.9 * result.baseline["rmse"]
    assert result.best.scores["abs_rel"] < result.baseline["abs_rel"]


def test_a_stopped_run_ends_as_an_undisturbed_one(model: VJEPA2Model, tmp_path: Path) -> None:
    data = (stills("segmentation", count=10), stills("segmentation", seed=1, count=4))
    settings = config("segmentation", epochs=3, batch_size=4)
    whole = train_dense_probe(model, *data, settings, tmp_path / "whole", quiet=True)
    for stop in (2, 3, 7):
        assert (
            train_dense_probe(model, *data, settings, tmp_path / "parts", stop_at=stop, quiet=True)
            is None
        )
    before = torch.random.get_rng_state()
    parts = train_dense_probe(model, *data, settings, tmp_path / "parts", quiet=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert whole is not None
    assert parts is not None
    assert parts.heads == whole.heads
    for name, tensor in whole.head.state_dict().items():
        assert torch.equal(tensor, parts.head.state_dict()[name])
    with pytest.raises(CheckpointFormatError, match="batch_size"):
        train_dense_probe(
            model, *data, settings.override(["batch_size=5"]), tmp_path / "parts", quiet=True
        )
    with pytest.raises(CheckpointFormatError, match="data"):
        other = stills("segmentation", seed=7, count=10)
        train_dense_probe(model, other, data[1], settings, tmp_path / "parts", quiet=True)


def test_heads_do_not_touch_each_other(model: VJEPA2Model, tmp_path: Path) -> None:
    """Two heads at once are the two heads that are trained alone."""
    data = (stills("segmentation", count=8), stills("segmentation", seed=1, count=4))
    settings = config("segmentation", epochs=3, sizes=(40,))
    both = train_dense_probe(model, *data, settings, tmp_path / "both", quiet=True)
    assert both is not None
    for number, lr in enumerate(settings.lrs):
        alone = train_dense_probe(
            model,
            *data,
            settings.override([f"lrs=[{lr}]"]),
            tmp_path / f"alone-{number}",
            quiet=True,
        )
        assert alone is not None
        assert alone.best.scores["mean_iou"] == pytest.approx(
            both.heads[number].scores["mean_iou"], abs=1e-6
        )


def test_features_are_the_same_from_the_cache(model: VJEPA2Model) -> None:
    source = FeatureSource(patch_size=8)
    data = stills("segmentation", count=2)
    ask = VJEPA2VideoProcessor()
    kept = DenseFeatures(model.encoder, ask, source, data, cache_bytes=1 << 20)
    fresh = DenseFeatures(model.encoder, ask, source, data, cache_bytes=0)
    first = kept.get(1, short_side=40, mirrored=True)
    again = kept.get(1, short_side=40, mirrored=True)
    assert again[0] is first[0]
    computed = fresh.get(1, short_side=40, mirrored=True)
    assert torch.equal(computed[0], first[0])
    assert fresh.get(1, short_side=40, mirrored=True)[0] is not computed[0]
    # 47 x 36 at a short side of 40 is 52.2 x 40: 7 x 5 patches of 8 pixels.
    assert first[0].shape == (32, 7, 5)
    assert torch.equal(first[1].flip(-1), data[1].target)
    plain = kept.get(1, short_side=40)
    assert not torch.equal(plain[0], first[0])


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("segmentation", lambda t: t + 4, "allowed are 0 to 3 and 255"),
        ("segmentation", lambda t: t * 0, "fewer than two classes"),
        ("depth", lambda t: t * torch.nan, "must be finite"),
        ("depth", lambda t: t * 0, "above 0 in two pixels"),
        ("depth", lambda t: t * 3, "greatest_distance=10"),
    ],
)
def test_wrong_labels_are_found_before_anything_is_computed(
    model: VJEPA2Model, tmp_path: Path, task: Any, change: Any, message: str
) -> None:
    data = world(task, count=3)
    for pair in ((Changed(data, change), data), (data, Changed(data, change))):
        with pytest.raises(LabelError, match=message):
            train_dense_probe(model, *pair, config(task), tmp_path, quiet=True)
    assert not (tmp_path / "checkpoints").exists()


def test_refusals(model: VJEPA2Model, tmp_path: Path) -> None:
    classes, depth = stills("segmentation", count=2), stills("depth", count=2)
    by_shape = WorldStills("segmentation", seed=0, count=2, classes="shape")
    with pytest.raises(InputError, match="training labels are for depth"):
        train_dense_probe(model, depth, classes, config("segmentation"), tmp_path)
    with pytest.raises(LabelError, match="other classes"):
        train_dense_probe(model, classes, by_shape, config("segmentation"), tmp_path)
    with pytest.raises(InputError, match="asks for block 5"):
        train_dense_probe(
            model, classes, classes, config("segmentation", levels=(5,)), tmp_path, quiet=True
        )
    with pytest.raises(ConfigError, match="different numbers above 0"):
        config("depth", sizes=(40, 40))
    with pytest.raises(ConfigError, match="Did you mean 'lrs'"):
        config("depth", lr=3)


# -- folders ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labelled pictures, one with class numbers as PNG and one as an array."""
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("a", (20, 31)), ("b", (17, 16))):
        pixels = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    classes = generator.integers(0, 3, (20, 31), dtype=np.uint8)
    image.fromarray(classes).save(tmp_path / "labels" / "a.png")
    np.save(tmp_path / "labels" / "b.npy", generator.integers(0, 3, (17, 16)))
    (tmp_path / "classes.txt").write_text("wall\nfloor\n\nchair\n")
    return tmp_path


def test_a_folder_of_labelled_pictures(folder: Path) -> None:
    data = DenseFolder(folder, "segmentation")
    assert data.class_names == ("wall", "floor", "chair")
    assert len(data) == 2
    assert data[0].frame.shape == (3, 20, 31)
    assert data[0].target.shape == (20, 31)
    assert data[1].target.unique().tolist() == [0, 1, 2]
    np.save(folder / "labels" / "b.npy", np.zeros((17, 15), dtype=np.int64))
    with pytest.raises(ShapeError, match=r"b.npy is \[17, 15\]"):
        data[1]
    np.save(folder / "labels" / "b.npy", np.array([{"code": 1}], dtype=object))
    with pytest.raises(ListError, match="no array"):
        data[1]
    (folder / "classes.txt").write_text("wall\nwall\n")
    with pytest.raises(ListError, match="different classes"):
        DenseFolder(folder, "segmentation")
    (folder / "labels" / "a.png").unlink()
    with pytest.raises(DataNotFoundError, match="has no labels: neither a.png nor a.npy"):
        DenseFolder(folder, "depth")


def test_numbers_in_pictures(tmp_path: Path) -> None:
    """Eight bits, a palette and sixteen bits give the numbers that were stored."""
    image = pytest.importorskip("PIL.Image")
    numbers = np.arange(35, dtype=np.uint8).reshape(5, 7)
    image.fromarray(numbers).save(tmp_path / "gray.png")
    palette = image.fromarray(numbers).convert("L")
    palette.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
    palette.save(tmp_path / "palette.png")
    wide = numbers.astype(np.uint16) * 1000
    image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_label_picture(tmp_path / "gray.png").tolist() == numbers.tolist()
    assert read_label_picture(tmp_path / "palette.png").tolist() == numbers.tolist()
    assert read_label_picture(tmp_path / "wide.png").tolist() == wide.tolist()
    image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(VideoDecodeError, match="colours or bits instead of numbers"):
        read_label_picture(tmp_path / "colour.png")


def test_millimetres_in_pictures_of_sixteen_bits(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    millimetres = np.full((20, 31), 2500, dtype=np.uint16)
    image.fromarray(millimetres).save(folder / "labels" / "a.png")
    assert DenseFolder(folder, "depth")[0].target.unique().tolist() == [2.5]
