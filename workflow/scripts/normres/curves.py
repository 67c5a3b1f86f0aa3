"""Figures of curves over training: a panel a norm, a line a configuration, every seed visible."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from normres import figures
from normres.figures import DASHES, MARKERS, Look, Tables
from normres.tables import axes_label, configuration_columns

GHOST = Look("#B5B5B5", "solid", "o")
UNITS = [(600, 1, "s"), (36_000, 60, "min"), (math.inf, 3600, "h")]  # up to, seconds, name


@dataclass(frozen=True)
class Quantity:
    """What a curve figure shows: a metric of bands.csv, its column in curves.csv, how to draw it."""

    metric: str
    label: str  # of the y axis, with unit
    scale: float = 1.0  # drawn = scale * value
    format: str = "{:.1f}"  # of the value beside a line's end
    log: bool = False
    least: float = 0.0  # the span that the y axis covers at least, in drawn units
    bounds: tuple[float, float] = (-math.inf, math.inf)  # in drawn units


@dataclass(frozen=True)
class Panel:
    """One panel: its title, and the label and look of each configuration it draws."""

    title: str
    lines: Mapping[str, tuple[str, Look]]
    ghosts: tuple[str, ...] = ()  # configurations in grey, for comparison


def draw_curves(
    tables: Tables, quantity: Quantity, question: str, against: str = "epoch", note: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """Draw a quantity against "epoch" or "time"; return the figure and the rows it shows."""
    study = tables.study
    panels = arrange(tables.configurations, study)
    drawn = drawn_rows(tables, quantity)
    longest = drawn["seconds"].max() if len(drawn) else 0
    unit, unit_name = next((unit, name) for most, unit, name in UNITS if longest <= most)
    drawn["x"] = drawn["epoch"] if against == "epoch" else drawn["seconds"] / unit
    ends = {name: end_label(drawn, name, label, quantity) for panel in panels
            for name, (label, _) in panel.lines.items()}
    columns = len(panels) if len(panels) <= 4 else len(study["norms"]) if study["axes"] else 3
    figure, axes = figures.page(
        (math.ceil(len(panels) / columns), columns),
        (3.3, 2.3) if columns == 1 else (2.3, 2.1) if columns == 2 else (1.75, 2.0),
        question=question,
        study=study,
        notes=[explain(tables, panels, note), figures.missing_note(tables)],
        left=0.52,
        right=0.3 + max(figures.text_width(text, figures.TEXT) for *_, text in ends.values()),
    )
    limits = y_limits(drawn, quantity)
    for place, panel in zip(axes.flat, panels, strict=False):
        draw_panel(place, panel, drawn, ends)
        place.set_ylim(limits)
        place.set_xlim(0, drawn["x"].max() if len(drawn) else 1)
        labels = [(*ends[name][:2], ends[name][2], look)
                  for name, (_, look) in panel.lines.items() if ends[name][2]]
        figures.label_ends(place, labels)
    x_label = "epoch" if against == "epoch" else f"training time ({unit_name})"
    finish_axes(axes, len(panels), quantity, x_label, whole=against == "epoch")
    return figure, drawn.drop(columns="x")


def arrange(configurations: pd.DataFrame, study: Mapping[str, Any]) -> list[Panel]:
    """Distribute configurations over panels.

    Without axes: a panel a norm, a line a model. With axes: a panel a model and norm, and the axis
    values are lines in shades of one colour. With one model, the other norms stand by in grey.
    """
    by_model = len(study["models"]) > 1
    models = figures.colours(study["models"], figures.MODEL_COLOURS)
    norms = figures.colours(study["norms"], figures.NORM_COLOURS)
    keys = ["model", "norm"] if study["axes"] else ["norm"]
    panels = []
    for key, group in configurations.groupby(keys, sort=False):
        lines = {}
        for position, (name, row) in enumerate(group.iterrows()):
            colour = models[row["model"]] if by_model else norms[row["norm"]]
            if study["axes"]:
                label = axes_label(row, study)
                shade = position / max(1, len(group) - 1)
                colour = figures.mix(colour, "#FFFFFF", 0.45 * (1 - shade))
                index = position
            else:
                label = row["model"] if by_model else ""
                index = study["models"].index(row["model"])
            lines[name] = (label, Look(colour, DASHES[index % 5], MARKERS[index % 6]))
        alone = not by_model and not study["axes"]
        others = tuple(configurations.index.difference(list(lines), sort=False)) if alone else ()
        title = [key[0]] if len(key) > 1 and by_model else []
        panels.append(Panel(", ".join([*title, figures.norm_title(key[-1])]), lines, others))
    order = {name: i for i, name in enumerate(study["norms"])}
    if not study["axes"]:
        panels.sort(key=lambda panel: order[configurations.loc[next(iter(panel.lines)), "norm"]])
    return panels


def drawn_rows(tables: Tables, quantity: Quantity) -> pd.DataFrame:
    """The rows a figure shows: series "mean" from bands.csv, "seed" from curves.csv, scaled.

    A diverged run is drawn to its last finite value; failed runs are not drawn.
    """
    means = tables.bands[tables.bands["metric"] == quantity.metric].rename(columns={"mean": "value"})
    seeds = tables.curves[tables.curves["status"] != "failed"]
    seeds = seeds.rename(columns={"train_seconds": "seconds"})
    if quantity.metric == "gap":
        seeds = seeds.assign(value=seeds["train_eval_accuracy"] - seeds["test_accuracy"])
    else:
        seeds = seeds.assign(value=seeds[quantity.metric])
    seeds = seeds[np.isfinite(seeds["value"])]
    rows = pd.concat([means.assign(series="mean", status="ok"), seeds.assign(series="seed")])
    rows = rows.sort_values(["configuration", "series", "seed", "epoch"], kind="stable")
    rows = rows.assign(seed=rows["seed"].astype("Int64"), n=rows["n"].astype("Int64"))
    rows[["value", "low", "high"]] *= quantity.scale
    columns = [*configuration_columns(tables.study), "series", "seed", "status", "epoch", "seconds"]
    return rows[[*columns, "n", "value", "low", "high", "configuration"]]


def end_label(
    drawn: pd.DataFrame, name: str, label: str, quantity: Quantity
) -> tuple[float, float, str]:
    """Where a configuration's mean ends, and the text to write there; no text without a mean."""
    mean = drawn[(drawn["configuration"] == name) & (drawn["series"] == "mean")]
    if mean.empty:
        return math.nan, math.nan, ""
    x, y = mean[["x", "value"]].iloc[-1]
    return x, y, f"{label} {quantity.format.format(y)}".strip()


