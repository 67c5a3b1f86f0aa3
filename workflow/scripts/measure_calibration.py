"""Make calibration.csv: how well confidence fits accuracy, before and after temperature scaling.

    python workflow/scripts/measure_calibration.py --study results/quickstart/study.json \\
        --runs results/quickstart/runs.csv --curves results/quickstart/curves.csv \\
        --data results/data/digits --out results/quickstart/calibration.csv

One row per configuration, from the test logits that its runs left: expected calibration error with
15 bins, negative log-likelihood, and both after temperature scaling. A temperature is fitted on one
half of the test images and judged on the other. `left_out`: complete runs whose logits are those of
another epoch than the study's last.
"""

from typing import Any

from normres.analysis import (
    Inputs,
    estimate_cells,
    estimate_columns,
    groups,
    key_columns,
    read_inputs,
)
from normres.calibration import calibrate
from normres.errors import run_command
from normres.images import open_images
from normres.inference import FRACTION, NONNEGATIVE
from normres.predictions import read_predictions

MEASURES = {
    "ece": FRACTION,
    "ece_scaled": FRACTION,
    "temperature": NONNEGATIVE,
    "nll": NONNEGATIVE,
    "nll_scaled": NONNEGATIVE,
}


def rows(inputs: Inputs) -> list[dict[str, Any]]:
    """The rows of calibration.csv."""
    predictions = read_predictions(inputs.study, inputs.folder, open_images(inputs.data))
    measured = {name: calibrate(run.logits, run.labels) for name, run in predictions.runs.items()}
    found = []
    for cells, members in groups(inputs.runs, key_columns(inputs.study)):
        of_runs = [measured[run] for run in members["run"] if run in measured]
        row = {**cells, "n": len(of_runs), "left_out": len(members) - len(of_runs)}
        for name, bounds in MEASURES.items():
            row |= estimate_cells(name, [values[name] for values in of_runs], bounds)
        found.append(row)
    return found


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv)
    columns = [*key_columns(inputs.study), "n"]
    columns += [column for name in MEASURES for column in estimate_columns(name)]
    inputs.write(rows(inputs), [*columns, "left_out"])


if __name__ == "__main__":
    run_command(main)
