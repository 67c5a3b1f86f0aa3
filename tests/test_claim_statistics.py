"""The functions of claims' tests against numbers computed by hand, and what they cannot answer."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import check_claims
from claim_tables import DATASET, make_tables, own
from normres.claim_statistics import Tables, evaluate
from normres.claim_values import NotHereError, UnknownError
from normres.expression_parser import parse_number

NAN = math.nan
DEPTHS = [3, 5, 10]
# Accuracies in percent and losses of two seeds, at epochs 0 to 4.
ACCURACY = {0: [10, 40, 30, 60, 90], 1: [20, 30, 60, 50, 60]}
LOSS = {0: [NAN, 2.0, 1.0, 1.5, 0.5], 1: [NAN, 1.5, 2.0, 1.0, 0.2]}
START = {0: 4.0, 1: 2.5}  # the loss on training images before training
BELOW = {0: [NAN, 2.5, 0.5, 1.0, 0.1], 1: [NAN, 1.0, 1.5, 0.5, 0.1]}


def curve(model, accuracies, losses, depth=None, start=None):
    """Rows of curves.csv; `start` by seed is the loss in evaluation mode at epoch 0."""
    return [
        {"model": model, "norm": "none", "depth": depth, "seed": seed, "status": "ok"}
        | {"epoch": epoch, "test_accuracy": accuracies[seed][epoch] / 100}
        | {"train_loss": losses[seed][epoch], "test_loss": losses[seed][epoch]}
        | {"train_eval_loss": start[seed] if start and epoch == 0 else NAN}
        for seed in accuracies
        for epoch in range(5)
    ]


@pytest.fixture
def tables():
    """ConvNet, VGG11 (whose losses lie below from some epoch on), and ResNets of three depths."""
    rows = curve("convnet", ACCURACY, LOSS, start=START) + curve("vgg11", ACCURACY, BELOW)
    for depth, level in zip(DEPTHS, (80.0, 70.0, 75.0), strict=True):
        flat = {seed: [10.0] + 4 * [level + seed] for seed in (0, 1)}
        rows += curve("resnet", flat, LOSS, depth=str(depth))
    depths = {"convnet": [None], "vgg11": [None], "resnet": DEPTHS}
    runs = [
        {"model": model, "norm": "none", "seed": seed, "axes": {"depth": depth} if depth else {}}
        for model in depths
        for depth in depths[model]
        for seed in (0, 1)
    ]
    study = {"epochs": 4, "axes": {"depth": DEPTHS}, "options": {}, "runs": runs}
    timing = pd.DataFrame(
        {"model": "convnet", "norm": "none", "repeat": [1, 2, 3], "latency_1_seconds": [1, 2, NAN]}
    )
    costs = [
        ("convnet", None, 5.0),
        ("vgg11", None, NAN),
        ("resnet", "3", 7.0),
        ("resnet", "5", 9.0),
    ]
    complexity = pd.DataFrame(costs, columns=["model", "depth", "params"]).assign(norm="none")
    return Tables(study, pd.DataFrame(rows), timing, complexity)


def numbers(text, tables):
    """A value's numbers by seed, of the one configuration that it names."""
    (series,) = evaluate(parse_number(text, {}), tables).seeds.values()
    return dict(series)


def slope(y):
    x = range(1, len(y) + 1)
    return np.polyfit(x, y, 1)[0]


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("accuracy(convnet/none, 2)", 30, 60),
        ("accuracy(convnet/none, last)", 90, 60),
        ("accuracy(convnet/none, 1..3)", 130 / 3, 140 / 3),
        ("slope(accuracy(convnet/none, 1..4))", slope([40, 30, 60, 90]), slope([30, 60, 50, 60])),
        ("slope(accuracy(convnet/none, 3..4))", 30, 10),
        ("steps_sd(accuracy(convnet/none, 1..4))", np.std([-10, 30, 30], ddof=1), 20.0),
        ("largest_rise(train_loss(convnet/none))", 0.5, 1 / 3),
        ("largest_rise(accuracy(convnet/none))", 3.0, 1.0),
        ("steps_quantile(accuracy(convnet/none), 0)", -0.25, -1 / 6),
        ("steps_quantile(accuracy(convnet/none), 1)", 3.0, 1.0),
        ("steps_quantile(accuracy(convnet/none), 0.5)", 0.75, 0.35),
        # 50 % and 40 % are half of the gains, 90 % and 60 % all of them.
        ("epochs_to_share(accuracy(convnet/none), 0.5)", 2 + 2 / 3, 1 + 1 / 3),
        ("epochs_to_share(accuracy(convnet/none), 1)", 4, 2),
        ("epochs_to_share(accuracy(convnet/none), 0)", 0, 0),
        ("epochs_to(accuracy(convnet/none), 45)", 2.5, 1.5),
        ("epochs_to(accuracy(convnet/none), mean(accuracy(vgg11/none, 2)))", 2.5, 1.5),
        (  # a ratio's mean is geometric: 60 * sqrt(30 / 60 * 60 / 50)
            "epochs_to(accuracy(convnet/none), "
            "60 * mean(accuracy(convnet/none, 2) / accuracy(vgg11/none, 3)))",
            2 + (60 * 0.6**0.5 - 30) / 30,
            1 + (60 * 0.6**0.5 - 30) / 30,
        ),
        # From the losses before training, 4.0 and 2.5; within a range that leaves them out.
        ("epochs_to(train_loss(convnet/none), 2)", 1, 0.5),
        ("epochs_to(train_loss(convnet/none), 3)", 0.5, 0),
        ("epochs_to(train_loss(convnet/none, 1..4), 1.9)", 1.1, 1),
        ("epochs_to(train_loss(vgg11/none), 1)", 1.75, 1),
        # The gaps of the losses: 0: -0.5, 0.5, 0.5, 0.4; 1: 0.5, 0.5, 0.5, 0.1.
        ("last_crossing(train_loss(convnet/none), train_loss(vgg11/none))", 1.5, 1),
        ("last_crossing(accuracy(convnet/none), train_loss(vgg11/none))", 1, 1),
    ],
)
def test_functions_give_what_a_hand_computes(tables, text, first, second):
    assert numbers(text, tables) == pytest.approx({0: first, 1: second})


