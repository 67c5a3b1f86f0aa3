"""The abstract of a study's report: what was asked, done and found, all of it from the tables.

Each function gives plain sentences; the results alone are numbers that the template puts in words.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from normres.comparison_tables import compact_finding, few_for_welch, finding, labels
from normres.inference import ALPHA, ROUNDING
from normres.options import has_default
from normres.report_claims import NOT_MEASURED
from normres.report_tables import configuration_label, number_text
from normres.tables import axis_text, configurations, norm_title, timing_repeats
from normres.wording import listed

MOST_NAMED = 8  # values of an axis
MOST_SENTENCES, MOST_CLAUSES = 3, 6  # declared comparisons told in full, or in short
PARTS = ("mean", "low", "high")
# What each of options.SEED_OPTIONS sets, where it is the run's own seed.
SEEDED = {"initialization_seed": "initial weights", "order_seed": "order and dropout"}


def abstract(
    study: Mapping[str, Any],
    dataset: Mapping[str, Any],
    images: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    claims: Mapping[str, Any],
    limits: Mapping[str, Any],
) -> dict[str, Any]:
    """What the template shows as the abstract.

    dataset: dataset.json. images: numbers of training and test images in words. tables: runs,
    summary and comparisons. claims: that of report_claims.py. limits: `differing` and `settings`
    (numbers of options that differ from the exercise's, and of all), `mixed` (whether the runs'
    conditions differ).
    """
    return {
        "design": design(study, dataset, images, tables["runs"]),
        "reported": reported(tables["summary"], study),
        "comparisons": compared(tables["comparisons"], study),
        "claims": claimed(claims),
        "costs": costs(tables["summary"], study),
        "covered": covered(study),
        "limits": limitations(study, dataset, images, tables["summary"], limits),
    }


def design(
    study: Mapping[str, Any],
    dataset: Mapping[str, Any],
    images: Mapping[str, str],
    runs: pd.DataFrame,
) -> str:
    """What was trained, on what, how often, and what became of the runs."""
    models, norms = study["models"], study["norms"]
    parts = [f"{plural(len(models), 'network')} ({', '.join(models)})"]
    several = f"{len(norms)} norms ({', '.join(norms)})"
    parts += [several if len(norms) > 1 else norm_title(norms[0])]
    parts += [
        f"{plural(len(values), 'value')} of {axis.replace('_', ' ')} ({some(values)})"
        for axis, values in study["axes"].items()
    ]
    seeds = plural(len(study["seeds"]), "seed")
    images_of = f"{images['train']} training images of {dataset['name']}"
    left_out = study.get("excluded", [])
    sentences = [
        f"{parts[0]} with {listed(parts[1:])} {'were' if len(models) > 1 else 'was'} trained on "
        f"{images_of} for {plural(study['epochs'], 'epoch')}, with {seeds} per configuration, and "
        f"tested on {images['test']} images: {plural(len(runs), 'run')} of "
        f"{plural(len(configurations(study)), 'configuration')}"
        + (f", {plural(len(left_out), 'combination')} left out." if left_out else ".")
    ]
    absent = Counter(runs.loc[runs["status"] != "ok", "status"])
    if absent:
        counts = listed([f"{n:,} {status}" for status, n in sorted(absent.items())])
        sentences.append(f"Of the runs, {counts}: in no mean.")
    return " ".join(sentences)


def main_numbers(summary: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configurations with the highest and the lowest mean accuracy, and how intervals lie.

    Overlapping intervals do not order two configurations; the template claims no more than that.
    None where no run is complete.
    """
    names = pd.Series(
        [configuration_label(row, study) for row in summary.to_dict("records")], summary.index
    )
    measured = summary["n"] > 0
    if not measured.any():
        return None
    means = summary["test_accuracy_mean"].where(measured)
    first, last = means.idxmax(), means.idxmin()
    others = summary[measured].drop(first)
    overlaps = others["test_accuracy_high"] >= summary.loc[first, "test_accuracy_low"]
    unknown = others["test_accuracy_high"].isna() | pd.isna(summary.loc[first, "test_accuracy_low"])
    return {
        "best": accuracy(summary.loc[first]) | {"label": names[first]},
        "lowest": accuracy(summary.loc[last]) | {"label": names[last]},
        "equal": names[summary.index[means >= means[first] * (1 - ROUNDING)]].tolist(),
        "measured": int(measured.sum()),
        "overlapping": names[others.index[overlaps & ~unknown]].tolist(),
        "below": int((~overlaps & ~unknown).sum()),
        "unknown": names[others.index[unknown]].tolist(),
        "unmeasured": names[~measured].tolist(),
        "fewer": {
            names[i]: int(summary.loc[i, "n"])
            for i in summary.index
            if summary.loc[i, "n"] < len(study["seeds"])
        },
    }


