"""How small a difference a study can see, and how many runs a difference asks for.

Both are for the two-sided test that is made, Welch's or Student's of pairs, at level ALPHA with
power POWER, normally distributed runs and equal spreads (Cohen 1988, Statistical Power Analysis,
2.3). The differences asked about are declared beforehand: power for the difference that was seen
only says its p value again (Hoenig & Heisey 2001, The American Statistician 55).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isnan, nan

import numpy as np
from scipy import optimize, stats

from normres.inference import ALPHA, is_constant, numbers

POWER = 0.8
APART = 0.001  # of few runs, larger differences of spread are a matter of chance
RATIOS = 64  # of two sample variances that a power is averaged over: to 0.01 % of the difference


@dataclass(frozen=True)
class PooledSpread:
    """One standard deviation for several configurations.

    sd: the root of their mean variance, weighted by degrees of freedom `df`; NaN where there are
    none. groups: how many configurations are in it; constant: how many are not, since their runs
    are all equal. p: of Brown and Forsythe's test (1974, JASA 69: Levene's with medians) of equal
    spreads, NaN where it cannot be made. equal: whether it leaves them so; where it does not, each
    comparison needs the spread of its own two sides.
    """

    sd: float
    df: int
    groups: int
    constant: int
    p: float

    @property
    def equal(self) -> bool:
        return isnan(self.p) or self.p >= ALPHA


def pooled_spread(samples: Sequence[Sequence[float]]) -> PooledSpread:
    """Pool the standard deviation of several samples, after a check that they are alike.

    Samples of one number, or with an infinite one, say nothing about it. Those whose numbers are
    all equal are left out, too:
    networks stuck at chance would make the others look more alike than they are.
    """
    several = [x for x in map(numbers, samples) if len(x) > 1 and np.isfinite(x).all()]
    varied = [x for x in several if not is_constant(x)]
    df = sum(len(x) - 1 for x in varied)
    squares = sum((len(x) - 1) * x.var(ddof=1) for x in varied)
    p = nan
    tested = [x for x in varied if len(x) > 2]  # two numbers always lie alike to their median
    if len(tested) > 1:
        p = float(stats.levene(*tested, center="median").pvalue)
    sd = float((squares / df) ** 0.5) if df else nan
    return PooledSpread(sd, df, len(varied), len(several) - len(varied), p)


def spread_apart(own: PooledSpread, pooled: PooledSpread) -> bool:
    """Whether some configurations' spread is another than the others', at level APART.

    own: of these configurations; pooled: of all, these among them. A two-sided F test of variances,
    which needs the few runs to be normal, and so a small level. False where either is not known.
    """
    df = pooled.df - own.df
    if own.df < 1 or df < 1:
        return False
    others = (pooled.df * pooled.sd**2 - own.df * own.sd**2) / df
    ratio = own.sd**2 / others
    low, high = stats.f.ppf([APART / 2, 1 - APART / 2], own.df, df)
    return not low <= ratio <= high


def minimal_detectable_difference(sd: float, n: int, *, paired: bool = False) -> float:
    """The difference of two means that `n` runs on each side detect with probability POWER.

    sd: of the runs, or of the differences of pairs where paired (then n pairs). In the same unit as
    `sd`; NaN for n < 2 and where `sd` is not known (NaN or 0).
    """
    if n < 2 or not sd > 0:
        return nan
    return sd * _detectable_effect(n, paired)


def runs_needed(sd: float, difference: float, *, paired: bool = False) -> int | None:
    """The fewest runs on each side (or pairs) that detect `difference` with probability POWER.

    None where `sd` is not known (NaN or 0). Raises ValueError for a difference that is not above 0.
    """
    if not difference > 0:
        raise ValueError(f"a difference of {difference} needs no runs")
    if not sd > 0:
        return None
    too_few, enough = 1, 2
    while minimal_detectable_difference(sd, enough, paired=paired) > difference:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if minimal_detectable_difference(sd, middle, paired=paired) > difference:
            too_few = middle
        else:
            enough = middle
    return enough


@cache
def _detectable_effect(n: int, paired: bool) -> float:
    """Cohen's d that n runs on each side detect: about 2.1 for 5, 3.5 for 3, 10 for 2.

    From the noncentral F distribution: the square of a noncentral t is one, and SciPy 1.17's
    noncentral t, which statsmodels' power rests on, is NaN at many places.

    For n runs on each side Welch's statistic is Student's, beside fewer degrees of freedom. These
    follow from the share that one side has of both sample variances, which is independent of the
    statistic and has a beta distribution: the power is the mean over that share.
    """
    df, factor = (n - 1, n**0.5) if paired else (2 * n - 2, (n / 2) ** 0.5)
    known = df if paired else (n - 1) / _sums_of_squared_shares(n)
    critical = stats.f.isf(ALPHA, 1, known)
    noncentrality = optimize.brentq(
        lambda x: stats.ncf.sf(critical, 1, df, x**2).mean() - POWER, 1e-3, 20.0, xtol=1e-12
    )
    return noncentrality / factor


def _sums_of_squared_shares(n: int) -> np.ndarray:
    """What two sides' shares of both sample variances have as sum of squares: RATIOS quantiles.

    Of equal spreads and n runs each. The shares are symmetric, so those below a half suffice.
    """
    places = (np.arange(RATIOS) + 0.5) / (2 * RATIOS)
    share = stats.beta.ppf(places, (n - 1) / 2, (n - 1) / 2)
    return share**2 + (1 - share) ** 2
