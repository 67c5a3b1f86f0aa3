"""Declared comparisons: what config.yaml may say, and comparisons.csv against scipy's numbers."""

import json
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

import compare_configurations
import synthetic
from conftest import PROJECT
from normres.comparison_tables import (
    compact_finding,
    finding,
    labels,
    read_comparisons,
)
from normres.comparisons import configurations_of, declared, expand, read_declared
from normres.config import read_config
from normres.errors import InputError
from normres.power import pooled_spread
from normres.resampling import crossed_spread
from normres.tables import read_study, read_table

STUDY = {
    "dataset": "digits",
    "models": ["convnet", "resnet"],
    "norms": ["none", "batch", "group"],
    "seeds": [0, 1],
    "epochs": 1,
}
BATCH_NONE = {"of": {"norm": "batch"}, "against": {"norm": "none"}}
GROUP_BATCH = {"of": {"norm": "group"}, "against": {"norm": "batch"}}


def check(*comparisons, **study):
    """The expanded comparisons of a study of config.yaml, as "of > against"."""
    raw = {**STUDY, **study, "comparisons": list(comparisons)}
    found = read_config({"study": "s", "studies": {"s": raw}}).studies[0]
    runs = [
        {"model": run.model, "norm": run.norm, "axes": run.axes, "seed": run.seed}
        for run in found.runs
    ]
    pairs = expand(
        found.comparisons["comparisons"], configurations_of(runs), found.axes, "comparisons"
    )
    return [
        " > ".join("/".join(map(str, pair[side].values())) for side in ("of", "against"))
        for pair in pairs
    ]


def test_a_key_left_out_on_both_sides_is_compared_within_each_of_its_values():
    assert check(BATCH_NONE) == ["convnet/batch > convnet/none", "resnet/batch > resnet/none"]
    assert check(
        {
            "of": {"model": "resnet", "norm": "batch"},
            "against": {"model": "convnet", "norm": "none"},
        }
    ) == ["resnet/batch > convnet/none"]
    assert check() == []


def test_the_studies_declare_what_they_ask_and_little_else():
    """So few that the seeds of each study could reject all; its demonstration declares no more."""
    studies = yaml.safe_load((PROJECT / "config.yaml").read_text())["studies"]
    asked = {"batch-size": 3, "skip": 6, "learning-rate": 3, "affine-and-bias": 6}
    for name, number in asked.items():
        found = check(*studies[name]["comparisons"], **studies[name])
        assert len(found) == number
        seeds = len(studies[name]["seeds"])
        assert (
            2 * number / math.comb(2 * seeds, seeds) < 0.05
        )  # the least adjusted p (permutations)
        demo = studies[f"{name}-demo"]
        assert 0 < len(check(*demo["comparisons"], **demo)) <= number
    for name in ("variance", "norm-cost"):  # they ask for spreads and times
        assert "comparisons" not in studies[name]


def test_axes_are_keys_and_text_from_a_command_line_is_read_as_numbers():
    found = check(
        {
            "of": {"batch_size": "32", "norm": "none"},
            "against": {"batch_size": 128, "norm": "none"},
        },
        batch_size=[32, 128],
    )
    assert found == ["convnet/none/32 > convnet/none/128", "resnet/none/32 > resnet/none/128"]
    rates = check(
        {"of": {"learning_rate": "1e-4"}, "against": {"learning_rate": 0.001}},
        learning_rate=[1e-4, 1e-3],
        norms=["none"],
    )
    assert rates[0] == "convnet/none/0.0001 > convnet/none/0.001"


