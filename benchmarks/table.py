"""The table of measured claims in the README, made from the result files.

    python -m benchmarks.table            # print it
    python -m benchmarks.table --write    # put it into README.md

A test holds that the README shows what the files say.
"""

import json
from pathlib import Path

from benchmarks.common import load, parser, verdict
from benchmarks.table_robots import robot_rows
from vjepa2.tasks.scene_card import RIVALS
from vjepa2.tasks.scene_tasks import LONG_RANGE
from vjepa2.weights.hub import shipped_folder

ROOT = Path(__file__).parent.parent
BEGIN = "<!-- table: begin (python -m benchmarks.table --write) -->"
END = "<!-- table: end -->"


def at_least(value: float, bar: float) -> str:
    return verdict(value >= bar)


def at_most(value: float, bar: float) -> str:
    return verdict(value <= bar)


def rows() -> list[tuple[str, str, str, str, str]]:
    """(measure, result, needed, verdict, script) per claim."""
    encode = load("encode")["results"]["cases"]
    operations = load("operations")["results"]
    imports = load("imports")["results"]
    memory = load("memory")["results"]
    weights = load("load")["results"]
    original = load("load_original")["results"]
    giant = load("load_giant")["results"]
    pixels = load("preprocess")["results"]
    decode = load("decode")["results"]
    distances = load("mask_distances")["results"]

    full = encode["encoder ViT-L full, 24 layers"]
    peak = full["ours_share_of_matrix_peak"]
    first, again = weights["ratio_first_seconds"], weights["ratio_again_seconds"]
    reference_breaks = operations["reference_default_forward"]["breaks"]
    encoders = {name: case for name, case in encode.items() if name.startswith("encoder")}
    slowest = min(encoders, key=lambda name: encoders[name]["speedup_median"])
    slowest_ratio = encoders[slowest]["speedup_median"]
    apart = max(case["relative_difference"] for case in encode.values())
    forward = encode["forward with predictor, ViT-L width, 4 + 2 layers"]["speedup_median"]
    classify = encode["classification, ViT-L width, 4 + 4 layers"]["speedup_median"]
    breaks = operations["ours_default_forward"]["breaks"]
    quick = max(imports["import_vjepa2_beyond_python"], imports["help_beyond_python"])
    exact = min(order["speedup"]["vjepa2_exact"] for order in pixels["time"].values())
    fast = min(order["speedup"]["vjepa2_fast"] for order in pixels["time"].values())
    pixel_memory = max(
        sides["vjepa2_exact"] / sides["transformers"]
        for sides in (order["mebibytes_above_the_video"] for order in pixels["memory"].values())
    )
    near = min(case["within_one_level"] for case in pixels["fast_mode_against_exact"].values())
    equal, cases = pixels["equality"]["equal"], pixels["equality"]["cases"]
    share = decode["time"]["share_of_decoding_everything"]
    original_gb = original["file_mib"] * 2**20 / 1e9
    giant_peaks = [giant[side]["ratio_peak_read"] for side in ("folder", "folder_as_bfloat16")]
    nearest = min(case["speedup_median"] for case in distances.values())
    decode_mb = decode["memory"]["peak_mb_beyond_import"]

    return [
        (
            "encoder, ViT-L full, 16x256x256, vs. transformers sdpa",
            f"{full['speedup_median']:.2f}x faster, {peak:.0%} of the matrix peak",
            "1.05x",
            at_least(full["speedup_median"], 1.05),
            "encode",
        ),
        (
            f"encoder, slowest of {len(encoders)} sizes from tiny to ViT-L ({slowest[8:]})",
            f"{slowest_ratio:.2f}x",
            "1x",
            at_least(slowest_ratio, 1.0),
            "encode",
        ),
        ("default forward with predictor", f"{forward:.2f}x", "1x", at_least(forward, 1), "encode"),
        ("classification", f"{classify:.2f}x", "1x", at_least(classify, 1), "encode"),
        (
            "largest difference of outputs in these runs, relative",
            f"{apart:.1e}",
            "2e-5",
            at_most(apart, 2e-5),
            "encode",
        ),
        (
            "operations per encoder layer, counted",
            f"{operations['operations_ratio']:.2f}x",
            "0.35x",
            at_most(operations["operations_ratio"], 0.35),
            "operations",
        ),
        (
            "bytes written per encoder layer, counted",
            f"{operations['bytes_ratio']:.3f}x",
            "0.80x",
            at_most(operations["bytes_ratio"], 0.80),
            "operations",
        ),
        (
            f"graph breaks of the default forward (transformers: {reference_breaks})",
            f"{breaks}",
            "0",
            at_most(breaks, 0),
            "operations",
        ),
        (
            "`import vjepa2` and `vjepa2 --help`, beyond Python's start",
            f"{quick:.2f} s",
            "0.3 s",
            at_most(quick, 0.3),
            "imports",
        ),
        (
            "`from vjepa2 import VJEPA2Model` beyond torch, vs. transformers",
            f"{imports['ratio']:.2f}x the time",
            "0.2x",
            at_most(imports["ratio"], 0.2),
            "imports",
        ),
        (
            "preprocessing 64 frames of 1080p, bit-exact, slower of two layouts",
            f"{exact:.2f}x faster",
            "1x",
            at_least(exact, 1.0),
            "preprocess",
        ),
        (
            "the same, peak memory vs. transformers",
            f"{pixel_memory:.2f}x",
            "1x",
            at_most(pixel_memory, 1.0),
            "preprocess",
        ),
        (
            "optional fast preprocessing, slower of two layouts",
            f"{fast:.2f}x faster, {near:.1%} within one grey level",
            "1.8x, 99.9%",
            verdict(fast >= 1.8 and near >= 0.999),
            "preprocess",
        ),
        (
            "random sizes and types equal to the live processor, bit for bit",
            f"{equal} of {cases}",
            "all",
            verdict(equal == cases),
            "preprocess",
        ),
        (
            "64 frames spread over 10 minutes of 720p, vs. decoding everything",
            f"{share:.2f}x the time",
            "0.5x",
            at_most(share, 0.5),
            "decode",
        ),
        (
            "peak memory of that, beyond the import",
            f"{decode_mb:.0f} MB",
            "150 MB",
            at_most(decode_mb, 150),
            "decode",
        ),
        (
            "peak memory of the encoder beyond weights, 64 frames",
            f"{memory['ratio']:.2f}x",
            "0.9x",
            at_most(memory["ratio"], 0.9),
            "memory",
        ),
        (
            "loading a ViT-L folder, first / repeated, vs. transformers",
            f"{first:.2f}x / {again:.2f}x the time",
            "0.5x",
            at_most(max(first, again), 0.5),
            "load",
        ),
        (
            f"loading a {original_gb:.1f} GB original file, vs. torch.load + load_state_dict",
            f"{original['ratio_seconds']:.2f}x the time",
            "1x",
            at_most(original["ratio_seconds"], 1.0),
            "load_original",
        ),
        (
            "the same, peak memory when loaded / after every weight was read",
            f"{original['ratio_peak_mib']:.2f}x / {original['ratio_peak_mib_read']:.2f}x",
            "0.6x",
            at_most(max(original["ratio_peak_mib"], original["ratio_peak_mib_read"]), 0.6),
            "load_original",
        ),
        (
            "peak memory of loading and reading ViT-G / to bfloat16, vs. its weights on disk",
            f"{giant_peaks[0]:.2f}x / {giant_peaks[1]:.2f}x",
            "1.15x",
            at_most(max(giant_peaks), 1.15),
            "load_original",
        ),
        (
            "distances for the context loss, 4096 visible tokens, vs. a loop over them",
            f"{nearest:.0f}x faster",
            "50x",
            at_least(nearest, 50),
            "mask_distances",
        ),
        *pretraining_rows(),
        *probe_rows(),
        *anticipation_rows(),
        *robot_rows(),
        *world_rows(),
    ]


