"""Recordings of robots are read alike from every layout; what is damaged is named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_sets import (
    STATE_NAMES,
    arm_frames,
    arm_states,
    numbered_frames,
    numbers_seen,
    save,
    write_droid,
    write_v21,
)
from vjepa2.data import droid, parquet_columns
from vjepa2.data.droid import published_indices, read_droid
from vjepa2.data.lerobot_writer import LeRobotWriter
from vjepa2.data.robot_layouts import read_episodes
from vjepa2.errors import (
    ConfigError,
    DataNotFoundError,
    EpisodeError,
    ListError,
    MissingExtraError,
)


def write_v3(folder: Path, lengths: tuple[int, ...] = (6, 9)) -> Path:
    with LeRobotWriter(
        folder,
        fps=5,
        state_names=STATE_NAMES,
        action_names=STATE_NAMES,
        cameras=["front"],
    ) as out:
        for seed, length in enumerate(lengths):
            states = arm_states(length, seed=seed)
            out.add(
                states=states,
                actions=np.diff(states, axis=0),
                frames={"front": numbered_frames(length)},
                task=f"task {seed % 2}",
            )
    return folder


def test_lerobot_v21(tmp_path: Path) -> None:
    sets = [(arm_states(length, seed=length), arm_states(length)) for length in (5, 8, 6)]
    episodes = read_episodes(write_v21(tmp_path / "set", sets))
    assert episodes.layout == "lerobot v2.1" and len(episodes) == 3
    assert episodes.facts["state_names"] == list(STATE_NAMES)
    for number, (states, actions) in enumerate(sets):
        episode = episodes[number]
        np.testing.assert_allclose(episode.states, states, atol=1e-6)
        assert episode.actions is not None
        np.testing.assert_allclose(episode.actions, actions, atol=1e-6)
        np.testing.assert_allclose(episode.times_seconds, np.arange(len(states)) / 10, atol=1e-6)
        assert episode.task == "reach" and list(episode.cameras) == ["front"]
    assert numbers_seen(episodes[2].frames("front", [5, 0, 3])) == [5, 0, 3]


def test_what_was_written_as_lerobot_v3_comes_back(tmp_path: Path) -> None:
    episodes = read_episodes(write_v3(tmp_path / "set"))
    assert episodes.layout == "lerobot v3.0" and [len(item) for item in episodes] == [6, 9]
    states = arm_states(9, seed=1)
    np.testing.assert_allclose(episodes[1].states, states, atol=1e-6)
    actions = episodes[1].actions
    assert actions is not None and len(actions) == 9
    np.testing.assert_allclose(actions[:-1], np.diff(states, axis=0), atol=1e-6)
    assert not actions[-1].any()
    assert numbers_seen(episodes[1].frames()) == list(range(9))
    assert episodes[1].task == "task 1"
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    both = np.concatenate([arm_states(6, seed=0), states])
    np.testing.assert_allclose(stats["observation.state"]["mean"], both.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(stats["observation.state"]["std"], both.std(axis=0), atol=1e-9)
    with pytest.raises(ConfigError, match="holds a data set already"):
        write_v3(tmp_path / "set")


def test_episodes_of_a_shared_video_are_cut_by_their_time(tmp_path: Path) -> None:
    """As LeRobot packs them: one data file and one video for both episodes."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    folder = write_v3(tmp_path / "set")
    tables = [
        parquet.read_table(folder / f"data/chunk-000/file-00{number}.parquet") for number in (0, 1)
    ]
    parquet.write_table(arrow.concat_tables(tables), folder / "data/chunk-000/file-000.parquet")
    camera = "videos/observation.images.front"
    save(folder / camera / "chunk-000/file-000.mp4", numbered_frames(15), fps=5)
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = parquet.read_table(path).to_pylist()
    rows[1] |= {
        "data/file_index": 0,
        f"{camera}/file_index": 0,
        f"{camera}/from_timestamp": 6 / 5,
        f"{camera}/to_timestamp": 15 / 5,
    }
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    episode = read_episodes(folder)[1]
    np.testing.assert_allclose(episode.states, arm_states(9, seed=1), atol=1e-6)
    assert numbers_seen(episode.frames("front", [0, 8])) == [6, 14]
    save(folder / camera / "chunk-000/file-000.mp4", numbered_frames(13), fps=5)
    with pytest.raises(EpisodeError, match="2 of 9 frames of the episode are missing"):
        episode.frames("front", [0])


