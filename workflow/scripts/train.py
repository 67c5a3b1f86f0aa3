"""Train one network with one norm from one seed, and record every epoch.

    python workflow/scripts/train.py --data results/data/digits --out /tmp/run \\
        --model resnet --norm batch --seed 0 --epochs 5 --learning_rate 3e-4

Writes history.csv (a row an epoch), run.json (specification, result, environment), model.pt
(weights) and test_logits.npy (float16) to --out. With --store, a run that was trained before is
linked from there, one that was longer gives its first epochs, and one that was interrupted or
shorter goes on from its last state, to the same bytes as if it had never stopped. Options that are
not given have the exercise's values; names, types and defaults are those of config.yaml.

On SIGTERM, SIGUSR1 or Ctrl-C the step is finished and the state saved in --store. Exit codes: 0
done, 2 bad input, 69 no GPU where one was promised, 75 stopped by a signal, 130 by Ctrl-C, 1
anything else.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT
from typing import Any

import torch

from normres import catalog
from normres.devices import (
    Computation,
    choose_computation,
    choose_device,
    may_use_gpu,
    wants_compilation,
)
from normres.environment import EXACT, describe
from normres.errors import INTERRUPTED, STOPPED, run_command
from normres.images import Images, open_images
from normres.interruption import Interrupted, StopRequest
from normres.leases import lease_gpu
from normres.options import check_last_batch, option_schemas
from normres.outputs import write_first_epochs, write_outputs
from normres.plans import add_options, check_code, make_plan, parse_plan, require_positive
from normres.run_progress import ProgressFile
from normres.store import StoredRun, link_outputs, run_key
from normres.training import TrainingRun

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
        with StopRequest() as stop:
            train(plan, arguments, stop)
    except Interrupted as interrupted:
        print(f"stopped by {interrupted.signal.name}", file=sys.stderr)
        return INTERRUPTED if interrupted.signal == SIGINT else STOPPED
    except torch.OutOfMemoryError as error:
        batch_size, runs = plan["specification"]["batch_size"], arguments.runs_per_gpu
        fewer = f", or runs_per_gpu below {runs}" if runs > 1 else ""
        first = str(error).partition(". ")[0]
        print(f"error: {first}; try a batch_size below {batch_size}{fewer}", file=sys.stderr)
        return 1
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
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: a GPU if there is one, but the CPU with --gpus 0",
    )
    parser.add_argument(
        "--gpus", type=int, help="GPUs that a scheduler has promised; more than 0: stop without one"
    )
    parser.add_argument(
        "--runs-per-gpu", type=int, default=1, help="runs that may share a GPU of this machine"
    )
    parser.add_argument(
        "--store", type=Path, help="where runs are kept; without it, one that is stopped is lost"
    )
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
    add_options(parser, "training options")
    arguments = parser.parse_args(argv)
    require_positive(parser, arguments, "runs_per_gpu")
    return arguments


def read_plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """The run's plan, from --run or from the single options; see plans.py."""
    if arguments.run:
        plan = parse_plan(arguments.run)
        check_code(plan)
        return plan
    names = ("model", "norm", "seed", "epochs", *option_schemas())
    return make_plan({name: getattr(arguments, name) for name in names})


def train(plan: Mapping[str, Any], arguments: argparse.Namespace, stop: StopRequest) -> None:
    """Train, or link what is trained already, so that --out holds the run's four files.

    Raises Interrupted after a stop signal, once the state is saved.
    """
    epochs = plan["specification"]["epochs"]
    images = open_images(arguments.data)
    key = run_key(plan["specification"], plan["fingerprint"], images.checksum)
    with ExitStack() as stack:
        store = arguments.store or stack.enter_context(tempfile.TemporaryDirectory())
        stored = StoredRun(store, key)
        with stored.locked(waiting(f"another process trains run {key}", stop)):
            finished = stored.finished(epochs)
            if finished:
                print(f"already trained: linked from {finished}")
            else:
                with stored.finishing(epochs) as folder:
                    if longer := stored.longer(epochs):
                        print(f"already trained: the first {epochs} epochs of {longer}")
                        write_first_epochs(folder, plan, longer)
                    else:
                        train_into(folder, plan, images, stored, arguments, stop)
                finished = stored.outputs(epochs)
            link_outputs(finished, arguments.out)
        stored.prune_states(arguments.state_budget_gb)
    print(f"wrote {arguments.out}")


