"""The named statistics and functions of claims' tests, read from a study's tables."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from normres.claim_values import (
    NotHereError,
    UnknownError,
    Value,
    add,
    divide,
    logarithm,
    multiply,
    paired,
    scale,
)
from normres.claims import resolve_epoch
from normres.expressions import (
    STATISTICS,
    Binary,
    Call,
    Measured,
    Node,
    Number,
    measured,
    open_axis,
)
from normres.options import option_schemas
from normres.tables import axis_text
from normres.wording import LOST

NONE_LOST = dict.fromkeys(LOST, 0)


@dataclass(frozen=True)
class Tables:
    """A study and the tables that claims are tested on; axes are text (see tables.axis_text).

    curves: one row per run and epoch. timing: one row per repeat, of one device and precision.
    complexity: one row per network.
    """

    study: Mapping[str, Any]
    curves: pd.DataFrame
    timing: pd.DataFrame
    complexity: pd.DataFrame


def configuration_name(part: Measured, star: str = "") -> str:
    """The name of a configuration as a test writes it, with the value of its open axis."""
    axes = [f"{axis}={star if value == '*' else value}" for axis, value in part.axes]
    return "/".join([part.model, part.norm, *axes])


def wanted_axes(part: Measured, study: Mapping[str, Any], star: str = "") -> dict[str, str]:
    """The value of every axis of the study for a configuration; defaults for those not named.

    Raises NotHereError where it names an option that is no axis of the study and has another value
    there; the study's own value of an option is a matter of its design.
    """
    defaults = {axis: option_schemas()[axis]["default"] for axis in study["axes"]}
    wanted = {axis: axis_text(value) for axis, value in defaults.items()}
    for axis, value in part.axes:
        text = axis_text(star if value == "*" else value)
        if axis in wanted:
            wanted[axis] = text
        elif axis_text(study.get("options", {}).get(axis)) != text:
            raise NotHereError(f"the study has no {configuration_name(part, star)}")
    return wanted


def select(
    table: pd.DataFrame, part: Measured, study: Mapping[str, Any], star: str = ""
) -> pd.DataFrame:
    """The rows of a configuration; an axis that does not apply to it, or to the table, is any."""
    rows = (table["model"] == part.model) & (table["norm"] == part.norm)
    for axis, value in wanted_axes(part, study, star).items():
        if axis in table:
            rows &= (table[axis] == value) | table[axis].isna()
    return table[rows]


def runs_of(part: Measured, study: Mapping[str, Any], star: str = "") -> list[dict[str, Any]]:
    """The runs of study.json that a configuration stands for; raises NotHereError where none."""
    wanted = wanted_axes(part, study, star)
    found = [
        run
        for run in study["runs"]
        if (run["model"], run["norm"]) == (part.model, part.norm)
        and all(axis_text(value) == wanted[axis] for axis, value in run["axes"].items())
    ]
    if not found:
        named = {axis for axis, _ in part.axes}
        unnamed = [f"{axis}={value}" for axis, value in wanted.items() if axis not in named]
        rest = f" (with {', '.join(unnamed)}, as the claim names no other)" if unnamed else ""
        raise NotHereError(f"the study has no {configuration_name(part, star)}{rest}")
    return found


def stars(part: Measured, study: Mapping[str, Any]) -> list[str]:
    """The values that the open axis of a configuration runs over; one empty text without one."""
    for axis, value in part.axes:
        if value == "*":
            if axis not in study["axes"]:
                raise NotHereError(f"the study does not vary {axis}")
            return [axis_text(value) for value in study["axes"][axis]]
    return [""]


def evaluate(node: Node, tables: Tables, star: str = "") -> Value:
    """The value of a node; raises NotHereError or UnknownError (see claim_values.py)."""
    if isinstance(node, Number):
        return Value(node.value)
    if isinstance(node, Binary):
        left, right = (evaluate(side, tables, star) for side in (node.left, node.right))
        match node.operator:
            case "+":
                return add(left, right)
            case "-":
                return add(left, right, -1.0)
            case "*":
                return multiply(left, right)
        return divide(left, right)
    if isinstance(node, Measured):
        return _measured(node, tables, star)
    return _call(node, tables, star)


def lost_runs(node: Node, tables: Tables) -> dict[str, int]:
    """How many of the runs that a node is computed from diverged, and how many failed.

    Counts and times, which need no complete run, have none. Raises NotHereError.
    """
    found = {}
    for part in measured(node):
        if STATISTICS[part.statistic].table != "curves":
            continue
        for star in stars(part, tables.study):
            rows = select(tables.curves, part, tables.study, star).drop_duplicates("seed")
            status = dict(zip(rows["seed"], rows["status"], strict=True))
            group = _group(part, tables, star)
            for run in runs_of(part, tables.study, star):
                # A run that failed before its first epoch has no row.
                found[group, run["seed"]] = status.get(run["seed"], "failed")
    counts = Counter(found.values())
    return {status: counts[status] for status in LOST}


def _group(part: Measured, tables: Tables, star: str = "") -> str:
    """What names the runs of a configuration, however a test writes it."""
    axes = runs_of(part, tables.study, star)[0]["axes"]
    named = [f"{axis}={axis_text(value)}" for axis, value in axes.items()]
    return "/".join([part.model, part.norm, *named])


def _measured(part: Measured, tables: Tables, star: str) -> Value:
    statistic = STATISTICS[part.statistic]
    group, name = _group(part, tables, star), configuration_name(part, star)
    if statistic.table == "curves":
        return Value(seeds={group: _series(part, tables, star).mean(axis=1)})
    rows = select(getattr(tables, statistic.table), part, tables.study, star)
    numbers = pd.to_numeric(rows[statistic.column]) if statistic.column in rows else rows.iloc[:, 0]
    if statistic.column not in rows or numbers.isna().all():
        raise UnknownError(f"no {statistic.words} of {name}")
    if statistic.table == "timing":
        repeats = numbers.dropna().to_numpy(float) * statistic.scale
        return Value(repeats={f"{part.statistic} of {group}": (1.0, repeats)})
    if numbers.nunique() > 1:
        raise UnknownError(f"{name} has networks of different {statistic.words}")
    return Value(float(numbers.iloc[0]) * statistic.scale)


def _series(part: Measured, tables: Tables, star: str = "") -> pd.DataFrame:
    """A statistic over epochs: one row per complete run (its seed), one column per epoch."""
    statistic, name = STATISTICS[part.statistic], configuration_name(part, star)
    last = tables.study["epochs"]
    first, final = (
        resolve_epoch(part.first, last) if part.first else 0,
        resolve_epoch(part.final, last) if part.final else last,
    )
    if not 0 <= first <= final <= last:
        beyond = final if final > last else first
        raise NotHereError(f"it needs epoch {beyond}; the study has {last}")
    rows = select(tables.curves, part, tables.study, star)
    rows = rows[(rows["status"] == "ok") & rows["epoch"].between(first, final)]
    if rows.empty:
        raise UnknownError(f"no complete run of {name}")
    table = rows.pivot(index="seed", columns="epoch", values=statistic.column).astype(float)
    table = table.dropna(axis=1, how="all")  # no training loss before training
    if table.empty or table.isna().to_numpy().any():
        raise UnknownError(f"{statistic.words} of {name} was not measured at every epoch")
    return table * statistic.scale


def _call(call: Call, tables: Tables, star: str) -> Value:
    first = call.arguments[0]
    match call.function:
        case "log":
            return logarithm(evaluate(first, tables, star))
        case "log10":
            return logarithm(evaluate(first, tables, star), 10)
        case "mean":
            value = evaluate(first, tables, star)
            return Value(math.exp(value.estimate()) if value.log else value.estimate())
        case "paired":
            return paired(evaluate(first, tables, star))
        case "trend":
            return _trend(call, tables)
        case "last_crossing":
            return _last_crossing(*call.arguments, tables, star)
    runs_of(first, tables.study, star)
    series = _series(first, tables, star)
    if series.shape[1] < 2:
        raise NotHereError(f"{call.function} needs two epochs or more")
    numbers = _of_series(call, series, tables, star)
    return Value(seeds={_group(first, tables, star): numbers})


def _of_series(call: Call, series: pd.DataFrame, tables: Tables, star: str) -> pd.Series:
    """One number per run, from its series over epochs."""
    match call.function:
        case "slope":
            epochs = series.columns.to_numpy(float)
            centred = epochs - epochs.mean()
            return series @ centred / (centred @ centred)
        case "steps_sd":
            return series.diff(axis=1).iloc[:, 1:].std(axis=1, ddof=1)
        case "largest_rise":
            return series.pct_change(axis=1).iloc[:, 1:].max(axis=1)
        case "steps_quantile":
            share = call.arguments[1].value
            if not 0 <= share <= 1:
                raise UnknownError(f"a quantile of {share}, which is not between 0 and 1")
            return series.pct_change(axis=1).iloc[:, 1:].quantile(share, axis=1)
        case "epochs_to_share":
            gain = series.iloc[:, -1] - series.iloc[:, 0]
            if (gain <= 0).any():
                name = configuration_name(call.arguments[0], star)
                raise UnknownError(f"not every run of {name} gains")
            return _first_reach(series, series.iloc[:, 0] + call.arguments[1].value * gain)
    target = evaluate(call.arguments[1], tables, star)
    if not target.exact:
        raise UnknownError("epochs_to needs a number to reach; take the mean(...) of a statistic")
    if call.arguments[0].statistic == "train_loss" and 0 not in series:
        series = _with_start(series, call.arguments[0], tables, star)
    targets = pd.Series(target.constant, series.index)
    falls = series.iloc[:, -1] < series.iloc[:, 0]
    if falls.nunique() > 1:
        raise UnknownError("some runs rise, others fall")
    reached = _first_reach(-series, -targets) if falls.iloc[0] else _first_reach(series, targets)
    if reached.isna().any():
        words = STATISTICS[call.arguments[0].statistic].words
        raise UnknownError(
            f"{words} {target.constant:.3g} is not reached by {int(reached.isna().sum())} of "
            f"{len(reached)} runs of {configuration_name(call.arguments[0], star)}"
        )
    return reached


def _with_start(series: pd.DataFrame, part: Measured, tables: Tables, star: str) -> pd.DataFrame:
    """Training losses with that before training, measured in evaluation mode, as epoch 0."""
    if part.first is not None:
        return series
    rows = select(tables.curves, part, tables.study, star)
    start = rows[rows["epoch"] == 0].set_index("seed")["train_eval_loss"].reindex(series.index)
    return series if start.isna().any() else pd.concat([start.rename(0), series], axis=1)


def _first_reach(series: pd.DataFrame, targets: pd.Series) -> pd.Series:
    """The epoch at which each row first reaches its target, between epochs by a straight line."""
    epochs = series.columns.to_numpy(float)
    found = {}
    for seed, row in series.iterrows():
        numbers, target = row.to_numpy(float), targets[seed]
        there = np.flatnonzero(numbers >= target)
        if not len(there):
            found[seed] = math.nan
            continue
        i = there[0]
        part = 0.0 if i == 0 else (target - numbers[i - 1]) / (numbers[i] - numbers[i - 1])
        found[seed] = epochs[i] if i == 0 else epochs[i - 1] + part * (epochs[i] - epochs[i - 1])
    return pd.Series(found)


def _last_crossing(above: Measured, below: Measured, tables: Tables, star: str) -> Value:
    """The epoch at which the second falls below the first for good, by pairs of one seed."""
    for part in (above, below):
        runs_of(part, tables.study, star)
    gap = _series(above, tables, star) - _series(below, tables, star)
    gap = gap.dropna(axis=1, how="all").dropna()  # one may begin at epoch 0 and the other at 1
    if gap.empty:
        raise UnknownError("no seed has a complete run on each side")
    epochs, found = gap.columns.to_numpy(float), {}
    for seed, row in gap.iterrows():
        numbers = row.to_numpy(float)
        over = np.flatnonzero(numbers <= 0)
        if len(over) and over[-1] == len(numbers) - 1:
            raise UnknownError(
                f"{configuration_name(below, star)} is not below at the end in every run"
            )
        if not len(over):
            found[seed] = epochs[0]
            continue
        i = over[-1]
        part = -numbers[i] / (numbers[i + 1] - numbers[i])
        found[seed] = epochs[i] + part * (epochs[i + 1] - epochs[i])
    name = f"{configuration_name(above, star)} with {configuration_name(below, star)}"
    return Value(seeds={name: pd.Series(found)})


def _trend(call: Call, tables: Tables) -> Value:
    """The least-squares slope of a value on the open axis: a sum over its values, weighted."""
    axis = open_axis(call)
    if axis not in tables.study["axes"]:
        raise NotHereError(f"the study does not vary {axis}")
    places = [axis_text(value) for value in tables.study["axes"][axis]]
    try:
        x = np.array([float(place) for place in places])
    except ValueError:
        raise UnknownError(f"the values of {axis} are no numbers") from None
    if len(x) < 2:
        raise NotHereError(f"the study has a single {axis}")
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    total = Value()
    for place, weight in zip(places, weights, strict=True):
        total = add(total, scale(evaluate(call.arguments[0], tables, place), float(weight)))
    return total
