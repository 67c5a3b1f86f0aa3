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

PACKAGE = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of the `kind` ("networks" or "norms"), sorted: one a file."""
    return sorted(path.stem for path in (PACKAGE / kind).glob("[a-z]*.py"))


def load(kind: str, name: str) -> ModuleType:
    """Import the module of one network or norm."""
    return importlib.import_module(f"normres.{kind}.{name}")


@cache
def _statements(kind: str, name: str) -> list[ast.stmt]:
    return ast.parse((PACKAGE / kind / f"{name}.py").read_text(encoding="utf-8")).body


def options(kind: str, name: str) -> list[str]:
    """The options a network or norm takes: the keyword arguments of its `build`."""
    for statement in _statements(kind, name):
        if isinstance(statement, ast.FunctionDef) and statement.name == "build":
            return [argument.arg for argument in statement.args.kwonlyargs]
    raise LookupError(f"normres/{kind}/{name}.py has no function `build`")


def constant(kind: str, name: str, constant_name: str, default: Any = None) -> Any:
    """The value of a literal constant at the top of a network's or norm's file."""
    for statement in _statements(kind, name):
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == constant_name
            for target in statement.targets
        ):
            return ast.literal_eval(statement.value)
    return default
