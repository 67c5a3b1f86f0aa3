"""Power against the tables in Cohen 1988 and G*Power, and pooled spreads against NIST's example."""

from math import isnan

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from normres.power import minimal_detectable_difference, pooled_spread, runs_needed, spread_apart

# Diameters of gears in batches of ten (NIST/SEMATECH e-Handbook, 1.3.5.10, Levene's test).
GEARS = """
1.006 0.996 0.998 1.000 0.992 0.993 1.002 0.999 0.994 1.000
0.998 1.006 1.000 1.002 0.997 0.998 0.996 1.000 1.006 0.988
0.991 0.987 0.997 0.999 0.995 0.994 1.000 0.999 0.996 0.996
1.005 1.002 0.994 1.000 0.995 0.994 0.998 0.996 1.002 0.996
0.998 0.998 0.982 0.990 1.002 0.984 0.996 0.993 0.980 0.996
1.009 1.013 1.009 0.997 0.988 1.002 0.995 0.998 0.981 0.996
0.990 1.004 0.996 1.001 0.998 1.000 1.018 1.010 0.996 1.002
0.998 1.000 1.006 1.000 1.002 0.996 0.998 0.996 1.002 1.006
1.002 0.998 0.996 0.995 0.996 1.004 1.004 0.998 0.999 0.991
0.991 0.995 0.984 0.994 0.997 0.997 0.991 0.998 1.004 0.997
"""


@pytest.mark.parametrize(("n", "sds"), [(5, 2.08), (3, 3.51), (2, 10.39), (64, 0.50), (26, 0.79)])
def test_the_detectable_difference(n, sds):
    assert minimal_detectable_difference(0.4, n) == pytest.approx(0.4 * sds, rel=0.005)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_welchs_test_finds_the_detectable_difference_in_four_of_five_studies(n):
    """As it is made, of few runs; Student's of equal spreads would find it more often."""
    rng, effect = np.random.default_rng(n), minimal_detectable_difference(1.0, n)
    a, b = rng.normal(effect, 1, (20_000, n)), rng.normal(0, 1, (20_000, n))
    found = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("n", range(2, 60))
def test_the_detectable_difference_of_pairs_has_the_power_that_statsmodels_computes(n):
    effect = minimal_detectable_difference(1.0, n, paired=True)
    power = TTestPower().power(effect, n, 0.05)
    assert np.isnan(power) or power == pytest.approx(0.8, abs=1e-9)  # NaN: a fault of SciPy 1.17


def test_of_many_runs_welchs_test_detects_what_students_does():
    for n in (60, 300, 2_000):
        power = TTestIndPower().power(minimal_detectable_difference(1.0, n), n, 0.05)
        assert power == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize(
    ("effect", "paired", "n"),
    [  # Cohen 1988, table 2.4.1 (64, 26); G*Power 3.1 (394 for 0.2; 34 pairs for 0.5)
        (0.2, False, 394),
        (0.5, False, 64),
        (0.8, False, 26),
        (0.5, True, 34),
    ],
)
def test_the_runs_needed(effect, paired, n):
    assert runs_needed(2.0, 2.0 * effect, paired=paired) == n
    assert minimal_detectable_difference(1, n, paired=paired) <= effect
    assert minimal_detectable_difference(1, n - 1, paired=paired) > effect


@pytest.mark.parametrize("paired", [False, True])
def test_what_n_runs_just_detect_needs_n_runs(paired):
    for n in (2, 3, 4, 5, 17):
        least = minimal_detectable_difference(0.7, n, paired=paired)
        assert runs_needed(0.7, least, paired=paired) == n
        assert runs_needed(0.7, 0.999 * least, paired=paired) == n + 1
    assert runs_needed(0.1, 50.0, paired=paired) == 2
    assert runs_needed(1.0, 0.5) == 64  # not paired, unless that is said


