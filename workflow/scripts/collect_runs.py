"""Collect the runs of a study into two tables, and refuse results that are not what it asks for.

    python workflow/scripts/collect_runs.py --study results/quickstart/study.json \\
        --dataset results/data/digits/dataset.json \\
        --out-curves results/quickstart/curves.csv --out-runs results/quickstart/runs.csv

Reads runs/<run>/run.json and history.csv beside study.json. curves.csv has one row per run and
epoch, runs.csv one row per run. A run that failed or has left nothing is a row of runs.csv with its
reason.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normres.command_line import make_parser
from normres.errors import InputError, run_command
from normres.files import file_checksum, read_json, record_checksum, seal, set_aside, write_csv
from normres.history import COLUMNS
from normres.tables import axis_text, read_study

OUTCOME = ["best_epoch", "best_test_accuracy", "best_chosen_on"]
ENVIRONMENT = ["device_name", "precision", "cpu_threads", "git_commit"]

Row = dict[str, Any]


def collect(study: Row, folder: Path, data: str) -> tuple[list[Row], list[Row]]:
    """Read all runs of `study` from `folder`/runs; return the rows of curves.csv and of runs.csv.

    `data` is the checksum of the study's prepared data.

    Raises InputError where results were made under another specification, fingerprint or data
    than the study asks for, where a file was edited, and where the files of a run contradict each
    other. The records of these runs are set aside, so that Snakemake makes the runs anew; what is
    in the store is linked.
    """
    curves, runs, unusable = [], [], []
    for expected in study["runs"]:
        place = folder / "runs" / expected["run"]
        key = {"model": expected["model"], "norm": expected["norm"]}
        key |= {axis: axis_text(value) for axis, value in expected["axes"].items()}
        key |= {"seed": expected["seed"]}
        if not (place / "run.json").exists():
            reason = f"no results: {place / 'run.json'} does not exist"
            runs.append({"run": expected["run"], **key, "status": "failed", "reason": reason})
            continue
        try:
            found = read_record(place, expected, data)
            history = read_history(place, found)
        except InputError as error:
            unusable.append((place, str(error)))
            continue
        curves += [{**key, "status": found["status"], **epoch} for epoch in history]
        runs.append({"run": expected["run"], **key, **outcome(found, history)})
    if unusable:
        for place, _ in unusable:
            set_aside(place / "run.json")
        raise InputError(unusable_message([why for _, why in unusable], len(study["runs"])))
    return curves, runs


def read_record(place: Path, expected: Row, data: str) -> Row:
    """Read a run's run.json, checked against the run that the study expects and its data."""
    path = place / "run.json"
    found = read_json(path)
    if not isinstance(found, dict) or found.get("status") not in ("ok", "diverged", "failed"):
        raise InputError(f"{path}: not a run's record")
    if difference := "; ".join(differences(expected, found, data)):
        raise InputError(f"{path}: stale results: {difference}")
    if "checksum" in found and found["checksum"] != record_checksum(found):
        raise InputError(f"{path}: edited since the run wrote it")
    return found


def differences(expected: Row, found: Row, checksum: str) -> Iterator[str]:
    """Say in what a run's specification, fingerprint and data differ from those expected."""
    wanted, made = (flatten(entry.get("specification") or {}) for entry in (expected, found))
    for key in sorted(wanted.keys() | made.keys()):
        if key not in made or key not in wanted or wanted[key] != made[key]:
            old, new = (
                json.dumps(values[key]) if key in values else "not set" for values in (made, wanted)
            )
            yield f"{key} was {old}, the study asks {new}"
    if expected["fingerprint"] != found.get("fingerprint"):
        yield "fingerprint: the code that can change its numbers was another"
    data = found.get("data")  # a failed run has none
    if data and data["checksum"] != checksum:
        yield f"data.checksum was {data['checksum']}, that of the study's data is {checksum}"


def flatten(values: Row, prefix: str = "") -> Row:
    """Flatten nested maps to dotted keys, so that a difference is named where it is."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def unusable_message(reasons: list[str], total: int) -> str:
    """One line that says what is wrong with the first run, how many there are and what to do."""
    others = f"; {len(reasons)} of {total} runs are stale" if len(reasons) > 1 else ""
    return f"{reasons[0]}{others}. Set aside as run.json.aside; run snakemake again to redo"


def read_history(place: Path, found: Row) -> list[Row]:
    """Read a run's history.csv, checked against its run.json; a failed run may have none."""
    path, failed = place / "history.csv", found["status"] == "failed"
    if not path.exists():
        if failed:
            return []
        raise InputError(f"{path}: no such file, but run.json says {found['status']}")
    written = found.get("files", {}).get(path.name)
    if written and file_checksum(path) != written:
        raise InputError(f"{path}: edited since the run wrote it")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
            raise InputError(f"{path}: no column {', '.join(lacking)}")
        history = [{column: row[column] for column in COLUMNS} for row in reader]
    last = history[-1]["epoch"] if history else "none"
    if not failed and last != str(found["final"]["epoch"]):
        final = found["final"]["epoch"]
        raise InputError(f"{path}: ends at epoch {last}, but run.json at {final}")
    return history


def outcome(found: Row, history: list[Row]) -> Row:
    """What runs.csv says of a run: how it ended, its last epoch, where and on what it was trained.

    The numbers of a failed run stay empty.
    """
    environment = found.get("environment") or {}
    row = {"status": found["status"], "reason": found.get("reason")}
    row |= {column: environment.get(column) for column in ENVIRONMENT}
    row["data_checksum"] = (found.get("data") or {}).get("checksum")
    if found["status"] == "failed":
        return row
    best, last = found.get("best") or {}, history[-1]
    row |= last | {f"best_{key}": best.get(key) for key in ("epoch", "test_accuracy", "chosen_on")}
    return row


def main(argv: list[str] | None = None) -> int | None:
    parser = make_parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json, beside runs/")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset.json of its data")
    parser.add_argument(
        "--out-curves", type=Path, required=True, help="csv: one row per run and epoch"
    )
    parser.add_argument("--out-runs", type=Path, required=True, help="csv: one row per run")
    arguments = parser.parse_args(argv)
    study = read_study(arguments.study)
    data = read_json(arguments.dataset)
    if not isinstance(data, dict) or "checksum" not in data:
        raise InputError(f"{arguments.dataset}: not the description of a data set")
    curves, runs = collect(study, arguments.study.parent, data["checksum"])
    key = ["model", "norm", *study["axes"], "seed", "status"]
    write_csv(arguments.out_curves, [*key, *COLUMNS], curves)
    columns = ["run", *key, "reason", *COLUMNS, *OUTCOME, *ENVIRONMENT, "data_checksum"]
    write_csv(arguments.out_runs, columns, runs)
    for path in (arguments.out_curves, arguments.out_runs):
        seal(path)
    complete = sum(run["status"] == "ok" for run in runs)
    print(f"{arguments.out_curves}, {arguments.out_runs}: {complete} of {len(runs)} runs complete")


if __name__ == "__main__":
    run_command(main)
