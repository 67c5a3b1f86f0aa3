"""Draw the expected calibration error of each configuration, before and after temperature scaling.

    python workflow/scripts/plot_calibration.py --calibration results/S/calibration.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/calibration
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normres import figures, rows
from normres.errors import run_command
from normres.findings import estimate_words
from normres.parts import cells_of, showing
from normres.report_tables import configuration_label
from normres.tables import configuration_columns
from normres.wording import estimate_text

BEFORE, AFTER = "ece", "ece_scaled"
ARROW = "\N{RIGHTWARDS ARROW}"
HEADER = f"before {ARROW} after, % [95 % interval]"
ENDS = [f"{name}_{part}" for name in (BEFORE, AFTER) for part in ("mean", "low", "high")]
APART = 0.16  # of a row: from its middle to either mark


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (errors in %) and its finding."""
    study = tables.study
    drawn = tables.others["calibration"].sort_values("configuration", kind="stable")
    drawn = drawn.assign(**{column: 100 * drawn[column].astype(float) for column in ENDS})
    left_out = int(drawn["left_out"].sum())
    cells = [cells_of(row, study) for row in drawn.to_dict("records")]
    figure, axes = rows.row_page(
        rows.labels(drawn, study),
        [result_text(row) for row in drawn.to_dict("records")],
        HEADER,
        question="How far is confidence from accuracy, and does a temperature mend it?",
        study=study,
        notes=[
            "Mark and line: expected calibration error on the test images (15 bins of equal width; "
            "Guo et al. 2017), mean over n seeds and its 95 % interval. Open: before; full: after "
            "temperature scaling, each half of the images with the temperature that fits the "
            "other half. Of few images the error is above 0 even where confidence is right.",
            f"{left_out} runs trained on and have no logits of the last epoch." * (left_out > 0),
            figures.missing_note(tables),
        ],
        shows=cells,
    )
    for height, (look, row) in enumerate(
        zip(rows.looks(drawn, study), drawn.to_dict("records"), strict=True)
    ):
        for name, at, face in ((BEFORE, -APART, "white"), (AFTER, APART, look.colour)):
            ends = [row[f"{name}_{part}"] for part in ("mean", "low", "high")]
            mark = {"mfc": face, "mec": look.colour, "mew": 1, "ms": 4.5}
            with showing(axes, cells[height]):
                rows.draw_interval(axes, height + at, ends, look.colour, **mark)
    means = drawn[[f"{BEFORE}_mean", f"{AFTER}_mean"]].to_numpy(float)
    _, high = rows.limits(np.append(means.ravel(), 0.0), 0.5)
    axes.set_xlim(0, min(100, 1.4 * high))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("expected calibration error (%)")
    if np.isnan(means).all():
        figures.say_empty(axes)
    kept = [*configuration_columns(study), "configuration", "n", *ENDS, "left_out"]
    return figure, drawn[kept], describe(drawn, study)


def result_text(row: Mapping[str, Any]) -> str:
    """A configuration's error before and after scaling, with intervals and n."""
    if not row["n"]:
        return "no complete run"
    both = [
        estimate_text(*(row[f"{name}_{part}"] for part in ("mean", "low", "high")), row["n"])
        for name in (BEFORE, AFTER)
    ]
    return f"{both[0]} {ARROW} {both[1]}, n = {row['n']}"


def describe(drawn: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """The largest and the smallest error, and what scaling makes of them."""
    found = drawn[drawn[f"{BEFORE}_mean"].notna()].sort_values(f"{BEFORE}_mean", ascending=False)
    if found.empty:
        return ""
    ends = found.iloc[[0, -1]] if len(found) > 1 else found
    words = [
        f"{configuration_label(row, study)}, {estimate_words(row, f'{BEFORE}_mean', unit='%')}, "
        f"after temperature scaling {estimate_words(row, f'{AFTER}_mean', unit='%')}"
        for _, row in ends.iterrows()
    ]
    if len(words) == 1:
        return f"Expected calibration error: {words[0]}."
    return f"Largest mean calibration error: {words[0]}; smallest: {words[1]}."


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "calibration").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
