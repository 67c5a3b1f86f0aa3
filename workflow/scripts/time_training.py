"""Time training and predictions of several configurations, one at a time, in interleaved repeats.

    python workflow/scripts/time_training.py --data results/data/digits --out /tmp/timing.csv \\
        --model convnet resnet --norm none batch --batch_size 20 --precision auto

Writes timing.csv, one row per configuration and repeat: seconds of a training step
(`step_seconds`), of the short last batch's (`last_step_seconds`) and of an epoch (its full batches
and the last one), images per second, seconds of a prediction for 1 and for 128 images (evaluation
mode), and the peak memory of training. Joules of a step and of an epoch (`step_joules`,
`epoch_joules`) are there where an NVIDIA GPU (NVML) or the processor (RAPL) counts them;
`energy_source` says what was counted, or why not. A configuration without times has one row, which
says why. The JSON file beside it holds device, precision, versions, batch sizes and calls of each.

Nothing else should compute on the machine meanwhile: Snakemake gives this command all its cores,
and all of a GPU.

Times rest on random initial weights and a few images: they depend neither on seed nor on epochs.
"""

import argparse
import itertools
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from normres import catalog
from normres.command_line import make_parser, require_positive
from normres.errors import InputError, run_command
from normres.failures import add_begun, note_failure, noted_attempt
from normres.files import read_json, replacing, write_json
from normres.leases import lease_for_timing
from normres.options import applies, option_schemas
from normres.plans import add_options, make_plan
from normres.tables import write_table
from normres.timed import read_timed
from normres.timing import measure, timing_rows
from normres.wording import duration

SAY_SECONDS = 15  # between two lines about how far it is


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    with noted_attempt(arguments.begun, arguments.attempt, arguments.attempts):
        time_all(arguments)


