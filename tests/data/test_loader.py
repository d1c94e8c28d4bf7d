"""The same samples whoever makes them; bad files are counted, named, and a reason to stop."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from vjepa2.data.loader import ClipLoader
from vjepa2.data.sample import ClipTask, Sample
from vjepa2.data.settings import AugmentConfig, DataConfig, SourceConfig
from vjepa2.errors import BadFilesError, ConfigError, DataError, DataWorkerError

AUGMENT = AugmentConfig()


def data(folder: Path, **options: object) -> DataConfig:
    sources = (SourceConfig(path=str(folder), fps=4),)
    return DataConfig(**{"sources": sources, "workers": 0, **options})


def loader(config: DataConfig, **options: object) -> ClipLoader:
    settings: dict[str, object] = {"seed": 5, "batch_size": 4, "num_frames": 4, "crop_size": 32}
    return ClipLoader(config, AUGMENT, **{**settings, "num_steps": 3, **options})  # type: ignore[arg-type]


def facts(sample: Sample) -> tuple[object, ...]:
    """All of a sample, comparable."""
    fields = dict(vars(sample))
    for name in ("frames", "frame_ids", "pts_seconds"):
        fields[name] = np.asarray(fields[name]).tobytes()
    return tuple(fields.items())


def collect(made: ClipLoader) -> dict[tuple[int, int], tuple[object, ...]]:
    with made:
        return {
            (step, sample.position): facts(sample) for step, samples in made for sample in samples
        }


# ---- who makes a sample does not matter -----------------------------------------------------


def test_samples_are_the_same_with_any_number_of_workers(clip_folder: Path) -> None:
    alone = collect(loader(data(clip_folder)))
    assert len(alone) == 12
    assert len(set(alone.values())) == 12
    assert collect(loader(data(clip_folder, workers=3, prefetch=1))) == alone


@pytest.mark.parametrize("order", ["weighted", "epochs"])
def test_samples_are_the_same_on_any_number_of_processes(clip_folder: Path, order: str) -> None:
    config = data(clip_folder, order=order)
    alone = collect(loader(config))
    halves = [collect(loader(config, positions=part)) for part in ([0, 1], [2, 3])]
    assert alone == {**halves[0], **halves[1]}
    resumed = collect(loader(config, first_step=1, num_steps=2))
    assert resumed == {key: value for key, value in alone.items() if key[0] >= 1}
    assert collect(loader(config, seed=6)) != alone


def test_steps_and_positions_come_in_order(clip_folder: Path) -> None:
    with loader(data(clip_folder), positions=[3, 1], first_step=7) as made:
        order = [(step, [sample.position for sample in samples]) for step, samples in made]
    assert order == [(7, [3, 1]), (8, [3, 1]), (9, [3, 1])]


def test_a_sample_is_what_it_says(
    clip_folder: Path, frame_numbers: Callable[[Tensor], list[int]]
) -> None:
    """Every third frame of 12 a second, at their times, from the box, not mirrored yet."""
    with loader(data(clip_folder), num_steps=8) as made:
        samples = [sample for _, batch in made for sample in batch]
    for sample in samples:
        first, *others = frame_numbers(sample.frames)
        assert others == [first + 3, first + 6, first + 9]
        assert np.allclose(sample.pts_seconds, np.array([first, *others]) / 12, atol=1e-3)
        height, width = sample.frame_size
        assert (height, width) == ((64, 48) if "more" in sample.path else (48, 64))
        assert sample.frames.shape[2:] == (sample.box.height, sample.box.width)
        # The dark edge is on the left of the file, and in the box if that begins there.
        is_dark = float(sample.frames[-1, :, :, 0].float().mean()) < 8
        assert is_dark == (sample.box.left < 2 and first + 9 > 4)
    assert 8 < sum(sample.flip for sample in samples) < 24
    assert len({sample.path for sample in samples}) == 5


def test_sources_have_their_own_frames_and_stills_are_repeated(
    clip_folder: Path, tmp_path: Path
) -> None:
    import av

    picture = av.VideoFrame.from_ndarray(np.full((40, 50, 3), 200, np.uint8), format="rgb24")
    with av.open(str(tmp_path / "still.png"), "w") as output:
        stream = output.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 50, 40, "rgb24"
        output.mux([*stream.encode(picture), *stream.encode(None)])
    config = DataConfig(
        sources=(
            SourceConfig(path=str(clip_folder), fps=4, num_frames=6, weight=1.0),
            SourceConfig(path=str(tmp_path), kind="image", weight=1.0),
            SourceConfig(path=str(tmp_path), fps=4, weight=1.0),
            SourceConfig(path=str(tmp_path), kind="picture_folder", fps=4, weight=1.0),
        ),
        workers=0,
    )
    with loader(config, num_steps=6) as made:
        samples = [sample for _, batch in made for sample in batch]
    assert {sample.source for sample in samples} == {0, 1, 2, 3}
    for sample in samples:
        assert sample.num_frames == (6 if sample.source == 0 else 4)
        assert sample.is_image == (sample.source in (1, 2))
        assert len(sample.frames) == (6 if sample.source == 0 else 1)
        if sample.source:
            assert (sample.frames == 200).all()


def test_the_global_generator_is_left_alone(clip_folder: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    collect(loader(data(clip_folder)))
    assert torch.equal(torch.rand(3), expected)


# ---- bad files ------------------------------------------------------------------------------


def test_a_bad_file_is_replaced_counted_and_named(half_bad_folder: Path) -> None:
    config = data(half_bad_folder, max_bad_share=0.9)
    made = loader(config, num_steps=10)
    with made:
        samples = [sample for _, batch in made for sample in batch]
    assert all("good" in sample.path for sample in samples)
    reported = made.new_bad_files()
    assert {Path(bad.path).name for bad in reported} == {"bad0.mp4", "bad1.mp4", "bad2.mp4"}
    assert all("VideoOpenError" in bad.reason for bad in reported)
    num_bad = sum(bad.count for bad in made.bad_files)
    assert num_bad == sum(sample.attempt for sample in samples) > 5
    assert made.num_files_tried == 40 + num_bad
    assert made.new_bad_files() == []
    assert collect(loader(config, num_steps=10)) == {
        (sample.step, sample.position): facts(sample) for sample in samples
    }


def test_a_replacement_comes_from_the_same_source(half_bad_folder: Path, clip_folder: Path) -> None:
    config = DataConfig(
        sources=(
            SourceConfig(path=str(half_bad_folder), fps=4, weight=1.0),
            SourceConfig(path=str(clip_folder), fps=4, weight=1.0),
        ),
        workers=0,
        max_bad_share=0.9,
    )
    with loader(config, num_steps=10) as made:
        samples = [sample for _, batch in made for sample in batch]
    replaced = [sample for sample in samples if sample.attempt]
    assert replaced
    assert all(sample.path.startswith(str(half_bad_folder)) for sample in replaced)
    # The weights hold although half of one source is bad.
    assert 10 <= sum(sample.source == 0 for sample in samples) <= 30


def test_too_many_bad_files_stop_the_run(half_bad_folder: Path) -> None:
    made = loader(data(half_bad_folder, max_bad_share=0.2, judge_after=30), num_steps=99)
    with (
        made,
        pytest.raises(BadFilesError, match=r"of \d distinct files .* max_bad_share=0.2") as caught,
    ):
        for _ in made:
            pass
    assert "bad" in str(caught.value) and "VideoOpenError" in str(caught.value)
    with loader(data(half_bad_folder, max_bad_share=0)) as strict, pytest.raises(BadFilesError):
        list(strict)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_of_bad_files_only_stops_at_once(tmp_path: Path, workers: int) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    config = data(tmp_path, max_bad_share=1.0, workers=workers)
    with (
        loader(config) as made,
        pytest.raises(BadFilesError, match="16 tries in a row .* at 1 distinct file\\."),
    ):
        list(made)


def test_one_bad_file_of_a_dozen_is_no_reason_to_stop_however_often_it_is_drawn(
    clip_folder: Path, tmp_path: Path
) -> None:
    for number in range(12):
        (tmp_path / f"good{number}.mp4").symlink_to(clip_folder / "clip1.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    with loader(data(tmp_path, max_bad_share=0.05, judge_after=10), num_steps=40) as made:
        list(made)
    (bad,) = made.bad_files
    assert bad.count > 5


def test_a_small_set_is_judged_once_every_file_was_tried(clip_folder: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"good{number}.mp4").symlink_to(clip_folder / "clip1.mp4")
    for number in range(2):
        (tmp_path / f"bad{number}.mp4").write_bytes(b"no video")
    config = data(tmp_path, order="listed")  # six draws, far less than judge_after=100
    expected = r"2 of 6 distinct files cannot be read \(\d of \d+ tries failed\)"
    with loader(config) as made, pytest.raises(BadFilesError, match=expected):
        list(made)


def test_files_of_a_short_list_that_do_not_exist_are_counted_before_the_start(
    clip_folder: Path, tmp_path: Path
) -> None:
    names = [str(clip_folder / "clip1.mp4"), "gone1.mp4", "gone2.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    with pytest.raises(BadFilesError, match="2 of 3 distinct files do not exist.*gone1"):
        loader(data(tmp_path / "list.txt"))
    allowed = loader(data(tmp_path / "list.txt", max_bad_share=0.7))
    assert [Path(name).name for name in allowed.tables[0].missing] == ["gone1.mp4", "gone2.mp4"]


def test_files_that_are_missing_or_too_short_count(clip_folder: Path, tmp_path: Path) -> None:
    names = [str(clip_folder / "clip1.mp4"), str(tmp_path / "gone.mp4")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    made = loader(data(tmp_path / "list.txt", max_bad_share=0.9))
    with made:
        list(made)
    (gone,) = made.bad_files
    assert gone.path == names[1] and "VideoNotFoundError" in gone.reason
    # 48 frames at 12 a second are 4 s; 20 frames at 4 a second need 4.75.
    long = loader(data(clip_folder), num_frames=20)
    with long:
        assert all(
            int(sample.frame_ids[-1]) == int(sample.frame_ids[-3]) for _, b in long for sample in b
        )
    skipped = loader(data(clip_folder, short_video="skip"), num_frames=20)
    with skipped, pytest.raises(BadFilesError, match="VideoTooShortError"):
        list(skipped)


# ---- arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_an_array_that_holds_no_numbers_is_a_bad_file(tmp_path: Path, spoiled: float) -> None:
    """In the decoder, where its name is known; training would stop at every try."""
    frames = np.zeros((8, 40, 40, 3), dtype=np.float32)
    np.save(tmp_path / "good.npy", frames)
    frames[:, 3:30, 3:30] = spoiled
    np.save(tmp_path / "spoiled.npy", frames)
    with loader(data(tmp_path), num_steps=4) as made:
        samples = [sample for _, batch in made for sample in batch]
        [bad] = made.bad_files
    assert all(sample.path.endswith("good.npy") for sample in samples)
    assert bad.path.endswith("spoiled.npy") and "NaN or infinite" in bad.reason


def test_arguments(clip_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.sources is empty"):
        loader(DataConfig())
    with pytest.raises(ConfigError, match="positions must be numbers in 0 .. 3"):
        loader(data(clip_folder), positions=[4])
    with pytest.raises(ConfigError, match="positions"):
        loader(data(clip_folder), positions=[])
    with pytest.raises(ConfigError, match="seed must be 0 or more"):
        loader(data(clip_folder), seed=-1)
    made = loader(data(clip_folder), num_steps=1)
    list(made)
    with pytest.raises(DataError, match="iterated over once"):
        list(made)
    again = loader(data(clip_folder), num_steps=1, tables=made.tables)
    assert again.tables[0] is made.tables[0]


def test_a_closed_loader_says_so(clip_folder: Path) -> None:
    made = loader(data(clip_folder))
    batches = iter(made)
    next(batches)
    made.close()
    made.close()
    with pytest.raises(DataWorkerError, match="was closed"):
        next(batches)


# ---- memory and time ------------------------------------------------------------------------


def test_no_more_is_decoded_ahead_than_asked_for(clip_folder: Path) -> None:
    made = loader(data(clip_folder, workers=1, prefetch=2), num_steps=50)
    taken = 0
    tasks = made._tasks

    def counted() -> Iterator[ClipTask]:
        nonlocal taken
        for task in tasks():
            taken += 1
            yield task

    made._tasks = counted  # type: ignore[method-assign]
    with made:
        for number, _ in enumerate(made, start=1):
            assert taken <= 4 * number + 2 * 4
            if number == 5:
                break


def test_hundreds_of_clips_leave_nothing_behind(clip_folder: Path) -> None:
    """A clip that stayed would be 110 kB of frames, and a forgotten reader more."""
    process = psutil.Process()
    made = loader(data(clip_folder, workers=1), num_steps=100, num_frames=12, crop_size=64)
    with made:
        batches = iter(made)
        for _ in range(25):
            next(batches)
        gc.collect()
        (worker,) = [child for child in process.children() if "spawn_main" in str(child.cmdline())]
        before = [one.memory_info().rss for one in (process, worker)]
        files = [one.num_fds() for one in (process, worker)]
        for _ in range(75):
            next(batches)
        gc.collect()
        after = [one.memory_info().rss for one in (process, worker)]
        assert [
            one.num_fds() <= count + 8 for one, count in zip((process, worker), files, strict=True)
        ]
        growth = [late - early for early, late in zip(before, after, strict=True)]
    assert max(growth) < 12_000_000  # 300 clips of 110 kB would be 33 MB
