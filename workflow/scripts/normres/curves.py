"""Figures of curves over training: one panel per norm, one line per configuration, every seed."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from normres import figures
from normres.figures import DASHES, MARKERS, Look, Tables
from normres.parts import cells_of, showing
from normres.tables import (
    axes_label,
    configuration_columns,
    norm_title,
    timing_repeats,
    untimed_configurations,
    with_gap,
)

GHOST = "#C4C4C4"
ZOOM = (0.38, 0.13, 0.6, 0.4)  # left, bottom, width and height in a panel, as shares of it
UNITS = [(600, 1, "s"), (36_000, 60, "min"), (math.inf, 3600, "h")]  # up to, seconds, name


@dataclass(frozen=True)
class Quantity:
    """What a curve figure shows: a metric of bands.csv and curves.csv, and how to draw it."""

    metric: str
    label: str  # of the y axis, with unit
    scale: float = 1.0  # drawn = scale * value
    format: str = "{:.1f}"  # of the value beside a line's end
    log: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)  # of the y axis, in drawn units
    zoom: bool = False  # draw the second half of training once more, larger, where there is room


@dataclass(frozen=True)
class Panel:
    """One panel: its title, and the label and look of each configuration it draws."""

    title: str
    lines: Mapping[str, tuple[str, Look]]
    ghosts: tuple[str, ...] = ()  # configurations in grey, for comparison
    cells: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of each of them


def draw_curves(
    tables: Tables,
    quantity: Quantity,
    question: str,
    against: str = "epoch",
    note: str = "",
    times: Mapping[float, str] | None = None,
    rings: pd.DataFrame | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw a quantity against "epoch" or "time"; return the figure and the rows it shows.

    times: ticks of a logarithmic axis of time: their seconds and names. rings: rows of bands.csv to
    mark; they are shown, too.
    """
    study = tables.study
    panels = arrange(tables.configurations, study)
    drawn = drawn_rows(tables, quantity)
    if against == "time":
        drawn = drawn[drawn["seconds"].notna()]
    if times is not None:
        drawn = drawn[drawn["seconds"] > 0]
    longest = drawn["seconds"].max()
    unit, unit_name = next((unit, name) for most, unit, name in UNITS if not longest > most)
    drawn["x"] = drawn["epoch"] if against == "epoch" else drawn["seconds"] / unit
    limits = y_limits(drawn, quantity)
    if ((drawn["low"] < limits[0]) | (drawn["high"] > limits[1])).any():
        note = f"Some bands run out of the panel. {note}".strip()
    count = drawn["n"].nunique() > 1
    ends = {
        name: end_label(drawn, name, label, quantity, count)
        for panel in panels
        for name, (label, _) in panel.lines.items()
    }
    right = 0.3 + max(figures.label_width(text) for *_, text in ends.values())
    columns = figures.fitting_columns(column_count(len(panels), study), right)
    size = (3.3, 2.3) if columns == 1 else (2.3, 2.1) if columns == 2 else (figures.NARROW, 2.0)
    most = max(len(panel.lines) for panel in panels)
    height = max(size[1], figures.names_height(most))
    crowded = not figures.numbers_fit(most, height)
    figure, axes = figures.page(
        (math.ceil(len(panels) / columns), columns),
        (size[0], height),
        question=question,
        study=study,
        notes=[explain(tables, panels, crowded, note), figures.missing_note(tables)],
        above=0.25 if len(panels) > 1 else 0.1,
        left=0.52 + 0.12 * quantity.label.count("\n"),
        right=right,
    )
    x_label = "epoch" if against == "epoch" else f"training time ({unit_name})"
    finish_axes(axes, len(panels), drawn, quantity, limits, x_label)
    if times is not None:
        for place in axes.flat:
            scale_time(place, drawn["x"], {time / unit: name for time, name in times.items()})
    zoom = zoomed(drawn, axes[0, 0]) if quantity.zoom else None
    for place, panel in zip(axes.flat, panels, strict=False):
        if len(panels) > 1:
            place.set_title(panel.title, loc="left", size=figures.TEXT, weight="bold", pad=4)
        draw_panel(place, panel, drawn)
        if not drawn["configuration"].isin(list(panel.lines)).any():
            of_panel = tables.summary["configuration"].isin(list(panel.lines))
            trained = tables.summary.loc[of_panel, "n"].gt(0).any()
            figures.say_empty(place, "not timed" if trained else "no complete run")
        if zoom is not None:
            draw_zoom(place, panel, zoom)
        labels = {n: (*ends[n], look) for n, (_, look) in panel.lines.items() if ends[n][2]}
        figures.label_ends(place, [*labels.values()], shows=[panel.cells[n] for n in labels])
    if rings is not None:
        rings = ring_rows(rings, drawn, quantity, unit)
        draw_rings(axes, panels, rings)
        drawn = pd.concat([drawn, rings])
    return figure, drawn.drop(columns="x")


