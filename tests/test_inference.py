"""Intervals and tests against scipy's and statsmodels' own and against published examples."""

import warnings
from math import isnan

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from normres.inference import (
    FRACTION,
    NONNEGATIVE,
    difference,
    differences,
    equivalence,
    holm,
    is_constant,
    mcnemar,
    mean_interval,
    sampling_interval,
    settled,
)
from normres.power import pooled_spread
from normres.resampling import permutation_test

# Additional hours of sleep of ten patients with two drugs (Cushny & Peebles, in Student 1908).
SLEEP_A = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_B = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Output voltages of five circuit packs (Hahn & Meeker 1991, Statistical Intervals, 3 and 4).
VOLTAGES = [51.4, 49.5, 48.7, 49.3, 51.6]


def ends(found, digits=7):
    return round(found.low, digits), round(found.high, digits)


def test_a_mean_as_hahn_and_meeker_have_it():
    mean = mean_interval(VOLTAGES)
    assert mean.n == 5 and round(mean.estimate, 2) == 50.10 and round(mean.sd, 2) == 1.31
    assert ends(mean, 2) == (48.47, 51.73)


@pytest.mark.parametrize("n", [2, 3, 40])
def test_the_interval_of_a_mean_is_that_of_scipy(n):
    x = np.random.default_rng(n).normal(0.9, 0.01, n)
    own, theirs = mean_interval(x, 0.9), stats.ttest_1samp(x, 0).confidence_interval(0.9)
    assert (own.low, own.high) == pytest.approx((theirs.low, theirs.high))


def test_the_sleep_data_have_the_published_interval_and_test():
    welch = difference(SLEEP_A, SLEEP_B)  # R: t.test(extra ~ group, data = sleep)
    assert round(welch.estimate, 2) == -1.58
    assert ends(welch) == (-3.3654832, 0.2054832)
    assert round(welch.p, 5) == 0.07939 and round(welch.df, 3) == 17.776
    paired = difference(SLEEP_A, SLEEP_B, paired=True)
    assert ends(paired) == (-2.4598858, -0.7001142)
    assert round(paired.p, 6) == 0.002833 and paired.df == 9
    assert round(paired.correlation, 7) == 0.7951702


def test_welchs_interval_of_other_numbers_of_runs_is_that_of_scipy_and_rests_on_nothing_else():
    welch = difference(SLEEP_A[:4], SLEEP_B)
    theirs = stats.ttest_ind(SLEEP_A[:4], SLEEP_B, equal_var=False)
    interval = theirs.confidence_interval()
    assert (welch.low, welch.high) == pytest.approx((interval.low, interval.high))
    assert (welch.n_a, welch.n_b, welch.reason) == (4, 10, "")
    assert (welch.p, welch.df) == pytest.approx((theirs.pvalue, theirs.df))


def test_equal_numbers_have_no_interval_since_their_spread_is_not_known():
    found = mean_interval([0.1] * 3)  # numpy's mean of these is 0.10000000000000002
    assert (found.n, found.estimate, found.sd) == (3, 0.1, 0.0)
    assert isnan(found.low) and isnan(found.high)
    assert found.reason == "all 3 runs are equal, so their spread is not known"


@pytest.mark.parametrize("x", [[2.0, 2.1, np.inf], [2.0, -np.inf], [np.inf] * 3, [np.inf]])
def test_of_an_infinite_number_there_is_no_mean_and_no_interval(x):
    found = mean_interval(x)
    assert found.n == len(x) and found.reason == "a number is not finite"
    assert all(map(isnan, (found.estimate, found.sd, found.low, found.high)))
    finite = np.arange(1.0, 1 + len(x))
    for found in (difference(x, finite), difference(finite, x, paired=True)):
        assert found.reason == "a number is not finite"
        assert all(map(isnan, (found.estimate, found.low, found.high, found.p)))
    assert not is_constant(np.array(x)) and settled(np.array(x), np.inf).tolist() == x
    assert isnan(permutation_test(x, finite).p)
    assert pooled_spread([x, [1, 2, 3]]).sd == 1


