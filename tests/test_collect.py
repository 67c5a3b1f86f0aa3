"""Collecting and summarising: what is refused, what is named, and numbers against numpy's own."""

import json
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

import check_runs
import collect_runs
import summarize_runs
import synthetic
from normres.errors import InputError
from normres.history import COLUMNS
from normres.tables import (
    absent_runs,
    axis_text,
    configurations,
    read_cells,
    read_study,
    read_table,
)


def collect(study):
    curves, runs = study.with_name("curves.csv"), study.with_name("runs.csv")
    collect_runs.main(
        f"--study {study} --dataset {study.with_name('dataset.json')} "
        f"--out-curves {curves} --out-runs {runs}".split(),
    )
    return read_table(curves, read_study(study)), read_table(runs, read_study(study))


def change(path, edit):
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


@pytest.fixture
def quickstart(tmp_path):
    return synthetic.write_study(tmp_path / "quickstart", "quickstart")


def test_a_stale_specification_is_refused_with_the_keys_that_differ(quickstart):
    run = quickstart.parent / "runs/resnet/batch/seed1"
    change(run / "run.json", lambda r: r["specification"]["optimizer"].update(lr=0.5))
    change(run / "run.json", lambda r: r["specification"].update(epochs=4))
    with pytest.raises(InputError) as error:
        collect(quickstart)
    text = str(error.value)
    assert "resnet/batch/seed1/run.json" in text
    assert "epochs was 4, the study asks 5" in text
    assert "optimizer.lr was 0.5, the study asks 0.0001" in text
    assert "run snakemake again" in text
    assert not (run / "run.json").exists() and (run / "run.json.aside").exists()
    assert "\n" not in text
    assert "fingerprint" not in text
    assert not quickstart.with_name("runs.csv").exists()


def test_another_fingerprint_is_refused_and_all_stale_runs_are_counted(quickstart):
    for seed in (0, 2):
        path = quickstart.parent / f"runs/vgg11/batch/seed{seed}/run.json"
        change(path, lambda r: r.update(fingerprint="older"))
    with pytest.raises(InputError, match=r"seed0/run.json: .*fingerprint.*2 of 27 runs are stale"):
        collect(quickstart)


def test_a_key_that_only_one_side_has_is_a_difference(quickstart):
    path = quickstart.parent / "runs/convnet/none/seed0/run.json"
    change(path, lambda r: r["specification"].update(dropout=0.5))
    with pytest.raises(InputError, match=r"dropout was 0\.5, the study asks not set"):
        collect(quickstart)


def test_runs_on_different_data_are_refused(quickstart):
    path = quickstart.parent / "runs/convnet/none/seed2/run.json"
    change(path, lambda r: r["data"].update(checksum="sha256:1"))
    with pytest.raises(InputError, match=r"seed2/run.json: stale.* data.checksum was sha256:1"):
        collect(quickstart)


def test_a_history_that_ends_early_is_refused(quickstart):
    path = quickstart.parent / "runs/convnet/none/seed0/history.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"history.csv: ends at epoch 4, but run.json at 5"):
        collect(quickstart)


def test_missing_failed_and_diverged_runs_are_rows_with_a_reason(quickstart):
    shutil.rmtree(quickstart.parent / "runs/convnet/group/seed0")
    curves, runs = collect(quickstart)
    runs = runs.set_index("run")
    assert len(runs) == 27
    missing, failed = runs.loc["convnet/group/seed0"], runs.loc["resnet/group/seed2"]
    assert missing["status"] == failed["status"] == "failed"
    assert "runs/convnet/group/seed0/run.json does not exist" in missing["reason"]
    assert failed["reason"] == "the disk is full"
    assert failed[list(COLUMNS)].isna().all()
    diverged = runs.loc["vgg11/none/seed1"]
    assert (diverged["status"], diverged["epoch"]) == ("diverged", 2)
    counts = curves.groupby(["model", "norm", "seed"]).size()
    assert counts["resnet", "group", 2] == 2  # what a failed run has left
    assert ("convnet", "group", 0) not in counts
    assert counts["resnet", "batch", 0] == 6


def test_numbers_pass_through_untouched(quickstart):
    curves, runs = collect(quickstart)
    path = quickstart.parent / "runs/resnet/none/seed1/history.csv"
    history = pd.read_csv(path)
    rows = curves[(curves["configuration"] == "resnet/none") & (curves["seed"] == 1)]
    for column in ("test_accuracy", "train_loss", "train_seconds"):
        np.testing.assert_array_equal(rows[column], history[column])
    run = runs.set_index("run").loc["resnet/none/seed1"]
    assert run["best_test_accuracy"] == history["test_accuracy"].max()


