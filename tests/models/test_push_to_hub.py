"""Configuration and processor to a hub; in a child process, which reads HF_ENDPOINT anew."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_models import tiny_config
from vjepa2.errors import ConfigError
from vjepa2.video.processor import VJEPA2VideoProcessor

sys.path.insert(0, str(Path(__file__).parent.parent / "weights"))
from fake_hub import running_hub

CHILD = """
import json, sys
from vjepa2 import AutoConfig, AutoVideoProcessor
from vjepa2.errors import OutputError

saved, repo, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
config, processor = AutoConfig.from_pretrained(saved), AutoVideoProcessor.from_pretrained(saved)
try:
    addresses = [part.push_to_hub(repo, **options) for part in (config, processor)]
except OutputError as error:
    print(json.dumps(str(error)))
else:
    revision = options.get("revision")
    same = [
        AutoConfig.from_pretrained(repo, revision=revision) == config,
        AutoVideoProcessor.from_pretrained(repo, revision=revision) == processor,
    ]
    print(json.dumps([addresses, same]))
"""


def run(folder: Path, repo: str, options: dict[str, object], *, endpoint: str) -> object:
    tiny_config().save_pretrained(folder / "saved")
    VJEPA2VideoProcessor(crop_size=48, resample=3).save_pretrained(folder / "saved")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder / "saved"), repo, json.dumps(options)],
        capture_output=True,
        text=True,
        env=kept
        | {
            "HF_HOME": str(folder / "home"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_for_the_fake_hub",
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("branch", ["main", "half"])
def test_pushed_files_load_again(branch: str, tmp_path: Path) -> None:
    options = {} if branch == "main" else {"revision": branch, "private": True}
    with running_hub() as hub:
        [addresses, same] = run(tmp_path, "me/tiny", options, endpoint=hub.url)  # type: ignore[misc]
    assert same == [True, True]
    assert all(address.startswith(f"{hub.url}/me/tiny/commit/") for address in addresses)
    pushed = hub.repos["me/tiny"][branch]
    assert set(pushed) == {"config.json", "video_preprocessor_config.json"}
    for name, content in pushed.items():
        assert content == (tmp_path / "saved" / name).read_bytes()


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    with running_hub() as hub:
        closed = hub.url
    answer = run(tmp_path, "me/tiny", {}, endpoint=closed)
    assert str(answer).startswith("Cannot upload to 'me/tiny'")
    assert "hf auth login" in str(answer)


@pytest.mark.parametrize("name", [None, 3, ["me/tiny"], Path("me/tiny")])
def test_a_name_is_text(name: object) -> None:
    for part in (tiny_config(), VJEPA2VideoProcessor()):
        with pytest.raises(ConfigError, match="repo_id must be the name of a repository"):
            part.push_to_hub(name)  # type: ignore[arg-type]
