"""Draw the accuracy on the test images of each class: one panel per norm, one mark per network.

    python workflow/scripts/plot_class_accuracy.py --classes results/S/classes.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/class_accuracy

With axes, one panel per network and norm, one mark per axis value. Of many classes, the hardest are
shown.
"""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normres import figures, rows
from normres.curves import Panel, arrange, column_count
from normres.errors import run_command
from normres.findings import estimate_words
from normres.parts import showing
from normres.report_tables import configuration_label
from normres.tables import configuration_columns

MOST_CLASSES = 20
ROW, HIGHEST_ROW = 0.19, 0.5  # inches: height of a class
BESIDE = 0.2  # inches: room right of a panel
PARTS = ["mean", "low", "high"]


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    study = tables.study
    classes = tables.others["classes"]
    classes = classes.assign(**{part: 100 * classes[part].astype(float) for part in PARTS})
    measured = classes[classes["n"] > 0]
    order = measured.groupby("label", sort=False)["mean"].mean().sort_values(kind="stable")
    shown = order.index[:MOST_CLASSES].tolist()
    drawn = measured[measured["label"].isin(shown)]
    panels = arrange(tables.configurations, study)
    columns, width, legend = lay_out_legends(panels, study)
    marks = max((len(panel.lines) for panel in panels), default=0)
    row = min(HIGHEST_ROW, max(ROW, 0.07 + 0.05 * marks))
    figure, axes = figures.page(
        (math.ceil(len(panels) / columns), columns),
        (width, max(1.0, row * len(shown))),
        question="Which classes are hard, and for which configuration?",
        study=study,
        notes=[note(tables, len(order)), figures.missing_note(tables)],
        above=0.28 + legend,
        below=0.42,
        left=0.15 + max([figures.text_width(name, figures.TEXT) for name in shown], default=0),
        right=BESIDE,
    )
    low, high = rows.limits(drawn["mean"].to_numpy(float))
    for index, (place, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        draw_panel(place, panel, drawn, shown, width)
        place.set_xlim(max(0, low), min(100, high))
        place.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        place.set_yticks(range(len(shown)), shown if index % columns == 0 else [])
        if index + columns >= len(panels):
            place.set_xlabel("accuracy on the class (%)")
        else:
            place.tick_params(labelbottom=False)
        title = panel.title if len(panels) > 1 else ""
        pad = 72 * (0.07 + legend)
        place.set_title(title, loc="left", size=figures.TEXT, weight="bold", pad=pad)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    kept = [*configuration_columns(study), "configuration", "label", "images", "n", *PARTS]
    return figure, drawn[kept], describe(measured, study)


def lay_out_legends(panels: list[Panel], study: dict) -> tuple[int, float, float]:
    """Columns of panels, the width of a panel and the room for the legends above them, in inches.

    A panel is as wide as the longest name in its legend, if need be in fewer columns.
    """
    columns = column_count(len(panels), study)
    labels = [[label for label, _ in panel.lines.values() if label] for panel in panels]
    least = 4.4 if columns == 1 else 1.9
    width = max([least, *(rows.legend_entry_width(label) for own in labels for label in own)])
    columns = max(1, min(columns, int(figures.WIDEST / (width + BESIDE))))
    columns = math.ceil(len(panels) / math.ceil(len(panels) / columns))  # rows of equal length
    lines = max((len(rows.legend_lines(own, width)) for own in labels), default=0)
    return columns, width, rows.LEGEND_LINE * max(1, lines)


def draw_panel(
    place: Axes, panel: Panel, drawn: pd.DataFrame, shown: list[str], width: float
) -> None:
    """Draw the classes from the hardest down, the configurations of a class below each other."""
    rows.set_bands(place, len(shown))
    count = len(panel.lines)
    for number, (name, (label, look)) in enumerate(panel.lines.items()):
        own = drawn[drawn["configuration"] == name]
        heights = own["label"].map({label: i for i, label in enumerate(shown)}).astype(float)
        heights += 0.6 * (number - (count - 1) / 2) / count
        # The limits hold all means, so that no mark at 0 or 100 % has to be cut.
        style = {"color": look.colour, "ms": 3.2, "mec": "white", "mew": 0.3, "clip_on": False}
        with showing(place, panel.cells[name]):
            place.hlines(heights, own["low"], own["high"], color=look.colour, lw=0.9)
            place.plot(own["mean"], heights, look.marker, **style)
    entries = [(label, look, panel.cells[name]) for name, (label, look) in panel.lines.items()]
    rows.write_legend(place, [entry for entry in entries if entry[0]], width)
    if not drawn["configuration"].isin(list(panel.lines)).any():
        figures.say_empty(place)


def note(tables: figures.Tables, classes: int) -> str:
    """What is drawn, and what is not."""
    parts = [
        "Mark and line: mean over seeds of the accuracy on the test images of the class, and its "
        "95 % interval (not drawn beyond the panel); the hardest class is on top."
    ]
    if classes > MOST_CLASSES:
        parts.append(f"The {MOST_CLASSES} hardest of {classes} classes.")
    parts.append(figures.count_note(tables.others["classes"]["n"]))
    left_out = tables.others["classes"].drop_duplicates("configuration")["left_out"].sum()
    if left_out:
        parts.append(f"{int(left_out)} runs trained on and have no logits of the last epoch.")
    return " ".join(parts)


def describe(measured: pd.DataFrame, study: dict) -> str:
    """The lowest accuracy on a class, and the highest, of all classes."""
    found = measured[measured["mean"].notna()]
    if found.empty:
        return ""
    ends = [found.loc[found["mean"].idxmin()], found.loc[found["mean"].idxmax()]]
    lowest, highest = (
        f"{row['label']!r} by {configuration_label(row, study)}, "
        f"{estimate_words(row, 'mean', unit='%')}, on {int(row['images'])} images"
        for row in ends
    )
    return f"Lowest mean accuracy on a class: {lowest}; highest: {highest}."


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "classes").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
