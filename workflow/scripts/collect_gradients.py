"""Make gradients.csv: the gradient's norm at each convolution, by epoch, over seeds.

    python workflow/scripts/collect_gradients.py --study results/skip/study.json \\
        --runs results/skip/runs.csv --curves results/skip/curves.csv \\
        --data results/data/cifar10 --out results/skip/gradients.csv

One row per configuration, epoch and convolution, the first one being 1 (docs/studies.md says what
the norms rest on). Means over seeds are of log10; `zeros` of the norms were 0, which counts as the
smallest positive float32.
"""

from typing import Any

import numpy as np

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
from normres.grid import HISTORY
from normres.history import read_gradient_norms

NORM = "log10_gradient"


def rows(inputs: Inputs) -> list[dict[str, Any]]:
    """The rows of gradients.csv."""
    found = []
    for cells, members in groups(inputs.runs, key_columns(inputs.study)):
        folders = [inputs.folder / "runs" / run for run in members["run"]]
        read = [read_gradient_norms(folder / HISTORY) for folder in folders]
        for epoch, of_runs in enumerate(zip(*read, strict=True)):
            table = np.array([norms for norms in of_runs if norms])  # (runs, convolutions)
            for convolution in range(table.shape[1] if table.size else 0):
                norms = table[:, convolution]
                found.append(
                    {**cells, "epoch": epoch, "convolution": convolution + 1}
                    | {"convolutions": table.shape[1], "n": len(norms)}
                    | {"zeros": int((norms == 0).sum())}
                    | estimate_cells(NORM, np.log10(np.maximum(norms, LEAST_NORM)))
                )
    return found


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv)
    columns = [*key_columns(inputs.study), "epoch", "convolution", "convolutions", "n", "zeros"]
    inputs.write(rows(inputs), columns + estimate_columns(NORM))


if __name__ == "__main__":
    run_command(main)
