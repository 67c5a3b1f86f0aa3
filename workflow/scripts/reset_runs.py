"""Delete runs of a study, by name, so that the next call of Snakemake trains them again.

    python workflow/scripts/reset_runs.py quickstart resnet/batch/seed0
    python workflow/scripts/reset_runs.py quickstart 'resnet/*/seed0' '*/seed2' --dry-run
    make reset STUDY=quickstart RUN=resnet/batch/seed0

A run's name is its folder below results/<study>/runs. In a pattern, * stands for any text, also
over several folders, ? for one character and [ab] for one of those. What is removed: the run's
folder in the study, its state and outputs in results/store, and the list of its failures. Nothing
is removed where a process trains one of the runs right now, or Snakemake works in the folder.

Other studies may have linked the same run from the store. They are named, and keep their files: a
study whose runs are all there has no work to do. With --everywhere they lose the run, too, and the
next call for each of them trains it or links what was trained by then.
"""

import argparse
import difflib
import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from normres.command_line import make_parser
from normres.errors import InputError, run_command
from normres.housekeeping import (
    STORE,
    HeldError,
    hold,
    remove,
    size_of,
    size_words,
    study_files,
    study_keys,
    used_keys,
)
from normres.store import LOCK, StoredRun
from normres.workplace import Workplace

SHOWN = 4  # names in a message


@dataclass
class Reset:
    """What is removed for one run: folders of the store, and places of studies."""

    run: str
    stored: list[Path] = field(default_factory=list)
    places: list[Path] = field(default_factory=list)

    def size(self) -> int:
        """Bytes on disk that removing it frees."""
        return sum(size_of(path) for path in (*self._inner(), *self.places))

    def remove(self) -> None:
        """Remove all of it. Raises HeldError where a process has begun to train the run."""
        for folder in self.stored:
            with hold(folder):
                for path in _contents(folder):
                    remove(path)
        for path in self.places:
            remove(path)

    def _inner(self) -> list[Path]:
        return [path for folder in self.stored for path in _contents(folder)]

    def describe(self) -> str:
        """The places, for a person."""
        return ", ".join(str(path) for path in (*self.stored, *self.places)) or "nothing was kept"


def _contents(folder: Path) -> list[Path]:
    # The lock file stays, since a process may wait for it.
    return [path for path in sorted(folder.iterdir()) if path.name != LOCK]


def choose(names: Sequence[str], patterns: Sequence[str], study: str) -> list[str]:
    """The runs that `patterns` name, in the study's order.

    Raises InputError for a pattern that fits none, with the nearest names.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        wanted = pattern.strip("/")
        fitting = [name for name in names if name == wanted or fnmatchcase(name, wanted)]
        if not fitting:
            near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.3) or names[:3]
            raise InputError(
                f"{pattern}: fits none of the {len(names)} runs of {study}; "
                f"the nearest: {', '.join(near)}"
            )
        chosen.update(fitting)
    return [name for name in names if name in chosen]


def plan(results: Path, study: str, patterns: Sequence[str]) -> tuple[list[Reset], dict]:
    """What is to be removed, and the keys in the store of each chosen run.

    Raises InputError where there is no such study or run.
    """
    files = study_files(results)
    if study not in files:
        known = ", ".join(files) or "none yet"
        raise InputError(f"{study}: no such study in {results}; studies with results: {known}")
    known_keys = study_keys(results, study)
    folder = results / study
    resets, keys = [], {}
    for name in choose(list(known_keys), patterns, study):
        keys[name] = known_keys[name]
        stored = [results / STORE / key for key in sorted(keys[name])]
        resets.append(
            Reset(
                name,
                [path for path in stored if path.is_dir() and _contents(path)],
                [path for path in _places(folder, name) if path.exists()],
            )
        )
    return resets, keys


def _places(study: Path, run: str) -> list[Path]:
    """Where a study keeps what a run left: its files, how often it failed, how far it was."""
    logs = study / "logs"
    return [
        study / "runs" / run,
        study / "failures" / f"{run}.txt",
        logs / f"{run}.progress.json",
        *(study / "failures" / run).parent.glob(f"{glob.escape(Path(run).name)}.again-*"),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("study", help="the study's name")
    parser.add_argument("runs", nargs="+", metavar="run", help="a run's name, or a pattern")
    parser.add_argument("--everywhere", action="store_true", help="reset other studies' links, too")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed")
    parser.add_argument("--results", type=Path, default=Path("results"), help="[results]")
    arguments = parser.parse_args(argv)
    results = arguments.results
    resets, keys = plan(results, arguments.study, arguments.runs)
    shared = sharing(results, arguments.study, keys)
    if arguments.everywhere:
        for reset in resets:
            for other in shared[reset.run]:
                study, _, run = other.partition("/")
                places = _places(results / study, run)
                reset.places += [path for path in places if path.exists()]
    refuse_held(resets)
    workplace = Workplace(results)  # keeps its lock until this function ends
    if not arguments.dry_run:
        workplace.take()
    freed = 0
    for reset in resets:
        size = reset.size()
        if not arguments.dry_run:
            try:
                reset.remove()
            except HeldError:
                raise InputError(held_message([reset.run])) from None
        freed += size
        print(f"{reset.run}: {reset.describe()} ({size_words(size)})")
    tell(arguments, resets, shared, freed)
    return 0


def sharing(results: Path, study: str, keys: dict[str, set[str]]) -> dict[str, list[str]]:
    """For each run of `study`, the runs of other studies (study/run) with the same key."""
    used = used_keys(results)
    return {
        run: [
            other
            for key in sorted(of_run)
            for other in used.get(key, [])
            if not other.startswith(f"{study}/")
        ]
        for run, of_run in keys.items()
    }


def refuse_held(resets: Sequence[Reset]) -> None:
    """Raise InputError, before anything is removed, where a process trains one of the runs."""
    held = [reset.run for reset in resets if any(map(is_held, reset.stored))]
    if held:
        raise InputError(held_message(held))


def is_held(folder: Path) -> bool:
    """Whether a process trains the run of this folder of the store."""
    return StoredRun(folder.parent, folder.name).is_held()


def held_message(runs: Sequence[str]) -> str:
    """One line that names the runs in training."""
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return (
        f"{', '.join(runs[:SHOWN])}{more}: a process is training it right now; "
        "wait until it ends, or end it, then reset again"
    )


def tell(
    arguments: argparse.Namespace,
    resets: Sequence[Reset],
    shared: dict[str, list[str]],
    freed: int,
) -> None:
    """Print the sum, who shares the runs, and how to train them again."""
    studies = sorted({other.partition("/")[0] for others in shared.values() for other in others})
    count = f"{len(resets)} run{'s' if len(resets) != 1 else ''}"
    verb = "would be reset" if arguments.dry_run else "reset"
    print(f"{count} {verb}, {size_words(freed)} {'to free' if arguments.dry_run else 'freed'}")
    if studies and not arguments.everywhere:
        print(
            f"Also linked by {', '.join(studies)}, which keep their files "
            "(--everywhere resets them there, too)"
        )
    if not arguments.dry_run:
        again = ",".join([arguments.study, *(studies if arguments.everywhere else [])])
        print(f"To train again: snakemake --cores all --config study={again}")


if __name__ == "__main__":
    run_command(main)
