"""What lies below results/: the store's folders, the runs made from them, and their sizes.

For the commands that remove (reset_runs.py, clean_store.py). They hold a run's lock while they
touch its folder, and leave alone what another process holds.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from normres.errors import InputError
from normres.files import is_temporary, read_json
from normres.store import StoredRun, run_key

STORE = "store"
UNREADABLE = "state.unreadable*"
DEFINITION = ".definition-"  # and a digest: an empty file, see mark_definition (lists.smk)
QUIET_SECONDS = 3600  # a temporary file that nobody has written to for so long is a leftover


class HeldError(Exception):
    """Another process trains this run right now."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of the store. Raises HeldError where another process does."""

    def refuse() -> None:
        raise HeldError(folder.name)

    with StoredRun(folder.parent, folder.name).locked(refuse):
        yield


def stored_folders(results: Path) -> list[Path]:
    """The folders of the store, one a run, by name."""
    return sorted(path for path in (results / STORE).glob("*") if path.is_dir())


def study_files(results: Path) -> dict[str, Path]:
    """The study.json of every study that has results, by the study's name."""
    return {path.parent.name: path for path in sorted(results.glob("*/study.json"))}


def data_checksum(results: Path, study: Mapping[str, Any]) -> str | None:
    """The checksum of a study's prepared data; None where they are not prepared."""
    description = results / "data" / study["dataset"]["id"] / "dataset.json"
    return read_json(description)["checksum"] if description.exists() else None


def keys_of_run(folder: Path, listed: Mapping[str, Any] | None, checksum: str | None) -> set[str]:
    """The keys in the store of one run of a study: of what it asks for, and of what is there.

    `folder` is the run's below the study, `listed` its entry in study.json.
    """
    keys = set()
    if listed and checksum:
        keys.add(run_key(listed["specification"], listed["fingerprint"], checksum))
    try:
        record = read_json(folder / "run.json")
        data = record.get("data")  # a failed run has none
        if data:
            specification = record["specification"]
            keys.add(run_key(specification, record["fingerprint"], data["checksum"]))
    except (InputError, KeyError, AttributeError, TypeError):  # missing, or edited by hand
        pass
    return keys


def study_keys(results: Path, name: str) -> dict[str, set[str]]:
    """The keys in the store of each run of a study: first those it asks for, in its order.

    Runs that it no longer asks for may still lie there; they come after, by name.
    """
    study = read_json(study_files(results)[name])
    checksum = data_checksum(results, study)
    listed = {run["run"]: run for run in study["runs"]}
    runs = results / name / "runs"
    there = {str(path.parent.relative_to(runs)) for path in runs.rglob("run.json")}
    return {
        run: keys_of_run(runs / run, listed.get(run), checksum)
        for run in [*listed, *sorted(there - listed.keys())]
    }


def used_keys(results: Path) -> dict[str, list[str]]:
    """The keys in the store that studies ask for or were made from, each with its runs.

    A run is named study/run.
    """
    used: dict[str, list[str]] = {}
    for name in study_files(results):
        for run, keys in study_keys(results, name).items():
            for key in keys:
                used.setdefault(key, []).append(f"{name}/{run}")
    return used


def check_known(results: Path) -> None:
    """Raise InputError where it cannot be said which runs a study asks for."""
    advice = "run snakemake there once, or delete that folder"
    # A run that was stopped early has left nothing but its log.
    begun = {path.parent for part in ("runs", "logs") for path in results.glob(f"*/{part}")}
    for folder in sorted(begun - {results / "data", results / STORE}):
        study = folder / "study.json"
        if not study.exists():
            raise InputError(f"{folder}: of a study without study.json; {advice}")
        listed = read_json(study)
        if data_checksum(results, listed) is None:
            raise InputError(f"{study}: its data are not prepared; {advice}")
        marks = {path.name for path in folder.glob(f"{DEFINITION}*")}
        if marks - {f"{DEFINITION}{listed.get('definition_digest')}"}:
            raise InputError(f"{study}: lists an earlier definition of the study; {advice}")


def is_leftover(path: Path) -> bool:
    """Whether `path` has a temporary name and nobody has written to it for an hour.

    Its writer's process number says nothing where several machines share the folder.
    """
    try:
        return is_temporary(path) and time.time() - path.stat().st_mtime > QUIET_SECONDS
    except FileNotFoundError:  # its writer has just moved it into place
        return False


def size_of(path: Path) -> int:
    """Bytes on disk that removing `path` frees: files with another hard link free none."""
    if path.is_dir() and not path.is_symlink():
        return sum(size_of(inner) for inner in path.iterdir())
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size_words(size: int) -> str:
    """Words for a size on disk: "338.0 MB", "1.20 GB"."""
    if size >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