def test_an_axis_that_one_side_lacks_does_not_keep_them_apart():
    found = check({"of": {"norm": "group"}, "against": {"norm": "none"}}, groups=[8, 32])
    assert "resnet/group/8 > resnet/none" in found and "resnet/group/32 > resnet/none" in found


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        ({"of": {"nrom": "batch"}, "against": {"norm": "none"}}, "0.of: unknown name 'nrom'"),
        (
            {"of": {"norm": "layer"}, "against": {"norm": "none"}},
            "0.of.norm: 'layer' is not in the study; allowed: none, batch, group",
        ),
        (
            {"of": {"depth": 3}, "against": {"depth": 5}},
            "0.of: unknown name 'depth'; Allowed: model, norm",
        ),
        (
            {"of": {"model": "resnet", "norm": "batch"}, "against": {"norm": "none"}},
            "0: only one side names model",
        ),
        ({"of": {"norm": "batch"}, "against": {"norm": "batch"}}, "0: both sides are the same"),
        (BATCH_NONE | {"metric": "accuracy"}, "0.metric: unknown value 'accuracy'"),
        (BATCH_NONE | {"pair": True}, "0: unknown key 'pair'"),
        ({"of": {"norm": "batch"}}, "0: the key 'against' is missing"),
        ({"of": {}, "against": {"norm": "none"}}, "0.of: {} is empty"),
    ],
)
def test_a_wrong_comparison_is_one_line(comparison, message):
    with pytest.raises(InputError) as error:
        check(comparison)
    assert str(error.value).startswith(f"config.studies.s.comparisons.{message}")
    assert "\n" not in str(error.value)


def test_comparisons_of_nothing_doubled_ones_and_too_many_are_refused():
    gone = [{"model": model, "norm": "batch", "reason": "no"} for model in STUDY["models"]]
    with pytest.raises(InputError, match=r"0\.of\.norm: 'batch' is not in the study"):
        check(BATCH_NONE, exclude=gone)
    half = [gone[0], {"model": "resnet", "norm": "none", "reason": "no"}]
    with pytest.raises(InputError, match=r"0: fits no two configurations"):
        check(BATCH_NONE, exclude=half)
    turned = {"of": {"norm": "none"}, "against": {"norm": "batch"}}
    with pytest.raises(InputError, match=r"1: compares two configurations that another one does"):
        check(BATCH_NONE, turned)
    assert len(check(BATCH_NONE, turned | {"metric": "test_loss"})) == 4
    with pytest.raises(InputError, match="more than 60 comparisons"):
        check(BATCH_NONE, learning_rate=[i / 1000 for i in range(1, 32)])


def test_comparisons_are_no_part_of_a_studys_definition():
    plain, comparing = (
        read_config({"study": "s", "studies": {"s": {**STUDY, **keys}}}).studies[0]
        for keys in ({}, {"comparisons": [BATCH_NONE], "differences_of_interest": [2]})
    )
    assert plain.definition == comparing.definition and plain.describe() == comparing.describe()
    assert plain.comparisons["differences_of_interest"] == [0.5, 1.0]
    assert comparing.comparisons["differences_of_interest"] == [2.0]


# ---- comparisons.csv ----


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normalization")
    status = {"resnet/none/seed3": "diverged"}
    path = synthetic.write_study(folder, "normalization", epochs=4, status=status)
    synthetic.write_predictions(path)
    synthetic.aggregate(path)
    return path


def accuracies(path, norm, metric="test_accuracy"):
    runs = read_table(path.with_name("runs.csv"), read_study(path))
    return runs.loc[(runs["norm"] == norm) & (runs["status"] == "ok"), metric].to_numpy(float)


