"""Make reliability.csv: accuracy against confidence, in bins of the confidence.

    python workflow/scripts/measure_reliability.py --study results/quickstart/study.json \\
        --runs results/quickstart/runs.csv --curves results/quickstart/curves.csv \\
        --data results/data/digits --out results/quickstart/reliability.csv

One row per configuration and bin, from the test logits that its runs left, without temperature
scaling: the 15 bins that the expected calibration error of calibration.csv sums up. `n`: runs that
have an image in the bin, each with the same weight. `left_out`: complete runs whose logits are
those of another epoch than the study's last.
"""

from typing import Any

import numpy as np

from normres.analysis import (
    Inputs,
    estimate_cells,
    estimate_columns,
    groups,
    key_columns,
    read_inputs,
)
from normres.calibration import BINS, reliability
from normres.errors import run_command
from normres.images import open_images
from normres.inference import FRACTION
from normres.predictions import read_predictions

EDGES = ["bin", "bin_low", "bin_high"]


def rows(inputs: Inputs) -> list[dict[str, Any]]:
    """The rows of reliability.csv."""
    predictions = read_predictions(inputs.study, inputs.folder, open_images(inputs.data))
    binned = {name: reliability(run.logits, run.labels) for name, run in predictions.runs.items()}
    found = []
    for cells, members in groups(inputs.runs, key_columns(inputs.study)):
        of_runs = [binned[run] for run in members["run"] if run in binned]
        left_out = len(members) - len(of_runs)
        for i in range(BINS):
            some = [run for run in of_runs if run["share"][i] > 0]
            edges = dict(zip(EDGES, (i + 1, i / BINS, (i + 1) / BINS), strict=True))
            means = {
                "share_mean": np.mean([run["share"][i] for run in of_runs]) if of_runs else None,
                "confidence_mean": np.mean([run["confidence"][i] for run in some])
                if some
                else None,
            }
            accuracy = estimate_cells("accuracy", [run["accuracy"][i] for run in some], FRACTION)
            row = {**cells, **edges, "n": len(some), **means, **accuracy}
            found.append(row | {"left_out": left_out})
    return found


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv)
    columns = [*key_columns(inputs.study), *EDGES, "n", "share_mean", "confidence_mean"]
    inputs.write(rows(inputs), [*columns, *estimate_columns("accuracy"), "left_out"])


if __name__ == "__main__":
    run_command(main)
