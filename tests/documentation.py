"""What tests read of the documentation: code to run, tables that must agree with the code."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from conftest import PROJECT
from normres import catalog
from normres.options import OPTIMIZER_OPTIONS, option_schemas, schema

BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}
KINDS = {"object": "keys", "array": "list", "string": "text", "boolean": "`true`, `false`"}


def section(page: str, heading: str) -> str:
    """The text of a section of docs/`page`."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"docs/{page} has no section {heading!r}"
    return found.group(1)


def blocks(page: str, heading: str, language: str) -> list[str]:
    """The blocks of code in `language` of a section of docs/`page`, in order."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, section(page, heading), re.MULTILINE | re.DOTALL)


def example(page: str, heading: str, language: str) -> str:
    """The only such block."""
    (block,) = blocks(page, heading, language)
    return block


def table_rows(page: str, heading: str) -> list[str]:
    """The rows of the tables of a section, without their heads."""
    lines = section(page, heading).splitlines()
    return [line for line in lines if line.startswith("| `")]


def undocumented(table: Path, axes: Iterable[str] = ()) -> list[str]:
    """The columns of a csv file of a study, beside its axes, that its page does not name."""
    elsewhere = {"comparisons.csv": "statistics.md", "claims.csv": "claims.md"}
    page = elsewhere.get(table.name, "tables.md")
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    if table.name not in elsewhere:
        parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
        curves = [part for part in parts if part.startswith("curves.csv")]
        own = [part for part in parts if table.name in part.partition("\n")[0]]
        assert own, f"docs/tables.md has no section about {table.name}"
        text = "\n".join(own + curves if table.name == "runs.csv" else own)
    names = [*axes, "model", "norm"]
    for name in re.findall(r"`(\w+(?:\.\d)?)`", text):
        stem = names[-1].rpartition("_")[0] if name.startswith("_") else ""  # `a_mean`, `_sd`
        names.append(stem + name)
    with table.open(newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file))
    return [column for column in columns if column not in names]


def option_rows() -> dict[str, list[str]]:
    """The rows that docs/options.md has under each heading, as the schema of config.yaml says."""
    settings, study = schema(), schema()["$defs"]["study"]
    return {
        "The file": [
            key_row(key, entry, settings["required"])
            for key, entry in settings["properties"].items()
        ],
        "A study": [
            key_row(key, entry, study["required"]) for key, entry in study["properties"].items()
        ],
        "Training options": [
            key_row(key, entry, (), applies_to(key)) for key, entry in option_schemas().items()
        ],
    }


def key_row(key: str, entry: Mapping[str, Any], required: Iterable[str], *more: str) -> str:
    """A row of a table of keys: key, default, values, what it is."""
    default = "(needed)" if key in required else str(entry.get("default", "")).lower()
    cells = [f"`{key}`", default, values(entry), *more, " ".join(entry["description"].split())]
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def values(entry: Mapping[str, Any]) -> str:
    """What a key of the schema may be, in words."""
    if "enum" in entry:
        return ", ".join(f"`{str(value).lower()}`" for value in entry["enum"])
    types = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    named = [f"`{name}`" for name in entry.get("then", {}).get("enum", ())]  # the only texts
    kinds = [KINDS.get(kind, kind) for kind in types if not (named and kind == "string")]
    bounds = [f"{word} {entry[bound]}" for bound, word in BOUNDS.items() if bound in entry]
    return " or ".join([" ".join([kinds[0], *bounds]), *kinds[1:], *named])


def applies_to(option: str) -> str:
    """The networks, norms or optimisers that read an option; empty where all do."""
    for kind in ("networks", "norms"):
        readers = [n for n in catalog.names(kind) if option in catalog.options(kind, n)]
        if readers:
            return ", ".join(readers) if len(readers) < len(catalog.names(kind)) else ""
    return ", ".join(sorted(OPTIMIZER_OPTIONS.get(option, ())))