def scale_time(place: Axes, x: pd.Series, ticks: Mapping[float, str]) -> None:
    """Make the x axis logarithmic, from the first epoch to the last, with named ticks."""
    place.set_xscale("log")
    place.set_xlim(*(x.min() / 1.1, x.max()) if len(x) else (min(ticks), max(ticks)))
    place.xaxis.set_major_locator(FixedLocator(list(ticks)))
    place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticks.get(value, "")))
    place.xaxis.set_minor_locator(NullLocator())
    if place.get_xlabel():
        place.set_xlabel("training time")


def ring_rows(
    rings: pd.DataFrame, drawn: pd.DataFrame, quantity: Quantity, unit: float
) -> pd.DataFrame:
    """Rows of bands.csv as a figure draws them, with the columns of `drawn` and their own."""
    rows = rings.rename(columns={"mean": "value"}).assign(x=rings["seconds"] / unit, status="ok")
    rows[["value", "low", "high"]] *= quantity.scale
    own = [column for column in rings if column not in ("mean", "sd", "metric", *drawn)]
    return rows[[column for column in drawn if column in rows] + own]


def draw_rings(axes: np.ndarray, panels: list[Panel], rings: pd.DataFrame) -> None:
    """Draw a ring around each of the points, in the panel where its line is."""
    for place, panel in zip(axes.flat, panels, strict=False):
        style = {"mfc": "none", "mec": figures.INK, "mew": 0.9, "clip_on": False, "zorder": 6}
        for name in panel.lines:
            rows = rings[rings["configuration"] == name]
            with showing(place, panel.cells[name]):
                place.plot(rows["x"], rows["value"], "o", ms=7.5, **style)


def column_count(panels: int, study: Mapping[str, Any]) -> int:
    """Columns of panels: one row of up to 4, else norms as columns where that makes a grid."""
    if panels <= 4:
        return panels
    return len(study["norms"]) if study["axes"] and 1 < len(study["norms"]) <= 4 else 3


def arrange(configurations: pd.DataFrame, study: Mapping[str, Any]) -> list[Panel]:
    """Distribute configurations over panels.

    Without axes: one panel per norm, one line per model. With axes: one panel per model and norm,
    and the axis values are lines in shades of one colour. With one model, the other norms stand by
    in grey.
    """
    several = len(study["models"]) > 1
    cells = {name: cells_of(row, study) for name, row in configurations.iterrows()}
    panels = []
    for models, norm in itertools.product(
        [[model] for model in study["models"]] if study["axes"] else [study["models"]],
        study["norms"],
    ):
        members = configurations[
            configurations["model"].isin(models) & (configurations["norm"] == norm)
        ]
        if members.empty:  # the study excludes it
            continue
        lines = axis_lines(members, study) if study["axes"] else model_lines(members, study)
        title = ", ".join([*(models if several and study["axes"] else []), norm_title(norm)])
        compare = not several and not study["axes"]
        others = configurations.index[~configurations.index.isin(members.index)]
        panels.append(Panel(title, lines, tuple(others) if compare else (), cells))
    return panels


def base_colour(row: pd.Series, study: Mapping[str, Any]) -> str:
    """A configuration's colour: its model's where models are compared, else its norm's."""
    if len(study["models"]) > 1:
        return figures.colours(study["models"], figures.MODEL_COLOURS)[row["model"]]
    return figures.colours(study["norms"], figures.NORM_COLOURS)[row["norm"]]


def model_lines(members: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, tuple[str, Look]]:
    """One line per model; its label is empty where there is only one."""
    lines, marked = {}, figures.marks(study["models"], figures.MODEL_COLOURS)
    for name, row in members.iterrows():
        look = Look(base_colour(row, study), *marked[row["model"]])
        lines[name] = (row["model"] if len(study["models"]) > 1 else "", look)
    return lines


def axis_lines(members: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, tuple[str, Look]]:
    """One line per combination of axis values, from pale to full colour."""
    lines, last = {}, len(members) - 1
    for index, (name, row) in enumerate(members.iterrows()):
        pale = 0.45 * (last - index) / max(1, last)
        colour = figures.mix(base_colour(row, study), "#FFFFFF", pale)
        look = Look(colour, DASHES[index % 5], MARKERS[index % 6])
        lines[name] = (axes_label(row, study), look)
    return lines


