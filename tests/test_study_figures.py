"""Figures of the tables that studies ask for under `analyses`, from tables made by hand."""

import importlib
import itertools

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import plot_gradient_norms
import plot_learning_rates
import plot_norm_cost
import synthetic
from normres import figures, lines
from normres.gallery import ENTRIES, EVERY_FIGURE_READS
from normres.tables import configurations, read_cells, read_study, write_table
from normres.wording import MINUS

BATCHES = {"models": ["resnet"], "norms": ["none", "batch", "group"], "seeds": 2, "epochs": 2}
BATCHES |= {"axes": {"batch_size": [2, 8, 32, 128], "statistics_images": [0, 2]}}
DEPTHS = {"models": ["resnet", "vgg11"], "norms": ["none", "batch"], "seeds": 2, "epochs": 2}
DEPTHS |= {"axes": {"initialization": ["default", "he"], "depth": [3, 5, 9]}}
RATES = {"models": ["resnet"], "norms": ["none", "batch"], "seeds": 2, "epochs": 2}
RATES |= {"axes": {"learning_rate": [0.0001, 0.001, 0.01]}}
CHANGES = {"models": ["resnet"], "norms": ["none", "batch"], "seeds": 2, "epochs": 2}
CHANGES |= {"axes": {"conv_bias": ["default", "true"]}}


def estimates(name, mean, half, n=3):
    ends = {"mean": mean, "sd": half, "low": mean - half, "high": mean + half}
    return {"n": n, **{f"{name}_{part}": value for part, value in ends.items()}}


def batch_sizes(study):
    for norm, images in itertools.product(study["norms"], [2, 8, 32, 128]):
        for arm, scaling in (("batch", "constant"), ("batch", "sqrt"), ("ghost", "constant")):
            if (arm == "ghost" and norm != "batch") or (images == 2 and norm == "none"):
                continue
            drop = 0.3 / images if norm == "batch" else 0.01
            lost = {f"difference_{part}": -drop for part in ("mean", "low", "high", "p")}
            cells = {"model": "resnet", "norm": norm, "arm": arm, "learning_rate_scaling": scaling}
            cells |= {"images": images, "batch_size": 128, "reference_images": 32}
            cells |= {"diverged": 2 * (images == 8), "failed": 0}
            if norm == "group" and images == 2:
                yield cells | {"n": 0, "diverged": 5}
                continue
            n = 3 if images == 8 else 5
            yield cells | estimates("test_accuracy", 0.9 - drop, 0.02, n) | lost


def gradients(study):
    for number, (_, cells) in enumerate(configurations(study).iterrows()):
        depth = int(cells.get("depth", 3))
        for epoch, convolution in itertools.product([0, 1, 2], range(1, 2 * depth + 2)):
            mean = -0.2 * (2 * depth + 1 - convolution) * (cells["model"] == "vgg11") - epoch
            place = {"epoch": epoch, "convolution": convolution, "convolutions": 2 * depth + 1}
            yield {**cells, **place, "zeros": 0} | estimates(
                "log10_gradient", mean, 0.1 + number / 50
            )


def depths(study):
    """Lines over depth, and what sets resnet's apart from vgg11's."""
    for norm, start in itertools.product(study["norms"], ["default", "he"]):
        cells = {"norm": norm, "initialization": start, "depths": "3 5 9"}
        for model, minus in (("resnet", ""), ("vgg11", ""), ("resnet", "vgg11")):
            for quantity in ("log10_first_gradient_start", "test_accuracy"):
                row = {"model": model, **cells, "minus": minus, "quantity": quantity}
                yield row | estimates("slope", 0.5 if minus else -0.01, 0.02)


def learning_rates(study):
    """0.001 is the best rate for all, and for batch norm; without norm it is 0.0001."""
    for norm, rate in itertools.product(study["norms"], [0.0001, 0.001, 0.01]):
        chosen = rate == (0.001 if norm == "batch" else 0.0001)
        row = {"model": "resnet", "norm": norm, "learning_rate": rate, "chosen": chosen}
        row |= {"common": rate == 0.001, **estimates("test_accuracy", 0.9 - rate, 0.02)}
        gain = {} if chosen else {"mean": 0.05, "low": 0.04, "high": 0.06}
        row |= {"gain_n": None if chosen else 2}
        yield row | {f"gain_{part}": gain.get(part) for part in ("mean", "low", "high")}


