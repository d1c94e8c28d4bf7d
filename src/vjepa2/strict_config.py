"""Strict, frozen configurations: unknown names fail with the nearest one, values are type-checked.

`StrictConfig` is a pydantic model that forbids extra fields and cannot be changed after it is
made; `override` returns a changed copy from dotted assignments such as `optim.lr=1e-4`.
"""

import json
from collections.abc import Iterable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vjepa2.errors import ConfigError, UnknownOptionError, check_option_names, nearest_hint


class StrictConfig(BaseModel):
    """Base of all run configurations (frozen, extra fields forbidden, defaults validated)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        check_option_names(cls.__name__, values, cls.model_fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or cls.__name__}: "
                f"{item['msg']}, got {item['input']!r}"
                for item in error.errors()
            )
            raise ConfigError(f"{cls.__name__}: {problems}") from error

    def override(self, assignments: Iterable[str]) -> Self:
        """Return a copy with dotted assignments applied.

        Args:
            assignments: strings `name=value` or `section.name=value`; of several alike, such as
                `masks.0.num_blocks=4`, the number counts from 0. Values are read as JSON where
                they parse as JSON and as plain text otherwise.

        Raises:
            UnknownOptionError: a name does not exist (the nearest one is given).
            ConfigError: a value has the wrong type, or an assignment has no `=`.
        """
        values = _unfrozen(self.model_dump())
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigError(f"Expected name=value, got {assignment!r}.")
            *sections, leaf = name.strip().split(".")
            target = values
            for part in sections:
                target = target[self._key(name.strip(), part, target)]
            target[self._key(name.strip(), leaf, target)] = _parse(text.strip())
        return type(self)(**values)

    def _key(self, name: str, part: str, target: Any) -> Any:
        """What stands for one part of a dotted name in `target`."""
        allowed: list[str] = []
        if isinstance(target, dict):
            allowed = list(target)
        elif isinstance(target, list):
            allowed = [str(number) for number in range(len(target))]
        if part not in allowed:
            hint = nearest_hint(part, allowed) if allowed else f"It is {target!r}: set it whole."
            raise UnknownOptionError(
                f"{type(self).__name__} has no option {name!r} (at {part!r}). {hint}"
            )
        return int(part) if isinstance(target, list) else part


def _unfrozen(value: Any) -> Any:
    """Nested tuples as lists, so that one item can be replaced."""
    if isinstance(value, dict):
        return {key: _unfrozen(item) for key, item in value.items()}
    return [_unfrozen(item) for item in value] if isinstance(value, list | tuple) else value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