def drawn_rows(tables: Tables, quantity: Quantity) -> pd.DataFrame:
    """The rows a figure shows: series "mean" from bands.csv, "seed" from curves.csv, scaled.

    A diverged run is drawn to its last finite value; failed runs are not drawn. `seconds` are those
    of timing.csv, the same for all seeds: those of the runs themselves (`train_seconds`) compare
    nothing where several shared the machine.
    """
    means = tables.bands[tables.bands["metric"] == quantity.metric].rename(
        columns={"mean": "value"}
    )
    seeds = tables.curves[tables.curves["status"] != "failed"]
    pace = tables.summary.set_index("configuration")["seconds_per_epoch_median"]
    seeds = seeds.assign(seconds=seeds["epoch"] * seeds["configuration"].map(pace).astype(float))
    seeds = seeds.assign(value=with_gap(seeds)[quantity.metric])
    seeds = seeds[np.isfinite(seeds["value"])]
    rows = pd.concat([means.assign(series="mean", status="ok"), seeds.assign(series="seed")])
    rows = rows.sort_values(["configuration", "series", "seed", "epoch"], kind="stable")
    rows = rows.assign(seed=rows["seed"].astype("Int64"), n=rows["n"].astype("Int64"))
    rows[["value", "low", "high"]] *= quantity.scale
    columns = [*configuration_columns(tables.study), "series", "seed", "status", "epoch", "seconds"]
    return rows[[*columns, "n", "value", "low", "high", "configuration"]]


def end_label(
    drawn: pd.DataFrame, name: str, label: str, quantity: Quantity, count: bool
) -> tuple[float, float, str]:
    """Where a configuration's mean ends, and the text to write there; no text without a mean."""
    mean = drawn[(drawn["configuration"] == name) & (drawn["series"] == "mean")]
    if mean.empty:
        return math.nan, math.nan, ""
    last = mean.iloc[-1]
    text = figures.end_text(label, last, "value", count=count, form=quantity.format)
    return last["x"], last["value"], text


def draw_panel(axes: Axes, panel: Panel, drawn: pd.DataFrame) -> None:
    """Draw the lines of one panel: others in grey, bands, seeds, means on top."""
    for name in panel.ghosts:
        mean = drawn[(drawn["configuration"] == name) & (drawn["series"] == "mean")]
        with showing(axes, panel.cells[name]):
            axes.plot(mean["x"], mean["value"], color=GHOST, lw=0.8)
    for name, (_, look) in panel.lines.items():
        with showing(axes, panel.cells[name]):
            draw_configuration(axes, drawn[drawn["configuration"] == name], look)