def test_an_unknown_spread_needs_an_unknown_number_of_runs():
    for sd in (0.0, np.nan):
        assert runs_needed(sd, 1.0) is None
        assert isnan(minimal_detectable_difference(sd, 5))
    assert isnan(minimal_detectable_difference(1.0, 1))
    with pytest.raises(ValueError, match="0"):
        runs_needed(1.0, 0.0)


def test_the_gears_have_nists_p():
    batches = np.array([line.split() for line in GEARS.split("\n") if line], float)
    found = pooled_spread(list(batches))
    # they print the statistic as 1.705910, computed in single precision
    assert found.p == pytest.approx(stats.f.sf(1.705910, 9, 90), abs=1e-5)
    assert found.equal and found.groups == 10 and found.df == 90
    assert found.sd == pytest.approx(batches.var(axis=1, ddof=1).mean() ** 0.5)


def test_unequal_spreads_are_noticed():
    rng = np.random.default_rng(0)
    assert not pooled_spread([rng.normal(0, sd, 10) for sd in (1, 1, 12)]).equal
    two = [rng.normal(0, sd, 10) for sd in (1, 12)]
    assert pooled_spread(two).p == pytest.approx(stats.levene(*two).pvalue)


def test_constant_and_single_runs_are_not_pooled():
    found = pooled_spread([[1.0, 2.0, 3.0], [0.1] * 3, [5.0], [np.nan, 7.0]])
    assert (found.sd, found.df, found.groups, found.constant) == (1.0, 2, 1, 1)
    assert found.equal and isnan(found.p)
    nothing = pooled_spread([[0.1] * 3])
    assert isnan(nothing.sd) and nothing.groups == 0
    assert isnan(pooled_spread([[1.0, 2.0], [1.0, 5.0]]).p)  # two runs each: no check


def test_samples_of_two_do_not_make_spreads_look_unequal():
    """They lie equally far from their median: in Brown and Forsythe's test, without any spread."""
    rng = np.random.default_rng(0)
    unequal = 0
    for _ in range(300):
        samples = [rng.normal(size=n) for n in (5, 5, 2, 2, 2, 2)]
        found = pooled_spread(samples)
        unequal += not found.equal
        assert found.groups == 6 and found.df == 12
    assert unequal < 25  # 5 % of 300 and more, though the test is careful with few runs


@pytest.mark.parametrize(("n", "low", "high"), [(2, 1 / 45, 5.2159), (3, 1 / 8.1702, 3.1539)])
def test_a_spread_is_apart_by_the_f_test_of_its_runs(n, low, high):
    """The square root of quantiles of F with 2 (n - 1) and 7 (n - 1) degrees of freedom."""
    one = np.random.default_rng(0).normal(size=n)
    others = [one] * 7  # all of one sd
    for factor, apart in ((0.9 * low, True), (1.1 * low, False), (1, False)):
        own = [factor * one, factor * one]
        assert spread_apart(pooled_spread(own), pooled_spread(own + others)) == apart
    for factor, apart in ((0.99 * high, False), (1.01 * high, True)):
        own = [factor * one, factor * one]
        assert spread_apart(pooled_spread(own), pooled_spread(own + others)) == apart
    assert not spread_apart(pooled_spread(own), pooled_spread(own))  # the study has no others
    assert not spread_apart(pooled_spread([[1, 1]] * 2), pooled_spread(others))
    single = [[0.0, 1000.0], [5.0]]  # one spread of one degree of freedom is compared, too
    assert spread_apart(pooled_spread(single), pooled_spread(single + [[1.0, 2.0, 3.0]] * 4))
    assert spread_apart(pooled_spread(others * 2), pooled_spread(others * 2 + single))


def test_equal_spreads_of_two_runs_are_hardly_ever_apart():
    """Two of nine configurations, one in a thousand times; a factor of 3 in sd, one in twelve."""
    draws = np.random.default_rng(1).normal(size=(2_000, 9, 2))
    apart = [spread_apart(pooled_spread(x[:2]), pooled_spread(x)) for x in draws]
    assert np.mean(apart) < 0.005
