"""The grammar of events: its optimum against all paths one by one, and its files."""

import csv
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2.errors import ConfigError, InputError
from vjepa2.video.reader import VideoReader
from vjepa2.video.synthetic_grammar import BLANK, Grammar, GrammarConfig
from vjepa2.video.synthetic_grammar_files import (
    grammar_frames,
    read_grammar,
    write_grammar_videos,
)
from vjepa2.video.synthetic_grammar_optimum import (
    Visible,
    by_class,
    optimum,
    posteriors,
)

SMALL = GrammarConfig(
    num_nouns=2, num_verbs=2, event_ticks=2, gap_shares=(1, 2), lead_ticks=(1,), table_seed=3
)
TINY_SEED = 5


def paths(grammar: Grammar, length: int) -> dict[tuple[int, ...], float]:
    """Every sequence of states of a length with its probability, by following all of them."""
    found = {(state,): share for state, share in enumerate(grammar.stationary) if share > 0}
    for _ in range(length - 1):
        found = {
            (*path, int(state)): share * grammar.transitions[path[-1], state]
            for path, share in found.items()
            for state in np.flatnonzero(grammar.transitions[path[-1]])
        }
    return found


@pytest.fixture(scope="module")
def by_hand() -> dict[tuple[int, ...], np.ndarray]:
    """Symbols of a context of 3 frames to the joint probability of each action 3 ticks later."""
    grammar = Grammar(SMALL)
    joint: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(4))
    for path, share in paths(grammar, 6).items():
        action, elapsed = divmod(path[-1], SMALL.event_ticks)
        if path[-1] < grammar.num_event_states and elapsed == 0:
            joint[tuple(grammar.symbols[list(path[:3])].tolist())][action] += share
    return dict(joint)


VISIBLE = Visible(num_frames=3, ahead=3)


def test_the_chain_is_a_chain() -> None:
    grammar = Grammar()
    np.testing.assert_allclose(grammar.transitions.sum(axis=1), 1.0)
    np.testing.assert_allclose(grammar.stationary @ grammar.transitions, grammar.stationary)
    np.testing.assert_allclose(grammar.successors.sum(axis=1), 1.0)
    assert (grammar.stationary >= 0).all()


def test_posteriors_are_those_of_all_paths(by_hand: dict[tuple[int, ...], np.ndarray]) -> None:
    contexts = list(by_hand)
    got = posteriors(Grammar(SMALL), np.array(contexts), VISIBLE)
    wanted = np.array([by_hand[context] / by_hand[context].sum() for context in contexts])
    np.testing.assert_allclose(got, wanted, atol=1e-12)


@pytest.mark.parametrize("head", ["action", "noun", "verb"])
def test_the_optimum_is_that_of_all_paths(
    by_hand: dict[tuple[int, ...], np.ndarray], head: str
) -> None:
    grammar = Grammar(SMALL)
    joint = by_class(grammar, np.array(list(by_hand.values())), head)
    joint /= joint.sum()
    got = optimum(grammar, VISIBLE, head=head, k=1)
    assert got.accuracy == pytest.approx(joint.max(axis=1).sum())
    prior = joint.sum(axis=0)
    np.testing.assert_allclose(got.prior, prior)
    assert got.prior_accuracy == pytest.approx(prior.max())
    assert got.recall == pytest.approx((joint / prior).max(axis=1).sum() / joint.shape[1])


def test_no_set_of_answers_has_a_better_recall(
    by_hand: dict[tuple[int, ...], np.ndarray],
) -> None:
    """All assignments of one answer to each kind of context, for few kinds."""
    kinds = sorted(by_hand.values(), key=lambda values: -values.sum())[:6]
    joint = np.array(kinds) / sum(value.sum() for value in by_hand.values())
    share = np.array(list(by_hand.values())).sum(axis=0)
    share /= share.sum()
    best = max(
        sum(joint[row, answer] / share[answer] for row, answer in enumerate(answers)) / 4
        for answers in itertools.product(range(4), repeat=6)
    )
    assert best == pytest.approx((joint / share).max(axis=1).sum() / 4)


def test_drawn_sequences_have_the_computed_optimum() -> None:
    grammar = Grammar()
    visible = Visible(num_frames=8, ahead=5)
    contexts, actions = [], []
    for number in range(12):
        states = grammar.draw(seed=TINY_SEED, number=number, num_ticks=240)
        for event in grammar.events_of(states):
            last = event.start - visible.ahead
            if last >= visible.num_frames - 1:
                contexts.append(states[last - visible.num_frames + 1 : last + 1])
                actions.append(event.action)
    chances = posteriors(grammar, grammar.symbols[np.array(contexts)], visible)
    best = optimum(grammar, visible)
    right = (chances.argmax(axis=1) == np.array(actions)).mean()
    deviation = np.sqrt(best.accuracy * (1 - best.accuracy) / len(actions))
    assert abs(right - best.accuracy) < 3 * deviation
    # What is expected of these very contexts is nearer still.
    assert abs(chances.max(axis=1).mean() - best.accuracy) < 0.03
    counts = np.bincount(actions, minlength=12) / len(actions)
    np.testing.assert_allclose(counts, best.prior, atol=0.05)


def test_the_further_away_the_less_is_known() -> None:
    grammar = Grammar(GrammarConfig(num_nouns=3, num_verbs=2))
    found = [optimum(grammar, Visible(num_frames=6, ahead=ahead)) for ahead in (2, 5, 9, 17)]
    scores = [one.accuracy for one in found]
    assert scores == sorted(scores, reverse=True)
    assert all(one.accuracy > one.prior_accuracy for one in found)


