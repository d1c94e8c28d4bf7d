"""Devices per module: what users may write, and streaming through accelerate on this CPU."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import Base, values_of
from torch import Tensor, nn

from vjepa2.errors import ConfigError, MissingExtraError, OutputError
from vjepa2.weights.hub import FolderSource
from vjepa2.weights.load import LoadPlan, load_into
from vjepa2.weights.placement import Placement, choose_placement, dispatch
from vjepa2.weights.read import read_checkpoint
from vjepa2.weights.skeleton import Skeleton

Write = Callable[[dict[str, Tensor]], Path]


def choose(device_map: Any, **options: Any) -> Placement:
    with Skeleton():
        network = Base()
    return choose_placement(network, device_map, dtype=torch.float32, **options)


class TestOneDevice:
    @pytest.mark.parametrize(
        "device_map",
        ["cpu", torch.device("cpu"), {"": "cpu"}, {"encoder": "cpu", "predictor": "cpu"}],
        ids=str,
    )
    def test_one_device_in_every_spelling(self, device_map: Any) -> None:
        placement = choose(device_map)
        assert placement.single == torch.device("cpu")
        assert placement.of("encoder.layernorm.weight") == torch.device("cpu")

    def test_none_follows_the_default_device(self) -> None:
        assert choose(None).single == torch.device("cpu")
        with torch.device("meta"):
            assert choose(None).devices == {"": torch.device("meta")}

    def test_auto_takes_the_one_device_that_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert choose("auto").single == torch.device("cpu")

    def test_accelerate_is_not_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        forbid_accelerate(monkeypatch)
        assert choose("cpu").single == torch.device("cpu")
        assert choose({"encoder": "cpu", "predictor": "cpu"}).single == torch.device("cpu")


class TestMistakes:
    def test_device_that_does_not_exist(self) -> None:
        with pytest.raises(ConfigError, match="cannot be used here"):
            choose("gpu7")

    def test_module_that_does_not_exist(self) -> None:
        with pytest.raises(ConfigError, match=r"module 'encoderr'.*Did you mean 'encoder'"):
            choose({"encoderr": "cpu", "predictor": "cpu"})

    def test_modules_without_a_device(self) -> None:
        with pytest.raises(
            ConfigError, match=r"no device for 'predictor\..*' and 7 more"
        ) as caught:
            choose({"encoder": "cpu"})
        assert "Add their modules, or ''" in str(caught.value)

    def test_limits_without_a_strategy(self) -> None:
        with pytest.raises(ConfigError, match="max_memory works only with device_map="):
            choose("cpu", max_memory={"cpu": "1GB"})

    def test_missing_package_answers_with_the_install_line(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forbid_accelerate(monkeypatch)
        with pytest.raises(MissingExtraError, match=r"pip install 'vjepa2\[accelerate\]'"):
            choose("auto", max_memory={"cpu": "1GB"})


def forbid_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "accelerate":
            raise ImportError("not here")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)


class TestSeveral:
    """ "cpu" and "disk" stand for two devices."""

    def test_the_longest_module_name_decides(self) -> None:
        placement = choose({"": "disk", "encoder": "cpu", "encoder.layer.1": "disk"})
        assert placement.single is None
        assert placement.is_streamed("predictor.layernorm.bias")
        assert not placement.is_streamed("encoder.layer.0.norm1.bias")
        assert placement.is_streamed("encoder.layer.1.norm1.bias")
        assert placement.of("predictor.layernorm.bias") == torch.device("cpu")
        # accelerate wants entries that do not overlap:
        assert placement.devices == {
            "encoder.layer.0": "cpu",
            "encoder.layer.1": "disk",
            "encoder.layernorm": "cpu",
            "predictor": "disk",
        }

    def test_a_parameter_may_have_its_own_device(self) -> None:
        placement = choose({"": "cpu", "predictor.layernorm.bias": "meta"})
        assert placement.of("predictor.layernorm.bias") == torch.device("meta")
        assert placement.of("predictor.layernorm.weight") == torch.device("cpu")

    def test_limits_spread_the_modules(self) -> None:
        placement = choose("auto", max_memory={"cpu": 700}, no_split=["Layer"])
        assert set(placement.devices.values()) == {"cpu", "disk"}
        assert all(".mlp" not in name for name in placement.devices)

    def streamed(
        self,
        folder: Path,
        *,
        device_map: dict[str, str] | None = None,
        offload_folder: Path | None = None,
    ) -> nn.Module:
        checkpoint = read_checkpoint(FolderSource(folder))
        with Skeleton():
            network = Base()
        placement = choose_placement(
            network, device_map or {"encoder": "cpu", "predictor": "disk"}, dtype=torch.float64
        )
        plan = LoadPlan(
            base_prefix="vjepa2",
            make_fresh=lambda names: None,
            dtype=torch.float64,
            place=placement.of,
        )
        report = load_into(network, checkpoint, plan)
        dispatch(
            network,
            placement,
            checkpoint,
            stored_names=report.stored_names,
            offload_folder=offload_folder,
            keep_together=["Layer"],
        )
        return network

    def check(self, network: nn.Module, base: Base) -> None:
        weight = network.get_parameter("predictor.layernorm.weight")
        assert weight.is_meta, "nothing of a streamed module stays in memory"
        x = torch.randn(2, 4, dtype=torch.float64)
        stack, expected = network.get_submodule("predictor"), base.double().predictor
        assert torch.equal(stack.layernorm(x), expected.layernorm(x))  # type: ignore[operator]
        assert weight.is_meta

    @pytest.mark.parametrize(
        "device_map",
        [
            {"encoder": "cpu", "predictor": "disk"},
            {"": "cpu", "predictor": "disk"},
            {"": "disk", "encoder": "cpu"},
        ],
        ids=str,
    )
    def test_streaming_reads_the_checkpoint_itself(
        self, base: Base, folder_of: Write, device_map: dict[str, str]
    ) -> None:
        folder = folder_of(values_of(base))
        network = self.streamed(folder, device_map=device_map)
        self.check(network, base)
        assert not network.get_parameter("encoder.layernorm.weight").is_meta
        assert [path.name for path in folder.iterdir()] == ["model.safetensors"]

    def test_a_pickle_needs_a_folder(self, base: Base, tmp_path: Path) -> None:
        torch.save(values_of(base), tmp_path / "pytorch_model.bin")
        with pytest.raises(ConfigError, match="needs offload_folder= because"):
            self.streamed(tmp_path)
        self.check(self.streamed(tmp_path, offload_folder=tmp_path / "offload"), base)

    def test_one_folder_for_several_loads(self, base: Base, tmp_path: Path) -> None:
        """What an earlier load left there belongs to other weights, or other modules."""
        offload = tmp_path / "offload"
        torch.save(values_of(base), tmp_path / "pytorch_model.bin")
        first = self.streamed(tmp_path, offload_folder=offload)
        whole = self.streamed(tmp_path, offload_folder=offload, device_map={"": "disk"})
        self.check(whole, base)
        x = torch.randn(2, 4, dtype=torch.float64)
        stack = whole.get_submodule("encoder")
        assert torch.equal(stack.layernorm(x), base.double().encoder.layernorm(x))  # type: ignore[operator]
        other = Base()
        (tmp_path / "other").mkdir()
        torch.save(values_of(other), tmp_path / "other" / "pytorch_model.bin")
        self.check(self.streamed(tmp_path / "other", offload_folder=offload), other)
        self.check(first, base)
        assert len(list(offload.iterdir())) == 3

    def test_a_folder_that_cannot_be_made(self, base: Base, tmp_path: Path) -> None:
        torch.save(values_of(base), tmp_path / "pytorch_model.bin")
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(OutputError, match="offload_folder=.*cannot be written"):
            self.streamed(tmp_path, offload_folder=tmp_path / "taken" / "inside")

    def test_fresh_values_cannot_be_streamed(self, base: Base, folder_of: Write) -> None:
        checkpoint = read_checkpoint(FolderSource(folder_of(values_of(base))))
        with pytest.raises(ConfigError, match="its fresh values are in no file"):
            dispatch(
                base,
                Placement({"": "cpu", "predictor": "disk"}),
                checkpoint,
                stored_names={},
                offload_folder=None,
                keep_together=[],
            )
