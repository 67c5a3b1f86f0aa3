"""Values in the tests of claims: numbers with an interval, added, divided and compared."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normres.claim_values import Value, add, contrast, divide, logarithm, paired, scale
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
