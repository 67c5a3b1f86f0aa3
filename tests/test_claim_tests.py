"""Tests of several parts, and numbers at the border of what is claimed."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import check_claims
from claim_tables import DATASET, PARAMS, make_tables, own
from normres.claim_tests import Group, Part, holds_for_estimates, holm_refuted, verdict
from normres.claim_values import Value
from normres.claim_words import claimed_words, value_words
from normres.inference import holm, mean_interval

NODE = own("accuracy(resnet/none, 1) > 0").readings[""]
X = np.array([-1.2, -0.4, 0.1, 0.5, 1.0])
RUNS = Value(seeds={"a": pd.Series(X - X.mean())})
COUNT = PARAMS["convnet"]


def above(bound, value=RUNS):
    return Part(NODE, value, "", bound, math.inf, lambda number: number > bound)


def within(low, high, value=RUNS):
    return Part(NODE, value, "", low, high, lambda number: low <= number <= high)


def refuted_with(p):
    """A claim of a mean of RUNS above a bound that a t test rejects with this p."""
    return above(stats.t.isf(p / 2, 4) * X.std(ddof=1) / 5**0.5)


def supported_with(p):
    return above(-refuted_with(p).low)


TRUE, FALSE = above(0.0, Value(1.0)), above(0.0, Value(-1.0))


def every(*parts):
    return Group(True, parts)


def some(*parts):
    return Group(False, parts)


LOW, HIGH = RUNS.interval(0.95).low, RUNS.interval(0.95).high


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (within(LOW - 0.01, HIGH + 0.01), "supported"),
        (within(LOW - 0.01, HIGH - 0.01), "undecided"),
        (within(LOW + 0.01, HIGH + 0.01), "undecided"),
        (within(LOW + 0.01, HIGH - 0.01), "undecided"),
        (within(HIGH - 0.01, HIGH + 1), "undecided"),
        (within(HIGH + 0.01, HIGH + 1), "refuted"),
        (within(LOW - 1, LOW + 0.01), "undecided"),
        (within(LOW - 1, LOW - 0.01), "refuted"),
        (every(within(1.0, 2.0, Value(1.0)), within(LOW, 0.0)), "undecided"),
        (every(within(0.0, 1.0, Value(1.0)), within(LOW, 0.0)), "undecided"),
    ],
)
def test_an_interval_has_to_lie_inside_or_outside_with_both_ends(part, found):
    assert verdict(part) == found


def test_an_equivalence_needs_the_90_percent_interval_within_its_margins():
    node = own("accuracy(resnet/none, 1) = accuracy(resnet/batch, 1) within 1").readings[""]
    margin = RUNS.interval(0.9).high
    for factor, found in ((1.001, "supported"), (0.999, "undecided")):
        part = replace(within(-factor * margin, factor * margin), node=node)
        assert verdict(part) == found
    far = replace(within(-0.5, 0.5, Value(seeds={"a": pd.Series(X - HIGH - 0.6)})), node=node)
    assert verdict(far) == "refuted"


@pytest.mark.parametrize("ps", [(0.01, 0.02, 0.04), (0.01, 0.03, 0.04), (0.02, 0.02, 0.9)])
def test_the_refuted_parts_of_an_and_are_those_of_holms_steps(ps):
    expected = set(np.flatnonzero(holm(ps) < 0.05))
    assert holm_refuted([refuted_with(p) for p in ps]) == expected
    shifted = {i + 2 for i in expected} | {1}
    assert holm_refuted([TRUE, FALSE, *map(refuted_with, ps)]) == shifted


@pytest.mark.parametrize(
    ("weighed", "found"),
    [
        (some(supported_with(0.04), refuted_with(0.3)), "undecided"),  # two may err
        (some(supported_with(0.024), refuted_with(0.3)), "supported"),
        (some(supported_with(0.04), FALSE), "supported"),  # what is exact cannot
        (every(refuted_with(0.04), supported_with(0.3)), "undecided"),
        (every(refuted_with(0.04), TRUE), "refuted"),
        (every(supported_with(0.04), supported_with(0.04)), "supported"),
        (some(refuted_with(0.04), refuted_with(0.04)), "refuted"),
        # An "and" is exact where an exact part of it fails, an "or" where one holds.
        (some(supported_with(0.04), every(FALSE, supported_with(0.3))), "supported"),
        (some(supported_with(0.04), every(TRUE, refuted_with(0.3))), "undecided"),
        (every(refuted_with(0.04), some(TRUE, refuted_with(0.3))), "refuted"),
        (every(refuted_with(0.04), some(FALSE, supported_with(0.3))), "undecided"),
        (some(supported_with(0.04), every(TRUE, TRUE)), "supported"),
        (some(supported_with(0.04), some(FALSE, FALSE)), "supported"),
    ],
)
def test_parts_share_the_error_with_those_that_may_err(weighed, found):
    assert verdict(weighed) == found


@pytest.mark.parametrize(
    ("test", "found"),
    [
        (f"params(convnet/none) in [{COUNT}, {COUNT + 1}]", "supported"),
        (f"params(convnet/none) in [{COUNT - 1}, {COUNT}]", "supported"),
        (f"params(convnet/none) in [{COUNT + 1}, {COUNT + 2}]", "refuted"),
        (f"params(convnet/none) > {COUNT}", "refuted"),
        (f"params(convnet/none) >= {COUNT}", "supported"),
        (f"params(convnet/none) < {COUNT}", "refuted"),
        (f"params(convnet/none) = {COUNT + 2} within 2", "supported"),
        (f"params(convnet/none) = {COUNT + 2} within 1", "refuted"),
        ("params(convnet/none) > params(resnet/none)", "supported"),
        ("params(convnet/none) >= params(convnet/none)", "supported"),
        ("params(convnet/none) < params(convnet/none)", "refuted"),
    ],
)
def test_an_exact_number_on_a_border_is_inside_where_the_border_belongs_to_the_claim(test, found):
    claim = own(test)
    assert check_claims.judge(claim, make_tables(claim, {}), DATASET)["verdict"] == found


def test_ratios_are_compared_with_numbers_alone_and_that_is_said():
    """Also where the number is on the right already: an equivalence is of a difference."""
    ratio = "accuracy(resnet/{}, 1) / accuracy(vgg11/none, 1)"
    one = ratio.format("batch")
    for other in (ratio.format("none"), "accuracy(resnet/none, 1)"):
        for test in (f"{one} > {other}", f"{other} > {one}", f"1 < {one}", f"{one} = 1 within 0.5"):
            claim = own(test)
            row = check_claims.judge(claim, make_tables(claim, {}), DATASET)
            assert row["verdict"] == "undecided"
            assert "with a number on the right, or of `in [low, high]`" in row["evidence"]
    claim = own(f"{one} in [0.5, 1.5]")
    assert check_claims.judge(claim, make_tables(claim, {}), DATASET)["verdict"] == "supported"


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ("{a} > 10 and {a} > 99", False),
        ("{a} > 10 or {a} > 99", True),
        ("{a} > 10 and {a} < 99", True),
        ("{a} < 10 or {a} > 99", False),
        ("{a} / {a} > 0.5", True),
        ("{a} / {a} > 1.5", False),
        ("epochs_to(accuracy(resnet/none), 200) < 1000", False),  # never reached
    ],
)
def test_estimates_alone_hold_or_do_not_whatever_their_intervals(test, holds):
    claim = own(test.format(a="accuracy(resnet/none, last)"))
    tables = make_tables(claim, {}, seeds=1)
    assert holds_for_estimates(claim.readings[""], tables) == holds


def test_evidence_does_not_round_an_end_onto_the_border_of_the_claim():
    """Else it would say [91.5, ...] of what is claimed to be at least 91.5, and is open."""
    found = mean_interval(X)
    value = Value(seeds={"a": pd.Series(X - found.low + 91.49996)})
    part = above(91.5, value)
    assert verdict(part) == "undecided" and "[91.49996, " in value_words(part, 0.95)
    assert "[91.5, " in value_words(above(91.6, value), 0.95)
    count = above(1.25, Value(1.250001))
    assert verdict(count) == "supported" and value_words(count, 0.95) == "1.250001 % (exact)"
    assert value_words(above(1.25, Value(1.25)), 0.95) == "1.25 % (exact)"


def test_the_border_of_a_claim_is_not_rounded():
    """Else [91.502, ...] would be said to be open where above 91.5 is claimed, which is 91.504."""
    assert claimed_words(above(91.504)) == "above 91.504"
    assert claimed_words(above(28_144_010)) == "above 28,144,010"
    assert claimed_words(above(0.1 + 0.2)) == "above 0.3"