def calibration(study):
    for number, (_, cells) in enumerate(configurations(study).iterrows()):
        row = {**cells, "left_out": 0, **estimates("ece", 0.05 + 0.01 * number, 0.02)}
        yield row | estimates("ece_scaled", 0.02, 0.01)


def reliability(study):
    """Confidence is right, but for batch norm's second bin; the first bin has few images."""
    for _, cells in configurations(study).iterrows():
        for i, confidence in enumerate((0.3, 0.6, 0.9), start=1):
            off = 0.2 * (i == 2 and cells["norm"] == "batch" and cells["conv_bias"] == "true")
            row = {**cells, "bin": i, "confidence_mean": confidence, "left_out": 0}
            row |= {"share_mean": 0.001 if i == 1 else 0.4}
            yield row | estimates("accuracy", confidence - off, 0.02)


def equivalence(study):
    for number, norm in enumerate(study["norms"]):
        yield {"model": "resnet", "norm": norm, "conv_bias": "true", "changed": "conv_bias"} | {
            "before": "default", "after": "true", "correlation": 0.1, "margin": 0.005, "p": 0.03,
            "p_holm": 0.03 + 0.03 * number, "equivalent": True, "reason": "",
            **estimates("difference", 0.01 * number, 0.003),
        }  # fmt: skip


def variance(study):
    for component in ("initialization", "order", "interaction", "total"):
        yield {"model": "resnet", "norm": "batch", "component": component, "sd": 0.01} | {
            "sd_low": 0.0, "sd_high": 0.03, "initializations": 4, "orders": 4, "mean": 0.9
        }  # fmt: skip


def norm_cost(study):
    for norm, side in itertools.product(["batch", "group"], [32, 16]):
        median = {"batch": 1e-4, "group": 3e-4}[norm] * side
        yield {"norm": norm, "channels": 64, "side": side, "batch_size": 128, "n": 10} | {
            "layout": "channels_last", "training_seconds_median": median,
            "training_seconds_low": 0.9 * median, "training_seconds_high": 1.1 * median,
            "device_name": "a processor",
        }  # fmt: skip


