"""Tokens of the future are those of the predictor at the tubelets that the time says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import clip, randomise, tiny_config
from vjepa2.errors import ConfigError, DtypeError, InputError, ShapeError
from vjepa2.models.anticipation import AnticipationSettings, AnticipationTokens, Anticipator
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.models.vjepa2 import VJEPA2Model

# 4 frames of 32 x 32 with patches of 8: 2 time steps of 16 tokens.
PER_STEP, NUM_TOKENS, FPS = 16, 32, 8.0
LEVELS_2_1: dict[str, Any] = {
    "model_type": "vjepa2_1",
    "num_hidden_layers": 4,
    "hierarchical_layers": [0, 1, 2, 3],
}


def tokens_of(
    settings: dict[str, Any] | None = None, **changes: Any
) -> tuple[AnticipationTokens, Tensor]:
    model = randomise(VJEPA2Model(tiny_config(**changes))).eval()
    pixels = clip(model.config)
    return AnticipationTokens(model, AnticipationSettings(**(settings or {})), fps=FPS), pixels


def predicted(
    tokens: AnticipationTokens, window: Tensor, window_ids: list[int], target_ids: list[int]
) -> Tensor:
    """The predictor at ids that are written out."""
    grid = tokens.model.encoder.grid(clip(tokens.config))
    batch = window.shape[0]

    def spread(ids: list[int]) -> Tensor:
        return torch.tensor(ids).expand(batch, -1)

    mask_index = tokens.settings.mask_index
    found = tokens.model.predictor.predict(
        window, spread(window_ids), spread(target_ids), grid=grid, mask_index=mask_index
    ).last_hidden_state
    assert found is not None
    return found


def span(step: int, count: int = 1) -> list[int]:
    """Ids of the tokens of some time steps."""
    return list(range(step * PER_STEP, (step + count) * PER_STEP))


@torch.no_grad()
def test_one_second_is_the_tubelet_four_steps_after_the_clip() -> None:
    tokens, pixels = tokens_of()
    encoded = tokens.model.encoder(pixels).last_hidden_state
    # 8 frames a second are 4 tubelets a second: 2 of the clip, 4 left out, the next is asked for.
    expected = predicted(tokens, encoded, span(0, 2), span(2 + 4))
    found = tokens(pixels, 1.0)
    assert found.shape == (2, NUM_TOKENS + PER_STEP, 32)
    torch.testing.assert_close(found[:, :NUM_TOKENS], encoded)
    torch.testing.assert_close(found[:, NUM_TOKENS:], expected)


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.6, 2), (1.0, 4), (1.75, 7)]
)
def test_whole_tubelets_are_counted_downwards(seconds: float, steps: int) -> None:
    tokens, _ = tokens_of()
    assert tokens.steps_until(torch.tensor([seconds])).tolist() == [steps]


def test_a_time_that_is_whole_tubelets_is_not_rounded_away() -> None:
    tokens = AnticipationTokens(VJEPA2Model(tiny_config()), fps=10.0)
    times = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.4], dtype=torch.float32)
    assert tokens.steps_until(times).tolist() == [1, 2, 3, 4, 7]


@torch.no_grad()
def test_every_clip_of_a_batch_has_a_time_of_its_own() -> None:
    tokens, pixels = tokens_of()
    together = tokens(pixels, torch.tensor([0.25, 1.5]))
    torch.testing.assert_close(together[:1], tokens(pixels[:1], 0.25))
    torch.testing.assert_close(together[1:], tokens(pixels[1:], 1.5))


@torch.no_grad()
def test_switches_leave_out_encoder_or_predictor() -> None:
    both, pixels = tokens_of()
    encoder, _ = tokens_of({"tokens": "encoder"})
    predictor, _ = tokens_of({"tokens": "predictor"})
    whole = both(pixels, 0.5)
    torch.testing.assert_close(encoder(pixels, 0.5), whole[:, :NUM_TOKENS])
    torch.testing.assert_close(predictor(pixels, 0.5), whole[:, NUM_TOKENS:])


@torch.no_grad()
def test_mask_token_is_the_one_that_is_chosen() -> None:
    first, pixels = tokens_of({"mask_index": 0})
    second, _ = tokens_of({"mask_index": 1})
    encoded = first.model.encoder(pixels).last_hidden_state
    expected = predicted(first, encoded, span(0, 2), span(3))
    torch.testing.assert_close(first(pixels, 0.25)[:, NUM_TOKENS:], expected)
    assert not torch.allclose(first(pixels, 0.25), second(pixels, 0.25), atol=1e-3)


@torch.no_grad()
def test_longer_outputs_are_more_tubelets_of_one_step() -> None:
    tokens, pixels = tokens_of({"num_output_frames": 4})
    encoded = tokens.model.encoder(pixels).last_hidden_state
    expected = predicted(tokens, encoded, span(0, 2), span(3, 2))
    torch.testing.assert_close(tokens(pixels, 0.25)[:, NUM_TOKENS:], expected)


@torch.no_grad()
def test_a_longer_tubelet_is_one_step_of_the_future() -> None:
    tokens, pixels = tokens_of(tubelet_size=4)  # one time step of 16 tokens, two a second
    assert tokens.steps_until(torch.tensor([1.0])).tolist() == [2]
    encoded = tokens.model.encoder(pixels).last_hidden_state
    expected = predicted(tokens, encoded, span(0), span(1 + 2))
    torch.testing.assert_close(tokens(pixels, 1.0)[:, PER_STEP:], expected)


# -- step after step ----------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("positions", ["shifted", "published"])
def test_windows_slide_with_the_ids_that_are_asked_for(positions: str) -> None:
    tokens, pixels = tokens_of({"num_steps": 3, "positions": positions})
    window = tokens.model.encoder(pixels).last_hidden_state
    jump = 2  # 0.5 s
    # The window by the time steps of its tokens, counted from the beginning of the clip.
    times, parts = [0, 1], []
    for step in range(3):
        if positions == "published":
            ids = span(0, 2)  # whatever is in it
        else:
            ids = [id for time in times for id in span(time - step)]
        found = predicted(tokens, window, ids, span(2 + jump))
        parts.append(found)
        window = torch.cat([window, found], dim=1)[:, PER_STEP:]
        times = [*times[1:], 2 + jump + step]
    torch.testing.assert_close(tokens(pixels, 0.5)[:, NUM_TOKENS:], torch.cat(parts, dim=1))


@torch.no_grad()
def test_shifted_ids_keep_distances_where_only_distances_count() -> None:
    # V-JEPA 2.1's rotary positions depend on distances alone, so true times, never counted back,
    # must give the same.
    config: dict[str, Any] = {**LEVELS_2_1, "pred_num_levels": 1}
    tokens, pixels = tokens_of({"num_steps": 3}, **config)
    window = tokens.model.encoder(pixels).last_hidden_state
    times, parts = [0, 1], []
    for step in range(3):
        ids = [id for time in times for id in span(time)]
        found = predicted(tokens, window, ids, span(2 + 2 + step))
        parts.append(found)
        window = torch.cat([window, found], dim=1)[:, PER_STEP:]
        times = [*times[1:], 2 + 2 + step]
    expected = torch.cat(parts, dim=1)
    torch.testing.assert_close(tokens(pixels, 0.5)[:, NUM_TOKENS:], expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_two_ways_of_sliding_differ_only_after_a_jump() -> None:
    shifted, pixels = tokens_of({"num_steps": 3})
    published, _ = tokens_of({"num_steps": 3, "positions": "published"})
    torch.testing.assert_close(shifted(pixels, 0.0), published(pixels, 0.0))
    assert not torch.allclose(shifted(pixels, 1.0), published(pixels, 1.0), atol=1e-3)


@torch.no_grad()
def test_rollout_predicts_every_tubelet_up_to_the_time() -> None:
    rollout, pixels = tokens_of({"way": "rollout"})
    window = rollout.model.encoder(pixels).last_hidden_state
    parts = []
    for _ in range(4):
        found = predicted(rollout, window, span(0, 2), span(2))
        parts.append(found)
        window = torch.cat([window, found], dim=1)[:, PER_STEP:]
    seconds = torch.tensor([0.75, 0.25])  # the fourth tubelet, and the second
    read = rollout(pixels, seconds)[:, NUM_TOKENS:]
    torch.testing.assert_close(read[0], parts[3][0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(read[1], parts[1][1], atol=2e-5, rtol=1e-4)


# -- V-JEPA 2.1 ---------------------------------------------------------------------------------


@torch.no_grad()
def test_levels_go_into_the_predictor_and_the_last_ones_come_out() -> None:
    tokens, pixels = tokens_of({"num_steps": 2}, **LEVELS_2_1)
    encoded = tokens.model.encoder(pixels, output_levels=[0, 1, 2, 3])
    window = torch.cat(encoded.level_hidden_states, dim=-1)
    first = predicted(tokens, window, span(0, 2), span(2))
    assert first.shape[-1] == 4 * 32
    second = predicted(tokens, torch.cat([window, first], 1)[:, PER_STEP:], span(0, 2), span(2))
    found = tokens(pixels, 0.0)
    torch.testing.assert_close(found[:, :NUM_TOKENS], encoded.level_hidden_states[-1])
    expected = torch.cat([first, second], dim=1)[..., -32:]
    torch.testing.assert_close(found[:, NUM_TOKENS:], expected)


@torch.no_grad()
def test_of_distilled_models_the_last_channels_of_a_wider_prediction_are_read() -> None:
    config: dict[str, Any] = {**LEVELS_2_1, "pred_num_levels": 1, "pred_output_size": 52}
    tokens, pixels = tokens_of({"num_steps": 2}, **config)
    window = tokens.model.encoder(pixels).last_hidden_state
    first = predicted(tokens, window, span(0, 2), span(3))
    assert first.shape[-1] == 52
    found = tokens(pixels, 0.25)[:, NUM_TOKENS : NUM_TOKENS + PER_STEP]
    torch.testing.assert_close(found, first[..., -32:])


# -- with a probe -------------------------------------------------------------------------------


def anticipator(**changes: Any) -> tuple[Anticipator, Tensor]:
    heads = {"verb": 3, "noun": 4, "action": 7}
    config = tiny_config(head_sizes=heads, **changes)
    model = randomise(VJEPA2Model(tiny_config()))
    probe = randomise(VJEPA2AttentiveProbe(config), seed=1)
    return Anticipator(model, probe, fps=FPS).eval(), clip(model.config)


@torch.no_grad()
def test_horizons_are_read_from_one_pass_of_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pixels = anticipator()
    expected = [network(pixels, seconds).logits for seconds in (0.5, 1.0, 2.0)]
    calls = []
    encode = network.tokens.encode
    monkeypatch.setattr(network.tokens, "encode", lambda x: calls.append(1) or encode(x))
    found = network.at_horizons(pixels, [0.5, 1.0, 2.0])
    assert len(calls) == 1
    for own, other in zip(found, expected, strict=True):
        assert list(own) == ["verb", "noun", "action"]
        for head in own:
            torch.testing.assert_close(own[head], other[head])
    assert not torch.allclose(found[0]["action"], found[2]["action"], atol=1e-4)


def test_gradients_reach_encoder_and_predictor() -> None:
    network, pixels = anticipator()
    labels = {"verb": torch.tensor([0, 2]), "noun": torch.tensor([1, 3])}
    network(pixels, 1.0, {**labels, "action": torch.tensor([6, 0])}).loss.backward()
    model = network.tokens.model
    for part in (model.encoder.layer[0], model.predictor.layer[0], network.probe.pooler):
        assert all(value.grad is not None for value in part.parameters())


def test_a_probe_of_another_width_is_refused() -> None:
    probe = VJEPA2AttentiveProbe(tiny_config(hidden_size=48))
    with pytest.raises(ConfigError, match="48 wide, the model's are 32 wide"):
        Anticipator(VJEPA2Model(tiny_config()), probe, fps=FPS)


def test_a_probe_of_several_levels_is_refused() -> None:
    probe = VJEPA2AttentiveProbe(tiny_config(pooler_levels=[0, 1]))
    with pytest.raises(ConfigError, match="encoder blocks"):
        Anticipator(VJEPA2Model(tiny_config()), probe, fps=FPS)


def test_features_that_are_not_finite_are_refused() -> None:
    network, pixels = anticipator()
    with torch.no_grad():
        network.tokens.model.encoder.layer[0].mlp.fc1.weight.fill_(float("nan"))
        with pytest.raises(DtypeError, match="NaN"):
            network(pixels, 1.0)


WRONG_TIMES: list[tuple[Any, type[Exception]]] = [
    (-1.0, InputError),
    (float("nan"), InputError),
    (torch.tensor([1.0, float("inf")]), InputError),
    (torch.tensor([1.0]), ShapeError),
    (torch.tensor(1.0), ShapeError),
    ("1", InputError),
]


@pytest.mark.parametrize(("seconds", "error"), WRONG_TIMES)
@pytest.mark.parametrize("choice", ["both", "encoder"])
def test_wrong_times_are_named(seconds: Any, error: type[Exception], choice: str) -> None:
    tokens, pixels = tokens_of({"tokens": choice})
    with pytest.raises(error, match="seconds"):
        tokens(pixels, seconds)


WRONG_SETTINGS: list[tuple[Callable[[], object], str]] = [
    (lambda: tokens_of({"num_output_frames": 3}), "no multiple"),
    (lambda: tokens_of({"tokens": "all"}), "tokens"),
    (lambda: tokens_of({"num_steps": 0}), "num_steps"),
    (lambda: anticipator()[0].at_horizons(clip(tiny_config()), []), "horizons is empty"),
]


@pytest.mark.parametrize(("make", "words"), WRONG_SETTINGS)
def test_wrong_settings_are_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises((ConfigError, InputError), match=words):
        make()


def test_a_model_that_cannot_read_its_predictions_takes_one_step() -> None:
    # Four levels in, all but one channel count out.
    config: dict[str, Any] = {**LEVELS_2_1, "pred_output_size": 40}
    tokens, pixels = tokens_of({"num_steps": 2}, **config)
    with pytest.raises(ConfigError, match="cannot go on from its own predictions"):
        tokens(pixels, 0.0)