def test_configurations_keep_the_order_of_the_study(tmp_path):
    path = synthetic.write_study(tmp_path, "architectures")
    assert list(configurations(read_study(path))["model"]) == ["resnet", "vgg11", "convnet"]
    curves, _ = collect(path)
    assert list(curves.sort_values("configuration")["model"].unique()) == [
        "resnet",
        "vgg11",
        "convnet",
    ]


def test_an_axis_that_does_not_apply_is_an_empty_cell(tmp_path):
    path = synthetic.write_study(
        tmp_path, "batch-size", norms=["none", "group"], axes={"groups": [8, 32]}, seeds=2
    )

    def without_groups(study):
        runs = [run for run in study["runs"] if run["norm"] == "group"]
        for seed in (0, 1):
            run = json.loads(json.dumps(next(r for r in study["runs"] if r["norm"] == "none")))
            run |= {"run": f"resnet/none/seed{seed}", "axes": {}, "seed": seed}
            run["specification"]["seed"] = seed
            synthetic.write_run(tmp_path / "runs" / run["run"], run, "ok")
            runs.append(run)
        study["runs"] = runs

    change(path, without_groups)
    files = synthetic.aggregate(path)
    summary = read_table(files["summary"], read_study(path))
    assert list(summary["configuration"]) == [
        "resnet/none",
        "resnet/group/groups=8",
        "resnet/group/groups=32",
    ]
    assert summary["groups"].isna().tolist() == [True, False, False]
    assert list(summary["n"]) == [2, 2, 2]
    bands = read_table(files["bands"], read_study(path))
    assert set(bands["configuration"]) == set(summary["configuration"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(32, "32"), (32.0, "32"), ("32.0", "32"), (1e-4, "0.0001"), ("none", "none"), (True, "true")],
)
def test_an_axis_value_reads_the_same_from_json_and_csv(value, text):
    assert axis_text(value) == text


def test_summary_and_bands_are_those_numpy_computes(quickstart):
    files = synthetic.aggregate(quickstart)
    study = read_study(quickstart)
    summary = read_table(files["summary"], study).set_index("configuration")
    bands = read_table(files["bands"], study)
    histories = {
        name: [
            pd.read_csv(quickstart.parent / f"runs/{name}/seed{seed}/history.csv") for seed in seeds
        ]
        for name, seeds in {"convnet/batch": (0, 1, 2), "vgg11/none": (0, 2)}.items()
    }
    for name, runs in histories.items():
        n, row = len(runs), summary.loc[name]
        last = np.array([run["test_accuracy"].iloc[-1] for run in runs])
        sd = last.std(ddof=1)
        half = stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n)
        assert row["n"] == n
        assert row["test_accuracy_mean"] == pytest.approx(last.mean())
        assert row["test_accuracy_sd"] == pytest.approx(sd)
        assert row["test_accuracy_low"] == pytest.approx(last.mean() - half)
        times = pd.read_csv(quickstart.with_name("timing.csv"), keep_default_na=False)
        times = times[times["model"] + "/" + times["norm"] == name]["epoch_seconds"]
        assert row["timing_repeats"] == len(times) == 10
        assert row["seconds_per_epoch_median"] == pytest.approx(np.median(times))
        # Of 10 numbers the 2nd and 9th enclose the median with 98 %, the 3rd and 8th with 89 %.
        assert row["seconds_per_epoch_low"] == sorted(times)[1]
        assert row["seconds_per_epoch_high"] == sorted(times)[8]
        gaps = np.array([run["train_eval_accuracy"] - run["test_accuracy"] for run in runs])
        band = bands[(bands["configuration"] == name) & (bands["metric"] == "gap")]
        np.testing.assert_allclose(band["mean"], gaps.mean(axis=0))
        np.testing.assert_allclose(band["seconds"], np.arange(6) * np.median(times))
    row = summary.loc["vgg11/none"]
    assert (row["n"], row["diverged"], row["failed"]) == (2, 1, 0)
    assert (row["params"], row["macs"]) == (28_144_010, 171_679_744)
    losses = bands[(bands["configuration"] == "vgg11/none") & (bands["metric"] == "train_loss")]
    assert list(losses["epoch"]) == [1, 2, 3, 4, 5]  # none before training
    assert (bands.loc[bands["metric"] == "test_accuracy", "high"].dropna() <= 1).all()
    assert (bands.loc[bands["metric"] == "train_loss", "low"] >= 0).all()