def test_the_slope_on_an_axis_is_that_of_the_means(tables):
    value = evaluate(parse_number("trend(accuracy(resnet/none/depth=*, last))", {}), tables)
    assert value.estimate() == pytest.approx(np.polyfit(DEPTHS, [80.5, 70.5, 75.5], 1)[0])
    assert value.runs == [2, 2, 2]


def test_times_are_those_that_were_measured(tables):
    value = evaluate(parse_number("latency_1(convnet/none)", {}), tables)
    ((weight, repeats),) = value.repeats.values()
    assert weight == 1.0 and list(repeats) == [1000, 2000]


def test_counts_are_of_one_network(tables):
    assert evaluate(parse_number("params(resnet/none/depth=5)", {}), tables).constant == 9


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("macs(convnet/none)", UnknownError, "no MACs of convnet/none"),
        ("params(vgg11/none)", UnknownError, "no parameters of vgg11/none"),
        ("params(resnet/none/depth=4)", NotHereError, "the study has no resnet/none/depth=4"),
        ("params(resnet/batch)", NotHereError, "the study has no resnet/batch"),
        ("params(resnet/nosuch)", NotHereError, "no resnet/nosuch .with depth="),
        ("accuracy(resnet/none/batch_size=5, 1)", NotHereError, "no resnet/none/batch_size=5"),
        ("accuracy(convnet/none, 5)", NotHereError, "it needs epoch 5; the study has 4"),
        ("accuracy(convnet/none, 2..5)", NotHereError, "it needs epoch 5; the study has 4"),
        ("accuracy(convnet/none, last-5)", NotHereError, "it needs epoch -1"),
        ("test_loss(convnet/none, 1..2)", UnknownError, "test loss of convnet/none was not meas"),
        ("train_eval_loss(convnet/none, 2)", UnknownError, "was not measured at every epoch"),
        ("slope(accuracy(convnet/none, half..2))", NotHereError, "slope needs two epochs or more"),
        ("slope(accuracy(convnet/batch, 1..2))", NotHereError, "the study has no convnet/batch"),
        ("steps_quantile(accuracy(convnet/none), 1.5)", UnknownError, "a quantile of 1.5, which"),
        ("epochs_to_share(accuracy(resnet/none/depth=3, 1..4), 1)", UnknownError, "not every run"),
        (
            "trend(epochs_to_share(accuracy(resnet/none/depth=*, 1..4), 1))",
            UnknownError,
            "not every run of resnet/none/depth=3 gains",
        ),
        ("epochs_to(accuracy(convnet/none), 91)", UnknownError, "reached by 2 of 2 runs"),
        (
            "epochs_to(accuracy(convnet/none), 70)",
            UnknownError,
            "reached by 1 of 2 runs of convnet",
        ),
        (
            "epochs_to(accuracy(convnet/none), accuracy(vgg11/none, 1))",
            UnknownError,
            "take the mean",
        ),
        (
            "epochs_to(accuracy(convnet/none, 1..2), 35)",
            UnknownError,
            "some runs rise, others fall",
        ),
        (
            "last_crossing(train_loss(vgg11/none), train_loss(convnet/none))",
            UnknownError,
            "convnet/none is not below at the end in every run",
        ),
        (
            "last_crossing(train_loss(convnet/batch), train_loss(convnet/none))",
            NotHereError,
            "the study has no convnet/batch",
        ),
        (
            "last_crossing(train_loss(convnet/none), train_loss(convnet/batch))",
            NotHereError,
            "the study has no convnet/batch",
        ),
        (
            "trend(accuracy(resnet/none/width=*, last))",
            NotHereError,
            "the study does not vary width",
        ),
    ],
)
def test_what_cannot_be_answered_is_said(tables, text, error, words):
    one = (tables.curves["epoch"] == 2) & (tables.curves["seed"] == 1)
    tables.curves.loc[one, "test_loss"] = NAN
    with pytest.raises(error, match=words):
        evaluate(parse_number(text, {}), tables)


