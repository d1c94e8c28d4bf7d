"""`VideoBatch`: what the processor returns, a dictionary that models take as `model(**inputs)`."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from vjepa2.runtime import DTYPE_NAMES, resolve_device, resolve_dtype


class VideoBatch(dict[str, Any]):
    """A dictionary with attribute access and `.to(...)`.

    `batch["pixel_values_videos"]` and `batch.pixel_values_videos` are the same tensor.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; it holds: {', '.join(self)}."
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def to(
        self,
        *where: str | int | torch.device | torch.dtype,
        device: str | int | torch.device | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """Move the tensors to a device, cast the floating ones to a dtype, and return self.

        Args:
            where: device, dtype, or both in either order: `batch.to("cuda", torch.float16)`;
                the dtype may be a name.
            device, dtype: the same as keywords.
            non_blocking: do not wait for the copy (from pinned memory).

        Raises:
            ConfigError: the device does not exist here.
        """
        for item in where:
            if isinstance(item, torch.dtype):
                dtype = item
            elif str(item).removeprefix("torch.") in DTYPE_NAMES:
                dtype = resolve_dtype(str(item))
            else:
                device = item
        target = None if device is None else resolve_device(device)
        for name, value in self.items():
            if isinstance(value, Tensor):
                cast = dtype if value.is_floating_point() else None
                self[name] = value.to(device=target, dtype=cast, non_blocking=non_blocking)
        return self

    @property
    def data(self) -> Mapping[str, Any]:
        """The content as a plain dictionary."""
        return dict(self)
