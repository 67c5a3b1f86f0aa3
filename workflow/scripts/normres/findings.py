"""What a figure shows, in a sentence from the tables: each number with its n and interval."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from normres.report_tables import configuration_label
from normres.wording import number_words


def estimate_words(
    row: Mapping[str, Any], mean: str, *, scale: float = 1.0, unit: str = "", digits: int = 1
) -> str:
    """Words for an estimate and its interval: "93.1 % [92.8, 93.4], n = 5".

    `row` has columns `mean`, and those that end in low and high in its place, and n.
    """
    stem = mean.removesuffix("mean").removesuffix("median")
    center, low, high = (row[name] * scale for name in (mean, f"{stem}low", f"{stem}high"))
    unit = f" {unit}" if unit else ""
    form = f"{{:,.{digits}f}}"
    ends = [number_words(end, form) for end in (low, high)]
    interval = "no interval" if pd.isna(low) else " to ".join(ends)
    return f"{number_words(center, form)}{unit} [{interval}], n = {int(row['n'])}"


def extreme_words(
    summary: pd.DataFrame,
    study: Mapping[str, Any],
    column: str,
    title: str,
    *,
    largest: bool = True,
    **words: Any,
) -> str:
    """A sentence on the configuration with the extreme mean, the next one, and their intervals.

    title: "Highest mean accuracy"; words: as in `estimate_words`. Overlapping intervals order
    nothing, and that is said. Empty where no configuration has a number.
    """
    found = summary[summary[column].notna()].sort_values(column, ascending=not largest)
    if found.empty:
        return ""
    named = [
        f"{configuration_label(row, study)}, {estimate_words(row, column, **words)}"
        for _, row in found.head(2).iterrows()
    ]
    if len(named) == 1:
        return f"{title.partition(' ')[2].capitalize()}: {named[0]}."
    overlap = _overlap(found.iloc[0], found.iloc[1], column)
    return f"{title}: {named[0]}; next: {named[1]}. {overlap}"


def _overlap(first: pd.Series, second: pd.Series, column: str) -> str:
    stem = column.removesuffix("mean").removesuffix("median")
    ends = [row[f"{stem}{end}"] for row in (first, second) for end in ("low", "high")]
    if any(pd.isna(end) for end in ends):
        return "Without both intervals nothing is said about their order."
    if max(ends[0], ends[2]) <= min(ends[1], ends[3]):
        return "Their 95 % intervals overlap, so nothing is said about their order."
    return "Their 95 % intervals do not overlap."
