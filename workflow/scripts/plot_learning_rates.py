"""Draw the final accuracy against the learning rate, with the rate that validation images choose.

    python workflow/scripts/plot_learning_rates.py --learning_rates results/S/learning_rates.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/learning_rates
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures, lines
from normres.errors import run_command
from normres.findings import estimate_words
from normres.tables import axis_text, norm_title

RATE = "learning_rate"
PARTS = ("mean", "low", "high")


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    study = tables.study
    drawn = tables.others["learning_rates"]
    drawn = drawn.assign(
        **{part: 100 * drawn[f"test_accuracy_{part}"].astype(float) for part in PARTS},
        **{name: drawn[name].astype(str).str.lower().eq("true") for name in ("chosen", "common")},
    )
    split = lines.panel_columns(study, ("norm", RATE))
    rows = drawn.assign(
        panel=[lines.cell_words(row, split) for row in drawn.to_dict("records")],
        line=drawn["norm"].map(norm_title),
        x=pd.to_numeric(drawn[RATE]),
        ring=drawn["chosen"],
    )
    figure = lines.line_figure(
        rows,
        {norm_title(name): look for name, look in figures.looks(study, "norm").items()},
        lines.Axis("learning rate", log=True),
        "test accuracy (%)",
        question="Is one learning rate fair to all norms?",
        study=study,
        notes=[
            "Mark and bar: mean after the last epoch and its 95 % interval (Student's t), which "
            "may run out of the panel. Ring, and the number beside the line: the rate with the "
            "highest mean accuracy on held-out training images; test images choose nothing. "
            f"{figures.count_note(drawn['n'])}",
            figures.missing_note(tables),
        ],
        most=100,
    )
    return figure, drawn, describe(rows)


def describe(rows: pd.DataFrame) -> str:
    """Each norm's chosen rate, and what the one rate that all would share costs it."""
    parts = []
    for (panel, line), own in rows[rows["mean"].notna()].groupby(["panel", "line"], sort=False):
        name = f"{line} ({panel})" if panel else line
        for _, row in own[own["chosen"]].iterrows():
            accuracy = estimate_words(row, "mean", unit="%")
            parts.append(f"{name} {axis_text(row[RATE])}, test accuracy {accuracy}{cost(own)}")
    if not parts:
        return ""
    overstated = any(", less " in part for part in parts)
    note = " What a rate costs is overstated: the same runs chose." if overstated else ""
    return f"Learning rate chosen on held-out images: {'; '.join(parts)}.{note}"


def cost(own: pd.DataFrame) -> str:
    """What the common rate costs a norm, `own` being the rows of its rates; n counts pairs."""
    shared = own[own["common"] & ~own["chosen"] & own["gain_mean"].notna()]
    if shared.empty:
        return ", also the best rate for all" if (own["common"] & own["chosen"]).any() else ""
    row = shared.iloc[0]
    gain = {f"gain_{part}": 100 * row[f"gain_{part}"] for part in PARTS} | {"n": row["gain_n"]}
    words = estimate_words(gain, "gain_mean", unit="points")
    return f", less {words}, at {axis_text(row[RATE])}, the best rate for all"


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "learning_rates").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
