"""What the card of `world-tiny` claims follows from the intervals and from nothing else."""

from typing import Any

from vjepa2.tasks.scene_card import difference_table, verdict


def interval(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}


def task(*, untrained: float, pixels: float) -> dict[str, Any]:
    """Results in which the lower ends of both differences are given."""

    def rival(low: float) -> dict[str, Any]:
        return {
            "accuracy": interval(0.5, 0.4, 0.6),
            "behind": interval(low + 0.05, low, low + 0.1),
        }

    return {
        "chance": 0.25,
        "pretrained": {"accuracy": interval(0.6, 0.5, 0.7)},
        "untrained": rival(untrained),
        "pixels": rival(pixels),
    }


def test_only_what_beats_both_rivals_for_certain_is_claimed() -> None:
    results = {
        "count": task(untrained=0.01, pixels=0.02),
        "hidden": task(untrained=0.01, pixels=-0.001),
        "order": task(untrained=0.0, pixels=0.02),
        # Not a long-range question, so nothing is said of it.
        "direction": task(untrained=0.3, pixels=0.3),
    }
    said = verdict(results)
    assert said.startswith(
        'Ahead of both untrained and pixels outside the intervals on "count", of 3'
    )
    assert 'On "order", "hidden"' in said or 'On "hidden", "order"' in said
    assert "direction" not in said


def test_without_a_certain_lead_no_claim_is_made() -> None:
    assert "no claim is made" in verdict({"count": task(untrained=0.1, pixels=-0.1)})
    # A question whose rivals were not measured counts as not asked.
    unmeasured = task(untrained=0.1, pixels=0.1)
    del unmeasured["pixels"]
    assert "no claim is made" in verdict({"count": unmeasured})


def test_differences_are_in_points_with_their_sign() -> None:
    table = difference_table({"count": task(untrained=0.01, pixels=-0.2)})
    assert "| count | +6.0 (+1.0 to +11.0) | -15.0 (-20.0 to -10.0) |  |" in table