def test_a_set_that_was_interrupted_is_no_set(tmp_path: Path) -> None:
    with (
        pytest.raises(EpisodeError, match="NaN"),
        LeRobotWriter(
            tmp_path / "set", fps=5, state_names="x", action_names="x", cameras=[]
        ) as out,
    ):
        out.add(states=np.zeros((3, 1)), actions=np.zeros((3, 1)), frames={})
        out.add(states=np.full((3, 1), np.nan), actions=np.zeros((3, 1)), frames={})
    with pytest.raises(ListError, match="no known layout"):
        read_episodes(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"codebase_version": "v1.6"}, ListError, "not known"),
        ({"fps": 0}, ListError, "fps"),
        ({"data_path": "../{episode_chunk:03d}.parquet"}, ListError, "inside the data set"),
        ({"data_path": "{episode_chunk:99999999d}"}, ListError, "inside the data set"),
        ({"data_path": "{secret}"}, ListError, "secret"),
        ({"features": {}}, ListError, "state_key"),
    ],
)
def test_damaged_descriptions(
    tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    folder = write_v21(tmp_path / "set", [(arm_states(5), arm_states(5))])
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | change))
    with pytest.raises(error, match=words):
        _ = read_episodes(folder)[0]


def test_damaged_episodes_are_named_and_the_others_read(tmp_path: Path) -> None:
    bad = arm_states(5)
    bad[2, 1] = np.nan
    folder = write_v21(tmp_path / "set", [(bad, arm_states(5))] + [(arm_states(6),) * 2] * 3)
    episodes = read_episodes(folder)
    with pytest.raises(EpisodeError, match=r"episode_000000.*1 numbers that are NaN.*row 2, col"):
        _ = episodes[0]
    video = folder / "videos/chunk-000/observation.images.front/episode_000001.mp4"
    video.write_bytes(b"no video")
    with pytest.raises(EpisodeError, match=r"episode_000001.*no video|episode_000001"):
        episodes[1].frames()
    (folder / "data/chunk-001/episode_000002.parquet").write_bytes(b"PAR1")
    with pytest.raises(ListError, match="cannot be read as Parquet"):
        _ = episodes[2]
    assert len(episodes[3]) == 6
    lines = (folder / "meta/episodes.jsonl").read_text().replace('"length": 6', '"length": 7')
    (folder / "meta/episodes.jsonl").write_text(lines)
    with pytest.raises(EpisodeError, match="has 6 rows; the list of episodes says 7"):
        _ = read_episodes(folder)[3]


def test_droid(tmp_path: Path) -> None:
    states = arm_states(20)
    write_droid(tmp_path / "lab/one", states, numbered_frames(20), fps=60)
    episodes = read_episodes(tmp_path)
    episode = episodes[0]
    assert episodes.layout == "droid" and list(episode.cameras) == ["left"]
    np.testing.assert_array_equal(episode.states, states)
    assert episode.rate_hz == pytest.approx(15) and "assumed" in episode.facts["times"]
    assert episode.facts["camera_poses"]["left"] == pytest.approx([0.1, 0.2, 0.3, 0, 0, 0.5])
    assert numbers_seen(episode.frames("left", [19, 4])) == [19, 4]
    (tmp_path / "list.csv2").write_text(f"{tmp_path / 'lab/one'} 0\nlab/none 0\n")
    listed = read_droid(tmp_path / "list.csv2")
    assert len(listed) == 2 and len(listed[0]) == 20
    with pytest.raises(EpisodeError, match=r"none.*trajectory.h5 is missing"):
        _ = listed[1]
    (tmp_path / "lab/one/trajectory.h5").write_bytes(b"x" * 100)
    with pytest.raises(EpisodeError, match="cannot be read"):
        _ = episodes[0]


