"""Figures of synthetic studies: their files, what they show against the tables, same bytes."""

import functools
import importlib
import itertools
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

import evaluate_predictions
import plot_accuracy_by_time
import plot_hardest_images
import plot_parameters_vs_macs
import plot_pareto
import synthetic
from normres import figures, rows
from normres.analyses import ANALYSES, NORM_COST
from normres.errors import InputError
from normres.figures import MODEL_COLOURS, NORM_COLOURS, Look, luminance, spread, text_width, wrap
from normres.files import seal
from normres.findings import extreme_words
from normres.gallery import ENTRIES, EVERY_FIGURE_READS, FORMATS, Entry
from normres.predictions import HARDEST
from normres.tables import configurations, norm_title, read_cells, read_study, read_table

CURVES = {
    "test_accuracy": ("test_accuracy", 100),
    "training_loss_by_epoch": ("train_loss", 1),
    "training_loss_by_time": ("train_loss", 1),
    "generalization_gap": ("gap", 100),
}
# What `analyses` asks for is drawn in test_study_figures.py.
NAMES = [name for name, entry in ENTRIES.items() if not {*entry.tables} & {*ANALYSES, NORM_COST}]
BY_AXIS = "final_accuracy_by_batch_size"
SEVERAL = ("quickstart", "batch-size", "single")  # networks and norms, an axis, one run
# Figures whose drawing does not depend on what all others draw are drawn of fewer studies.
DRAWN = [
    (name, study)
    for name in NAMES
    for study in synthetic.STUDIES
    if name in CURVES or study in SEVERAL
] + [(BY_AXIS, "batch-size")]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    return {
        name: predicted(synthetic.aggregate(synthetic.write_study(root / name, name)))
        for name in synthetic.STUDIES
    }


def predicted(files):
    """Add the predictions of a study's complete runs, and their tables; return all files."""
    folder = files["study"].parent
    dataset = synthetic.write_predictions(files["study"]) / "dataset.json"
    options = f"--study {files['study']} --runs {files['runs']} --dataset {dataset} --out {folder}"
    evaluate_predictions.main(options.split())
    tables = {name: folder / f"{name}.csv" for name in ("classes", "confusion", "hardest_images")}
    return {**files, **tables, "dataset": dataset}


def plot(name, files, folder="figures"):
    prefix = files["study"].parent / folder / name
    entry = ENTRIES.get(name, Entry("plot_final_accuracy_by_axis", "--axis batch_size"))
    options = {key: files[key] for key in ("study", *EVERY_FIGURE_READS, *entry.tables)}
    arguments = [f"--{option}={path}" for option, path in {**options, "out": prefix}.items()]
    importlib.import_module(entry.command).main(entry.arguments.split() + arguments)
    return prefix


@pytest.fixture(scope="module")
def plotted(studies):
    """The prefix of a study's figure, which is drawn once."""
    return functools.cache(lambda name, study: plot(name, studies[study]))


def shown(prefix, study):
    return read_table(f"{prefix}.csv", read_study(study))


@pytest.mark.parametrize("name, study", DRAWN)
def test_a_figure_is_its_files_and_not_blank(name, study, plotted):
    prefix = plotted(name, study)
    written = {path.name for path in prefix.parent.glob(f"{name}.*")}
    assert written == {f"{name}.{kind}" for kind in FORMATS}
    image = matplotlib.image.imread(f"{prefix}.png")[..., :3]
    assert image.shape[1] > 600
    ink = (image < 0.9).any(axis=2)
    assert 0.005 < ink.mean() < 0.5
    edge = np.concatenate(
        [ink[:3].ravel(), ink[-3:].ravel(), ink[:, :3].ravel(), ink[:, -3:].ravel()]
    )
    assert not edge.any(), "something is cut off at the page's edge"
    # What a reader of the report can switch; a figure of one configuration or of all cannot be.
    parts = re.findall(r'<g id="(part-\d+\?[^"]*)"', Path(f"{prefix}.svg").read_text())
    assert bool(parts) == (name not in ("confusion", "hardest_images"))
    assert len(parts) == len(set(parts))


