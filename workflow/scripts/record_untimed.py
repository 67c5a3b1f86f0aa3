"""Decide what a timing that ended without a result means: try again, or go on without times.

    python workflow/scripts/record_untimed.py --code 1 --attempt 3 --attempts 3 \\
        --timed results/tiny/.timed-0123456789abcdef.json \\
        --log results/tiny/logs/time_training.log \\
        --out results/tiny/timing.csv --details results/tiny/timing.json \\
        --failures results/tiny/failures/time_training.txt --data results/data/digits

As record_failure.py does for a run: exits with time_training.py's own exit code, or after the last
attempt writes a timing.csv that says why there are no times, and exits with 0.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from normres.errors import run_command
from normres.failures import add_attempt, final_reason, note_failure
from normres.files import read_json
from normres.timed import read_timed
from time_training import write_results


def main(argv: list[str] | None = None) -> int:
    summary, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_attempt(parser, "time_training.py")
    parser.add_argument(
        "--timed", type=Path, required=True, help="the list of what was to be timed"
    )
    parser.add_argument("--out", type=Path, required=True, help="timing.csv to write")
    parser.add_argument("--details", type=Path, required=True, help="timing.json to write")
    arguments = parser.parse_args(argv)
    reason = final_reason(arguments.code, arguments.attempt, arguments.attempts, arguments.log)
    if reason is None:
        return arguments.code
    note_failure(arguments.failures, reason)
    listed = read_timed(arguments.timed)
    results = [{"reason": reason, "facts": None, "repeats": []}] * len(listed["timed"])
    write_results(
        arguments.out,
        arguments.details,
        listed,
        results,
        started=datetime.now(UTC),
        checksum=read_json(arguments.data / "dataset.json")["checksum"],
    )
    print(f"no times after attempt {arguments.attempt} of {arguments.attempts}: {reason}")
    return 0


if __name__ == "__main__":
    run_command(main)