def test_declared_comparisons_have_the_numbers_that_scipy_has(study):
    loss = GROUP_BATCH | {"metric": "test_loss"}
    table = read_comparisons(synthetic.compare(study, BATCH_NONE, GROUP_BATCH, loss))
    first, second, third = table[table["kind"] == "declared"].to_dict("records")
    batch, none = 100 * accuracies(study, "batch"), 100 * accuracies(study, "none")
    test = stats.ttest_ind(batch, none, equal_var=False)
    interval = test.confidence_interval()
    assert (first["of"], first["against"]) == ("resnet/batch", "resnet/none")
    assert (first["n_of"], first["n_against"]) == (5, 4)
    assert (first["lost_of"], first["lost_against"]) == (0, 1)
    assert first["difference"] == pytest.approx(batch.mean() - none.mean())
    assert (first["low"], first["high"]) == pytest.approx((interval.low, interval.high))
    assert first["p"] == pytest.approx(test.pvalue)
    assert first["permutation_p"] == pytest.approx(2 / 126)  # all of one side above the other
    assert first["smallest_p"] == pytest.approx(2 / 126)
    assert second["permutation_p_holm"] == pytest.approx(3 * 2 / 252)
    ps = [row["p"] for row in (first, second, third)]
    ordered = np.sort(ps) * [3, 2, 1]
    assert first["p_holm"] == pytest.approx(np.maximum.accumulate(ordered)[np.argsort(ps)][0])
    losses = accuracies(study, "group", "test_loss"), accuracies(study, "batch", "test_loss")
    assert third["difference"] == pytest.approx(losses[0].mean() - losses[1].mean())
    assert third["unit"] == "nats" and pd.isna(third["runs_for_1"])
    assert pd.isna(third["total_sd"]) and second["total_sd"] > 0  # parts are of accuracies alone
    groups = [100 * accuracies(study, norm) for norm in ("none", "batch", "group")]
    pooled = np.sqrt(sum((len(g) - 1) * g.var(ddof=1) for g in groups) / 11)
    assert first["sd"] == pytest.approx(pooled) and first["sd_from"].startswith("3 configurations")
    assert second["detectable"] == pytest.approx(2.084 * pooled, rel=1e-3)
    assert first["spread_check_p"] == pytest.approx(stats.levene(*groups).pvalue)


def test_a_pair_far_from_the_others_spread_has_its_own():
    """As beside networks at chance: three runs each, too few for the check of all spreads."""
    groups = [np.array(g, float) for g in ((1, 2, 3), (3, 2, 1), (0, 30, 50), (60, 20, 45))]
    pooled = pooled_spread(groups)
    assert pooled.equal and pooled.sd == pytest.approx(16.1, abs=0.1)
    row = {"metric": "test_accuracy", "paired": False, "n_of": 3, "n_against": 3, "unit": "points"}
    varied = ((groups[2].var(ddof=1) + groups[3].var(ddof=1)) / 2) ** 0.5
    for a, b, sd in ((0, 1, 1.0), (2, 3, varied), (0, 3, pooled.sd)):
        both = (groups[a], groups[b])
        samples = SimpleNamespace(both=lambda row, both=both: both, spread=lambda metric: pooled)
        assert compare_configurations.power(samples, row, [])["sd"] == pytest.approx(sd)


def test_pairs_are_those_of_equal_seeds_with_their_correlation(study):
    paired = BATCH_NONE | {"paired": True}
    table = read_comparisons(synthetic.compare(study, paired))
    row = table.iloc[0]
    runs = read_table(study.with_name("runs.csv"), read_study(study))
    both = runs[runs["status"] == "ok"].pivot(index="seed", columns="norm", values="test_accuracy")
    both = 100 * both[["batch", "none"]].dropna()
    test = stats.ttest_rel(both["batch"], both["none"])
    assert row["n_of"] == row["n_against"] == 4
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["correlation"] == pytest.approx(both.corr().loc["batch", "none"])
    assert row["smallest_p"] == 0.125
    assert row["note"] == (
        "whatever the data, the permutation test could not reject: with n = 4 pairs its smallest p "
        "is 0.12, 0.12 after Holm's adjustment for 1"
    )
    assert row["note"] in study.with_name("comparisons.md").read_text()


def test_a_smallest_p_of_just_5_percent_rejects_nothing(tmp_path):
    """Seven runs and three have 120 arrangements; of three tests, 3 * 2 / 120 is 0.05."""
    lost = {f"resnet/none/seed{i}": "failed" for i in range(4)}
    path = synthetic.write_study(tmp_path, "normalization", seeds=7, epochs=2, status=lost)
    synthetic.aggregate(path)
    against_none = [{"of": {"norm": of}, "against": {"norm": "none"}} for of in ("batch", "group")]
    loss = against_none[0] | {"metric": "test_loss"}
    table = read_comparisons(synthetic.compare(path, *against_none, loss)).head(3)
    assert (table["smallest_p_holm"] == 0.05).all()
    assert table["permutation_p_holm"].min() >= 0.05
    assert table["note"].str.contains("whatever the data, the permutation test could not").all()