def test_one_number_and_none():
    one, none = mean_interval([0.5]), mean_interval([np.nan])
    assert (
        (one.n, one.estimate) == (1, 0.5)
        and isnan(one.sd)
        and isnan(one.low)
        and "single" in one.reason
    )
    assert none.n == 0 and isnan(none.estimate) and none.reason == "no run is complete"
    found = difference([0.5], [0.4, 0.6])
    assert (
        found.estimate == 0.0 and isnan(found.low) and isnan(found.p) and "single" in found.reason
    )
    assert isnan(difference([], [0.4, 0.6]).estimate)


def test_why_there_is_no_difference_is_said_of_the_side_that_lacks_runs():
    assert difference([], []).reason == "no run is complete"
    assert difference([], [0.4, 0.6]).reason == difference([0.4], []).reason
    assert difference([0.4], []).reason == "one side has no complete run"
    other_seeds = difference([0.5, np.nan], [np.nan, 0.6], paired=True)
    assert other_seeds.reason == "no seed has a complete run on both sides"
    assert other_seeds.n_a == 0 and isnan(other_seeds.estimate)


def test_what_has_no_number_warns_of_nothing():
    """Warnings of numpy would stand among the lines of a command."""
    varied = [0.55, 0.6, 0.62, 0.58]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for a, b in (([], varied), ([], []), ([0.1] * 4, varied), ([0.1] * 4, [0.2] * 4)):
            difference(a, b)
            difference(b, a)
        assert len(differences(np.array([]), np.array([]))) == 0
        assert isnan(difference([0.1] * 4, varied, paired=True).correlation)
        assert isnan(difference(varied, [0.1] * 4, paired=True).correlation)
        assert len(holm([])) == 0


def test_a_constant_side_leaves_the_spread_to_the_other_and_says_so():
    varied = [0.55, 0.6, 0.62, 0.58]
    found = difference([0.1] * 4, varied)
    alone = stats.ttest_1samp(varied, 0.1)  # what Welch's formula becomes
    interval = alone.confidence_interval()
    assert (-found.high, -found.low) == pytest.approx((interval.low - 0.1, interval.high - 0.1))
    assert found.p == pytest.approx(alone.pvalue) and found.df == pytest.approx(3)
    assert found.reason == "all 4 runs of one side are equal; the spread is the other's"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_constant_side_of_another_number_of_runs_leaves_no_interval(n):
    varied = [0.55, 0.6, 0.62, 0.58]
    reason = f"all {n} runs of one side are equal, and the other 4 alone give no interval"
    for found in (difference([0.1] * n, varied), difference(varied, [0.1] * n)):
        assert abs(found.estimate) == pytest.approx(0.4875) and found.reason == reason
        assert all(map(isnan, (found.low, found.high, found.p, found.df)))
    assert not equivalence([0.1] * n, varied, 5).equivalent


def test_without_any_spread_there_is_a_difference_and_nothing_else():
    for found in (
        difference([0.1] * 3, [0.3] * 3),
        difference([0.1, 0.2, 0.4], [0.3, 0.4, 0.6], paired=True),
    ):
        assert found.estimate == pytest.approx(-0.2)
        assert isnan(found.low) and isnan(found.p) and "not known" in found.reason
    assert not equivalence([0.1] * 3, [0.1] * 3, 0.5).equivalent


def test_differences_are_equal_whatever_rounding_says():
    a, b = (np.array([317, 150, 31]) - less for less in (0, 1))
    a, b = a / 360, b / 360  # accuracies on 360 images, one image apart
    assert len(set(a - b)) > 1  # not to the last digit
    assert is_constant(a - b) and not is_constant(a)
    assert isnan(difference(a, b, paired=True).low)
    a, b = np.array([0.7213, 0.6912]), np.array([0.7212, 0.6911])  # of 10,000, one apart
    assert not is_constant(a - b) and is_constant(differences(a, b))
    assert isnan(difference(a, b, paired=True).low)
    a = np.array([1000.3, 712.1, 3.7])  # rounding is of the size of the numbers
    assert len(set(a - (a - 0.1))) > 1 and len(set(differences(a, a - 0.1))) == 1
    a, b = np.array([126, 60, 68]) / 360, np.array([127, 59, 68]) / 360  # of one total
    assert a.mean() != b.mean() and difference(a, b).estimate == 0
    gap = np.array([0.9 - 0.3, 0.7 - 0.1])
    assert gap[0] != gap[1] and isnan(difference(gap, gap).low)
    assert not is_constant(np.array([0.9, 0.9 + 1e-9]))
    assert not is_constant(np.array([0.9])) and not is_constant(np.array([]))  # no two numbers


