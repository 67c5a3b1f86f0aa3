"""Draw the final accuracy against depth, one line per network: with skip connections and without.

    python workflow/scripts/plot_depths.py --depths results/S/depths.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/depths

One panel per initialisation and norm. depths.csv has the slopes of the lines and how far those of
two networks differ, which the finding says; the gradient against depth is the figure
first_gradient.
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures, lines
from normres.errors import run_command
from normres.findings import estimate_words

PARTS = ("mean", "low", "high")
MOST_SAID = 6  # differences of slopes, of a quantity
QUANTITIES = {  # of depths.csv -> words, unit, factor
    "test_accuracy": ("Slope of test accuracy on depth", "points per block", 100),
    "log10_first_gradient_start": (
        "Of log10 of the first convolution's gradient before training", "a block", 1,
    ),
}  # fmt: skip


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    study = tables.study
    drawn = tables.summary
    drawn = drawn.assign(**{part: 100 * drawn[f"test_accuracy_{part}"] for part in PARTS})
    by_line = [column for column in lines.NETWORK if column in drawn]
    split = lines.panel_columns(study, (*lines.NETWORK, "depth"))
    cells = drawn.to_dict("records")
    rows = drawn.assign(
        panel=[lines.cell_words(row, split) for row in cells],
        line=[lines.cell_words(row, by_line) for row in cells],
        x=pd.to_numeric(drawn["depth"]),
    )
    skips = {"resnet", "plainnet"} <= {*study["models"]}
    figure = lines.line_figure(
        rows,
        lines.network_looks(rows, study),
        lines.Axis("depth (blocks per stage)", log=True),
        "test accuracy (%)",
        question="Do skip connections keep the accuracy as networks get deeper?"
        if skips
        else "Does the accuracy hold as networks get deeper?",
        study=study,
        notes=[
            "Mark and bar: mean after the last epoch and its 95 % interval (Student's t), which "
            f"may run out of the panel; numbers: at the greatest depth. {explain(rows)}"
            f"{figures.count_note(drawn['n'])}",
            figures.missing_note(tables),
        ],
        most=100,
    )
    kept = [*split, *by_line, "depth", "configuration", "n", *PARTS]
    return figure, rows[kept], describe(tables.others["depths"], split, by_line)


def explain(rows: pd.DataFrame) -> str:
    """What "zero-init" means, where it is there."""
    there = rows["line"].str.contains("zero-init").any()
    return "zero-init: residual blocks start as their shortcuts. " if there else ""


def describe(depths: pd.DataFrame, split: list[str], by_line: list[str]) -> str:
    """How far the slopes of two networks differ in each panel."""
    sentences = []
    for quantity, (title, unit, factor) in QUANTITIES.items():
        found = depths[(depths["quantity"] == quantity) & depths["minus"].notna()]
        found = found[found["slope_mean"].notna()]
        parts = [
            f"{lines.cell_words(row, by_line)} minus {row['minus']}"
            f"{panel_words(lines.cell_words(row, split))} "
            + estimate_words(row, "slope_mean", scale=factor, unit=unit, digits=2)
            for row in found.to_dict("records")
        ]
        if parts:
            more = f"; and {len(parts) - MOST_SAID} more" if len(parts) > MOST_SAID else ""
            sentences.append(f"{title}: {'; '.join(parts[:MOST_SAID])}{more}.")
    return " ".join(sentences)


def panel_words(panel: str) -> str:
    """A panel's name in brackets; empty where there is one panel."""
    return f" ({panel})" if panel else ""


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "depths").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
