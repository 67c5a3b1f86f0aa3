"""Intervals of ranks: what few runs can and cannot order, and their coverage by simulation."""

import numpy as np
from scipy import stats

from normres.ranking import rank_intervals


def ranks(*groups):
    groups = [np.array(group, float) for group in groups]
    with np.errstate(all="ignore"):
        sd = [group.std(ddof=1) if len(group) > 1 else np.nan for group in groups]
    mean = [group.mean() if len(group) else np.nan for group in groups]
    table = rank_intervals(mean, sd, [len(group) for group in groups])
    return table.to_numpy().tolist()


def test_groups_far_apart_have_one_rank_each():
    assert ranks([1.0, 1.1, 0.9], [5.0, 5.1, 4.9], [9.0, 9.1, 8.9]) == [
        [3, 3, 3],
        [2, 2, 2],
        [1, 1, 1],
    ]


def test_overlapping_groups_share_ranks():
    assert ranks([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [90.0, 91.0, 92.0]) == [
        [3, 2, 3],
        [2, 2, 3],
        [1, 1, 1],
    ]


def test_means_that_are_equal_but_for_rounding_share_a_rank():
    a, b = np.array([126, 60, 68]) / 360, np.array([127, 59, 68]) / 360  # of one total
    assert a.mean() != b.mean()
    assert ranks(a, b, a - 0.1) == [[1, 1, 3], [1, 1, 3], [3, 1, 3]]
    assert ranks(b, a, a + 0.1) == [[2, 1, 3], [2, 1, 3], [1, 1, 3]]
    assert [row[0] for row in ranks(a, a + 1e-9)] == [2, 1]


def test_one_run_or_equal_runs_exclude_nothing_and_no_run_has_no_rank():
    low, high, none = ranks([1.0], [9.0, 9.1, 8.9], [])
    assert low == [2, 1, 2] and high == [1, 1, 2]
    assert np.isnan(none).all()
    assert ranks([1.0, 1.0], [2.0, 2.0]) == [[2, 1, 2], [1, 1, 2]]
    assert ranks([1.0] * 5, [2.0, 2.00001]) == [[2, 1, 2], [1, 1, 2]]
    assert ranks([2.0, 2.00001], [1.0] * 5) == [[1, 1, 2], [2, 1, 2]]
    assert ranks([1.0] * 3, [2.0, 2.00001, 2.00002]) == [[2, 2, 2], [1, 1, 1]]


def test_two_groups_are_ordered_where_welchs_test_says_so():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(0, 1, 5), rng.normal(1.5, 2, 5)
        p = stats.ttest_ind(a, b, equal_var=False).pvalue
        (_, low, high), _ = ranks(a, b)
        assert (low == high) == (p < 0.05)


def test_the_intervals_hold_all_at_once():
    """Four groups of 5 runs; where true means are equal, any of their ranks is true."""
    rng, true = np.random.default_rng(1), np.array([0, 0, 0, 1])
    missed = 0
    for _ in range(200):
        x = rng.normal(true[:, None], 1, (4, 5))
        table = rank_intervals(x.mean(1), x.std(1, ddof=1), np.full(4, 5))
        least = 1 + (true[None, :] > true[:, None]).sum(1)
        most = (true[None, :] >= true[:, None]).sum(1)
        missed += bool(((table["rank_low"] > most) | (table["rank_high"] < least)).any())
    assert missed <= 0.05 * 200 + 2 * np.sqrt(200 * 0.05 * 0.95)
