"""Figures of rows: one per configuration, its name left of the panel and numbers right of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normres import figures
from normres.figures import Look
from normres.parts import showing
from normres.report_tables import configuration_label

WIDTH = 3.0  # inches, of the panel
ROW, GAP = 0.21, 0.12  # inches: height of a row, room between columns of text
LEGEND_LINE = 0.14  # inches: height of a line of a legend


def row_page(
    names: Sequence[str],
    results: Sequence[str],
    header: str,
    *,
    question: str,
    study: Mapping[str, Any],
    notes: Sequence[str],
    shows: Sequence[Mapping[str, str]] = (),
) -> tuple[Figure, Axes]:
    """A page with one panel of rows, from the top; `results` and their `header` stand right of it.

    Row i is at height i; the x axis is left to the caller. shows: the cells of each row (see
    parts.py).
    """
    left = max([figures.text_width(text, figures.TEXT) for text in names], default=0) + GAP + 0.05
    right = max(figures.text_width(text, figures.TEXT) for text in [*results, header]) + GAP
    figure, grid = figures.page(
        (1, 1),
        (WIDTH, ROW * (len(names) + 0.6)),
        question=question,
        study=study,
        notes=notes,
        left=left,
        right=right,
        above=0.2,
    )
    axes = grid[0, 0]
    axes.set_ylim(len(names) - 0.2, -0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    wide = axes.get_position().width * figure.get_size_inches()[0]
    style = {"transform": axes.get_yaxis_transform(), "va": "center_baseline"}
    cells = shows or [{}] * len(names)
    for height, (name, result) in enumerate(zip(names, results, strict=True)):
        with showing(axes, cells[height]):
            axes.axhline(height, color=figures.GRID, lw=0.5, zorder=0)
            axes.text(-GAP / wide, height, name, ha="right", **style)
            axes.text(1 + GAP / wide, height, result, **style)
    axes.text(1 + GAP / wide, -0.9, header, size=figures.SMALL, color=figures.FAINT, **style)
    return figure, axes


def labels(rows: pd.DataFrame, study: Mapping[str, Any]) -> list[str]:
    """The name of each row's configuration."""
    return [configuration_label(row, study) for _, row in rows.iterrows()]


def looks(rows: pd.DataFrame, study: Mapping[str, Any]) -> list[Look]:
    """The look of each row: colour by model and shape by norm, or both by the one compared."""
    by = "model" if len(study["models"]) > 1 else "norm"
    shape = "norm" if len(study["norms"]) > 1 else "model"
    colours, shapes = figures.looks(study, by), figures.looks(study, shape)
    return [
        Look(colours[row[by]].colour, "solid", shapes[row[shape]].marker)
        for _, row in rows.iterrows()
    ]


def looks_words(study: Mapping[str, Any]) -> str:
    """What colour and shape of `looks` stand for, where they are two things."""
    both = len(study["models"]) > 1 and len(study["norms"]) > 1
    return "Colour: network; shape: norm." if both else ""


def draw_interval(
    axes: Axes, height: float, ends: Sequence[float], colour: str, **mark: Any
) -> None:
    """A mark with its interval on a row; `ends`: value, low, high; `mark`: of the mark's style."""
    value, low, high = ends
    axes.hlines(height, low, high, color=colour, lw=1.4)
    style = {"ms": 5, "color": colour, "mec": "white", "mew": 0.5, "marker": "o", "zorder": 4}
    axes.plot(value, height, ls="none", **style | mark)


def set_bands(place: Axes, count: int) -> None:
    """Give a panel `count` bands from the top, each with room for several marks around 0, 1, ..."""
    place.set_ylim(max(count, 1) - 0.5, -0.5)
    place.grid(axis="y", visible=False)
    for edge in range(1, count):
        place.axhline(edge - 0.5, color=figures.GRID, lw=0.5)


def legend_lines(labels: Sequence[str], width: float) -> list[list[int]]:
    """Distribute the entries of a legend, by number, over lines of `width` inches.

    One that is wider has a line of its own.
    """
    lines: list[list[int]] = []
    room = 0.0
    for number, label in enumerate(labels):
        wanted = legend_entry_width(label)
        if not lines or wanted > room:
            lines.append([])
            room = width
        lines[-1].append(number)
        room -= wanted
    return lines


def write_legend(
    place: Axes, entries: Sequence[tuple[str, Look, Mapping[str, str]]], width: float
) -> None:
    """Write marks and their names above a panel, in lines of `width` inches.

    entries: the label, its look and the cells it shows (see parts.py). The room above the panel is
    the caller's, LEGEND_LINE for each of `legend_lines`.
    """
    size = place.get_position()
    wide, high = place.figure.get_size_inches() * (size.width, size.height)
    lines = legend_lines([label for label, _, _ in entries], width)
    style = {"transform": place.transAxes, "clip_on": False}
    for line, numbers in enumerate(reversed(lines)):
        x, y = 0.0, 1 + (0.1 + line * LEGEND_LINE) / high
        for label, look, cells in (entries[number] for number in numbers):
            name = {"size": figures.SMALL, "color": look.text_colour, "va": "center_baseline"}
            with showing(place, cells):
                place.plot((x + 0.05) / wide, y, look.marker, color=look.colour, ms=3.5, **style)
                place.text((x + 0.12) / wide, y, label, **name, **style)
            x += legend_entry_width(label)


def legend_entry_width(label: str) -> float:
    """Inches that a mark with its name takes above a panel."""
    return 0.2 + figures.text_width(label, figures.SMALL)


def limits(values: np.ndarray, least: float = 1.0) -> tuple[float, float]:
    """Limits around finite values, at least `least` apart, with some room."""
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    edge = 0.05 * (high - low) + max(0.0, least - (high - low)) / 2
    return low - edge, high + edge
