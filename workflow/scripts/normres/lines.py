"""Figures of estimates against a number: one panel per group, a line each, intervals as bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from normres import figures
from normres.figures import DASHES, MARKERS, Look
from normres.parts import shared_cells, showing
from normres.tables import axis_label, configuration_columns, norm_title

DODGE = 0.05  # of the room between two x: intervals of several lines stay apart
MOST_TICKS = 10
TICK, APART = 7.0, 0.02  # points, size of a tick's text; inches, half the room between two
GAP = 0.1  # inches between the titles of two panels
NETWORK = ("model", "zero_init_residual")  # what sets the lines of networks by depth apart


@dataclass(frozen=True)
class Axis:
    """An axis: its label with unit; log: whether x is placed by its logarithm (rows hold x)."""

    label: str
    log: bool = False


def line_figure(
    rows: pd.DataFrame,
    looks: Mapping[str, Look],
    x: Axis,
    y_label: str,
    *,
    columns: int | None = None,
    question: str,
    study: Mapping[str, Any],
    notes: Sequence[str],
    most: float = math.inf,
) -> Figure:
    """Draw `rows`: panel (its title), line, x, mean, low, high, n; a panel and line in their order.

    A column `ring` marks rows with a ring; the label of a line's end then has the ringed row's
    number, not the last one's. A column `zero` marks rows whose mean has no logarithm: a cross at
    the lower edge. What a line's rows share of their configurations' columns is what
    it shows (see parts.py). looks: of each line. columns: of panels; all in one row of up to 4 by
    default, where they fit. most: what y cannot exceed.
    """
    panels = rows["panel"].drop_duplicates().tolist() or [""]
    count = rows.loc[rows["mean"].notna(), "n"].nunique() > 1
    ends = {panel: end_labels(rows[rows["panel"] == panel], looks, x, count) for panel in panels}
    texts = [text for own in ends.values() for _, _, text, _ in own.values()] + [""]
    right = 0.3 + max(figures.label_width(text) for text in texts)
    columns = columns or figures.fitting_columns(min(4, len(panels)), right)
    size = (3.3, 2.4) if columns == 1 else (2.2, 2.0) if columns == 2 else (figures.NARROW, 1.8)
    most_names = max(map(len, ends.values()))
    figure, grid = figures.page(
        (math.ceil(len(panels) / columns), columns),
        (size[0], max(size[1], figures.names_height(most_names))),
        question=question,
        study=study,
        notes=notes,
        above=0.36 if len(panels) > 1 else 0.1,
        left=0.5,
        right=right,
    )
    values = rows["mean"].dropna()
    edge = 0.06 * (values.max() - values.min()) or 1.0 if len(values) else 1.0
    low, high = (values.min() - edge, values.max() + edge) if len(values) else (0, 1)
    for index, place in enumerate(grid.flat):
        place.set_visible(index < len(panels))
        place.set_ylim(low, min(high, most))
        place.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        set_ticks(place, rows["x"], x, len(looks))
        lowest = index + columns >= len(panels)
        place.tick_params(labelleft=index % columns == 0, labelbottom=lowest)
        place.set_ylabel(y_label if index % columns == 0 else "")
        place.set_xlabel(x.label if lowest else "")
    title = title_size(panels, grid[0, 0], right)
    for place, panel in zip(grid.flat, panels, strict=False):
        own = rows[rows["panel"] == panel]
        if len(panels) > 1:
            place.set_title(panel, loc="left", size=title, weight="bold", pad=8)
        shared = {line: shared_cells(own[own["line"] == line], study) for line in looks}
        draw_lines(place, own, looks, x, shared)
        if own["mean"].isna().all():
            figures.say_empty(place, "0 in all runs" if zeros_only(own) else "no complete run")
        labels = ends[panel]
        figures.label_ends(place, [*labels.values()], shows=[shared[line] for line in labels])
    return figure


def zeros_only(rows: pd.DataFrame) -> bool:
    """Whether there are numbers, none of which has a logarithm."""
    return "zero" in rows and bool(rows["zero"].any())


def panel_columns(study: Mapping[str, Any], without: Sequence[str]) -> list[str]:
    """What differs between panels: model, norm and axes that the study compares, but `without`."""
    return [
        column
        for column in configuration_columns(study)
        if column not in without
        and (column not in ("model", "norm") or len(study[f"{column}s"]) > 1)
    ]


def cell_words(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Words for some cells of a configuration: "no norm, he init"."""
    words = []
    for column in columns:
        value = row[column]
        if pd.isna(value) or (column == "zero_init_residual" and value == "false"):
            continue
        if column in ("model", "norm"):
            words.append(norm_title(value) if column == "norm" else value)
        elif column == "zero_init_residual":
            words.append("zero-init")
        else:
            named = f"{value} init" if column == "initialization" else axis_label(column, value)
            words.append(named)
    return ", ".join(words)


