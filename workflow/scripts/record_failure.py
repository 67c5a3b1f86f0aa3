"""Decide what a run that ended without a result means: try again, or go on without it.

    python workflow/scripts/record_failure.py --code 1 --attempt 3 --attempts 3 --run JSON \
        --log results/tiny/logs/convnet/none/seed0.log --out results/tiny/runs/convnet/none/seed0 \
        --failures results/tiny/failures/convnet/none/seed0.txt \
        --data results/data/digits --store results/store

Exits with train.py's own exit code, so that Snakemake tries the run again. After the last attempt,
or where trying again cannot help, it writes status `failed` into the run's folder instead and exits
with 0: figures and report of the other runs still come and name this one, and the next call of
Snakemake tries it once more. Train.py's exit codes: 2 bad input, 69 no GPU that works,
75 stopped by a signal, 130 interrupted by a person; 128 + N where signal N killed it. A job that
SLURM ends (SIGTERM) has not failed: a person cancelled it, or it returns to the queue by itself.
Nor has a run that another process trains by now, as after a kill of Snakemake alone.
"""

from pathlib import Path

from normres.command_line import make_parser
from normres.errors import run_command
from normres.failures import add_attempt, end_attempt, final_reason, note_failure
from normres.files import read_json
from normres.housekeeping import HeldError, hold
from normres.outputs import write_failure
from normres.plans import parse_plan
from normres.store import run_key


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_attempt(parser, "train.py")
    parser.add_argument("--run", required=True, help="the run as JSON, as train.py takes it")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--store", type=Path, required=True, help="where runs are kept")
    arguments = parser.parse_args(argv)
    end_attempt(arguments.code, arguments.log, arguments.begun)
    reason = final_reason(arguments.code, arguments.attempt, arguments.attempts, arguments.log)
    if reason is None:
        return arguments.code
    plan = parse_plan(arguments.run)
    data = read_json(arguments.data / "dataset.json")["checksum"]
    key = run_key(plan["specification"], plan["fingerprint"], data)
    try:
        with hold(arguments.store / key):
            note_failure(arguments.failures, reason)
            write_failure(arguments.out, plan, reason)
    except HeldError:
        print(f"not recorded, as another process trains this run: {reason}")
        return arguments.code
    print(f"recorded as failed after attempt {arguments.attempt} of {arguments.attempts}: {reason}")
    return 0


if __name__ == "__main__":
    run_command(main)
