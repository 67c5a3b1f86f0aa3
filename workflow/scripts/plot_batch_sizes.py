"""Draw accuracy against the images that a batch has, or that batch norm's statistics see.

    python workflow/scripts/plot_batch_sizes.py --batch_sizes results/S/batch_sizes.csv \\
        --study results/S/study.json --bands results/S/bands.csv --curves results/S/curves.csv \\
        --summary results/S/summary.csv --runs results/S/runs.csv \\
        --out results/S/figures/batch_sizes

After Wu & He (2018, "Group Normalization", figure 1), one panel per way to vary the batch.
"""

import pandas as pd
from matplotlib.figure import Figure

from normres import figures, lines
from normres.errors import run_command
from normres.findings import estimate_words
from normres.tables import norm_title
from normres.wording import lost_runs

PARTS = ("mean", "low", "high")
ARMS = {
    ("batch", "constant"): "batch, one learning rate",
    ("batch", "sqrt"): "batch, learning rate by its root",
    ("ghost", "constant"): "only what the statistics see",
}


def draw(tables: figures.Tables) -> tuple[Figure, pd.DataFrame, str]:
    """Draw the figure; return it, the rows it shows (in %) and its finding."""
    study = tables.study
    drawn = tables.others["batch_sizes"]
    drawn = drawn.assign(**{part: 100 * drawn[f"test_accuracy_{part}"] for part in PARTS})
    several = len(study["models"]) > 1
    arm = pd.Series(
        [
            ARMS.get((a, scaling), f"{a}, {scaling} learning rate")
            for a, scaling in zip(drawn["arm"], drawn["learning_rate_scaling"], strict=True)
        ],
        drawn.index,
        dtype=object,
    )
    rows = drawn.assign(
        panel=drawn["model"].astype(str) + ", " + arm if several else arm,
        line=drawn["norm"].map(norm_title),
        x=drawn["images"],
    )
    figure = lines.line_figure(
        rows,
        {norm_title(name): look for name, look in figures.looks(study, "norm").items()},
        lines.Axis("images", log=True),
        "test accuracy (%)",
        question="Which norm bears small batches, and is it the statistics that fail?",
        study=study,
        notes=[
            "Mark and bar: mean after the last epoch and its 95 % interval (Student's t), which "
            "may run out of the panel; numbers: the right end. Statistics: ghost "
            f"batches at one batch of the optimiser. {figures.count_note(drawn['n'])}",
            figures.missing_note(tables),
        ],
        most=100,
    )
    return figure, drawn, describe(rows)


def describe(rows: pd.DataFrame) -> str:
    """Each line's accuracy at the fewest images, and what it lost from its reference.

    Where no run is complete at the fewest images that were asked for, that is said first.
    """
    parts: dict[str, list[str]] = {}
    for (panel, line), own in rows.groupby(["panel", "line"], sort=False):
        asked, measured = own.loc[own["images"].idxmin()], own[own["n"] > 0]
        if not asked["n"]:
            lost = f"{line} ({panel}), no run is complete ({lost_runs(asked)})"
            parts.setdefault(f"at {asked['images']:g} images", []).append(lost)
        if measured.empty:
            continue
        row = measured.loc[measured["images"].idxmin()]
        if row["images"] == row["reference_images"]:
            continue
        reference = measured[measured["images"] == row["reference_images"]].iloc[0]
        images = f"from {row['reference_images']:g} to {row['images']:g} images"
        parts.setdefault(images, []).append(f"{line} ({panel}), {change_words(row, reference)}")
    told = "; ".join(f"{images}: {'; '.join(lost)}" for images, lost in parts.items())
    return f"{told[0].upper()}{told[1:]}." if told else ""


def change_words(row: pd.Series, reference: pd.Series) -> str:
    """A point's difference from its line's reference, with the runs on both sides."""
    change = {f"difference_{part}": 100 * row[f"difference_{part}"] for part in PARTS}
    words = estimate_words({**change, "n": row["n"]}, "difference_mean", unit="points")
    counts = [f" ({lost})" if (lost := lost_runs(side)) else "" for side in (row, reference)]
    return f"{words}{counts[0]} against {reference['n']}{counts[1]}"


def main(argv: list[str] | None = None) -> int | None:
    figures.render(draw, figures.parser(__doc__, "batch_sizes").parse_args(argv))


if __name__ == "__main__":
    run_command(main)
