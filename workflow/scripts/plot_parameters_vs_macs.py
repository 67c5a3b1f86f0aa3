"""Draw parameters against multiply-adds, with test accuracy as colour and in words.

    python workflow/scripts/plot_parameters_vs_macs.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/parameters_vs_macs

Norms hardly change a network's cost, so configurations that share a spot stand side by side on it,
or are one ring with their number where they are many; a list beside the panel names them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from normres import figures
from normres.errors import run_command
from normres.findings import estimate_words
from normres.parts import cells_of, shared_cells, showing
from normres.report_tables import configuration_label
from normres.tables import axes_label, configuration_columns
from normres.wording import interval_words

SAME = 0.03  # decades: dots closer than this cannot be told apart
STEP = 9.5  # points between the lines of the list
BESIDE = 7.5  # points between dots side by side, less where they would leave the panel
MOST_BESIDE = 9  # dots side by side: more would span what looks like other costs
RING = 15.0  # points: the ring that stands for more
COLOURS = "viridis"  # rises evenly in lightness: readable in grey and with colour blindness


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (%, costs in millions) and its finding."""
    study = tables.study
    columns = configuration_columns(study)
    drawn = tables.summary[[*columns, "configuration", "n"]].assign(
        macs_million=tables.summary["macs"] / 1e6,
        parameters_million=tables.summary["params"] / 1e6,
        **{
            f"test_accuracy_{part}": 100 * tables.summary[f"test_accuracy_{part}"]
            for part in ("mean", "low", "high")
        },
    )
    drawn = drawn[drawn["macs_million"].notna() & drawn["parameters_million"].notna()]
    spots = find_spots(drawn)
    lines = [line for spot in spots for line in listing(spot, study)]
    height = max(2.7 if len(spots) > 1 else 1.8, len(lines) * STEP / 72)
    figure, grid = figures.page(
        (1, 1),
        (2.9, height),
        question="What does accuracy cost in parameters and multiply-adds?",
        study=study,
        notes=[
            "Colour and numbers: test accuracy after the last epoch, mean over n seeds [95 % "
            "interval of the mean]. Dots side by side share the spot in their middle"
            + (", so do those whose number is in a ring" if any(map(are_many, spots)) else "")
            + ". 1 MAC = 1 multiply-add, for one image.",
            figures.missing_note(tables),
        ],
        left=0.52,
        right=0.5 + max([2.4, *(figures.text_width(text, figures.TEXT) for _, text, _ in lines)]),
        above=0.1,
    )
    axes = grid[0, 0]
    style_axes(axes, drawn)
    accuracy = drawn["test_accuracy_mean"].dropna()
    low, high = (accuracy.min(), accuracy.max()) if len(accuracy) else (0, 100)
    scale = ScalarMappable(Normalize(low - (low == high), high + (low == high)), COLOURS)
    markers = {norm: look.marker for norm, look in figures.looks(study, "norm").items()}
    for spot in spots:
        draw_spot(axes, spot, scale, markers, study)
    draw_listing(axes, spots, lines, scale, markers, study)
    if accuracy.nunique() > 1:
        draw_scale(axes, scale)
    return figure, drawn, cost_words(drawn, study)


def cost_words(drawn: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """The cheapest network by each cost, and how accurate it is; the first one of several."""
    sentences = []
    for column, words in (("parameters_million", "parameters"), ("macs_million", "MACs")):
        if drawn.empty or drawn[column].nunique() == 1:
            continue
        row = drawn.loc[drawn[column].idxmin()]
        accuracy = "no complete run"
        if row["n"]:
            accuracy = estimate_words(row, "test_accuracy_mean", unit="% test accuracy")
        name, most = configuration_label(row, study), drawn[column].max()
        alike = int((drawn[column] == row[column]).sum())
        first = f" (the first of {alike} with as few)" if alike > 1 else ""
        sentences.append(
            f"Fewest {words}, {row[column]:,.3g} of up to {most:,.3g} million (exact): {name}"
            f"{first}, {accuracy}."
        )
    return " ".join(sentences)


def find_spots(drawn: pd.DataFrame) -> list[pd.DataFrame]:
    """Group configurations whose costs fall on the same spot of the page, cheapest spot first."""
    logs = np.log10(drawn[["macs_million", "parameters_million"]].to_numpy(dtype=float))
    members: list[list[int]] = []
    for index, place in enumerate(logs):
        near = (spot for spot in members if np.abs(logs[spot[0]] - place).max() < SAME)
        spot = next(near, None)
        if spot is None:
            members.append([index])
        else:
            spot.append(index)
    members.sort(key=lambda spot: logs[spot[0], 1])
    return [drawn.iloc[spot] for spot in members]


def are_many(spot: pd.DataFrame) -> bool:
    """Whether a spot is one ring with a number."""
    return len(spot) > MOST_BESIDE


def listing(spot: pd.DataFrame, study: dict[str, Any]) -> list[tuple[float, str, pd.Series | None]]:
    """The lines of a spot's entry, from the bottom: (wanted height, text, configuration)."""
    height = spot["parameters_million"].iloc[0]
    lines: list[tuple[float, str, pd.Series | None]] = [(height, "", None)]
    for _, row in spot.iloc[::-1].iterrows():
        name = " · ".join(filter(None, [row["model"], row["norm"], axes_label(row, study)]))
        if not row["n"]:
            result = "no complete run"
        else:
            ends = (row["test_accuracy_low"], row["test_accuracy_high"])
            interval = interval_words(*ends, row["n"], 1)
            result = f"{row['test_accuracy_mean']:.1f} %{interval}, n = {row['n']}"
        lines.append((height, f"{name}: {result}", row))
    costs = f"{height:.3g} M parameters, {spot['macs_million'].iloc[0]:.3g} M MACs"
    return [*lines, (height, costs, None)]


def style_axes(axes: Axes, drawn: pd.DataFrame) -> None:
    """Logarithmic axes in millions, with room around the dots."""
    axes.set(xscale="log", yscale="log", xlabel="MACs (million multiply-adds)")
    axes.set_ylabel("parameters (million)")
    axes.autoscale(False)
    for axis, column in ((axes.xaxis, "macs_million"), (axes.yaxis, "parameters_million")):
        low, high = (drawn[column].min(), drawn[column].max()) if len(drawn) else (1, 10)
        room = 2 if high / low > 10**SAME else 4
        low, high = low / room, high * room
        axis.set_view_interval(low, high, ignore=True)
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def draw_dot(
    axes: Axes,
    x: float,
    y: float,
    row: pd.Series,
    scale: ScalarMappable,
    markers: dict[str, str],
    transform: Any,
    size: float,
) -> None:
    """Draw one configuration: shape by norm, filled by accuracy; empty without a complete run."""
    fill = scale.to_rgba(row["test_accuracy_mean"]) if row["n"] else "none"
    axes.plot(
        x,
        y,
        markers[row["norm"]],
        ms=size,
        mfc=fill,
        mec=figures.INK,
        mew=0.5,
        transform=transform,
        clip_on=False,
        zorder=5,
    )


def draw_spot(
    axes: Axes, spot: pd.DataFrame, scale: ScalarMappable, markers: dict, study: Mapping[str, Any]
) -> None:
    """Draw the configurations of a spot side by side around it, or how many they are."""
    x, y = spot[["macs_million", "parameters_million"]].iloc[0]
    if are_many(spot):
        with showing(axes, shared_cells(spot, study)):
            ring = {"ms": RING, "mfc": "white", "mec": figures.INK, "mew": 0.7, "zorder": 5}
            axes.plot(x, y, "o", **ring)
            middle = {"ha": "center", "va": "center", "size": figures.SMALL, "zorder": 6}
            axes.text(x, y, str(len(spot)), **middle)
        return
    apart = dot_distance(axes, spot)
    for position, (_, row) in enumerate(spot.iterrows()):
        shift = (position - (len(spot) - 1) / 2) * apart / 72
        beside = ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans)
        with showing(axes, cells_of(row, study)):
            draw_dot(axes, x, y, row, scale, markers, axes.transData + beside, 6.5)


