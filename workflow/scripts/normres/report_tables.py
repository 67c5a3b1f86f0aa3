"""The tables of a study's report: columns of cells, with intervals and what they are sorted by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from normres.parts import attributes, cells_of, token
from normres.tables import axes_label, configuration_columns, configurations, norm_title
from normres.wording import EQUAL, MINUS, lost_runs, number_words

EMPTY, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, a line under it (an interval), and what its column is sorted by."""

    text: str
    under: str = ""
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table; `note` is its unit or what else belongs into the header."""

    name: str
    note: str
    cells: Sequence[Cell]

    @property
    def numeric(self) -> bool:
        return any(isinstance(cell.value, float) for cell in self.cells)


def number_text(number: float, digits: int) -> str:
    """A number with `digits` decimals and thousands separators; a dash where there is none."""
    return EMPTY if pd.isna(number) else number_words(number, f"{{:,.{digits}f}}")


def number_column(
    numbers: pd.Series, name: str, note: str = "", digits: int = 0, scale: float = 1
) -> Column:
    """A column of numbers, times `scale`."""
    cells = [
        Cell(number_text(number * scale, digits), value=None if pd.isna(number) else float(number))
        for number in numbers
    ]
    return Column(name, note, cells)


def estimate_column(
    table: pd.DataFrame,
    metric: str,
    name: str,
    unit: str,
    digits: int,
    scale: float = 1,
    center: str = "mean",
) -> Column:
    """A column of means (or medians) with their intervals, times `scale`.

    One run has no interval, and equal runs have none, which is said.
    """
    parts = (table[f"{metric}_{part}"] for part in (center, "low", "high"))
    equal = table.get(f"{metric}_sd", pd.Series(1, table.index)) == 0
    cells = []
    for mean, low, high, same in zip(*parts, equal, strict=True):
        under = f"[{EQUAL}]" if same else ends_text(low, high, digits, scale)
        value = None if pd.isna(mean) else float(mean)
        cells.append(Cell(number_text(mean * scale, digits), under, value))
    return Column(name, unit, cells)


def ends_text(low: float, high: float, digits: int, scale: float = 1) -> str:
    """An interval, times `scale`: "[1.20, 1.40]"; empty where there is none."""
    if pd.isna(low):
        return ""
    return f"[{number_text(low * scale, digits)}, {number_text(high * scale, digits)}]"


def reported_column(
    summary: pd.DataFrame, metric: str, name: str, unit: str, digits: int, scale: float = 1
) -> Column:
    """A column of reported numbers, and whether a single run of ours would lie there."""
    cells = []
    for row in summary.to_dict("records"):
        number, inside = row[f"reported_{metric}"], row[f"reported_{metric}_inside"]
        ends = (row[f"{metric}_new_run_low"], row[f"{metric}_new_run_high"])
        words = {True: "in ", False: "not in "}.get(inside, "") + ends_text(*ends, digits, scale)
        value = None if pd.isna(number) else float(number)
        cells.append(Cell(number_text(number * scale, digits), words, value))
    return Column(name, unit, cells)


def configuration_cells(table: pd.DataFrame, study: Mapping[str, Any]) -> list[Column]:
    """The columns of `table` that name a configuration: model, norm and the axes it has."""
    columns = [name for name in configuration_columns(study) if name in table]
    return [
        Column(name.replace("_", " "), "", [axis_cell(value) for value in table[name]])
        for name in columns
    ]


def row_attributes(table: pd.DataFrame, study: Mapping[str, Any]) -> list[dict[str, str]]:
    """The data attributes of each row: what of the study it shows (see parts.py)."""
    return [attributes(cells_of(row, study)) for row in table.to_dict("records")]


def switches(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a reader can switch: columns with several values, their titles and their values.

    A value is its data attribute's word and its text.
    """
    table = configurations(study)
    titles = {"model": "networks", "norm": "norms"}
    found = []
    for name in table:
        values = table[name].dropna().drop_duplicates().tolist()
        if len(values) > 1:
            title = titles.get(name, name.replace("_", " "))
            choices = [(token(value), value) for value in values]
            found.append({"name": name, "title": title, "choices": choices})
    return found


def axis_cell(value: Any) -> Cell:
    """A cell of a model, norm or axis value; numbers are sorted as numbers."""
    if pd.isna(value):
        return Cell(EMPTY)
    try:
        return Cell(str(value), value=float(value))
    except ValueError:
        return Cell(str(value), value=str(value))


