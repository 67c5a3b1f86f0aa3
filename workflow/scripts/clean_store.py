"""Free disk space that no result needs: states of finished runs, and what killed processes left.

    python workflow/scripts/clean_store.py --dry-run          # what would be removed
    python workflow/scripts/clean_store.py                    # every state of a finished run
    python workflow/scripts/clean_store.py --budget-gb 3      # the oldest, until 3 GB are left
    python workflow/scripts/clean_store.py --unused           # and runs that no study has
    make clean-store                                          # or: snakemake --cores 1 clean_store

A finished run's state (checkpoint) serves only to go on to more epochs: without it, more epochs
train the run from its start. States of unfinished runs stay, as the next call goes on from them.
Also removed: states that could not be read (state.unreadable), and half-written files of killed
processes. Sizes are those on disk; weights that a study's run is linked to are not counted as the
store's.

--unused removes folders of the store that no study below results/ asks for or was made from, with
states and outputs: those of studies that were deleted, and of options and code that were changed
since. Back under the earlier options, such a run would be trained again instead of linked.

Runs that a process trains are left alone; --unused wants no Snakemake at work in the folder.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from normres.command_line import make_parser
from normres.errors import InputError, run_command
from normres.files import is_temporary
from normres.housekeeping import (
    STORE,
    UNREADABLE,
    HeldError,
    check_known,
    hold,
    is_leftover,
    remove,
    size_of,
    size_words,
    stored_folders,
    used_keys,
)
from normres.store import list_states
from normres.workplace import Workplace

STATES = "states of finished runs"
UNREAD = "states that could not be read"
LEFT = "half-written files"
UNUSED = "runs that no study has"


class Cleaning:
    """Removes things and counts them; with `dry_run`, only counts."""

    def __init__(self, dry_run: bool):
        self.dry_run = dry_run
        self.counts: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.held: set[str] = set()

    def remove_stored(self, kind: str, folder: Path, paths: Iterable[Path]) -> bool:
        """Remove `paths` of one folder of the store; say False where a process holds it."""
        paths = list(paths)
        if not paths:
            return True
        try:
            with hold(folder):
                for path in paths:
                    self.remove(kind, path)
        except HeldError:
            self.held.add(folder.name)
            return False
        return True

    def remove(self, kind: str, path: Path) -> None:
        """Remove one file or folder."""
        self.counts[kind] += 1
        self.sizes[kind] += size_of(path)
        if not self.dry_run:
            remove(path)


def clean(results: Path, budget_gb: float, unused: bool, cleaning: Cleaning) -> None:
    """Remove what the command's description says from the store and the studies."""
    store, folders = results / STORE, stored_folders(results)
    if unused:
        used = used_keys(results)
        for folder in folders:
            if folder.name not in used:
                cleaning.remove_stored(UNUSED, folder, [folder])
        folders = [folder for folder in folders if folder.name in used]
    for folder in folders:
        cleaning.remove_stored(UNREAD, folder, folder.glob(UNREADABLE))
        parts = [*filter(is_temporary, folder.iterdir()), *folder.glob("epochs-*.partial")]
        cleaning.remove_stored(LEFT, folder, parts)
    names = {folder.name for folder in folders}
    states = [run for *_, run in list_states(store) if run.key in names] if names else []
    spare = [run for run in states if run.has_spare_state()]
    sizes = [size_of(run.state_file) for run in spare]
    excess = sum(sizes) - budget_gb * 1e9
    for run, size in zip(spare, sizes, strict=True):
        if excess <= 0 and budget_gb:
            break
        if cleaning.remove_stored(STATES, run.folder, [run.state_file]):
            excess -= size
    for path in list(outside_store(results)):
        if is_leftover(path):
            cleaning.remove(LEFT, path)


def outside_store(results: Path) -> Iterator[Path]:
    """Every file of the studies and the prepared data."""
    for folder in sorted(results.iterdir()):
        if folder.is_dir() and folder.name != STORE:
            yield from folder.rglob("*")


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--budget-gb",
        type=float,
        default=0,
        metavar="GB",
        help="keep up to GB of checkpoints of finished runs, the newest first [0]",
    )
    parser.add_argument("--unused", action="store_true", help="remove runs that no study has")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed")
    parser.add_argument("--results", type=Path, default=Path("results"), help="[results]")
    arguments = parser.parse_args(argv)
    if arguments.budget_gb < 0:
        raise InputError(f"--budget-gb: {arguments.budget_gb} is too small; the least is 0")
    if not arguments.results.is_dir():
        raise InputError(f"{arguments.results}: there is no such folder, so nothing to clean")
    workplace = Workplace(arguments.results)  # keeps its lock until this function ends
    if arguments.unused:
        check_known(arguments.results)
        if not arguments.dry_run:
            workplace.take()
    cleaning = Cleaning(arguments.dry_run)
    clean(arguments.results, arguments.budget_gb, arguments.unused, cleaning)
    for kind in (STATES, UNREAD, LEFT, UNUSED):
        if cleaning.counts[kind]:
            print(f"{kind}: {cleaning.counts[kind]} ({size_words(cleaning.sizes[kind])})")
    if cleaning.held:
        print(f"left alone, as a process trains them: {len(cleaning.held)}")
    freed = sum(cleaning.sizes.values())
    kept = sum(size_of(folder) for folder in stored_folders(arguments.results))
    kept -= freed if arguments.dry_run else 0
    verb = "would free" if arguments.dry_run else "freed"
    print(
        f"{verb} {size_words(freed)}; {arguments.results / STORE} keeps {size_words(max(kept, 0))}"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