def test_pairs_with_an_empty_cell_are_left_out_and_lengths_must_agree():
    a, b = [*SLEEP_A, np.nan, 3.0], [*SLEEP_B, 2.0, np.nan]
    assert difference(a, b, paired=True) == difference(SLEEP_A, SLEEP_B, paired=True)
    with pytest.raises(ValueError, match="one length"):
        difference([1, 2], [1, 2, 3], paired=True)


def test_numbers_are_one_for_each_run():
    table = [[0.1, 0.2], [0.3, 0.4]]  # runs x epochs, say
    with pytest.raises(ValueError, match=r"a number each run, not an array \(2, 2\)"):
        difference(table, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"two lists of one length, not \(2, 2\) and \(2, 2\)"):
        difference(table, table, paired=True)


def test_bounds_cut_the_interval():
    accuracy, loss = mean_interval([0.1, 0.9], bounds=FRACTION), mean_interval([0.1, 0.9])
    assert (accuracy.low, accuracy.high) == (0, 1)
    assert loss.low < 0 and loss.high > 1
    cut = mean_interval([0.1, 0.9], bounds=NONNEGATIVE)
    assert (cut.low, cut.high) == (0, loss.high)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("margin", [1.0, 3.0, 4.0])
def test_equivalence_is_that_of_statsmodels_and_of_the_90_percent_interval(margin, paired):
    found = equivalence(SLEEP_A, SLEEP_B, margin, paired=paired)
    a, b = np.array(SLEEP_A), np.array(SLEEP_B)
    if paired:
        p = ttost_paired(a, b, -margin, margin)[0]
    else:
        p = ttost_ind(a, b, -margin, margin, usevar="unequal")[0]
    assert found.p == pytest.approx(p)
    assert found.equivalent == (-margin < found.low and found.high < margin)
    assert (found.low, found.high) == pytest.approx(
        [getattr(difference(a, b, paired=paired, confidence=0.9), end) for end in ("low", "high")]
    )


def test_a_margin_must_be_positive():
    with pytest.raises(ValueError, match="margin 0 is not positive"):
        equivalence(SLEEP_A, SLEEP_B, 0)


def test_holm_by_hand_and_with_a_test_that_could_not_be_made():
    # in order 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, none below the one before
    assert list(holm([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(holm([0.02, 0.02])) == pytest.approx([0.04, 0.04])
    assert holm([0.01, np.nan]).tolist() == pytest.approx([0.02, np.nan], nan_ok=True)
    assert len(holm([])) == 0


@pytest.mark.parametrize(
    ("correct", "images", "interval"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_test_sets_interval_is_wilsons(correct, images, interval):
    low, high = sampling_interval(correct, images)
    assert (round(low, 4), round(high, 4)) == interval


def test_mcnemar_of_two_networks_counts_where_they_differ():
    a = np.array([True] * 10 + [True] * 1 + [False] * 5 + [False] * 4)
    b = np.array([True] * 10 + [False] * 1 + [True] * 5 + [False] * 4)
    only_a, only_b, p = mcnemar(a, b)
    assert (only_a, only_b) == (1, 5)
    assert p == pytest.approx(2 * (1 + 6) / 2**6)  # 0 or 1 heads of 6


def test_mcnemar_does_not_pool_seeds():
    with pytest.raises(ValueError, match=r"not \(5, 10\)"):
        mcnemar(np.ones((5, 10), bool), np.ones((5, 10), bool))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(9, bool), np.ones(10, bool)),
        (np.ones(10, int), np.ones(10, bool)),  # numbers, of which ~ would make others
        (np.ones(10, bool), np.ones(10, int)),
    ],
)
def test_mcnemar_takes_what_is_right_and_wrong_of_the_same_images(a, b):
    with pytest.raises(ValueError, match="two bool arrays"):
        mcnemar(a, b)