def network_looks(rows: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, Look]:
    """The look of each line of NETWORK: colour by model, paler where blocks start as shortcuts."""
    palette = figures.colours(study["models"], figures.MODEL_COLOURS)
    looks = {}
    for number, (line, own) in enumerate(rows.groupby("line", sort=False)):
        model = own["model"].iloc[0]
        colour = figures.mix(palette[model], "#FFFFFF", 0.4 * (line != model))
        looks[line] = Look(colour, DASHES[number % 5], MARKERS[number % 6])
    return looks


def title_size(titles: Sequence[str], place: Axes, right: float) -> float:
    """The size of all panels' titles, in points: as large as the longest one allows.

    A title may take the width of a panel, `place`, and of the room right of it, in inches.
    """
    room = place.get_position().width * place.figure.get_size_inches()[0] + right - GAP
    widest = max(figures.text_width(title, figures.SMALL, "bold") for title in titles)
    return figures.SMALL * room / max(widest, room)


def placed(x: pd.Series, axis: Axis) -> pd.Series:
    """Where numbers stand on the axis."""
    return np.log2(x.astype(float)) if axis.log else x.astype(float)


def set_ticks(place: Axes, x: pd.Series, axis: Axis, lines: int = 1) -> None:
    """A tick at each number; where there are many, at round ones, or on a log axis at some."""
    numbers = pd.Series(sorted(x.dropna().unique()), dtype=float)
    if numbers.empty:
        return
    set_numbers(place, placed(numbers, axis), [f"{number:g}" for number in numbers], lines)
    if len(numbers) > MOST_TICKS and not axis.log:
        place.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        place.xaxis.set_major_formatter(ScalarFormatter())


def set_numbers(place: Axes, at: Sequence[float], texts: Sequence[str], lines: int) -> None:
    """Limits that hold the marks of `lines` at each place; ticks as far as texts have room."""
    at = np.asarray(at, float)
    edge = (0.06 * (at[-1] - at[0]) or 0.5) + shifts(at, lines)[-1]
    low, high = at[0] - edge, at[-1] + edge
    place.set_xlim(low, high)
    inches = place.get_position().width * place.figure.get_size_inches()[0]
    middles = at * inches / (high - low)
    halves = np.array([figures.text_width(text, TICK) / 2 + APART for text in texts])
    few = range(math.ceil(len(at) / MOST_TICKS), len(at))
    every = next(
        (n for n in few if (np.diff(middles[::n]) >= halves[:-n:n] + halves[n::n]).all()), len(at)
    )
    place.xaxis.set_minor_locator(NullLocator())
    place.set_xticks(at[::every].tolist(), texts[::every])


def shifts(at: Sequence[float], lines: int) -> np.ndarray:
    """How far each of several lines is moved aside, so that all intervals at a number are seen."""
    steps = np.diff(np.unique(np.asarray(at, float)))
    room = DODGE * (steps.min() if len(steps) else 1)
    return room * (np.arange(lines) - (lines - 1) / 2)


def end_labels(
    rows: pd.DataFrame, looks: Mapping[str, Look], x: Axis, count: bool
) -> dict[str, tuple[float, float, str, Look]]:
    """Where each line ends, and what stands there, by line."""
    ends = {}
    for line, look in looks.items():
        own = rows[(rows["line"] == line) & rows["mean"].notna()].sort_values("x")
        if len(own):
            last = own.iloc[-1]
            ringed = own[own["ring"]] if "ring" in own else own.head(0)
            row, at = (ringed.iloc[0], f"{ringed['x'].iloc[0]:g}: ") if len(ringed) else (last, "")
            text = figures.end_text(line, row, "mean", count=count, at=at)
            ends[line] = (float(placed(own["x"], x).iloc[-1]), last["mean"], text, look)
    return ends


def draw_lines(
    place: Axes,
    rows: pd.DataFrame,
    looks: Mapping[str, Look],
    x: Axis,
    shared: Mapping[str, Mapping[str, str]],
) -> None:
    """Draw the lines of a panel, a little beside each other so that all intervals are seen."""
    shown = [line for line in looks if (rows["line"] == line).any()]
    aside = shifts(placed(rows["x"].dropna(), x), len(shown))
    for line, shift in zip(shown, aside, strict=True):
        look = looks[line]
        own = rows[rows["line"] == line].sort_values("x")
        at = placed(own["x"], x) + shift
        size = 4 if len(own) <= 12 else 2.2
        style = {"color": look.colour, "mec": "white", "mew": 0.4, "zorder": 4}
        with showing(place, shared[line]):
            place.vlines(at, own["low"], own["high"], color=look.colour, lw=1.1, alpha=0.8)
            place.plot(at, own["mean"], color=look.colour, ls=look.dash, lw=1.2)
            place.plot(at, own["mean"], look.marker, ms=size, **style)
            if "zero" in own:
                edge = {"transform": place.get_xaxis_transform(), "clip_on": False}
                zero = at[own["zero"]]
                place.plot(zero, 0 * zero, "x", ms=2.5, mew=0.6, color=look.colour, **edge)
            if "ring" in own:
                style = {"mfc": "none", "mec": figures.INK, "mew": 0.9, "zorder": 5}
                place.plot(at[own["ring"]], own.loc[own["ring"], "mean"], "o", ms=8, **style)
