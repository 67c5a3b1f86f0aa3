"""The tables of a study: reading and writing them, and the names, order and labels of its rows.

A configuration is what differs between runs besides the seed: model, norm and the study's axes.
Its name is like "resnet/batch/batch_size=32".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from normres.errors import InputError
from normres.files import check_seal, read_json, replacing, seal

DIGITS = 12  # of a difference of fractions: what comes after is the rounding of its parts
ALL_AT_ZERO = ("statistics_images", "train_images", "test_images")  # options whose 0 takes all
CLASSES = ("label", "predicted")  # columns of class names: text, also of a class 01 or nan
STUDY_KEYS = ("study", "title", "dataset", "models", "norms", "seeds", "axes", "epochs", "runs")


def read_study(path: str | Path) -> dict[str, Any]:
    """Read a study.json; raises InputError that names what it lacks."""
    study = read_json(path)
    missing = [key for key in STUDY_KEYS if key not in study]
    if missing:
        raise InputError(f"{path}: no {', '.join(missing)}; a study.json has all of {STUDY_KEYS}")
    return study


def axis_text(value: Any) -> str:
    """Text of an axis value, the same whether it comes from JSON or from a csv cell: 32.0 -> 32."""
    if isinstance(value, bool) or str(value) in ("True", "False"):
        return str(value).lower()
    try:
        return f"{float(value):.12g}"
    except (TypeError, ValueError):
        return str(value)


def configuration_columns(study: Mapping[str, Any]) -> list[str]:
    """Columns that tell configurations apart: model, norm and the study's axes."""
    return ["model", "norm", *study["axes"]]


def configuration_name(configuration: Mapping[str, Any], axes: Sequence[str]) -> str:
    """A configuration's name: "resnet/batch/batch_size=32", with the axes that it has."""
    parts = [f"{a}={axis_text(configuration[a])}" for a in axes if a in configuration]
    return "/".join([configuration["model"], configuration["norm"], *parts])


def configurations(study: Mapping[str, Any]) -> pd.DataFrame:
    """All configurations in the order to draw them: a row each, indexed by name.

    The columns are those of `configuration_columns`; an axis that does not apply is NaN.
    """
    columns = configuration_columns(study)
    rows = [
        {"model": run["model"], "norm": run["norm"]}
        | {axis: axis_text(value) for axis, value in run["axes"].items()}
        for run in study["runs"]
    ]
    table = pd.DataFrame(rows, columns=columns, dtype=object).drop_duplicates()
    table = in_drawing_order(table, study)
    table.index = pd.Index(_names(table, columns), name="configuration")
    return table


