"""A grammar of events whose future can be computed: what follows what, when, and what announces it.

A video is a chain of events with gaps between them. An event is a noun doing a verb ("red disc
moves left") and lasts `event_ticks`. The event after it depends on it by a fixed table, and a gap
of random length lies between. Before an event a cue may light up: a spot in the colour of the
coming noun, or of another one. One tick is one frame.

All of it is one Markov chain over a few hundred states with a known table of transitions, and
every frame shows one symbol of its state. So what the future holds, given what is visible, is a sum
over states (`vjepa2.video.synthetic_grammar_optimum`), and no method can do better.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vjepa2.errors import ConfigError, check_choice, check_kind, checked_integer
from vjepa2.numbered_random import stream, stream_key, uniform
from vjepa2.strict_config import StrictConfig

NOUNS = ("red disc", "green square", "blue diamond", "yellow bar")
VERBS = ("moves right", "moves left", "moves up", "moves down")
HEADS = ("verb", "noun", "action")
BLANK = 0  # the symbol of an empty frame; 1 to num_nouns are cues, then come the events


class GrammarConfig(StrictConfig):
    """The tables of a grammar.

    Attributes:
        num_nouns, num_verbs: an action is one of each; number = noun * num_verbs + verb.
        ticks_per_second: frames of a second.
        event_ticks: E, duration of an event, ticks.
        gap_shares: of gaps of 1, 2, ... ticks; they are made to add up to 1.
        lead_ticks: how long before an event its cue lights up, at most the gap; one of these, each
            equally likely. 0 is no cue.
        cue_reliability: probability that a cue has the colour of the coming noun; otherwise any
            other colour.
        successor_shares: probabilities of the first, second, ... successor of an action, which
            `table_seed` chooses. What is left goes to all actions by their popularity.
        table_seed: of successors and popularities.
    """

    num_nouns: int = Field(4, ge=2, le=len(NOUNS))
    num_verbs: int = Field(3, ge=2, le=len(VERBS))
    ticks_per_second: int = Field(4, ge=1, le=60)
    event_ticks: int = Field(4, ge=2, le=60)
    gap_shares: tuple[float, ...] = Field((0, 1, 1, 2, 2, 2, 1, 1), min_length=1, max_length=64)
    lead_ticks: tuple[int, ...] = Field((3, 7), min_length=1, max_length=8)
    cue_reliability: float = Field(0.9, ge=0, le=1)
    successor_shares: tuple[float, ...] = Field((0.65, 0.2), max_length=4)
    table_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if min(self.gap_shares) < 0 or sum(self.gap_shares) <= 0:
            raise ConfigError("gap_shares must be 0 or more, and one of them above 0")
        if min(self.lead_ticks) < 0:
            raise ConfigError("lead_ticks must be 0 or more")
        if min(self.successor_shares, default=0) < 0 or sum(self.successor_shares) > 1:
            raise ConfigError("successor_shares must be 0 or more and add up to at most 1")
        return self

    @property
    def num_actions(self) -> int:
        """A, nouns times verbs."""
        return self.num_nouns * self.num_verbs

    def class_names(self, head: str = "action") -> tuple[str, ...]:
        """Names of the classes of a head, in the order of their numbers.

        Raises:
            ConfigError: `head` is none of `HEADS`.
        """
        check_choice("head", head, HEADS)
        nouns, verbs = NOUNS[: self.num_nouns], VERBS[: self.num_verbs]
        actions = tuple(f"{noun} {verb}" for noun in nouns for verb in verbs)
        return {"verb": verbs, "noun": nouns, "action": actions}[head]

    def class_of(self, action: int, head: str) -> int:
        """Number of the class of a head that an action belongs to."""
        noun, verb = divmod(action, self.num_verbs)
        return {"verb": verb, "noun": noun, "action": action}[head]


@dataclass(frozen=True)
class GrammarEvent:
    """One event of a sequence: `action` from tick `start` up to, not including, `stop`."""

    action: int
    start: int
    stop: int


class Grammar:
    """The Markov chain of a configuration.

    Attributes:
        config: its tables.
        num_states: S. First the A * E moments of events, then the gaps: (next action, ticks left,
            lead, colour of the cue).
    """

    def __init__(self, config: GrammarConfig | None = None) -> None:
        config = GrammarConfig() if config is None else config
        check_kind("config", config, GrammarConfig, words="a GrammarConfig")
        self.config = config
        self._gap_shape = (
            config.num_actions,
            len(config.gap_shares),
            len(config.lead_ticks),
            config.num_nouns,
        )
        self.num_event_states = config.num_actions * config.event_ticks
        self.num_states = self.num_event_states + int(np.prod(self._gap_shape))
        self.num_symbols = 1 + config.num_nouns + self.num_event_states

    @cached_property
    def successors(self) -> Float[np.ndarray, "A A"]:
        """Probability of the next action (column) given an action (row)."""
        config, count = self.config, self.config.num_actions
        key = stream_key(table_seed=config.table_seed)
        numbers = uniform(stream(stream(key, np.arange(count + 1))[:, None], np.arange(count)))
        popularity = 0.1 + numbers[count] ** 2
        rest = 1 - sum(config.successor_shares)
        table = np.tile(rest * popularity / popularity.sum(), (count, 1))
        for action in range(count):
            # No action is its own likely successor.
            order = [other for other in np.argsort(numbers[action]) if other != action]
            for other, share in zip(order, config.successor_shares, strict=False):
                table[action, other] += share
        shares: NDArray[np.float64] = table / table.sum(axis=1, keepdims=True)
        return shares

    @cached_property
    def transitions(self) -> Float[np.ndarray, "S S"]:
        """Probability of the state of the next tick (column) given that of a tick (row)."""
        config, events = self.config, self.num_event_states
        table = np.zeros((self.num_states, self.num_states))
        for state in range(events):
            action, elapsed = divmod(state, config.event_ticks)
            if elapsed + 1 < config.event_ticks:
                table[state, state + 1] = 1.0
            else:
                table[state, events:] = self._gap_of(action).ravel()
        gaps = np.arange(self.num_states - events)
        following, left, lead, colour = np.unravel_index(gaps, self._gap_shape)
        ends = left == 0
        table[events + gaps[ends], following[ends] * config.event_ticks] = 1.0
        later = np.ravel_multi_index(
            (following[~ends], left[~ends] - 1, lead[~ends], colour[~ends]), self._gap_shape
        )
        table[events + gaps[~ends], events + later] = 1.0
        return table

    def _gap_of(self, action: int) -> NDArray[np.float64]:
        """Probabilities of the gap that begins after an action."""
        config = self.config
        gap = np.array(config.gap_shares) / sum(config.gap_shares)
        lead = np.full(len(config.lead_ticks), 1 / len(config.lead_ticks))
        noun = np.arange(config.num_actions) // config.num_verbs
        right = noun[:, None] == np.arange(config.num_nouns)
        other = (1 - config.cue_reliability) / (config.num_nouns - 1)
        colour = np.where(right, config.cue_reliability, other)
        table: NDArray[np.float64] = np.einsum(
            "a,g,l,ac->aglc", self.successors[action], gap, lead, colour
        )
        return table

    @cached_property
    def symbols(self) -> Int[np.ndarray, " S"]:
        """The symbol that each state shows: `BLANK`, 1 + colour of a cue, or an event's moment."""
        config = self.config
        _, left, lead, colour = np.indices(self._gap_shape).reshape(4, -1)
        # `left` counts from 0: the last tick of a gap has 0 ticks left after it.
        shown = left < np.array(config.lead_ticks)[lead]
        gaps = np.where(shown, 1 + colour, BLANK)
        moments = 1 + config.num_nouns + np.arange(self.num_event_states)
        return np.concatenate([moments, gaps]).astype(np.int64)

    @cached_property
    def stationary(self) -> Float[np.ndarray, " S"]:
        """Shares of the states far from any beginning."""
        system = self.transitions.T - np.eye(self.num_states)
        system[-1] = 1.0
        right = np.zeros(self.num_states)
        right[-1] = 1.0
        shares = np.linalg.solve(system, right).clip(min=0)
        normalised: NDArray[np.float64] = shares / shares.sum()
        return normalised

    @property
    def starts(self) -> Int[np.ndarray, " A"]:
        """States in which an event begins, by action."""
        return np.arange(self.config.num_actions) * self.config.event_ticks

    def moment_of(self, symbol: int) -> tuple[int, int] | None:
        """(action, ticks since it began) that a symbol shows; None: no event."""
        moment = symbol - 1 - self.config.num_nouns
        return divmod(moment, self.config.event_ticks) if moment >= 0 else None

    def draw(self, *, seed: int, number: int, num_ticks: int) -> Int[np.ndarray, " T"]:
        """States of sequence `number` of a seed, a pure function of both.

        It begins anywhere in the chain, so that every tick is alike: what holds for one moment
        on average holds for all.

        Raises:
            ConfigError: a number is negative, or `num_ticks` below 1.
        """
        num_ticks = checked_integer("num_ticks", num_ticks, least=1)
        key = stream_key(seed=seed, number=number)
        chances = uniform(stream(key, np.arange(num_ticks)))
        states = np.empty(num_ticks, dtype=np.int64)
        shares = self.stationary.cumsum()
        for tick, chance in enumerate(chances):
            if tick:
                shares = self._cumulative[states[tick - 1]]
            place = np.searchsorted(shares, chance * shares[-1], side="right")
            states[tick] = min(int(place), self.num_states - 1)
        return states

    @cached_property
    def _cumulative(self) -> Float[np.ndarray, "S S"]:
        return self.transitions.cumsum(axis=1)

    def events_of(self, states: Int[np.ndarray, " T"]) -> tuple[GrammarEvent, ...]:
        """Events of a sequence that begin and end inside it, in order."""
        length = self.config.event_ticks
        return tuple(
            GrammarEvent(int(state) // length, tick, tick + length)
            for tick, state in enumerate(states)
            if state < self.num_event_states
            and state % length == 0
            and tick + length <= len(states)
        )
