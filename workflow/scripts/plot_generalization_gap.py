"""Draw the generalisation gap by epoch: training minus test accuracy, both in evaluation mode.

    python workflow/scripts/plot_generalization_gap.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/generalization_gap
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures
from normres.curves import Quantity, draw_curves
from normres.errors import run_command
from normres.findings import extreme_words

QUANTITY = Quantity("gap", "training minus test accuracy\n(percentage points)", scale=100)


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows and its finding."""
    question = figures.ask(
        tables.study,
        "Which {subject} overfit{s} most?",
        "How much does the network overfit?",
    )
    note = "Training accuracy: on a fixed sample of the training images, in evaluation mode."
    figure, drawn = draw_curves(tables, QUANTITY, question, note=note)
    title, unit = "Largest mean gap after the last epoch", "points"
    finding = extreme_words(tables.summary, tables.study, "gap_mean", title, scale=100, unit=unit)
    return figure, drawn, finding


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
