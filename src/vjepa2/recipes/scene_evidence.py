"""What a pretrained encoder knows of the small world, measured with attentive probes.

    python -m vjepa2.recipes.scene_evidence --model RUN/model --out runs/evidence

trains and tests the probes of every contender (`vjepa2.tasks.scene_evidence`), writes one small
file per contender and task, `results.json` and `table.md`. Started again it gathers only what is
missing, so contenders can be measured one after the other with `--contender`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from vjepa2.errors import VJEPAError
from vjepa2.files import atomic_path, write_json
from vjepa2.models.vjepa2 import VJEPA2Model
from vjepa2.tasks.scene_evidence import (
    Contender,
    EvidenceConfig,
    evidence_table,
    gather_evidence,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Gather evidence and print the table; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m vjepa2.recipes.scene_evidence",
        description="Measure what an encoder knows of the small world, beside other contenders.",
    )
    parser.add_argument("--model", required=True, help="folder or name of the encoder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--contender",
        action="append",
        choices=get_args(Contender),
        help="measure only this one; repeatable",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change an option, such as --set train_clips=200; repeatable",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    given = parser.parse_args(arguments)
    try:
        config = EvidenceConfig().override(given.set)
        encoder = VJEPA2Model.from_pretrained(given.model).encoder.float().eval()
        results = gather_evidence(
            encoder,
            given.out,
            config=config,
            contenders=tuple(given.contender or get_args(Contender)),
            quiet=given.quiet,
        )
        write_json(given.out / "results.json", results)
        table = evidence_table(results)
        with atomic_path(given.out / "table.md") as temporary:
            temporary.write_text(table, encoding="utf-8")
    except VJEPAError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise SystemExit(1) from error
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
