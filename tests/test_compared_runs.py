"""Rows of comparisons.csv from made-up runs: units, pairs, spreads, and parts of a spread."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from compare_configurations import Samples, add_crossed_spread, compare, descriptive_pairs, power
from normres.power import minimal_detectable_difference, runs_needed
from normres.predictions import RunPredictions
from normres.resampling import crossed_spread

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(0.8, 0.01, 5), RNG.normal(0.7, 0.01, 5), RNG.normal(0.6, 0.3, 5)
INTEREST = [0.5, 1.0]


def samples(**configurations):
    """Runs from test accuracies by configuration; None is a run that diverged."""
    rows = [
        {"configuration": name, "seed": seed, "run": f"{name}/seed{seed}", "status": "ok"}
        | {"test_accuracy": accuracy, "train_eval_accuracy": 0.9 + 0.02 * (name == "a")}
        | {"test_loss": 2 - accuracy, "train_loss": 1 - accuracy}
        if accuracy is not None
        else {"configuration": name, "seed": seed, "run": f"{name}/seed{seed}"}
        | {"status": "diverged"}
        for name, accuracies in configurations.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    return Samples(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("metric", "unit", "difference"),
    [
        ("test_accuracy", "points", 100 * (A.mean() - B.mean())),
        ("gap", "points", 2 - 100 * (A.mean() - B.mean())),
        ("train_eval_accuracy", "points", 2.0),
        ("test_loss", "nats", B.mean() - A.mean()),
        ("train_loss", "nats", B.mean() - A.mean()),
    ],
)
def test_accuracies_are_in_points_and_losses_in_nats(metric, unit, difference):
    row = compare(samples(a=A, b=B), "a", "b", metric, paired=False)
    assert row["unit"] == unit and row["difference"] == pytest.approx(difference)
    assert row["mean_of"] - row["mean_against"] == pytest.approx(difference)


def test_lost_runs_are_counted_on_their_side_and_break_their_pairs():
    made = samples(a=[None, *A[1:]], b=[*B[:3], None, None])
    apart = compare(made, "a", "b", "test_accuracy", paired=False)
    assert (apart["n_of"], apart["n_against"]) == (4, 3)
    assert (apart["lost_of"], apart["lost_against"]) == (1, 2)
    pairs = compare(made, "a", "b", "test_accuracy", paired=True)
    assert pairs["n_of"] == pairs["n_against"] == 2  # seeds 1 and 2
    assert pairs["difference"] == pytest.approx(100 * (A[1:3] - B[1:3]).mean())
    assert pairs["mean_of"] == pytest.approx(100 * A[1:3].mean())


def test_configurations_without_a_complete_run_have_no_numbers_and_warn_of_nothing():
    made = samples(a=A, b=[None] * 5, c=[0.5, None])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for of, against in (("a", "b"), ("b", "a"), ("b", "b"), ("a", "c")):
            row = compare(made, of, against, "test_accuracy", paired=False)
            found = power(made, row, INTEREST)
            assert pd.isna(row["low"]) and row["note"]
            assert np.isnan(found["detectable"])
    assert compare(made, "b", "b", "test_accuracy", paired=True)["note"].startswith("no seed")


def test_what_pairs_detect_rests_on_the_spread_of_their_differences():
    made = samples(a=A, b=B, c=C)
    found = power(made, compare(made, "a", "b", "test_accuracy", paired=True), INTEREST)
    sd = 100 * (A - B).std(ddof=1)
    assert found["sd"] == pytest.approx(sd) and found["sd_from"] == "the differences of pairs"
    expected = minimal_detectable_difference(sd, 5, paired=True)
    assert found["detectable"] == pytest.approx(expected)
    assert found["runs_for_1"] == runs_needed(sd, 1.0, paired=True)


def test_unequal_spreads_leave_each_comparison_its_own_and_the_smaller_side_counts():
    made = samples(a=A, b=[*B[:3], None, None], c=C)
    groups = [100 * x for x in (A, B[:3], C)]
    assert stats.levene(*groups).pvalue < 0.05
    found = power(made, compare(made, "a", "b", "test_accuracy", paired=False), INTEREST)
    sd = ((groups[0].var(ddof=1) + groups[1].var(ddof=1)) / 2) ** 0.5
    assert found["sd"] == pytest.approx(sd) and found["sd_from"].startswith("both sides, as spr")
    assert found["detectable"] == pytest.approx(minimal_detectable_difference(sd, 3))
    assert found["runs_for_0.5"] == runs_needed(sd, 0.5)
    loss = power(made, compare(made, "a", "b", "test_loss", paired=False), INTEREST)
    assert "runs_for_0.5" not in loss  # differences of interest are points
    single = samples(a=A, b=[B[0]], c=C)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = power(single, compare(single, "a", "b", "test_accuracy", paired=False), INTEREST)
    assert alone["sd_from"] == "" and alone["runs_for_1"] is None


def test_spreads_that_differ_anywhere_are_pooled_nowhere():
    """Also where the two sides together spread as the others do: one side less, the other more."""
    base = RNG.normal(size=12)
    x = {name: 0.5 + sd * base for name, sd in (("a", 0.001), ("b", 0.05), ("c", 0.036))}
    assert stats.levene(*x.values()).pvalue < 0.05
    made = samples(**x)
    found = power(made, compare(made, "a", "b", "test_accuracy", paired=False), INTEREST)
    own = ((np.var(100 * x["a"], ddof=1) + np.var(100 * x["b"], ddof=1)) / 2) ** 0.5
    assert found["sd"] == pytest.approx(own) and found["sd_from"].startswith("both sides")


def predictions(seeds, share, images=200):
    """What runs got right of the same images; images are as many positions."""
    found = {}
    for seed in seeds:
        right = np.random.default_rng([seed, int(100 * share)]).random(images) < share
        logits = np.stack([right, ~right], axis=1).astype(np.float16)
        labels = np.zeros(images, int)
        found[seed] = RunPredictions("run", "m", "n", {}, seed, np.arange(images), labels, logits)
    return found


def correct(runs, seeds):
    return np.stack([runs[seed].correct for seed in seeds])


@pytest.mark.parametrize("paired", [False, True])
def test_parts_of_a_spread_are_of_all_runs_or_of_the_seeds_that_both_have(paired):
    of, against = predictions(range(7), 0.8), predictions([9, 6, 5, 4, 3, 2, 1], 0.7)
    row = {"paired": paired, "note": ""}
    add_crossed_spread(row, of, against)
    shared = range(1, 7)
    sides = [(of, shared), (against, shared)] if paired else [(of, of), (against, against)]
    expected = crossed_spread(*(correct(runs, seeds) for runs, seeds in sides), paired=paired)
    assert row["seeds_sd"] == pytest.approx(100 * expected.seeds_sd)
    assert row["total_sd"] == pytest.approx(100 * expected.sd)
    assert row["images_sd"] == pytest.approx(100 * expected.images_sd)
    assert row["seeds_share"] == pytest.approx(expected.seeds_share)
    assert row["test_images"] == 200 and row["note"] == ""


def test_parts_of_a_spread_need_the_same_images_and_five_runs_on_each_side():
    row = {"paired": False, "note": "before"}
    add_crossed_spread(row, predictions(range(5), 0.8), predictions(range(5), 0.7, images=100))
    assert row["note"] == "before; seeds and test images: both sides have other test images"
    assert "total_sd" not in row
    row = {"paired": True, "note": ""}
    add_crossed_spread(row, predictions(range(5), 0.8), predictions(range(1, 6), 0.7))
    assert row["note"] == "seeds and test images: fewer than 5 runs have logits"  # as pairs: 4


@pytest.mark.parametrize(("sizes", "pairs"), [(63, 63 * 62 // 2), (64, 32 * 31 + 32)])
def test_up_to_63_configurations_all_pairs_are_described(sizes, pairs):
    """Of 64, those that differ in one thing: the batch size or, at one of them, the norm."""
    places = [("none", n) for n in range(32)] + [("batch", n) for n in range(32)]
    runs = [
        {"model": "resnet", "norm": norm, "axes": {"batch_size": n}, "seed": 0}
        for norm, n in places[:sizes]
    ]
    study = {"runs": runs, "axes": {"batch_size": list(range(32))}}
    found = list(descriptive_pairs(study, set()))
    assert len(found) == pairs
    first = frozenset(found[0])
    assert len(list(descriptive_pairs(study, {first}))) == pairs - 1


def test_in_a_large_study_no_norm_is_compared_with_a_norm_that_brings_an_option():
    """As declared comparisons do it: the two differ in the norm, and the option is the norm's."""
    runs = [
        {"model": model, "norm": norm, "axes": axes, "seed": 0}
        for model in map(str, range(30))
        for norm, axes in (("none", {}), ("group", {"groups": 8}), ("group", {"groups": 32}))
    ]
    study = {"runs": runs, "axes": {"groups": [8, 32]}}
    found = [set(pair) for pair in descriptive_pairs(study, set())]
    assert {"0/none", "0/group/groups=8"} in found and {"0/none", "0/group/groups=32"} in found
    assert {"0/group/groups=8", "0/group/groups=32"} in found
    assert {"0/none", "1/group/groups=8"} not in found
