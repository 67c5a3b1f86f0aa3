"""Draw how much of the spread of accuracy comes from the initial weights, and from the order.

    python workflow/scripts/plot_variance.py --variance results/S/variance.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/variance
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures, rows
from normres.errors import run_command
from normres.parts import cells_of, showing
from normres.report_tables import configuration_label

PARTS = ("sd", "sd_low", "sd_high")
HEADER = "sd, points [95 % interval]"


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (sd in points) and its finding."""
    drawn = tables.others["variance"].reset_index(drop=True)
    drawn = drawn.assign(**{part: 100 * drawn[part].astype(float) for part in PARTS})
    no_axes = dict.fromkeys(tables.study["axes"])  # a row has none of those that seeds vary
    groups = [configuration_label(no_axes | row, tables.study) for row in drawn.to_dict("records")]
    names = [f"{group}: {part}" for group, part in zip(groups, drawn["component"], strict=True)]
    cells = [cells_of(row, tables.study) for _, row in drawn.iterrows()]
    figure, axes = rows.row_page(
        names,
        [result_text(row) for _, row in drawn.iterrows()],
        HEADER,
        question="Does accuracy vary by the initial weights, or by the order of the images?",
        study=tables.study,
        notes=[
            "Mark and line: standard deviation of the test accuracy after the last epoch that a "
            "source alone gives, with its 95 % interval (two-way random effects; n: initial "
            "weights x orders).",
            figures.missing_note(tables),
        ],
        shows=cells,
    )
    for height, (_, row) in enumerate(drawn.iterrows()):
        colour = "#5A5A5A" if row["component"] == "total" else "#0072B2"
        with showing(axes, cells[height]):
            rows.draw_interval(axes, height, row[list(PARTS)], colour)
    _, high = rows.limits(drawn["sd"].to_numpy(float), 0.1)
    axes.set_xlim(0, max(high, 0.01) * 1.6)
    axes.set_xlabel("standard deviation of test accuracy (points)")
    if drawn["sd"].isna().all():
        figures.say_empty(axes)
    return figure, drawn, describe(drawn, groups)


def result_text(row: pd.Series) -> str:
    """A component's sd, interval and n."""
    n = f"n = {row['initializations']:.0f} x {row['orders']:.0f}"
    if pd.isna(row["sd"]):
        return n
    interval = f" [{row['sd_low']:.2f}, {row['sd_high']:.2f}]" if pd.notna(row["sd_low"]) else ""
    return f"{row['sd']:.2f}{interval}, {n}"


def describe(drawn: pd.DataFrame, groups: list[str]) -> str:
    """The components of the first group."""
    first = drawn[[group == groups[0] for group in groups]] if groups else drawn
    first = first[first["sd"].notna()]
    if first.empty:
        return ""
    parts = [f"{row['component']} {result_text(row)}" for _, row in first.iterrows()]
    return f"Standard deviation of test accuracy in points, {groups[0]}: {'; '.join(parts)}."


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "variance").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
