"""Draw test accuracy by epoch: one panel per norm, one line per network, from before training on.

    python workflow/scripts/plot_test_accuracy.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/test_accuracy
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures
from normres.curves import Quantity, draw_curves
from normres.errors import run_command
from normres.findings import extreme_words

QUANTITY = Quantity("test_accuracy", "test accuracy (%)", scale=100, bounds=(0, 100), zoom=True)


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows and its finding."""
    question = figures.ask(
        tables.study,
        "Which {subject} end{s} highest, and how soon?",
        "How accurate does the network get, and how soon?",
    )
    figure, drawn = draw_curves(tables, QUANTITY, question, note="Epoch 0: before training.")
    finding = extreme_words(
        tables.summary,
        tables.study,
        "test_accuracy_mean",
        "Highest mean test accuracy",
        scale=100,
        unit="%",
    )
    return figure, drawn, finding


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