def time_all(arguments: argparse.Namespace) -> None:
    """Time what is asked for, and write it."""
    listed = read_timed(arguments.timed) if arguments.timed else by_hand(arguments)
    timed = listed["timed"]
    dataset = read_json(arguments.data / "dataset.json")
    lease_for_timing(arguments.device, arguments.gpus, arguments.runs_per_gpu)
    started = datetime.now(UTC)
    progress = Progress(arguments.progress)
    results = measure(
        [entry["specification"] for entry in timed],
        arguments.data,
        arguments.device,
        arguments.gpus,
        arguments.repeats or listed["repeats"],
        arguments.cores,
        progress.after_turn,
    )
    untimed = [result["reason"] for result in results if result["reason"]]
    for entry, result in zip(timed, results, strict=True):
        if result["reason"]:
            name = "/".join([entry["model"], entry["norm"], *map(str, entry["axes"].values())])
            print(f"not timed: {name}: {result['reason']}")
    again = [result["reason"] for result in results if result["again"]]
    if again and arguments.failures:
        note_failure(arguments.failures, again[0])
    details = arguments.details or arguments.out.with_suffix(".json")
    write_results(arguments.out, details, listed, results, started, dataset["checksum"])
    took = duration((datetime.now(UTC) - started).total_seconds())
    print(f"{arguments.out}: {len(timed) - len(untimed)} of {len(timed)} timed, in {took}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder made by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True, help="csv to write")
    parser.add_argument(
        "--details", type=Path, help="JSON to write: what the times rest on [--out with .json]"
    )
    parser.add_argument(
        "--repeats", type=int, help="repeats that are counted [the list's; without a list 10]"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="as for train.py"
    )
    parser.add_argument("--gpus", type=int, help="number of GPUs that a scheduler has assigned")
    parser.add_argument(
        "--runs-per-gpu", type=int, default=1, help="runs that may share a GPU: all must have left"
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=os.cpu_count(),
        help="CPU cores to use while nothing is timed, to warm up [all]",
    )
    parser.add_argument("--failures", type=Path, help="file to note in that not all were timed")
    add_begun(parser)
    parser.add_argument("--progress", type=Path, help="small JSON file kept up to date")
    what = parser.add_argument_group("what to time: a list, or each model with each norm")
    what.add_argument("--timed", type=Path, help="a study's list, as Snakemake writes it")
    what.add_argument("--model", nargs="+", choices=catalog.names("networks"))
    what.add_argument("--norm", nargs="+", choices=catalog.names("norms"), help="[none]")
    add_options(parser, "training options, for all of them")
    arguments = parser.parse_args(argv)
    if (arguments.timed is None) == (arguments.model is None):
        parser.error("give either --model or --timed")
    chosen = [name for name in ("norm", *option_schemas()) if getattr(arguments, name) is not None]
    if arguments.timed and chosen:
        parser.error(f"--{chosen[0]} goes with --model; what --timed lists has its own")
    require_positive(parser, arguments, "repeats", "cores", "runs_per_gpu")
    return arguments


def by_hand(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `read_timed` gives, from --model, --norm and the options; none of these is an axis."""
    given = {name: getattr(arguments, name) for name in option_schemas()}
    given = {name: value for name, value in given.items() if value is not None}
    optimizer = given.get("optimizer", option_schemas()["optimizer"]["default"])
    timed, read = [], set()
    for model, norm in itertools.product(arguments.model, arguments.norm or ["none"]):
        taken = {k: v for k, v in given.items() if applies(k, model, norm, optimizer)}
        read |= set(taken)
        plan = make_plan({"model": model, "norm": norm, "seed": 0, "epochs": 1, **taken})
        entry = {"model": model, "norm": norm, "axes": {}, "options": taken}
        timed.append(entry | {"specification": plan["specification"]})
    if unread := sorted(set(given) - read):
        raise InputError(f"--{unread[0]}: applies to none of these models, norms and optimisers")
    return {"axes": {}, "repeats": 10, "timed": timed}


def write_results(
    table: Path,
    details: Path,
    listed: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    started: datetime,
    checksum: str,
) -> None:
    """Write timing.csv, and what the times of each configuration rest on.

    `listed` is as timed.read_timed gives it, `results` as timing.measure does, and `checksum` that
    of the data.
    """
    configurations = [
        {key: entry[key] for key in ("model", "norm", "axes", "specification")}
        | {"reason": result["reason"], **(result["facts"] or {})}
        for entry, result in zip(listed["timed"], results, strict=True)
    ]
    times = {"started": started, "finished": datetime.now(UTC)}
    times = {key: value.isoformat(timespec="seconds") for key, value in times.items()}
    write_json(details, {**times, "data": checksum, "configurations": configurations})
    write_table(
        pd.DataFrame(timing_rows(listed["axes"], listed["timed"], results), dtype=object), table
    )


class Progress:
    """Says how far the timing is: in the log, and in a small file for the display.

    How long it still takes is told from the first round of repeats on. A warm-up (imports,
    compilation) takes many times as long as a repeat, and to prepare a configuration less; both
    count as turns. What the warm-ups of further groups take beyond a turn is not foreseen.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.giver = threading.get_ident()  # of turns; warm-ups end side by side, in other threads
        self.group = 0  # configurations that were warmed up together
        self.turns = 0  # that these were given since: in each round one each, to prepare at first
        self.round = (0.0, 0.0)  # when the last round ended, and which fraction was done
        self.seconds, self.gained = 0.0, 0.0  # of all rounds of repeats, and the fraction they were
        self.said = time.monotonic()

    def after_turn(self, fraction: float) -> None:
        """Called after each turn; `fraction` of all is done."""
        now = time.monotonic()
        left = self._seconds_left(now, fraction)
        if fraction < 1 and now - self.said >= SAY_SECONDS:
            about = "" if left is None else f", about {duration(left)} left"
            print(f"{fraction:.0%} done{about}", flush=True)
            self.said = now
        if self.path is not None:  # no timing should end because a display cannot be told
            with suppress(OSError), replacing(self.path, durable=False) as temporary:
                temporary.write_text(json.dumps({"fraction": fraction, "seconds_left": left}))

    def _seconds_left(self, now: float, fraction: float) -> float | None:
        """Count a turn that has ended `now`; seconds left, or None where it cannot be told yet.

        Told from whole rounds, since configurations may take very different times.
        """
        if threading.get_ident() != self.giver:  # a warm-up
            if self.turns:
                self.group = self.turns = 0  # of another group
            self.group += 1
        else:
            self.turns += 1
            rounds, rest = divmod(self.turns, self.group)
            if rest == 0:
                if rounds > 1:
                    self.seconds += now - self.round[0]
                    self.gained += fraction - self.round[1]
                self.round = (now, fraction)
        return self.seconds / self.gained * (1 - fraction) if self.gained else None


if __name__ == "__main__":
    run_command(main)