def pretraining_rows() -> list[tuple[str, str, str, str, str]]:
    """Claims on pretraining, as in `rows`."""
    alarms = load("alarms")["results"]
    recall, false_alarms = alarms["recall"], alarms["false_alarms"]
    kills = load("kill_resume")["results"]
    all_well = kills["every_resume_worked"] and kills["weights_equal"] and kills["log_equal"]
    memory = [case["forecast_over_measured"] for case in load("train_memory")["results"]["cases"]]
    commands = load("process_memory")["results"]["cases"].values()
    whole = [command["announced_over_measured"] for command in commands]
    step = load("train_step")["results"]
    case = step["case"]
    waits = [case for case in load("data_loading")["results"]["stall"] if case["workers"]]
    stall = max(case["stall_share"] for case in waits)
    size = f"{case['frames']}x{case['pixels']}x{case['pixels']}"
    return [
        (
            f"pretraining update, ViT-Tiny {size}, vs. the published one written plainly",
            f"{step['speedup_median_seconds']:.2f}x faster",
            "1.3x",
            at_least(step["speedup_median_seconds"], 1.3),
            "train_step",
        ),
        (
            f"memory of an update, forecast over measured, {len(memory)} sizes",
            f"{min(memory):.2f} to {max(memory):.2f}",
            "0.8 to 1.2",
            verdict(min(memory) >= 0.8 and max(memory) <= 1.2),
            "train_memory",
        ),
        (
            f"memory of a whole process on a CPU, announced over measured, {len(whole)} commands",
            f"{min(whole):.2f} to {max(whole):.2f}",
            "0.8 to 1.2",
            verdict(min(whole) >= 0.8 and max(whole) <= 1.2),
            "process_memory",
        ),
        (
            "share of updates that wait for decoding, 1 and 2 processes beside training",
            f"at most {stall:.1%}",
            "3%",
            at_most(stall, 0.03),
            "data_loading",
        ),
        (
            f"`kill -9` at {kills['kills']} random moments of a run, also while saving",
            "every resume worked, final weights equal" if all_well else "not all resumes equal",
            "20, all",
            verdict(bool(all_well) and kills["kills"] >= 20),
            "kill_resume",
        ),
        (
            f"alarm on {len(alarms['runs'])} tiny runs, half sabotaged: recall, false alarms",
            f"{recall:.0%}, {false_alarms:.0%}",
            "95%, 5%",
            verdict(recall >= 0.95 and false_alarms <= 0.05),
            "alarms",
        ),
    ]


