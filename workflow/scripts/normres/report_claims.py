"""The claims of a study as its report shows them: what was decided, what is not measured here."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from normres.tables import read_cells

MARKS = {"supported": "\N{CHECK MARK}", "refuted": "\N{MULTIPLICATION X}", "undecided": "?"}
NOT_MEASURED = "not measured"
ORDER = (*MARKS, NOT_MEASURED)
SECTIONS = {"5.1": "5.1, normalisation", "5.2": "5.2, architectures", "both": "Both parts"}


def read_claims_table(path: Path) -> pd.DataFrame:
    """Read claims.csv; every cell is text."""
    return read_cells(path, {}).astype(object).fillna("")


def claims_section(table: pd.DataFrame, figures: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows of claims.csv; `figures` gives a figure's anchor by its name.

    `decided`: by section, the claims with a verdict, those that contradict each other side by side.
    `open`: by the command that measures them, the others, with their transfers, and in what most of
    these differ.
    """
    rows = {row["id"]: _row(row, figures) for row in table.to_dict("records")}
    for row in rows.values():
        row["against"] = [rows[name] for name in row["contradicts"].split() if name in rows]
    placed = _side_by_side(rows)
    ours = [row for row in placed if row["own"]]
    others = [row for row in placed if not row["own"]]
    decided: dict[str, list[dict[str, Any]]] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    for row in [*ours, *others]:
        if row["verdict"] == NOT_MEASURED:
            waiting.setdefault(row["run"], []).append(row)
        else:
            section = "Your own" if row["own"] else SECTIONS.get(row["section"], row["section"])
            decided.setdefault(section, []).append(row)
    return {
        "total": len(others),
        "own": len(ours),
        "counts": _counts(others),
        "own_counts": _counts(ours),
        "decided": decided,
        "open": {
            command: {"rows": group, "differs": _usual(row["transfer_from"] for row in group)}
            for command, group in waiting.items()
        },
        "transfers": sum(bool(row["transfer_verdict"]) for row in placed),
        "marks": MARKS,
    }


def _row(row: Mapping[str, Any], figures: Mapping[str, str]) -> dict[str, Any]:
    return {
        **row,
        "own": str(row["own"]) == "True",
        "anchor": figures.get(row["figure"], ""),
        "told": str(row["evidence"]).split("; "),
        "transfer_told": str(row["transfer_evidence"]).split("; "),
    }


def _side_by_side(rows: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in their order, but a claim right after the first one that it contradicts."""
    placed: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        for member in (row, *row["against"]):
            same = (member["own"], member["section"]) == (row["own"], row["section"])
            if same or member is row:
                placed.setdefault(member["id"], member)
    return list(placed.values())


def _usual(texts: Iterable[str]) -> str:
    """The most frequent text that is not empty, which the page says once for its group."""
    found = Counter(filter(None, texts))
    return found.most_common(1)[0][0] if found else ""


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    found = [row["verdict"] for row in rows]
    return {verdict: found.count(verdict) for verdict in ORDER if verdict in found}