def train_into(
    folder: Path,
    plan: Mapping[str, Any],
    images: Images,
    stored: StoredRun,
    arguments: argparse.Namespace,
    stop: StopRequest,
) -> None:
    """Train from the last state, if there is one, and write the outputs to `folder`."""
    specification = plan["specification"]
    epochs = specification["epochs"]
    started = datetime.now(UTC)
    if may_use_gpu(arguments.device, arguments.gpus):
        lease_gpu(arguments.runs_per_gpu, waiting("every GPU has its runs", stop))
    device = choose_device(arguments.device, arguments.gpus)
    computation = choose_computation(specification, device)
    if wants_compilation(specification, device, computation.precision) and not computation.compiled:
        print(
            "not compiled: torch.compile needs a C++ compiler and Python's headers "
            "(on CUDA: Triton, a C compiler and the headers)"
        )
    run = TrainingRun(specification, images, computation)
    check_last_batch(len(run.sets["train"]), specification)
    environments = resume(run, stored, computation)
    if run.epoch < epochs:
        environments.append(describe(computation))

    report = ProgressFile(arguments.progress, specification)

    def after_batch() -> None:
        report.after_batch(run)
        stop.check()

    def save() -> None:
        stored.save_state({"run": run.state_dict(), "environments": environments})

    saved = time.monotonic()
    print(" ".join(f"{column:>19}" for column in LOGGED))
    try:
        for row in run.train(after_batch):
            print(" ".join(f"{_cell(row[column]):>19}" for column in LOGGED), flush=True)
            report.after_epoch(run)
            due = run.epoch == epochs or time.monotonic() - saved >= arguments.save_every
            if arguments.store and due and not run.diverged:
                save()
                saved = time.monotonic()
            stop.check()
    except Interrupted:
        if not arguments.store:
            print("not saved: there is no --store", flush=True)
        elif run.history and not run.diverged:
            save()
            print(f"saved {position(run)}", flush=True)
        raise
    write_outputs(folder, plan, run, environments, started)


def resume(run: TrainingRun, stored: StoredRun, computation: Computation) -> list[dict[str, Any]]:
    """Load the stored state, if there is one; return the environments of the attempts so far.

    Says where the run goes on, and whether it does so under other conditions than it began with.
    """
    state = stored.load_state()
    if state is None:
        print(f"starts afresh: no state of run {stored.key}")
        return []
    run.load_state_dict(state["run"])
    print(f"goes on after {position(run)}")
    now, before = describe(computation), state["environments"][-1]
    other = [
        f"{key} was {before.get(key)}, is {now[key]}"
        for key in EXACT
        if before.get(key) != now[key]
    ]
    if other:
        print(f"not an exact continuation: {'; '.join(other)}")
    return state["environments"]


def waiting(reason: str, stop: StopRequest) -> Callable[[], None]:
    """What to do while waiting for something: say so once, and obey a stop signal."""
    said = []

    def wait() -> None:
        if not said:
            said.append(reason)
            print(f"waiting: {reason}", flush=True)
        stop.check()

    return wait


def position(run: TrainingRun) -> str:
    """How far a run is, in words."""
    if run.progress is None:
        return f"epoch {run.epoch}"
    done, total = run.progress.images, len(run.sets["train"])
    return f"{done} of {total} images of epoch {run.epoch + 1}"


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    run_command(main)
