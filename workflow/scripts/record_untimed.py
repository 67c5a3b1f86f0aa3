"""Decide what a timing that ended without a result means: try again, or go on without times.

    python workflow/scripts/record_untimed.py --code 1 --attempt 3 --attempts 3 \\
        --timed results/tiny/.time_training-0123456789abcdef.json \\
        --log results/tiny/logs/time_training.log \\
        --out results/tiny/timing.csv --details results/tiny/timing.json \\
        --failures results/tiny/failures/time_training.txt --data results/data/digits

As record_failure.py does for a run: exits with the timing's own exit code, or after the last
attempt writes a table that says why there are no times, and exits with 0: of time_training.py
timing.csv and timing.json, of time_norms.py norm_cost.csv, which has no --details.
"""

from datetime import UTC, datetime
from pathlib import Path

from normres.command_line import make_parser
from normres.errors import run_command
from normres.failures import add_attempt, end_attempt, final_reason, note_failure
from normres.files import read_json
from normres.tables import write_table
from normres.timed import read_timed
from time_norms import read_shape, untimed_table
from time_training import write_results


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_attempt(parser, "the timing")
    parser.add_argument(
        "--timed", type=Path, required=True, help="the list of what was to be timed"
    )
    parser.add_argument("--out", type=Path, required=True, help="the table to write")
    parser.add_argument("--details", type=Path, help="timing.json to write, beside a timing.csv")
    arguments = parser.parse_args(argv)
    end_attempt(arguments.code, arguments.log, arguments.begun)
    reason = final_reason(arguments.code, arguments.attempt, arguments.attempts, arguments.log)
    if reason is None:
        return arguments.code
    note_failure(arguments.failures, reason)
    listed, dataset = read_timed(arguments.timed), arguments.data / "dataset.json"
    if arguments.details is None:  # of norm layers
        side, channels = read_shape(dataset)
        write_table(untimed_table(listed, channels, side, reason), arguments.out)
    else:
        results = [{"reason": reason, "facts": None, "repeats": []}] * len(listed["timed"])
        now, checksum = datetime.now(UTC), read_json(dataset)["checksum"]
        write_results(arguments.out, arguments.details, listed, results, now, checksum)
    print(f"no times after attempt {arguments.attempt} of {arguments.attempts}: {reason}")
    return 0


if __name__ == "__main__":
    run_command(main)