def in_drawing_order(table: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Sort by model, norm and those axes that `table` has, each in the order of the study.

    Rows that are alike in these stay in their order.
    """
    orders = {"model": study["models"], "norm": study["norms"]}
    orders |= {axis: [axis_text(value) for value in study["axes"][axis]] for axis in study["axes"]}
    position = {column: {value: i for i, value in enumerate(orders[column])} for column in orders}
    columns = [column for column in configuration_columns(study) if column in table]
    return table.sort_values(
        columns, key=lambda cells: cells.map(position[cells.name]), kind="stable"
    )


def read_table(path: str | Path, study: Mapping[str, Any]) -> pd.DataFrame:
    """Read a csv of the study, with a column `configuration`: ordered categories, in drawing order.

    Axis cells are text (see `axis_text`), as they may hold numbers or words; empty cells are NaN.
    Raises InputError where the file is missing, lacks a column or has an unknown configuration.
    """
    columns = configuration_columns(study)
    table = read_cells(path, study["axes"])
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise InputError(f"{path}: no column {', '.join(lacking)}; remake it from study.json")
    names = _names(table, columns)
    known = configurations(study).index
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(f"{path}: {unknown[0]} is not a configuration of study.json; remake it")
    table["configuration"] = pd.Categorical(names, categories=known, ordered=True)
    return table


def read_cells(path: str | Path, axes: Mapping[str, Any]) -> pd.DataFrame:
    """Read a csv with `axes` and CLASSES as text; only empty cells and "nan" are missing.

    None is a norm. A class may be called nan, and none is without a name.

    Raises InputError where the file is missing, no table, or was edited since it was written.
    """
    check_seal(path)
    try:
        text = dict.fromkeys(CLASSES, object)
        table = pd.read_csv(path, keep_default_na=False, na_values=["", "nan"], dtype=text)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a csv table ({str(error).strip()})") from None
    if table.empty:
        return table.astype(float)  # without rows, pandas cannot know that columns are numbers
    for name in table.columns.intersection(CLASSES):
        table[name] = table[name].fillna("nan")
    for axis in table.columns.intersection(list(axes)):
        table[axis] = table[axis].astype(object).map(axis_text, na_action="ignore")
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write `table` as csv with every digit of its numbers; the column `configuration` is left out.

    `read_table` makes that column again from the configuration's own columns.
    """
    with replacing(path) as temporary:
        table.drop(columns="configuration", errors="ignore").to_csv(
            temporary, index=False, lineterminator="\n"
        )
    seal(path)


def with_gap(table: pd.DataFrame) -> pd.DataFrame:
    """Add the generalisation gap: training minus test accuracy, both in evaluation mode."""
    # A gap of an image differs by rounding where the accuracies do: that is no spread of runs.
    gap = (table["train_eval_accuracy"] - table["test_accuracy"]).round(DIGITS)
    return table.assign(gap=gap)


def norm_title(norm: str) -> str:
    """Words for a norm: "batch norm", "no norm"."""
    return "no norm" if norm == "none" else f"{norm} norm"


def axis_label(axis: str, value: Any) -> str:
    """Words for an axis value: "batch size 32"."""
    words = axis.replace("_", " ")
    text = axis_text(value)
    return f"all {words}" if axis in ALL_AT_ZERO and text == "0" else f"{words} {text}"


def axes_label(configuration: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Words for the axis values of a configuration; empty where it has none."""
    values = {axis: configuration[axis] for axis in study["axes"]}
    return ", ".join(axis_label(axis, value) for axis, value in values.items() if pd.notna(value))


def absent_runs(runs: pd.DataFrame, *, shown: int = 4) -> str:
    """One line about the runs that are in no mean: "2 of 27 runs missing: a (diverged), ...".

    Where they are more than `shown`, a configuration stands for its runs: "a (5 failed), ...".
    """
    absent = runs[runs["status"] != "ok"]
    if absent.empty:
        return ""
    if len(absent) > shown:
        counts = absent.groupby(["configuration", "status"], sort=False, observed=True).size()
        counts = counts.sort_values(ascending=False, kind="stable")
        names = [f"{name} ({count} {status})" for (name, status), count in counts.items()]
    else:
        pairs = zip(absent["run"], absent["status"], strict=True)
        names = [f"{run} ({status})" for run, status in pairs]
    more = f" and {len(names) - shown} more configurations" if len(names) > shown else ""
    return f"{len(absent)} of {len(runs)} runs missing: {', '.join(names[:shown])}{more}"


def timing_repeats(summary: pd.DataFrame) -> str:
    """How many repeats the times rest on: "10", or "10 or 12" where configurations differ."""
    repeats = sorted({int(n) for n in summary["timing_repeats"].dropna() if n})
    return " or ".join(map(str, repeats))


def untimed_configurations(
    summary: pd.DataFrame, study: Mapping[str, Any], *, shown: int = 4
) -> str:
    """One line about the configurations without times, by reason.

    As "Not timed: resnet/batch, vgg11/batch (why); resnet/none (another)".
    """
    untimed = summary[~(summary["timing_repeats"] > 0)]
    names = _names(untimed, configuration_columns(study))
    reasons = untimed["untimed_reason"].astype(object).fillna("no row in timing.csv")
    alike: dict[str, list[str]] = {}
    for name, reason in zip(names, reasons, strict=True):
        alike.setdefault(reason, []).append(name)
    parts = []
    for reason, named in alike.items():
        more = f" and {len(named) - shown} more" if len(named) > shown else ""
        parts.append(f"{', '.join(named[:shown])}{more} ({reason})")
    more = f"; and {len(parts) - shown} more reasons" if len(parts) > shown else ""
    return f"Not timed: {'; '.join(parts[:shown])}{more}" if parts else ""


def _names(table: pd.DataFrame, columns: list[str]) -> list[str]:
    axes = columns[2:]
    return [
        "/".join(
            [model, norm]
            + [f"{axis}={cell}" for axis, cell in zip(axes, cells, strict=True) if pd.notna(cell)]
        )
        for model, norm, *cells in table[columns].itertuples(index=False, name=None)
    ]
