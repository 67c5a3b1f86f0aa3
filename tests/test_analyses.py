"""The tables that answer a study's own question, on made-up runs with known answers."""

import importlib
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.weightstats import ttost_paired

import check_equivalence
import choose_learning_rates
import collect_gradients
import compare_batch_sizes
import compare_depths
import estimate_variance
from normres.analyses import ANALYSES, Analysis
from normres.components import crossed_components
from normres.config import read_config
from normres.errors import InputError
from normres.fingerprint import SCRIPTS
from normres.history import COLUMNS, write_history
from normres.pipeline import Pipeline
from normres.tables import axis_text, write_table


def make_table(command, folder, axes, runs, seeds=(0, 1, 2), models=("resnet",), start=()):
    """Run a command on a study of `runs`, (model, norm, axes, seed) -> cells of runs.csv.

    `start` holds cells of epoch 0 by run, for curves.csv.
    """
    folder.mkdir(exist_ok=True)
    listed, rows, curves = [], [], []
    for (model, norm, values, seed), cells in runs.items():
        chosen = {k: v for k, v in zip(axes, values, strict=True) if v is not None}
        name = "/".join([model, norm, *(f"{k}={v}" for k, v in chosen.items()), f"seed{seed}"])
        listed.append({"run": name, "model": model, "norm": norm, "axes": chosen, "seed": seed})
        listed[-1]["specification"] = {"affine": True, **chosen}
        key = {"model": model, "norm": norm, "seed": seed, "status": "ok"}
        key |= {k: axis_text(v) for k, v in chosen.items()}
        rows.append({"run": name, **key, **cells})
        first = start[model, norm, values, seed] if start else {}
        curves += [{**key, "epoch": 0, **first}, {**key, "epoch": 1, **cells}]
    study = {"study": "s", "title": "s", "dataset": {"name": "digits"}, "epochs": 1}
    study |= {"models": list(models), "norms": ["none", "batch", "group"], "seeds": list(seeds)}
    study |= {"axes": {k: list(v) for k, v in axes.items()}, "runs": listed}
    (folder / "study.json").write_text(json.dumps(study))
    frames = {"runs": pd.DataFrame(rows), "curves": pd.DataFrame(curves)}
    for name, frame in frames.items():
        columns = ["model", "norm", *axes]
        write_table(
            frame.reindex(columns=list(dict.fromkeys([*columns, *frame]))), folder / f"{name}.csv"
        )
    paths = [f"--{name}={folder / name}.csv" for name in frames]
    command.main(
        [f"--study={folder / 'study.json'}", *paths, "--data=none", f"--out={folder / 'out.csv'}"]
    )
    return pd.read_csv(folder / "out.csv", keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_has_its_command(name):
    assert (SCRIPTS / f"{ANALYSES[name].command}.py").exists()


NEEDY = [name for name, needed in ANALYSES.items() if needed != Analysis(needed.command)]


@pytest.mark.parametrize("name", NEEDY)
def test_by_hand_a_study_that_lacks_what_a_table_needs_is_refused(tmp_path, name):
    """Snakemake refuses it before it starts; by hand it ended in a traceback or an empty table."""
    command = importlib.import_module(ANALYSES[name].command)
    runs = {("resnet", "none", (0.5,), seed): {"test_accuracy": 0.5} for seed in range(2)}
    with pytest.raises(InputError, match=rf"study\.json: {name} needs .* as an axis"):
        make_table(command, tmp_path, {"momentum": (0.5,)}, runs)


def test_learning_rates_are_not_chosen_without_validation_images(tmp_path):
    cells = {"test_accuracy": 0.5, "validation_accuracy": math.nan}
    runs = {("resnet", "none", (rate,), 0): cells for rate in (0.1, 0.2)}
    with pytest.raises(InputError, match="the study needs validation_images"):
        make_table(choose_learning_rates, tmp_path, {"learning_rate": (0.1, 0.2)}, runs)


def test_lines_over_batch_sizes(tmp_path):
    axes = {
        "batch_size": [2, 32, 128],
        "learning_rate_scaling": ["constant", "sqrt"],
        "statistics_images": [0, 2, 32],
    }
    points = {("none", (2, "constant", None)): 0.5, ("none", (32, "constant", None)): 0.6}
    points |= {("none", (128, "constant", None)): 0.7, ("none", (2, "sqrt", None)): 0.4}
    points |= {("batch", (128, "constant", 0)): 0.9, ("batch", (128, "constant", 2)): 0.8}
    points |= {("batch", (128, "constant", 32)): 0.88, ("batch", (2, "constant", 0)): 0.3}
    runs = {
        ("resnet", norm, values, seed): {"test_accuracy": accuracy + (seed - 1) * spread}
        for seed, spread in ((0, 0.01), (1, 0.01), (2, 0.01))
        for (norm, values), accuracy in points.items()
    }
    table = make_table(compare_batch_sizes, tmp_path, axes, runs)

    def line(norm, arm, scaling):
        rows = table[(table["norm"] == norm) & (table["arm"] == arm)]
        rows = rows[rows["learning_rate_scaling"] == scaling]
        return dict(zip(rows["images"], rows["test_accuracy_mean"].round(6), strict=True))

    assert line("none", "batch", "constant") == {2: 0.5, 32: 0.6, 128: 0.7}
    assert line("none", "batch", "sqrt") == {2: 0.4, 128: 0.7}  # the runs at 128 are both lines'
    assert line("batch", "batch", "constant") == {2: 0.3, 128: 0.9}
    assert line("batch", "ghost", "constant") == {2: 0.8, 32: 0.88, 128: 0.9}
    ghost = table[(table["arm"] == "ghost") & (table["images"] == 2)].iloc[0]
    assert ghost["batch_size"] == 128 and ghost["n"] == 3 and ghost["reference_images"] == 32
    assert ghost["difference_mean"] == pytest.approx(-0.08)
    half = 0.01 * (2 / 3) ** 0.5 * 2.7764451  # Welch: t of 4 degrees of freedom
    assert ghost["difference_high"] == pytest.approx(-0.08 + half)
    sqrt = table[table["learning_rate_scaling"] == "sqrt"]
    assert set(sqrt["reference_images"]) == {128}
    assert sqrt.set_index("images").loc[128, "difference_mean":].isna().all()


def test_runs_at_128_images_that_both_scalings_have_count_once(tmp_path):
    axes = {"batch_size": [32, 128], "learning_rate_scaling": ["constant", "sqrt"]}
    runs = {
        ("resnet", "none", values, seed): {"test_accuracy": 0.5 + 0.01 * seed}
        for values in itertools.product(*axes.values())
        for seed in range(3)
    }
    table = make_table(compare_batch_sizes, tmp_path, axes, runs)
    assert table["n"].tolist() == [3] * 4


def test_batches_at_which_runs_diverged_have_rows_that_count_them(tmp_path):
    axes = {"batch_size": [2, 8, 32, 128]}
    runs = {
        ("resnet", "none", (size,), seed): {"test_accuracy": 0.5 + 0.01 * seed}
        for size in axes["batch_size"]
        for seed in range(3)
    }
    for (_, _, (size,), seed), cells in runs.items():
        if size in (2, 32) or (size, seed) == (8, 1):
            cells["status"] = "failed" if (size, seed) == (2, 0) else "diverged"
    table = make_table(compare_batch_sizes, tmp_path, axes, runs)
    assert table["images"].tolist() == [2, 8, 32, 128]
    assert table["n"].tolist() == [0, 2, 0, 3]
    assert table["diverged"].tolist() == [2, 1, 3, 0] and table["failed"].tolist() == [1, 0, 0, 0]
    assert set(table["reference_images"]) == {128}  # 32 has no complete run
    assert table.loc[0, "test_accuracy_mean":"test_accuracy_high"].isna().all()
    assert table["difference_mean"].round(6).tolist()[1] == 0.0
    assert table["difference_mean"].isna().tolist() == [True, False, True, True]


def test_the_learning_rate_is_chosen_on_validation_images(tmp_path):
    rates = (0.0001, 0.001, 0.01)
    validation = {"none": (0.5, 0.7, 0.6), "batch": (0.6, 0.8, 0.9)}
    test = {"none": (0.4, 0.6, 0.9), "batch": (0.5, 0.7, 0.8)}
    noise = (-0.01, 0.0, 0.02)
    runs = {
        ("resnet", norm, (rate,), seed): {
            "validation_accuracy": validation[norm][i] - (0.35 if (i, seed) == (2, 0) else 0),
            "test_accuracy": test[norm][i] + noise[seed] * (i + 1),
        }
        for norm in validation
        for i, rate in enumerate(rates)
        for seed in range(3)
    }
    table = make_table(choose_learning_rates, tmp_path, {"learning_rate": rates}, runs)
    none, batch = (table[table["norm"] == norm].set_index("learning_rate") for norm in test)
    assert none["chosen"].tolist() == [False, True, False]  # 0.01 is the best on test alone
    assert batch["chosen"].tolist() == [False, True, False]  # 0.9 for two seeds, 0.55 for one
    assert batch["seeds_best"].tolist() == [0, 1, 2]
    assert none["common"].tolist() == [False, True, False]
    gain = batch.loc[0.0001]
    assert gain["gain_n"] == 3 and pd.isna(batch.loc[0.001, "gain_n"])
    assert gain["gain_mean"] == pytest.approx(0.2 + np.mean(noise))
    half = np.std(noise, ddof=1) / 3**0.5 * 4.3026527  # paired: t of 2 degrees of freedom
    assert gain["gain_high"] - gain["gain_mean"] == pytest.approx(half)


def test_slopes_over_depth(tmp_path):
    depths, slopes = (3, 5, 9), {"resnet": -0.1, "plainnet": -2.0}
    runs, start = {}, {}
    for model, depth, seed in itertools.product(slopes, depths, range(3)):
        key = (model, "none", (depth, {"resnet": "false"}.get(model)), seed)
        start[key] = {"first_conv_grad_norm": 10 ** ((slopes[model] + seed / 100) * depth)}
        accuracy = 0.9 + (slopes[model] / 100 + seed / 1000) * depth
        runs[key] = {"first_conv_grad_norm": 0.0, "test_accuracy": accuracy}
    axes = {"depth": depths, "zero_init_residual": ["false", "true"]}
    table = make_table(compare_depths, tmp_path, axes, runs, models=tuple(slopes), start=start)
    table["minus"] = table["minus"].fillna("")
    found = table.set_index(["model", "minus", "quantity"])["slope_mean"]
    gradient = "log10_first_gradient_start"
    assert found["resnet", "", gradient] == pytest.approx(-0.1 + 0.01)
    assert found["plainnet", "", gradient] == pytest.approx(-2.0 + 0.01)
    assert found["resnet", "plainnet", gradient] == pytest.approx(1.9)
    assert found["resnet", "plainnet", "test_accuracy"] == pytest.approx(0.019)
    assert found["resnet", "", "log10_first_gradient_end"] == pytest.approx(0.0, abs=1e-9)
    assert len(table) == 9 and set(table["n"]) == {3} and set(table["depths"]) == {"3 5 9"}


def test_gradients_of_every_convolution(tmp_path):
    runs = {("resnet", "none", (), seed): {"test_accuracy": 0.5} for seed in range(3)}
    for seed in range(3):
        row = dict.fromkeys(COLUMNS) | {"epoch": 0}
        cells = [f"{10.0**-seed} 0", f"{10.0**seed} 100"]
        folder = tmp_path / f"runs/resnet/none/seed{seed}"
        folder.mkdir(parents=True)
        write_history(
            [{**row, "epoch": i, "conv_grad_norms": cell} for i, cell in enumerate(cells)],
            folder / "history.csv",
        )
    table = make_table(collect_gradients, tmp_path, {}, runs)
    table = table.set_index(["epoch", "convolution"])
    assert table["log10_gradient_mean"].round(3).tolist() == [-1.0, -44.854, 1.0, 2.0]
    assert table["zeros"].tolist() == [0, 3, 0, 0] and set(table["n"]) == {3}
    half = 4.3026527 / 3**0.5
    assert table.loc[(1, 1), "log10_gradient_high"] == pytest.approx(1 + half)


def test_equivalence_is_the_paired_tost(tmp_path):
    rng, n = np.random.default_rng(0), 8
    levels = {("none", (None, "default")): 0.7, ("none", (None, "true")): 0.7}
    levels |= {("batch", (a, b)): 0.9 for a in ("true", "false") for b in ("default", "true")}
    runs = {
        ("resnet", norm, values, seed): {"test_accuracy": level + rng.normal(0, 0.002)}
        for (norm, values), level in levels.items()
        for seed in range(n)
    }
    axes = {"affine": ["true", "false"], "conv_bias": ["default", "true"]}
    table = make_table(check_equivalence, tmp_path, axes, runs, seeds=range(n))
    pairs = table[["norm", "affine", "conv_bias", "changed", "before"]].fillna("-").astype(str)
    assert sorted(map(tuple, pairs.to_numpy().tolist())) == sorted(
        [
            ("none", "-", "true", "conv_bias", "default"),
            ("batch", "True", "true", "conv_bias", "default"),
            ("batch", "False", "true", "conv_bias", "default"),
            ("batch", "True", "default", "affine", "false"),
            ("batch", "True", "true", "affine", "false"),
            ("batch", "False", "default", "norm", "none"),
            ("batch", "False", "true", "norm", "none"),
        ]
    )
    row = table[(table["norm"] == "none")].iloc[0]
    sides = [
        [runs["resnet", "none", (None, bias), seed]["test_accuracy"] for seed in range(n)]
        for bias in ("true", "default")
    ]
    assert row["p"] == pytest.approx(ttost_paired(*map(np.array, sides), -0.005, 0.005)[0])
    assert row["equivalent"] and row["n"] == n and row["margin"] == 0.005
    ordered = table["p"].sort_values()
    adjusted = np.maximum.accumulate(ordered * np.arange(len(table), 0, -1)).clip(upper=1)
    assert table.loc[ordered.index, "p_holm"].to_numpy() == pytest.approx(adjusted.to_numpy())
    assert row["difference_mean"] == pytest.approx(np.mean(sides[0]) - np.mean(sides[1]))
    gains = table[table["changed"] == "norm"]
    assert gains["difference_mean"].to_numpy() == pytest.approx(0.2, abs=0.005)
    assert not gains["equivalent"].any()


def test_a_norm_with_scale_and_shift_is_more_than_a_norm(tmp_path):
    runs = {
        ("resnet", norm, ("default",), seed): {"test_accuracy": 0.5 + 0.01 * seed}
        for norm in ("none", "batch")
        for seed in range(3)
    }
    assert make_table(check_equivalence, tmp_path, {"conv_bias": ["default"]}, runs).empty


@pytest.mark.parametrize(
    ("lost", "chosen"),
    [
        ({(0.3, 0): "diverged"}, 0.2),
        ({(0.3, 0): "failed"}, 0.3),
        ({(0.3, 0): "failed", (0.2, 1): "diverged"}, 0.3),
        ({(0.3, 0): "diverged", (0.2, 1): "failed", (0.1, 1): "failed"}, 0.2),
        (dict.fromkeys(((0.1, 0), (0.2, 1), (0.3, 2)), "failed"), 0.3),
        ({(0.3, seed): "failed" for seed in range(3)}, 0.2),
    ],
)
def test_only_diverged_runs_disqualify_a_learning_rate(tmp_path, lost, chosen):
    axes = {"learning_rate": (0.1, 0.2, 0.3)}
    runs = {
        ("resnet", "none", (rate,), seed): {
            "validation_accuracy": rate + seed / 100,
            "test_accuracy": rate,
            "status": lost.get((rate, seed), "ok"),
        }
        for rate in axes["learning_rate"]
        for seed in range(3)
    }
    table = make_table(choose_learning_rates, tmp_path, axes, runs).set_index("learning_rate")
    assert (
        table.index[table["chosen"]].tolist() == table.index[table["common"]].tolist() == [chosen]
    )
    assert table.loc[chosen, "n"] == 3 - sum(rate == chosen for rate, _ in lost)


def test_learning_rates_are_compared_on_the_seeds_that_all_of_them_have(tmp_path):
    """Seed 2 is the best one by far, and failed at the better rate."""
    axes = {"learning_rate": (0.1, 0.2)}
    runs = {
        ("resnet", "none", (rate,), seed): {
            "validation_accuracy": rate + 0.5 * (seed == 2),
            "test_accuracy": rate,
            "status": "failed" if (rate, seed) == (0.2, 2) else "ok",
        }
        for rate in axes["learning_rate"]
        for seed in range(3)
    }
    table = make_table(choose_learning_rates, tmp_path, axes, runs)
    assert table["chosen"].tolist() == [False, True]
    assert table["n"].tolist() == [3, 2] and table["gain_n"].tolist()[0] == 2


def test_a_study_has_the_tables_that_it_asks_for():
    study = {"dataset": "digits", "models": ["resnet"], "norms": ["batch"], "seeds": [0]}
    study |= {"epochs": 1, "depth": [1, 2]}
    plain, asking = (
        Pipeline(read_config({"study": "s", "studies": {"s": study | more}}))
        for more in ({}, {"analyses": ["depths", "norm_cost"]})
    )
    added = set(asking.deliverables(None)) - set(plain.deliverables(None))
    added = {path for path in added if "/figures/" not in path}  # the gallery's tests
    listed = asking.list_file("time_norms", "s")
    assert added == {"results/s/depths.csv", "results/s/norm_cost.csv", listed}
    assert asking.definition("s") == plain.definition("s")  # nothing else is made anew for it


# Variance components ---------------------------------------------------------------------------


def test_components_are_those_of_the_analysis_of_variance():
    table = np.random.default_rng(1).normal(size=(4, 5)) + np.arange(4)[:, None] * 3
    long = pd.DataFrame([{"y": table[i, j], "a": i, "b": j} for i in range(4) for j in range(5)])
    squares = anova_lm(ols("y ~ C(a) + C(b)", long).fit(), typ=2)
    mean = squares["sum_sq"] / squares["df"]
    found = crossed_components(table)
    assert found["interaction"].variance == pytest.approx(mean["Residual"])
    assert found["rows"].variance == pytest.approx((mean["C(a)"] - mean["Residual"]) / 5)
    assert found["rows"].p == pytest.approx(squares.loc["C(a)", "PR(>F)"])
    expected = (mean["C(b)"] - mean["Residual"]) / 4
    assert found["columns"].variance == pytest.approx(expected) and expected > 0


def test_intervals_of_components_cover():
    """Simulated 6 x 5 tables: the true variances lie in about 95 of 100 intervals."""
    rng, n = np.random.default_rng(2), 1500
    true = {"rows": 4.0, "columns": 1.0, "interaction": 2.0, "total": 7.0}
    covered = dict.fromkeys(true, 0)
    for _ in range(n):
        table = rng.normal(0, 2**0.5, (6, 5))
        table += rng.normal(0, 2, (6, 1)) + rng.normal(0, 1, (1, 5))
        for name, component in crossed_components(table).items():
            covered[name] += component.low <= true[name] <= component.high
    for name, count in covered.items():
        assert 0.93 <= count / n <= 0.98, (name, count / n)


def test_a_table_of_variance(tmp_path):
    axes = {"initialization_seed": [0, 1, 2], "order_seed": [0, 1, 2]}
    runs = {
        ("resnet", "batch", (i, j), 0): {"test_accuracy": 0.9 + 0.01 * i + 0.0001 * (i * j % 2)}
        for i in range(3)
        for j in range(3)
    }
    table = make_table(estimate_variance, tmp_path, axes, runs, seeds=(0,)).set_index("component")
    assert table.loc["initialization", "share"] > 0.99
    assert table.loc["initialization", "sd"] == pytest.approx(0.01, rel=0.02)
    del runs["resnet", "batch", (1, 1), 0]  # diverged: its initialisation is left out
    table = make_table(estimate_variance, tmp_path, axes, runs, seeds=(0,)).set_index("component")
    assert set(table["initializations"]) == {2} and set(table["orders"]) == {3}
    del runs["resnet", "batch", (2, 1), 0]
    table = make_table(estimate_variance, tmp_path, axes, runs, seeds=(0,))
    assert len(table) == 1 and "fewer than two initialisations" in table["reason"][0]


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (6, 6)])
def test_a_table_of_equal_runs_has_no_components(tmp_path, shape):
    axes = {"initialization_seed": list(range(shape[0])), "order_seed": list(range(shape[1]))}
    for value in (0.1, 131 / 360):
        runs = {
            ("resnet", "batch", cell, 0): {"test_accuracy": value} for cell in np.ndindex(*shape)
        }
        table = make_table(estimate_variance, tmp_path, axes, runs, seeds=(0,))
        assert len(table) == 1 and table["sd"].isna().all()
        assert "so their spread is not known" in table["reason"][0]
