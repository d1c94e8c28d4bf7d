"""NaN, infinity and holes of zeros are found in every position and element type."""

import pytest
import torch
from torch import Tensor

from vjepa2.errors import CheckpointFormatError
from vjepa2.weights import values
from vjepa2.weights.values import check_values

TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def check(tensor: Tensor, name: str = "encoder.layer.0.mlp.fc1.weight") -> None:
    check_values({name: tensor}, names={name: "stored.name"}, where="x.pt")


@pytest.mark.parametrize("dtype", TYPES)
class TestFound:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("place", [0, 7, 14, 29])
    def test_one_value(
        self, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, value: float, place: int
    ) -> None:
        monkeypatch.setattr(values, "_STEP", 8)  # several steps, the last one shorter
        tensor = torch.randn(5, 6).to(dtype)
        check(tensor)
        tensor.view(-1)[place] = value
        with pytest.raises(
            CheckpointFormatError, match=r"'stored\.name' in x\.pt holds NaN or inf"
        ):
            check(tensor)

    def test_both_infinities(self, dtype: torch.dtype) -> None:
        tensor = torch.randn(4, 4).to(dtype)
        tensor[0, 0], tensor[2, 1] = float("inf"), float("-inf")
        with pytest.raises(CheckpointFormatError, match="NaN or infinity"):
            check(tensor)

    def test_zeros(self, dtype: torch.dtype) -> None:
        with pytest.raises(CheckpointFormatError, match="zero throughout"):
            check(torch.zeros(5, 6, dtype=dtype))

    def test_values_that_only_look_bad(self, dtype: torch.dtype) -> None:
        """Large ones whose sum overflows, others that cancel, tiny ones."""
        largest = torch.finfo(dtype).max
        check(torch.full((4, 4), largest, dtype=dtype))
        check(torch.tensor([[1.0, -1.0], [0.5, -0.5]], dtype=dtype))
        tiny = torch.zeros(4, 4, dtype=dtype)
        tiny[3, 3] = torch.finfo(dtype).tiny
        check(tiny)

    def test_a_part_of_a_larger_tensor(self, dtype: torch.dtype) -> None:
        columns = torch.randn(8, 8).to(dtype)[:, 2:4]
        check(columns)
        columns[5, 1] = float("nan")
        with pytest.raises(CheckpointFormatError, match="NaN or infinity"):
            check(columns)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.0.norm1.bias",
        "predictor.embeddings.mask_tokens",
        "encoder.embeddings.modality.image",
        "predictor.embeddings.modality.video",
    ],
)
def test_what_may_be_zero(name: str) -> None:
    check(torch.zeros(3, 1, 1, 4), name)
    with pytest.raises(CheckpointFormatError, match="NaN or infinity"):
        check(torch.full((3, 1, 1, 4), float("nan")), name)


def test_empty_tensors_and_unknown_names() -> None:
    check_values({"x.bias": torch.zeros(0)}, names={}, where="x.pt")
    with pytest.raises(CheckpointFormatError, match=r"'x\.weight' in x\.pt"):
        check_values({"x.weight": torch.zeros(2, 2)}, names={}, where="x.pt")