def test_indices_as_published() -> None:
    """60 frames a second and fps 4: step 15; 8 moments need more than 120 rows."""
    taken = published_indices(200, video_fps=60, fps=4, num_frames=8, end=130)
    assert taken.tolist() == [10, 25, 40, 55, 70, 85, 100, 115]
    assert published_indices(20, video_fps=15, fps=4, num_frames=4).tolist() == [3, 7, 11, 15]
    with pytest.raises(EpisodeError, match="more than 120 rows; there are 120"):
        published_indices(120, video_fps=60, fps=4, num_frames=8)


def test_npz_of_the_published_form(tmp_path: Path) -> None:
    states = arm_states(2)
    pixels = arm_frames(states).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "traj.npz", observations=pixels[None], states=states[None].astype("f4"))
    episode = read_episodes(tmp_path / "traj.npz")[0]
    np.testing.assert_allclose(episode.states, states, atol=1e-6)
    assert torch.equal(episode.frames(), arm_frames(states))
    assert episode.rate_hz == pytest.approx(4.0)
    np.savez(tmp_path / "object.npz", observations=np.array([{}]), states=states)
    np.savez(tmp_path / "short.npz", observations=pixels[:1], states=states)
    np.savez(tmp_path / "none.npz", pictures=pixels)
    np.savez(tmp_path / "empty.npz", observations=pixels[:0], states=states[:0])
    np.savez(tmp_path / "floats.npz", observations=pixels / 255, states=states)
    episodes = dict(zip((found := read_episodes(tmp_path)).names, range(len(found)), strict=True))
    for name, words in {
        "object": "cannot be read",
        "short": "1 frames, the episode has 2 states",
        "none": "no 'observations'",
        "empty": "is empty",
        "floats": "uint8",
    }.items():
        with pytest.raises(EpisodeError, match=re.escape(words)):
            _ = found[episodes[name]]


def test_a_table_beside_videos(tmp_path: Path) -> None:
    save(tmp_path / "run.mp4", numbered_frames(10))
    save(tmp_path / "run.wrist.mp4", numbered_frames(10))
    lines = ["time,frame,x,y,action_x"]
    lines += [f"{0.2 * row},{2 * row},{row},{-row},0.5" for row in range(5)]
    (tmp_path / "run.csv").write_text("\n".join(lines))
    episode = read_episodes(tmp_path)[0]
    assert sorted(episode.cameras) == ["camera", "wrist"]
    assert episode.states.tolist() == [[row, -row] for row in range(5)]
    assert episode.actions is not None and episode.actions.shape == (5, 1)
    assert numbers_seen(episode.frames("wrist")) == [0, 2, 4, 6, 8]
    for text, words in {
        "time,x\n0,1\n0.1,\n": "NaN",
        "time,x\n0,1\n0.1,2,3\n": "3 cells, the header has 2",
        "time,x\n0,one\n": "could not convert",
        "time,x\n0,1\n0,2\n": "times must rise",
        "x,x\n1,2\n": "name every column once",
        "time,x\n": "is empty",
        "time,frame,x\n0,0,1\n1,0.5,1\n": "whole numbers",
    }.items():
        (tmp_path / "run.csv").write_text(text)
        with pytest.raises(EpisodeError, match=words):
            _ = read_episodes(tmp_path / "run.csv")[0]
    (tmp_path / "other.csv").write_text("time,x\n0,1\n")
    with pytest.raises(EpisodeError, match="has no video"):
        _ = read_episodes(tmp_path / "other.csv")[0]


def test_a_folder_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="does not exist"):
        read_episodes(tmp_path / "none")
    with pytest.raises(ListError, match="no known layout"):
        read_episodes(tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'droid'"):
        read_episodes(tmp_path, layout="droids")  # type: ignore[arg-type]


def test_missing_packages_give_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[droid\]'"):
        droid.import_h5py()
    with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[parquet\]'"):
        parquet_columns.import_pyarrow()
