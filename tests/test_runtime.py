"""Names of element types and devices."""

import pytest
import torch

from vjepa2.errors import ConfigError
from vjepa2.runtime import resolve_device, resolve_dtype
from wrong_values import assert_named


def test_dtype_names() -> None:
    assert resolve_dtype("float16") is torch.float16
    assert resolve_dtype("torch.bfloat16") is torch.bfloat16
    assert resolve_dtype(torch.float64) is torch.float64
    with pytest.raises(ConfigError, match="'float165' does not exist. Did you mean 'float16'"):
        resolve_dtype("float165")
    with pytest.raises(ConfigError, match="int64"):
        resolve_dtype(torch.int64)


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match=r"Device 'gpu' cannot be used here: .*[^.]\. Allowed:"):
        resolve_device("gpu")


def test_what_names_no_device_or_type_is_refused() -> None:
    assert_named(resolve_device, allowed=lambda value: value is None, error=ConfigError)
    assert_named(resolve_dtype, error=ConfigError)
