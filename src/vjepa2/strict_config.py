"""Strict, frozen configurations: unknown names fail with the nearest one, values are type-checked.

`StrictConfig` is a pydantic model that forbids extra fields and cannot be changed after it is
made; `override` returns a changed copy from dotted assignments such as `optim.lr=1e-4`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vjepa2.errors import (
    ConfigError,
    UnknownOptionError,
    check_option_names,
    described,
    nearest_hint,
)

MAX_PROBLEMS = 5


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
            problems = _problems(error)
            more = len(problems) - MAX_PROBLEMS
            listed = problems[:MAX_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
            raise ConfigError(f"{cls.__name__}: {'; '.join(listed)}") from error

    def override(self, assignments: Iterable[str]) -> Self:
        """Return a copy with dotted assignments applied.

        Args:
            assignments: strings `name=value` or `section.name=value`; of several alike, such as
                `masks.0.num_blocks=4`, the number counts from 0. Values are read as JSON where
                they parse as JSON and as plain text otherwise.

        Raises:
            UnknownOptionError: a name does not exist (the nearest one is given).
            ConfigError: a value has the wrong type, an assignment has no `=`, or its value has too
                many digits or brackets to be read.
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
            target[self._key(name.strip(), leaf, target)] = _parse(name.strip(), text.strip())
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


def _problems(error: ValidationError, place: tuple[int | str, ...] = ()) -> list[str]:
    """What is wrong, in words: `optim.lr: Input should be ..., got 'x' (str)`."""
    lines = []
    for item in error.errors():
        loc = (*place, *item["loc"])
        found = item.get("ctx", {}).get("error")
        if isinstance(found, ConfigError) and isinstance(found.__cause__, ValidationError):
            lines += _problems(found.__cause__, loc)  # of a section
            continue
        # What a check says for itself holds the value already.
        text = str(found) if isinstance(found, Exception) else item["msg"]
        got = item["input"]
        if found is None and not isinstance(got, Mapping | BaseModel):
            text += f", got {described(got)}"
        lines.append(f"{'.'.join(map(str, loc))}: {text}" if loc else text)
    return lines


def _parse(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        # Python reads no number of thousands of digits and no thousands of nested brackets.
        raise ConfigError(
            f"{name}: {described(text)}, of {len(text):,} characters, has more digits or nested "
            "brackets than can be read. Give a shorter value."
        ) from error
