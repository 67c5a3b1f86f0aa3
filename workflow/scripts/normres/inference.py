"""What a few runs say about a mean or a difference: intervals and tests on arrays of numbers.

Functions are pure. A number is an independent run's, of one seed. Where no interval can be had, its
ends are NaN and `reason` says why; no function replaces a spread that is not known by 0.

A sample standard deviation of 0 is no estimate of a spread: three networks that all predict one
class agree to the last digit, and say nothing about a fourth. So equal numbers have no interval. In
a difference of as many numbers on both sides, of which one side's are all equal, the spread comes
from the other side alone, as in the limit of Welch's formula, and `reason` says that, too. With
other numbers of them it may be far too short, so there is none. Where a number is not finite, the
mean is not known either.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 0.05
ROUNDING = 1e-12  # of the largest of several numbers: what lies closer is equal
Bounds = tuple[float | None, float | None]  # what a quantity cannot go below and above
FRACTION: Bounds = (0.0, 1.0)
NONNEGATIVE: Bounds = (0.0, None)
FREE: Bounds = (None, None)
NO_SPREAD = "all {n} runs are equal, so their spread is not known"
ONE_SIDE = "all {n} runs of one side are equal, and the other {other} alone give no interval"
ONE_RUN = "a single run has no spread"
NO_RUNS = "no run is complete"
NO_PAIR = "no seed has a complete run on both sides"
NO_SIDE = "one side has no complete run"
NOT_FINITE = "a number is not finite"


@dataclass(frozen=True)
class Estimate:
    """A mean (or another estimate) of `n` numbers, with its interval.

    sd: standard deviation of the numbers (ddof = 1), NaN for n < 2. low, high: the interval's ends,
    NaN where there is none. reason: why there is none, or empty.
    """

    n: int
    estimate: float
    sd: float
    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """A difference of two means, `a` minus `b`.

    estimate, low, high: the difference and its interval. p: two-sided, of Welch's test, or of
    Student's paired test; df: its degrees of freedom. correlation: Pearson's, of the pairs; NaN
    where not paired or where one side is constant. reason: why there is no interval, or what it
    rests on.
    """

    n_a: int
    n_b: int
    estimate: float
    low: float
    high: float
    p: float
    df: float
    paired: bool
    correlation: float = nan
    reason: str = ""


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of whether |a - b| is below a margin.

    p: the larger one of both, so that p < ALPHA says equivalent. low, high: the 1 - 2 ALPHA
    interval of the difference; equivalent where it lies within -margin..margin. df: degrees of
    freedom.
    """

    n_a: int
    n_b: int
    estimate: float
    low: float
    high: float
    p: float
    df: float
    margin: float
    equivalent: bool
    reason: str = ""


def mean_interval(
    x: Sequence[float],
    confidence: float = CONFIDENCE,
    bounds: Bounds = FREE,
) -> Estimate:
    """The mean of `x` with Student's t interval: mean +- t(n - 1) sd / sqrt(n).

    NaN in `x` are left out. bounds: what the quantity cannot go below and above; the interval is
    cut there. One number, or equal ones, have no interval. (Student 1908, Biometrika 6.)
    """
    x = numbers(x)
    n = len(x)
    if n == 0:
        return Estimate(0, nan, nan, nan, nan, NO_RUNS)
    mean = _mean(x)
    if isnan(mean):
        return Estimate(n, nan, nan, nan, nan, NOT_FINITE)
    if n == 1:
        return Estimate(1, mean, nan, nan, nan, ONE_RUN)
    if is_constant(x):
        return Estimate(n, mean, 0.0, nan, nan, NO_SPREAD.format(n=n))
    sd = float(x.std(ddof=1))
    half = float(t_half_width(n, sd, confidence))
    return Estimate(n, mean, sd, *_clip(mean - half, mean + half, bounds))


def t_half_width(n: Any, sd: Any, confidence: float = CONFIDENCE, new_run: bool = False) -> Any:
    """Half the width of Student's t interval of a mean of `n` numbers; numbers or arrays alike.

    new_run: for one more number instead of the mean. NaN for n < 2.
    """
    return stats.t.ppf((1 + confidence) / 2, n - 1) * sd * (new_run + 1 / n) ** 0.5


def difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    paired: bool = False,
    confidence: float = CONFIDENCE,
) -> Difference:
    """The difference of two means, a - b, with its interval and test.

    Unpaired: Welch's (1947, Biometrika 34), which lets the two spreads differ. Paired: Student's,
    on the differences a[i] - b[i]; only for runs that share what makes them vary, as the same seed
    of the same network does. NaN are left out, in pairs where paired.

    Raises ValueError where paired samples differ in length.
    """
    a, b = pairs(a, b) if paired else (numbers(a), numbers(b))
    kept = {"n_a": len(a), "n_b": len(b), "paired": paired}
    estimate = _difference_of_means(a, b)
    reason, possible = _spread_reason(a, b, paired)
    if not possible:
        return Difference(
            **kept, estimate=estimate, low=nan, high=nan, p=nan, df=nan, reason=reason
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one side without a spread
        test = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
        interval = test.confidence_interval(confidence)
    return Difference(
        **kept,
        estimate=estimate,
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
        df=float(test.df),
        correlation=_correlation(a, b) if paired else nan,
        reason=reason,
    )


def too_few_for_welch(sizes: Sequence[int]) -> bool:
    """Whether Welch's interval of samples of these sizes is too short where spreads differ.

    Of as many numbers each it is about right from three on, else from five; how much it is off is
    in docs/statistics.md.
    """
    return min(sizes) < 3 or (min(sizes) < 5 and len(set(sizes)) > 1)


def equivalence(
    a: Sequence[float],
    b: Sequence[float],
    margin: float,
    *,
    paired: bool = False,
) -> Equivalence:
    """Two one-sided t tests (TOST) of whether the means differ by less than `margin`.

    As in `difference`, without equal variances unless paired. (Schuirmann 1987, Journal of
    Pharmacokinetics and Biopharmaceutics 15.) Raises ValueError for a margin that is not positive.
    """
    from statsmodels.stats.weightstats import ttost_ind, ttost_paired  # half a second

    if not margin > 0:
        raise ValueError(f"margin {margin} is not positive")
    found = difference(a, b, paired=paired, confidence=1 - 2 * ALPHA)
    kept = {"n_a": found.n_a, "n_b": found.n_b, "estimate": found.estimate, "margin": margin}
    kept |= {"low": found.low, "high": found.high, "df": found.df, "reason": found.reason}
    if isnan(found.low):
        return Equivalence(**kept, p=nan, equivalent=False)
    if paired:
        p = ttost_paired(*pairs(a, b), -margin, margin)[0]
    else:
        p = ttost_ind(numbers(a), numbers(b), -margin, margin, usevar="unequal")[0]
    return Equivalence(**kept, p=float(p), equivalent=bool(p < ALPHA))


def holm(ps: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values (1979, Scandinavian Journal of Statistics 6), in the order given.

    The family is all of `ps`: a test that could not be made (NaN) counts in it as p = 1, and stays
    NaN.
    """
    from statsmodels.stats.multitest import multipletests  # half a second

    ps = np.asarray(ps, float)
    adjusted = multipletests(np.where(np.isnan(ps), 1.0, ps), method="holm")[1]
    return np.where(np.isnan(ps), nan, adjusted)


def sampling_interval(correct: int, images: int) -> tuple[float, float]:
    """Wilson's interval (1927, JASA 22) of one network's accuracy for the images sampled.

    `correct` of `images` test images, taken as a random sample of all images of their kind: what
    another test set of this size would change. It says nothing about other seeds.
    """
    found = stats.binomtest(correct, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test (1947, Psychometrika 12) of two given networks on the same images.

    correct_a, correct_b: bool (images,). Returns how many images only a and only b has correct, and
    the two-sided p. It is about these two networks, not about what made them: seeds are never
    pooled, since an image's answers for several seeds are not independent. Raises ValueError for
    other shapes.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact  # half a second

    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or a.dtype != bool or b.dtype != bool:
        raise ValueError(f"McNemar compares two bool arrays (images,), not {a.shape}, {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    return only_a, only_b, float(exact(table, exact=True).pvalue)


def is_constant(x: np.ndarray) -> bool:
    """Whether all of two or more numbers are equal, but for the rounding of differences."""
    if len(x) < 2 or not np.isfinite(x).all():
        return False
    return bool(np.ptp(x) <= ROUNDING * np.abs(x).max())


def numbers(x: Sequence[float]) -> np.ndarray:
    """`x` as an array (n,) without NaN; raises ValueError for another shape."""
    x = np.asarray(x, float)
    if x.ndim != 1:
        raise ValueError(f"a number each run, not an array {x.shape}")
    return x[~np.isnan(x)]


def pairs(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (n,), (n,) of which neither is NaN; raises ValueError where lengths differ."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two lists of one length, not {a.shape} and {b.shape}")
    kept = ~(np.isnan(a) | np.isnan(b))
    return a[kept], b[kept]


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, pair by pair (n,); where these are equal but for the rounding of a and b, equal."""
    return settled(a - b, max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))


def settled(x: np.ndarray, largest: float) -> np.ndarray:
    """Sums or differences (n,) of numbers up to `largest`; equal but for their rounding: equal."""
    equal = len(x) and np.isfinite(largest) and np.ptp(x) <= ROUNDING * largest
    return np.full_like(x, x[0]) if equal else x


def _mean(x: np.ndarray) -> float:
    """The mean; of equal numbers that number, which rounding may miss; of infinite ones NaN."""
    if not np.isfinite(x).all():
        return nan
    return float(x[0] if is_constant(x) else x.mean())


def _difference_of_means(a: np.ndarray, b: np.ndarray) -> float:
    """The difference of two means, 0 where they are equal but for rounding."""
    if not len(a) or not len(b):
        return nan
    means = np.array([_mean(a), _mean(b)])
    return 0.0 if is_constant(means) else float(means[0] - means[1])


def _spread_reason(a: np.ndarray, b: np.ndarray, paired: bool) -> tuple[str, bool]:
    """Why a difference has no interval, or what it rests on; and whether it has one."""
    if not len(a) or not len(b):
        nobody = NO_RUNS if len(a) == len(b) else NO_SIDE
        return NO_PAIR if paired else nobody, False
    if isnan(_mean(a)) or isnan(_mean(b)):
        return NOT_FINITE, False
    if min(len(a), len(b)) == 1:
        return ONE_RUN, False
    if paired:
        if is_constant(differences(a, b)):
            return f"all {len(a)} differences are equal, so their spread is not known", False
        return "", True
    constant = [is_constant(a), is_constant(b)]
    if all(constant):
        return "on both sides, all runs are equal, so their spread is not known", False
    if any(constant):
        equal, other = (len(a), len(b)) if constant[0] else (len(b), len(a))
        if equal != other:
            return ONE_SIDE.format(n=equal, other=other), False
        return f"all {equal} runs of one side are equal; the spread is the other's", True
    return "", True


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if is_constant(a) or is_constant(b):
        return nan
    return float(np.corrcoef(a, b)[0, 1])


def _clip(low: float, high: float, bounds: Bounds) -> tuple[float, float]:
    least, most = bounds
    low = low if least is None else max(low, least)
    return low, high if most is None else min(high, most)
