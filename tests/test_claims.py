"""Every claim has every verdict that data can give it; what is only a transfer never counts."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import check_claims
from claim_tables import CLAIMS, DATASET, fall, make_tables, own, rise
from normres.claim_tests import Group, Part
from normres.claim_values import Value
from normres.errors import InputError
from normres.inference import equivalence, holm, mean_interval

NONE, BATCH, GROUP = "resnet/none", "resnet/batch", "resnet/group"
VGG, CONV, PLAIN = "vgg11/none", "convnet/none", "plainnet/none"


def at(**values):
    """A configuration of constant accuracy, or with other settings."""
    level = values.pop("level", None)
    constant = {"accuracy": lambda epoch: 10.0 if epoch == 0 else level} if level else {}
    return constant | values


def line(start, slope):
    return {"accuracy": lambda epoch: start + slope * epoch}


def by_batch_size(levels):
    return lambda axes: at(level=levels.get(axes["batch_size"], 90))


def by_depth(gradient, loss_of_accuracy):
    """Gradients and accuracies that fall with depth, by powers of ten and points per block."""
    return lambda axes: at(
        level=90 - loss_of_accuracy * axes["depth"], gradient=10.0 ** (-gradient * axes["depth"])
    )


SUDDEN = {"accuracy": lambda epoch: 10 + 80 / (1 + np.exp((2.5 - epoch) / 0.3))}
BUMP = {"loss": lambda epoch: fall(10)(epoch) * (1.5 if epoch == 20 else 1)}
BIG = {"params": 1e8, "macs": 1e9, "bytes": 1e12}
# Claim -> a scenario that supports it, and one that refutes it; {} is what settings() says, with
# the real costs of the networks.
SCENARIOS = {
    "norm-none-start": (
        {NONE: SUDDEN, BATCH: at(accuracy=rise(93, 4)), GROUP: at(accuracy=rise(93, 4))},
        {NONE: at(accuracy=rise(90, 1)), BATCH: at(accuracy=rise(93, 4))},
    ),
    "norm-none-plateau": ({}, {NONE: at(accuracy=rise(95))}),
    "norm-batch-final": ({BATCH: at(level=92.5)}, {BATCH: at(level=96)}),
    "norm-group-final": (
        {GROUP: at(level=93), BATCH: at(level=93.2)},
        {GROUP: at(level=93), BATCH: at(level=96)},
    ),
    "norm-helps": (
        {BATCH: at(level=93), GROUP: at(level=93)},
        {BATCH: at(level=93), GROUP: at(level=85)},
    ),
    "norm-batch-slower-rise": (
        {BATCH: at(accuracy=rise(93, 5))},
        {BATCH: at(accuracy=rise(93, 1))},
    ),
    "norm-batch-keeps-improving": (
        {BATCH: line(80, 0.3) | {"wiggle": 0.05}},
        {BATCH: line(90, -0.3) | {"wiggle": 0.05}},
    ),
    "norm-speeds-training": ({BATCH: at(loss=fall(2))}, {BATCH: at(loss=fall(12))}),
    "norm-group-starts-lower": (
        {GROUP: at(level=50), BATCH: at(level=52)},
        {GROUP: at(level=55), BATCH: at(level=52)},
    ),
    "norm-group-catches-up": ({}, {GROUP: at(accuracy=rise(85))}),
    "norm-group-fluctuates": (
        {GROUP: at(wiggle=1.0), BATCH: at(wiggle=0.2)},
        {GROUP: at(wiggle=0.2), BATCH: at(wiggle=1.0)},
    ),
    "norm-group-trend": (
        {GROUP: line(80, 0.3) | {"wiggle": 0.05}},
        {GROUP: line(90, -0.3) | {"wiggle": 0.05}},
    ),
    "norm-group-batch-size": (
        {BATCH: by_batch_size({2: 80}), GROUP: by_batch_size({})},
        {BATCH: by_batch_size({2: 80}), GROUP: by_batch_size({4: 70})},
    ),
    "arch-accuracy-order": (
        {NONE: at(level=80), VGG: at(level=75), CONV: at(level=65)},
        {NONE: at(level=80), VGG: at(level=85), CONV: at(level=65)},
    ),
    "arch-losses-fall": (
        {name: {"loss": lambda epoch: 2.3 * 0.95**epoch, "wiggle": 0} for name in (VGG, CONV)},
        {CONV: at(loss=lambda epoch: 1 + 0.1 * epoch)},
    ),
    "arch-resnet-starts-highest": (
        {NONE: at(initial_loss=4.0, loss=fall(10, start=4.0))},
        {NONE: at(initial_loss=1.0, loss=fall(10, start=1.0))},
    ),
    "arch-convnet-starts-highest": (
        {CONV: at(initial_loss=4.0, loss=fall(10, start=4.0))},
        {CONV: at(initial_loss=1.0, loss=fall(10, start=1.0))},
    ),
    "arch-resnet-continuous": ({}, {NONE: BUMP}),
    "arch-resnet-ends-lowest": ({NONE: at(loss=fall(5))}, {NONE: at(loss=fall(20))}),
    "arch-vgg-crossed": (
        {NONE: at(loss=fall(15)), VGG: at(loss=fall(30, start=1.5))},
        {NONE: at(loss=fall(15)), VGG: at(loss=fall(30, start=3.0))},
    ),
    "arch-vgg-slower-decrease": ({VGG: at(loss=fall(20))}, {VGG: at(loss=fall(5))}),
    "arch-convnet-slowest-decrease": ({CONV: at(loss=fall(40))}, {CONV: at(loss=fall(5))}),
    "time-resnet-sooner": ({NONE: at(loss=fall(5))}, {NONE: at(loss=fall(14))}),
    "time-vgg-slower": ({VGG: at(seconds=7)}, {VGG: at(seconds=3)}),
    "time-convnet-slowest": ({CONV: at(seconds=7)}, {CONV: at(seconds=3)}),
    "time-vgg-latency": ({VGG: at(latency=0.02)}, {VGG: at(latency=0.005)}),
    "cost-convnet-most-params": ({CONV: BIG}, {}),
    "cost-convnet-most-macs": ({CONV: BIG}, {}),
    "cost-resnet-params-below-convnet": ({}, {CONV: at(params=1e6)}),
    "cost-vgg-params-like-resnet": ({VGG: at(params=1.1e6)}, {}),
    "cost-vgg-params-below-convnet": ({CONV: BIG}, {}),
    "cost-vgg-macs-above-resnet": ({VGG: BIG}, {}),
    "cost-resnet-macs-below-vgg": ({VGG: BIG}, {}),
    "cost-resnet-macs-below-convnet": ({CONV: BIG}, {}),
    "cost-convnet-memory": ({CONV: BIG}, {}),
    "cost-resnet-balance": (
        {NONE: at(level=80), VGG: at(level=75), CONV: at(level=65)},
        {NONE: at(level=80), VGG: at(level=75), CONV: at(level=85)},
    ),
    "bias-redundant": ({}, {BATCH: at(bias=0.1)}),
    "skip-gradient": (
        {NONE: by_depth(0.1, 0), PLAIN: by_depth(1, 2)},
        {NONE: by_depth(1, 2), PLAIN: by_depth(0.1, 0)},
    ),
}
EXACT = [name for name in CLAIMS if name.startswith("cost") and name != "cost-resnet-balance"]
TIMED = ["time-vgg-slower", "time-convnet-slowest", "time-vgg-latency"]


def judge(name, scenario, **changes):
    return check_claims.judge(CLAIMS[name], make_tables(CLAIMS[name], scenario, **changes), DATASET)


def test_there_are_38_claims_and_a_scenario_for_each():
    assert len(CLAIMS) == 38
    assert set(SCENARIOS) == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_data_support_a_claim(name):
    row = judge(name, SCENARIOS[name][0])
    assert row["verdict"] == "supported", row["evidence"]
    assert row["transfer_verdict"] == ""


@pytest.mark.parametrize("name", CLAIMS)
def test_data_refute_a_claim(name):
    row = judge(name, SCENARIOS[name][1])
    assert row["verdict"] == "refuted", row["evidence"]
    assert "does not hold" in row["evidence"]


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in EXACT])
def test_too_few_data_leave_a_claim_undecided_and_say_why(name):
    few = {"repeats": 3} if name in TIMED else {"seeds": 1}
    row = judge(name, SCENARIOS[name][0], **few)
    assert row["verdict"] == "undecided", row["evidence"]
    assert "no interval" in row["evidence"] or "not known" in row["evidence"]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_transfer_never_counts(name):
    """Other data, or for counts other images: the same test, beside a verdict that is none."""
    claim = CLAIMS[name]
    tables = make_tables(claim, SCENARIOS[name][0], dataset={"id": "digits", "name": "digits"})
    tables.complexity["input"] = "1x28x28"
    row = check_claims.judge(claim, tables, DATASET)
    assert row["verdict"] == "not measured"
    assert row["transfer_verdict"] == "supported"
    assert " instead of " in row["transfer_from"]
    assert row["run"] == f"snakemake --cores all --config study={claim.design['study']}"


@pytest.mark.parametrize(
    "name", ["norm-helps", "arch-accuracy-order", "arch-vgg-slower-decrease", "bias-redundant"]
)
def test_wide_intervals_straddle(name):
    row = judge(name, {}, spread=60.0, seeds=3)
    assert row["verdict"] == "undecided", row["evidence"]


def test_wide_times_straddle():
    row = judge("time-vgg-slower", {}, spread=30.0)
    assert row["verdict"] == "undecided" and "10 repeats" in row["evidence"]
    row = judge("time-vgg-slower", {})  # neither 5 % more nor 5 % less
    assert row["verdict"] == "undecided"


# ---- The design ----


def test_every_option_and_the_epochs_belong_to_the_design():
    scenario = SCENARIOS["norm-helps"][0]
    row = judge("norm-helps", scenario, options={"learning_rate": 1e-3})
    assert row["verdict"] == "not measured"
    assert row["transfer_from"] == "learning rate 0.001 instead of 0.0001"
    row = judge("norm-helps", scenario, epochs=20)
    assert row["transfer_from"] == "20 epochs instead of 30"
    row = judge("norm-helps", scenario, options={"cpu_threads": 4, "train_eval_images": 7})
    assert row["verdict"] == "supported"


def test_a_test_of_later_epochs_says_that_a_shorter_study_cannot_compute_it():
    row = judge("norm-batch-final", {}, epochs=8)
    assert row["verdict"] == "not measured" and row["transfer_verdict"] == ""
    assert row["evidence"] == "it needs epoch 30; the study has 8"


def test_a_study_without_a_configuration_names_it():
    claim = CLAIMS["norm-helps"]
    tables = make_tables(claim, {})
    kept = [run for run in tables.study["runs"] if run["norm"] != "group"]
    row = check_claims.judge(claim, replace(tables, study=tables.study | {"runs": kept}), DATASET)
    assert row["verdict"] == "not measured"
    assert row["evidence"] == "the study has no resnet/group"
    assert row["run"] == "snakemake --cores all --config study=normalization"


def test_what_to_run_reads_the_files_that_this_study_came_from():
    """A study of a --configfile is known to nobody without that file."""
    claim = CLAIMS["norm-helps"]
    tables = make_tables(claim, {}, epochs=8)
    own = "snakemake --cores all --configfile mine.yaml"
    (row,) = check_claims.check([claim], tables, DATASET, own)
    assert row["run"] == f"{own} --config study=normalization"


@pytest.mark.parametrize(
    "change, counts",
    [
        ({}, True),
        ({"channel_std": [0.24523, 0.24278, 0.26063]}, False),  # the same images as JPEG
        ({"n_train": 49_999}, False),
        ({"shape": [28, 28, 3]}, False),
    ],
)
def test_an_image_folder_is_what_its_images_are(change, counts):
    claim, folder = CLAIMS["arch-accuracy-order"], {"id": "c", "name": "cifar10", "folder": "/c"}
    tables = make_tables(claim, SCENARIOS[claim.id][0], dataset=folder)
    row = check_claims.judge(claim, tables, DATASET | change)
    assert (row["verdict"] == "supported") == counts
    assert (row["transfer_verdict"] == "supported") != counts


def test_a_diverged_run_is_in_no_mean_and_may_leave_none():
    claim = CLAIMS["norm-helps"]
    tables = make_tables(claim, SCENARIOS[claim.id][0])
    tables.curves.loc[tables.curves["norm"] == "batch", "status"] = "diverged"
    row = check_claims.judge(claim, tables, DATASET)
    assert row["verdict"] == "undecided"
    assert "not known (no complete run of resnet/batch; 5 diverged)" in row["evidence"]


# ---- What a verdict rests on ----


def test_a_loss_that_is_never_reached_is_said():
    row = judge("norm-speeds-training", {BATCH: at(loss=fall(10, end=0.5))})
    assert row["verdict"] == "undecided"
    assert "training loss 0.3 is not reached by 5 of 5 runs of resnet/batch" in row["evidence"]


def test_readings_that_disagree_leave_a_claim_undecided():
    row = judge("arch-resnet-starts-highest", {NONE: at(initial_loss=4.0, loss=fall(10, 1.0))})
    assert row["verdict"] == "undecided"
    assert row["evidence"].startswith("it depends on what is meant: at initialisation: supported")
    assert "over the first epoch: refuted" in row["evidence"]


def test_the_skip_may_help_under_one_initialisation_only():
    def plain(axes):
        he = axes["initialization"] == "he"
        return by_depth(0.1 if he else 2, -1 if he else 2)(axes)

    row = judge("skip-gradient", {NONE: by_depth(0.2, 0), PLAIN: plain})
    assert row["verdict"] == "undecided"
    assert "default initialisation: supported" in row["evidence"]
    assert "He initialisation: refuted" in row["evidence"]


def test_times_are_judged_by_device_and_precision():
    claim = CLAIMS["time-vgg-slower"]
    slower, faster = (make_tables(claim, {VGG: at(seconds=s)}).timing for s in (7, 3))
    tables = make_tables(claim, {})
    both = pd.concat([slower, faster.assign(device_name="a GPU", resolved_precision="bfloat16")])
    row = check_claims.judge(claim, replace(tables, timing=both), DATASET)
    assert row["verdict"] == "undecided"
    assert "on a processor, float32: " in row["evidence"]
    assert "on a GPU, bfloat16: " in row["evidence"]


def test_times_of_another_value_of_an_axis_are_no_other_place():
    """A study of both precisions: the claim asks for the default one."""
    claim = CLAIMS["time-vgg-slower"]
    tables = make_tables(claim, {VGG: at(seconds=7)}, axes={"precision": ["float32", "bfloat16"]})
    slow = tables.timing.assign(precision="float32")
    other = slow.assign(precision="bfloat16", resolved_precision="bfloat16", epoch_seconds=1.0)
    row = check_claims.judge(claim, replace(tables, timing=pd.concat([slow, other])), DATASET)
    assert row["verdict"] == "supported", row["evidence"]
    assert "bfloat16" not in row["evidence"]


def test_a_small_gain_is_flagged_and_further_quantities_are_reported():
    small = {BATCH: at(level=90.3), GROUP: at(level=90.4), NONE: at(level=90)}
    row = judge("norm-helps", small, spread=0.1)
    assert row["verdict"] == "supported" and row["evidence"].endswith(
        "a gain is under half a point"
    )
    assert "under half" not in judge("norm-helps", SCENARIOS["norm-helps"][0])["evidence"]
    row = judge("norm-group-starts-lower", SCENARIOS["norm-group-starts-lower"][0])
    assert re.search(r"; no norm: 41\.\d+ % \[", row["evidence"])  # an accuracy, no difference


def test_exact_counts_say_so_and_carry_no_interval():
    row = judge("cost-vgg-params-like-resnet", {})
    assert row["evidence"] == (
        "parameters of vgg11/none over resnet/none: 26.02 (exact), claimed 0.8 to 1.25: "
        "does not hold"
    )


def test_evidence_has_number_interval_and_n():
    row = judge("norm-batch-final", SCENARIOS["norm-batch-final"][0])
    numbers = make_tables(CLAIMS["norm-batch-final"], SCENARIOS["norm-batch-final"][0]).curves
    last = 100 * numbers.loc[numbers["epoch"] == 30, "test_accuracy"]
    expected = mean_interval(last)
    assert row["evidence"] == (
        f"test accuracy at epoch 30 of resnet/batch: {expected.estimate:.4g} % "
        f"[{expected.low:.4g}, {expected.high:.4g}] (n = 5), claimed 91.5 to 93.5: holds"
    )


@pytest.mark.parametrize(
    "content, words",
    [
        ("[{}]", "'id' is missing"),
        ('[{"id": "a", "statement": "A.", "test": "x"}]', "'design' is missing"),
        ("{}", "not a list"),
        ("[", "not valid JSON"),
    ],
)
def test_a_list_of_claims_that_is_none_is_one_line(tmp_path, content, words):
    path = tmp_path / "claims.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        check_claims.main(["--list", "--claims", str(path)])


def test_parts_are_refuted_by_holm():
    """Three parts, one of them refuted at 95 % alone and not at 1 - 0.05 / 3."""
    claim = own(
        "accuracy(resnet/none, 1) < bound and accuracy(resnet/none, 1) < 200 "
        "and accuracy(resnet/none, 1) < 300",
        margins={"bound": 0.0},
    )
    tables = make_tables(claim, {NONE: at(level=50)})
    tables.study["runs"] = tables.study["runs"]
    x = 100 * tables.curves.loc[tables.curves["epoch"] == 1, "test_accuracy"].to_numpy()
    ends = [mean_interval(x, 1 - 0.05 / k).low for k in (1, 3)]

    def found(bound):
        test = own(claim.text, margins={"bound": bound})
        return check_claims.judge(test, tables, DATASET)["verdict"]

    between = sum(ends) / 2
    assert found(ends[0] + 1e-6) != "refuted"
    assert found(between) == "undecided"
    assert found(ends[1] - 1e-6) == "refuted"
    p = 2 * stats.t.sf((x.mean() - between) / stats.sem(x), len(x) - 1)
    assert 0.05 / 3 < p < 0.05 and holm([p, 1.0, 1.0])[0] > 0.05


def test_evidence_of_alternatives_has_the_level_of_their_verdict():
    """Two parts of an "or", one of which holds at 95 % and not at 97.5 %."""
    tables = make_tables(own("accuracy(resnet/none, 1) > 0"), {NONE: at(level=50)})
    x = 100 * tables.curves.loc[tables.curves["epoch"] == 1, "test_accuracy"].to_numpy()
    usual, shared = mean_interval(x), mean_interval(x, 0.975)
    bound = (usual.low + shared.low) / 2
    claim = own(
        "accuracy(resnet/none, 1) > bound or accuracy(resnet/none, 1) > 99",
        margins={"bound": bound},
    )
    row = check_claims.judge(claim, tables, DATASET)
    assert row["verdict"] == "undecided" and "holds" not in row["evidence"].replace("not hold", "")
    assert f"[{shared.low:.4g}, {shared.high:.4g}] (n = 5), 97.5 % interval" in row["evidence"]


def test_a_configuration_is_one_whatever_it_is_called():
    """With the value of an axis that is its default, or without it."""
    claim = own("accuracy(resnet/batch/batch_size=128, 1) - accuracy(resnet/batch, 1) < 1")
    row = check_claims.judge(claim, make_tables(claim, {BATCH: at(level=90)}), DATASET)
    assert "0 points (n = 5, no interval: all 5 runs are equal" in row["evidence"]


def test_false_verdicts_of_several_parts_are_as_rare_as_promised():
    """Three true parts at the edge of what they claim; and one false one beside two true ones."""
    rng = np.random.default_rng(0)
    node = own("accuracy(resnet/none, 1) <= 0").readings[""]

    def part(mean):
        value = Value(seeds={"a": pd.Series(rng.normal(mean, 1, 5))})
        return Part(node, value, "", -math.inf, 0.0, lambda number: number <= 0)

    n = 600
    refuted = sum(Group(True, (part(0), part(0), part(0))).refuted() for _ in range(n))
    supported = sum(Group(True, (part(1e-9), part(-9), part(-9))).supported() for _ in range(n))
    # Each errs on one side only: 2.5 % of all, at most 4.2 % of 600 but once in 500 times.
    assert 0.005 * n < refuted < 0.042 * n
    assert 0.005 * n < supported < 0.042 * n


def test_an_equivalence_is_that_of_two_one_sided_tests():
    claim = own("accuracy(resnet/group, 1) = accuracy(resnet/batch, 1) within 0.5")
    tables = make_tables(claim, {GROUP: at(level=50), BATCH: at(level=50.2)})
    first = tables.curves[tables.curves["epoch"] == 1]
    a, b = (100 * first.loc[first["norm"] == norm, "test_accuracy"] for norm in ("group", "batch"))
    tost = equivalence(a, b, 0.5)
    for margin in (abs(tost.low), abs(tost.high)):
        for factor in (0.999, 1.001):
            test = own(claim.text.replace("0.5", f"{margin * factor:.9f}"))
            row = check_claims.judge(test, tables, DATASET)
            expected = equivalence(a, b, margin * factor).equivalent
            assert (row["verdict"] == "supported") == expected
    assert "90 % interval" in check_claims.judge(claim, tables, DATASET)["evidence"]