def test_tables_for_people_show_reported_numbers_units_and_n(tmp_path):
    path = synthetic.write_study(tmp_path, "architectures")
    files = synthetic.aggregate(path)
    summary = read_table(files["summary"], read_study(path)).set_index("configuration")
    assert summary.loc["resnet/none", "reported_test_accuracy"] == 0.7839
    assert summary.loc["vgg11/none", "reported_test_loss"] == 1.5
    text = (tmp_path / "summary.md").read_text()
    assert "MACs (1 MAC = 1 multiply-add), million" in text
    row = next(line for line in text.splitlines() if line.startswith("| resnet"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    mean, low, high = (
        100 * summary.loc["resnet/none", f"test_accuracy_{x}"] for x in ("mean", "low", "high")
    )
    new_low, new_high = (
        100 * summary.loc["resnet/none", f"test_accuracy_new_run_{x}"] for x in ("low", "high")
    )
    assert cells[2:5] == [
        "5",
        f"{mean:.2f} [{low:.2f}, {high:.2f}]",
        f"78.39 ({new_low:.2f} to {new_high:.2f})",
    ]
    assert "162.37" in cells
    assert "1,081,482" in cells
    assert "last epoch (50)" in text


def test_a_reported_number_is_that_of_the_exercises_axis_values_alone(tmp_path):
    entry = {"model": "resnet", "norm": "none", "test_loss": 1.5}
    entry |= {"test_correct": 7839, "test_images": 10_000}
    plan = {"models": ["resnet"], "norms": ["none"], "reported": [entry]}
    axes = {"learning_rate": [1e-4, 1e-3], "pooling": ["sum", "mean"]}
    files = synthetic.aggregate(synthetic.write_study(tmp_path, "single", **plan, axes=axes))
    summary = read_table(files["summary"], read_study(files["study"]))
    told = summary[summary["reported_test_accuracy"].notna()]
    assert told[["learning_rate", "pooling"]].astype(str).to_numpy().tolist() == [["0.0001", "sum"]]
    assert summary["reported_test_loss"].count() == 1 < len(summary) == 4


def test_a_reported_run_is_compared_with_one_more_run_of_ours(tmp_path):
    path = synthetic.write_study(tmp_path, "architectures")
    files = synthetic.aggregate(path)
    summary = read_table(files["summary"], read_study(path)).set_index("configuration")
    runs = read_table(files["runs"], read_study(path))
    for name, row in summary.iterrows():
        accuracies = runs.loc[runs["configuration"] == name, "test_accuracy"]
        spread = accuracies.std() * (1 + 1 / len(accuracies)) ** 0.5
        ends = stats.t.interval(0.95, len(accuracies) - 1, accuracies.mean(), spread)
        found = (row["test_accuracy_new_run_low"], row["test_accuracy_new_run_high"])
        assert found == pytest.approx(ends)
        inside = ends[0] <= row["reported_test_accuracy"] <= ends[1]
        assert row["reported_test_accuracy_inside"] == inside
        assert row["test_accuracy_median"] == accuracies.median()
        assert row["test_accuracy_min"] == accuracies.min()
        assert row["test_accuracy_max"] == accuracies.max()
        right = round(row["test_accuracy_mean"] * 10_000)
        images = proportion_confint(right, 10_000, method="wilson")
        assert row["test_images"] == 10_000
        assert (row["test_set_low"], row["test_set_high"]) == pytest.approx(images)
    resnet = summary.loc["resnet/none"]
    reported = proportion_confint(7839, 10_000, method="wilson")
    ends = (resnet["reported_test_set_low"], resnet["reported_test_set_high"])
    assert ends == pytest.approx(reported)


def test_equal_runs_have_no_interval_and_the_tables_say_so(tmp_path):
    path = synthetic.write_study(tmp_path, "normalization", seeds=3, epochs=2)
    for history in (tmp_path / "runs/resnet/none").glob("*/history.csv"):
        table = pd.read_csv(history)
        table[["test_accuracy", "test_correct"]] = 0.1, 1000
        table.to_csv(history, index=False)
    files = synthetic.aggregate(path)
    summary = read_table(files["summary"], read_study(path)).set_index("configuration")
    row = summary.loc["resnet/none"]
    assert (row["test_accuracy_mean"], row["test_accuracy_sd"]) == (0.1, 0)
    assert pd.isna(row["test_accuracy_low"]) and pd.isna(row["test_accuracy_high"])
    assert 0.093 < row["test_set_low"] < 0.1 < row["test_set_high"] < 0.107
    bands = read_table(files["bands"], read_study(path))
    equal = bands[(bands["configuration"] == "resnet/none") & (bands["metric"] == "test_accuracy")]
    assert len(equal) == 3 and equal[["low", "high"]].isna().all(axis=None)
    for name, interval in (("summary.md", "10.00 [all equal]"), ("summary.tex", "[all equal]")):
        text = (tmp_path / name).read_text()
        assert interval in text and "so their spread is not known" in text
    assert "nan" not in (tmp_path / "summary.md").read_text()


def test_people_tables_name_what_is_missing(quickstart):
    synthetic.aggregate(quickstart)
    text = quickstart.with_name("summary.md").read_text()
    assert "2 (1 diverged)" in text
    assert "2 (1 failed)" in text
    assert "2 of 27 runs missing: vgg11/none/seed1 (diverged), resnet/group/seed2 (failed)" in text


def test_of_many_missing_runs_the_configurations_are_named():
    names = [f"resnet/{norm}/seed{seed}" for norm in ("none", "batch") for seed in (0, 11)]
    runs = [(name, "failed") for name in names]
    runs += [("vgg11/none/seed1", "diverged"), ("vgg11/none/seed2", "ok")]
    table = pd.DataFrame(runs, columns=["run", "status"])
    table["configuration"] = table["run"].str.rpartition("/")[0]
    said = absent_runs(table)
    assert said == (
        "5 of 6 runs missing: resnet/none (2 failed), resnet/batch (2 failed), "
        "vgg11/none (1 diverged)"
    )


def test_latex_is_escaped_and_its_table_is_regular(quickstart):
    change(quickstart, lambda study: study.update(title="50 % of R&D_x #1 {a} ~b^c \\d"))
    synthetic.aggregate(quickstart)
    text = quickstart.with_name("summary.tex").read_text()
    assert r"\caption{50 \% of R\&D\_x \#1 \{a\} \textasciitilde{}b" in text
    assert r"\textbackslash{}d" in text
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text).group(1)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 9 + 2
    assert all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in rows)
    lines = [line for line in text.splitlines() if not line.startswith("% ")]
    assert not any(re.search(r"(?<!\\)[%#]", line) for line in lines)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")


