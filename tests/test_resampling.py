"""Permutation tests and a bootstrap against scipy's own, by hand, and against known variances."""

from itertools import combinations
from math import isnan

import numpy as np
import pytest
from scipy import stats

from normres.inference import holm
from normres.resampling import _interaction, crossed_spread, permutation_test, smallest_p

# Differences of 15 pairs of plants, in eighths of an inch (Darwin 1876, in Fisher 1935, chapter 3).
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])


def test_darwins_plants_have_fishers_p():
    found = permutation_test(DARWIN, np.zeros(15), paired=True)
    assert found.exact and found.arrangements == 2**15
    assert found.p == pytest.approx(2 * 863 / 2**15)  # 863 of 32,768 arrangements reach the sum 314


def test_groups_are_divided_in_all_ways():
    a, b = np.array([1.0, 4.0, 6.0]), np.array([2.0, 7.0, 9.0, 11.0])
    everything, seen = np.concatenate([a, b]), a.mean() - b.mean()
    reached = 0
    for chosen in combinations(range(7), 3):
        rest = np.setdiff1d(np.arange(7), chosen)
        reached += everything[list(chosen)].mean() - everything[rest].mean() <= seen + 1e-12
    found = permutation_test(a, b)
    assert found.exact and found.arrangements == 35
    assert found.p == pytest.approx(2 * reached / 35)


def test_ties_and_equal_runs_count_as_reached():
    assert permutation_test([1, 1, 1], [1, 1, 1]).p == 1
    assert permutation_test([1, 1, 2], [2, 2, 2]).p == pytest.approx(2 * 4 / 20)


def test_arrangements_that_tie_are_ties_whatever_rounding_says():
    """Accuracies of 10,000 images in percent, against the same sums in integers."""
    right = np.array([9017, 9005, 9017, 9038, 9049, 9025, 8990, 8985, 8993])
    total, seen = right.sum(), right[:5].sum()
    sums = [right[list(chosen)].sum() for chosen in combinations(range(9), 5)]
    reached = min(sum(x >= seen for x in sums), sum(x <= seen for x in sums))
    assert 9 * seen > 5 * total
    found = permutation_test(right[:5] / 100, right[5:] / 100)
    assert found.p == pytest.approx(2 * reached / 126) and found.p > 0.05


def test_many_runs_are_sampled_and_the_same_each_time():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 15), rng.normal(0.8, 1, 15)
    found = permutation_test(a, b)
    assert not found.exact and found == permutation_test(a, b)
    assert found.p == pytest.approx(stats.ttest_ind(a, b).pvalue, abs=0.01)
    assert found.smallest == 2 / 10_000


def test_what_is_drawn_has_no_smaller_p_than_one_in_all_draws():
    """Of 9,999 draws none reaches what was seen; with it that is 1 of 10,000, on each side."""
    found = permutation_test(np.arange(15) + 100.0, np.arange(15.0))
    assert found.p == found.smallest == pytest.approx(2 / 10_000, rel=1e-12)


@pytest.mark.parametrize("power", [-9, -1, 0, 1, 6])
def test_means_are_told_apart_to_ten_digits_of_the_largest_number(power):
    """Steps in the tenth digit order all 20 arrangements; in the eleventh they are rounding."""
    order = np.array([6, 5, 4, 3, 2, 1])
    for step, p in ((1e-10, 2 / 20), (1e-11, 1.0)):
        x = (0.9 + step * order) * 10.0**power
        assert permutation_test(x[:3], x[3:]).p == pytest.approx(p)


def test_without_runs_there_is_no_p():
    assert isnan(permutation_test([], [1.0, 2.0]).p)
    assert isnan(permutation_test([1.0], [2.0, 3.0]).p)


@pytest.mark.parametrize(
    ("n_a", "n_b", "paired", "p"),
    [(5, 5, True, 0.0625), (5, 5, False, 2 / 252), (3, 3, False, 0.1)],
)
def test_no_data_have_a_smaller_p(n_a, n_b, paired, p):
    assert smallest_p(n_a, n_b, paired=paired) == pytest.approx(p)
    a, b = np.arange(n_a) + 100.0, np.arange(n_b) / 10
    assert permutation_test(a, b, paired=paired).p == pytest.approx(p)


def test_the_smallest_p_of_a_family():
    assert smallest_p(1, 1) == 1 and isnan(smallest_p(0, 5))
    alone = smallest_p(5, 5)
    assert holm([alone] * 6) == pytest.approx([6 * alone] * 6)
    assert holm([alone, 0.0625]) == pytest.approx([2 * alone, 0.0625])
    assert holm([alone] * 7).min() > 0.05  # nothing can be rejected


def networks(rng, seeds, images, shift=0.0, own=0.05, hardness=None):
    """Correctness (seeds, images): an image's hardness, a seed's skill, and what is neither."""
    hard = rng.normal(size=images) if hardness is None else hardness
    skill = shift + rng.normal(0, own, (seeds, 1))
    return hard + rng.normal(0, 0.7, (seeds, images)) < 1 + skill


