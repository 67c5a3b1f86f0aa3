"""Draw gradient norms: at each convolution, or at the first one against the networks' depth.

    python workflow/scripts/plot_gradient_norms.py --against convolution \\
        --gradients results/S/gradients.csv --study results/S/study.json \\
        --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/gradient_norms

Before training and after the last epoch, as log10 (docs/studies.md says what the norms rest on).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from normres import figures, lines
from normres.errors import run_command
from normres.figures import Look
from normres.findings import estimate_words

PARTS = ("mean", "low", "high")
MOST_COLUMNS = 6  # so that what is before training stands above what is after it
START, END = "before training", "after the last epoch"
LINES = {"convolution": ("model", "depth"), "depth": lines.NETWORK}
QUESTIONS = {
    "convolution": "Do gradients reach the first convolutions?",
    "depth": "Does the gradient of the first convolution vanish with depth?",
}


def draw(tables: figures.Tables, against: str) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (log10) and its finding."""
    study = tables.study
    drawn = chosen_rows(tables.others["gradients"], against)
    drawn = drawn.assign(**{part: drawn[f"log10_gradient_{part}"] for part in PARTS})
    by_line = [column for column in LINES[against] if column in drawn]
    split = lines.panel_columns(study, (*by_line, against))
    drawn = drawn.assign(
        line=[lines.cell_words(row, by_line) for row in drawn.to_dict("records")],
        group=[lines.cell_words(row, split) for row in drawn.to_dict("records")],
        when=drawn["epoch"].eq(0).map({True: START, False: END}),
        x=pd.to_numeric(drawn[against]),
    )
    # A network that starts as its shortcuts has zeros at every other convolution, by construction:
    # they are marked at the edge, or nothing else could be told apart.
    drawn["zero"] = (against == "convolution") & drawn["n"].gt(0) & drawn["zeros"].eq(drawn["n"])
    drawn.loc[drawn["zero"], list(PARTS)] = float("nan")
    drawn = drawn.sort_values(["when", "configuration"], ascending=[False, True], kind="stable")
    groups = drawn["group"].drop_duplicates().tolist()
    drawn["panel"] = [
        ", ".join(filter(None, words)) for words in zip(drawn["group"], drawn["when"], strict=True)
    ]
    labels = {"convolution": "convolution (1 is the first)", "depth": "depth (blocks per stage)"}
    figure = lines.line_figure(
        drawn,
        lines.network_looks(drawn, study) if against == "depth" else depth_looks(drawn, study),
        lines.Axis(labels[against]),
        "log10 of the gradient's norm",
        columns=max(1, len(groups)) if len(groups) <= MOST_COLUMNS else 4,
        question=QUESTIONS[against],
        study=study,
        notes=[
            "Norm of the loss's gradient at a convolution's weights, on 32 training images: mean "
            "of log10 over seeds and its 95 % interval (Student's t), which may run out of the "
            f"panel; numbers: at the right end. {explain_zeros(drawn)} "
            f"{figures.count_note(drawn['n'])}",
            figures.missing_note(tables),
        ],
    )
    return figure, drawn.drop(columns=["x", "panel", "zero"]), describe(drawn, against)


def explain_zeros(drawn: pd.DataFrame) -> str:
    """What became of norms of 0, which have no logarithm."""
    marked = " Crosses at the lower edge: 0 in all runs." if drawn["zero"].any() else ""
    return f"A norm of 0 counts as the smallest float32, 1.4e-45.{marked}"


def chosen_rows(gradients: pd.DataFrame, against: str) -> pd.DataFrame:
    """The rows of epoch 0 and of each configuration's last epoch; of the first convolution."""
    last = gradients.groupby("configuration", observed=True)["epoch"].transform("max")
    rows = gradients[(gradients["epoch"] == 0) | (gradients["epoch"] == last)]
    return rows[rows["convolution"] == 1] if against == "depth" else rows


def depth_looks(drawn: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, Look]:
    """A look a line: colour by network, paler for what is shallower."""
    palette = figures.colours(study["models"], figures.MODEL_COLOURS)
    looks, marked = {}, figures.marks(study["models"], figures.MODEL_COLOURS)
    for model, rows in drawn.groupby("model", sort=False):
        names = rows.sort_values("configuration")["line"].drop_duplicates().tolist()
        for i, name in enumerate(names):
            pale = 0.55 * (len(names) - 1 - i) / max(1, len(names) - 1)
            colour = figures.mix(palette[model], "#FFFFFF", pale)
            looks[name] = Look(colour, *marked[model])
    return looks


def describe(drawn: pd.DataFrame, against: str) -> str:
    """The smallest mean of the first convolution before training, and the largest."""
    first = drawn[(drawn["convolution"] == 1) & (drawn["epoch"] == 0) & drawn["mean"].notna()]
    if first.empty:
        return ""
    words = []
    for row in (first.loc[first["mean"].idxmin()], first.loc[first["mean"].idxmax()]):
        depth = f", depth {row['depth']}" if against == "depth" else ""
        name = f"{row['line']}{depth}" + (f" ({row['group']})" if row["group"] else "")
        words.append(f"{name}, {estimate_words(row, 'mean')}")
    return (
        "log10 of the gradient's norm at the first convolution before training, smallest: "
        f"{words[0]}; largest: {words[1]}."
    )


def main(argv: list[str] | None = None) -> int | None:
    parser = figures.parser(__doc__, "gradients")
    parser.add_argument("--against", choices=list(QUESTIONS), required=True, help="the x axis")
    arguments = parser.parse_args(argv)
    figures.render(partial(draw, against=arguments.against), arguments)


if __name__ == "__main__":
    run_command(main)
