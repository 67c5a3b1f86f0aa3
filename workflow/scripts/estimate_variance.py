"""Make variance.csv: how much of the variance of accuracy is of initialisation, how much of order.

    python workflow/scripts/estimate_variance.py --study results/variance/study.json \\
        --runs results/variance/runs.csv --curves results/variance/curves.csv \\
        --data results/data/cifar10 --out results/variance/variance.csv

For each model and norm (and the other axes) test accuracies form a table of initialisation seeds x
order seeds, one run per cell. One row per component: `initialization`, `order`, their
`interaction`, and the `total`; `share` is the component's part of the sum of the three. A table
with empty cells, as where a run diverged, is estimated on the initialisations that have a run with
every order.
"""

from collections.abc import Iterator
from math import sqrt
from typing import Any

from normres.analysis import Inputs, groups, key_columns, read_inputs
from normres.components import crossed_components
from normres.errors import run_command
from normres.inference import NO_SPREAD, is_constant

START, ORDER = "initialization_seed", "order_seed"
NAMES = {"rows": "initialization", "columns": "order", "interaction": "interaction"}
COLUMNS = [
    *("component", "variance", "sd", "sd_low", "sd_high", "share", "p"),
    *("initializations", "orders", "mean", "reason"),
]


def rows(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """The rows of variance.csv."""
    for cells, members in groups(inputs.runs, key_columns(inputs.study, without=(START, ORDER))):
        whole = members.pivot_table(index=START, columns=ORDER, values="test_accuracy")
        table = whole.reindex(columns=[str(seed) for seed in inputs.study["axes"][ORDER]]).dropna()
        size = {"initializations": table.shape[0], "orders": table.shape[1]}
        if min(table.shape) < 2:
            reason = "fewer than two initialisations have a complete run with every order"
            yield cells | {"component": "total", **size, "reason": reason}
            continue
        if is_constant(table.to_numpy().ravel()):
            reason = NO_SPREAD.format(n=table.size)
            yield cells | {"component": "total", **size, "reason": reason}
            continue
        found = crossed_components(table.to_numpy())
        parts = sum(found[name].variance for name in NAMES)
        for name, component in found.items():
            yield cells | {
                "component": NAMES.get(name, name),
                "variance": component.variance,
                "sd": sqrt(component.variance),
                "sd_low": sqrt(component.low),
                "sd_high": sqrt(component.high),
                "share": component.variance / parts if name in NAMES and parts else None,
                "p": component.p,
                **size,
                "mean": table.to_numpy().mean(),
                "reason": "",
            }


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv, "variance")
    inputs.write(list(rows(inputs)), [*key_columns(inputs.study, (START, ORDER)), *COLUMNS])


if __name__ == "__main__":
    run_command(main)
