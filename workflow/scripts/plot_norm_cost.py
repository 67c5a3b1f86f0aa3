"""Draw what each norm costs in time on each layer shape: forward and backward.

    python workflow/scripts/plot_norm_cost.py --norm_cost results/S/norm_cost.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/norm_cost
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from normres import figures, rows
from normres.errors import run_command
from normres.options import option_schemas
from normres.parts import showing
from normres.tables import axis_text, norm_title

PARTS = ("median", "low", "high")
SHAPE = ["channels", "side", "batch_size"]
ROW = 0.32  # inches: height of a shape
MEASURED_WITH = ("batch_size", "precision", "cpu_threads")  # columns that are no norm's option
MORE_MARKERS = ("X", "*", "p")  # of a norm's further kinds; no norm's own


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in ms) and its finding."""
    drawn = tables.others["norm_cost"]
    drawn = drawn.assign(**{part: 1e3 * drawn[f"training_seconds_{part}"] for part in PARTS})
    drawn = drawn.sort_values(["layout", *SHAPE], kind="stable").reset_index(drop=True)
    drawn["label"] = [norm_words(row) for row in drawn.to_dict("records")]
    shapes = drawn[SHAPE].drop_duplicates().sort_values(SHAPE).apply(shape_text, axis=1).tolist()
    layouts = drawn["layout"].drop_duplicates().tolist()
    devices = ", ".join(sorted(drawn["device_name"].dropna().astype(str).unique()))
    figure, grid = figures.page(
        (1, max(1, len(layouts))),
        (max(2.3, legend_width(drawn["label"].unique())), ROW * max(3, len(shapes))),
        question="What does each norm cost in time, by layer shape?",
        study=tables.study,
        notes=[
            "Rows: images x channels x height x width of what is normalised. Mark and line: median "
            "time of forward and backward and its 95 % interval, alone on the device "
            f"({devices}); numbers are in norm_cost.csv. {figures.count_note(drawn['n'])}"
        ],
        seeds=False,
        above=0.42,
        below=0.42,
        left=0.15 + max([figures.text_width(text, figures.TEXT) for text in shapes], default=0),
        right=0.25,
    )
    for index, (place, layout) in enumerate(zip(grid[0], layouts, strict=False)):
        draw_panel(place, drawn[drawn["layout"] == layout], shapes, tables.study)
        scale(place, drawn["median"])
        place.set_yticks(range(len(shapes)), shapes if index == 0 else [])
        place.set_xlabel("time of forward and backward (ms)")
        title = str(layout).replace("_", " ")
        place.set_title(title, loc="left", size=figures.TEXT, weight="bold", pad=15)
    return figure, drawn, describe(drawn)


def draw_panel(place: Axes, own: pd.DataFrame, shapes: list[str], study: dict) -> None:
    """Draw a layout: shapes from small to large, the norms of a shape below each other."""
    rows.set_bands(place, len(shapes))
    looks = figures.looks(study, "norm")
    order = {norm: number for number, norm in enumerate(study["norms"])}
    kinds = own[["norm", "label"]].drop_duplicates()
    kinds = kinds.sort_values("norm", key=lambda norms: norms.map(order), kind="stable")
    same = kinds.groupby("norm").cumcount()  # of a norm: other options, other marks
    entries = []
    for number, (norm, label) in enumerate(kinds.itertuples(index=False)):
        rows_of = own[own["label"] == label]
        heights = rows_of.apply(shape_text, axis=1).map(shapes.index).astype(float)
        heights += 0.7 * (number - (len(kinds) - 1) / 2) / len(kinds)
        look = looks[norm]
        if same.iloc[number]:
            look = replace(look, marker=MORE_MARKERS[(same.iloc[number] - 1) % len(MORE_MARKERS)])
        style = {"color": look.colour, "ms": 3.5, "mec": "white", "mew": 0.3}
        # Of the study's cells only the norm: the batch here is that of the measurement.
        shown = {"norm": norm}
        entries.append((label, look, shown))
        with showing(place, shown):
            place.hlines(heights, rows_of["low"], rows_of["high"], color=look.colour, lw=1)
            place.plot(rows_of["median"], heights, look.marker, **style)
    rows.write_legend(place, entries, math.inf)  # the panel is as wide as the names


def norm_words(row: Mapping[str, Any]) -> str:
    """A norm's name, with those of its options that differ within the study."""
    options = [name for name in option_schemas() if name in row and name not in MEASURED_WITH]
    said = [
        f"{name.replace('_', ' ')} {axis_text(row[name])}"
        for name in options
        if pd.notna(row[name])
    ]
    return ", ".join([norm_title(row["norm"]), *said])


def legend_width(labels: Sequence[str]) -> float:
    """Inches that the names of all norms take above a panel."""
    return sum(rows.legend_entry_width(label) for label in labels)


def scale(place: Axes, medians: pd.Series) -> None:
    """A logarithmic axis around the medians, where there are any."""
    if medians.notna().any():
        place.set_xscale("log")
        low, high = medians.min() / 1.5, medians.max() * 1.5
        place.set_xlim(low, high)
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
        place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        place.xaxis.set_minor_locator(NullLocator())
    else:
        figures.say_empty(place, "not measured")


def shape_text(row: pd.Series) -> str:
    """What a layer normalises: images x channels x height x width."""
    return f"{row['batch_size']} x {row['channels']} x {row['side']} x {row['side']}"


def result_text(row: pd.Series) -> str:
    """A median, its interval and n."""
    interval = f" [{row['low']:.3g}, {row['high']:.3g}]" if pd.notna(row["low"]) else ""
    return f"{row['median']:.3g}{interval}, n = {row['n']:.0f}"


def describe(drawn: pd.DataFrame) -> str:
    """The cheapest and the dearest norm on the shape and layout with the most time."""
    found = drawn[drawn["median"].notna()]
    if found.empty:
        return ""
    most = found.loc[found["median"].idxmax()]
    shape = f"{shape_text(most)}, {str(most['layout']).replace('_', ' ')}"
    own = found[(found[[*SHAPE, "layout"]] == most[[*SHAPE, "layout"]]).all(axis=1)]
    ends = [own.loc[own["median"].idxmin()], own.loc[own["median"].idxmax()]]
    words = [f"{row['label']}, {result_text(row)}" for row in ends]
    return f"On {shape}, in ms: cheapest {words[0]}; dearest {words[1]}."


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "norm_cost").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
