"""Files that are whole or not there: written under a temporary name, then moved into place."""

import csv
import glob
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from normres.errors import InputError


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; move it to `path` when the block ends without an error.

    Where it is to be `durable`, the data reaches the disk (fsync) before the name changes, so a
    crash of the machine, too, leaves the old file or the new one, never a part of one. The
    temporary file is removed when the block raises, and by the next process here that writes `path`
    where this one is killed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = _temporary(path, os.getpid())
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not error.filename:  # a full disk does not say where
            error.filename = str(path.parent)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path, process: int | str) -> Path:
    return path.with_name(f".{path.stem}.{platform.node()}-{process}.partial{path.suffix}")


def is_temporary(path: Path) -> bool:
    """Whether `path` has a name of `replacing`, that of a file which is not whole yet."""
    return re.fullmatch(r"\..+-\d+\.partial(\..*)?", path.name) is not None


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for `path` of processes of this machine that are no more."""
    before, _, after = _temporary(path, "*").name.partition("*")
    for leftover in path.parent.glob(f"{glob.escape(before)}*{glob.escape(after)}"):
        process = leftover.name.removeprefix(before).removesuffix(after)
        if not process.isdecimal():  # of a machine whose name only begins like this one's
            continue
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except PermissionError:  # another user's
            pass


def link_or_copy(source: Path, target: Path, link: bool) -> None:
    """Make `target` a hard link to `source` where `link` says so and it is possible, or a copy."""
    target.unlink(missing_ok=True)  # of a process that was killed and had the same number
    if link:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
    if target.exists():
        os.utime(target)  # Snakemake wants outputs to be newer than the job's inputs
    else:
        shutil.copyfile(source, target)


def expand_home(path: str | Path) -> Path:
    """`path` with a leading ~ or ~user replaced; raises InputError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home directory") from None


def shown_path(path: str | Path) -> str:
    """A path as a reader would give it: relative where it lies in the working directory."""
    absolute, here = Path(path).absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as csv; what a row lacks is an empty cell."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def append_line(path: str | Path, line: str) -> None:
    """Add a line to a text file, which is made where there is none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON with sorted keys; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def checksum(content: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest(content: bytes) -> str:
    """The first 16 digits of `checksum`: enough to tell what a name stands for."""
    return checksum(content)[:16]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def file_checksum(path: Path) -> str:
    """`checksum` of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_checksum(record: Mapping[str, Any]) -> str:
    """The checksum of a record, its own entry "checksum" aside."""
    content = {key: value for key, value in record.items() if key != "checksum"}
    return checksum(json.dumps(content, sort_keys=True).encode())


def seal(path: str | Path) -> None:
    """Note what `path` holds in a hidden file beside it, so that `is_edited` sees an edit."""
    path = Path(path)
    write_text(_seal_of(path), f"{file_checksum(path)}\n")


def is_edited(path: Path) -> bool:
    """Whether `path` was edited since it was sealed; a file without a seal is taken as it is."""
    try:
        return file_checksum(path) != _seal_of(path).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return False


def check_seal(path: str | Path) -> None:
    """Raise InputError where `path` was edited since it was sealed.

    When all its jobs have ended, Snakemake sets it aside (see workplace.py) and so makes it anew.
    """
    path = Path(path)
    if is_edited(path):
        raise InputError(
            f"{path}: edited since it was written; the next call of snakemake makes it anew and "
            f"keeps this one as {path.name}.aside"
        )


def set_aside(path: Path) -> None:
    """Rename a file that is not to be believed, replacing one that was set aside before."""
    with suppress(FileNotFoundError):
        os.replace(path, path.with_name(f"{path.name}.aside"))


def _seal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def read_rows(path: str | Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a csv file as text.

    Raises InputError where it is missing, no text, was edited, or lacks one of `columns`.
    """
    check_seal(path)
    try:
        with open(path, newline="", encoding="utf-8") as table:
            rows = csv.DictReader(table)
            if lacking := [name for name in columns if name not in (rows.fieldnames or ())]:
                raise InputError(f"{path}: no column {lacking[0]!r}; is it another table?")
            return list(rows)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a csv table ({error})") from None


def read_json(path: str | Path) -> Any:
    """Read JSON from `path`; raises InputError where the file is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
