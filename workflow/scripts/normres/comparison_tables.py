"""comparisons.csv: its columns, and the tables for people that are made from it."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from normres.errors import InputError
from normres.inference import ALPHA, too_few_for_welch
from normres.parts import attributes, cells_of
from normres.report_tables import EMPTY, Cell, Column, configuration_label, number_text
from normres.tables import configurations, read_cells
from normres.wording import MINUS

COLUMNS = [
    "kind", "of", "against", "metric", "unit", "paired",
    "n_of", "n_against", "lost_of", "lost_against", "mean_of", "mean_against",
    "difference", "low", "high", "df", "correlation",
    "p", "p_holm", "permutation_p", "permutation_p_holm", "permutation_exact",
    "smallest_p", "smallest_p_holm", "family",
    "test_images", "total_sd", "seeds_sd", "images_sd", "seeds_share", "total_low", "total_high",
    "sd", "sd_from", "spread_check_p", "detectable", "note",
]  # fmt: skip
MOST_SHOWN = 200  # rows without a test, in the report
MOST_NAMED = 6  # comparisons of one note
METRICS = {
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "train_loss": "training loss",
    "train_eval_accuracy": "training accuracy",
    "gap": "training minus test accuracy",
}


def labels(study: Mapping[str, Any]) -> dict[str, str]:
    """Words for each configuration, by its name: "resnet, batch norm"."""
    table = configurations(study)
    rows = zip(table.index, table.to_dict("records"), strict=True)
    return {name: configuration_label(row, study) for name, row in rows}


def read_comparisons(path: Any) -> pd.DataFrame:
    """Read comparisons.csv; raises InputError where it is missing or lacks a column."""
    table = read_cells(path, {})
    if lacking := [column for column in COLUMNS if column not in table]:
        raise InputError(f"{path}: no column {', '.join(lacking)}; remake it")
    return table.astype({"family": "Int64"})


def p_text(p: float) -> str:
    """A p value: "0.0079", "< 0.0001". One below ALPHA is not rounded up to it: "0.04996"."""
    if pd.isna(p):
        return EMPTY
    if p < 0.0001:
        return "< 0.0001"
    if p >= 0.1:
        return f"{p:.2f}"
    texts = (f"{p:.{digits}g}" for digits in range(3, 18))
    return next(text for text in texts if (float(text) < ALPHA) == (p < ALPHA))


def count_text(row: Mapping[str, Any]) -> str:
    """Runs on both sides: "5 and 4"; pairs: "5 pairs"."""
    if row["paired"]:
        return f"{row['n_of']} pairs"
    return f"{row['n_of']} and {row['n_against']}"


def lost_text(row: Mapping[str, Any]) -> str:
    """How many runs of both sides are not in a comparison: "0 and 2 diverged or failed", or ""."""
    lost = row["lost_of"], row["lost_against"]
    return f"{lost[0]} and {lost[1]} diverged or failed" if any(lost) else ""


def lost_sentence(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The same as a sentence that follows another: " Runs that diverged or failed: 2 of A."."""
    lost = [
        f"{row[f'lost_{side}']} of {names[row[side]]}"
        for side in ("of", "against")
        if row[f"lost_{side}"]
    ]
    return f" Runs that diverged or failed: {' and '.join(lost)}." if lost else ""


def few_for_welch(row: Mapping[str, Any]) -> bool:
    """Whether a comparison has so few runs that Welch's p is too small where spreads differ."""
    tested = pd.notna(row["low"]) and not row["paired"]
    return tested and too_few_for_welch((row["n_of"], row["n_against"]))


def digits(unit: str) -> int:
    """Decimals of a difference."""
    return 2 if unit == "points" else 3


def difference_text(number: float, unit: str) -> str:
    """A difference, or an end of its interval, without its unit.

    One that is not 0 does not read as 0: on which side of 0 an interval ends says what p says.
    """
    places = digits(unit)
    if number and abs(number) < 0.5 * 10**-places:
        places = -math.floor(math.log10(abs(number)))
    return number_text(number, places)