@pytest.mark.parametrize("study", synthetic.STUDIES)
@pytest.mark.parametrize("name", CURVES)
def test_curves_show_the_bands_and_every_seed(name, study, studies, plotted):
    files = studies[study]
    drawn = shown(plotted(name, study), files["study"])
    metric, scale = CURVES[name]
    means = drawn[drawn["series"] == "mean"]
    bands = read_table(files["bands"], read_study(files["study"]))
    bands = bands[bands["metric"] == metric].sort_values(["configuration", "epoch"])
    for column, source in [("value", "mean"), ("low", "low"), ("high", "high")]:
        np.testing.assert_allclose(means[column], scale * bands[source], equal_nan=True)
    np.testing.assert_array_equal(means["epoch"], bands["epoch"])
    np.testing.assert_allclose(means["seconds"], bands["seconds"])
    runs = read_table(files["runs"], read_study(files["study"]))
    seeds = drawn[drawn["series"] == "seed"]
    assert seeds.groupby(["configuration", "seed"], observed=True).ngroups == (
        (runs["status"] != "failed").sum()
    )
    assert np.isfinite(seeds["value"]).all()


def test_time_is_that_of_the_timing_and_untimed_configurations_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    untimed = {"vgg11/batch": "OutOfMemoryError: no room"}
    files = synthetic.aggregate(synthetic.write_study(tmp_path, "quickstart", untimed=untimed))
    prefix = plot("training_loss_by_time", files)
    drawn = shown(prefix, files["study"])
    assert set(drawn["configuration"].unique()) == set(drawn["configuration"].cat.categories) - {
        "vgg11/batch"
    }
    for name, own in drawn.groupby("configuration", observed=True):
        assert own.groupby("epoch")["seconds"].nunique().eq(1).all(), name  # seeds share the time
    text = prefix.with_name("training_loss_by_time.svg").read_text()
    assert "median of 10 repeats" in text and "a processor" in text
    assert "Not timed: vgg11/batch (OutOfMemoryError: no room)" in " ".join(text.split())
    by_epoch = shown(plot("training_loss_by_epoch", files), files["study"])
    assert "vgg11/batch" in set(by_epoch["configuration"])


def test_a_network_looks_alike_whatever_stands_beside_it():
    first = figures.looks({"models": ["resnet", "mine", "convnet"]}, "model")
    second = figures.looks({"models": ["convnet", "vgg11", "resnet"]}, "model")
    assert first["resnet"] == second["resnet"] and first["convnet"] == second["convnet"]
    assert len({(look.dash, look.marker) for look in first.values()}) == 3


def test_nothing_timed_leaves_an_empty_figure_that_says_why(tmp_path, monkeypatch):
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    untimed = {"resnet/none": "a GPU was promised"}
    files = synthetic.aggregate(synthetic.write_study(tmp_path, "single", untimed=untimed))
    for name in ("training_loss_by_time", "accuracy_by_time"):
        prefix = plot(name, files)
        text = prefix.with_name(f"{name}.svg").read_text()
        assert "Not timed: resnet/none (a GPU was promised)" in text
        assert ">not timed<" in text and "no complete run" not in text
        assert not prefix.with_name(f"{name}.txt").read_text().strip()  # nothing was found out


def test_without_times_the_fronts_are_of_what_is_known_and_all_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    pairs = [
        (model, norm)
        for model in ("convnet", "vgg11", "resnet")
        for norm in ("none", "batch", "group")
    ]
    untimed = {f"{model}/{norm}": "a GPU was promised" for model, norm in pairs}
    some = {name: why for name, why in untimed.items() if not name.startswith("convnet")}
    for case, left in (("none", untimed), ("some", some)):
        files = synthetic.aggregate(
            synthetic.write_study(tmp_path / case, "quickstart", untimed=left)
        )
        prefix = plot("pareto", files)
        text = prefix.with_name("pareto.svg").read_text()
        words = " ".join(re.sub("<[^>]+>", " ", text).split())
        assert ("median time" in words) == (case == "some")
        assert ("training time" in text) == (case == "some")
        for model, norm in pairs:
            assert f">{model}, {norm_title(norm)}: " in text, (case, model, norm)
        assert words.count("(a GPU was promised)") == 1  # once for all that share the reason


def test_final_accuracy_shows_means_seeds_and_reported_numbers(studies, plotted):
    files = studies["architectures"]
    drawn = shown(plotted("final_accuracy", "architectures"), files["study"])
    summary = read_table(files["summary"], read_study(files["study"]))
    runs = read_table(files["runs"], read_study(files["study"]))
    series = dict(list(drawn.groupby("series")))
    np.testing.assert_allclose(series["mean"]["value"], 100 * summary["test_accuracy_mean"])
    np.testing.assert_allclose(series["mean"]["low"], 100 * summary["test_accuracy_low"])
    assert series["reported"]["value"].tolist() == pytest.approx([78.39, 75.42, 64.30])
    np.testing.assert_allclose(sorted(series["seed"]["value"]), sorted(100 * runs["test_accuracy"]))