def summary_columns(
    summary: pd.DataFrame, runs: pd.DataFrame, study: Mapping[str, Any]
) -> list[Column]:
    """The table of results, one row per configuration."""
    chosen_on = "/".join(sorted(runs["best_chosen_on"].dropna().unique())) or "test"
    columns = [*configuration_cells(summary, study), count_column(summary)]
    columns.append(estimate_column(summary, "test_accuracy", "test accuracy", "%", 2, 100))
    if summary["reported_test_accuracy"].notna().any():
        columns.append(
            reported_column(summary, "test_accuracy", "reported accuracy", "%, one run", 2, 100)
        )
    columns.append(estimate_column(summary, "test_loss", "test loss", "nats", 3))
    if summary["reported_test_loss"].notna().any():
        columns.append(reported_column(summary, "test_loss", "reported loss", "nats, one run", 3))
    return [
        *columns,
        estimate_column(summary, "train_loss", "training loss", "nats", 4),
        estimate_column(summary, "gap", f"training {MINUS} test accuracy", "points", 2, 100),
        estimate_column(
            summary, "best_test_accuracy", "test accuracy at the best epoch",
            f"%, chosen on the {chosen_on} images", 2, 100,
        ),
        estimate_column(
            summary, "seconds_per_epoch", "training time per epoch", "s, median", 2, center="median"
        ),
    ]  # fmt: skip


def count_column(summary: pd.DataFrame) -> Column:
    """Number of runs in the means, and how many are in none and why."""
    cells = [Cell(str(row["n"]), lost_runs(row), float(row["n"])) for _, row in summary.iterrows()]
    return Column("n", "seeds", cells)


def complexity_columns(complexity: pd.DataFrame, study: Mapping[str, Any]) -> list[Column]:
    """The table of costs, one row per network; costs that were not counted are left out."""
    shown = {
        "params": ("parameters", "", 0, 1),
        "macs": ("MACs", "million, 1 MAC = 1 multiply-add", 2, 1e-6),
        "norm_ops": ("norm operations", "million, in evaluation", 3, 1e-6),
        "norm_ops_training": ("norm operations", "million, in training", 3, 1e-6),
        "activations": ("activations", "elements", 0, 1),
        "weight_bytes": ("weights", "MB", 2, 1e-6),
    }
    columns = configuration_cells(complexity, study)
    if "input" in complexity:
        sizes = [Cell(text.replace("x", TIMES), value=text) for text in complexity["input"]]
        columns.append(Column("input", f"C {TIMES} H {TIMES} W", sizes))
    columns += [
        number_column(complexity[key], *how) for key, how in shown.items() if key in complexity
    ]
    if "peak_training_bytes" in complexity:
        peaks = complexity[["peak_training_bytes", "peak_training_batch"]].itertuples(index=False)
        cells = [
            Cell(number_text(peak / 1e6, 1), f"batches of {batch}", float(peak))
            for peak, batch in peaks
        ]
        columns.append(Column("peak memory of training", "MB", cells))
    return columns


def layer_tables(
    layers: pd.DataFrame, study: Mapping[str, Any]
) -> list[tuple[str, list[Column], dict[str, str]]]:
    """A table of layers for each network, with the network's name and data attributes."""
    keys = [name for name in configuration_columns(study) if name in layers]
    numbers = ("params", "macs", "norm_ops", "norm_ops_training", "activations")
    tables = []
    for cells, part in layers.groupby(keys, sort=False, dropna=False):
        named = dict.fromkeys(study["axes"]) | dict(zip(keys, cells, strict=True))
        columns = [
            Column(name.replace("_", " "), "", [Cell(str(cell)) for cell in part[name].fillna("")])
            for name in ("layer", "type", "output_shape")
        ]
        columns += [number_column(part[name], LAYER_NAMES[name]) for name in numbers]
        shown = attributes(cells_of(named, study))
        tables.append((configuration_label(named, study), columns, shown))
    return tables


LAYER_NAMES = {
    "params": "parameters",
    "macs": "MACs",
    "norm_ops": "norm operations (evaluation)",
    "norm_ops_training": "norm operations (training)",
    "activations": "activations",
}


def texts_by_network(
    complexity: pd.DataFrame, column: str, study: Mapping[str, Any]
) -> dict[str, list[str]]:
    """The different texts of a column, each with the networks that have it."""
    networks: dict[str, list[str]] = {}
    if column in complexity:
        for row in complexity[complexity[column].notna()].to_dict("records"):
            label = configuration_label(dict.fromkeys(study["axes"]) | row, study)
            networks.setdefault(row[column], []).append(label)
    return networks


def configuration_label(configuration: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Words for a configuration: "resnet, batch norm, batch size 32"."""
    words = [configuration["model"], norm_title(configuration["norm"])]
    return ", ".join([*words, *filter(None, [axes_label(configuration, study)])])