def test_seeds_and_images_are_told_apart_where_both_sides_have_five_runs(study):
    table = read_comparisons(synthetic.compare(study, BATCH_NONE, GROUP_BATCH))
    few, enough = table[table["kind"] == "declared"].to_dict("records")
    assert pd.isna(few["total_sd"]) and enough["test_images"] == 10_000
    assert few["note"] == (
        "with n = 5 and 4, Welch's p is too small and its interval too short where the two spreads "
        "differ"
    )
    assert pd.isna(enough["note"])
    correct = []
    labels_of = np.load(study.parent / "data/labels.npy")[10:]
    for norm in ("group", "batch"):
        files = [study.parent / f"runs/resnet/{norm}/seed{i}/test_logits.npy" for i in range(5)]
        correct.append(np.stack([np.load(file).argmax(axis=1) == labels_of for file in files]))
    expected = crossed_spread(*correct)
    assert enough["seeds_sd"] == pytest.approx(100 * expected.seeds_sd)
    assert enough["images_sd"] == pytest.approx(100 * expected.images_sd)
    assert (enough["total_low"], enough["total_high"]) == pytest.approx(
        (100 * expected.low, 100 * expected.high)
    )


def test_all_other_pairs_have_a_difference_and_no_test(study):
    table = read_comparisons(synthetic.compare(study, BATCH_NONE))
    others = table[table["kind"] == "descriptive"]
    assert set(zip(others["of"], others["against"], strict=True)) == {
        ("resnet/group", "resnet/none"),
        ("resnet/group", "resnet/batch"),
    }
    first = others.set_index("against").loc["resnet/none"]
    group, none = 100 * accuracies(study, "group"), 100 * accuracies(study, "none")
    welch = stats.ttest_ind(group, none, equal_var=False).confidence_interval()
    assert (first["n_of"], first["n_against"]) == (5, 4)
    assert (first["low"], first["high"]) == pytest.approx((welch.low, welch.high))
    assert others[["low", "high"]].notna().all(axis=None)
    assert others[["p", "p_holm", "permutation_p", "detectable"]].isna().all(axis=None)


def test_logits_of_a_later_epoch_are_left_out_and_named(study, tmp_path):
    shutil.copytree(study.parent, tmp_path / "copy")
    path = tmp_path / "copy/study.json"
    record = path.parent / "runs/resnet/batch/seed2/run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"weights_epoch": 9}))
    row = read_comparisons(synthetic.compare(path, GROUP_BATCH)).iloc[0]
    assert pd.isna(row["total_sd"]) and row["n_against"] == 5
    assert "fewer than 5 runs have logits" in row["note"]
    assert "without resnet/batch/seed2, whose logits are those of a later epoch" in row["note"]


def test_what_cannot_be_said_is_said(tmp_path):
    path = synthetic.write_study(tmp_path, "normalization", seeds=1, epochs=2)
    synthetic.aggregate(path)
    row = read_comparisons(synthetic.compare(path, BATCH_NONE)).iloc[0]
    assert row["difference"] > 0 and pd.isna(row["low"]) and pd.isna(row["p"])
    assert row["note"].startswith("a single run has no spread; whatever the data")
    text = path.with_name("comparisons.md").read_text()
    assert "(n = 1 and 1); no interval: a single run has no spread." in text
    assert "nan" not in text.lower()