def test_parameters_vs_macs_shows_costs_and_accuracy(plotted):
    drawn = read_cells(f"{plotted('parameters_vs_macs', 'quickstart')}.csv", {})
    row = drawn[(drawn["model"] == "vgg11") & (drawn["norm"] == "none")].iloc[0]
    assert row["parameters_million"] == pytest.approx(28.144010)
    assert row["macs_million"] == pytest.approx(171.679744)
    assert row["n"] == 2
    spots = plot_parameters_vs_macs.find_spots(drawn)
    assert [set(spot["model"]) for spot in spots] == [{"resnet"}, {"convnet"}, {"vgg11"}]


def test_ranks_and_ranges_are_those_of_the_summary(studies, plotted):
    files = studies["quickstart"]
    summary = read_table(files["summary"], read_study(files["study"])).set_index("configuration")
    ranked = shown(plotted("ranking", "quickstart"), files["study"]).set_index("configuration")
    assert ranked["mean"].is_monotonic_decreasing
    np.testing.assert_allclose(ranked["low"], 100 * summary["test_accuracy_low"][ranked.index])
    assert (ranked["rank_low"] <= ranked["rank"]).all()
    spread = shown(plotted("seed_spread", "quickstart"), files["study"])
    assert len(spread) == 25
    means = spread.groupby("configuration", observed=True)["from_mean"].mean()
    np.testing.assert_allclose(means, 0, atol=1e-9)


def test_who_leads_at_a_time_has_the_highest_mean_of_the_epochs_until_then(studies, plotted):
    files = studies["quickstart"]
    drawn = shown(plotted("accuracy_by_time", "quickstart"), files["study"])
    means, leaders = drawn[drawn["series"] == "mean"], drawn[drawn["series"] == "leader"]
    assert leaders["at_seconds"].tolist() == [2, 5, 10, 20]
    for _, leader in leaders.iterrows():
        until = means[means["seconds"] <= leader["at_seconds"]]
        last = until.groupby("configuration", observed=True)["epoch"].idxmax()
        assert leader["value"] == means.loc[last, "value"].max()
    said = plotted("accuracy_by_time", "quickstart").with_suffix(".txt").read_text()
    assert "after 10 s convnet, batch norm, " in said and said.count("n = ") == len(leaders)


def test_times_to_mark_are_those_within_training():
    choose = plot_accuracy_by_time.choose_times
    assert list(choose(pd.Series([4.0, 700.0]))) == [10, 60, 600]
    assert list(choose(pd.Series([0.3, 3.0]))) == [0.5, 1, 2]


def test_the_front_holds_what_no_other_beats_in_both():
    cost, accuracy = pd.Series([1, 2, 2, 3, 4, None]), pd.Series([5, 7, 6, 7, 9, 9])
    assert plot_pareto.on_front(cost, accuracy).tolist() == [True, True, False, False, True, False]


def test_accuracy_against_an_axis_has_every_mean_and_seed(studies, plotted):
    files = studies["batch-size"]
    drawn = shown(plotted(BY_AXIS, "batch-size"), files["study"])
    summary = read_table(files["summary"], read_study(files["study"]))
    means = drawn[drawn["series"] == "mean"]
    np.testing.assert_allclose(means["value"], 100 * summary["test_accuracy_mean"])
    np.testing.assert_allclose(means["high"], 100 * summary["test_accuracy_high"])
    assert (drawn["series"] == "seed").sum() == 8


def test_an_axis_that_is_none_of_numbers_is_refused(studies):
    with pytest.raises(InputError, match="not an axis of numbers of study 'single'; it has: none"):
        plot(BY_AXIS, studies["single"])


def test_classes_confusions_and_hard_images_are_those_of_the_tables(studies, plotted):
    files = studies["quickstart"]
    classes = shown(plotted("class_accuracy", "quickstart"), files["study"])
    table = read_table(files["classes"], read_study(files["study"]))
    assert len(classes) == len(table) == 90
    np.testing.assert_allclose(classes["mean"], 100 * table["mean"])
    confusion = shown(plotted("confusion", "quickstart"), files["study"])
    assert set(confusion["configuration"]) == {"resnet/batch"}  # the highest mean
    assert len(confusion) == 100
    hardest = read_cells(f"{plotted('hardest_images', 'quickstart')}.csv", {})
    assert hardest.equals(read_cells(files["hardest_images"], {}).head(24))


