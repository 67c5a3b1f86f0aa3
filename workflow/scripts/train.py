"""Train one network with one norm from one seed, and record every epoch.

    python workflow/scripts/train.py --data results/data/digits --out /tmp/run \\
        --model resnet --norm batch --seed 0 --epochs 5 --learning_rate 3e-4

Writes history.csv (a row an epoch), run.json (specification, result, environment), model.pt
(weights) and test_logits.npy (float16) to --out. With --store, a run that was trained before is
linked from there, and an interrupted or shorter one goes on from its last state. Options that are
not given have the exercise's values; names, types and defaults are those of config.yaml.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from normres import catalog, fingerprint
from normres.devices import choose_computation
from normres.environment import EXACT, describe
from normres.errors import InputError, run_command
from normres.files import replacing, write_json
from normres.history import best_epoch, write_history
from normres.images import Images, open_images
from normres.options import (
    check_groups,
    check_last_batch,
    option_schemas,
    resolve,
    schema,
)
from normres.store import StoredRun, link_outputs, run_key, save_tensors
from normres.training import TrainingRun
from normres.validation import check, check_name, coerce

# The columns of the history that a person follows in the log.
LOGGED = (
    "epoch",
    "train_loss",
    "train_eval_accuracy",
    "test_loss",
    "test_accuracy",
    "train_seconds",
    "images_per_second",
)


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    plan = read_plan(arguments)
    try:
        train(plan, arguments)
    except Exception as error:
        if not arguments.record_failure:
            raise
        # One line for the person, the traceback for the log: the other runs of the study go on.
        reason = " ".join(str(error).split())
        if not isinstance(error, InputError):
            traceback.print_exc()
            reason = f"{type(error).__name__}: {reason}"
        print(f"failed: {reason}", file=sys.stderr)
        record_failure(plan, reason, arguments)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    summary, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run's four files")
    parser.add_argument("--model", help=f"one of {', '.join(catalog.names('networks'))}")
    parser.add_argument("--norm", help=f"one of {', '.join(catalog.names('norms'))}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="passes over the training images")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--store", type=Path, help="where runs are kept; none: nothing is kept")
    parser.add_argument(
        "--save-every", type=float, default=30, help="seconds between two savings of the state"
    )
    parser.add_argument(
        "--state-budget-gb", type=float, default=3, help="disk space for states of finished runs"
    )
    parser.add_argument(
        "--progress", type=Path, help="small JSON file kept up to date while training"
    )
    parser.add_argument(
        "--run",
        help='instead of --model and options: {"specification": {}, "fingerprint": ""} as JSON',
    )
    parser.add_argument(
        "--record-failure",
        type=Path,
        metavar="FILE",
        help="when training fails: add a line to FILE, write status failed into --out, exit 0",
    )
    options = parser.add_argument_group("training options")
    for name, option in option_schemas().items():
        choices = f" ({', '.join(map(str, option['enum']))})" if "enum" in option else ""
        text = f"{option['description']}{choices} [{option['default']}]".replace("%", "%%")
        options.add_argument(f"--{name}", metavar="VALUE", help=text)
    return parser.parse_args(argv)


def read_plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """The run's specification and code fingerprint, from --run or from the single options."""
    if arguments.run:
        plan = parse_plan(arguments.run)
        now = fingerprint.of_run(plan["specification"]["model"], plan["specification"]["norm"])
        if now != plan["fingerprint"]:
            raise InputError(
                "the code of this run has changed since the study was started; start it again"
            )
        return plan
    for name in ("model", "norm", "epochs"):
        if getattr(arguments, name) is None:
            raise InputError(f"--{name} is missing (see --help)")
    check_name(arguments.model, catalog.names("networks"), "--model")
    check_name(arguments.norm, catalog.names("norms"), "--norm")
    given = {}
    for name, option in option_schemas().items():
        if getattr(arguments, name) is not None:
            given[name] = coerce(getattr(arguments, name), option)
            check(given[name], option, f"--{name}")
    study = schema()["$defs"]["study"]["properties"]
    check(arguments.epochs, study["epochs"], "--epochs")
    check(arguments.seed, study["seeds"]["items"], "--seed")
    specification = resolve(
        arguments.model, arguments.norm, arguments.seed, arguments.epochs, given
    )
    check_groups(specification)
    unread = sorted(set(given) - set(specification))
    if unread:
        raise InputError(
            f"--{unread[0]}: does not apply to {arguments.model} with {arguments.norm}"
        )
    return {
        "specification": specification,
        "fingerprint": fingerprint.of_run(arguments.model, arguments.norm),
    }


def parse_plan(text: str) -> dict[str, Any]:
    """The plan that --run gives as JSON; raises InputError where it is not one."""
    try:
        plan = json.loads(text)
        plan["specification"]["model"], plan["specification"]["norm"], plan["fingerprint"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"--run: not a run as JSON ({type(error).__name__}: {error})") from None
    return plan