def interaction(correct):
    """What seeds and images have together, of the variance of a mean: by least squares."""
    seeds, images = correct.shape
    design = np.zeros((seeds * images, seeds + images))
    rows = np.arange(seeds * images)
    design[rows, rows // images] = design[rows, seeds + rows % images] = 1
    fitted = design @ np.linalg.lstsq(design, correct.ravel().astype(float))[0]
    squares = ((correct.ravel() - fitted) ** 2).sum() / ((seeds - 1) * (images - 1))
    return squares / (seeds * images)


def test_the_parts_of_a_difference_are_its_known_variances():
    rng = np.random.default_rng(5)
    hard = rng.normal(size=300)
    a, b = (networks(rng, 6, 300, shift, hardness=hard) for shift in (0.4, 0.0))
    found = crossed_spread(a, b)
    seeds = sum(x.mean(axis=1).var(ddof=1) / 6 for x in (a, b))
    together = sum(interaction(x) for x in (a, b))
    images = (a.mean(axis=0) - b.mean(axis=0)).var() / 300 - together
    assert found.estimate == a.mean() - b.mean()
    assert found.seeds_sd == pytest.approx(seeds**0.5, rel=0.06)
    assert found.images_sd == pytest.approx(images**0.5, rel=0.2)  # a small rest of two variances
    assert found.sd == pytest.approx((seeds + images) ** 0.5, rel=0.06)
    assert found.low < found.estimate < found.high
    assert found == crossed_spread(a, b)  # seeded


def test_the_interaction_is_that_of_least_squares():
    rng = np.random.default_rng(9)
    correct = networks(rng, 5, 7)
    assert _interaction(correct) == pytest.approx(interaction(correct))
    # Residuals of 1/2 each; their squares' sum is 1, with one degree of freedom, of 4 answers.
    assert _interaction(np.eye(2, dtype=bool)) == pytest.approx(1 / 4)


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_has_satterthwaites_degrees_of_freedom(paired):
    """Those of the seeds' part: the images' part is taken as known."""
    rng = np.random.default_rng(10)
    a, b = (networks(rng, n, 200, own=0.1) for n in (6, 6 if paired else 9))
    means = [x.mean(axis=1) for x in (a, b)]
    groups = [means[0] - means[1]] if paired else means
    parts = [(stats.sem(x) ** 2, len(x) - 1) for x in groups]
    for confidence in (0.8, 0.95):
        found = crossed_spread(a, b, paired=paired, confidence=confidence)
        assert found.sd**2 > 1.1 * sum(part for part, _ in parts)
        df = found.sd**4 / sum(part**2 / freedom for part, freedom in parts)
        half = stats.t.ppf((1 + confidence) / 2, df) * found.sd
        assert (found.high - found.estimate) == pytest.approx(half)
        assert (found.estimate - found.low) == pytest.approx(half)


def test_without_spread_of_seeds_the_quantile_is_the_normal_one():
    rng = np.random.default_rng(11)
    one, other = rng.random(500) < 0.7, rng.random(500) < 0.6
    found = crossed_spread(np.tile(one, (5, 1)), np.tile(other, (5, 1)), confidence=0.9)
    assert (found.high - found.estimate) / found.sd == pytest.approx(stats.norm.ppf(0.95))


def test_a_difference_of_shares_ends_at_one():
    """Of a's networks two have no image right, of b's none has any."""
    a, b = (
        np.repeat([[True], [True], [True], [False], [False]], 50, axis=1),
        np.zeros((5, 50), bool),
    )
    found = crossed_spread(a, b)
    assert found.high == 1.0 and found.estimate == pytest.approx(0.6) and found.low > -1
    found = crossed_spread(b, a)
    assert found.low == -1.0 and found.high < 1


def test_without_noise_of_seeds_all_is_due_to_images_and_the_other_way_round():
    rng = np.random.default_rng(6)
    one, other = rng.random(500) < 0.7, rng.random(500) < 0.6
    found = crossed_spread(np.tile(one, (5, 1)), np.tile(other, (5, 1)))
    assert found.seeds_sd < 1e-9 and found.seeds_share < 1e-9
    assert found.sd == pytest.approx((1.0 * one - other).std() / 500**0.5, rel=0.06)
    right = np.arange(5)[:, None] < np.full(500, 3)  # a seed has all right or none
    found = crossed_spread(right, ~right)
    assert found.images_sd < 1e-9 and found.seeds_share == pytest.approx(1)


def test_pairs_are_drawn_together():
    rng = np.random.default_rng(7)
    hard = rng.normal(size=2_000)
    a = networks(rng, 6, 2_000, own=0.3, hardness=hard)
    b = a ^ (rng.random(a.shape) < 0.01)
    paired, apart = crossed_spread(a, b, paired=True), crossed_spread(a, b)
    assert paired.seeds_sd < apart.seeds_sd / 4
    expected = (a.mean(axis=1) - b.mean(axis=1)).std(ddof=1) / 6**0.5
    assert paired.seeds_sd == pytest.approx(expected, rel=0.06)


def test_few_seeds_are_not_told_from_images():
    rng = np.random.default_rng(8)
    found = crossed_spread(networks(rng, 4, 100), networks(rng, 5, 100))
    assert isnan(found.sd) and isnan(found.seeds_share) and "from 5 runs" in found.reason
    with pytest.raises(ValueError, match="seeds, images"):
        crossed_spread(np.ones((5, 10), bool), np.ones((5, 9), bool))
