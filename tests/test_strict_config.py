"""Strict configurations refuse what they do not know and cannot be changed."""

from typing import Self

import pytest
from pydantic import model_validator

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


class Clip(StrictConfig):
    crop: int = 16
    note: str = "n" * 2000

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.crop % 16:
            raise ConfigError(f"crop={self.crop} must be a multiple of 16")
        if self.crop == 0:
            raise ValueError("crop must not be 0")
        return self


class Film(StrictConfig):
    title: str = "t"
    clips: tuple[Clip, ...] = (Clip(),)
    block: Block = Block()

    @model_validator(mode="after")
    def _has_clips(self) -> Self:
        if not self.clips:
            raise ConfigError("clips must not be empty")
        return self


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("clips=[]", "Film: clips must not be empty"),
        ("clips.0.crop=9", "Film: clips.0: crop=9 must be a multiple of 16"),
        ("clips.0.crop=0", "Film: clips.0: crop must not be 0"),
        (
            "block.size=[]",
            "Film: block.size: Input should be a valid integer, got [] (list)",
        ),
        (
            f"title={'[1,' * 200}1{']' * 200}",
            f"Film: title: Input should be a valid string, got {'[1, ' * 15}... (list)",
        ),
        (
            'clips=[{"crp": 1}]',
            "Film: clips.0: Clip has no option 'crp'. Did you mean 'crop'? Allowed: crop, note.",
        ),
    ],
)
def test_messages_say_once_what_is_wrong(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        Film().override([assignment])
    assert str(found.value) == message


def test_only_the_first_of_many_problems_are_listed() -> None:
    with pytest.raises(ConfigError, match="blocks.4.size.*; and 95 more$") as found:
        Wall(blocks=tuple({"size": "x"} for _ in range(100)))
    assert "blocks.5" not in str(found.value)


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000], ids=["digits", "brackets"])
def test_values_that_no_reader_takes_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"optim.steps: .*of {len(text):,} char"):
        Run(name="a").override([f"optim.steps={text}"])