CASES = {
    "batch_sizes": (BATCHES, batch_sizes),
    "gradient_norms": (DEPTHS, gradients),
    "first_gradient": (DEPTHS, gradients),
    "depths": (DEPTHS, depths),
    "learning_rates": (RATES, learning_rates),
    "calibration": (CHANGES, calibration),
    "reliability": (CHANGES, reliability),
    "equivalence": (CHANGES, equivalence),
    "variance": (CHANGES, variance),
    "norm_cost": (BATCHES, norm_cost),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Each figure's prefix, and the table it was drawn from."""
    folder, found = tmp_path_factory.mktemp("studies"), {}
    for name, (plan, rows) in CASES.items():
        place = folder / name
        files = synthetic.aggregate(synthetic.write_study(place, "single", **plan))
        entry = ENTRIES[name]
        (table,) = entry.tables
        path = place / f"{table}.csv"
        write_table(pd.DataFrame(rows(read_study(files["study"]))), path)
        options = {key: files[key] for key in ("study", *EVERY_FIGURE_READS)}
        options |= {table: path, "out": place / "figures" / name}
        arguments = [f"--{option}={value}" for option, value in options.items()]
        importlib.import_module(entry.command).main(entry.arguments.split() + arguments)
        found[name] = place / "figures" / name, path
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_studys_figure_shows_its_table_and_says_what_it_found(name, drawn):
    prefix, path = drawn[name]
    image = matplotlib.image.imread(f"{prefix}.png")[..., :3]
    ink = (image < 0.9).any(axis=2)
    assert 0.005 < ink.mean() < 0.5
    assert not any(edge.any() for edge in (ink[:3], ink[-3:], ink[:, :3], ink[:, -3:]))
    said = prefix.with_suffix(".txt").read_text()
    assert "n = " in said and "[" in said and "nan" not in said
    assert 'id="part-1?' in prefix.with_suffix(".svg").read_text()  # a reader can switch it
    shown, table = (read_cells(file, {}) for file in (f"{prefix}.csv", path))
    if name == "depths":
        assert len(shown) == 24  # the accuracies of the summary, not the table's slopes
    elif name == "reliability":
        assert set(shown["bin"]) == {2, 3}
    elif name not in ("gradient_norms", "first_gradient"):
        assert len(shown) == len(table)
    else:
        assert set(shown["epoch"]) == {0, 2}
        assert (set(shown["convolution"]) == {1}) == (name == "first_gradient")
        both = shown["mean"], shown["log10_gradient_mean"]
        np.testing.assert_allclose(*both)


@pytest.mark.parametrize("name", CASES)
def test_a_studys_figure_of_an_empty_table_is_drawn(name, drawn):
    """Where no run is complete, or no network has what is measured."""
    folder, entry = drawn[name][1].parent, ENTRIES[name]
    (table,) = entry.tables
    empty = folder / "empty.csv"
    write_table(pd.read_csv(drawn[name][1]).iloc[:0], empty)
    options = {key: folder / f"{key}.csv" for key in EVERY_FIGURE_READS}
    options |= {"study": folder / "study.json", table: empty, "out": folder / "empty"}
    arguments = [f"--{option}={value}" for option, value in options.items()]
    importlib.import_module(entry.command).main(entry.arguments.split() + arguments)
    assert (folder / "empty.png").stat().st_size > 1000


def test_findings_of_studies_name_what_the_tables_hold(drawn):
    said = {name: drawn[name][0].with_suffix(".txt").read_text() for name in CASES}
    assert said["batch_sizes"].startswith(
        f"From 32 to 8 images: no norm (batch, one learning rate), {MINUS}1.0 points [{MINUS}1.0 "
        f"to {MINUS}1.0], n = 3 (2 diverged) against 5; "
    )
    assert (
        "; at 2 images: group norm (batch, one learning rate), no run is complete (5 div"
        in (said["batch_sizes"])
    )
    assert "; from 32 to 2 images: batch norm (" in said["batch_sizes"]
    assert f"batch norm (only what the statistics see), {MINUS}15.0 points" in said["batch_sizes"]
    assert said["equivalence"].startswith(
        "1 of 2 changes are shown to do less than 0.5 points, after Holm's adjustment for all 2;"
    )
    assert "initialization 1.00 [0.00, 3.00], n = 4 x 4" in said["variance"]
    assert "cheapest batch norm, 3.2 [2.88, 3.52], n = 10; dearest group norm" in said["norm_cost"]
    assert "smallest: vgg11, depth 9" in said["first_gradient"]
    assert said["depths"].startswith(
        "Slope of test accuracy on depth: resnet minus vgg11 (no norm, default init) "
        "50.00 points per block [48.00 to 52.00], n = 3; resnet minus vgg11 (no norm, he init) "
    )
    assert (
        "gradient before training: resnet minus vgg11 (no norm, default init) 0.50 a block"
        in (said["depths"])
    )
    assert said["learning_rates"].startswith(
        "Learning rate chosen on held-out images: no norm 0.0001, test accuracy 90.0 % [88.0 to "
        "92.0], n = 3, less 5.0 points [4.0 to 6.0], n = 2, at 0.001, the best rate for all; batch "
        "norm 0.001, "
    )
    assert said["calibration"].startswith(
        "Largest mean calibration error: resnet, batch norm, conv bias true, 8.0 % [6.0 to 10.0], "
        "n = 3, after temperature scaling 2.0 % [1.0 to 3.0], n = 3; smallest: resnet, no norm"
    )
    assert said["reliability"].startswith(
        "Farthest from right, of bins with 1 % of the images or more: resnet, batch norm, conv "
        "bias true, at a mean confidence of 60 %: accuracy 40.0 % [38.0 to 42.0], n = 3, below it"
    )


def test_norms_of_one_name_are_told_apart_by_their_options(drawn, monkeypatch):
    """As group norm of 8 and 32 groups; batch norm has no such option."""
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    folder, table = drawn["norm_cost"][1].parent, pd.read_csv(drawn["norm_cost"][1])
    batch, group = (table[table["norm"] == norm] for norm in ("batch", "group"))
    fewer = group.assign(groups=8, training_seconds_median=1e-6)
    write_table(pd.concat([batch, fewer, group.assign(groups=32)]), folder / "kinds.csv")
    options = {name: folder / f"{name}.csv" for name in EVERY_FIGURE_READS}
    options |= {"norm_cost": folder / "kinds.csv", "study": folder / "study.json"}
    options["out"] = folder / "kinds"
    plot_norm_cost.main([f"--{name}={value}" for name, value in options.items()])
    text = (folder / "kinds.svg").read_text()
    assert "group norm, groups 8" in text and "group norm, groups 32" in text
    assert "batch norm, groups" not in text
    said = (folder / "kinds.txt").read_text()
    assert (
        "cheapest group norm, groups 8, 0.001" in said and "dearest group norm, groups 32" in said
    )


def test_a_logarithmic_axis_of_many_values_has_ticks_of_some_of_them():
    place = Figure().add_subplot()
    numbers = pd.Series([2.0**power for power in range(1, 14)])
    lines.set_ticks(place, numbers, lines.Axis("images", log=True))
    told = [label.get_text() for label in place.get_xticklabels()]
    assert told == ["2", "8", "32", "128", "512", "2048", "8192"]
    assert list(place.get_xticks()) == [1, 3, 5, 7, 9, 11, 13]


def test_gradients_that_are_zero_are_marked_and_do_not_stretch_the_axis(drawn, monkeypatch):
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    path = drawn["gradient_norms"][1]
    folder, table = path.parent, pd.read_csv(path)
    zero = table["epoch"].eq(0) & table["convolution"].mod(2).eq(0)
    table.loc[zero, "zeros"] = table.loc[zero, "n"]
    table.loc[zero, [f"log10_gradient_{part}" for part in ("mean", "low", "high")]] = -44.9
    write_table(table, path)
    options = {name: folder / f"{name}.csv" for name in (*EVERY_FIGURE_READS, "gradients")}
    options |= {"study": folder / "study.json", "out": folder / "again"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    plot_gradient_norms.main(["--against=convolution", *arguments])
    shown = pd.read_csv(folder / "again.csv")
    zeros = shown["epoch"].eq(0) & shown["convolution"].mod(2).eq(0)
    assert zeros.any() and shown["mean"].isna().eq(zeros).all()
    text = (folder / "again.svg").read_text()
    assert "Crosses at the lower edge: 0 in all runs." in text and "\u221240" not in text
    assert "Crosses" not in drawn["gradient_norms"][0].with_suffix(".svg").read_text()


def test_a_panel_of_zeros_does_not_say_that_no_run_is_complete():
    look = {"resnet": figures.Look("#0072B2", "solid", "o")}
    rows = pd.DataFrame({"panel": ["a", "a", "b", "b"], "line": "resnet", "x": [1, 2, 1, 2]})
    rows = rows.assign(mean=[1.0, 2.0, np.nan, np.nan], low=np.nan, high=np.nan, n=2)
    study = {"dataset": {"name": "d"}, "models": ["resnet"], "norms": ["none"], "seeds": [0]}
    options = {"question": "?", "study": study | {"axes": {}}, "notes": []}
    for zero, said in (([False] * 4, "no complete run"), ([False] * 2 + [True] * 2, "0 in all")):
        table = rows.assign(zero=zero)
        figure = lines.line_figure(table, look, lines.Axis("x"), "y", **options)
        texts = [text.get_text() for place in figure.axes for text in place.texts]
        assert sum(text.startswith(said) for text in texts) == 1
        assert len([text for text in texts if "complete" in text]) == (said != "0 in all")


def test_numbers_beside_lines_have_their_interval_and_say_where_they_are_from(drawn, monkeypatch):
    """At the rate that was chosen; n stands in the note, or beside each where it differs."""
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    path = drawn["learning_rates"][1]
    folder, table = path.parent, pd.read_csv(path)
    for n, beside, below in (
        (3, "0.001: 89.9 [87.9, 91.9]", "n = 3."),
        (2, ", n = 2", "n = 2 to 3."),
    ):
        table.loc[table["norm"] == "batch", "n"] = n
        write_table(table, path)
        options = {name: folder / f"{name}.csv" for name in (*EVERY_FIGURE_READS, "learning_rates")}
        options |= {"study": folder / "study.json", "out": folder / "again"}
        plot_learning_rates.main([f"--{name}={value}" for name, value in options.items()])
        text = (folder / "again.svg").read_text()
        assert beside in text and below in text