def draw_configuration(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    """Draw a configuration's band, seeds, diverged ends and mean."""
    mean, seeds = rows[rows["series"] == "mean"], rows[rows["series"] == "seed"]
    strength = 0.16 if (mean["n"] > 2).any() else 0.07  # two seeds: t is 12.7, and a band hides all
    axes.fill_between(mean["x"], mean["low"], mean["high"], color=look.colour, alpha=strength, lw=0)
    # One collection, as a study may have thousands of seeds; rows are sorted by seed.
    numbers, points = seeds["seed"].to_numpy(int), seeds[["x", "value"]].to_numpy(float)
    paths = np.split(points, np.flatnonzero(np.diff(numbers)) + 1)
    thin = LineCollection(paths, colors=look.colour, linewidths=0.5, alpha=0.55, zorder=2)
    axes.add_collection(thin, autolim=False)
    for _, seed in seeds[seeds["status"] == "diverged"].groupby("seed"):
        x, y = seed[["x", "value"]].iloc[-1]
        axes.plot(x, y, "x", color=look.text_colour, ms=4, clip_on=False)
    axes.plot(mean["x"], mean["value"], color=look.colour, lw=1.5, ls=look.dash)
    x, y = mean["x"].iloc[-1:], mean["value"].iloc[-1:]
    axes.plot(x, y, look.marker, color=look.colour, ms=3.6, clip_on=False, zorder=5)


def zoomed(drawn: pd.DataFrame, axes: Axes) -> pd.DataFrame | None:
    """The second half of training, or None where a larger drawing adds nothing or has no room."""
    half = drawn["x"].max() / 2
    late = drawn[(drawn["x"] >= half) & (drawn["status"] == "ok")]
    low, high = axes.get_ylim()
    left, bottom, _, tall = ZOOM
    right_of, below = left * 2 * half, low + (bottom + tall + 0.06) * (high - low)
    in_the_way = ((drawn["x"] > right_of * 0.8) & (drawn["value"] < below)).any()
    small = late["value"].max() - late["value"].min() < (high - low) / 4
    return late if small and not in_the_way and late["epoch"].nunique() > 5 else None


def draw_zoom(axes: Axes, panel: Panel, late: pd.DataFrame) -> None:
    """Draw the second half of training in the panel's lower right corner."""
    inset = axes.inset_axes(ZOOM)
    draw_panel(inset, panel, late)
    low, high = late["value"].min(), late["value"].max()
    inset.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    inset.set_xlim(late["x"].min(), late["x"].max())
    first, last = late["epoch"].min(), late["epoch"].max()
    inset.set_title(
        f"zoom: epochs {first} to {last}", loc="left", size=6, color=figures.FAINT, pad=2
    )
    inset.tick_params(labelsize=6, pad=1.5)
    inset.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    inset.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def y_limits(drawn: pd.DataFrame, quantity: Quantity) -> tuple[float, float]:
    """Limits that hold all means and seeds; a wide interval of few seeds may run out of them."""
    values = drawn["value"][drawn["value"] > 0] if quantity.log else drawn["value"]
    if quantity.log:
        return (values.min() / 1.25, values.max() * 1.25) if len(values) else (0.1, 1.0)
    return y_limits_of(values, quantity.bounds)


def y_limits_of(values: pd.Series, bounds: tuple[float, float]) -> tuple[float, float]:
    """Limits of a linear axis around `values`, with some room, within `bounds`."""
    values = values.dropna()
    if values.empty:
        return (0.1, 1.0)
    low, high = values.min(), values.max()
    edge = 0.05 * (high - low) or 1.0
    return max(low - edge, bounds[0]), min(high + edge, bounds[1])


def finish_axes(
    axes: np.ndarray,
    panels: int,
    drawn: pd.DataFrame,
    quantity: Quantity,
    limits: tuple[float, float],
    x_label: str,
) -> None:
    """Limits, ticks and axis labels: shared by all panels, so labelled at the left and bottom."""
    columns = axes.shape[1]
    for index, place in enumerate(axes.flat):
        place.set_visible(index < panels)
        place.set_xlim(0, drawn["x"].max() if len(drawn) else 1)
        if quantity.log:
            place.set_yscale("log", nonpositive="clip")
            subs = (1.0, 2.0, 5.0) if limits[1] / limits[0] < 300 else (1.0,)
            place.yaxis.set_major_locator(LogLocator(subs=subs))
            place.yaxis.set_minor_formatter(NullFormatter())
            place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            place.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
            if limits[0] < 0 < limits[1]:
                place.axhline(0, color="#888888", lw=0.6, zorder=0.9)
        place.set_ylim(limits)
        place.xaxis.set_major_locator(
            MaxNLocator(5, integer=x_label == "epoch", steps=[1, 2, 5, 10])
        )
        if index % columns:
            place.tick_params(labelleft=False)
        else:
            place.set_ylabel(quantity.label)
        if index + columns < panels:
            place.tick_params(labelbottom=False)
        else:
            place.set_xlabel(x_label)


def explain(tables: Tables, panels: list[Panel], crowded: bool, note: str) -> str:
    """The footnote that says what is drawn; crowded: not all panels have room for numbers."""
    numbers = "numbers, where there is room" if crowded else "numbers"
    parts = [
        "Line: mean over seeds; band: pointwise 95 % interval of the mean; thin lines: single "
        f"seeds; {numbers}: mean of the last epoch and its interval. "
        f"{figures.count_note(tables.summary['n'])}"
    ]
    if len(tables.study["seeds"]) == 1:
        parts = [f"Line: the only seed (n = 1), so no interval; {numbers}: the last epoch."]
    if (tables.summary["n"] == 2).any():
        parts.append("Bands of two seeds are wide, and paler.")
    if any(panel.ghosts for panel in panels):
        parts.append("Grey: means of the other norms.")
    if (tables.curves["status"] == "diverged").any():
        parts.append("Cross: where a run diverged (in no mean).")
    return " ".join([*parts, note]).strip()


def time_note(tables: Tables) -> str:
    """Where the times come from, and which configurations have none."""
    summary, note = tables.summary, ""
    if repeats := timing_repeats(summary):
        devices = sorted(summary["timing_device"].dropna().unique())
        note = (
            "Time: epochs times the seconds of an epoch (training alone, without evaluation), "
            f"measured with nothing else on the device ({', '.join(devices)}); median of "
            f"{repeats} repeats (timing.csv)."
        )
    untimed = untimed_configurations(summary, tables.study)
    return f"{note} {untimed}.".strip() if untimed else note
