"""What `vjepa2 info` says is what the machine has."""

import json
import os
import platform
from pathlib import Path

import av
import pytest
import torch
from huggingface_hub import constants

from vjepa2 import __version__
from vjepa2.features import environment
from vjepa2.features.environment import describe_environment
from vjepa2.weights.hub import SHIPPED


def test_versions_devices_and_decoders() -> None:
    facts = describe_environment()
    assert facts.versions["vjepa2"] == __version__
    assert facts.versions["torch"] == torch.__version__
    assert facts.versions["python"] == platform.python_version()
    assert facts.devices[-1]["device"] == "cpu"
    assert facts.threads == torch.get_num_threads()
    assert 1 <= facts.cores <= (os.cpu_count() or 1)
    assert facts.decoders["PyAV"] is not None and av.__version__ in facts.decoders["PyAV"]
    json.dumps(facts.as_dict())
    text = str(facts)
    for words in (f"vjepa2 {__version__}", "Devices (the first is the default)", "PyAV: "):
        assert words in text


def test_missing_packages_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package"))
    facts = describe_environment()
    assert facts.versions["no-such-package"] is None
    assert "no-such-package (not installed)" in str(facts)


def test_models_in_the_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cached(name: str, config: str) -> Path:
        folder = tmp_path / f"models--{name}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config)
        (folder / "model.safetensors").write_bytes(bytes(1000))
        return folder

    folder = cached("facebook--vjepa2-tiny", '{"model_type": "vjepa2"}')
    cached("someone--bert", '{"model_type": "bert"}')
    cached("someone--broken", "no json")
    cached("someone--list", "[]")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = [model for model in describe_environment().models if model.name not in SHIPPED]
    assert [(model.name, model.where) for model in found] == [("facebook/vjepa2-tiny", str(folder))]
    assert found[0].size_bytes == 1000 + len('{"model_type": "vjepa2"}')


def test_no_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert [model.name for model in describe_environment().models] == list(SHIPPED)
