"""The tables of what labels add to the shipped encoder, in docs/reproduce.md, from the results.

    python -m benchmarks.label_evidence            # print them
    python -m benchmarks.label_evidence --write    # put them into docs/reproduce.md

They show what `benchmarks.motion_evidence` and `benchmarks.anticipation_frozen` have saved last,
also where some contenders are not measured yet.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, parser
from vjepa2.tasks.scene_card import difference_table
from vjepa2.tasks.scene_evidence import evidence_table

PAGE = Path(__file__).parent.parent / "docs" / "reproduce.md"
BEGIN = "<!-- labels: begin (python -m benchmarks.label_evidence --write) -->"
END = "<!-- labels: end -->"


def latest(what: str) -> dict[str, Any]:
    """The last saved results of a benchmark."""
    path = max(RESULTS.glob(f"{what}_cpu_*.json"))
    results: dict[str, Any] = json.loads(path.read_text())["results"]
    return results


def motion_text(results: dict[str, Any]) -> str:
    """Tables of the 17 motions."""
    measured = {"17 motions": results["measured"]}
    weakest = sorted(results["pretrained_by_label"].items(), key=lambda pair: pair[1])[:6]
    named = ", ".join(f"{label} {100 * share:.0f} %" for label, share in weakest)
    return (
        f"{evidence_table(measured)}\n{difference_table(measured)}\n"
        f"Best possible: at least {100 * results['optimum_at_least']:.2f} %. Weakest labels of the "
        f"pretrained encoder: {named}.\n"
    )


def anticipation_table(results: dict[str, Any]) -> str:
    """Actions named rightly by anticipation time, and the way from the prior to the optimum."""
    seconds = sorted({row["seconds"] for row in results["rows"]})
    lines = [
        "| actions, ahead by | " + " | ".join(f"{number:g} s" for number in seconds) + " |",
        "|---" * (len(seconds) + 1) + "|",
    ]
    cells: dict[str, dict[float, str]] = {"label prior": {}}
    for row in results["rows"]:
        if row["head"] != "action":
            continue
        cells["label prior"][row["seconds"]] = f"{100 * row['prior_accuracy']:.1f}"
        low, high = (100 * end for end in row["accuracy_interval"])
        cells.setdefault(f"{row['contender']}, {row['name']}", {})[row["seconds"]] = (
            f"{100 * row['accuracy']:.1f} ({low:.1f} to {high:.1f}), way {100 * row['way']:.0f} %"
        )
    cells["Bayes optimum"] = {
        row["seconds"]: f"{100 * row['optimum_accuracy']:.1f}" for row in results["rows"]
        if row["head"] == "action"
    }  # fmt: skip
    for name, by_seconds in cells.items():
        told = " | ".join(by_seconds.get(number, "not measured") for number in seconds)
        lines.append(f"| {name} | {told} |")
    above = [row for row in results["rows"] if row["above_the_optimum"]]
    lines += ["", f"Lines above the optimum beyond their interval, of all heads: {len(above)}."]
    return "\n".join(lines) + "\n"


def render() -> str:
    """All that is measured."""
    parts = {"motion_evidence": motion_text, "anticipation_frozen": anticipation_table}
    return "\n".join(
        words(latest(what)) for what, words in parts.items() if any(RESULTS.glob(f"{what}_cpu_*"))
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--write", action="store_true", help="put them into the page")
    write = arguments.parse_args().write
    print(render())
    if write:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{render()}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