@pytest.mark.parametrize(
    ("depths", "error", "words"),
    [([3], NotHereError, "a single depth"), (["few", "many"], UnknownError, "are no numbers")],
)
def test_a_slope_needs_two_numbers_on_the_axis(tables, depths, error, words):
    tables.study["axes"]["depth"] = depths
    with pytest.raises(error, match=words):
        evaluate(parse_number("trend(accuracy(resnet/none/depth=*, last))", {}), tables)


def test_a_crossing_is_of_seeds_that_both_have(tables):
    text = "last_crossing(train_loss(convnet/none), train_loss(vgg11/none))"
    vgg = tables.curves["model"] == "vgg11"
    tables.curves.loc[vgg & (tables.curves["seed"] == 1), "status"] = "diverged"
    assert numbers(text, tables) == pytest.approx({0: 1.5})
    tables.curves.loc[~vgg & (tables.curves["seed"] == 0), "status"] = "diverged"
    with pytest.raises(UnknownError, match="no seed has a complete run on each side"):
        evaluate(parse_number(text, {}), tables)


def test_networks_of_several_sizes_have_no_count(tables):
    tables.complexity["depth"] = None
    with pytest.raises(UnknownError, match="depth=3 has networks of different parameters"):
        evaluate(parse_number("params(resnet/none/depth=3)", {}), tables)


def test_evidence_says_that_the_spread_is_one_sides():
    claim = own("accuracy(resnet/batch, last) - accuracy(resnet/none, last) > 1")
    tables = make_tables(claim, {"resnet/batch": {"accuracy": lambda _: 99.0}})
    curves = tables.curves
    curves.loc[curves["norm"] == "none", "test_accuracy"] = 0.1
    row = check_claims.judge(claim, tables, DATASET)
    words = "(n = 5, all 5 runs of one side are equal; the spread is the other's), claimed above 1"
    assert row["verdict"] == "supported" and words in row["evidence"]
    fewer = curves[(curves["norm"] == "none") | (curves["seed"] < 3)]
    row = check_claims.judge(claim, replace(tables, curves=fewer), DATASET)
    assert row["verdict"] == "undecided" and "all 5 runs of one side are equal" in row["evidence"]


def test_what_diverged_runs_leave_decides_nothing_and_lost_runs_are_counted():
    claim = own("accuracy(resnet/batch, last) - accuracy(resnet/none, last) > 1")

    def found(status, scenario, claim=claim):
        tables = make_tables(claim, scenario)
        curves = tables.curves
        lost = (curves["norm"] == "batch") & curves["seed"].isin([1, 3])
        curves = curves.assign(status=curves["status"].mask(lost, status))
        kept = curves if status else curves[~lost]
        row = check_claims.judge(claim, replace(tables, curves=kept), DATASET)
        return row["verdict"], row["evidence"]

    above, below = (
        {"resnet/batch": {"accuracy": lambda _: 93.0}},
        {"resnet/batch": {"accuracy": lambda _: 70.0}},
    )
    for scenario, decided in ((above, "supported"), (below, "refuted")):
        verdict, evidence = found("diverged", scenario)
        assert verdict == "undecided"
        few = "n = 3 to 5, with so few runs too short where spreads differ"
        assert f"({few}; 2 diverged), claimed above 1: open, since runs diverged" in evidence
        for status in ("failed", None):  # one that failed at once is in no table
            verdict, evidence = found(status, scenario)
            assert verdict == decided and f"({few}; 2 failed), claimed" in evidence
    target = "0.5 * mean(accuracy(resnet/batch, last))"
    reached = own(f"epochs_to(accuracy(resnet/none), {target}) < 40")
    verdict, evidence = found("diverged", above, reached)
    assert verdict == "undecided" and "(n = 5; 2 diverged)" in evidence
    assert found("failed", above, reached)[0] == "supported"
    other = own("accuracy(resnet/none, last) > 1", also={"batch norm": "accuracy(resnet/batch, 1)"})
    verdict, evidence = found("diverged", above, other)
    assert verdict == "supported" and evidence.endswith("(n = 3; 2 diverged)")
