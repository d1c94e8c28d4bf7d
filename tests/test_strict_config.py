"""Strict configurations refuse what they do not know and cannot be changed."""

import pytest

from vjepa2.errors import ConfigError, UnknownOptionError
from vjepa2.strict_config import StrictConfig


class Optim(StrictConfig):
    lr: float = 1e-3
    steps: int = 10


class Run(StrictConfig):
    name: str
    optim: Optim = Optim()


def test_values_are_checked_and_frozen() -> None:
    run = Run(name="a")
    assert run.optim.lr == 1e-3
    with pytest.raises(ConfigError, match="steps: Input should be a valid integer.*'many'"):
        Optim(steps="many")
    with pytest.raises(ConfigError, match="name: Field required"):
        Run()
    with pytest.raises(ValueError, match="frozen"):
        run.name = "b"


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(
        UnknownOptionError, match="Optim has no option 'stepz'. Did you mean 'steps'"
    ):
        Optim(stepz=3)


def test_override_returns_a_changed_copy() -> None:
    run = Run(name="a")
    changed = run.override(["optim.lr=2e-4", "optim.steps=5", "name=other"])
    assert (changed.optim.lr, changed.optim.steps, changed.name) == (2e-4, 5, "other")
    assert run.optim.lr == 1e-3


@pytest.mark.parametrize(
    ("assignment", "error", "text"),
    [
        ("optim.ler=1", UnknownOptionError, "Did you mean 'lr'"),
        ("optm.lr=1", UnknownOptionError, "Did you mean 'optim'"),
        ("name.x=1", UnknownOptionError, "at 'x'"),
        ("optim.lr", ConfigError, "Expected name=value"),
        ("optim.steps=2.5", ConfigError, "steps"),
    ],
)
def test_override_names_what_is_wrong(assignment: str, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        Run(name="a").override([assignment])


class Block(StrictConfig):
    size: int = 1


class Wall(StrictConfig):
    blocks: tuple[Block, ...] = (Block(), Block(size=2))
    door: Block | None = None


def test_items_of_a_tuple_are_set_by_their_number() -> None:
    changed = Wall().override(["blocks.1.size=7"])
    assert [block.size for block in changed.blocks] == [1, 7]
    with pytest.raises(UnknownOptionError, match="Allowed: 0, 1"):
        Wall().override(["blocks.2.size=7"])


def test_a_section_that_is_not_there_is_set_whole() -> None:
    with pytest.raises(UnknownOptionError, match=r"at 'size'\). It is None: set it whole"):
        Wall().override(["door.size=3"])
    assert Wall().override(['door={"size": 3}']).door == Block(size=3)