def test_every_configuration_has_its_name_above_the_classes(studies, plotted):
    for study in ("quickstart", "batch-size"):
        svg = plotted("class_accuracy", study).with_suffix(".svg").read_text()
        said = re.findall(r"<!-- (.*?) -->", svg)
        for row in configurations(read_study(studies[study]["study"])).to_dict("records"):
            name = f"batch size {row['batch_size']}" if "batch_size" in row else row["model"]
            panels = 2 if study == "batch-size" else 3
            assert said.count(name) == panels, (study, name)


def test_names_above_a_panel_go_on_in_a_new_line_and_none_is_left_out():
    width = rows.legend_entry_width("batch size 8") * 2.1
    labels = ["batch size 8"] * 3 + ["batch size 32, statistics images 2, and more", "a"]
    assert rows.legend_lines(labels, width) == [[0, 1], [2], [3], [4]]
    assert rows.legend_lines([], width) == []


def test_one_image_that_all_have_wrong_is_one():
    row = {"image": 7, "label": "cat", "predicted": "dog", "predicted_by": 2, "n": 3}
    hardest = pd.DataFrame([row | {"wrong": 3}, row | {"wrong": 2}])
    assert plot_hardest_images.describe(hardest).startswith("1 test image is wrong in all 3 runs")
    assert plot_hardest_images.describe(hardest.head(1)).startswith("1 test image is wrong in all")
    many = pd.concat([hardest.head(1)] * HARDEST)  # as many as the table holds
    assert plot_hardest_images.describe(many).startswith("100 or more test images are wrong in all")
    fewer = pd.DataFrame([row | {"wrong": 3}, row | {"wrong": 1, "n": 1}])  # not in all runs
    assert plot_hardest_images.describe(fewer).startswith("1 test image is wrong in all 3 runs")
    assert plot_hardest_images.describe(hardest.tail(1)).startswith("No test image is wrong in all")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "training_loss_by_time"])
def test_a_finding_gives_each_number_its_n(name, plotted):
    said = plotted(name, "quickstart").with_suffix(".txt").read_text()
    assert "n = " in said or "(exact" in said
    assert "np." not in said and "nan" not in said
    assert said.count("[") == said.count("]") == said.count("], n = ")
    assert plotted(name, "single").with_suffix(".txt").read_text().count("[") <= 5


def test_classes_that_are_numbers_are_named_like_any_other(studies, tmp_path):
    """As those of the digits: a csv gives no hint that they are names."""
    files = dict(studies["single"])
    for name in ("classes", "confusion", "hardest_images"):
        files[name] = tmp_path / f"{name}.csv"
        text = studies["single"][name].read_text().replace("digit ", "")
        files[name].write_text(text)
        seal(files[name])
        entry = "class_accuracy" if name == "classes" else name
        said = plot(entry, files, "numbers").with_suffix(".txt").read_text()
        assert re.search(r" '\d' ", said) and "np." not in said and ".0 of" not in said


def test_classes_keep_their_names_whatever_these_look_like(studies, tmp_path):
    files, named = dict(studies["single"]), {2: "01", 3: "nan", 4: "1e3", 5: "005", 6: "True"}
    names = {f"digit {i}": named.get(i, str(i)) for i in range(10)}
    for name in ("classes", "confusion", "hardest_images"):
        files[name] = tmp_path / f"{name}.csv"
        text = studies["single"][name].read_text()
        files[name].write_text(re.sub(r"digit \d", lambda found: names[found[0]], text))
        seal(files[name])
        drawn = plot("class_accuracy" if name == "classes" else name, files, "odd names")
        table = pd.read_csv(f"{drawn}.csv", dtype=str, keep_default_na=False)
        if name == "hardest_images":
            assert {*table["label"], *table["predicted"]} <= {*names.values()}
        else:
            assert sorted(table["label"].unique()) == sorted(names.values())


