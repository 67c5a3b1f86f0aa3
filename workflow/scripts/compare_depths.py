"""Make depths.csv: how the first convolution's gradient and the accuracy change with depth.

    python workflow/scripts/compare_depths.py --study results/skip/study.json \\
        --runs results/skip/runs.csv --curves results/skip/curves.csv \\
        --data results/data/cifar10 --out results/skip/depths.csv

One row per line over depth: for each seed the slope of a least-squares line, for one more block per
stage; then the mean over seeds. Where a study has two models or more, a row with `minus` is the
difference of two models' slopes, paired over seeds, which share what weights the models share.
Gradients are log10 norms before training (`start`) and after the last epoch (`end`). A norm of 0
has vanished in float32 and counts as its smallest positive number, so such a slope is at least as
steep as it says.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from normres.analysis import (
    LEAST_NORM,
    Inputs,
    estimate_cells,
    estimate_columns,
    groups,
    key_columns,
    read_inputs,
)
from normres.errors import run_command

AXIS, MODEL = "depth", "model"
START, END, ACCURACY = "log10_first_gradient_start", "log10_first_gradient_end", "test_accuracy"
# Of two models only one takes it: its runs without the option are compared, and those with it.
ONE_SIDED = "zero_init_residual"


def quantities(inputs: Inputs) -> pd.DataFrame:
    """The runs, with one column per quantity."""
    runs = inputs.runs.set_index("run", drop=False)
    key = [*key_columns(inputs.study), "seed"]
    start = inputs.curves[inputs.curves["epoch"] == 0]
    merged = runs.merge(start[[*key, "first_conv_grad_norm"]], on=key, suffixes=("", "_start"))
    return merged.assign(
        **{
            START: np.log10(merged["first_conv_grad_norm_start"].clip(lower=LEAST_NORM)),
            END: np.log10(merged["first_conv_grad_norm"].clip(lower=LEAST_NORM)),
            AXIS: merged[AXIS].astype(float),
        }
    )


def slopes(runs: pd.DataFrame, quantity: str) -> pd.Series:
    """The slope of `quantity` on depth for each seed that has a run at every depth."""
    table = runs.pivot_table(index="seed", columns=AXIS, values=quantity).dropna()
    if table.empty or table.shape[1] < 2:
        return pd.Series(dtype=float)
    fitted = np.polynomial.polynomial.polyfit(table.columns.to_numpy(float), table.T.to_numpy(), 1)
    # Rounding must not give equal slopes a spread.
    return pd.Series(fitted[1].round(12), index=table.index)


def rows(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """The rows of depths.csv: lines, then differences of models."""
    runs = quantities(inputs)
    key = key_columns(inputs.study, without=(AXIS,))
    found = []
    for cells, members in groups(runs, key):
        depths = " ".join(f"{depth:g}" for depth in sorted(members[AXIS].unique()))
        for quantity in (START, END, ACCURACY):
            line = slopes(members, quantity)
            found.append((cells, quantity, depths, line))
            yield row(cells, "", quantity, depths, line)
    for (one, quantity, depths, a), (other, same, same_depths, b) in itertools.combinations(
        found, 2
    ):
        differ = {name for name in key if str(one[name]) != str(other[name])}
        alike = differ - {ONE_SIDED} == {MODEL} and comparable(one, other)
        if alike and quantity == same and depths == same_depths:
            yield row(one, other[MODEL], quantity, depths, (a - b).dropna())


def comparable(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether an option that one of two models does not take is all that sets them apart."""
    values = [cells.get(ONE_SIDED) for cells in (one, other)]
    return values[0] == values[1] or any(map(pd.isna, values))


def row(
    cells: dict[str, Any], minus: str, quantity: str, depths: str, values: pd.Series
) -> dict[str, Any]:
    """One row, of a slope a seed."""
    said = {"minus": minus, "quantity": quantity, "depths": depths, "n": len(values)}
    return {**cells, **said, **estimate_cells("slope", values)}


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv, "depths")
    columns = [*key_columns(inputs.study, without=(AXIS,)), "minus", "quantity", "depths", "n"]
    inputs.write(list(rows(inputs)), columns + estimate_columns("slope"))


if __name__ == "__main__":
    run_command(main)
