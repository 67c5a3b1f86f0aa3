"""Draw test accuracy by the seconds of training since its start, and which network leads when.

    python workflow/scripts/plot_accuracy_by_time.py --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/accuracy_by_time

A ring marks the highest mean at the times on the axis. What a network has at a time is what it had
at its last epoch until then.
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures
from normres.curves import Quantity, draw_curves, time_note
from normres.errors import run_command
from normres.findings import estimate_words
from normres.report_tables import configuration_label

QUANTITY = Quantity("test_accuracy", "test accuracy (%)", scale=100, bounds=(0, 100))
TIMES = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h"}
MORE_TIMES = {0.1: "0.1 s", 0.2: "0.2 s", 0.5: "0.5 s", 2: "2 s", 5: "5 s", 20: "20 s"}
MORE_TIMES |= {120: "2 min", 300: "5 min", 1800: "30 min", 18_000: "5 h"}


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (series "leader": the rings), its finding."""
    question = figures.ask(
        tables.study,
        "Which {subject} lead{s} after how much training time?",
        "How accurate is the network after how much training time?",
    )
    means = tables.bands[(tables.bands["metric"] == "test_accuracy") & (tables.bands["epoch"] > 0)]
    times = choose_times(means["seconds"].dropna())
    leads = leaders(means, times)
    note = f"Ring: the highest mean at a time on the axis. {time_note(tables)}"
    figure, drawn = draw_curves(
        tables, QUANTITY, question, "time", note, times=times, rings=leads.assign(series="leader")
    )
    return figure, drawn, describe(leads, times, tables)


def choose_times(seconds: pd.Series) -> dict[float, str]:
    """The times to mark, with their names, within what was trained: at least two if possible."""
    if seconds.empty:
        return TIMES
    within = {t: name for t, name in TIMES.items() if seconds.min() <= t <= seconds.max()}
    if len(within) < 2:
        every = dict(sorted((TIMES | MORE_TIMES).items()))
        within = {t: name for t, name in every.items() if seconds.min() <= t <= seconds.max()}
    return within


def leaders(means: pd.DataFrame, times: dict[float, str]) -> pd.DataFrame:
    """The row of bands.csv with the highest mean at each time, which stands in `at_seconds`."""
    rows = []
    for time in times:
        reached = means[means["seconds"] <= time].sort_values(["configuration", "epoch"])
        latest = reached.groupby("configuration", observed=True).tail(1)
        if len(latest):
            rows.append(latest.loc[[latest["mean"].idxmax()]].assign(at_seconds=time))
    return pd.concat(rows) if rows else means.head(0).assign(at_seconds=0.0)


def describe(leads: pd.DataFrame, times: dict[float, str], tables: figures.Tables) -> str:
    """Who leads at each time, in words."""
    parts = [
        f"after {times[row['at_seconds']]} {configuration_label(row, tables.study)}, "
        f"{estimate_words(row, 'mean', scale=100, unit='%')}"
        for _, row in leads.iterrows()
    ]
    return f"Highest mean test accuracy: {'; '.join(parts)}." if parts else ""


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run_command(main)
