"""Draw what each norm costs in time on each layer shape: forward and backward.

    python workflow/scripts/plot_norm_cost.py --norm_cost results/S/norm_cost.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/norm_cost
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from normres import figures, rows
from normres.errors import run_command
from normres.parts import showing
from normres.tables import norm_title

PARTS = ("median", "low", "high")
HEADER = "ms [95 % interval]"


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in ms) and its finding."""
    drawn = tables.others["norm_cost"]
    drawn = drawn.assign(**{part: 1e3 * drawn[f"training_seconds_{part}"] for part in PARTS})
    by = ["channels", "side", "batch_size", "layout"]
    drawn = drawn.sort_values([*by, "median"], kind="stable").reset_index(drop=True)
    shapes = [
        f"{row['batch_size']} x {row['channels']} x {row['side']} x {row['side']}, "
        f"{str(row['layout']).replace('_', ' ')}"
        for _, row in drawn.iterrows()
    ]
    repeated = pd.Series(shapes).duplicated()
    heads = ["" if again else f"{shape}: " for shape, again in zip(shapes, repeated, strict=True)]
    devices = ", ".join(sorted(drawn["device_name"].dropna().astype(str).unique()))
    # Of the study's cells only the norm: the batch here is that of the measurement.
    cells = [{"norm": norm} for norm in drawn["norm"]]
    figure, axes = rows.row_page(
        [norm_title(norm) for norm in drawn["norm"]],
        [result_text(row) for _, row in drawn.iterrows()],
        HEADER,
        question="What does each norm cost in time, by layer shape?",
        study=tables.study,
        notes=[
            "Rows: images x channels x height x width and memory layout, the cheapest norm first. "
            "Mark and line: median time of forward and backward and its 95 % interval, n "
            f"repeats alone on the device ({devices})."
        ],
        shows=cells,
        heads=heads,
    )
    palette = figures.colours(tables.study["norms"], figures.NORM_COLOURS)
    for height, (_, row) in enumerate(drawn.iterrows()):
        colour = palette[row["norm"]]
        with showing(axes, cells[height]):
            rows.draw_interval(axes, height, row[list(PARTS)], colour, ms=4.5)
    if drawn["median"].notna().any():
        axes.set_xscale("log")
        low, high = drawn["median"].min() / 1.5, drawn["median"].max() * 1.5
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("time of forward and backward (ms)")
    return figure, drawn, describe(drawn, shapes)


def result_text(row: pd.Series) -> str:
    """A median, its interval and n."""
    if pd.isna(row["median"]):
        return "not measured"
    interval = f" [{row['low']:.3g}, {row['high']:.3g}]" if pd.notna(row["low"]) else ""
    return f"{row['median']:.3g}{interval}, n = {row['n']:.0f}"


def describe(drawn: pd.DataFrame, shapes: list[str]) -> str:
    """The cheapest and the dearest norm on the shape with the most time."""
    found = drawn[drawn["median"].notna()]
    if found.empty:
        return ""
    shape = shapes[found["median"].idxmax()]
    own = found[[shapes[i] == shape for i in found.index]]
    ends = [own.loc[own["median"].idxmin()], own.loc[own["median"].idxmax()]]
    words = [f"{norm_title(row['norm'])}, {result_text(row)}" for row in ends]
    return f"On {shape}, in ms: cheapest {words[0]}; dearest {words[1]}."


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "norm_cost").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
