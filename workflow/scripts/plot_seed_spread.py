"""Draw how far each seed's test accuracy lies from the mean of its configuration.

    python workflow/scripts/plot_seed_spread.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/seed_spread
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normres import figures, rows
from normres.errors import run_command
from normres.parts import cells_of, showing
from normres.report_tables import configuration_label
from normres.tables import configuration_columns

HEADER = "lowest to highest, %, n runs"
STACK = 0.3  # of a row: how far dots side by side may stand from its middle


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (a run each, in points), its finding."""
    study = tables.study
    summary = tables.summary
    means = summary.set_index("configuration")["test_accuracy_mean"]
    complete = tables.runs[tables.runs["status"] == "ok"]
    drawn = complete[[*configuration_columns(study), "configuration", "seed"]].assign(
        test_accuracy=100 * complete["test_accuracy"],
        from_mean=100
        * (complete["test_accuracy"] - complete["configuration"].map(means).astype(float)),
    )
    cells = [cells_of(row, study) for _, row in summary.iterrows()]
    figure, axes = rows.row_page(
        rows.labels(summary, study),
        [range_text(row) for _, row in summary.iterrows()],
        HEADER,
        question="How much does the seed alone change the accuracy?",
        study=study,
        notes=[
            "A dot: a seed's test accuracy after the last epoch, less the mean of its "
            "configuration. Lowest and highest are exact: of these runs.",
            figures.missing_note(tables),
        ],
        shows=cells,
    )
    for height, (name, look) in enumerate(
        zip(summary["configuration"], rows.looks(summary, study), strict=True)
    ):
        points = np.sort(drawn.loc[drawn["configuration"] == name, "from_mean"])
        few = len(points) < 30
        style = {"mfc": "none", "mew": 0.8} if few else {"mfc": look.colour, "mew": 0, "alpha": 0.4}
        with showing(axes, cells[height]):
            axes.plot(points, height + shifts(points), "o", ms=3, mec=look.colour, **style)
    axes.axvline(0, color="#888888", lw=0.6)
    low, high = rows.limits(drawn["from_mean"].to_numpy(float), 0.2)
    axes.set_xlim(-max(-low, high), max(-low, high))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("test accuracy less the configuration's mean (points)")
    return figure, drawn, describe(summary, study)


def shifts(points: np.ndarray) -> np.ndarray:
    """Move neighbours up and down in turn, so that equal ones are seen; `points` are sorted."""
    if len(points) < 6:
        return np.zeros(len(points))
    return STACK * (np.arange(len(points)) % 5 - 2) / 2


def range_text(row: pd.Series) -> str:
    """The lowest and highest accuracy of a configuration."""
    if not row["n"]:
        return "no complete run"
    low, high = (100 * row[f"test_accuracy_{end}"] for end in ("min", "max"))
    return f"{low:.1f} to {high:.1f}, n = {row['n']}" if row["n"] > 1 else f"{low:.1f}, n = 1"


def describe(summary: pd.DataFrame, study: dict) -> str:
    """Which configuration differs most from seed to seed."""
    spread = 100 * (summary["test_accuracy_max"] - summary["test_accuracy_min"])
    spread = spread[summary["n"] > 1]
    if spread.empty:
        return ""
    row = summary.loc[spread.idxmax()]
    name = configuration_label(row, study)
    return (
        f"Widest range between seeds: {name}, {spread.max():.1f} points, {range_text(row)} "
        "(exact, of these runs)."
    )


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