def accuracy(row: pd.Series) -> dict[str, Any]:
    """A mean test accuracy in %, its interval where there is one, and n."""
    parts = {part: row[f"test_accuracy_{part}"] for part in PARTS}
    found = {part: number_text(100 * x, 2) for part, x in parts.items() if pd.notna(x)}
    return found | {"n": int(row["n"])}


def reported(summary: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """How accuracies reported elsewhere, of single runs, lie to where one more run would."""
    if "reported_test_accuracy_inside" not in summary:
        return ""
    known = summary[summary["reported_test_accuracy"].notna()]
    rows = known[known["reported_test_accuracy_inside"].notna()]
    if known.empty:
        return ""
    outside = [
        f"{configuration_label(row, study)} ({number_text(100 * row['reported_test_accuracy'], 2)} "
        f"%, one more run: {number_text(100 * row['test_accuracy_new_run_low'], 2)} to "
        f"{number_text(100 * row['test_accuracy_new_run_high'], 2)} %)"
        for row in rows.to_dict("records")
        if not row["reported_test_accuracy_inside"]
    ]
    inside, without = len(rows) - len(outside), len(known) - len(rows)
    clauses = [
        f"{inside} {'lies' if inside == 1 else 'lie'} where one more of these runs would with 95 %"
    ] * (len(rows) > 0)
    clauses += [f"{without} cannot be compared, as our runs give no interval"] * (without > 0)
    return (
        f"Of {len(known)} {'accuracy' if len(known) == 1 else 'accuracies'} reported elsewhere, of "
        f"a single run each, {listed(clauses)}{'; outside: ' if outside else ''}"
        f"{'; '.join(outside)}."
    )


def compared(comparisons: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """The outcome of the declared comparisons: in full where they are few."""
    declared = comparisons[comparisons["kind"] == "declared"]
    if declared.empty:
        return "No comparison was declared beforehand, so no difference is tested."
    names = labels(study)
    rows = declared.to_dict("records")
    if len(rows) <= MOST_SENTENCES:
        return " ".join([*(finding(row, names) for row in rows), *rank_caveat(rows)])
    shown = int((declared["p_holm"] < ALPHA).sum())
    untested = int(declared["p_holm"].isna().sum())
    show = {0: "none shows", 1: "1 shows"}.get(shown, f"{shown} show")
    outcomes = [f"{show} a difference at {100 * ALPHA:g} % after Holm's adjustment"]
    if shown:
        outcomes.append(f"{len(rows) - shown - untested} do not")
    outcomes += [f"{untested} could not be tested"] * (untested > 0)
    clauses = "; ".join(compact_finding(row, names) for row in rows[:MOST_CLAUSES])
    more = f"; and {len(rows) - MOST_CLAUSES} more" if len(rows) > MOST_CLAUSES else ""
    said = [f"Of {len(rows)} declared comparisons, {listed(outcomes)}: {clauses}{more}."]
    few = sum(map(few_for_welch, rows))
    if few:
        said.append(f"In {few} of them, with so few runs, p is too small where spreads differ.")
    return " ".join([*said, *rank_caveat(rows)])


def rank_caveat(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What shown differences rest on where runs are too few for a test without that assumption."""
    shown = [row for row in rows if row["p_holm"] < ALPHA]
    if not any(row["smallest_p_holm"] >= ALPHA for row in shown):
        return []
    return [
        "These tests take runs to be normally distributed; permutation tests, which do not, could "
        "not have shown a difference with so few."
    ]


def claimed(claims: Mapping[str, Any]) -> str:
    """How many claims were decided, and how."""
    sentences = []
    for whose, total, counts in (
        ("of your own", claims["own"], claims["own_counts"]),
        ("of the exercise's write-up", claims["total"], claims["counts"]),
    ):
        if total and set(counts) == {NOT_MEASURED}:
            sentences.append(f"This study measures none of {plural(total, 'claim')} {whose}.")
        elif total:
            verdicts = listed([f"{n} {verdict}" for verdict, n in counts.items()])
            sentences.append(f"Of {plural(total, 'claim')} {whose}: {verdicts}.")
    return " ".join(sentences)


def costs(summary: pd.DataFrame, study: Mapping[str, Any]) -> str:
    """The range of parameters and multiply-adds (exact), and of the time of an epoch."""
    counted = [
        range_words(summary, column, words, study)
        for column, words in (
            ("params", "million parameters"),
            ("macs", "million multiply-adds per image"),
        )
        if summary[column].notna().any()
    ]
    sentences = [f"{' and '.join(counted)} (exact)."] if counted else []
    timed = summary[summary["timing_repeats"] > 0]
    if timed.empty:
        return " ".join([*sentences, "Times were not measured."])
    medians = timed["seconds_per_epoch_median"].sort_values(kind="stable")
    ends = [time_words(timed.loc[i], study) for i in dict.fromkeys(medians.index[[0, -1]])]
    if len(timed) > 1 and medians.nunique() == 1:  # timed once: they differ in nothing that costs
        ends = [f"{seconds_text(timed.iloc[0])} in all configurations"]
    devices = ", ".join(sorted(timed["timing_device"].dropna().astype(str).unique()))
    missing = len(summary) - len(timed)
    without = f"; {plural(missing, 'configuration')} not timed" if missing else ""
    # The intervals of medians need six repeats.
    intervals = " with 95 % intervals" if timed["seconds_per_epoch_low"].notna().any() else ""
    sentences.append(
        f"An epoch of training takes {' to '.join(ends)}: medians of {timing_repeats(summary)} "
        f"repeats{intervals}{f', on {devices}' if devices else ''}{without}."
    )
    return " ".join(sentences)


def range_words(summary: pd.DataFrame, column: str, words: str, study: Mapping[str, Any]) -> str:
    """A count's smallest and largest value in millions, with a configuration that has it."""
    ends = [summary.loc[summary[column].idxmin()], summary.loc[summary[column].idxmax()]]
    low, high = (f"{row[column] / 1e6:,.3g}" for row in ends)
    if low == high:
        return f"{low} {words}"
    names = [configuration_label(row, study) for row in ends]
    return f"{low} ({names[0]}) to {high} ({names[1]}) {words}"


def time_words(row: pd.Series, study: Mapping[str, Any]) -> str:
    """The seconds of an epoch with their interval, and whose they are."""
    return f"{seconds_text(row)} ({configuration_label(row, study)})"


def seconds_text(row: pd.Series) -> str:
    """The median seconds of an epoch with their interval."""
    median, low, high = (row[f"seconds_per_epoch_{part}"] for part in ("median", "low", "high"))
    interval = f" [{low:.3g}, {high:.3g}]" if pd.notna(low) else ""
    return f"{median:.3g} s{interval}"


def covered(study: Mapping[str, Any]) -> str:
    """What differs between the runs that an interval of a mean rests on."""
    varied = ", ".join(
        words
        for option, words in SEEDED.items()
        if all(has_default(run["specification"], option) for run in study["runs"])
    )
    if not varied:
        return "The runs of a configuration share all that is random, so its mean has no interval."
    return f"Intervals cover the seed ({varied}), not the choice of data."


def limitations(
    study: Mapping[str, Any],
    dataset: Mapping[str, Any],
    images: Mapping[str, str],
    summary: pd.DataFrame,
    limits: Mapping[str, Any],
) -> str:
    """What the numbers do not cover."""
    sentences = [
        "A single run says nothing about how much seeds differ, and no mean of a configuration "
        "has an interval."
        if len(study["seeds"]) == 1
        else covered(study)
    ]
    has = f"{dataset['n_train']:,}"
    of = f", and {images['train']} of its {has} training images" * (images["train"] != has)
    sentences.append(f"One data set{of}.")
    if (summary["n"] > 0).sum() > 1:
        sentences.append(
            "The highest of several means is picked after the fact and is more likely over- than "
            "underestimated."
        )
    if limits["differing"]:
        sentences.append(
            f"{limits['differing']} of {plural(limits['settings'], 'setting')} "
            f"differ{'s' if limits['differing'] == 1 else ''} from the exercise's protocol."
        )
    if limits["mixed"]:
        sentences.append("The runs do not all come from the same conditions.")
    return " ".join(sentences)


def plural(number: int, noun: str) -> str:
    """A number with its noun: "1 seed", "3 seeds"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(values: Sequence[Any]) -> str:
    """The first of several values: "1, 2, 3 and 4 more"."""
    shown = ", ".join(axis_text(value) for value in values[:MOST_NAMED])
    return shown + (f" and {len(values) - MOST_NAMED} more" if len(values) > MOST_NAMED else "")