def train(plan: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Train, or link what is trained already, so that --out holds the run's four files."""
    specification = plan["specification"]
    images = open_images(arguments.data)
    key = run_key(specification, plan["fingerprint"], images.checksum)
    with ExitStack() as stack:
        store = arguments.store or stack.enter_context(tempfile.TemporaryDirectory())
        stored = StoredRun(store, key)
        with stored.locked(lambda: print(f"waiting: another process trains run {key}", flush=True)):
            finished = stored.finished(specification["epochs"])
            if finished:
                print(f"already trained: linked from {finished}")
            else:
                with stored.finishing(specification["epochs"]) as folder:
                    train_into(folder, plan, images, stored, arguments)
                finished = stored.finished(specification["epochs"])
            link_outputs(finished, arguments.out)
        stored.prune_states(arguments.state_budget_gb)
    print(f"wrote {arguments.out}")


def train_into(
    folder: Path,
    plan: Mapping[str, Any],
    images: Images,
    stored: StoredRun,
    arguments: argparse.Namespace,
) -> None:
    """Train from the last state, if there is one, and write the outputs to `folder`."""
    specification = plan["specification"]
    epochs = specification["epochs"]
    started = datetime.now(UTC)
    computation = choose_computation(specification, arguments.device)
    if specification["compile"] and not computation.compiled:
        print("not compiled: there is no C++ compiler (or, on CUDA, no Triton)")
    run = TrainingRun(specification, images, computation)
    check_last_batch(len(run.sets["train"]), specification)
    environments, kept = resume(run, stored, epochs)
    if run.epoch < epochs:
        environments.append(describe(computation))

    report = ProgressFile(arguments.progress, specification)
    saved = time.monotonic()
    print(" ".join(f"{column:>19}" for column in LOGGED))
    for row in run.train(lambda done, total: report.batch(run, done, total)):
        print(" ".join(f"{_cell(row[column]):>19}" for column in LOGGED), flush=True)
        report.epoch(run)
        due = run.epoch == epochs or time.monotonic() - saved >= arguments.save_every
        if due and run.epoch > kept and not run.diverged:
            stored.save_state({"run": run.state_dict(), "environments": environments})
            saved = time.monotonic()
    write_outputs(folder, plan, run, environments, started)


def resume(run: TrainingRun, stored: StoredRun, epochs: int) -> tuple[list[dict[str, Any]], int]:
    """Load the stored state where it is not beyond `epochs`.

    Returns the environments of the attempts so far and the epoch of the stored state (-1 for none),
    which a state of an earlier epoch must not replace.
    """
    state = stored.load_state()
    if state is None:
        return [], -1
    kept = state["run"]["history"][-1]["epoch"]
    if kept > epochs:
        return [], kept
    run.load_state_dict(state["run"])
    print(f"goes on after epoch {run.epoch}")
    return state["environments"], kept


def write_outputs(
    folder: Path,
    plan: Mapping[str, Any],
    run: TrainingRun,
    environments: list[dict[str, Any]],
    started: datetime,
) -> None:
    """Write the four files of a run that has ended, diverged or not."""
    write_history(run.history, folder / "history.csv")
    save_tensors(run.weights(), folder / "model.pt")
    with replacing(folder / "test_logits.npy") as temporary:
        np.save(temporary, run.test_logits())
    last = environments[-1]
    write_json(
        folder / "run.json",
        {
            "status": "diverged" if run.diverged else "ok",
            "reason": f"loss not finite in epoch {run.epoch}" if run.diverged else None,
            "specification": plan["specification"],
            "fingerprint": plan["fingerprint"],
            "data": {"name": run.images.name, "checksum": run.images.checksum},
            "final": _finite(run.history[-1]),
            "best": best_epoch(run.history),
            "environment": last,
            "attempts": len(environments),
            "exact": all(e[key] == last[key] for e in environments for key in EXACT),
            "train_seconds": run.history[-1]["train_seconds"],
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def record_failure(plan: Mapping[str, Any], reason: str, arguments: argparse.Namespace) -> None:
    """Write the four files of a run without a result: its status, and nothing that was measured."""
    out, failures = arguments.out, arguments.record_failure
    failures.parent.mkdir(parents=True, exist_ok=True)
    with failures.open("a", encoding="utf-8") as lines:
        lines.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {reason}\n")
    write_history([], out / "history.csv")
    save_tensors({}, out / "model.pt")
    with replacing(out / "test_logits.npy") as temporary:
        np.save(temporary, np.empty((0, 0), np.float16))
    write_json(
        out / "run.json",
        {
            "status": "failed",
            "reason": reason,
            "specification": plan["specification"],
            "fingerprint": plan["fingerprint"],
        },
    )


class ProgressFile:
    """Tells a display how far the run is, at most once a second. Its times are estimates."""

    def __init__(self, path: Path | None, specification: Mapping[str, Any]):
        self.path = path
        self.epochs = specification["epochs"]
        self.written = -math.inf
        self.started: tuple[float, float] | None = None  # when, and at which fraction of the run

    def batch(self, run: TrainingRun, done: int, total: int) -> None:
        if time.monotonic() - self.written >= 1:
            self._write(run, done / total)

    def epoch(self, run: TrainingRun) -> None:
        self._write(run, 0.0)

    def _write(self, run: TrainingRun, part: float) -> None:
        if self.path is None:
            return
        now, fraction = time.monotonic(), (max(run.epoch, 0) + part) / self.epochs
        self.started = self.started or (now, fraction)
        elapsed, gained = now - self.started[0], fraction - self.started[1]
        last = run.history[-1] if run.history else {}
        write_json(
            self.path,
            {
                "epoch": min(run.epoch + 1, self.epochs),
                "epochs": self.epochs,
                "fraction": fraction,
                "train_loss": _finite(last).get("train_loss"),
                "test_accuracy": last.get("test_accuracy"),
                "seconds_left": elapsed / gained * (1 - fraction) if gained > 0 else None,
            },
        )
        self.written = now


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with None for numbers that JSON cannot hold."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    run_command(main)
