"""Train one network with one norm from one seed, and record every epoch.

    python workflow/scripts/train.py --data results/data/digits --out /tmp/run \\
        --model resnet --norm batch --seed 0 --epochs 5 --learning_rate 3e-4

Writes history.csv (one row per epoch), run.json (specification, result, environment), model.pt
(weights) and test_logits.npy (float16) to --out. With --store, a run that was trained before is
linked from there, one that was longer gives its first epochs, and one that was interrupted or
shorter goes on from its last state (checkpoint), to the same bytes as if it had never stopped.
Options that are not given have their defaults; names, values and defaults are those of config.yaml.

On SIGTERM, SIGUSR1, SIGHUP or Ctrl-C the step is finished and the state saved in --store. Exit
codes: 0 done, 2 bad input, 69 no GPU that works, 75 stopped by a signal, 130 by Ctrl-C, 1 anything
else.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT
from typing import Any

from normres import catalog
from normres.command_line import make_parser, require_positive
from normres.errors import INTERRUPTED, STOPPED, run_command
from normres.failures import add_begun, noted_attempt
from normres.images import open_images
from normres.interruption import Interrupted, StopRequest, waiting
from normres.options import option_schemas
from normres.outputs import write_first_epochs
from normres.plans import add_options, check_code, make_plan, parse_plan
from normres.store import StoredRun, link_outputs, run_key


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    plan = read_plan(arguments)
    try:
        noted = noted_attempt(arguments.begun, arguments.attempt, arguments.attempts)
        with noted, StopRequest() as stop:
            train(plan, arguments, stop)
    except Interrupted as interrupted:
        print(f"stopped by {interrupted.signal.name}", file=sys.stderr)
        return INTERRUPTED if interrupted.signal == SIGINT else STOPPED
    except MemoryError as error:
        print(f"error: {str(error) or 'not enough memory'}", file=sys.stderr)
        return 1
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder made by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run's four files")
    parser.add_argument("--model", help=f"one of {', '.join(catalog.names('networks'))}")
    parser.add_argument("--norm", help=f"one of {', '.join(catalog.names('norms'))}")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the initial weights, the order of images and dropout",
    )
    parser.add_argument("--epochs", type=int, help="passes over the training images")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: a GPU if there is one, but the CPU with --gpus 0",
    )
    parser.add_argument(
        "--gpus",
        type=int,
        help="number of GPUs that a scheduler has assigned; if above 0, stop where there is none",
    )
    parser.add_argument(
        "--runs-per-gpu", type=int, default=1, help="runs that may share a GPU of this machine"
    )
    parser.add_argument(
        "--store",
        type=Path,
        help="folder of finished runs and checkpoints; without it a run that is stopped is lost",
    )
    parser.add_argument(
        "--save-every", type=float, default=30, help="seconds between two savings of a checkpoint"
    )
    parser.add_argument(
        "--state-budget-gb",
        type=float,
        default=3,
        help="disk space for checkpoints of finished runs",
    )
    parser.add_argument(
        "--progress",
        type=Path,
        help="small JSON file kept up to date while training (used by Snakemake)",
    )
    parser.add_argument(
        "--run",
        help="instead of --model and options (used by Snakemake): "
        '{"specification": {}, "fingerprint": ""} as JSON',
    )
    add_options(parser, "training options")
    add_begun(parser)
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

    Torch, which takes seconds to import, is imported only to train. Raises Interrupted after a stop
    signal, once the state is saved.
    """
    epochs = plan["specification"]["epochs"]
    images = open_images(arguments.data)
    key = run_key(plan["specification"], plan["fingerprint"], images.checksum)
    wait = waiting(f"another process trains run {key}", stop)

    def wait_with_code() -> None:
        from normres.attempt import load_code

        load_code(plan["specification"])
        wait()

    with ExitStack() as stack:
        store = arguments.store or stack.enter_context(tempfile.TemporaryDirectory())
        stored = StoredRun(store, key)
        with stored.locked(wait_with_code):
            finished = stored.finished(epochs)
            if finished:
                print(f"already trained: linked from {finished}")
            else:
                with stored.finishing(epochs) as folder:
                    if longer := stored.longer(epochs):
                        print(f"already trained: the first {epochs} epochs of {longer}")
                        write_first_epochs(folder, plan, longer)
                    else:
                        from normres.attempt import train_into

                        train_into(folder, plan, images, stored, arguments, stop)
                finished = stored.outputs(epochs)
            link_outputs(finished, arguments.out)
        stored.prune_states(arguments.state_budget_gb)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    run_command(main)
