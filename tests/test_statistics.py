"""Means and intervals against scipy's own and against an example computed by hand."""

from math import isnan

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normres.inference import difference, mean_interval
from normres.statistics import mean_estimates, median_estimates
from normres.tables import with_gap


def estimate(values, **options):
    table = pd.DataFrame({"group": "a", "value": values}, dtype=object).astype({"value": float})
    return mean_estimates(table, ["group"], "value", **options).loc["a"]


def test_an_example_by_hand():
    # 1, 2, 3, 4: mean 2.5, sd sqrt(5 / 3), t(3) = 3.18245: half width 3.18245 * 1.29099 / 2
    result = estimate([1, 2, 3, 4])
    assert result["n"] == 4
    assert result["mean"] == 2.5
    assert result["sd"] == pytest.approx(1.2909944)
    assert result["low"] == pytest.approx(2.5 - 2.0542604, abs=1e-6)
    assert result["high"] == pytest.approx(2.5 + 2.0542604, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_is_that_of_scipy(n, confidence):
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    result = estimate(values, confidence=confidence)
    interval = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (result["low"], result["high"]) == pytest.approx((interval.low, interval.high))


def test_equal_numbers_have_no_spread_whatever_the_rounding():
    result = estimate([0.1] * 3)  # numpy's mean of these is 0.10000000000000002
    assert list(result[["n", "mean", "sd"]]) == [3, 0.1, 0.0]
    assert result[["low", "high"]].isna().all()  # a spread of 0 is not known, only not seen


def test_a_new_run_is_farther_from_the_mean_than_the_mean_from_the_truth():
    values = [51.4, 49.5, 48.7, 49.3, 51.6]  # Hahn & Meeker 1991, 3.1 and 4.7
    mean, new = estimate(values), estimate(values, new_run=True)
    assert [round(end, 1) for end in new[["low", "high"]]] == [46.1, 54.1]
    assert (new["high"] - new["mean"]) == pytest.approx(6**0.5 * (mean["high"] - mean["mean"]))


@pytest.mark.parametrize(
    "values",
    [[0.91, 0.93, 0.99], [0.1] * 3, [0.5], [np.nan], [0.2, 0.21, np.inf], [np.inf]],
)
def test_columns_and_samples_have_the_same_intervals(values):
    of_column = estimate(values, bounds=(0, 1))
    of_sample = mean_interval(values, bounds=(0, 1))
    expected = [of_sample.n, of_sample.estimate, of_sample.sd, of_sample.low, of_sample.high]
    assert list(of_column) == pytest.approx(expected, nan_ok=True)


def test_differences_that_are_equal_but_for_rounding_have_no_interval():
    found = estimate([0.9 - 0.3, 0.7 - 0.1])
    assert found["sd"] == 0 and isnan(found["low"]) and found["mean"] == pytest.approx(0.6)


def test_gaps_of_one_image_each_are_equal():
    """Of 10,000 test images: 0.7213 - 0.7212 and 0.6912 - 0.6911 differ in the 16th digit."""
    table = pd.DataFrame({"train_eval_accuracy": [0.7213, 0.6912, 0.7001]})
    table = with_gap(table.assign(test_accuracy=[0.7212, 0.6911, 0.7000]))
    found = estimate(table["gap"])
    assert found["mean"] == 0.0001 and found["sd"] == 0 and isnan(found["low"])
    other = difference(100 * table["gap"], [0.02, 0.02, 0.02])
    assert isnan(other.low) and isnan(other.p)


def test_one_number_has_no_interval_and_none_has_no_mean():
    one = estimate([0.5])
    assert one["n"] == 1
    assert one["mean"] == 0.5
    assert one[["sd", "low", "high"]].isna().all()
    none = estimate([np.nan])
    assert none["n"] == 0
    assert none[["mean", "sd", "low", "high"]].isna().all()


def test_empty_cells_are_left_out_of_the_numbers_but_make_a_group_of_their_own():
    table = pd.DataFrame(
        {"norm": ["none", "none", "group"], "groups": [np.nan, np.nan, "8"], "v": [1, np.nan, 3]}
    )
    result = mean_estimates(table, ["norm", "groups"], "v")
    assert list(result["n"]) == [1, 1]
    assert list(result["mean"]) == [1, 3]


def test_intervals_stop_at_what_is_possible():
    result = estimate([0.90, 1.00], bounds=(0, 1))
    assert result["high"] == 1
    assert 0 <= result["low"] < 0.9
    assert estimate([0.1, 0.0], bounds=(0, None))["low"] == 0


def test_a_median_lies_between_order_statistics_that_cover_it():
    values = np.random.default_rng(0).permutation(np.arange(10.0))
    table = pd.DataFrame({"group": ["b"] * 10 + ["a"], "value": [*values, 7.0]})
    estimates = median_estimates(table, ["group"], "value")
    assert list(estimates.index) == ["b", "a"]
    # P(the median is outside the 2nd and 9th of 10) = 2 * 11 / 1024, the 3rd and 8th 2 * 56 / 1024
    assert list(estimates.loc["b"]) == [10, 4.5, 1.0, 8.0]
    assert list(estimates.loc["a"][["n", "median"]]) == [1, 7.0]
    assert estimates.loc["a"][["low", "high"]].isna().all()


@pytest.mark.parametrize("distribution", ["normal", "exponential"])
def test_the_interval_of_a_median_covers_it(distribution):
    random = np.random.default_rng(0)
    draws = getattr(random, distribution)(size=(2000, 11))
    table = pd.DataFrame({"group": np.repeat(np.arange(2000), 11), "value": draws.ravel()})
    estimates = median_estimates(table, ["group"], "value")
    truth = {"normal": 0.0, "exponential": np.log(2)}[distribution]
    covered = (estimates["low"] <= truth) & (truth <= estimates["high"])
    assert 0.95 < covered.mean() < 1  # 98.8 % for 11 numbers


def test_empty_cells_are_in_no_median():
    table = pd.DataFrame({"axis": [np.nan] * 3 + ["1"], "value": [1.0, np.nan, 3.0, np.nan]})
    estimates = median_estimates(table, ["axis"], "value")
    assert list(estimates["n"]) == [2, 0]
    assert estimates["median"].iloc[0] == 2 and np.isnan(estimates["median"].iloc[1])
