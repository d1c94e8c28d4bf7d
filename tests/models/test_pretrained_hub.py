"""Models from and to a hub, through child processes: the endpoint is read at import time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tiny_models import clip, tiny_config
from vjepa2.models.classification import VJEPA2ForVideoClassification

sys.path.insert(0, str(Path(__file__).parent.parent / "weights"))
from fake_hub import FakeHub, running_hub

CHILD = """
import json, sys, time
from pathlib import Path
time.sleep = lambda seconds: None
import torch
from vjepa2 import AutoModel, AutoModelForVideoClassification
from vjepa2.errors import VJEPAError

steps, results = json.loads(sys.argv[1]), []
pixels = torch.load(sys.argv[2], weights_only=True)
for kind, name, options in steps:
    try:
        if kind == "push":
            model = AutoModelForVideoClassification.from_pretrained(sys.argv[3])
            results.append(model.push_to_hub(name, **options))
        elif kind == "save":
            model = AutoModelForVideoClassification.from_pretrained(sys.argv[3])
            target = Path(sys.argv[3]).parent / "saved"
            model.save_pretrained(target, push_to_hub=True, repo_id=name)
            results.append(sorted(path.name for path in target.iterdir()))
        else:
            model = AutoModelForVideoClassification.from_pretrained(name, **options)
            with torch.no_grad():
                results.append(model(pixels).logits.tolist())
    except VJEPAError as error:
        results.append(f"{type(error).__name__}: {error}")
print(json.dumps(results))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub() as server:
        yield server


@pytest.fixture
def model() -> VJEPA2ForVideoClassification:
    torch.manual_seed(3)
    return VJEPA2ForVideoClassification(tiny_config()).eval()


def run(
    steps: list[tuple[str, str, dict[str, object]]],
    model: VJEPA2ForVideoClassification,
    *,
    folder: Path,
    endpoint: str,
    **more: str,
) -> list[object]:
    model.save_pretrained(folder / "model")
    torch.save(clip(model.config), folder / "pixels.pt")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {
        "HF_HOME": str(folder / "home"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_for_the_fake_hub",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-W", "error::UserWarning", "-c", CHILD, json.dumps(steps)]
    done = subprocess.run(
        [*command, str(folder / "pixels.pt"), str(folder / "model")],
        capture_output=True,
        text=True,
        env=environment | more,
    )
    assert done.returncode == 0, done.stderr
    results: list[object] = json.loads(done.stdout.splitlines()[-1])
    return results


def test_push_then_load_then_load_again_without_a_network(
    hub: FakeHub, model: VJEPA2ForVideoClassification, tmp_path: Path
) -> None:
    with torch.no_grad():
        expected = model(clip(model.config)).logits.tolist()
    steps: list[tuple[str, str, dict[str, object]]] = [
        ("push", "me/tiny", {"private": True, "commit_message": "First"}),
        ("push", "me/tiny", {"revision": "half", "max_shard_size": "60KB"}),
        ("save", "me/saved", {}),
        ("load", "me/tiny", {}),
        ("load", "me/tiny", {"revision": "half"}),
        ("load", "me/saved", {}),
    ]
    results = run(steps, model, folder=tmp_path, endpoint=hub.url)
    assert str(results[0]).startswith(f"{hub.url}/me/tiny/commit/")
    assert results[2] == ["config.json", "model.safetensors"]
    assert results[3:] == [expected] * 3
    main, half = hub.repos["me/tiny"]["main"], hub.repos["me/tiny"]["half"]
    assert set(main) == set(hub.repos["me/saved"]["main"]) == {"config.json", "model.safetensors"}
    assert main["config.json"] == (tmp_path / "model" / "config.json").read_bytes()
    assert main["model.safetensors"] == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert "model.safetensors.index.json" in half and "model.safetensors" not in half

    hub.requests.clear()
    again = run(
        [("load", "me/tiny", {"revision": "half"}), ("push", "me/other", {})],
        model,
        folder=tmp_path,
        endpoint=hub.url,
        HF_HUB_OFFLINE="1",
    )
    assert again[0] == expected
    assert str(again[1]).startswith("OutputError: Cannot upload to 'me/other'")
    assert [request for request in hub.requests if "me/" in request] == []


def test_configuration_and_weights_come_from_one_commit(
    hub: FakeHub, model: VJEPA2ForVideoClassification, tmp_path: Path
) -> None:
    """The branch moves on after the first file was read."""
    model.save_pretrained(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    hub.add("me/tiny", files)
    results = run([("load", "me/tiny", {})], model, folder=tmp_path, endpoint=hub.url)
    assert not isinstance(results[0], str)
    asked = [request.split("/resolve/")[1] for request in hub.requests if "/resolve/" in request]
    revisions = [request.split("/")[0] for request in asked if "safetensors" in request]
    assert revisions and "main" not in revisions


def test_upload_failures_say_what_to_do(
    model: VJEPA2ForVideoClassification, tmp_path: Path
) -> None:
    with running_hub() as server:
        closed = server.url
    network, name = run(
        [("push", "me/tiny", {}), ("push", "not a name!", {})],
        model,
        folder=tmp_path,
        endpoint=closed,
    )
    for answer in (network, name):
        assert str(answer).startswith("OutputError: Cannot upload to")
        assert "hf auth login" in str(answer) and "owner/name" in str(answer)
