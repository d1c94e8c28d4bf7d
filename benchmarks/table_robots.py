"""Rows of the README's table on planning and robots."""

from benchmarks.common import load, verdict

Row = tuple[str, str, str, str, str]


def robot_rows() -> list[Row]:
    """Claims on rollouts, planners and the simulated arm."""
    return [*_rollouts(), _planners(), *_arm(), _ranking()]


def _rollouts() -> list[Row]:
    found = load("rollout")["results"]
    rows = []
    for horizon, needed in ((4, 2.0), (8, 3.5)):
        faster = found[f"horizon {horizon}"]["speedup_median"]
        rows.append(
            (
                f"rollouts of 64 candidates, horizon {horizon}, vs. the published algorithm",
                f"{faster:.1f}x faster",
                f"{needed:g}x",
                verdict(faster >= needed),
                "rollout",
            )
        )
    above = found["growth"]["most_above_the_line"]
    rows.append(
        (
            "cost of a rollout from horizon 2 to 16 (exact attention grows with it)",
            f"at most {above:.2f}x a straight line",
            "1.15x",
            verdict(above <= 1.15),
            "rollout",
        )
    )
    return rows


def _planners() -> Row:
    gaps = load("planners")["results"]["gaps"]
    worst = max(
        planner["worst_gap"] for counts in gaps.values() for planner in counts["2500"].values()
    )
    return (
        "four planners on problems with known optimum, 2500 candidates: worst gap",
        f"{worst:.2%}",
        "1%",
        verdict(worst <= 0.01),
        "planners",
    )


def _share(success: dict[str, float]) -> str:
    return f"{success['value']:.0%} ({success['low']:.0%} to {success['high']:.0%})"


def _arm() -> list[Row]:
    found = load("simulated_arm")["results"]
    rows = []
    for problem, words in (
        ("reach", "reaches places given as pictures"),
        ("push", "pushes a cube to where a picture shows it"),
        ("pick_place", "picks a cube up and places it, three pictures"),
    ):
        model, random = found[problem]["model"], found[problem]["random"]["success"]
        solved = model["success"]["value"] >= 0.9 and random["value"] <= 0.1
        is_bar = problem == "reach"
        measure = f"simulated arm {words}, {model['episodes']} problems; random actions"
        result = f"{_share(model['success'])}; {random['value']:.0%}"
        rows.append(
            (
                measure,
                result,
                "90%, 10%" if is_bar else "reported",
                verdict(solved) if is_bar else "reported",
                "simulated_arm",
            )
        )
    return rows


def _ranking() -> Row:
    found = load("world_model_ranking")["results"]
    value = found["spearman_success"]
    return (
        f"report card ranks {len(found['rows'])} world models as driving does (Spearman)",
        f"{value:.2f}",
        "0.7",
        verdict(value >= 0.7),
        "simulated_arm",
    )
