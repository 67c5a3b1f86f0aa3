"""Say how a study's runs ended; exit with 1 where one failed, naming it, why, and its log.

    python workflow/scripts/check_runs.py --runs results/quickstart/runs.csv \\
        --timing results/quickstart/timing.csv --report results/quickstart/report.html \\
        --out results/quickstart/verdict.txt

A diverged run is a result, and so is a norm that cannot be computed on one shape of layer. The
verdict is only written when no run has failed, all configurations were timed, and some norm layer
where that was asked for.
"""

import sys
from pathlib import Path

from normres.command_line import make_parser
from normres.errors import run_command
from normres.files import read_rows, write_text


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="the study's runs.csv")
    parser.add_argument("--timing", type=Path, required=True, help="the study's timing.csv")
    parser.add_argument(
        "--norm-cost", type=Path, nargs="*", default=[], help="its norm_cost.csv, if it has one"
    )
    parser.add_argument("--report", type=Path, required=True, help="the study's report.html")
    parser.add_argument("--out", type=Path, required=True, help="the verdict to write")
    arguments = parser.parse_args(argv)
    runs = read_rows(arguments.runs, ("run", "status", "reason"))
    ended = {
        status: [run for run in runs if run["status"] == status]
        for status in ("ok", "diverged", "failed")
    }
    words = ", ".join(f"{len(chosen)} {status}" for status, chosen in ended.items() if chosen)
    logs = arguments.runs.parent / "logs"
    for run in ended["failed"]:
        print(
            f"failed: {run['run']}: {run['reason']} (log: {logs / run['run']}.log)", file=sys.stderr
        )
    timed = read_rows(arguments.timing, ("model", "norm", "repeat", "reason"))
    untimed = [row for row in timed if not row["repeat"]]
    for row in untimed:
        log = logs / "time_training.log"
        print(f"not timed: {timed_name(row)}: {row['reason']} (log: {log})", file=sys.stderr)
    costless = [costs[0] for costs in map(read_rows, arguments.norm_cost) if not any_timed(costs)]
    for row in costless:
        log = logs / "time_norms.log"
        print(f"norm layers not timed: {row['reason']} (log: {log})", file=sys.stderr)
    if ended["failed"] or untimed or costless:
        said = f"{words} of {len(runs)} runs"
        said += f", {len(untimed)} configurations not timed" if untimed else ""
        said += ", norm layers not timed" if costless else ""
        print(f"{said}; the next call tries again what may succeed then", file=sys.stderr)
        return 1
    write_text(arguments.out, f"{words} of {len(runs)} runs; report: {arguments.report}\n")
    return 0


def any_timed(costs: list[dict[str, str]]) -> bool:
    """Whether any of the rows of norm_cost.csv has a time."""
    return any(int(row["n"]) for row in costs)


def timed_name(row: dict[str, str]) -> str:
    """A row of timing.csv by what tells it from others: resnet/batch/batch_size=128/cpu_threads=1.

    The study's axes, batch size and threads are the columns between `norm` and `repeat`.
    """
    options = list(row)[list(row).index("norm") + 1 : list(row).index("repeat")]
    return "/".join([row["model"], row["norm"], *(f"{key}={row[key]}" for key in options)])


if __name__ == "__main__":
    run_command(main)
