"""Draw training loss, by epoch or by the seconds of training since its start.

    python workflow/scripts/plot_training_loss.py --against time --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/training_loss_by_time
"""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from normres import figures
from normres.curves import Quantity, draw_curves, time_note
from normres.errors import run_command
from normres.findings import extreme_words

QUANTITY = Quantity("train_loss", "training loss (nats per image)", format="{:#.2g}", log=True)


def draw(tables: figures.Tables, against: str) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure against "epoch" or "time"; return it, the rows it shows and its finding."""
    best, much = ("fewest epochs", "many epochs") if against == "epoch" else ("least time", "long")
    question = figures.ask(
        tables.study,
        f"Which {{subject}} fit{{s}} the training images in the {best}?",
        f"How {much} does the network take to fit the training images?",
    )
    note = "Loss: running mean over an epoch, drawn at its end."
    if against == "time":
        note += f" {time_note(tables)}"
    figure, drawn = draw_curves(tables, QUANTITY, question, against, note)
    if against == "time" and drawn.empty:
        return figure, drawn, ""
    says = "Lowest mean training loss of the last epoch"
    finding = extreme_words(
        tables.summary, tables.study, "train_loss_mean", says, largest=False, unit="nats", digits=4
    )
    return figure, drawn, finding


def main(argv: list[str] | None = None) -> int | None:
    parser = figures.parser(__doc__)
    parser.add_argument("--against", choices=["epoch", "time"], required=True, help="the x axis")
    arguments = parser.parse_args(argv)
    figures.render(partial(draw, against=arguments.against), arguments)


if __name__ == "__main__":
    run_command(main)
