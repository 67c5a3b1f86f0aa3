"""Draw test accuracy after the last epoch: one row per configuration, every seed a dot.

    python workflow/scripts/plot_final_accuracy.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/final_accuracy
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normres import figures
from normres.errors import run_command
from normres.figures import Look
from normres.findings import extreme_words
from normres.parts import cells_of, showing
from normres.tables import axes_label, configuration_columns, norm_title
from normres.wording import interval_words, lost_runs

ROW, GAP = 0.25, 0.12  # inches: height of a row, room between columns of text
HEADER = "mean, % [95 % interval]"
ACCURACY = [f"test_accuracy_{part}" for part in ("mean", "low", "high")]


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows and its finding.

    The rows, in %, are of the series "mean", "reported" and "seed".
    """
    study = tables.study
    summary = tables.summary.set_index("configuration", drop=False).loc[tables.configurations.index]
    drawn = drawn_rows(summary, tables.runs, study)
    heights = row_heights(summary)
    names = [row_label(row, study) for _, row in summary.iterrows()]
    results = [result_text(row) for _, row in summary.iterrows()]
    lost = [lost_runs(row) for _, row in summary.iterrows()]
    widths = [
        max(figures.text_width(text, figures.TEXT, weight) for text in texts)
        for texts, weight in (
            (study["models"], "bold"),
            (names, "normal"),
            ([*results, HEADER], "normal"),
            (lost, "normal"),
        )
    ]
    limits = x_limits(drawn)
    note = (
        "Small dots: seeds; line with large mark: mean and 95 % interval of the mean (Student's t)."
    )
    if drawn["low"].min() < limits[0] or drawn["high"].max() > limits[1]:
        note += " Some intervals run out of the panel."
    if drawn["series"].eq("reported").any():
        note += " Open diamond: what the exercise's write-up reports of its single run."
    question = "Which {subject} end{s} highest, and how sure is that?"
    figure, grid = figures.page(
        (1, 1),
        (3.0, ROW * (heights[-1] + 1)),
        question=figures.ask(study, question, "How accurate is the network after training?"),
        study=study,
        notes=[note, figures.missing_note(tables)],
        left=sum(widths[:2]) + 2 * GAP,
        right=GAP + widths[2] + (widths[3] + GAP if widths[3] else 0),
        above=0.2,
    )
    axes = grid[0, 0]
    axes.set_ylim(heights[-1] + 0.5, -0.5)
    axes.set_xlim(limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("test accuracy after the last epoch (%)")
    for height, look, name in zip(heights, looks(summary, study), summary.index, strict=True):
        with showing(axes, cells_of(summary.loc[name], study)):
            draw_row(axes, height, drawn[drawn["configuration"] == name], look)
    write_margins(axes, heights, summary, (names, results, lost), widths, study)
    finding = extreme_words(
        summary, study, "test_accuracy_mean", "Highest mean test accuracy", scale=100, unit="%"
    )
    return figure, drawn, finding


def drawn_rows(summary: pd.DataFrame, runs: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """What the figure shows, in %: means with intervals, reported numbers, complete seeds."""
    means = summary.rename(columns=dict(zip(ACCURACY, ["value", "low", "high"], strict=True)))
    reported = summary.rename(columns={"reported_test_accuracy": "value"})
    seeds = runs[runs["status"] == "ok"].rename(columns={"test_accuracy": "value"})
    columns = [*configuration_columns(study), "configuration", "value"]
    rows = pd.concat(
        [
            means[[*columns, "n", "low", "high"]].assign(series="mean"),
            reported[columns].assign(series="reported"),
            seeds[[*columns, "seed"]].assign(series="seed"),
        ],
        ignore_index=True,
    )
    rows = rows[rows["value"].notna()]
    order = pd.CategoricalDtype(summary.index, ordered=True)
    rows = rows.assign(
        configuration=rows["configuration"].astype(order),
        seed=rows["seed"].astype("Int64"),
        n=rows["n"].astype("Int64"),
    )
    rows[["value", "low", "high"]] *= 100
    rows = rows.sort_values(["configuration", "series", "seed"], kind="stable")
    return rows[[*columns, "series", "seed", "n", "low", "high"]]


def row_heights(summary: pd.DataFrame) -> list[float]:
    """Heights of the rows from the top, in rows; half a row between models."""
    changes = summary["model"].ne(summary["model"].shift()).cumsum() - 1
    grouped = summary["model"].duplicated().any()
    return list(np.arange(len(summary)) + (0.5 * changes if grouped else 0.0))


def row_label(row: pd.Series, study: Mapping[str, Any]) -> str:
    """The norm and axis values of a row, as far as the study compares them."""
    norm = norm_title(row["norm"]) if len(study["norms"]) > 1 else ""
    return ", ".join(filter(None, [norm, axes_label(row, study)]))


def result_text(row: pd.Series) -> str:
    """A row's mean, interval and n."""
    mean, low, high = (100 * row[column] for column in ACCURACY)
    if not row["n"]:
        return "no complete run"
    return f"{mean:.1f}{interval_words(low, high, row['n'], 1)}, n = {row['n']}"


def looks(summary: pd.DataFrame, study: Mapping[str, Any]) -> list[Look]:
    """The look of each row: by norm where norms are compared, else by model."""
    by = "norm" if len(study["norms"]) > 1 else "model"
    known = figures.looks(study, by)
    return [known[name] for name in summary[by]]


def x_limits(drawn: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold all points, and intervals as far as they do not squeeze the points."""
    if drawn.empty:
        return 0.0, 100.0
    low, high = drawn["value"].min(), drawn["value"].max()
    span = max(high - low, 1.0)
    edge = 0.05 * span + (span - (high - low)) / 2
    least, most = drawn["low"].min(skipna=True), drawn["high"].max(skipna=True)
    low = max(low - span, np.fmin(low, least)) - edge
    high = min(high + span, np.fmax(high, most)) + edge
    return max(low, 0.0), min(high, 100.0)


def draw_row(axes: Axes, height: float, rows: pd.DataFrame, look: Look) -> None:
    """Draw one configuration: the interval and mean, the seeds above it, the reported number."""
    axes.axhline(height, color=figures.GRID, lw=0.5, zorder=0)
    mean, reported, seeds = (rows[rows["series"] == s] for s in ("mean", "reported", "seed"))
    axes.hlines([height] * len(mean), mean["low"], mean["high"], color=look.colour, lw=1.4)
    axes.plot(
        mean["value"],
        [height] * len(mean),
        look.marker,
        color=look.colour,
        ms=5,
        mec="white",
        mew=0.5,
        zorder=4,
        clip_on=False,
    )
    axes.plot(
        seeds["value"],
        [height - 0.28] * len(seeds),
        "o",
        ms=2.6,
        mfc="white",
        mec=look.colour,
        mew=0.7,
        zorder=3,
        clip_on=False,
    )
    axes.plot(
        reported["value"],
        [height] * len(reported),
        "D",
        ms=5,
        mfc="none",
        mec=figures.INK,
        mew=0.8,
        zorder=5,
        clip_on=False,
    )


def write_margins(
    axes: Axes,
    heights: list[float],
    summary: pd.DataFrame,
    texts: tuple[list[str], list[str], list[str]],
    widths: list[float],
    study: Mapping[str, Any],
) -> None:
    """Write models and norms left of the panel; numbers, and what is missing, right of it."""
    wide = axes.get_position().width * axes.figure.get_size_inches()[0]
    transform = axes.get_yaxis_transform()
    style = {"transform": transform, "va": "center_baseline"}
    left, middle = -(sum(widths[:2]) + 2 * GAP) / wide, -(widths[1] + GAP) / wide
    right = 1 + GAP / wide
    models = summary["model"].where(summary["model"].ne(summary["model"].shift()), "")
    rows = [row for _, row in summary.iterrows()]
    for height, model, row, name, result, lost in zip(heights, models, rows, *texts, strict=True):
        with showing(axes, {"model": model}):  # over all of its rows
            axes.text(left, height, model, weight="bold", **style)
        with showing(axes, cells_of(row, study)):
            axes.text(middle, height, name, **style)
            axes.text(right, height, result, **style)
            axes.text(right + (widths[2] + GAP) / wide, height, lost, color="#A33A00", **style)
    axes.text(right, heights[0] - 0.85, HEADER, size=figures.SMALL, color=figures.FAINT, **style)


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
