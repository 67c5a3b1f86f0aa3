"""Draw what one configuration takes for what: a confusion matrix.

    python workflow/scripts/plot_confusion.py --confusion results/S/confusion.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/confusion

It is the configuration that ended with the highest mean accuracy on these same test images: chosen
after the fact, which makes its accuracies optimistic. The figure says so.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from normres import figures
from normres.errors import run_command
from normres.findings import estimate_words
from normres.report_tables import configuration_label

WITH_NUMBERS = 12  # classes: beyond, cells are too small for a number and its interval
LEAST = 0.5  # %; smaller shares get no number
BLUES = LinearSegmentedColormap.from_list("share", ["#FFFFFF", "#9CC9EA", "#0072B2", "#002B45"])
PARTS = ["mean", "low", "high"]


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    confusion = tables.others["confusion"]
    chosen = choose(tables.summary, confusion)
    drawn = confusion[confusion["configuration"] == chosen]
    drawn = drawn.assign(**{part: 100 * drawn[part].astype(float) for part in PARTS})
    classes = drawn["label"].drop_duplicates().tolist()
    cell = 0.46 if len(classes) <= WITH_NUMBERS else max(0.035, min(0.17, 6 / len(classes)))
    widest = max([figures.text_width(name, figures.TEXT) for name in classes], default=0.1)
    label, n, choice = "no complete run", "", choice_words(confusion)
    if len(drawn):
        label = configuration_label(drawn.iloc[0], tables.study)
        n = f" (n = {int(drawn['n'].iloc[0])})"
    side, left, turned = max(1.6, cell * len(classes)), widest + 0.35, widest > cell
    numbers = len(classes) <= WITH_NUMBERS
    figure, grid = figures.page(
        (1, 1),
        (side, side),
        question="Which classes does the configuration that ended best take for which?"
        if choice
        else "Which classes are taken for which?",
        study=tables.study,
        notes=[
            f"{label}{n}{choice and f': {choice}'}. {meaning(numbers)}",
            figures.missing_note(tables),
        ],
        left=left,
        right=max(0.15 if numbers else 0.6, figures.LEAST_WIDTH - 2 * figures.MARGIN - left - side),
        above=0.15,
        below=0.35 + (widest if turned else 0.12),
    )
    axes = grid[0, 0]
    draw_matrix(axes, drawn, classes, numbers)
    fits = cell >= 0.1
    axes.set_xticks(range(len(classes)), classes if fits else [""] * len(classes))
    axes.set_yticks(range(len(classes)), classes if fits else [""] * len(classes))
    axes.tick_params(axis="x", labelrotation=90 if turned else 0, length=0)
    axes.tick_params(axis="y", length=0)
    if cell < 0.15:
        axes.tick_params(labelsize=5)
    axes.set(xlabel="predicted class", ylabel="class of the image")
    return figure, drawn, describe(drawn, f"{label} ({choice})" if choice else label)


def meaning(numbers: bool) -> str:
    """What the cells show; of many classes they have no numbers, but the colours a scale."""
    share = (
        "share (%) of the test images of a class (row) predicted as a class (column), mean over "
        "seeds"
    )
    if not numbers:
        return f"Colour: {share}; confusion.csv has its 95 % interval."
    return (
        f"Colour and number: {share}, and its 95 % interval, which a share that is the same for "
        f"all seeds does not have; shares below {LEAST} % have no number."
    )


def choice_words(confusion: pd.DataFrame) -> str:
    """How the configuration came to be the one shown; empty where there is but one."""
    count = confusion.loc[confusion["n"] > 0, "configuration"].nunique()
    if count < 2:
        return ""
    return (
        f"of {count} configurations the one with the highest mean accuracy on these same test "
        "images, chosen after the fact, and so optimistic"
    )


def choose(summary: pd.DataFrame, confusion: pd.DataFrame) -> str:
    """The configuration with predictions that has the highest mean accuracy."""
    having = confusion.loc[confusion["n"] > 0, "configuration"]
    there = summary[summary["configuration"].isin(having)]
    if there.empty:
        return ""
    return there.loc[there["test_accuracy_mean"].idxmax(), "configuration"]


def draw_matrix(axes: Axes, drawn: pd.DataFrame, classes: list, numbers: bool) -> None:
    """Draw the shares, and their numbers and intervals where there is room."""
    axes.grid(visible=False)
    if drawn.empty:
        figures.say_empty(axes)
        return
    size = len(classes)
    mean, low, high = (drawn[part].to_numpy().reshape(size, size) for part in PARTS)
    colours = axes.imshow(mean, cmap=BLUES, norm=PowerNorm(0.6, 0, 100), aspect="auto")
    for spine in axes.spines.values():
        spine.set_visible(True)
    if not numbers:
        draw_scale(axes, colours)
        return
    for row, column in np.ndindex(mean.shape):
        if mean[row, column] < LEAST:
            continue
        colour = "white" if mean[row, column] > 25 else figures.INK
        interval = np.isfinite(low[row, column])
        text = f"{mean[row, column]:.1f}"
        axes.text(column, row - 0.15 * interval, text, ha="center", va="center", color=colour)
        if interval:
            ends = f"{low[row, column]:.0f}-{high[row, column]:.0f}"
            axes.text(column, row + 0.22, ends, ha="center", va="center", color=colour, size=5.5)


def draw_scale(axes: Axes, colours: AxesImage) -> None:
    """Draw what share each colour stands for, right of the matrix."""
    wide = axes.get_position().width * axes.figure.get_size_inches()[0]
    bar = axes.inset_axes((1 + 0.12 / wide, 0, 0.1 / wide, 1))
    scale = axes.figure.colorbar(colours, cax=bar, ticks=[0, 5, 20, 50, 100])
    scale.outline.set_visible(False)
    bar.grid(visible=False)
    bar.tick_params(length=0, pad=2)


def describe(drawn: pd.DataFrame, label: str) -> str:
    """The most frequent confusion."""
    off = drawn[drawn["label"] != drawn["predicted"]]
    if off.empty:
        return ""
    row = off.loc[off["mean"].idxmax()]
    share = estimate_words(row, "mean", unit="%")
    return (
        f"Most frequent confusion of {label}: {row['label']!r} taken for {row['predicted']!r}, "
        f"{share}, of {int(row['images'])} images."
    )


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "confusion").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