def probe_rows() -> list[tuple[str, str, str, str, str]]:
    """Claims on probes, as in `rows`."""
    heads = load("probe_heads")["results"]
    shallow = min(case["speedup_over_ordinary"] for case in heads.values() if case["depth"] == 1)
    deep = min(case["speedup_over_ordinary"] for case in heads.values() if case["depth"] > 1)
    own = min(case["speedup_over_own"] for case in heads.values() if case["depth"] == 1)
    cache = load("probe_cache")["results"]
    least = f"slowest of {cache['repeats']}: {cache['speedup_min']:.1f}x"
    same = not cache["accuracy_difference"] and not cache["loss_difference"]
    outcome = "same result" if same else "other result"
    kills = load("probe_kills")["results"]
    all_well = kills["every_resume_worked"] and kills["results_equal"] and kills["model_equal"]
    return [
        (
            "20 probes at once vs. 20 runs of the head written plainly with torch, depth 1",
            f"{shallow:.1f}x faster",
            "5x",
            at_least(shallow, 5),
            "probe_heads",
        ),
        (
            "the same vs. 20 runs of this package with one head each (already quicker alone)",
            f"{own:.1f}x faster",
            "5x",
            at_least(own, 5),
            "probe_heads",
        ),
        (
            "plain runs, depth 4 (self-attention blocks share nothing)",
            f"{deep:.1f}x faster",
            "5x",
            at_least(deep, 5),
            "probe_heads",
        ),
        (
            f"features kept on the disk vs. encoded every epoch, {cache['epochs']} epochs",
            f"{cache['speedup_median']:.1f}x faster ({least}), {outcome}",
            "8x",
            verdict(cache["speedup_median"] >= 8 and same),
            "probe_cache",
        ),
        (
            f"`kill -9` at {kills['kills']} random moments of a probe run",
            "same final numbers and model" if all_well else "not the same numbers",
            "10, all",
            verdict(bool(all_well) and kills["kills"] >= 10),
            "probe_kills",
        ),
    ]


def anticipation_rows() -> list[tuple[str, str, str, str, str]]:
    """Claims on anticipation one second ahead, whose best possible score is known."""
    cases = load("anticipation")["results"]["rows"]["one_second"]
    by_head = {case["head"]: case for case in cases if case["name"] == "both"}
    least = min(case["way"] for case in by_head.values())
    above = [case for case in cases if case["above_the_optimum"]]
    shares = ", ".join(f"{head} {case['way']:.0%}" for head, case in by_head.items())
    return [
        (
            "generated events one second ahead: way from label prior to Bayes optimum",
            f"{shares}; never above it",
            "80%",
            verdict(least >= 0.8 and not above),
            "anticipation",
        )
    ]


def world_rows() -> list[tuple[str, str, str, str, str]]:
    """What `world-tiny` knows, on the long-range questions."""
    results = json.loads((shipped_folder("world-tiny") / "metrics.json").read_text())["results"]
    rows = []
    for task in LONG_RANGE:
        rivals = [results.get(task, {}).get(name, {}).get("behind") for name in RIVALS]
        if not all(rivals):
            continue
        points = " / ".join(f"{100 * rival['mean']:+.1f}" for rival in rivals)
        rows.append(
            (
                f'question "{task}", encoder learned without labels minus untrained / pixels',
                f"{points} points",
                "outside 95 %",
                verdict(all(rival["low"] > 0 for rival in rivals)),
                "evidence",
            )
        )
    return rows


def render() -> str:
    """The table as Markdown, with the machine it was measured on."""
    machine = load("encode")["machine"]
    lines = ["| measure | result | needed | | script |", "|---|---|---|---|---|"]
    for measure, result, needed, met, script in rows():
        lines.append(f"| {measure} | {result} | {needed} | {met} | `benchmarks/{script}.py` |")
    lines.append("")
    lines.append(
        f"{load('encode')['date']}, {machine['cpu']}, {machine['cores']} cores "
        f"({machine['cpu_capability']}), float32, torch {machine['torch']}, transformers "
        f"{machine['transformers']}. Result files: [benchmarks/results](benchmarks/results)."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--write", action="store_true", help="put the table into README.md")
    write = arguments.parse_args().write
    table = render()
    print(table)
    if write:
        readme = ROOT / "README.md"
        text = readme.read_text()
        start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
        readme.write_text(f"{text[:start]}\n{table}{text[stop:]}")


if __name__ == "__main__":
    main()
