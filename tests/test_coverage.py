"""How often intervals hold the truth, simulated: as often as they say."""

import numpy as np
import pandas as pd
import pytest

from normres.inference import difference, equivalence, mean_interval
from normres.power import minimal_detectable_difference
from normres.resampling import crossed_spread, permutation_test
from normres.statistics import mean_estimates

pytestmark = pytest.mark.slow

DRAWS = 2_000
NEAR = 4 * (0.05 * 0.95 / DRAWS) ** 0.5  # four standard errors of a share of 5 %


def share(held):
    return np.mean(list(held))


@pytest.mark.parametrize("n", [2, 5])
def test_intervals_of_a_mean_and_of_a_new_run(n):
    rng = np.random.default_rng(n)
    draws = rng.normal(0.9, 0.01, (DRAWS, n))
    assert share(m.low <= 0.9 <= m.high for m in map(mean_interval, draws)) == pytest.approx(
        0.95, abs=NEAR
    )
    table = pd.DataFrame({"group": np.repeat(np.arange(DRAWS), n), "x": draws.ravel()})
    columns = mean_estimates(table, ["group"], "x")
    assert columns["low"].le(0.9).mul(columns["high"].ge(0.9)).mean() == pytest.approx(
        0.95, abs=NEAR
    )
    columns = mean_estimates(table, ["group"], "x", new_run=True)
    new = rng.normal(0.9, 0.01, DRAWS)
    assert columns["low"].le(new).mul(columns["high"].ge(new)).mean() == pytest.approx(
        0.95, abs=NEAR
    )


def test_intervals_of_differences_with_unequal_spreads_and_of_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 3, (DRAWS, 5)), rng.normal(0, 1, (DRAWS, 5))
    found = [difference(x, y) for x, y in zip(a, b, strict=True)]
    assert share(d.low <= 1 <= d.high for d in found) == pytest.approx(0.95, abs=1.5 * NEAR)
    common = rng.normal(0, 5, (DRAWS, 5))
    a, b = common + rng.normal(1, 1, (DRAWS, 5)), common + rng.normal(0, 1, (DRAWS, 5))
    found = [difference(x, y, paired=True) for x, y in zip(a, b, strict=True)]
    assert share(d.low <= 1 <= d.high for d in found) == pytest.approx(0.95, abs=NEAR)


def test_welchs_level_holds_for_three_and_five_runs_and_not_for_two_and_five():
    """What docs/statistics.md says: with equal spreads; and where the two runs vary more."""
    rng = np.random.default_rng(5)

    def rejected(n, sd):
        a, b = rng.normal(0, sd, (DRAWS, n)), rng.normal(0, 1, (DRAWS, 5))
        return share(difference(x, y).p < 0.05 for x, y in zip(a, b, strict=True))

    assert rejected(3, 1) < 0.05 + NEAR
    assert rejected(2, 3) > 0.08


def test_the_detectable_difference_is_detected_four_times_of_five():
    rng = np.random.default_rng(1)
    shift = minimal_detectable_difference(1.0, 5)
    a, b = rng.normal(shift, 1, (DRAWS, 5)), rng.normal(0, 1, (DRAWS, 5))
    found = share(difference(x, y).p < 0.05 for x, y in zip(a, b, strict=True))
    assert found == pytest.approx(0.8, abs=0.04)  # Welch's test has slightly less than Student's


def test_tests_reject_equality_no_more_often_than_they_say():
    rng = np.random.default_rng(2)
    draws = rng.exponential(1, (500, 2, 5))
    assert share(permutation_test(a, b).p <= 0.05 for a, b in draws) < 0.05 + 0.03
    apart = rng.normal(0, 1, (DRAWS, 2, 8)) + np.array([[1.0], [0.0]])  # the margin itself
    wrong = share(equivalence(a, b, 1.0).equivalent for a, b in apart)
    assert wrong < 0.05 + NEAR


def test_seeds_and_images_together_have_the_spread_and_hold_the_difference_of_all():
    """Networks and images of known difficulty: the truth is the mean over both populations."""
    rng = np.random.default_rng(4)
    draws, seeds, images = 300, 5, 400

    def correct(hard, shift):
        skill = shift + rng.normal(0, 0.1, (seeds, 1))
        return hard + rng.normal(0, 0.5, (seeds, images)) < skill

    spread = (1 + 0.5**2 + 0.1**2) ** 0.5  # of difficulty, noise and skill together

    def truth(shift):
        return np.mean(rng.normal(0, spread, 4_000_000) < shift)

    expected = truth(0.9) - truth(0.8)
    found = []
    for _ in range(draws):
        hard = rng.normal(size=images)
        found.append(crossed_spread(correct(hard, 0.9), correct(hard, 0.8), samples=300))
    assert 0.92 < share(f.low <= expected <= f.high for f in found) < 0.985
    true_sd = np.std([f.estimate for f in found])
    assert np.mean([f.sd**2 for f in found]) ** 0.5 == pytest.approx(true_sd, rel=0.12)
