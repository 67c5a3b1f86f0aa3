"""Draw what one change does to accuracy, and whether that is less than the margin.

    python workflow/scripts/plot_equivalence.py --equivalence results/S/equivalence.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/equivalence
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures, rows
from normres.errors import run_command
from normres.inference import ALPHA
from normres.parts import cells_of, showing
from normres.report_tables import configuration_label
from normres.tables import axis_text
from normres.wording import interval_words, number_words

PARTS = ("mean", "low", "high")
HEADER = "points [90 % interval]"
COLOUR = "#0072B2"


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in points) and its finding."""
    drawn = tables.others["equivalence"].sort_values(["changed", "configuration"], kind="stable")
    drawn = drawn.assign(
        **{part: 100 * drawn[f"difference_{part}"].astype(float) for part in PARTS},
        margin=100 * drawn["margin"].astype(float),
    ).reset_index(drop=True)
    verdict = drawn["p_holm"] < ALPHA
    names = [
        f"{change_text(row)} ({configuration_label(row, tables.study)})"
        for _, row in drawn.iterrows()
    ]
    results = [
        f"{result_text(row)}{'; within the margin' if inside else ''}"
        for inside, (_, row) in zip(verdict, drawn.iterrows(), strict=True)
    ]
    margin = drawn["margin"].max() if len(drawn) else 0.0
    cells = [cells_of(row, tables.study) for _, row in drawn.iterrows()]
    figure, axes = rows.row_page(
        names,
        results,
        HEADER,
        question="What does one change do to the accuracy, and is it less than the margin?",
        study=tables.study,
        notes=[
            "A row: a change, and the configuration after it. Mark and line: test accuracy after "
            "minus before, paired over n seeds, with the 90 % interval of two one-sided tests; "
            f"full marks: within {margin:.1f} points (dashed) at 5 %, by Holm for all rows.",
            figures.missing_note(tables),
        ],
        shows=cells,
    )
    for height, (inside, (_, row)) in enumerate(zip(verdict, drawn.iterrows(), strict=True)):
        full = {"mfc": COLOUR if inside else "white", "mec": COLOUR, "mew": 1}
        with showing(axes, cells[height]):
            rows.draw_interval(axes, height, row[list(PARTS)], COLOUR, **full)
    for edge in (-margin, margin):
        axes.axvline(edge, color="#888888", lw=0.8, ls=(0, (4, 2)))
    axes.axvline(0, color="#888888", lw=0.6)
    low, high = rows.limits(drawn[list(PARTS)].to_numpy(float).ravel(), 4 * margin)
    axes.set_xlim(min(low, -1.5 * margin), max(high, 1.5 * margin))
    axes.set_xlabel("test accuracy, after minus before (points)")
    if drawn.empty:
        figures.say_empty(axes)
    return figure, drawn, describe(drawn, verdict, margin, tables.study)


def change_text(row: pd.Series) -> str:
    """What a row changes: "conv bias: default > true"."""
    before, after = axis_text(row["before"]), axis_text(row["after"])
    return f"{row['changed'].replace('_', ' ')}: {before} > {after}"


def result_text(row: pd.Series) -> str:
    """A row's difference, interval and n."""
    if pd.isna(row["mean"]):
        return f"n = {row['n']}"
    return (
        number_words(row["mean"], "{:+.2f}")
        + interval_words(row["low"], row["high"], row["n"], 2)
        + f", n = {row['n']}"
    )


def describe(drawn: pd.DataFrame, verdict: pd.Series, margin: float, study: dict) -> str:
    """How many changes are within the margin, adjusted for their number, and the largest."""
    found = drawn[drawn["mean"].notna()]
    if found.empty:
        return ""
    row = found.loc[found["mean"].abs().idxmax()]
    return (
        f"{int(verdict.sum())} of {len(drawn)} changes are shown to do less than {margin:.1f} "
        f"points, after Holm's adjustment for all {len(drawn)}; the largest difference is that of "
        f"{change_text(row)} ({configuration_label(row, study)}): {result_text(row)} pairs "
        "(points, 90 % interval)."
    )


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "equivalence").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