def interval_text(row: Mapping[str, Any]) -> str:
    """A difference's interval: "[0.10, 0.30]"; empty where there is none."""
    if pd.isna(row["low"]):
        return ""
    low, high = (difference_text(row[end], row["unit"]) for end in ("low", "high"))
    return f"[{low}, {high}]"


def finding(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """One sentence on a declared comparison, with its numbers.

    It claims a difference only where the adjusted test rejects equality. Lost runs are counted.
    """
    lost = lost_sentence(row, names)
    of, against = names[row["of"]], names[row["against"]]
    what = METRICS[row["metric"]]
    if pd.isna(row["difference"]):
        return f"{of} against {against}: {first_note(row)}, so nothing is said.{lost}"
    size = f"{difference_text(abs(row['difference']), row['unit'])} {row['unit']}"
    counts = f"n = {count_text(row)}"
    way = "above" if row["difference"] > 0 else "below"
    where = f"The mean {what} of {of} is {size} {way} that of {against}"
    if row["difference"] == 0:
        where = f"The mean {what} of {of} is equal to that of {against}"
    if pd.isna(row["low"]):
        return f"{where} ({counts}); no interval: {first_note(row)}.{lost}"
    interval = f"95 % interval {interval_text(row)[1:-1].replace(', ', ' to ')}"
    test = f"p = {p_text(row['p_holm'])} after Holm's adjustment for {row['family']}"
    test = test.replace("= <", "<")
    verdict = "" if row["p_holm"] < ALPHA else ", which does not show a difference"
    few = f" {FEW}" if few_for_welch(row) else ""
    return f"{where} ({interval}, {counts}, {test}){verdict}.{few}{lost}"


def first_note(row: Mapping[str, Any]) -> str:
    """Why two means have no difference, or a difference no interval."""
    return row["note"].split("; ")[0]


def compact_finding(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A declared comparison without a sentence around it."""
    title = f"{names[row['of']]} {MINUS} {names[row['against']]}"
    title += f" ({METRICS[row['metric']]})" if row["metric"] != "test_accuracy" else ""
    if pd.isna(row["difference"]):
        return f"{title}: {first_note(row)}"
    size = f"{title}: {difference_text(row['difference'], row['unit'])} {row['unit']}"
    interval = interval_text(row) or "no interval"
    p = "" if pd.isna(row["p_holm"]) else f", p = {p_text(row['p_holm'])}".replace("= <", "<")
    lost = f" ({lost_text(row)})" if lost_text(row) else ""
    return f"{size} {interval}, n = {count_text(row)}{lost}{p}"


def declared_columns(declared: pd.DataFrame, names: Mapping[str, str]) -> list[Column]:
    """The table of the declared comparisons, a row each."""
    rows = declared.to_dict("records")
    columns = [
        Column("comparison", "first minus second", [comparison_cell(row, names) for row in rows]),
        Column("n", "runs", [Cell(count_text(row), lost_text(row)) for row in rows]),
        Column("difference", "[95 % interval]", [difference_cell(row) for row in rows]),
        Column("p", "t test, Holm's; alone", [p_cell(row, "p") for row in rows]),
        Column("p", "permutations, Holm's; alone", [p_cell(row, "permutation_p") for row in rows]),
        Column("detectable", "with 80 % power, one test", [detectable_cell(row) for row in rows]),
    ]
    for name in declared.columns:
        if name.startswith("runs_for_") and declared[name].notna().any():
            wanted = name.removeprefix("runs_for_")
            cells = [
                Cell(EMPTY)
                if pd.isna(row[name])
                else Cell(f"{row[name]:,.0f}", "", float(row[name]))
                for row in rows
            ]
            unit = "point" if wanted == "1" else "points"
            columns.append(Column("runs per side", f"for {wanted} {unit}", cells))
    if declared["total_sd"].notna().any():
        columns.append(
            Column("spread", "sd over seeds; over test images", [parts_cell(row) for row in rows])
        )
    return columns


def descriptive_columns(others: pd.DataFrame, names: Mapping[str, str]) -> list[Column]:
    """The table of all other pairs: a difference with its interval, and no test."""
    rows = others.to_dict("records")
    return [
        Column("comparison", "first minus second", [comparison_cell(row, names) for row in rows]),
        Column("n", "runs", [Cell(count_text(row), lost_text(row)) for row in rows]),
        Column("difference", "[95 % interval]", [difference_cell(row) for row in rows]),
    ]


def comparison_cell(row: Mapping[str, Any], names: Mapping[str, str]) -> Cell:
    """Both sides in words, and the metric where it is not the accuracy on test images."""
    text = f"{names[row['of']]} {MINUS} {names[row['against']]}"
    under = [METRICS[row["metric"]]] if row["metric"] != "test_accuracy" else []
    under += ["in pairs, " + correlation_text(row)] if row["paired"] else []
    return Cell(text, "; ".join(under), text)


def correlation_text(row: Mapping[str, Any]) -> str:
    """The correlation of pairs in words."""
    if pd.isna(row["correlation"]):
        return "no correlation can be had"
    return f"correlation {number_text(row['correlation'], 2)}"


def difference_cell(row: Mapping[str, Any]) -> Cell:
    """A difference with its unit and interval."""
    if pd.isna(row["difference"]):
        return Cell(EMPTY)
    text = f"{difference_text(row['difference'], row['unit'])} {row['unit']}"
    under = interval_text(row) or "no interval"
    return Cell(text, under, float(row["difference"]))


def p_cell(row: Mapping[str, Any], test: str) -> Cell:
    """An adjusted p, and under it the p of the test alone."""
    adjusted = row[f"{test}_holm"]
    value = None if pd.isna(adjusted) else float(adjusted)
    return Cell(p_text(adjusted), "" if pd.isna(row[test]) else p_text(row[test]), value)


def detectable_cell(row: Mapping[str, Any]) -> Cell:
    """The smallest detectable difference, and under it the spread that it rests on."""
    if pd.isna(row["detectable"]):
        return Cell(EMPTY)
    places = digits(row["unit"])
    under = f"sd {number_text(row['sd'], places)}"
    return Cell(
        f"{number_text(row['detectable'], places)} {row['unit']}", under, float(row["detectable"])
    )


def parts_cell(row: Mapping[str, Any]) -> Cell:
    """The parts of a difference's spread."""
    if pd.isna(row["total_sd"]):
        return Cell(EMPTY)
    text = f"{number_text(row['seeds_sd'], 2)}; {number_text(row['images_sd'], 2)}"
    return Cell(text, f"both {number_text(row['total_sd'], 2)}", float(row["total_sd"]))


def spread_sentence(declared: pd.DataFrame) -> str:
    """What the spread in the columns on power rests on; empty where there is none."""
    sources = declared["sd_from"].dropna().unique() if len(declared) else []
    return f"The sd is that of {' or of '.join(sources)}." if len(sources) else ""


def notes(declared: pd.DataFrame, names: Mapping[str, str]) -> list[str]:
    """What a reader has to know of single declared comparisons; equal notes are one.

    Up to MOST_NAMED comparisons of a note are named, more are counted.
    """
    found: dict[str, list[str]] = {}
    for row in declared.to_dict("records"):
        if isinstance(row["note"], str) and row["note"]:
            both = f"{names[row['of']]} against {names[row['against']]}"
            found.setdefault(row["note"], []).append(both)
    return [f"{_named_or_counted(pairs, len(declared))}: {note}." for note, pairs in found.items()]


def _named_or_counted(pairs: Sequence[str], declared: int) -> str:
    if len(pairs) <= MOST_NAMED:
        return "; ".join(pairs)
    if len(pairs) == declared:
        return f"All {declared} declared comparisons"
    return f"{len(pairs)} of {declared} declared comparisons (named in comparisons.csv)"


def report_section(table: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, Any]:
    """What the report's section on comparisons shows."""
    names = labels(study)
    declared, others = (table[table["kind"] == kind] for kind in ("declared", "descriptive"))
    shown = others.head(MOST_SHOWN)
    cells = {name: cells_of(row, study) for name, row in configurations(study).iterrows()}
    return {
        "findings": [finding(row, names) for row in declared.to_dict("records")],
        "explanation": f"{EXPLANATION} {spread_sentence(declared)}".strip(),
        "declared": declared_columns(declared, names) if len(declared) else [],
        "declared_rows": both_sides(declared, cells),
        "parts": declared["total_sd"].notna().any(),
        "notes": notes(declared, names),
        "none_declared": NONE_DECLARED,
        "descriptive": descriptive_columns(shown, names) if len(shown) else [],
        "descriptive_rows": both_sides(shown, cells),
        "others": len(others),
        "shown": len(shown),
        "description": description(table, names),
    }


def description(table: pd.DataFrame, names: Mapping[str, str]) -> str:
    """What the pairs without a test are, and that in a large study they are not all."""
    total = len(names) * (len(names) - 1) // 2
    accuracies = table.loc[table["metric"] == "test_accuracy", ["of", "against"]]
    there = len({frozenset(pair) for pair in accuracies.itertuples(index=False)})
    if there == total:
        return DESCRIPTIVE
    return (
        f"{DESCRIPTIVE} Of {total:,} pairs, {there:,} are compared: beside those declared, ones "
        "that differ in one thing."
    )


def both_sides(rows: pd.DataFrame, cells: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """The data attributes of each comparison, by what its two configurations are (`cells`)."""
    return [attributes(cells[row["of"]], cells[row["against"]]) for _, row in rows.iterrows()]


def markdown(table: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """comparisons.md: findings, tables and notes."""
    names = labels(study)
    declared, others = (table[table["kind"] == kind] for kind in ("declared", "descriptive"))
    title = html.escape(" ".join(study["title"].split()), quote=False)
    parts = [f"# {title}: comparisons"]
    if len(declared):
        parts += ["\n".join(f"- {finding(row, names)}" for row in declared.to_dict("records"))]
        parts += [markdown_table(declared_columns(declared, names))]
        parts += [f"{EXPLANATION} {spread_sentence(declared)}".strip()]
        parts += ["\n".join(f"- {note}" for note in notes(declared, names))]
    else:
        parts += [NONE_DECLARED]
    if len(others):
        parts += ["## Other pairs, without a test", description(table, names)]
        parts += [markdown_table(descriptive_columns(others, names))]
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown_table(columns: list[Column]) -> str:
    """Columns of cells as a Markdown table."""
    cells = {
        f"{column.name}, {column.note}": [
            f"{cell.text} {beside(cell.under)}".strip().replace("|", r"\|") for cell in column.cells
        ]
        for column in columns
    }
    return pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True)


def beside(under: str) -> str:
    """What stands under a cell's text, as it stands beside it: "(sd 0.40)", "[0.10, 0.30]"."""
    return f"({under})" if under and not under.startswith("[") else under


FEW = "With so few runs, p is too small where the two spreads differ."
NONE_DECLARED = (
    "This study declares no comparison (`comparisons` in config.yaml), so none is tested."
)
EXPLANATION = (
    "Differences after the last epoch, over seeds, with Welch's 95 % interval and test (Student's "
    "paired one for pairs). Holm's adjustment is for all declared comparisons. The permutation "
    "test needs no normal distribution. Detectable: the difference that one test of this many "
    "runs, before Holm's adjustment, finds with 80 % power."
)
DESCRIPTIVE = (
    "Nobody declared these beforehand, and there are many: an interval without 0 is no evidence by "
    "itself."
)
