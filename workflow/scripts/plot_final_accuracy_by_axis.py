"""Draw test accuracy after the last epoch against an axis of the study whose values are numbers.

    python workflow/scripts/plot_final_accuracy_by_axis.py --axis batch_size \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/final_accuracy_by_batch_size

One line per norm (or a network, where there is one norm), a panel for all else that the study
compares; the axis is logarithmic where its values are positive and span a factor of 8, as in Wu &
He (2018, "Group Normalization", figure 1). A configuration to which the axis does not apply is a
level line.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normres import figures
from normres.curves import y_limits_of
from normres.errors import InputError, run_command
from normres.figures import Look
from normres.findings import extreme_words
from normres.lines import set_numbers, shifts, title_size
from normres.parts import shared_cells, showing
from normres.tables import axis_label, axis_text, configuration_columns, norm_title

MEAN = "test_accuracy_mean"


def draw(tables: figures.Tables, axis: str) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    study = tables.study
    positions = place_values(study, axis)
    lines = "norm" if len(study["norms"]) > 1 else "model"
    drawn = drawn_rows(tables, axis, positions)
    split = [c for c in configuration_columns(study) if c not in (axis, lines)]
    panels = panel_rows(drawn, split)
    looks = figures.looks(study, lines)
    count = drawn.loc[drawn["value"].notna(), "n"].nunique() > 1
    ends = [end_labels(rows, lines, looks, study, count) for _, rows in panels]
    texts = [text for labels in ends for _, _, text, _ in labels.values()] + [""]
    right = 0.3 + max(figures.label_width(text) for text in texts)
    columns = figures.fitting_columns(min(4, len(panels)), right)
    size = (3.3, 2.4) if columns == 1 else (2.2, 2.1) if columns == 2 else (figures.NARROW, 1.9)
    figure, grid = figures.page(
        (math.ceil(len(panels) / columns), columns),
        (size[0], max(size[1], figures.names_height(len(looks)))),
        question=f"How does the accuracy depend on the {axis.replace('_', ' ')}?",
        study=study,
        notes=[
            "Mark and bar: mean after the last epoch and its 95 % interval (Student's t); small "
            "dots: single seeds; numbers: the mean at the right end and its interval. "
            f"{figures.count_note(drawn['n'].dropna())} Intervals may run out of the panel.",
            figures.missing_note(tables),
        ],
        above=0.36 if len(panels) > 1 else 0.1,
        left=0.5,
        right=right,
    )
    limits = y_limits_of(drawn["value"], (0, 100))
    for index, place in enumerate(grid.flat):
        place.set_visible(index < len(panels))
        set_numbers(place, [*positions.values()], [*positions], len(looks))
        place.set_ylim(limits)
        place.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        lowest = index + columns >= len(panels)
        place.tick_params(labelleft=index % columns == 0, labelbottom=lowest)
        place.set_xlabel(axis.replace("_", " ") if lowest else "")
        if index % columns == 0:
            place.set_ylabel("test accuracy (%)")
    points = title_size([title for title, _ in panels], grid[0, 0], right)
    for place, (title, rows), labels in zip(grid.flat, panels, ends, strict=False):
        if len(panels) > 1:
            place.set_title(title, loc="left", size=points, weight="bold", pad=8)
        shared = {name: shared_cells(rows[rows[lines] == name], study) for name in looks}
        draw_panel(place, rows, lines, looks, positions, shared)
        figures.label_ends(place, [*labels.values()], shows=[shared[n] for n in labels])
    finding = extreme_words(
        tables.summary, study, MEAN, "Highest mean test accuracy", scale=100, unit="%"
    )
    shown = pd.concat([rows for _, rows in panels])
    return figure, shown.drop(columns=["x", "configuration"]), finding


def place_values(study: Mapping[str, Any], axis: str) -> dict[str, float]:
    """Where each value of the axis stands: by its logarithm, else by itself.

    Raises InputError where the study has no such axis or its values are not numbers.
    """
    values = study["axes"].get(axis, [])
    if not values or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        numbers = [
            name for name, v in study["axes"].items() if all(isinstance(x, int | float) for x in v)
        ]
        raise InputError(
            f"--axis {axis}: not an axis of numbers of study {study['study']!r}; "
            f"it has: {', '.join(numbers) or 'none'}"
        )
    values = sorted(values)
    if values[0] > 0 and values[-1] / values[0] >= 8:
        return {axis_text(value): math.log2(value) for value in values}
    return {axis_text(value): float(value) for value in values}


def drawn_rows(tables: figures.Tables, axis: str, positions: Mapping[str, float]) -> pd.DataFrame:
    """Means with intervals and complete seeds, in %, with the place `x` of their axis value."""
    columns = [*configuration_columns(tables.study), "configuration"]
    parts = {MEAN: "value", "test_accuracy_low": "low", "test_accuracy_high": "high"}
    means = tables.summary.rename(columns=parts)[[*columns, "n", "value", "low", "high"]]
    seeds = tables.runs[tables.runs["status"] == "ok"].rename(columns={"test_accuracy": "value"})
    rows = pd.concat(
        [means.assign(series="mean"), seeds[[*columns, "seed", "value"]].assign(series="seed")],
        ignore_index=True,
    )
    rows[["value", "low", "high"]] *= 100
    return rows.assign(
        x=rows[axis].map(positions).astype(float),
        seed=rows["seed"].astype("Int64"),
        n=rows["n"].astype("Int64"),
    )


def panel_rows(drawn: pd.DataFrame, split: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each panel, with its title: what differs in `split` between panels."""
    compared = [column for column in split if drawn[column].nunique(dropna=False) > 1]
    if not compared:
        return [("", drawn)]
    order = drawn.sort_values("configuration")[compared].drop_duplicates()
    found = []
    for _, key in order.iterrows():
        rows = drawn[((drawn[compared] == key) | (drawn[compared].isna() & key.isna())).all(axis=1)]
        names = [
            value
            if column == "model"
            else norm_title(value)
            if column == "norm"
            else axis_label(column, value)
            for column, value in key.items()
            if pd.notna(value)
        ]
        found.append((", ".join(names), rows))
    several = [panel for panel in found if panel[1]["x"].nunique() > 1]  # one point is no line
    return several or found


