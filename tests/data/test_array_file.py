"""Arrays as clips: any channels, three formats, nothing that could run code."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from vjepa2.data.augment import to_pixels
from vjepa2.data.decode import ClipDecoder
from vjepa2.data.sample import ClipTask, FileRef, Sample
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig

BANDS = AugmentConfig(crop="whole", flip=0, mean=(0.5,) * 12, std=(0.25,) * 12, pixel_max=10_000.0)


def decoded(path: Path, augment: AugmentConfig) -> Sample | str:
    """The sample made from one file with 4 frames, every second; or why there is none."""
    source = SourceConfig(path=str(path), frame_step=2, kind="array")
    decoder = ClipDecoder(
        config=DataConfig(sources=(source,), moment="middle"),
        augment=augment,
        num_frames=4,
        size=(16, 16),
    )
    answer = decoder[ClipTask(0, 0, 0, 0, (FileRef(str(path)),))]
    return answer.bad_files[0].reason if answer.sample is None else answer.sample


def write(path: Path, array: NDArray[np.generic]) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, clip=array)
    else:
        save_file({"frames": np.ascontiguousarray(array), "other": np.zeros(3)}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
@pytest.mark.parametrize("first", [True, False])
def test_twelve_bands(tmp_path: Path, suffix: str, dtype: type, first: bool) -> None:
    bands = np.random.default_rng(0).integers(0, 10_000, (9, 12, 16, 16)).astype(dtype)
    array = bands if first else bands.transpose(0, 2, 3, 1)
    sample = decoded(write(tmp_path / f"clip{suffix}", array), BANDS)
    assert isinstance(sample, Sample)
    # 4 frames with step 2 fit at 0, 1 and 2; the middle is 1.
    expected = (bands[[1, 3, 5, 7]].astype(np.float64) / 10_000 - 0.5) / 0.25
    found = to_pixels([sample], BANDS)[0].double().numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert sample.pts_seconds.tolist() == [1 / 25, 3 / 25, 5 / 25, 7 / 25]


def test_one_channel_may_leave_its_axis_out(tmp_path: Path) -> None:
    grey = AugmentConfig(crop="whole", flip=0, mean=(0.0,), std=(1.0,))
    frames = np.random.default_rng(0).integers(0, 256, (7, 16, 16), dtype=np.uint8)
    sample = decoded(write(tmp_path / "scan.npy", frames), grey)
    assert isinstance(sample, Sample) and sample.frames.dtype == torch.uint8
    expected = torch.from_numpy(frames[[0, 2, 4, 6]]) / 255
    assert torch.allclose(to_pixels([sample], grey)[0, :, 0], expected, atol=1e-6)


def test_a_colour_video_serves_as_one_channel_but_not_as_twelve(clip_folder: Path) -> None:
    grey = AugmentConfig(mean=(0.0,), std=(1.0,)).evaluation()
    source = SourceConfig(path=str(clip_folder), frame_step=2)
    ref = FileRef(str(clip_folder / "clip1.mp4"))
    for augment, fits in ((grey, True), (BANDS, False)):
        decoder = ClipDecoder(
            config=DataConfig(sources=(source,)), augment=augment, num_frames=4, size=(16, 16)
        )
        answer = decoder[ClipTask(0, 0, 0, 0, (ref,))]
        if fits:
            assert answer.sample is not None and answer.sample.frames.shape[1] == 1
        else:
            assert "set up for 12 channels" in answer.bad_files[0].reason


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 12, 16, 12), "both the second and the last axis have 12"),
        ((4, 3, 16, 16), "no axis has 12"),
        ((4, 16), "a clip is"),
        ((0, 12, 8, 8), "not empty"),
    ],
)
def test_wrong_shapes_are_named(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    reason = decoded(write(tmp_path / "a.npy", np.zeros(shape, dtype=np.uint8)), BANDS)
    assert isinstance(reason, str) and message in reason


def test_what_is_no_plain_array_is_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    assert "cannot be read as an array" in str(decoded(pickled, BANDS))
    for name in ("noise.npy", "noise.npz", "noise.safetensors"):
        (tmp_path / name).write_bytes(b"noise" * 99)
        assert "cannot be read as an array" in str(decoded(tmp_path / name, BANDS))
    assert "no array file" in str(decoded(tmp_path / "gone.npy", BANDS))
    texts = write(tmp_path / "texts.npy", np.array(["a", "b"]))
    assert "allowed are uint8" in str(decoded(texts, BANDS))
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    assert "holds 2 arrays (a, b)" in str(decoded(tmp_path / "two.npz", BANDS))


def test_a_packed_array_is_measured_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "zeros.npz", np.zeros((9, 12, 16, 16), dtype=np.uint8))
    assert isinstance(decoded(path, BANDS), Sample)
    monkeypatch.setattr("vjepa2.data.array_file.MAX_UNPACKED_BYTES", 20_000)  # it takes 27776
    assert path.stat().st_size < 1000
    assert "unpacks to 27776 bytes, more than 20000" in str(decoded(path, BANDS))


def test_a_packed_file_may_hold_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("frames.npy", b"hello")
    assert "it holds other data" in str(decoded(tmp_path / "text.npz", BANDS))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_damaged_files_are_named_errors_whatever_is_damaged(tmp_path: Path, suffix: str) -> None:
    good = write(tmp_path / f"good{suffix}", np.zeros((9, 12, 4, 4), np.uint8)).read_bytes()
    rng = np.random.default_rng(0)
    reasons = 0
    for _ in range(150):
        data = bytearray(good)
        for place in rng.integers(0, min(len(data), 400), 3):
            data[place] = rng.integers(0, 256)
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data))
        reasons += isinstance(decoded(path, BANDS), str)  # anything unnamed is raised
    assert reasons > 30
