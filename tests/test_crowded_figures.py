"""Figures of studies with many lines, values or configurations: nothing is hidden or covered."""

import importlib
import itertools
import json

import matplotlib.style
import pandas as pd
import pytest
from matplotlib.figure import Figure

import plot_final_accuracy_by_axis
import plot_parameters_vs_macs
import synthetic
from normres import figures, lines
from normres.tables import read_study, read_table, write_table


@pytest.fixture(autouse=True)
def style():
    with matplotlib.style.context(["default", figures.STYLE]):
        yield


def x_labels(place):
    """The extents of the labels of an x axis that are drawn, in pixels, from left to right."""
    place.figure.canvas.draw()
    return [label.get_window_extent() for label in place.get_xticklabels() if label.get_text()]


@pytest.mark.parametrize("count", [2, 3, 12, 25])
def test_ticks_of_an_axis_do_not_touch_and_some_are_there(count):
    figure = Figure(figsize=(2.5, 2))
    place = figure.add_axes((0.2, 0.2, figures.NARROW / 2.5, 0.6))
    rates = pd.Series([1e-5 * 2**i for i in range(count)])
    lines.set_ticks(place, rates, lines.Axis("learning rate", log=True))
    drawn = x_labels(place)
    assert len(drawn) > 1
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(drawn))


@pytest.mark.parametrize("values", [[0.001, 1000], [16], [1, 2, 4, 8]])
@pytest.mark.parametrize("norms", [1, 5, 9])
def test_marks_side_by_side_stay_within_the_panel(values, norms):
    names = [f"norm {i}" for i in range(norms)]
    looks = {name: figures.Look("#0072B2", "solid", "o") for name in names}
    cells = [{"line": name, "x": x} for name in names for x in values]
    rows = pd.DataFrame(cells).assign(mean=0.5, low=0.4, high=0.6)
    place, axis = Figure().add_subplot(), lines.Axis("x", log=True)
    lines.set_ticks(place, rows["x"], axis, len(looks))
    lines.draw_lines(place, rows, looks, axis, {name: {} for name in names})
    low, high = place.get_xlim()
    drawn = [x for line in place.get_lines() for x in line.get_xdata()]
    assert drawn and all(low < x < high for x in drawn)


