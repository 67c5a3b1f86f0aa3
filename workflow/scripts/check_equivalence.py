"""Make equivalence.csv: what one change does to accuracy, and whether it does less than a margin.

    python workflow/scripts/check_equivalence.py --study results/affine-and-bias/study.json \\
        --runs results/affine-and-bias/runs.csv --curves results/affine-and-bias/curves.csv \\
        --data results/data/cifar10 --out results/affine-and-bias/equivalence.csv

A row is a pair of configurations of one model that differ in `conv_bias`, in `affine`, or in the
norm (none against a norm without scale and shift: what normalisation alone does). Differences are
after minus before, paired over seeds, since both sides share seed, order and initial weights. Two
one-sided paired t tests (Schuirmann 1987) ask whether they are within half a point; the interval is
the 90 % one that goes with them. `equivalent` says that of a row alone; of all rows of the table
together, those are shown to be whose p is below 0.05 after Holm's adjustment (`p_holm`).
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pandas as pd

from normres.analysis import Inputs, groups, key_columns, read_inputs
from normres.errors import run_command
from normres.inference import difference, differences, equivalence, holm

MARGIN = 0.005  # half a point, as a fraction
AXES = ("conv_bias", "affine")
COLUMNS = [
    *("changed", "before", "after", "n", "difference_mean", "difference_sd", "difference_low"),
    *("difference_high", "correlation", "margin", "p", "p_holm", "equivalent", "reason"),
]


def changes(one: dict[str, Any], other: dict[str, Any], affine: str) -> str | None:
    """What alone sets two configurations apart, with `one` as the side before the change.

    affine: "true" or "false", the second one's where that is no axis of the study.
    """
    differ = [name for name in one if str(one[name]) != str(other[name])]
    if len(differ) == 1 and differ[0] in AXES:
        return differ[0]
    # A norm brings its option `affine` with it; without scale and shift it only normalises.
    plain = one["norm"] == "none" and other.get("affine", affine) == "false"
    return "norm" if plain and set(differ) <= {"norm", "affine"} and "norm" in differ else None


def rows(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """The rows of equivalence.csv; the cells of the configuration are those after the change."""
    key = key_columns(inputs.study)
    accuracy = [
        (cells, members.set_index("seed")["test_accuracy"])
        for cells, members in groups(inputs.runs, key)
    ]
    order = {
        axis: [str(value).lower() for value in inputs.study["axes"].get(axis, [])] for axis in AXES
    }
    affine = {
        (run["model"], run["norm"]): str(run["specification"].get("affine", False)).lower()
        for run in inputs.study["runs"]
    }
    for (one, before), (other, after) in itertools.permutations(accuracy, 2):
        changed = changes(one, other, affine[other["model"], other["norm"]])
        if changed is None or not ascending(changed, one, other, order):
            continue
        pairs = pd.concat([after, before], axis="columns", join="inner").to_numpy(float)
        tested = equivalence(pairs[:, 0], pairs[:, 1], MARGIN, paired=True)
        found = difference(pairs[:, 0], pairs[:, 1], paired=True)
        yield other | {
            "changed": changed,
            "before": one[changed],
            "after": other[changed],
            "n": len(pairs),
            "difference_mean": found.estimate,
            "difference_sd": differences(*pairs.T).std(ddof=1) if len(pairs) > 1 else None,
            "difference_low": tested.low,
            "difference_high": tested.high,
            "correlation": found.correlation,
            "margin": MARGIN,
            "p": tested.p,
            "equivalent": tested.equivalent,
            "reason": tested.reason,
        }


def ascending(
    changed: str, one: dict[str, Any], other: dict[str, Any], order: dict[str, list[str]]
) -> bool:
    """Whether the change adds something: parameters to a network, or a norm to none."""
    if changed == "norm":
        return True
    if changed == "affine":
        return other[changed] == "true"
    return order[changed].index(one[changed]) < order[changed].index(other[changed])


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv, "equivalence")
    found = list(rows(inputs))
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p
    inputs.write(found, [*key_columns(inputs.study), *COLUMNS])


if __name__ == "__main__":
    run_command(main)