def test_a_study_without_any_result_still_has_tables(tmp_path):
    runs = {f"resnet/{norm}/seed0": "missing" for norm in ("none", "batch")}
    path = synthetic.write_study(tmp_path, "single", norms=["none", "batch"], status=runs, seeds=1)
    summary = read_table(synthetic.aggregate(path)["summary"], read_study(path))
    assert list(summary["n"]) == [0, 0]
    assert list(summary["failed"]) == [1, 1]
    assert summary["test_accuracy_mean"].isna().all()


def test_two_rows_for_one_network_are_refused(quickstart):
    path = quickstart.with_name("complexity.csv")
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(InputError, match="one row per network"):
        synthetic.aggregate(quickstart)


def test_many_runs_are_read_within_seconds(tmp_path):
    path = synthetic.write_study(tmp_path, "single", seeds=300, epochs=30)
    start = time.perf_counter()
    curves, runs = collect(path)
    assert time.perf_counter() - start < 5
    assert (len(runs), len(curves)) == (300, 300 * 31)
    tables = [read_cells(path.with_name(name), {}) for name in ("complexity.csv", "timing.csv")]
    summary = summarize_runs.summary(runs, *tables, read_study(path))
    assert summary["n"].item() == 300


def test_files_in_each_others_place_are_named_in_one_line(quickstart, tmp_path):
    """By hand: a table without the columns, a file that is no text, JSON that is no data set."""
    other, no_text, number = (tmp_path / name for name in ("other.csv", "no_text", "number.json"))
    other.write_text("a,b\n1,2\n")
    no_text.write_bytes(b"\x80\n" + bytes(9))
    number.write_text("{}")
    for runs, words in ((other, "other.csv: no column 'run'"), (no_text, "not a csv table")):
        paths = [f"--runs={runs}", f"--timing={other}", "--report=r", f"--out={tmp_path / 'v'}"]
        with pytest.raises(InputError, match=words) as caught:
            check_runs.main(paths)
        assert "\n" not in str(caught.value)
    outs = [f"--out-{name}={tmp_path / name}" for name in ("curves", "runs")]
    with pytest.raises(InputError, match=r"number\.json: not the description of a data set"):
        collect_runs.main([f"--study={quickstart}", f"--dataset={number}", *outs])
    rag = tmp_path / "rag.csv"
    rag.write_text("a,b\n1,2,3,4\n1,2,3,4,5\n")
    with pytest.raises(InputError, match="not a csv table") as caught:
        read_cells(rag, {})
    assert "\n" not in str(caught.value)
