"""Variance components of a crossed design with one number per cell."""

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats

from normres.inference import CONFIDENCE, ROUNDING


@dataclass(frozen=True)
class Component:
    """A variance, with its interval; p: of the F test that it is 0, NaN where there is none."""

    variance: float
    low: float
    high: float
    p: float = nan


def crossed_components(table: np.ndarray) -> dict[str, Component]:
    """Components of y[i, j] = mean + row[i] + column[j] + interaction[i, j], all effects random.

    table: (rows, columns), one number per cell, two of each at least. Estimates are those of the
    analysis of variance (Searle, Casella & McCulloch 1992, Variance Components, 4.7), cut at 0.
    The interaction, which holds the error, has the exact chi-square interval of its mean square.
    `rows` and `columns` have the modified large-sample interval of a difference of mean squares,
    `total` that of their sum (Burdick & Graybill 1992, Confidence Intervals on Variance Components,
    chapter 3). Raises ValueError for another shape or empty cells.
    """
    table = np.asarray(table, float)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError(f"a full table of at least 2 x 2 numbers, not {table.shape}")
    r, c = table.shape
    mean = table.mean()
    rows, columns = table.mean(axis=1) - mean, table.mean(axis=0) - mean
    rest = table - mean - rows[:, None] - columns[None, :]
    df = {"rows": r - 1, "columns": c - 1, "interaction": (r - 1) * (c - 1)}
    rounding = (ROUNDING * np.abs(table).max()) ** 2
    squares = {
        "rows": c * (rows**2).sum() / df["rows"],
        "columns": r * (columns**2).sum() / df["columns"],
        "interaction": (rest**2).sum() / df["interaction"],
    }
    squares = {name: 0.0 if square < rounding else square for name, square in squares.items()}
    error, error_df = squares["interaction"], df["interaction"]
    tail = (1 - CONFIDENCE) / 2
    found = {}
    for name, repeats in (("rows", c), ("columns", r)):
        low, high = _difference_interval(squares[name], df[name], error, error_df, tail)
        p = float(stats.f.sf(squares[name] / error, df[name], error_df)) if error > 0 else nan
        estimate = max(0.0, squares[name] - error)
        found[name] = Component(
            estimate / repeats, max(0.0, low) / repeats, max(0.0, high) / repeats, p
        )
    found["interaction"] = Component(
        error,
        error_df * error / stats.chi2.ppf(1 - tail, error_df),
        error_df * error / stats.chi2.ppf(tail, error_df),
    )
    weights = {"rows": 1 / c, "columns": 1 / r, "interaction": 1 - 1 / c - 1 / r}
    found["total"] = _sum_interval(weights, squares, df, tail)
    return found


def _difference_interval(
    one: float, df_one: int, other: float, df_other: int, tail: float
) -> tuple[float, float]:
    """The interval of E(one) - E(other), two independent mean squares (ibid.)."""
    (g_one, h_one), (g_other, h_other) = _factors(df_one, tail), _factors(df_other, tail)
    upper = stats.f.ppf(1 - tail, df_one, df_other)
    lower = stats.f.ppf(tail, df_one, df_other)
    g_both = ((upper - 1) ** 2 - g_one**2 * upper**2 - h_other**2) / upper
    h_both = ((1 - lower) ** 2 - h_one**2 * lower**2 - g_other**2) / lower
    below = (g_one * one) ** 2 + (h_other * other) ** 2 + g_both * one * other
    above = (h_one * one) ** 2 + (g_other * other) ** 2 + h_both * one * other
    return one - other - max(below, 0.0) ** 0.5, one - other + max(above, 0.0) ** 0.5


def _sum_interval(
    weights: dict[str, float], squares: dict[str, float], df: dict[str, int], tail: float
) -> Component:
    """A sum of mean squares with its interval (Graybill & Wang 1980, JASA 75)."""
    estimate = below = above = 0.0
    for name, weight in weights.items():
        part = weight * squares[name]
        estimate += part
        g, h = _factors(df[name], tail)
        below += (g * part) ** 2
        above += (h * part) ** 2
    return Component(estimate, max(0.0, estimate - below**0.5), estimate + above**0.5)


def _factors(df: int, tail: float) -> tuple[float, float]:
    """By what parts of itself a mean square's own interval lies below and above it."""
    return 1 - df / stats.chi2.ppf(1 - tail, df), df / stats.chi2.ppf(tail, df) - 1
