"""What can be known of an event before it begins: the best possible scores, computed exactly.

The belief over the states of the chain is carried along the frames of a context (a forward
filter), then along the hidden time up to the event, under the condition that an event begins just
there: that is how anticipation is scored. For the best score on average, the filter runs over *all*
contexts at once. Many of them end in the same belief (a frame of an event tells the state whole),
and such are merged, so a few thousand beliefs stand for all of them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vjepa2.errors import InputError, checked_integer
from vjepa2.video.synthetic_grammar import Grammar

_SAME = 1e-10  # beliefs that differ by less are one


class Visible(NamedTuple):
    """Which frames are seen, and how far away the event is, in ticks.

    Attributes:
        num_frames: frames of the context.
        stride: ticks from one of them to the next.
        ahead: ticks from the last one to the first of the event. A context that ends `a` seconds
            before the event has a * ticks_per_second + 1: its last frame is over when it ends.
    """

    num_frames: int
    ahead: int
    stride: int = 1


@dataclass(frozen=True)
class Optimum:
    """Best and least scores for one horizon and one head.

    Attributes:
        accuracy: of naming the most probable class of every context.
        recall: class-mean recall at `k` of the k classes with the greatest probability in
            proportion to their share, which is what that measure rewards.
        prior_accuracy, prior_recall: without looking: always the most frequent class, any k
            classes.
        prior: shares of the classes among events.
        k: of the recall.
    """

    accuracy: float
    recall: float
    prior_accuracy: float
    prior_recall: float
    prior: tuple[float, ...]
    k: int


def posteriors(
    grammar: Grammar, symbols: Int[np.ndarray, "B T"], visible: Visible
) -> Float[np.ndarray, "B A"]:
    """Probability of every action of the event that begins `visible.ahead` ticks later.

    Args:
        grammar: of the sequences.
        symbols: what the frames of each context show (`grammar.symbols[states]`).
        visible: which frames those are.

    Raises:
        InputError: another number of frames, or a context that this grammar never shows.
    """
    _check(visible)
    if symbols.ndim != 2 or symbols.shape[1] != visible.num_frames:
        raise InputError(
            f"symbols must be [B, {visible.num_frames}], one per visible frame, got "
            f"{list(symbols.shape)}."
        )
    between = np.linalg.matrix_power(grammar.transitions, visible.stride)
    belief = np.tile(grammar.stationary, (len(symbols), 1))
    for place in range(visible.num_frames):
        if place:
            belief = belief @ between
        belief = belief * (grammar.symbols[None] == symbols[:, place, None])
        total = belief.sum(axis=1, keepdims=True)
        if (total <= 0).any():
            raise InputError(
                f"Context {int((total[:, 0] <= 0).argmax())} cannot come from this grammar: its "
                f"frame {place} has probability 0 after those before."
            )
        belief = belief / total
    beginning = _beginning(grammar, belief, visible)
    total = beginning.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise InputError(
            f"After context {int((total[:, 0] <= 0).argmax())} no event can begin "
            f"{visible.ahead} ticks later."
        )
    shares: NDArray[np.float64] = beginning / total
    return shares


def optimum(grammar: Grammar, visible: Visible, *, head: str = "action", k: int = 5) -> Optimum:
    """The best possible scores on average over all contexts before an event.

    Args:
        grammar: of the sequences.
        visible: frames that are seen, and the distance of the event.
        head: "verb", "noun" or "action".
        k: of the class-mean recall.

    Raises:
        ConfigError: `head` does not exist.
        InputError: `visible` is out of range.
    """
    joint = by_class(grammar, contexts_and_actions(grammar, visible), head)  # [contexts, classes]
    k = min(checked_integer("k", k, least=1), joint.shape[1])
    prior = joint.sum(axis=0)
    per_class = joint / np.where(prior > 0, prior, 1.0)
    num_seen = int((prior > 0).sum())
    best = np.sort(per_class, axis=1)[:, -k:].sum() / num_seen
    return Optimum(
        accuracy=float(joint.max(axis=1).sum()),
        recall=float(best),
        prior_accuracy=float(prior.max()),
        prior_recall=min(k, num_seen) / num_seen,
        prior=tuple(prior.tolist()),
        k=k,
    )


def contexts_and_actions(grammar: Grammar, visible: Visible) -> Float[np.ndarray, "K A"]:
    """Joint probability of (what the context lets one believe, action of the event).

    One row for each of the K different beliefs that contexts can end in; all entries add up to 1.
    """
    _check(visible)
    between = np.linalg.matrix_power(grammar.transitions, visible.stride)
    shown = np.eye(grammar.num_symbols)[grammar.symbols]  # [S, symbols]
    mass, belief = np.ones(1), grammar.stationary[None]
    for place in range(visible.num_frames):
        if place:
            belief = belief @ between
        chance = belief @ shown  # of every symbol after every belief
        rows, symbols = np.nonzero(chance > 0)
        mass = mass[rows] * chance[rows, symbols]
        belief = belief[rows] * shown.T[symbols] / chance[rows, symbols, None]
        mass, belief = _merged(mass, belief)
    joint = mass[:, None] * _beginning(grammar, belief, visible)
    joint = joint[joint.sum(axis=1) > 0]
    normalised: NDArray[np.float64] = joint / joint.sum()
    return normalised


def by_class(
    grammar: Grammar, of_actions: Float[np.ndarray, "K A"], head: str
) -> Float[np.ndarray, "K C"]:
    """Probabilities of actions added up over the actions of each class of a head."""
    config = grammar.config
    summed = np.zeros((len(of_actions), len(config.class_names(head))))
    for action in range(config.num_actions):
        summed[:, config.class_of(action, head)] += of_actions[:, action]
    return summed


def _beginning(
    grammar: Grammar, belief: NDArray[np.float64], visible: Visible
) -> NDArray[np.float64]:
    """Probability that each action begins `ahead` ticks after the last frame."""
    ahead = np.linalg.matrix_power(grammar.transitions, visible.ahead)
    beginning: NDArray[np.float64] = belief @ ahead[:, grammar.starts]
    return beginning


def _merged(
    mass: NDArray[np.float64], belief: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same with equal beliefs joined."""
    # Rows are compared by a few random projections: exact comparison of rows costs far more.
    generator = np.random.default_rng(0)
    marks = np.rint(belief @ generator.random((belief.shape[1], 3)) / _SAME).astype(np.int64)
    _, first, group = np.unique(marks, axis=0, return_index=True, return_inverse=True)
    masses: NDArray[np.float64] = np.bincount(group.ravel(), weights=mass).astype(np.float64)
    return masses, belief[first]


def _check(visible: Visible) -> None:
    for name, value in zip(Visible._fields, visible, strict=True):
        checked_integer(f"visible.{name}", value, least=1, error=InputError)