def reach(axes: Axes, spot: pd.DataFrame) -> float:
    """Points from the middle of a spot to the edge of what stands on it."""
    if are_many(spot):
        return RING / 2
    return (len(spot) - 1) * dot_distance(axes, spot) / 2 + BESIDE / 2


def dot_distance(axes: Axes, spot: pd.DataFrame) -> float:
    """Points from one dot of a spot to the next, so that all of them stay within the panel."""
    x = axes.transData.transform((spot["macs_million"].iloc[0], 1))[0]
    room = min(x - axes.bbox.x0, axes.bbox.x1 - x) / axes.figure.dpi * 72 - BESIDE / 2
    return min(BESIDE, 2 * room / max(1, len(spot) - 1))


def draw_listing(
    axes: Axes,
    spots: list[pd.DataFrame],
    lines: list,
    scale: ScalarMappable,
    markers: dict,
    study: Mapping[str, Any],
) -> None:
    """List all configurations right of the panel, near the height of their spots, with leaders."""
    box = axes.get_position()
    wide, high = np.array([box.width, box.height]) * axes.figure.get_size_inches() * 72
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [to_axes.transform((1, height))[1] * high for height, _, _ in lines]
    heights = figures.spread(wanted, STEP, -STEP, high) / high
    left, start = 1 + 16 / wide, 0
    for spot in spots:
        block = heights[start + 1 : start + len(spot) + 2]
        with showing(axes, shared_cells(spot, study)):
            for height, (_, text, row) in zip(block, lines[start + 1 :], strict=False):
                with showing(axes, {} if row is None else cells_of(row, study)):
                    if row is not None:
                        place = (left + 7 / wide, height)
                        draw_dot(axes, *place, row, scale, markers, axes.transAxes, 5)
                    axes.text(
                        left + (4 if row is None else 14) / wide,
                        height,
                        text,
                        transform=axes.transAxes,
                        va="center_baseline",
                        color=figures.FAINT if row is None else figures.INK,
                    )
            x, y = to_axes.transform(spot[["macs_million", "parameters_million"]].iloc[0])
            x += (reach(axes, spot) + 2) / wide
            middle, half = block.mean(), STEP * 0.45 / high
            style = {"color": "#999999", "transform": axes.transAxes, "clip_on": False}
            bend = max(x, 1 + 3 / wide)
            axes.plot([x, bend, left], [y, y if x < 1 else middle, middle], lw=0.5, **style)
            axes.plot([left, left], [block[0] - half, block[-1] + half], lw=0.8, **style)
        start += len(spot) + 2


def draw_scale(axes: Axes, scale: ScalarMappable) -> None:
    """Draw the colour scale under the list."""
    wide, high = axes.get_position().width, axes.get_position().height
    figure_width, figure_height = axes.figure.get_size_inches()
    bar = axes.inset_axes(
        (
            1 + 0.28 / (wide * figure_width),
            -0.2 / (high * figure_height),
            1.5 / (wide * figure_width),
            0.07 / (high * figure_height),
        )
    )
    colourbar = axes.figure.colorbar(scale, cax=bar, orientation="horizontal")
    colourbar.outline.set_visible(False)
    bar.tick_params(length=0, pad=2)
    bar.text(
        1.06,
        0.5,
        "test accuracy (%)",
        transform=bar.transAxes,
        va="center_baseline",
        size=figures.SMALL,
    )


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
