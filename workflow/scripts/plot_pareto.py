"""Draw test accuracy against MACs, parameters and training time, and what no other beats in both.

    python workflow/scripts/plot_pareto.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/pareto
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from normres import figures, rows
from normres.curves import time_note
from normres.errors import run_command
from normres.findings import estimate_words
from normres.parts import cells_of, showing
from normres.report_tables import configuration_label
from normres.tables import configuration_columns
from normres.wording import estimate_text

COSTS = {  # column -> axis label, words
    "macs_million": ("MACs (million, exact)", "MACs"),
    "parameters_million": ("parameters (million, exact)", "parameters"),
    "training_seconds": ("training time (s, all epochs)", "training time"),
}
EXACT = ("macs_million", "parameters_million")
MOST_LABELS = 16
FRONT = "#999999"


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows, with one column per front, and its finding."""
    study, summary = tables.study, tables.summary
    drawn = summary[[*configuration_columns(study), "configuration", "n"]].assign(
        **{part: 100 * summary[f"test_accuracy_{part}"] for part in ("mean", "low", "high")},
        macs_million=summary["macs"] / 1e6,
        parameters_million=summary["params"] / 1e6,
        training_seconds=summary["seconds_per_epoch_median"] * study["epochs"],
        training_seconds_low=summary["seconds_per_epoch_low"] * study["epochs"],
        training_seconds_high=summary["seconds_per_epoch_high"] * study["epochs"],
    )
    # A panel of times only where something was timed.
    costs = [cost for cost in COSTS if cost in EXACT or drawn[cost].notna().any()]
    for cost in costs:
        drawn[f"on_front_{cost}"] = on_front(drawn[cost], drawn["mean"])
    looks = rows.looks(drawn, study)
    labelled = drawn["mean"].notna()
    if labelled.sum() > MOST_LABELS:
        labelled &= drawn[[f"on_front_{cost}" for cost in costs]].any(axis=1)
    texts = [
        f"{configuration_label(row, study)}: {result_text(row)}" if named else ""
        for named, (_, row) in zip(labelled, drawn.iterrows(), strict=True)
    ]
    times = " and median time" * (len(costs) > len(EXACT))
    notes = [
        f"Mark and bars: mean test accuracy after the last epoch{times}, with 95 % "
        "intervals; grey line and full marks: the front, where no other has a higher mean at the "
        f"same cost or less. It goes by the means alone. {rows.looks_words(study)} "
        + time_note(tables),
        figures.missing_note(tables),
    ]
    if labelled.sum() < drawn["mean"].notna().sum():
        notes.insert(1, "Named: what is on a front.")
    figure, grid = figures.page(
        (1, len(costs)),
        (1.75, max(2.1, 0.15 * labelled.sum())),
        question="Which configurations give the most accuracy for their cost?",
        study=study,
        notes=notes,
        left=0.5,
        right=0.15,
        above=0.1,
        margin=0.3 + max(figures.text_width(text, figures.TEXT) for text in [*texts, ""]),
    )
    low, high = rows.limits(drawn[["mean", "low", "high"]].to_numpy(float))
    for place, cost in zip(grid[0], costs, strict=True):
        place.set_ylim(max(0, low), min(100, high))
        place.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        draw_panel(place, drawn, cost, looks, study)
        if place is not grid[0, 0]:
            place.tick_params(labelleft=False)
    grid[0, 0].set_ylabel("test accuracy (%)")
    edge = grid[0, -1].get_xlim()[1]  # where a label points to whose configuration has no time
    ends = [
        ((edge if pd.isna(row[cost]) else row[cost], row["mean"], text, look), cells_of(row, study))
        for (_, row), text, look in zip(drawn.iterrows(), texts, looks, strict=True)
        if text
    ]
    figures.label_ends(grid[0, -1], [e for e, _ in ends], shows=[cells for _, cells in ends])
    return figure, drawn, describe(drawn, costs, tables)


def result_text(row: pd.Series) -> str:
    """A row's mean accuracy, interval and n."""
    return f"{estimate_text(row['mean'], row['low'], row['high'], row['n'])}, n = {row['n']}"


def on_front(cost: pd.Series, accuracy: pd.Series) -> pd.Series:
    """Whether no other is at least as good in both and better in one; False without numbers."""
    known = cost.notna() & accuracy.notna()
    return pd.Series(
        [
            bool(
                known[i]
                and not (
                    (cost[known] <= cost[i])
                    & (accuracy[known] >= accuracy[i])
                    & ((cost[known] < cost[i]) | (accuracy[known] > accuracy[i]))
                ).any()
            )
            for i in cost.index
        ],
        cost.index,
    )


def draw_panel(place: Axes, drawn: pd.DataFrame, cost: str, looks: list, study: dict) -> None:
    """Draw one cost: the front as steps, intervals and marks."""
    known = drawn[drawn[cost].notna()]
    front = known[known[f"on_front_{cost}"]].sort_values([cost, "mean"])
    place.set_xscale("log")
    low, high = (known[cost].min(), known[cost].max()) if len(known) else (1, 10)
    narrow = high / low <= 1.5
    room = 1.5 if narrow else (high / low) ** 0.08
    place.set_xlim(low / room, high * room)
    subs = (1, 2, 5) if high / low < 200 else (1,)
    ends = [low, high] if high / low > 1.25 else [low]  # nearer, their labels would touch
    wide = LogLocator(subs=subs, numticks=8)
    place.xaxis.set_major_locator(FixedLocator(ends) if narrow else wide)
    place.xaxis.set_minor_locator(NullLocator())
    place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    place.set_xlabel(COSTS[cost][0])
    if len(front):
        x = [*front[cost], high * room]
        place.step(x, [*front["mean"], front["mean"].iloc[-1]], where="post", color=FRONT, lw=1)
    for (index, row), look in zip(drawn.iterrows(), looks, strict=True):
        if index not in known.index:
            continue
        fill = look.colour if row[f"on_front_{cost}"] else "white"
        style = {"ms": 5, "mfc": fill, "mec": look.colour, "mew": 0.9}
        with showing(place, cells_of(row, study)):
            place.vlines(row[cost], row["low"], row["high"], color=look.colour, lw=1, alpha=0.8)
            if f"{cost}_low" in row:
                ends = row[[f"{cost}_low", f"{cost}_high"]].tolist()
                place.hlines(row["mean"], *ends, color=look.colour, lw=1, alpha=0.8)
            place.plot(row[cost], row["mean"], look.marker, **style)
    if known["mean"].isna().all():
        figures.say_empty(place)


def describe(drawn: pd.DataFrame, costs: Sequence[str], tables: figures.Tables) -> str:
    """What is on the fronts of all `costs`, else how many are on each."""
    everywhere = drawn[drawn[[f"on_front_{cost}" for cost in costs]].all(axis=1)]
    every = "all three" if len(costs) == 3 else "both"
    if everywhere.empty:
        counts = [f"{drawn[f'on_front_{cost}'].sum()} by {COSTS[cost][1]}" for cost in costs]
        return f"On the front, by the means: {', '.join(counts)}; none on {every}."
    named = [
        f"{configuration_label(row, tables.study)}, {estimate_words(row, 'mean', unit='%')}"
        for _, row in everywhere.head(4).iterrows()
    ]
    more = f" and {len(everywhere) - 4} more" if len(everywhere) > 4 else ""
    return f"On {every} fronts, by the means: {'; '.join(named)}{more}."


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