def drawn(command, files, monkeypatch):
    """The figure of a command, as it is before it is saved."""
    made = []
    monkeypatch.setattr(figures, "save", lambda figure, *rest: made.append(figure))
    arguments = [f"--{name}={path}" for name, path in files.items()]
    importlib.import_module(command).main([*arguments, f"--out={files['study'].parent / 'x'}"])
    made[0].canvas.draw()
    return made[0]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A study of 25 configurations of each norm."""
    axes = {"batch_size": [8, 16, 32, 64, 128], "learning_rate": [1e-5, 3e-5, 1e-4, 3e-4, 1e-3]}
    plan = {"models": ["resnet"], "norms": ["none", "batch"], "seeds": 1, "epochs": 1, "axes": axes}
    folder = tmp_path_factory.mktemp("crowded")
    return synthetic.aggregate(synthetic.write_study(folder, "single", **plan))


def test_names_of_many_lines_neither_cover_each_other_nor_leave_the_panel(crowded, monkeypatch):
    figure = drawn("plot_test_accuracy", crowded, monkeypatch)
    for place in figure.axes:
        boxes = sorted((t.get_window_extent() for t in place.texts), key=lambda box: box.y0)
        assert len(boxes) == 25
        assert all(low.y1 < high.y0 + 1 for low, high in itertools.pairwise(boxes))
        assert all(place.bbox.y0 - 12 < box.y0 and box.y1 < place.bbox.y1 + 12 for box in boxes)
    notes = " ".join(text.get_text() for text in figure.texts)
    assert "numbers, where there is room: the last" in notes


@pytest.mark.parametrize(("classes", "scale"), [(12, False), (13, True)])
def test_a_share_is_told_by_its_number_or_by_a_scale_of_colours(
    classes, scale, crowded, tmp_path, monkeypatch
):
    names = [f"class {i}" for i in range(classes)]
    cells = {"model": "resnet", "norm": "none", "batch_size": 8, "learning_rate": 1e-5}
    pairs = pd.DataFrame(itertools.product(names, names), columns=["label", "predicted"])
    right = (pairs["label"] == pairs["predicted"]).astype(float)
    table = pairs.assign(**cells, images=9, n=1, mean=right, low=float("nan"), high=float("nan"))
    write_table(table, tmp_path / "confusion.csv")
    files = {**crowded, "confusion": tmp_path / "confusion.csv"}
    figure = drawn("plot_confusion", files, monkeypatch)
    (place,) = figure.axes
    notes = " ".join(text.get_text() for text in figure.texts)
    assert len(place.child_axes) == scale
    assert len(place.texts) == (0 if scale else classes)
    assert ("Colour and number" in notes) != scale


def test_many_configurations_at_one_spot_are_a_ring_with_their_number(crowded, monkeypatch):
    """Side by side, 50 dots would span what looks like other costs."""
    figure = drawn("plot_parameters_vs_macs", crowded, monkeypatch)
    place = figure.axes[0]
    marks = [line for line in place.get_lines() if line.get_marker() not in ("None", "")]
    listed = [line for line in marks if line.get_markersize() < 6]
    rings = [line.get_window_extent() for line in marks if line.get_markersize() > 7]
    assert len(listed) == 50 and len(rings) == 1 == len(marks) - len(listed)
    for low, high in (place.get_xlim(), place.get_ylim()):
        assert high / low > 15  # room for a factor of 4 on each side: the ring changes no limits
    assert "50" in [text.get_text() for text in place.texts]
    notes = " ".join(text.get_text() for text in figure.texts)
    assert "whose number is in a ring" in notes.replace("\n", " ")


def test_a_few_configurations_at_one_spot_stand_side_by_side(crowded, monkeypatch):
    monkeypatch.setattr(plot_parameters_vs_macs, "MOST_BESIDE", 50)
    figure = drawn("plot_parameters_vs_macs", crowded, monkeypatch)
    place = figure.axes[0]
    dots = [line for line in place.get_lines() if line.get_marker() not in ("None", "")]
    spot = [line.get_window_extent() for line in dots if line.get_markersize() > 6]
    assert len(spot) == 50
    assert all(place.bbox.x0 <= box.x0 and box.x1 <= place.bbox.x1 for box in spot)


def test_the_cheapest_of_several_that_cost_the_same_is_not_said_to_be_the_only_one(crowded):
    study = read_study(crowded["study"])
    table = read_table(crowded["summary"], study)
    drawn = table.assign(parameters_million=table["params"] / 1e6, macs_million=table["macs"] / 1e6)
    said = plot_parameters_vs_macs.cost_words(drawn, study)
    assert (
        "resnet, no norm, batch size 8, learning rate 1e-05 (the first of 25 with as few)," in said
    )
    assert "the first of" not in plot_parameters_vs_macs.cost_words(drawn.iloc[[0, 30]], study)


def test_long_titles_of_panels_use_the_room_beside_them_and_do_not_meet():
    title = "resnet, batch norm, convolution bias default, learning rate 0.001"
    rows = pd.DataFrame({"panel": [f"{title}{i}" for i in range(4)], "line": "a rather long name"})
    rows = rows.assign(x=1, mean=0.5, low=0.4, high=0.6, n=3)
    look = {"a rather long name": figures.Look("#0072B2", "solid", "o")}
    study = {"dataset": {"name": "d"}, "models": ["resnet"], "norms": ["none"], "seeds": [0]}
    options = {"question": "?", "study": study | {"axes": {}}, "notes": []}
    figure = lines.line_figure(rows, look, lines.Axis("x"), "y", columns=2, **options)
    figure.canvas.draw()
    titles = [place.title for place in figure.axes] + [place._left_title for place in figure.axes]
    titles = [text for text in titles if text.get_text()]
    assert all(text.get_size() > 6 for text in titles)
    boxes = [text.get_window_extent() for text in titles]
    assert all(boxes[i].x1 < boxes[i + 1].x0 for i in (0, 2))


def test_the_table_beside_a_figure_by_axis_has_what_its_panels_show(tmp_path):
    axes = {"batch_size": [8, 32], "pooling": ["sum", "mean"]}
    plan = {"models": ["resnet"], "norms": ["none"], "seeds": 1, "epochs": 1, "axes": axes}
    path = synthetic.write_study(tmp_path, "single", **plan)
    study = json.loads(path.read_text())  # one batch size alone is no line, and has no panel
    alone = {"batch_size": 8, "pooling": "mean"}
    study["runs"] = [run for run in study["runs"] if run["axes"] != alone]
    path.write_text(json.dumps(study))
    files = synthetic.aggregate(path)
    arguments = [f"--{name}={file}" for name, file in files.items()]
    plot_final_accuracy_by_axis.main(["--axis=batch_size", *arguments, f"--out={tmp_path / 'x'}"])
    shown = pd.read_csv(tmp_path / "x.csv")
    assert sorted(shown["batch_size"].unique()) == [8, 32]
    assert {*shown["pooling"]} == {"sum"}
