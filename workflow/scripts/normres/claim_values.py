"""What a test's numbers are: computed from a study's tables, each with the spread it has.

A value is a constant plus the means over seeds of independent groups of runs, plus medians over the
repeats of a timing. So its interval follows, whatever the sum: Student's of one group, Welch's of
two, the same with Satterthwaite's degrees of freedom of more; that of a median from its order
statistics. A configuration's own runs stay together, seed by seed. Products and ratios of what has
a spread are those of geometric means: their logarithms are added.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats

from normres.inference import (
    NOT_FINITE,
    difference,
    is_constant,
    mean_interval,
    settled,
    too_few_for_welch,
)

FEW = "with so few runs too short where spreads differ"
FEWEST_REPEATS = 6  # of a timing, for an interval of the median at 95 %


class NotHereError(Exception):
    """The study has not what a test asks for: a configuration, an axis, an epoch."""


class UnknownError(Exception):
    """The study has it, and yet there is no number: no complete run, a loss never reached."""


@dataclass(frozen=True)
class Interval:
    """An interval; where it is not known its ends are NaN and `reason` says why.

    `rests_on` is what a reader has to know of one that is known.
    """

    low: float
    high: float
    reason: str = ""
    rests_on: str = ""


@dataclass(frozen=True)
class Value:
    """constant + sum of means of `seeds` + sum of weight * median of `repeats`; logs if `log`.

    seeds: numbers by seed, by independent group. repeats: (weight, numbers) by what is timed.
    """

    constant: float = 0.0
    seeds: Mapping[str, pd.Series] = field(default_factory=dict)
    repeats: Mapping[str, tuple[float, np.ndarray]] = field(default_factory=dict)
    log: bool = False

    @property
    def exact(self) -> bool:
        """Whether it has no spread by its nature: a count, or a number of the test."""
        return not self.seeds and not self.repeats

    @property
    def runs(self) -> list[int]:
        """Numbers of runs of each group."""
        return [len(group) for group in self.seeds.values()]

    @property
    def timings(self) -> list[int]:
        """Numbers of repeats of each timing."""
        return [len(numbers) for _, numbers in self.repeats.values()]

    def estimate(self) -> float:
        """The sum of constant, means and medians."""
        means = sum(float(group.mean()) for group in self.seeds.values())
        medians = sum(weight * float(np.median(x)) for weight, x in self.repeats.values())
        return self.constant + means + medians

    def interval(self, confidence: float) -> Interval:
        """The interval of `estimate`: of all parts at once, by Bonferroni, where it has several."""
        if self.exact:
            return Interval(self.constant, self.constant)
        parts = (1 if self.seeds else 0) + len(self.repeats)
        each = 1 - (1 - confidence) / parts
        found = [_median_interval(*numbers, each) for numbers in self.repeats.values()]
        if self.seeds:
            found.append(contrast([group.to_numpy(float) for group in self.seeds.values()], each))
        for part in found:
            if part.reason:
                return part
        ends = (sum(getattr(part, end) for part in found) for end in ("low", "high"))
        told = [part.rests_on for part in found if part.rests_on]
        if len(self.seeds) > 1 and too_few_for_welch(self.runs):
            told.append(FEW)
        return Interval(*(self.constant + end for end in ends), rests_on=", ".join(told))


def contrast(groups: Sequence[np.ndarray], confidence: float) -> Interval:
    """The interval of the sum of the means of independent groups of runs.

    Student's for one group, Welch's for two (both of inference.py). For more, the same with the
    spreads' sum sum(s_i^2 / n_i) and Satterthwaite's degrees of freedom (Welch 1947, Biometrika 34;
    Satterthwaite 1946, Biometrics Bulletin 2). A group whose numbers are all equal adds no spread;
    beside groups of other sizes it leaves no interval, as in `inference.difference`.
    """
    if len(groups) == 1:
        found = mean_interval(groups[0], confidence)
        return Interval(found.low, found.high, found.reason)
    if len(groups) == 2:
        found = difference(groups[0], -groups[1], confidence=confidence)
        known = math.isfinite(found.low)
        words = {"rests_on" if known else "reason": found.reason}
        return Interval(found.low, found.high, **words)
    if not all(np.isfinite(x).all() for x in groups):
        return Interval(math.nan, math.nan, NOT_FINITE)
    if min(map(len, groups)) < 2:
        return Interval(math.nan, math.nan, "a single run has no spread")
    equal = sum(map(is_constant, groups))
    if equal == len(groups):
        return Interval(math.nan, math.nan, "all runs are equal, so their spread is not known")
    rests_on = f"all runs are equal in {equal} of {len(groups)} groups" if equal else ""
    if equal and len(set(map(len, groups))) > 1:
        return Interval(math.nan, math.nan, f"{rests_on}, which differ in numbers of runs")
    parts = np.array([0.0 if is_constant(x) else x.var(ddof=1) / len(x) for x in groups])
    freedom = parts.sum() ** 2 / sum(
        part**2 / (len(x) - 1) for part, x in zip(parts, groups, strict=True)
    )
    middle = float(sum(x.mean() for x in groups))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(parts.sum())
    return Interval(middle - half, middle + half, rests_on=rests_on)


def _median_interval(weight: float, numbers: np.ndarray, confidence: float) -> Interval:
    """weight * median, by order statistics (Conover 1999, 3.2); as in statistics.py."""
    if len(numbers) < FEWEST_REPEATS:
        return Interval(math.nan, math.nan, f"{len(numbers)} repeats give no interval")
    found = stats.quantile_test(numbers, p=0.5).confidence_interval(confidence)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Interval(
            math.nan, math.nan, f"{len(numbers)} repeats give no interval of {confidence:.1%}"
        )
    return Interval(*sorted((weight * found.low, weight * found.high)))


# ---- Arithmetic ----


def add(left: Value, right: Value, sign: float = 1.0) -> Value:
    """left + right, or left - right; runs of one group are added seed by seed."""
    if left.log or right.log:
        raise UnknownError(
            "a product or ratio of measured quantities cannot be added to; take logs"
        )
    return _add(left, scale(right, sign))


def _add(left: Value, right: Value) -> Value:
    seeds = dict(left.seeds)
    for name, group in right.seeds.items():
        seeds[name] = _sum([seeds[name], group]) if name in seeds else group
    repeats = dict(left.repeats)
    for name, (weight, numbers) in right.repeats.items():
        before = repeats[name][0] if name in repeats else 0.0
        repeats[name] = (before + weight, numbers)
    repeats = {name: numbers for name, numbers in repeats.items() if numbers[0] != 0}
    return Value(left.constant + right.constant, seeds, repeats, left.log)


def _sum(groups: Sequence[pd.Series]) -> pd.Series:
    """The sum seed by seed; where sums are equal but for rounding, equal."""
    table = pd.concat(groups, axis=1).dropna()
    total, largest = table.sum(axis=1), table.abs().to_numpy().max(initial=0.0)
    return pd.Series(settled(total.to_numpy(), largest), total.index)


def scale(value: Value, factor: float) -> Value:
    """The value times a number."""
    if value.log and not value.exact:
        if factor <= 0:
            raise UnknownError("a ratio times a number that is not above 0")
        return replace(value, constant=value.constant + math.log(factor))
    return Value(
        value.constant * factor,
        {name: group * factor for name, group in value.seeds.items()},
        {name: (weight * factor, numbers) for name, (weight, numbers) in value.repeats.items()},
    )


def multiply(left: Value, right: Value) -> Value:
    """left * right."""
    if left.exact or right.exact:
        number, other = (left, right) if left.exact else (right, left)
        return scale(other, number.constant)
    return _add(as_log(left), as_log(right))


def divide(left: Value, right: Value) -> Value:
    """left / right."""
    if right.exact:
        if right.constant == 0:
            raise UnknownError("division by 0")
        return scale(left, 1 / right.constant)
    inverse = as_log(right)
    negative = replace(scale(replace(inverse, log=False), -1.0), log=True)
    return _add(as_log(left), negative)


def as_log(value: Value) -> Value:
    """The same quantity, as the logarithm that products and ratios need."""
    if value.log:
        return value
    if value.exact:
        return Value(math.log(_positive(value.constant)), log=True)
    if len(value.seeds) + len(value.repeats) > 1:
        raise UnknownError("a product or ratio needs one configuration on each side")
    if value.seeds:
        ((name, group),) = value.seeds.items()
        return Value(0.0, {name: np.log(_positive(group + value.constant))}, log=True)
    ((name, (weight, numbers)),) = value.repeats.items()
    return Value(
        0.0, {}, {name: (1.0, np.log(_positive(weight * numbers + value.constant)))}, log=True
    )


def logarithm(value: Value, base: float = math.e) -> Value:
    """log of the value, to be added and subtracted like others."""
    return scale(replace(as_log(value), log=False), 1 / math.log(base))


def _positive(numbers):
    if not np.all(np.asarray(numbers) > 0):
        raise UnknownError("a logarithm or ratio of a number that is not above 0")
    return numbers


def paired(value: Value) -> Value:
    """The value with all its groups taken together, seed by seed."""
    if len(value.seeds) < 2:
        return value
    together = _sum(list(value.seeds.values()))
    if together.empty:
        raise UnknownError("no seed has a complete run on each side")
    return replace(value, seeds={" and ".join(value.seeds): together})
