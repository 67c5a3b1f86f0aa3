"""What it means that a command of the pipeline failed, and the files that count failures."""

import argparse
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from normres.errors import BAD_INPUT, INTERRUPTED, STOPPED, KilledError
from normres.files import append_line

# How the pipeline's own commands begin the last line of their log.
OWN_WORDS = ("error: ", "stopped by ", "killed by ", "wrote ", "interrupted", "not recorded")
BEGUN = "file that is there while an attempt is made, and after one that was killed"
HINTS = {"SIGKILL": "; was there enough memory?", "SIGUSR1": "; was the job's time over?"}


def add_attempt(parser: argparse.ArgumentParser, command: str) -> None:
    """Give a command line the options that say how an attempt of `command` ended."""
    options = {
        "--code": (int, f"exit code of {command}"),
        "--attempt": (int, "the attempt that ended, from 1"),
        "--attempts": (int, "how many there may be"),
        "--log": (Path, f"what {command} has printed"),
        "--data": (Path, "folder of the prepared data"),
        "--failures": (Path, "file that counts failures"),
    }
    for name, (kind, text) in options.items():
        parser.add_argument(name, type=kind, required=True, help=text)
    parser.add_argument("--begun", type=Path, help=BEGUN)


def add_begun(parser: argparse.ArgumentParser) -> None:
    """Give a command line the options of `noted_attempt`."""
    parser.add_argument("--begun", type=Path, help=BEGUN)
    parser.add_argument("--attempt", type=int, default=1, help="which one this is, from 1")
    parser.add_argument("--attempts", type=int, default=1, help="how many there may be")


@contextmanager
def noted_attempt(begun: Path | None, number: int, attempts: int) -> Iterator[None]:
    """Note in the file `begun` which attempt is made, until it ends in any way but by a kill.

    Raises KilledError instead of making the last attempt where the one before was killed: if
    that takes the shell with it, or is memory that a scheduler watches over, nobody else can record
    that there is no result, and Snakemake would not go on to the figures of the others.
    """
    if begun is None:
        yield
        return
    if number == attempts and begun.exists() and begun.read_text() == str(number - 1):
        begun.unlink()
        raise KilledError(f"killed in attempt {number - 1}; was there enough memory?")
    begun.parent.mkdir(parents=True, exist_ok=True)
    begun.write_text(str(number))
    try:
        yield
    finally:
        begun.unlink(missing_ok=True)


def final_reason(code: int, attempt: int, attempts: int, log: Path) -> str | None:
    """Why a command failed for good; None where it is to be tried again, or has not failed."""
    again = attempt < attempts and code != BAD_INPUT
    if again or code == INTERRUPTED:
        return None
    reason = describe(code, log)
    ended = code == 128 + signal.SIGTERM or (code == STOPPED and reason.endswith("SIGTERM"))
    return None if ended and "SLURM_JOB_ID" in os.environ else reason


def end_attempt(code: int, log: Path, begun: Path | None) -> None:
    """Say what ended an attempt, where its log does not, and that it was not killed.

    After SIGKILL the mark of `noted_attempt` stays: a scheduler that killed for memory has counted
    the attempt as failed, whatever is recorded.
    """
    if code > 128 and code != INTERRUPTED:
        print(describe(code, log))
    if code != 128 + signal.SIGKILL and begun is not None:
        begun.unlink(missing_ok=True)


def note_failure(path: Path, reason: str) -> None:
    """Add a line to a file that counts failures: one more makes the next call try again."""
    append_line(path, f"{datetime.now(UTC).isoformat(timespec='seconds')} {reason}")


def count_failures(results: Path, studies: Iterable[str]) -> dict[tuple[str, str], int]:
    """How often each run and timing of some studies has failed, by study and name."""
    return {
        (study, str(path.relative_to(folder).with_suffix(""))): path.read_text().count("\n")
        for study in studies
        for folder in [results / study / "failures"]
        for path in folder.rglob("*.txt")
    }


def retry_files(
    results: Path, failures: Mapping[tuple[str, str], int], runs: Iterable[tuple[str, str]]
) -> list[str]:
    """The files by which those `runs` (study and name) that have failed are tried again."""
    failed = [(study, run, failures.get((study, run))) for study, run in runs]
    return [f"{results}/{study}/failures/{run}.again-{n}" for study, run, n in failed if n]


def describe(code: int, log: Path) -> str:
    """Why a command ended with `code`, in a line: the signal, or what its log says."""
    if code - 128 in signal.valid_signals():
        name = signal.Signals(code - 128).name
        return f"killed by {name}{HINTS.get(name, '')}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return (said_at_last(lines) or f"exit code {code}").removeprefix("error: ").strip()


def said_at_last(lines: Sequence[str]) -> str:
    """The line of a log that says why it ended: the last one, or the exception's in a traceback.

    Errors of CUDA and of torch.compile end in lines of advice that are the same for all of them.
    Empty where there is no line.
    """
    said = [line.rstrip() for line in lines if line.strip()]
    begins = [i for i, line in enumerate(said) if line.startswith("Traceback ")]
    if begins and not said[-1].startswith(OWN_WORDS):
        after = (line for line in said[begins[-1] + 1 :] if not line[0].isspace())
        return next(after, said[-1])
    return said[-1] if said else ""
