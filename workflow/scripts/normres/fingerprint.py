"""Fingerprints of code: what a result depends on, and nothing that cannot change it.

A fingerprint covers a set of modules and all modules of this package that they import. Comments,
docstrings and layout do not count. `ast.dump` and `ast.unparse` differ between Python versions, so
the tree is walked here.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent
PACKAGE = "normres"

# Modules that a command imports but that cannot change a number or a drawing.
WITHOUT_EFFECT = {
    f"{PACKAGE}.{name}" for name in ("errors", "files", "progress", "catalog", "command_line")
}

# Fields that differ between Python 3.11, 3.12 and 3.13 or carry no meaning for what is computed.
IGNORED_FIELDS = {"type_params", "type_comment", "kind", "ctx"}


def of_run(network: str, norm: str) -> str:
    """Fingerprint of what can change the numbers of a run of `network` with `norm`."""
    return fingerprint(
        f"{PACKAGE}.training", f"{PACKAGE}.networks.{network}", f"{PACKAGE}.norms.{norm}"
    )


def fingerprint(*modules: str) -> str:
    """Hash of `modules` (dotted names under workflow/scripts) and what they import, 16 digits."""
    parts = [f"{name} {_digest(_path(name))}" for name in sorted(_closure(modules))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _path(module: str) -> Path:
    path = SCRIPTS.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _closure(modules: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in WITHOUT_EFFECT:
            found.add(name)
            waiting += _imports(_path(name))
    return found


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Modules of the package that the file at `path` imports, at its top or inside a function."""
    names: list[str] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if _path(name).exists() else node.module for name in submodules]
        elif isinstance(node, ast.Import):
            names += [a.name for a in node.names if a.name.split(".")[0] == PACKAGE]
    return tuple(names)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(_describe(_tree(path)).encode()).hexdigest()


def _describe(node: object) -> str:
    if isinstance(node, list):
        return "[" + ",".join(_describe(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list) and _is_docstring(node, value):
            value = value[1:]
        if name not in IGNORED_FIELDS and value not in (None, []):
            fields.append(f"{name}={_describe(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: ast.AST, body: list[ast.stmt]) -> bool:
    """Whether `body` starts with a docstring, as a module's, class's or function's does."""
    return (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and bool(body)
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    )
