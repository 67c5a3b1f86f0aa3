"""Draw accuracy against confidence, in bins of it: one panel per norm, one line per network.

    python workflow/scripts/plot_reliability.py --reliability results/S/reliability.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/reliability

With axes, one panel per network and norm, one line per axis value (after Guo et al. 2017, figure
1).
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from normres import figures
from normres.curves import Panel, arrange, column_count
from normres.errors import run_command
from normres.findings import estimate_words
from normres.parts import showing
from normres.report_tables import configuration_label
from normres.tables import configuration_columns

PARTS = ["mean", "low", "high"]
LEAST = 1  # % of the test images: the accuracy of rarer confidences is noise


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    study, table = tables.study, tables.others["reliability"]
    common = (table["n"] > 0) & (100 * table["share_mean"] >= LEAST)
    drawn = table[common].sort_values(["configuration", "bin"])
    percent = {part: 100 * drawn[f"accuracy_{part}"].astype(float) for part in PARTS}
    drawn = drawn.assign(
        **percent, x=100 * drawn["confidence_mean"], share=100 * drawn["share_mean"]
    )
    panels = arrange(tables.configurations, study)
    names = [label for panel in panels for label, _ in panel.lines.values()]
    right = 0.3 + max(figures.label_width(name) for name in names)
    columns = figures.fitting_columns(column_count(len(panels), study), right)
    side = 2.6 if columns == 1 else 2.2 if columns == 2 else 1.8
    most = max(len(panel.lines) for panel in panels)
    figure, axes = figures.page(
        (math.ceil(len(panels) / columns), columns),
        (side, max(side, figures.names_height(most))),
        question="Is confidence right, and where is it not?",
        study=study,
        notes=[
            "Mark and bar: accuracy on the test images of a bin of confidence (15 of equal width), "
            "mean over seeds and its 95 % interval, at the bin's mean confidence. Bins with fewer "
            f"than {LEAST} % of the images are not drawn. Dashed: confidence is right; below it is "
            f"too high. {figures.count_note(drawn['n'])}",
            figures.missing_note(tables),
        ],
        left=0.5,
        right=right,
    )
    for index, place in enumerate(axes.flat):
        place.set_visible(index < len(panels))
        finish_axes(place, index % columns == 0, index + columns >= len(panels))
    for place, panel in zip(axes.flat, panels, strict=False):
        if len(panels) > 1:
            place.set_title(panel.title, loc="left", size=figures.TEXT, weight="bold", pad=4)
        draw_panel(place, panel, drawn)
    kept = [*configuration_columns(study), "configuration", "bin", "n", "x", "share", *PARTS]
    shown = drawn[kept].rename(columns={"x": "confidence"})
    return figure, shown, describe(drawn, study)


def finish_axes(place: Axes, left: bool, lowest: bool) -> None:
    """Both axes from 0 to 100 %, labelled at the left and bottom, and the diagonal."""
    place.set(xlim=(0, 100), ylim=(0, 100))
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    place.plot([0, 100], [0, 100], color="#888888", lw=0.8, ls=(0, (4, 2)))
    place.tick_params(labelleft=left, labelbottom=lowest)
    place.set_ylabel("accuracy (%)" if left else "")
    place.set_xlabel("confidence (%)" if lowest else "")


def draw_panel(place: Axes, panel: Panel, drawn: pd.DataFrame) -> None:
    """Draw the lines of one panel."""
    ends, shows = [], []
    for name, (label, look) in panel.lines.items():
        own = drawn[drawn["configuration"] == name]
        if own.empty:
            continue
        with showing(place, panel.cells[name]):
            place.vlines(own["x"], own["low"], own["high"], color=look.colour, lw=1, alpha=0.8)
            place.plot(own["x"], own["mean"], color=look.colour, ls=look.dash, lw=1.2)
            style = {"color": look.colour, "ms": 4, "mec": "white", "mew": 0.4}
            place.plot(own["x"], own["mean"], look.marker, clip_on=False, **style)
        ends.append((*own[["x", "mean"]].iloc[-1], label, look))
        shows.append(panel.cells[name])
    if not ends:
        figures.say_empty(place)
    labelled = [i for i, (_, _, label, _) in enumerate(ends) if label]
    figures.label_ends(place, [ends[i] for i in labelled], shows=[shows[i] for i in labelled])


def describe(drawn: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """The bin that lies farthest from the diagonal."""
    if drawn.empty:
        return ""
    row = drawn.loc[(drawn["mean"] - drawn["x"]).abs().idxmax()]
    way = "below" if row["mean"] < row["x"] else "above"
    return (
        f"Farthest from right, of bins with {LEAST} % of the images or more: "
        f"{configuration_label(row, study)}, at a mean confidence of {row['x']:.0f} %: "
        f"accuracy {estimate_words(row, 'mean', unit='%')}, {way} it; chosen after the fact."
    )


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "reliability").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
