"""Estimates of the columns of a table, with n and interval: means over seeds, medians over repeats.

The same intervals of single samples, and tests, are in inference.py.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from normres.inference import CONFIDENCE, FREE, ROUNDING, Bounds, t_half_width


def mean_estimates(
    values: pd.DataFrame,
    by: Sequence[str],
    column: str,
    *,
    bounds: Bounds = FREE,
    confidence: float = CONFIDENCE,
    new_run: bool = False,
) -> pd.DataFrame:
    """Estimate the mean of `column` in each group of rows that agree in `by`.

    Args:
        values: one row per independent run (for a curve: a run and epoch); empty cells are left
        out.
        by: the columns that define the groups; an empty cell in one of them is a value like others.
        column: what is averaged.
        bounds: what the quantity cannot go below and above; the interval is cut there.
        confidence: the interval's coverage, for normally distributed runs.
        new_run: whether the interval is to hold one more run, instead of the mean.

    Returns:
        A frame indexed by `by`, in order of appearance, with the columns `n` (numbers averaged),
        `mean`, `sd` (ddof = 1), `low` and `high`: mean -+ t(n - 1) * sd / sqrt(n), the interval of
        the mean (Student 1908, Biometrika 6); for a new run sqrt(1 + 1/n) replaces 1 / sqrt(n). One
        number has no sd and no interval (NaN); equal numbers have sd 0 and no interval, since that
        is no estimate of a spread; a group without numbers has n = 0 and NaN, and one with an
        infinite number has NaN.
    """
    groups = values.groupby(list(by), sort=False, observed=True, dropna=False)[column]
    table = groups.agg(["count", "mean", "std", "min", "max"])
    largest = table[["min", "max"]].abs().max(axis=1)
    equal = (table["max"] - table["min"] <= ROUNDING * largest) & (table["count"] > 1)
    equal &= np.isfinite(largest)
    n = table["count"]
    mean = table["mean"].mask(equal, table["min"])  # rounding must not give equal numbers a spread
    mean, sd = mean.mask(np.isinf(largest)), table["std"].mask(equal, 0.0)
    half = t_half_width(n, sd, confidence, new_run).mask(equal)
    low, high = (mean - half).clip(lower=bounds[0]), (mean + half).clip(upper=bounds[1])
    return pd.DataFrame({"n": n, "mean": mean, "sd": sd, "low": low, "high": high})


def median_estimates(values: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """Estimate the median of `column` in each group of rows that agree in `by`.

    Args:
        values: one row per repeat; empty cells are left out.
        by: the columns that define the groups; an empty cell in one of them is a value like others.
        column: what the median is of.

    Returns:
        A frame indexed by `by`, in order of appearance, with the columns `n`, `median`, `low` and
        `high`: the interval between two order statistics that covers the median with at least
        95 %, whatever the distribution, for independent rows (Conover 1999, Practical Nonparametric
        Statistics, 3.2). Fewer than 6 numbers have no interval (NaN); a group without numbers has
        n = 0 and NaN.
    """

    def interval(group: pd.Series) -> tuple[float, float]:
        numbers = group.dropna().to_numpy(float)
        if not len(numbers):
            return math.nan, math.nan
        return stats.quantile_test(numbers, p=0.5).confidence_interval(CONFIDENCE)

    groups = values.groupby(list(by), sort=False, observed=True, dropna=False)[column]
    parts = {"low": lambda group: interval(group)[0], "high": lambda group: interval(group)[1]}
    return groups.agg(n="count", median="median", **parts)
