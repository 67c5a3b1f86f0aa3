"""Compare configurations: the declared comparisons with tests, all others with a difference only.

    python workflow/scripts/compare_configurations.py --study results/S/study.json \\
        --declared results/S/.comparisons-DIGEST.json --runs results/S/runs.csv \\
        --dataset results/data/D/dataset.json --out results/S/comparisons.csv \\
        --markdown results/S/comparisons.md

comparisons.csv has one row per pair of configurations, `of` minus `against`, after the last epoch;
accuracies in points (percent), losses in nats. comparisons.md is the same for people. The declared
ones come from `comparisons` in config.yaml. Where both sides have five runs or more, the
predictions in runs/*/test_logits.npy show how much seeds and test images contribute to the spread.
docs/statistics.md says what each number is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from normres.command_line import make_parser
from normres.comparison_tables import COLUMNS, count_text, few_for_welch, markdown, p_text
from normres.comparisons import configurations_of, expand, read_declared
from normres.errors import run_command
from normres.files import write_text
from normres.images import open_images
from normres.inference import ALPHA, difference, differences, holm
from normres.power import (
    PooledSpread,
    minimal_detectable_difference,
    pooled_spread,
    runs_needed,
    spread_apart,
)
from normres.predictions import RunPredictions, read_predictions
from normres.resampling import LEAST_SEEDS, crossed_spread, permutation_test
from normres.tables import configuration_name, read_study, read_table, with_gap, write_table

POINTS = {"test_accuracy": 100.0, "train_eval_accuracy": 100.0, "gap": 100.0}  # others: nats
MOST_DESCRIPTIVE = 2_000  # rows without a test

Row = dict[str, Any]


class Samples:
    """The complete runs of each configuration: a metric by seed, in points or nats."""

    def __init__(self, runs: pd.DataFrame):
        runs = with_gap(runs)
        self._lost = Counter(runs.loc[runs["status"] != "ok", "configuration"])
        groups = runs[runs["status"] == "ok"].groupby("configuration", observed=True)
        self._runs = {name: group.set_index("seed") for name, group in groups}
        self._spreads: dict[str, PooledSpread] = {}

    def runs(self, name: str) -> dict[int, str]:
        """The names of a configuration's complete runs, by seed."""
        return self._runs[name]["run"].to_dict() if name in self._runs else {}

    def values(self, name: str, metric: str) -> pd.Series:
        """A metric by seed; empty where no run is complete."""
        if name not in self._runs:
            return pd.Series(dtype=float)
        return self._runs[name][metric].astype(float) * POINTS.get(metric, 1.0)

    def both(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of a row's two sides; of pairs, those of the seeds that both have."""
        a, b = (self.values(row[side], row["metric"]) for side in ("of", "against"))
        if row["paired"]:
            seeds = a.index.intersection(b.index)
            a, b = a.loc[seeds], b.loc[seeds]
        return a.to_numpy(), b.to_numpy()

    def lost(self, name: str) -> int:
        """How many runs of a configuration diverged or failed."""
        return self._lost[name]

    def spread(self, metric: str) -> PooledSpread:
        """The standard deviation of a metric, pooled over all configurations."""
        if metric not in self._spreads:
            self._spreads[metric] = pooled_spread([self.values(n, metric) for n in self._runs])
        return self._spreads[metric]


def compare(samples: Samples, of: str, against: str, metric: str, paired: bool) -> Row:
    """A row's counts, means, difference and interval."""
    row: Row = {"of": of, "against": against, "metric": metric, "paired": paired}
    a, b = samples.both(row)
    found = difference(a, b, paired=paired)
    row |= {
        "unit": "points" if metric in POINTS else "nats",
        "n_of": found.n_a,
        "n_against": found.n_b,
        "lost_of": samples.lost(of),
        "lost_against": samples.lost(against),
        "mean_of": a.mean() if len(a) else nan,
        "mean_against": b.mean() if len(b) else nan,
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "df": found.df,
        "correlation": found.correlation,
        "note": found.reason,
        "p": found.p,
    }
    if few_for_welch(row):
        add_note(
            row,
            f"with n = {count_text(row)}, Welch's p is too small and its interval too short where "
            "the two spreads differ",
        )
    return row


def declared_rows(
    samples: Samples, pairs: list[Row], interest: list[float], study: Mapping[str, Any]
) -> list[Row]:
    """The rows of the declared comparisons, adjusted for all of them."""
    axes = list(study["axes"])
    rows = []
    for pair in pairs:
        names = [configuration_name(pair[side], axes) for side in ("of", "against")]
        row = compare(samples, *names, pair["metric"], pair["paired"])
        test = permutation_test(*samples.both(row), paired=pair["paired"])
        row |= {
            "kind": "declared",
            "permutation_p": test.p,
            "permutation_exact": test.exact,
            "smallest_p": test.smallest,
        }
        rows.append(row | power(samples, row, interest))
    adjusted = {
        "p_holm": holm([row["p"] for row in rows]),
        "permutation_p_holm": holm([row["permutation_p"] for row in rows]),
        # Of the least p that each can have: adjusted values never fall when a p value rises.
        "smallest_p_holm": holm([row["smallest_p"] for row in rows]),
    }
    for i, row in enumerate(rows):
        row |= {name: values[i] for name, values in adjusted.items()} | {"family": len(rows)}
        if row["smallest_p_holm"] >= ALPHA:
            add_note(
                row,
                f"whatever the data, the permutation test could not reject: with n = "
                f"{count_text(row)} its smallest p is {p_text(row['smallest_p'])}, "
                f"{p_text(row['smallest_p_holm'])} after Holm's adjustment for {len(rows)}",
            )
    return rows


def power(samples: Samples, row: Row, interest: list[float]) -> Row:
    """The spread that a comparison meets, what it detects, and the runs that differences need.

    Unpaired, the spread is pooled over the study's configurations where they pass as alike and the
    two sides' own is not apart from the others'; else it is theirs. The fewer runs of both sides
    count.
    """
    a, b = samples.both(row)
    pooled = samples.spread(row["metric"])
    if row["paired"]:
        sd, source = pooled_spread([differences(a, b)]).sd, "the differences of pairs"
    elif pooled.equal and not spread_apart(pooled_spread([a, b]), pooled):
        sd, source = pooled.sd, f"{pooled.groups} configurations, pooled"
    else:
        sd, source = two_sided_sd(a, b), "both sides, as spreads differ between configurations"
    found: Row = {"sd": sd, "sd_from": source if sd > 0 else "", "spread_check_p": pooled.p}
    n = min(row["n_of"], row["n_against"])
    found["detectable"] = minimal_detectable_difference(sd, n, paired=row["paired"])
    for wanted in interest if row["unit"] == "points" else []:
        found[f"runs_for_{wanted:g}"] = runs_needed(sd, wanted, paired=row["paired"])
    return found


def two_sided_sd(a: np.ndarray, b: np.ndarray) -> float:
    """The root of the mean variance of two sides, of which Welch's standard error is made."""
    if min(len(a), len(b)) < 2:
        return nan
    return float(((a.var(ddof=1) + b.var(ddof=1)) / 2) ** 0.5)


def add_note(row: Row, text: str) -> None:
    """Add to what a reader of a row has to know."""
    row["note"] = "; ".join(filter(None, [row["note"], text]))


def add_crossed_spreads(
    rows: list[Row], samples: Samples, study: Mapping[str, Any], folder: Path, data: Path
) -> None:
    """Add to the comparisons of test accuracy what seeds and what test images contribute.

    Only where both sides have LEAST_SEEDS runs: only their predictions are read.
    """
    wanted = [
        row
        for row in rows
        if row["metric"] == "test_accuracy" and min(row["n_of"], row["n_against"]) >= LEAST_SEEDS
    ]
    if not wanted:
        return
    needed = {
        run
        for row in wanted
        for side in ("of", "against")
        for run in samples.runs(row[side]).values()
    }
    predictions = read_predictions(study, folder, open_images(data), needed)
    for row in wanted:
        sides = [
            {
                s: predictions.runs[r]
                for s, r in samples.runs(row[side]).items()
                if r in predictions.runs
            }
            for side in ("of", "against")
        ]
        left_out = [r for side in ("of", "against") for r in samples.runs(row[side]).values()]
        left_out = [run for run in left_out if run in predictions.left_out]
        add_crossed_spread(row, *sides)
        if left_out:
            add_note(
                row,
                f"seeds and test images: without {', '.join(left_out[:3])}"
                f"{f' and {len(left_out) - 3} more' if len(left_out) > 3 else ''}, whose logits "
                "are those of a later epoch",
            )


def add_crossed_spread(
    row: Row, of: dict[int, RunPredictions], against: dict[int, RunPredictions]
) -> None:
    """Add the parts of a row's spread, in points, or why there are none."""
    if row["paired"]:
        seeds = [seed for seed in of if seed in against]
        of, against = ({seed: side[seed] for seed in seeds} for side in (of, against))
    runs = [*of.values(), *against.values()]
    if any(not np.array_equal(run.images, runs[0].images) for run in runs):
        return add_note(row, "seeds and test images: both sides have other test images")
    if min(len(of), len(against)) < LEAST_SEEDS:
        return add_note(row, f"seeds and test images: fewer than {LEAST_SEEDS} runs have logits")
    a, b = (np.stack([run.correct for run in side.values()]) for side in (of, against))
    found = crossed_spread(a, b, paired=row["paired"])
    parts = {
        "total_sd": found.sd,
        "seeds_sd": found.seeds_sd,
        "images_sd": found.images_sd,
        "total_low": found.low,
        "total_high": found.high,
    }
    row |= {name: 100 * value for name, value in parts.items()}
    row |= {"seeds_share": found.seeds_share, "test_images": found.images}
    return None


def descriptive_pairs(study: Mapping[str, Any], taken: set[frozenset[str]]) -> Iterator[list[str]]:
    """All other pairs of configurations; in a large study those that differ in one thing.

    An axis that one of them lacks, as an option of a norm, is no difference of its own, as in
    `expand`. At most MOST_DESCRIPTIVE pairs, in the order of the study.
    """
    axes = list(study["axes"])
    configurations = configurations_of(study["runs"])
    named = [(configuration_name(c, axes), c) for c in configurations]
    several = len(named) * (len(named) - 1) // 2 > MOST_DESCRIPTIVE
    left = MOST_DESCRIPTIVE
    for (first, one), (second, other) in combinations(named, 2):
        shared = set(one) & set(other)
        if several and sum(one[key] != other[key] for key in shared) > 1:
            continue
        if frozenset((first, second)) in taken:
            continue
        if not left:
            return
        left -= 1
        yield [second, first]  # what comes later in the study minus what comes first


def comparisons(
    study: Mapping[str, Any],
    declared: Mapping[str, Any],
    runs: pd.DataFrame,
    folder: Path,
    data: Path,
) -> pd.DataFrame:
    """Make comparisons.csv: one row per pair of configurations, the declared ones first."""
    samples = Samples(runs)
    entries = declared["comparisons"]
    configurations = configurations_of(study["runs"])
    pairs = expand(entries, configurations, study["axes"], "comparisons")
    interest = declared["differences_of_interest"]
    rows = declared_rows(samples, pairs, interest, study)
    add_crossed_spreads(rows, samples, study, folder, data)
    taken = {frozenset((r["of"], r["against"])) for r in rows if r["metric"] == "test_accuracy"}
    for pair in descriptive_pairs(study, taken):
        row = compare(samples, *pair, "test_accuracy", False)
        rows.append({**row, "kind": "descriptive", "p": nan})
    needed = [f"runs_for_{wanted:g}" for wanted in interest]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *needed])
    whole = ["family", "test_images", *needed]
    return table.astype(dict.fromkeys(whole, "Int64"))


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    for name, what in {
        "study": "study.json, beside runs/",
        "declared": "JSON: the declared comparisons and differences_of_interest",
        "runs": "runs.csv of collect_runs",
        "dataset": "dataset.json of the prepared data, beside its arrays",
        "out": "csv: one row per pair of configurations",
        "markdown": "the same for people",
    }.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    arguments = parser.parse_args(argv)
    study, declared = read_study(arguments.study), read_declared(arguments.declared)
    runs = read_table(arguments.runs, study)
    table = comparisons(study, declared, runs, arguments.study.parent, arguments.dataset.parent)
    write_table(table, arguments.out)
    write_text(arguments.markdown, markdown(table, study))
    tested = int((table["kind"] == "declared").sum())
    print(f"{arguments.out}: {tested} declared comparisons, {len(table) - tested} others")


if __name__ == "__main__":
    run_command(main)
