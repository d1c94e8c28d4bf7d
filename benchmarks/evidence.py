"""The tables of evidence in docs/reproduce.md, made from the card's numbers.

    python -m benchmarks.evidence            # print them
    python -m benchmarks.evidence --write    # put them into docs/reproduce.md

A test holds that the page shows what `assets/world-tiny/metrics.json` says.
"""

import json
from pathlib import Path

from benchmarks.common import parser
from vjepa2.tasks.scene_card import difference_table, verdict
from vjepa2.tasks.scene_evidence import evidence_table
from vjepa2.weights.hub import shipped_folder

PAGE = Path(__file__).parent.parent / "docs" / "reproduce.md"
BEGIN = "<!-- evidence: begin (python -m benchmarks.evidence --write) -->"
END = "<!-- evidence: end -->"


def render() -> str:
    """Both tables, and what follows from them."""
    metrics = json.loads((shipped_folder("world-tiny") / "metrics.json").read_text())
    results = metrics["results"]
    return (
        f"{evidence_table(results)}\n"
        "Right answers of the pretrained encoder minus those of another, on the same clips:\n\n"
        f"{difference_table(results)}\n{verdict(results)}\n"
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
