"""Draw all configurations from the most accurate to the least, with the ranks that are possible.

    python workflow/scripts/plot_ranking.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/ranking
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normres import figures, rows
from normres.errors import run_command
from normres.parts import cells_of, showing
from normres.report_tables import configuration_label
from normres.tables import configuration_columns
from normres.wording import interval_words

PARTS = ("mean", "low", "high")
HEADER = "mean, % [95 % interval]; ranks not excluded"


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (accuracies in %) and its finding."""
    study = tables.study
    ranked = tables.summary.sort_values("test_accuracy_rank", kind="stable")
    drawn = ranked[[*configuration_columns(study), "configuration", "n"]].assign(
        **{part: 100 * ranked[f"test_accuracy_{part}"] for part in PARTS},
        **{part: ranked[f"test_accuracy_{part}"] for part in ("rank", "rank_low", "rank_high")},
    )
    if len(drawn) == 1:
        question = "How accurate is the network?"
    else:
        question = "Which configurations are the most accurate, and which ranks are possible?"
    cells = [cells_of(row, study) for _, row in drawn.iterrows()]
    figure, axes = rows.row_page(
        rows.labels(drawn, study),
        [result_text(row) for _, row in drawn.iterrows()],
        HEADER,
        question=question,
        study=study,
        notes=[
            "Mark and line: mean test accuracy after the last epoch and its 95 % interval. Ranks: "
            "intervals that hold for all configurations at once with about 95 %, for as many runs "
            "on each side (pairwise Welch tests, Holm; Mogstad et al. 2024). "
            + rows.looks_words(study),
            figures.missing_note(tables),
        ],
        shows=cells,
    )
    looks = rows.looks(drawn, study)
    for height, (look, (_, row)) in enumerate(zip(looks, drawn.iterrows(), strict=True)):
        with showing(axes, cells[height]):
            rows.draw_interval(axes, height, row[list(PARTS)], look.colour, marker=look.marker)
    low, high = rows.limits(drawn[list(PARTS)].to_numpy(float))
    axes.set_xlim(max(0, low), min(100, high))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("test accuracy after the last epoch (%)")
    return figure, drawn, describe(drawn, study)


def result_text(row: pd.Series) -> str:
    """A row's mean, interval, n and ranks."""
    if not row["n"]:
        return "no complete run"
    interval = interval_words(row["low"], row["high"], row["n"], 1)
    ranks = f"{row['rank_low']:.0f}"
    ranks += f" to {row['rank_high']:.0f}" if row["rank_high"] > row["rank_low"] else ""
    return f"{row['mean']:.1f}{interval}, n = {row['n']}; {ranks}"


def describe(drawn: pd.DataFrame, study: dict) -> str:
    """Which configurations may be the best."""
    measured = drawn[drawn["n"] > 0]
    if len(measured) < 2:
        return ""
    first = measured[measured["rank_low"] == 1]
    names = [f"{configuration_label(row, study)} (n = {row['n']})" for _, row in first.iterrows()]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    which = "may be" if len(names) > 1 else "is"
    return (
        f"Rank 1 of {len(measured)} {which}, with about 95 % confidence for all ranks at once: "
        f"{'; '.join(names[:6])}{more}."
    )


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