def end_labels(
    rows: pd.DataFrame,
    lines: str,
    looks: Mapping[str, Look],
    study: Mapping[str, Any],
    count: bool,
) -> dict[str, tuple[float, float, str, Look]]:
    """Where each line ends, and what stands there, by its norm or model; `count`: n, too."""
    means = rows[(rows["series"] == "mean") & rows["value"].notna()].sort_values("x")
    several = len(study[f"{lines}s"]) > 1
    ends = {}
    for name, look in looks.items():
        own = means[means[lines] == name]
        if len(own):
            last = own.iloc[own["x"].argmax() if own["x"].notna().any() else 0]
            title = norm_title(name) if lines == "norm" else name
            text = figures.end_text(title if several else "", last, "value", count=count)
            ends[name] = (last["x"], last["value"], text, look)
    most = max((x for x, *_ in ends.values() if not math.isnan(x)), default=0.0)
    return {n: (most if math.isnan(x) else x, *rest) for n, (x, *rest) in ends.items()}


def draw_panel(
    place: Axes,
    rows: pd.DataFrame,
    lines: str,
    looks: Mapping[str, Look],
    positions: Mapping[str, float],
    shared: Mapping[str, Mapping[str, str]],
) -> None:
    """Draw the lines of one panel, a little beside each other so that all intervals are seen."""
    aside = shifts([*positions.values()], len(looks))
    for shift, (name, look) in zip(aside, looks.items(), strict=True):
        own = rows[rows[lines] == name].sort_values("x")
        with showing(place, shared[name]):
            draw_line(place, own.assign(x=own["x"] + shift), look)
    if rows.loc[rows["series"] == "mean", "value"].isna().all():
        figures.say_empty(place)


def draw_line(place: Axes, rows: pd.DataFrame, look: Look) -> None:
    """Draw one line: seeds, intervals and means; a level one where the axis does not apply."""
    means, seeds = (rows[rows["series"] == series] for series in ("mean", "seed"))
    for value in means.loc[means["x"].isna(), "value"].dropna():
        place.axhline(value, color=look.colour, lw=1, ls=(0, (1, 2)))
    means = means[means["x"].notna()]
    small = {"ms": 2, "mfc": "none", "mec": look.colour, "mew": 0.5, "alpha": 0.7}
    place.plot(seeds["x"], seeds["value"], "o", **small)
    place.vlines(means["x"], means["low"], means["high"], color=look.colour, lw=1.2)
    place.plot(means["x"], means["value"], color=look.colour, ls=look.dash, lw=1.2)
    large = {"ms": 4, "mec": "white", "mew": 0.5, "zorder": 4}
    place.plot(means["x"], means["value"], look.marker, color=look.colour, **large)


def main(argv: list[str] | None = None) -> int | None:
    parser = figures.parser(__doc__)
    parser.add_argument("--axis", required=True, help="an axis of the study, like batch_size")
    arguments = parser.parse_args(argv)
    figures.render(partial(draw, axis=arguments.axis), arguments)


if __name__ == "__main__":
    run_command(main)