def draw_panel(
    axes: Axes,
    panel: Panel,
    drawn: pd.DataFrame,
    ends: Mapping[str, tuple[float, float, str]],
) -> None:
    """Draw the lines of one panel: others in grey, bands, seeds, means on top."""
    axes.set_title(panel.title, loc="left", size=figures.TEXT, weight="bold", pad=4)
    for name in panel.ghosts:
        mean = drawn[(drawn["configuration"] == name) & (drawn["series"] == "mean")]
        axes.plot(mean["x"], mean["value"], color=GHOST.colour, lw=0.9)
    for name, (_, look) in panel.lines.items():
        rows = drawn[drawn["configuration"] == name]
        mean, seeds = rows[rows["series"] == "mean"], rows[rows["series"] == "seed"]
        axes.fill_between(mean["x"], mean["low"], mean["high"], color=look.colour, alpha=0.16, lw=0)
        for _, seed in seeds.groupby("seed"):
            axes.plot(seed["x"], seed["value"], color=look.colour, lw=0.5, alpha=0.55)
            if (seed["status"] == "diverged").any():
                axes.plot(*seed[["x", "value"]].iloc[-1], "x", color=look.text_colour, ms=4)
        axes.plot(mean["x"], mean["value"], color=look.colour, lw=1.5, ls=look.dash)
        axes.plot(*ends[name][:2], look.marker, color=look.colour, ms=3.6, clip_on=False, zorder=5)


def y_limits(drawn: pd.DataFrame, quantity: Quantity) -> tuple[float, float]:
    """Limits that hold all means and seeds; a wide interval of few seeds may run out of the panel.

    Linear axes end on a round number.
    """
    values = drawn["value"][drawn["value"] > 0] if quantity.log else drawn["value"]
    if values.empty:
        return (0.1, 1.0)
    low, high = values.min(), values.max()
    if quantity.log:
        return low / 1.25, high * 1.25
    step = 10 if high - low > 25 else 5 if high - low > 8 else 1
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    return max(low, quantity.bounds[0]), min(max(high, low + step), quantity.bounds[1])


def finish_axes(
    axes: np.ndarray, panels: int, quantity: Quantity, x_label: str, *, whole: bool
) -> None:
    """Ticks and axis labels: shared by rows and columns, so only at the left and the bottom."""
    columns = axes.shape[1]
    for index, place in enumerate(axes.flat):
        place.set_visible(index < panels)
        if quantity.log:
            place.set_yscale("log", nonpositive="clip")
            low, high = place.get_ylim()
            fine = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
            place.yaxis.set_major_locator(LogLocator(subs=fine))
            place.yaxis.set_minor_formatter(NullFormatter())
            place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        place.xaxis.set_major_locator(MaxNLocator(5, integer=whole, steps=[1, 2, 5, 10]))
        if index % columns:
            place.tick_params(labelleft=False)
        else:
            place.set_ylabel(quantity.label)
        if index + columns < panels:
            place.tick_params(labelbottom=False)
        else:
            place.set_xlabel(x_label)


def explain(tables: Tables, panels: list[Panel], note: str) -> str:
    """The footnote that says what is drawn."""
    parts = ["Line: mean over seeds; band: pointwise 95 % interval of the mean; thin lines: single "
             "seeds; numbers: mean of the last epoch."]
    if len(tables.study["seeds"]) == 1:
        parts = ["Line: the only seed, so no interval; numbers: the last epoch."]
    if any(panel.ghosts for panel in panels):
        parts.append("Grey: means of the other norms.")
    if (tables.curves["status"] == "diverged").any():
        parts.append("Cross: where a run diverged (in no mean).")
    return " ".join([*parts, note]).strip()
