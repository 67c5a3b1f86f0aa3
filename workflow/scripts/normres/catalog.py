"""Which networks and norms there are and which options each takes, read from their files.

The files are parsed, not imported: Snakemake reads this while it builds its graph, and torch takes
seconds to import.
"""

import ast
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from normres.errors import InputError

PACKAGE = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of the `kind` ("networks" or "norms"), sorted: one a file."""
    return sorted(path.stem for path in (PACKAGE / kind).glob("[a-z]*.py"))


def load(kind: str, name: str) -> ModuleType:
    """Import the module of one network or norm."""
    return importlib.import_module(f"normres.{kind}.{name}")


@cache
def _statements(kind: str, name: str) -> list[ast.stmt]:
    path = PACKAGE / kind / f"{name}.py"
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # bytes that are no text
        raise InputError(f"{path}: {error}") from None


def options(kind: str, name: str) -> list[str]:
    """The options a network or norm takes: the keyword arguments of its `build`.

    Raises InputError where its file cannot be read as such.
    """
    for statement in _statements(kind, name):
        if isinstance(statement, ast.FunctionDef) and statement.name == "build":
            return [argument.arg for argument in statement.args.kwonlyargs]
    raise InputError(
        f"{PACKAGE / kind / name}.py: no function `build`, which each file of {kind} has; the name "
        "of one that is no network or norm begins with _"
    )


def check_network(name: str) -> None:
    """Raise InputError where a network's file lacks a constant, or has one of another kind."""

    def is_count(value: object) -> bool:
        return isinstance(value, int) and value >= 1

    channels, side = (constant("networks", name, key) for key in ("CHANNELS", "MIN_SIDE"))
    file = f"{PACKAGE / 'networks' / name}.py"
    if not (isinstance(channels, tuple | list) and channels and all(map(is_count, channels))):
        raise InputError(
            f"{file}: CHANNELS has to be the channel counts that the norm layers see, such as "
            f"(32, 64), not {channels!r}"
        )
    if not is_count(side):
        raise InputError(f"{file}: MIN_SIDE has to be a number of pixels from 1, not {side!r}")


def constant(kind: str, name: str, constant_name: str, default: Any = None) -> Any:
    """The value of a literal constant at the top of a network's or norm's file.

    Raises InputError where it is no literal.
    """
    for statement in _statements(kind, name):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if any(isinstance(t, ast.Name) and t.id == constant_name for t in targets):
            try:
                return ast.literal_eval(statement.value)
            except ValueError:
                raise InputError(
                    f"{PACKAGE / kind / name}.py, line {statement.lineno}: {constant_name} is no "
                    "literal, and is read without running the file"
                ) from None
    return default