def test_findings_order_only_what_intervals_order():
    columns = ["model", "norm", "n", "x_mean", "x_low", "x_high"]

    def say(*rows, **options):
        table = pd.DataFrame(rows, columns=columns)
        return extreme_words(table, {"axes": {}}, "x_mean", "Highest", **options)

    a, b = ("a", "none", 3, 2.0, 1.5, 2.5), ("b", "batch", 3, 4.0, 3.5, 4.5)
    assert say(a, b) == (
        "Highest: b, batch norm, 4.0 [3.5 to 4.5], n = 3; next: a, no norm, 2.0 [1.5 to 2.5], "
        "n = 3. Their 95 % intervals do not overlap."
    )
    assert say(a, b, largest=False).startswith("Highest: a, no norm")
    assert "overlap, so nothing is said" in say(a, (*b[:4], 2.2, 5.8))
    assert "Without both intervals nothing is said" in say(a, ("b", "batch", 1, 4.0, None, None))
    assert say((*a[:2], 0, None, None, None)) == ""


@pytest.mark.parametrize(
    "name", ["test_accuracy", "parameters_vs_macs", "final_accuracy", "hardest_images", "pareto"]
)
def test_the_same_data_give_the_same_bytes(name, studies, plotted):
    first = plotted(name, "quickstart")
    second = plot(name, studies["quickstart"], "second")
    for kind in FORMATS:
        one, two = (path.with_name(f"{name}.{kind}").read_bytes() for path in (first, second))
        assert one == two, kind


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_without_any_complete_run_says_so(name, tmp_path, monkeypatch):
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    status = {"resnet/none/seed0": "missing"}
    files = synthetic.aggregate(synthetic.write_study(tmp_path, "single", status=status))
    files = predicted(files) if ENTRIES[name].tables else files
    text = plot(name, files).with_name(f"{name}.svg").read_text()
    assert "no complete run" in text
    assert "1 of 1 runs missing: resnet/none/seed0 (failed)" in text


def test_missing_runs_are_named_in_the_figure(studies, monkeypatch):
    files = studies["quickstart"]
    monkeypatch.setitem(figures.STYLE, "svg.fonttype", "none")
    text = plot("test_accuracy", files, "text").with_name("test_accuracy.svg").read_text()
    assert "2 of 27 runs missing: vgg11/none/seed1 (diverged)" in text
    assert "Which network and norm end highest, and how soon?" in text
    assert text.index("no norm") < text.index("batch norm") < text.index("group norm")


def test_labels_move_apart_as_little_as_possible():
    np.testing.assert_allclose(spread([10, 50], 12, 0, 100), [10, 50])
    np.testing.assert_allclose(spread([50, 50], 12, 0, 100), [44, 56])
    np.testing.assert_allclose(spread([99, 20, 98], 12, 0, 100), [100, 20, 88])
    moved = spread(np.random.default_rng(0).uniform(0, 100, 8), 10, 0, 100)
    assert np.diff(np.sort(moved)).min() >= 10 - 1e-9


def test_text_wraps_within_its_width():
    lines = wrap("a few words that do not fit on one short line", 7, 1.0)
    assert len(lines) > 1
    assert all(text_width(line, 7) <= 1.0 for line in lines)


def test_words_in_colour_are_readable_and_colours_differ():
    for palette in (MODEL_COLOURS, NORM_COLOURS):
        for colour in palette.values():
            assert 1.05 / (luminance(Look(colour, "solid", "o").text_colour) + 0.05) >= 4.5
        assert len(set(palette.values())) == len(palette)


def colour_distance(*colours):
    """CIE 1976 colour difference: about 2 is the least that is seen side by side."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(np.array(to_xyz) @ linear.T / np.array([[0.9505], [1], [1.089]]))
    return np.linalg.norm(np.diff([116 * y, 500 * (x - y), 200 * (y - z)]))


@pytest.mark.parametrize("known", [MODEL_COLOURS, NORM_COLOURS])
def test_own_networks_and_norms_look_like_no_other(known):
    """The first norm of one's own had nearly group norm's blue, the second none's marker."""
    names = [*known, "mine", "yours", "theirs"]
    palette = figures.colours(names, known)
    for one, other in itertools.combinations(names, 2):
        assert colour_distance(palette[one], palette[other]) > 18, (one, other)
    markers = [marker for _, marker in figures.marks(names, known).values()]
    assert len(set(markers)) == len(names)


def test_an_unknown_configuration_in_a_table_is_refused(studies, tmp_path):
    study = read_study(studies["single"]["study"])
    assert list(configurations(study).index) == ["resnet/none"]
    path = tmp_path / "bands.csv"
    path.write_text("model,norm,metric\nresnet,batch,gap\n")
    with pytest.raises(InputError, match="resnet/batch is not a configuration"):
        read_table(path, study)