def test_a_cue_that_never_lies_tells_the_noun() -> None:
    config = GrammarConfig(
        num_nouns=3, num_verbs=2, gap_shares=(0, 0, 1), lead_ticks=(3,), cue_reliability=1.0
    )
    grammar = Grammar(config)
    assert optimum(grammar, Visible(3, 1), head="noun", k=1).accuracy == pytest.approx(1.0)
    hidden = Grammar(GrammarConfig(**{**config.model_dump(), "lead_ticks": (0,)}))
    assert optimum(hidden, Visible(3, 1), head="noun", k=1).accuracy < 0.99


def test_where_nothing_follows_from_anything_the_prior_is_best() -> None:
    config = GrammarConfig(num_nouns=2, num_verbs=2, successor_shares=(), lead_ticks=(0,))
    got = optimum(Grammar(config), Visible(4, 3), k=1)
    assert got.accuracy == pytest.approx(got.prior_accuracy)
    assert got.recall == pytest.approx(1 / 4)


def test_wider_steps_between_frames_show_less() -> None:
    grammar = Grammar(GrammarConfig(num_nouns=2, num_verbs=2))
    whole = optimum(grammar, Visible(5, 3), k=1).accuracy
    every_second = optimum(grammar, Visible(3, 3, stride=2), k=1).accuracy
    assert every_second <= whole + 1e-12


def test_sequences_are_functions_of_seed_and_number() -> None:
    grammar = Grammar()
    first = grammar.draw(seed=0, number=3, num_ticks=100)
    np.testing.assert_array_equal(first, grammar.draw(seed=0, number=3, num_ticks=100))
    np.testing.assert_array_equal(first[:50], grammar.draw(seed=0, number=3, num_ticks=50))
    assert (first != grammar.draw(seed=1, number=3, num_ticks=100)).any()


# -- pictures and files -------------------------------------------------------------------------


def test_frames_show_what_their_state_says() -> None:
    grammar = Grammar()
    states = grammar.draw(seed=0, number=0, num_ticks=80)
    frames = grammar_frames(grammar, states, seed=0, number=0, size=32).float()
    ground = frames[0].mode().values.mode().values[0]
    for tick, state in enumerate(states):
        symbol = int(grammar.symbols[state])
        moment = grammar.moment_of(symbol)
        spot = frames[tick, :, 2, 2]
        away = (frames[tick] - ground).abs().amax(dim=0) > 20
        if symbol == BLANK:
            assert not away.any()
        elif moment is None:
            assert (spot - ground).abs().max() > 20 and away[9:, 9:].sum() == 0
        else:
            action, elapsed = moment
            _, columns = away.nonzero(as_tuple=True)
            middle = (columns.float().mean() + 0.5) / 32
            # Verb 0 moves right: left of the middle in the first half, right of it in the other.
            if action % grammar.config.num_verbs == 0:
                assert (middle > 0.5) == (elapsed >= 2)


def test_files_and_list_hold_the_events(tmp_path: Path) -> None:
    path = write_grammar_videos(tmp_path, count=2, seed=7, seconds=10, quiet=True)
    grammar, made_by = read_grammar(tmp_path)
    assert made_by["seed"] == 7
    states = grammar.draw(seed=7, number=1, num_ticks=40)
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"] == "events-00000001.mp4"]
    events = grammar.events_of(states)
    assert [float(row["start_seconds"]) for row in rows] == [event.start / 4 for event in events]
    assert [row["label_action"] for row in rows] == [
        grammar.config.class_names("action")[event.action] for event in events
    ]
    with VideoReader(tmp_path / "events-00000001.mp4") as reader:
        assert reader.pts_seconds.tolist() == [tick / 4 for tick in range(40)]
        shown = reader.get_frames_at(range(40)).data.float()
    painted = grammar_frames(grammar, states, seed=7, number=1).float()
    assert float((shown - painted).abs().mean()) < 12
    # Going on adds a file and keeps the others; another seed needs another folder.
    before = (tmp_path / "events-00000000.mp4").stat().st_mtime_ns
    write_grammar_videos(tmp_path, count=3, seed=7, seconds=10, quiet=True)
    assert (tmp_path / "events-00000000.mp4").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another grammar, seed or size"):
        write_grammar_videos(tmp_path, count=3, seed=8, seconds=10, quiet=True)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="gap_shares"):
        GrammarConfig(gap_shares=(0.0,))
    with pytest.raises(ConfigError, match="successor_shares"):
        GrammarConfig(successor_shares=(0.8, 0.4))
    with pytest.raises(ConfigError, match="head"):
        GrammarConfig().class_names("object")
    grammar = Grammar(SMALL)
    with pytest.raises(InputError, match=r"symbols must be \[B, 3\]"):
        posteriors(grammar, np.zeros((1, 2), dtype=np.int64), VISIBLE)
    # The first moment of an event is never followed by an empty frame.
    impossible = np.array([[1 + SMALL.num_nouns, BLANK, BLANK]])
    with pytest.raises(InputError, match="cannot come from this grammar"):
        posteriors(grammar, impossible, VISIBLE)
    with pytest.raises(InputError, match=r"visible\.ahead"):
        optimum(grammar, Visible(3, 0))
    assert torch.is_tensor(grammar_frames(grammar, np.array([0]), seed=0, number=0))
