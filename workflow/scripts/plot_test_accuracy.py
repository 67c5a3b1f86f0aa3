"""Draw test accuracy by epoch: a panel a norm, a line a network, from before training on.

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

QUANTITY = Quantity("test_accuracy", "test accuracy (%)", scale=100, bounds=(0, 100), zoom=True)


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame]:
    """Draw the figure; return it and the rows it shows."""
    question = figures.ask(
        tables.study,
        "Which {subject} end{s} highest, and how soon?",
        "How accurate does the network get, and how soon?",
    )
    return draw_curves(tables, QUANTITY, question, note="Epoch 0: before training.")


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
