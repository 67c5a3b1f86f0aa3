"""Values in the tests of claims: numbers with an interval, added, divided and compared."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normres.claim_values import (
    UnknownError,
    Value,
    add,
    contrast,
    divide,
    logarithm,
    multiply,
    paired,
    scale,
)
from normres.inference import difference, mean_interval

RNG = np.random.default_rng(1)
A, B = (pd.Series(RNG.normal(size=n), range(n)) for n in (5, 6))


def test_contrasts_are_students_and_welchs():
    one = contrast([A.to_numpy()], 0.9)
    expected = mean_interval(A, 0.9)
    assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
    two = contrast([A.to_numpy(), -B.to_numpy()], 0.95)
    expected = difference(A, B)
    assert (two.low, two.high) == pytest.approx((expected.low, expected.high))
    assert two.rests_on == ""


def test_groups_without_spread_are_said_and_have_to_be_as_large():
    a, b = A.to_numpy(), -B.to_numpy()[:5]
    expected = difference(a, -b)
    three = contrast([a, b, np.full(5, 2.0)], 0.95)  # Welch's of two, shifted
    assert (three.low - 2, three.high - 2) == pytest.approx((expected.low, expected.high))
    assert three.rests_on == "all runs are equal in 1 of 3 groups" and not three.reason
    few = contrast([a, b, np.full(4, 2.0)], 0.95)
    assert math.isnan(few.low) and few.reason.endswith("groups, which differ in numbers of runs")
    one = Value(seeds={"a": A, "b": pd.Series(np.full(5, 2.0))}).interval(0.95)
    assert one.rests_on == "all 5 runs of one side are equal; the spread is the other's"
    one = contrast([a, np.full(4, 2.0)], 0.95)
    assert math.isnan(one.low) and one.reason.startswith("all 4 runs of one side are equal, and")


@pytest.mark.parametrize(
    ("sizes", "few"),
    [
        ((2,), False),
        ((2, 2), True),
        ((3, 3), False),
        ((3, 3, 4), True),
        ((4, 5), True),
        ((5, 9), False),
    ],
)
def test_an_interval_of_few_runs_says_that_it_may_be_too_short(sizes, few):
    """A group's own runs have Student's, which is right for any number; others have Welch's."""
    seeds = {str(i): pd.Series(RNG.normal(size=n)) for i, n in enumerate(sizes)}
    words = "with so few runs too short where spreads differ" if few else ""
    assert Value(seeds=seeds).interval(0.95).rests_on == words


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_an_infinite_number_leaves_no_interval(groups):
    found = contrast([np.array([2.0, 2.1, np.inf]), *[A.to_numpy()] * (groups - 1)], 0.95)
    assert math.isnan(found.low) and found.reason == "a number is not finite"


def test_contrast_of_three_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        groups = [rng.normal(0, sd, n) for sd, n in ((1, 5), (3, 5), (0.5, 8))]
        found = contrast(groups, 0.9)
        inside += found.low < 0 < found.high
    assert 870 < inside < 935


def test_runs_of_one_configuration_stay_together():
    both = add(Value(seeds={"a": A}), Value(seeds={"a": A - 1}), -1.0)
    assert both.estimate() == pytest.approx(1.0)
    assert both.interval(0.95).reason  # each seed's difference is 1: no spread
    apart = add(Value(seeds={"a": A}), Value(seeds={"b": A - 1}), -1.0)
    assert apart.interval(0.95).low < 1 < apart.interval(0.95).high
    assert paired(apart).interval(0.95).reason


def test_ratios_are_those_of_geometric_means():
    a, b = np.exp(A), np.exp(B)
    ratio = divide(Value(seeds={"a": a}), Value(seeds={"b": b}))
    expected = difference(A, B)
    found = ratio.interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert logarithm(scale(ratio, 2.0)).estimate() == pytest.approx(expected.estimate + math.log(2))


def test_times_and_runs_share_the_error():
    """Two medians and a difference over seeds: each at 1 - 0.05 / 3."""
    repeats = {name: (1.0, np.sort(RNG.normal(size=20))) for name in ("t", "u")}
    value = Value(seeds={"a": A, "b": B}, repeats=repeats)
    each = 1 - 0.05 / 3
    low = contrast([A.to_numpy(), B.to_numpy()], each).low
    for _, numbers in repeats.values():
        low += stats.quantile_test(numbers, p=0.5).confidence_interval(each).low
    assert value.interval(0.95).low == pytest.approx(low)


