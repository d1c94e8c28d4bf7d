"""Finding files: folders in this process, repositories of a local fake hub in child processes.

`huggingface_hub` reads HF_ENDPOINT and HF_HUB_OFFLINE when it is imported; hence the children.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, commit_of, running_hub

from vjepa2.errors import CheckpointNotFoundError
from vjepa2.weights.hub import FolderSource, HubOptions, HubSource, open_source


class TestFolders:
    def test_folder(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        for name in (tmp_path, str(tmp_path)):
            source = open_source(name)
            assert isinstance(source, FolderSource)
            assert source.require("config.json") == tmp_path / "config.json"
            assert source.find("other.json") is None

    def test_subfolder(self, tmp_path: Path) -> None:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "config.json").write_text("{}")
        source = open_source(tmp_path, options=HubOptions(subfolder="inner"))
        assert source.require("config.json").parent.name == "inner"
        with pytest.raises(CheckpointNotFoundError, match=r"has no 'iner'\. Did you mean 'inner'"):
            open_source(tmp_path, options=HubOptions(subfolder="iner"))

    def test_missing_file_lists_the_folder_and_the_nearest(self, tmp_path: Path) -> None:
        (tmp_path / "configs.json").write_text("{}")
        with pytest.raises(CheckpointNotFoundError) as caught:
            open_source(tmp_path).require("config.json")
        assert "Did you mean 'configs.json'?" in str(caught.value)
        assert "It holds: configs.json" in str(caught.value)

    def test_missing_folder_names_the_first_missing_part(self, tmp_path: Path) -> None:
        (tmp_path / "checkpoints").mkdir()
        with pytest.raises(CheckpointNotFoundError) as caught:
            open_source(str(tmp_path / "checkpoint" / "last"))
        message = str(caught.value)
        assert f"{tmp_path} has no 'checkpoint'" in message
        assert "Did you mean 'checkpoints'?" in message

    @pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "~/nowhere-at-all", "a/b/c"])
    def test_what_looks_like_a_path_is_not_looked_up_on_the_hub(self, name: str) -> None:
        with pytest.raises(CheckpointNotFoundError, match="There is no folder"):
            open_source(name)

    def test_path_objects_are_paths(self) -> None:
        with pytest.raises(CheckpointNotFoundError, match="There is no folder"):
            open_source(Path("owner/name"))

    def test_file_instead_of_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(b"")
        with pytest.raises(CheckpointNotFoundError, match="is a file. Give the folder") as caught:
            open_source(path)
        assert str(tmp_path) in str(caught.value)

    def test_errors_are_also_file_not_found(self) -> None:
        with pytest.raises(FileNotFoundError):
            open_source("./nowhere")

    def test_names_of_repositories(self) -> None:
        assert isinstance(open_source("owner/name"), HubSource)


def test_importing_the_module_is_cheap() -> None:
    heavy = ("torch", "httpx", "requests", "huggingface_hub", "safetensors")
    code = f"import sys, vjepa2.weights.hub; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


CHILD = """
import json, sys
from pathlib import Path
from vjepa2.errors import VJEPAError
from vjepa2.weights.hub import HubOptions, open_source

results = []
for name, filename, options in json.loads(sys.argv[1]):
    try:
        results.append(str(open_source(name, options=HubOptions(**options)).require(filename)))
    except VJEPAError as error:
        results.append(f"{type(error).__name__}: {error}")
print(json.dumps(results))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub() as server:
        server.add("me/model", {"config.json": b"{}", "inner/config.json": b"[]"})
        server.add("me/model", {"config.json": b'{"v": 2}'}, revision="v2")
        server.add("me/closed", {"config.json": b"{}"})
        server.gated.add("me/closed")
        yield server


def ask(
    tasks: list[tuple[str, str, dict[str, Any]]], *, home: Path, endpoint: str, **more: str
) -> list[str]:
    """Run `require` for every (name, filename, options) in one child process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    # `huggingface_hub` waits 1, 2, 4 ... seconds between attempts; here it need not.
    code = "import time; time.sleep = lambda seconds: None\n" + CHILD
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(tasks)],
        capture_output=True,
        text=True,
        env=environment | more,
    )
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr  # where nobody answers the first time, none waits
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers


class TestHub:
    def test_downloads_through_the_endpoint_once(self, hub: FakeHub, tmp_path: Path) -> None:
        tasks: list[tuple[str, str, dict[str, Any]]] = [
            ("me/model", "config.json", {}),
            ("me/model", "config.json", {"subfolder": "inner"}),
            ("me/model", "config.json", {"revision": "v2"}),
            ("me/model", "config.json", {"cache_dir": str(tmp_path / "elsewhere")}),
        ]
        answers = ask(tasks, home=tmp_path, endpoint=hub.url)
        assert [Path(answer).read_text() for answer in answers] == ["{}", "[]", '{"v": 2}', "{}"]
        assert "elsewhere" in answers[3]
        assert [commit_of("v2") in answer for answer in answers] == [False, False, True, False]

        # From now on no server is needed: by argument, and by the environment.
        hub.requests.clear()
        offline = {"local_files_only": True}
        answers = ask(
            [("me/model", "config.json", offline), ("me/model", "other.json", offline)],
            home=tmp_path,
            endpoint=hub.url,
        )
        assert Path(answers[0]).read_text() == "{}"
        assert answers[1].startswith("CheckpointNotFoundError: 'other.json' of 'me/model' is not")
        assert "local_files_only=True" in answers[1]
        answers = ask(
            [("me/model", "config.json", {}), ("me/new", "config.json", {})],
            home=tmp_path,
            endpoint=hub.url,
            HF_HUB_OFFLINE="1",
        )
        assert Path(answers[0]).read_text() == "{}"
        assert "because of HF_HUB_OFFLINE=1" in answers[1]
        # (`huggingface_hub` may look for a list of its own, which says nothing of the model.)
        assert [request for request in hub.requests if "me/" in request] == []

    def test_every_failure_says_what_to_do(self, hub: FakeHub, tmp_path: Path) -> None:
        missing, absent, revision, gated, name = ask(
            [
                ("me/nothing", "config.json", {}),
                ("me/model", "weights.bin", {}),
                ("me/model", "config.json", {"revision": "v9"}),
                ("me/closed", "config.json", {}),
                ("not a name!", "config.json", {}),
            ],
            home=tmp_path,
            endpoint=hub.url,
        )
        for answer in (missing, absent, revision, gated, name):
            assert answer.startswith("CheckpointNotFoundError: ")
        assert "'me/nothing' is neither a folder" in missing and hub.url in missing
        assert "has no file 'weights.bin'" in absent and "revision" in absent
        assert "has no revision 'v9'" in revision
        assert f"Open {hub.url}/me/closed" in gated and "token=" in gated
        assert "written owner/name" in name

    def test_no_network(self, tmp_path: Path) -> None:
        with running_hub() as server:
            closed = server.url  # a port that nobody listens on once the block is left
        (answer,) = ask([("me/model", "config.json", {})], home=tmp_path, endpoint=closed)
        assert answer.startswith(f"CheckpointNotFoundError: {closed} could not be reached")
        assert "HF_ENDPOINT" in answer


def test_the_shipped_model_has_a_name_of_its_own() -> None:
    folder = open_source("motion-tiny").require("config.json").parent
    assert folder.parent.name == "assets"
    assert (folder / "model.safetensors").is_file()
