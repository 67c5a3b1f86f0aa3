"""Make norm_cost.csv: what each norm costs in time and memory, by layer shape and memory layout.

    python workflow/scripts/time_norms.py --timed results/norm-cost/.time_norms-*.json \\
        --dataset results/data/digits/dataset.json --out results/norm-cost/norm_cost.csv

Each norm of the study on the shape of each norm layer of its networks, at its batch sizes, in both
layouts: seconds of a forward pass, and of forward and backward, in training mode, and the bytes
kept for the backward pass. Medians over interleaved repeats, with intervals that hold for any
distribution. Layers stand alone here: within a compiled network they may be fused with others.
Nothing else should compute on the machine meanwhile; Snakemake sees to that.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from normres import catalog
from normres.analyses import ONE_WAY
from normres.command_line import make_parser, require_positive
from normres.devices import choose_computation, choose_device
from normres.environment import describe
from normres.errors import InputError, run_command
from normres.failures import add_begun, note_failure, noted_attempt
from normres.files import read_json
from normres.leases import lease_for_timing
from normres.models import norm_shapes
from normres.norm_timing import FORWARD, LAYOUTS, TRAINING, Case, measure_cases
from normres.statistics import median_estimates
from normres.tables import write_table
from normres.timed import read_timed

KEY = ["norm", "channels", "side", "batch_size", "layout"]
STATISTICS = ("median", "low", "high")


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    with noted_attempt(arguments.begun, arguments.attempt, arguments.attempts):
        return time_all(arguments)


def time_all(arguments: argparse.Namespace) -> int:
    """Time what is listed, and write it; returns the exit code."""
    listed = read_timed(arguments.timed)
    side, channels = read_shape(arguments.dataset)
    check_comparable(listed["timed"], arguments.timed)
    cases, layers = list_cases(listed["timed"], channels, side)
    lease_for_timing(arguments.device, arguments.gpus, arguments.runs_per_gpu)
    specification = listed["timed"][0]["specification"]
    computation = choose_computation(specification, choose_device(arguments.device, arguments.gpus))
    rows = measure_cases(
        cases,
        computation,
        arguments.repeats or listed["repeats"],
        lambda fraction: print(f"{fraction:.0%} done", flush=True),
    )
    timed = sum(row.get("repeat") == 1 for row in rows)
    if not timed:
        print(f"no case could be timed: {rows[0]['reason']}")
        return 1
    again = [row["reason"] for row in rows if row.get("again")]
    if again and arguments.failures:
        note_failure(arguments.failures, again[0])
    table = cost_table(rows, layers, listed["axes"], describe(computation))
    write_table(table, arguments.out)
    print(f"{arguments.out}: {timed} of {len(cases)} cases")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--timed", type=Path, required=True, help="what of a study is timed")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset.json of its data")
    parser.add_argument("--out", type=Path, required=True, help="csv to write")
    parser.add_argument("--failures", type=Path, help="file to note in that not all were timed")
    add_begun(parser)
    parser.add_argument("--repeats", type=int, help="rounds that are counted [the list's]")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="as for train.py"
    )
    parser.add_argument("--gpus", type=int, help="GPUs that a scheduler has promised")
    parser.add_argument("--runs-per-gpu", type=int, default=1, help="runs that may share a GPU")
    arguments = parser.parse_args(argv)
    require_positive(parser, arguments, "repeats", "runs_per_gpu")
    return arguments


def read_shape(path: Path) -> tuple[int, int]:
    """Side and channels of the images that a dataset.json describes; raises InputError."""
    try:
        side, _, channels = read_json(path)["shape"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: needs `shape` [height, width, channels]") from None
    return side, channels


def check_comparable(timed: list[dict[str, Any]], path: Path) -> None:
    """Raise InputError where there is no norm to time, or no one way to compute that all share."""
    if all(entry["norm"] == "none" for entry in timed):
        raise InputError(f"{path}: the study has no norm whose cost could be measured")
    for option in ONE_WAY:
        values = {entry["specification"][option] for entry in timed}
        if len(values) > 1:
            among = ", ".join(map(str, sorted(values)))
            raise InputError(f"{path}: norms are timed with one {option}; the study has {among}")


def list_cases(
    timed: list[dict[str, Any]], channels: int, side: int
) -> tuple[list[Case], dict[Case, str]]:
    """The distinct cases of a study, and in words which networks have such layers, and how many."""
    found: dict[Case, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for entry in timed:
        specification, norm = entry["specification"], entry["norm"]
        if norm == "none":
            continue
        options = {name: specification[name] for name in catalog.options("norms", norm)}
        for (width, pixels), count in norm_shapes(specification, channels, side).items():
            for layout in LAYOUTS:
                batch_size = specification["batch_size"]
                case = Case(norm, tuple(options.items()), batch_size, width, pixels, layout)
                found[case][entry["model"]].add(count)  # several where depth is an axis
    said = {
        case: ", ".join(
            f"{' or '.join(map(str, sorted(counts)))} in {model}"
            for model, counts in sorted(models.items())
        )
        for case, models in found.items()
    }
    return list(found), said


def cost_table(
    rows: list[dict[str, Any]],
    layers: dict[Case, str],
    axes: dict[str, Any],
    environment: dict[str, Any],
) -> pd.DataFrame:
    """The rows of norm_cost.csv: one a case, with medians over its repeats.

    `rows` and `layers` are as measure_cases and list_cases give them, `environment` as
    environment.describe does.
    """
    found: dict[str, set[Any]] = defaultdict(set)
    for row in rows:
        for option, value in row["options"].items():
            found[option].add(value)
    # Also what only some networks have otherwise, by `overrides`: these are other norms.
    others = [option for option, values in found.items() if len(values) > 1]
    options = [*(axis for axis in axes if axis in found), *others]
    by = list(dict.fromkeys([*KEY, *options]))
    frame = pd.DataFrame([{**row["options"], **row} for row in rows])
    for column in ("repeat", "reason", "kept_bytes", FORWARD, TRAINING):
        if column not in frame:
            frame[column] = None
    grouped = frame.groupby(by, sort=False, dropna=False)
    table = grouped.agg(n=("repeat", "count"), kept_bytes=("kept_bytes", "first"))
    for name in (FORWARD, TRAINING):
        estimates = median_estimates(frame.astype({name: float}), by, name)
        for statistic in STATISTICS:
            table[f"{name}_{statistic}"] = estimates[statistic]
    table["reason"] = grouped["reason"].first()
    cells = (
        {**vars(case), **dict(case.options), "layers": words} for case, words in layers.items()
    )
    named = pd.DataFrame(cells)[[*by, "layers"]].drop_duplicates(by)
    table = named.merge(table.reset_index(), on=by)
    return table.assign(
        **{name: environment.get(name) for name in ("device_name", "precision", "cpu_threads")}
    )


def untimed_table(listed: dict[str, Any], channels: int, side: int, reason: str) -> pd.DataFrame:
    """The norm_cost.csv of a study of which nothing was timed: every case with the reason.

    `listed` is as timed.read_timed gives it.
    """
    cases, layers = list_cases(listed["timed"], channels, side)
    rows = [{**vars(case), "options": dict(case.options), "reason": reason} for case in cases]
    return cost_table(rows, layers, listed["axes"], {})


if __name__ == "__main__":
    run_command(main)