TIMES = np.array([1.0, 2.0, 4.0])
RUNS, RATIO = (
    Value(seeds={"a": A + 9}),
    divide(Value(seeds={"a": A + 9}), Value(seeds={"b": B + 9})),
)
TIMED = Value(repeats={"t": (1.0, TIMES)})
GEOMETRIC = float(np.log(A + 9).mean())


@pytest.mark.parametrize(
    ("value", "estimate", "log"),
    [
        (add(RUNS, Value(2.0)), A.mean() + 11, False),
        (add(Value(2.0), RUNS, -1.0), -A.mean() - 7, False),
        (multiply(Value(2.0), RUNS), 2 * (A.mean() + 9), False),
        (multiply(RUNS, Value(-2.0)), -2 * (A.mean() + 9), False),
        (divide(RUNS, Value(2.0)), (A.mean() + 9) / 2, False),
        (divide(Value(2.0), RUNS), math.log(2) - GEOMETRIC, True),
        (multiply(RUNS, RUNS), 2 * GEOMETRIC, True),
        (divide(Value(6.0), Value(2.0)), 3.0, False),
        (multiply(RATIO, Value(3.0)), GEOMETRIC - np.log(B + 9).mean() + math.log(3), True),
        (logarithm(RUNS, 10), GEOMETRIC / math.log(10), False),
        (logarithm(Value(100.0), 10), 2.0, False),
        (add(TIMED, TIMED), 4.0, False),
        (add(TIMED, scale(TIMED, 3.0), -1.0), -4.0, False),
        (divide(TIMED, RUNS), math.log(2) - GEOMETRIC, True),
        (logarithm(add(TIMED, Value(1.0))), math.log(3), False),
        (paired(RUNS), A.mean() + 9, False),
    ],
)
def test_arithmetic_is_that_of_means_medians_and_logarithms(value, estimate, log):
    assert value.estimate() == pytest.approx(estimate) and value.log is log


def test_times_that_cancel_leave_a_number():
    assert add(TIMED, TIMED, -1.0).exact and not TIMED.exact and Value(1.0).exact


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (lambda: divide(RUNS, Value(0.0)), "division by 0"),
        (lambda: add(RATIO, RUNS), "cannot be added to; take logs"),
        (lambda: add(RUNS, RATIO), "cannot be added to; take logs"),
        (lambda: scale(RATIO, -1.0), "a number that is not above 0"),
        (lambda: scale(RATIO, 0.0), "a number that is not above 0"),
        (lambda: divide(add(RUNS, TIMED), RUNS), "one configuration on each side"),
        (lambda: logarithm(Value(seeds={"a": A})), "of a number that is not above 0"),
        (lambda: logarithm(Value(0.0)), "of a number that is not above 0"),
        (
            lambda: paired(Value(seeds={"a": A, "b": B.rename(lambda seed: seed + 10)})),
            "no seed has a complete run on each side",
        ),
    ],
)
def test_what_has_no_value_is_said(compute, words):
    with pytest.raises(UnknownError, match=words):
        compute()


@pytest.mark.parametrize(
    ("n", "confidence", "reason"),
    [
        (5, 0.9, "5 repeats give no interval"),
        (6, 0.95, ""),
        (6, 0.99, "6 repeats give no interval of 99.0%"),
    ],
)
def test_few_repeats_have_no_interval(n, confidence, reason):
    found = Value(repeats={"t": (-1.0, np.arange(n, dtype=float))}).interval(confidence)
    assert found.reason == reason
    assert (found.low, found.high) == pytest.approx(
        (math.nan, math.nan) if reason else (1.0 - n, 0.0), nan_ok=True
    )


def test_groups_without_a_spread_have_no_interval():
    groups = [A.to_numpy(), B.to_numpy()[:1], np.full(5, 2.0)]
    assert contrast(groups, 0.95).reason == "a single run has no spread"
    equal = contrast([np.full(5, float(i)) for i in range(3)], 0.95)
    assert equal.reason == "all runs are equal, so their spread is not known"
    assert math.isnan(equal.low)
