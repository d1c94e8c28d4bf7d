"""Filling a network: complete or refused, no second copy, and a report of everything unusual."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_networks import Base, Classifier, values_of
from torch import Tensor, nn

from vjepa2.errors import CheckpointMismatchError, ConfigError
from vjepa2.weights.hub import FolderSource
from vjepa2.weights.load import LoadPlan, LoadReport, load_into, stored_dtype
from vjepa2.weights.mismatch import fold
from vjepa2.weights.read import Checkpoint, read_checkpoint
from vjepa2.weights.skeleton import Skeleton, collector_paused

Write = Callable[[dict[str, Tensor]], Path]


def plan(
    network: nn.Module, *, dtype: torch.dtype | None = None, replace: bool = False
) -> LoadPlan:
    """Fresh parameters become sevens, so that a test can tell them."""

    def sevens(names: set[str]) -> None:
        for name in names:
            network.get_parameter(name).data.fill_(7.0)

    return LoadPlan(
        base_prefix="vjepa2", make_fresh=sevens, dtype=dtype, replace_mismatched=replace
    )


def load(network: nn.Module, folder: Path, *, dtype: torch.dtype | None = None) -> LoadReport:
    return load_into(network, read_checkpoint(FolderSource(folder)), plan(network, dtype=dtype))


def skeleton(kind: Callable[[], nn.Module]) -> nn.Module:
    with Skeleton():
        return kind()


class TestSkeleton:
    def test_has_shapes_and_no_memory(self) -> None:
        network = skeleton(Base)
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
        expected = {name: value.shape for name, value in Base().state_dict().items()}
        assert {name: value.shape for name, value in network.state_dict().items()} == expected

    def test_draws_no_random_numbers(self) -> None:
        before = torch.get_rng_state()
        skeleton(Base)
        assert torch.equal(torch.get_rng_state(), before)

    def test_real_tensors_made_inside_are_still_filled(self) -> None:
        with Skeleton():
            assert torch.ones(3).mul_(2.0).sum().item() == 6.0

    @pytest.mark.parametrize("enabled", [True, False])
    def test_collector_comes_back_as_it_was(self, enabled: bool) -> None:
        import gc

        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(KeyError), collector_paused():
                assert not gc.isenabled()
                raise KeyError
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


class TestComplete:
    def test_every_value_arrives(self, base: Base, folder_of: Write) -> None:
        network = skeleton(Base)
        report = load(network, folder_of(values_of(base)))
        for name, value in base.state_dict().items():
            assert torch.equal(network.state_dict()[name], value), name
        assert report.loaded == len(base.state_dict()) and not report.fresh | report.dropped
        assert report.files[0].name == "model.safetensors" and not report.cast

    def test_parameters_are_the_stored_tensors_themselves(
        self, base: Base, folder_of: Write
    ) -> None:
        checkpoint = read_checkpoint(FolderSource(folder_of(values_of(base))))
        network = skeleton(Base)
        load_into(network, checkpoint, plan(network))
        for name, parameter in network.named_parameters():
            assert parameter.data_ptr() == checkpoint.tensors[name].data_ptr()
            assert parameter.requires_grad

    @pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float64])
    def test_what_float16_cannot_hold(
        self, base: Base, folder_of: Write, stored: torch.dtype
    ) -> None:
        """65504 is its largest number; rounding begins to give infinity at 65520."""
        tensors = {name: value.to(stored) for name, value in values_of(base).items()}
        tensors["predictor.layernorm.bias"][1] = -65536.0
        folder = folder_of(tensors)
        network = skeleton(Base)
        with pytest.raises(ConfigError, match=r"layernorm\.bias' holds values up to 6\.554e\+04;"):
            load(network, folder, dtype=torch.float16)
        load(skeleton(Base), folder, dtype=torch.bfloat16)
        tensors["predictor.layernorm.bias"][1] = 65504.0
        if stored != torch.bfloat16:  # which rounds that up
            load(skeleton(Base), folder_of(tensors), dtype=torch.float16)

    def test_infinity_that_was_stored_is_no_overflow(self, base: Base, folder_of: Write) -> None:
        """Values of a folder are not looked at, and stay what they are."""
        tensors = values_of(base)
        tensors["predictor.layernorm.bias"][1] = float("inf")
        network = skeleton(Base)
        load(network, folder_of(tensors), dtype=torch.float16)
        assert network.get_parameter("predictor.layernorm.bias")[1].isinf()

    def test_shared_and_overlapping_tensors_become_parameters_of_their_own(
        self, tmp_path: Path
    ) -> None:
        """Training one of two that shared their memory would change the other."""
        both = torch.arange(8.0)
        tensors = values_of(Base())
        tensors["encoder.layernorm.weight"] = both[:4]
        tensors["encoder.layernorm.bias"] = both[4:]  # beside one another, as in a fused matrix
        tensors["predictor.layernorm.weight"] = both[:4]
        tensors["predictor.layernorm.bias"] = both[2:6]
        tensors["predictor.layer.0.norm1.bias"] = both[:1].expand(4)
        tensors["predictor.layer.0.mlp.fc2.bias"] = both[::2]
        torch.save(tensors, tmp_path / "pytorch_model.bin")
        network = skeleton(Base)
        checkpoint = read_checkpoint(FolderSource(tmp_path))
        load_into(network, checkpoint, plan(network))
        for name in ("encoder.layernorm.weight", "encoder.layernorm.bias"):
            address = checkpoint.tensors[name].data_ptr()
            assert network.get_parameter(name).data_ptr() == address
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter, tensors[name]), name
            with torch.no_grad():
                parameter.copy_(torch.arange(float(parameter.numel())).view_as(parameter))
        for name, parameter in network.named_parameters():
            wanted = torch.arange(float(parameter.numel())).view_as(parameter)
            assert torch.equal(parameter, wanted), name

    def test_frozen_parameters_stay_frozen(self, base: Base, folder_of: Write) -> None:
        network = skeleton(Base)
        network.requires_grad_(False)
        load(network, folder_of(values_of(base)))
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_training_works_and_leaves_the_file_alone(self, base: Base, folder_of: Write) -> None:
        folder = folder_of(values_of(base))
        content = (folder / "model.safetensors").read_bytes()
        network = skeleton(Base)
        load(network, folder)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        before = values_of(network)
        sum(parameter.square().sum() for parameter in network.parameters()).backward()  # type: ignore[union-attr]
        optimizer.step()
        after = network.state_dict()
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        assert len(changed) > len(before) // 2
        assert (folder / "model.safetensors").read_bytes() == content

    def test_copies_are_independent(self, base: Base, folder_of: Write) -> None:
        network = skeleton(Base)
        load(network, folder_of(values_of(base)))
        other = copy.deepcopy(network)
        with torch.no_grad():
            next(other.parameters()).add_(1.0)
        assert not torch.equal(next(other.parameters()), next(network.parameters()))

    def test_casts_are_reported(self, base: Base, folder_of: Write) -> None:
        values = values_of(base)
        half = "encoder.layernorm.weight"
        values[half] = values[half].half()
        network = skeleton(Base)
        report = load(network, folder_of(values), dtype=torch.float16)
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}
        assert half not in report.cast and len(report.cast) == len(values) - 1
        assert report.cast["encoder.layernorm.bias"] == "float32 -> float16"
        assert stored_dtype(read_checkpoint(FolderSource(report.files[0].parent))) in (
            torch.float16,
            torch.float32,
        )

    def test_types_stay_as_stored_when_none_is_asked_for(
        self, base: Base, folder_of: Write
    ) -> None:
        network = skeleton(Base)
        report = load(
            network, folder_of({name: value.double() for name, value in values_of(base).items()})
        )
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
        assert not report.cast


class TestHeads:
    def test_base_takes_the_base_part_of_a_classifier(
        self, classifier: Classifier, folder_of: Write
    ) -> None:
        network = skeleton(Base)
        report = load(network, folder_of(values_of(classifier)))
        for name, value in classifier.vjepa2.state_dict().items():
            assert torch.equal(network.state_dict()[name], value)
        heads = {"pooler.weight", "pooler.bias", "classifier.weight", "classifier.bias"}
        assert set(report.dropped) == heads
        assert report.dropped["pooler.bias"] == "part of a head; Base has none"
        assert report.as_loading_info()["unexpected_keys"] == heads
        assert "4 dropped" in str(report)

    def test_classifier_on_a_base_gets_a_fresh_head(self, base: Base, folder_of: Write) -> None:
        network = skeleton(Classifier)
        report = load(network, folder_of(values_of(base)))
        for name, value in base.state_dict().items():
            assert torch.equal(network.state_dict()[f"vjepa2.{name}"], value)
        heads = {"pooler.weight", "pooler.bias", "classifier.weight", "classifier.bias"}
        assert set(report.fresh) == heads
        assert all((network.get_parameter(name) == 7.0).all() for name in heads)
        assert report.as_loading_info()["missing_keys"] == heads
        assert not any(parameter.is_meta for parameter in network.parameters())

    def test_half_a_head_is_refused(self, classifier: Classifier, folder_of: Write) -> None:
        values = values_of(classifier)
        del values["pooler.weight"]
        with pytest.raises(CheckpointMismatchError, match="head is incomplete") as caught:
            load(skeleton(Classifier), folder_of(values))
        assert caught.value.missing == ["pooler.weight"]

    def test_other_tensors_beside_the_head_are_refused(
        self, classifier: Classifier, folder_of: Write
    ) -> None:
        values = values_of(classifier) | {"decoder.weight": torch.zeros(1)}
        with pytest.raises(CheckpointMismatchError) as caught:
            load(skeleton(Base), folder_of(values))
        assert caught.value.unexpected == ["decoder.weight"]

    def test_mismatched_tensors_become_fresh_only_when_asked(
        self, classifier: Classifier, folder_of: Write
    ) -> None:
        checkpoint = read_checkpoint(FolderSource(folder_of(values_of(classifier))))
        network = skeleton(lambda: Classifier(labels=5))
        with pytest.raises(CheckpointMismatchError, match="ignore_mismatched_sizes=True"):
            load_into(network, checkpoint, plan(network))
        report = load_into(network, checkpoint, plan(network, replace=True))
        assert set(report.fresh) == {"classifier.weight", "classifier.bias"}
        assert (network.get_parameter("classifier.weight") == 7.0).all()
        assert torch.equal(network.get_parameter("pooler.weight"), classifier.pooler.weight)
        assert report.as_loading_info() == {
            "missing_keys": set(),
            "unexpected_keys": set(),
            "mismatched_keys": {
                ("classifier.bias", (3,), (5,)),
                ("classifier.weight", (3, 4), (5, 4)),
            },
            "error_msgs": [],
        }


def renamed(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def without(values: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {k: v for k, v in values.items() if not any(part in k for part in parts)}


W = "encoder.layer.0.mlp.fc1.weight"
CAUSES: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "one missing": (lambda v: without(v, "predictor.layernorm.bias"), "predictor is incomplete"),
    "encoder tensor missing": (lambda v: without(v, W), "a few tensors were left out"),
    "no predictor": (lambda v: without(v, "predictor."), "an encoder without its predictor"),
    "one extra": (lambda v: v | {"extra": torch.zeros(2)}, "of something else besides"),
    "transposed": (lambda v: v | {W: v[W].T.contiguous()}, "these matrices are transposed"),
    "integers": (lambda v: v | {W: v[W].to(torch.int8)}, "stores int8 values"),
    "DDP": (lambda v: renamed(v, "module."), "DistributedDataParallel"),
    "compiled": (lambda v: renamed(v, "_orig_mod."), "before torch.compile"),
    "PEFT": (lambda v: renamed(v, "base_model.model."), "saved from a PEFT wrapper"),
    "LoRA": (lambda v: v | {f"{W}.lora_A.default": torch.zeros(2, 2)}, "LoRA adapters"),
    "original": (
        lambda v: {f"module.backbone.blocks.{i}.w": torch.zeros(1) for i in range(4)},
        "Meta's original training code",
    ),
    "2.1": (lambda v: v | {"encoder.norms_block.0.weight": torch.zeros(4)}, "V-JEPA 2.1"),
    "unrelated": (lambda v: {"bert.pooler": torch.zeros(1)}, "not one name agrees"),
    "deeper file": (
        lambda v: v | {k.replace("layer.1", "layer.2"): x.clone() for k, x in v.items()},
        "num_hidden_layers is 3 in the file and 2 in the configuration",
    ),
    "shallower file": (
        lambda v: without(v, "encoder.layer.1."),
        "num_hidden_layers is 1 in the file and 2 in the configuration",
    ),
    "other mlp": (
        lambda v: {k: torch.zeros([6 if n == 8 else n for n in x.shape]) for k, x in v.items()},
        "mlp_ratio or pred_mlp_ratio differs",
    ),
    "other width": (
        lambda v: {k: torch.zeros([6 if n == 4 else n for n in x.shape]) for k, x in v.items()},
        "hidden_size is 6 in the file and 4 in the configuration",
    ),
    "biases": (
        lambda v: v | {f"encoder.layer.{i}.attention.query.bias": torch.zeros(4) for i in (0, 1)},
        "qkv_bias=True",
    ),
}


@pytest.mark.parametrize("case", CAUSES, ids=str)
@pytest.mark.parametrize("kind", [Base, Classifier])
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_likely_cause(
    case: str, kind: type[nn.Module], base: Base, folder_of: Write
) -> None:
    change, words = CAUSES[case]
    values = change(values_of(base))
    network = skeleton(kind)
    with pytest.raises(CheckpointMismatchError) as caught:
        load(network, folder_of(values))
    error = caught.value
    assert f"Likely cause: {words}" in str(error) or words in str(error).split("Likely cause")[1]
    # The lists are complete: computed here from plain set differences.
    prefix = "vjepa2." if kind is Classifier else ""
    needed = {f"{prefix}{name}" for name in base.state_dict()}
    found = {f"{prefix}{name}" for name in values}
    assert set(error.missing) == needed - found
    assert {f"{prefix}{name}" for name in error.unexpected} == found - needed
    shapes = base.state_dict()
    assert {name for name, _, _ in error.mismatched} == {
        f"{prefix}{name}"
        for name, value in values.items()
        if name in shapes and (value.shape != shapes[name].shape or not value.is_floating_point())
    }
    # Nothing was put in place.
    assert all(parameter.is_meta for parameter in network.parameters())


def test_the_message_names_file_network_shapes_and_attributes(base: Base, folder_of: Write) -> None:
    values = values_of(base)
    values[W] = torch.zeros(3, 4)
    folder = folder_of(values)
    with pytest.raises(CheckpointMismatchError) as caught:
        load(skeleton(Base), folder)
    message = str(caught.value)
    assert f"The weights in {folder / 'model.safetensors'} do not fit Base." in message
    assert f"mis-shaped (1): {W}: file [3, 4] float32, network [8, 4] float32" in message
    assert caught.value.mismatched == [(W, "[3, 4] float32", "[8, 4] float32")]
    assert "attributes missing, unexpected and mismatched" in message


class TestFold:
    def test_few_names_are_written_out(self) -> None:
        assert fold(["b", "a"]) == "a, b"

    def test_layers_fold_first(self) -> None:
        names = [f"encoder.layer.{i}.norm.{leaf}" for i in range(9) for leaf in ("bias", "weight")]
        assert fold(names) == "encoder.layer.*.norm.bias (9), encoder.layer.*.norm.weight (9)"

    def test_then_prefixes(self) -> None:
        names = [f"encoder.layer.7.{part}.{leaf}" for part in "abcde" for leaf in "xy"]
        assert fold(names) == ", ".join(f"encoder.layer.7.{part}.* (2)" for part in "abcde")

    def test_the_rest_is_counted(self) -> None:
        assert fold([f"part{i}" for i in range(20)]).endswith(", ... and 14 more groups")

    def test_nothing(self) -> None:
        assert fold([]) == ""


def test_no_floating_tensor_has_no_stored_type() -> None:
    assert stored_dtype(Checkpoint({"a": torch.zeros(2, dtype=torch.int64)}, {})) is None


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ([torch.float16, torch.float16], torch.float16),
        ([torch.float16, torch.float32], torch.float32),
        ([torch.float32, torch.float16], torch.float32),
        ([torch.bfloat16, torch.float16], torch.float32),
        ([torch.int8, torch.bfloat16], torch.bfloat16),
        ([torch.float64, torch.float16], torch.float64),
    ],
)
def test_mixed_files_are_not_rounded(stored: list[torch.dtype], wanted: torch.dtype) -> None:
    """The model takes the narrowest type that holds every value."""
    tensors = {str(index): torch.zeros(2, dtype=dtype) for index, dtype in enumerate(stored)}
    assert stored_dtype(Checkpoint(tensors, {})) is wanted
