"""Errors a person can act on, and how a command ends when it meets one."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Exit codes beside 0 and 1; the latter two are those of sysexits.h.
BAD_INPUT = 2  # trying again does not help
NO_DEVICE = os.EX_UNAVAILABLE  # 69: a GPU was promised or seen, and there is none that works
STOPPED = os.EX_TEMPFAIL  # 75: asked to stop; all is saved, the next attempt goes on
INTERRUPTED = 128 + signal.SIGINT  # 130: the same, by a person


class InputError(Exception):
    """Bad input: one line that names the file or key, what is wrong and what is allowed."""


class DeviceError(Exception):
    """A device that was promised or seen and does not work: one line with where and what to do."""


class KilledError(Exception):
    """The attempt before was killed, and this one is not made; one line."""


def first_sentence(error: BaseException) -> str:
    """What an error of PyTorch says at first, in a line; CUDA's go on with advice on debugging."""
    text = " ".join(str(error).split()).partition(" Search for `cuda")[0]
    return text.partition(". ")[0]


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main`; exit with its code, or with one line and a code of this module.

    SIGTERM ends it like an exit, so that no half-written file stays behind. What the system
    refuses (a full disk, a read-only folder) is one line, too, and exit code 1.
    """
    gc.freeze()  # the modules stay until the end
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.stdout.reconfigure(line_buffering=True)  # in a log, the error comes last
    try:
        sys.exit(main() or 0)
    except InputError as error:
        end(str(error), BAD_INPUT)
    except DeviceError as error:
        end(str(error), NO_DEVICE)
    except KilledError as error:
        end(str(error), 1)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        end(f"{named}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        # The interpreter would look through all that is left once more: 0.8 s where torch is.
        gc.freeze()


@contextmanager
def one_line() -> Iterator[None]:
    """End with one line at an InputError, where Snakemake would print a traceback."""
    try:
        yield
    except InputError as error:
        end(str(error), BAD_INPUT)


def end(message: str, code: int) -> None:
    """Exit with `code` after one line; a file's name may hold what would break it."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    print(f"error: {line}", file=sys.stderr)
    sys.exit(code)
