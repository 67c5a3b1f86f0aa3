"""Errors a person can act on, and how a command ends when it meets one."""

import signal
import sys
from collections.abc import Callable


class InputError(Exception):
    """Bad input: one line that names the file or key, what is wrong and what is allowed."""


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main`; exit with its code, or with 2 and one line for an InputError.

    SIGTERM ends it like an exit, so that no half-written file stays behind.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(main() or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
