"""Make learning_rates.csv: the rate that validation images choose, and what it gains on test.

    python workflow/scripts/choose_learning_rates.py --study results/learning-rate/study.json \\
        --runs results/learning-rate/runs.csv --curves results/learning-rate/curves.csv \\
        --data results/data/cifar10 --out results/learning-rate/learning_rates.csv

One row per configuration. `chosen`: the rate with the highest mean accuracy on the held-out images
after the last epoch, for this model, norm and the other axes, among the rates at which no more runs
diverged than at others, over those seeds of which no run failed at any of these rates.
`seeds_best`: for how many seeds it is the best one. `common`: the best rate where all norms have to
share one. `gain`: test accuracy of the chosen rate minus that of this row, paired over seeds, which
share initial weights and order. It is too high: the runs that chose the rate are those that are
measured, and what was luck in choosing is luck in measuring, too.
"""

from typing import Any

import pandas as pd

from normres.analysis import (
    Inputs,
    difference_cells,
    estimate_cells,
    estimate_columns,
    groups,
    key_columns,
    read_inputs,
)
from normres.errors import InputError, run_command
from normres.inference import FRACTION, difference

RATE, VALIDATION, TEST = "learning_rate", "validation_accuracy", "test_accuracy"


def by_rate(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per seed, one column per learning rate; NaN where a run is not complete."""
    return runs.pivot_table(index="seed", columns=RATE, values=column, sort=False, dropna=False)


def mean_scores(asked: pd.DataFrame) -> pd.Series:
    """The mean validation accuracy of each rate at which no more runs diverged than at others.

    What is left where others diverged is no fair sample: such a rate is not chosen. A run that
    failed, as for want of memory, says nothing of its rate: its seed is left out at all of them,
    unless no seed would remain. One run or more has to be complete.
    """
    validation = by_rate(asked[asked["status"] == "ok"], VALIDATION)
    status = asked.pivot(index="seed", columns=RATE, values="status")[validation.columns]
    diverged = (status == "diverged").sum()
    steady = validation.loc[:, diverged == diverged.min()]
    failed = (status[steady.columns] == "failed").any(axis="columns").reindex(steady.index)
    scores = steady[~failed].mean().dropna()
    return steady.mean() if scores.empty else scores


def best(scores: pd.Series) -> str:
    """The rate with the highest mean; of equal ones the smaller one."""
    ordered = scores.loc[sorted(scores.index, key=float)]
    return str(ordered.idxmax())


def common_rates(inputs: Inputs) -> dict[tuple[Any, ...], str]:
    """The best rate for all norms together, by model and the other axes.

    Each norm has the same weight. Only rates count at which every norm has a complete run.
    """
    by = key_columns(inputs.study, without=("norm", RATE))
    found = {}
    for cells, members in groups(inputs.asked, by):
        of_norms = [runs for _, runs in groups(members, ["norm"]) if (runs["status"] == "ok").any()]
        means = pd.DataFrame([mean_scores(runs) for runs in of_norms])
        complete = means.dropna(axis="columns")
        if not complete.empty:
            found[tuple(map(str, cells.values()))] = best(complete.mean())
    return found


def rows(inputs: Inputs) -> list[dict[str, Any]]:
    """The rows of learning_rates.csv, in the order of study.json."""
    key = key_columns(inputs.study, without=(RATE,))
    common, found = common_rates(inputs), []
    for cells, asked in groups(inputs.asked, key):
        members = asked[asked["status"] == "ok"]
        if members.empty:
            continue
        validation, test = by_rate(members, VALIDATION), by_rate(members, TEST)
        chosen = best(mean_scores(asked))
        winners = validation.dropna(how="all").apply(best, axis="columns")
        shared = common.get(tuple(str(value) for name, value in cells.items() if name != "norm"))
        for rate in validation.columns:
            compared = difference(test[chosen], test[rate], paired=True)
            gain = {"gain_n": compared.n_a, **difference_cells("gain", compared)}
            runs = members[members[RATE] == rate]
            found.append(
                {**cells, RATE: rate, "n": len(runs)}
                | estimate_cells(VALIDATION, runs[VALIDATION], FRACTION)
                | estimate_cells(TEST, runs[TEST], FRACTION)
                | {"chosen": rate == chosen, "seeds_best": int((winners == rate).sum())}
                | {"common": rate == shared}
                | (gain if rate != chosen else dict.fromkeys(gain, pd.NA))
            )
    return found


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv, "learning_rates")
    complete = inputs.asked[inputs.asked["status"] == "ok"]
    if len(complete) and complete[VALIDATION].isna().all():
        raise InputError(
            "no run has a validation accuracy, by which a learning rate is chosen: the study needs "
            "validation_images"
        )
    columns = [*key_columns(inputs.study, without=(RATE,)), RATE, "n"]
    columns += estimate_columns(VALIDATION) + estimate_columns(TEST)
    columns += ["chosen", "seeds_best", "common", "gain_n", "gain_mean", "gain_low", "gain_high"]
    inputs.write(rows(inputs), columns)


if __name__ == "__main__":
    run_command(main)