def test_equal_runs_have_no_interval_and_no_run_no_difference(tmp_path):
    lost = {f"resnet/group/seed{i}": "failed" for i in range(3)}
    path = synthetic.write_study(tmp_path, "normalization", seeds=3, epochs=2, status=lost)
    for norm, accuracy in (("none", 0.1), ("batch", 0.2)):
        for history in (tmp_path / f"runs/resnet/{norm}").glob("*/history.csv"):
            table = pd.read_csv(history)
            table["test_accuracy"] = accuracy
            table.to_csv(history, index=False)
    synthetic.aggregate(path)
    table = read_comparisons(synthetic.compare(path, BATCH_NONE, GROUP_BATCH))
    equal, nothing = table[table["kind"] == "declared"].to_dict("records")
    assert equal["difference"] == pytest.approx(10) and pd.isna(equal["low"])
    assert "all runs are equal" in equal["note"]
    assert pd.isna(equal["detectable"]) and pd.isna(equal["runs_for_1"])
    assert pd.isna(nothing["difference"]) and nothing["lost_of"] == 3
    names = labels(read_study(path))
    assert finding(nothing, names).endswith(
        ": one side has no complete run, so nothing is said. Runs that diverged or failed: 3 of "
        "resnet, group norm."
    )
    assert "nan" not in path.with_name("comparisons.md").read_text().lower()


def test_without_declared_comparisons_nothing_is_tested(study):
    table = read_comparisons(synthetic.compare(study))
    assert set(table["kind"]) == {"descriptive"} and len(table) == 3
    assert "declares no comparison" in study.with_name("comparisons.md").read_text()


def test_a_large_study_describes_pairs_that_differ_in_one_thing():
    runs = [
        {"model": model, "norm": norm, "axes": {"batch_size": size}, "seed": 0}
        for model in ("convnet", "resnet")
        for norm in ("none", "batch")
        for size in range(2, 22)
    ]
    study = {"runs": runs, "axes": {"batch_size": list(range(2, 22))}}
    pairs = list(compare_configurations.descriptive_pairs(study, set()))
    assert len(pairs) == 4 * 190 + 2 * 20 + 2 * 20
    for second, first in pairs:
        assert sum(x != y for x, y in zip(second.split("/"), first.split("/"), strict=True)) == 1
    assert len(pairs) <= compare_configurations.MOST_DESCRIPTIVE


def test_a_study_of_many_configurations_without_a_lost_run_is_compared(tmp_path):
    # pandas: an empty index of more than 127 categories refuses to be looked up.
    axes = {"batch_size": list(range(1, 133))}
    plan = {"models": ["resnet"], "norms": ["none"], "seeds": 1, "epochs": 1, "axes": axes}
    study = synthetic.write_study(tmp_path, "single", **plan)
    synthetic.aggregate(study)
    table = pd.read_csv(tmp_path / "comparisons.csv")
    assert len(table) == 2_000 == compare_configurations.MOST_DESCRIPTIVE
    assert (table[["lost_of", "lost_against"]] == 0).all(axis=None)


def test_findings_claim_no_difference_that_the_test_does_not_show(study):
    names = labels(read_study(study))
    row = read_comparisons(synthetic.compare(study, BATCH_NONE)).iloc[0].to_dict()
    assert re.fullmatch(
        r"The mean test accuracy of resnet, batch norm is 13\.\d\d points above that of resnet, "
        r"no norm \(95 % interval 1\d\.\d\d to 1\d\.\d\d, n = 5 and 4, p < 0\.0001 after Holm's "
        r"adjustment for 1\)\. With so few runs, p is too small where the two spreads differ\. "
        r"Runs that diverged or failed: 1 of resnet, no norm\.",
        finding(row, names),
    )
    assert ", which does not show a difference. With" in finding(row | {"p_holm": 0.2}, names)
    assert finding(row | {"lost_of": 2}, names).endswith(
        "Runs that diverged or failed: 2 of resnet, batch norm and 1 of resnet, no norm."
    )
    enough = row | {"lost_against": 0, "n_against": 5}
    assert finding(enough, names).endswith("adjustment for 1).")
    assert ", n = 5 and 4 (0 and 1 diverged or failed), p < 0.0001" in compact_finding(row, names)
    assert ", n = 5 and 4, p < 0.0001" in compact_finding(row | {"lost_against": 0}, names)


def test_a_broken_list_of_comparisons_is_named(tmp_path):
    path = tmp_path / "declared.json"
    path.write_text("[]")
    with pytest.raises(InputError, match=r"declared\.json: not a list of declared comparisons"):
        read_declared(path)
    assert declared({}) == []
