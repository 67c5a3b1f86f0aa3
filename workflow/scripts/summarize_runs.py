"""Summarise the runs of a study: curves with intervals, and a table of the last epochs.

    python workflow/scripts/summarize_runs.py --study results/quickstart/study.json \\
        --curves results/quickstart/curves.csv --runs results/quickstart/runs.csv \\
        --complexity results/quickstart/complexity.csv --timing results/quickstart/timing.csv \\
        --out results/quickstart

Writes bands.csv (mean over seeds and its pointwise interval, cut at 0 and 1 where the metric is an
accuracy; one row per configuration, metric and epoch), summary.csv (one row per configuration) and,
for people, summary.md and summary.tex. docs/statistics.md says what each number is.
Runs that diverged or failed are counted, and are in no mean. Times are those of timing.csv, medians
over its repeats: the runs themselves may have shared the machine.
"""

import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from normres.command_line import make_parser
from normres.errors import InputError, run_command
from normres.files import write_text
from normres.inference import FRACTION, FREE, NONNEGATIVE, sampling_interval
from normres.options import has_default
from normres.ranking import rank_intervals
from normres.statistics import mean_estimates, median_estimates
from normres.tables import (
    absent_runs,
    configuration_columns,
    configuration_name,
    configurations,
    read_cells,
    read_study,
    read_table,
    timing_repeats,
    untimed_configurations,
    with_gap,
    write_table,
)
from normres.timing import MOST_ALIVE
from normres.wording import EQUAL, lost_runs

BANDS = {
    "train_loss": NONNEGATIVE,
    "test_loss": NONNEGATIVE,
    "test_accuracy": FRACTION,
    "train_eval_loss": NONNEGATIVE,
    "train_eval_accuracy": FRACTION,
    "gap": FREE,
}
SUMMARY = {
    "test_accuracy": FRACTION,
    "test_loss": NONNEGATIVE,
    "train_loss": NONNEGATIVE,
    "train_eval_accuracy": FRACTION,
    "gap": FREE,
    "best_test_accuracy": FRACTION,
}
TIMES = {  # column of timing.csv -> of summary.csv
    "epoch_seconds": "seconds_per_epoch",
    "step_seconds": "seconds_per_step",
    "images_per_second": "images_per_second",
    "latency_1_seconds": "latency_1_seconds",
    "latency_128_seconds": "latency_128_seconds",
    "step_joules": "joules_per_step",
    "epoch_joules": "joules_per_epoch",
}
DISTRIBUTIONS = ("test_accuracy", "test_loss")  # with median, least and largest of the runs
COSTS = ["params", "macs", "norm_ops"]
EMPTY = "-"
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def bands(curves: pd.DataFrame, table: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Make bands.csv from curves.csv: the mean over complete runs at each epoch, with interval.

    `table` is the summary; `seconds` of training until an epoch rest on its seconds per epoch.
    """
    complete = with_gap(curves[curves["status"] == "ok"])
    by = ["configuration", "epoch"]
    parts = []
    for metric, bounds in BANDS.items():
        part = mean_estimates(complete, by, metric, bounds=bounds).reset_index()
        parts.append(part[part["n"] > 0].assign(metric=metric))
    rows = pd.concat(parts).sort_values(["configuration", "metric", "epoch"])
    named = configurations(study)
    named["seconds_per_epoch"] = table["seconds_per_epoch_median"].to_numpy()
    rows = rows.merge(named, left_on="configuration", right_index=True)
    rows["seconds"] = rows["epoch"] * rows["seconds_per_epoch"]
    columns = ["metric", "epoch", "seconds", "n", "mean", "sd", "low", "high"]
    return rows[[*configuration_columns(study), *columns]]


def summary(
    runs: pd.DataFrame, complexity: pd.DataFrame, timing: pd.DataFrame, study: Mapping[str, Any]
) -> pd.DataFrame:
    """Make summary.csv: one row per configuration, at its last epoch, with its costs and times.

    Raises InputError where complexity.csv has several rows for one configuration.
    """
    table = configurations(study)
    counts = pd.crosstab(runs["configuration"], runs["status"])
    for column, status in [("n", "ok"), ("diverged", "diverged"), ("failed", "failed")]:
        count = counts[status] if status in counts else pd.Series(dtype=float)
        table[column] = count.reindex(table.index, fill_value=0).astype(int).to_numpy()
    complete = with_gap(runs[runs["status"] == "ok"])
    for metric, bounds in SUMMARY.items():
        estimates = mean_estimates(complete, ["configuration"], metric, bounds=bounds)
        estimates = estimates.reindex(table.index)
        for statistic in ("mean", "sd", "low", "high"):
            table[f"{metric}_{statistic}"] = estimates[statistic].to_numpy()
    for metric in DISTRIBUTIONS:
        spread = complete.groupby("configuration", observed=True)[metric]
        spread = spread.agg(["median", "min", "max"]).reindex(table.index)
        table[[f"{metric}_{statistic}" for statistic in spread]] = spread.to_numpy()
    moments = (table[f"test_accuracy_{part}"].to_numpy() for part in ("mean", "sd"))
    ranks = rank_intervals(*moments, table["n"].to_numpy()).set_index(table.index)
    table[[f"test_accuracy_{name}" for name in ranks]] = ranks.astype("Int64")
    table = with_sampling(table, complete)
    table = with_predictions(with_reported(table, study), complete)
    table = with_costs(table.reset_index(drop=True), complexity, study)
    return with_times(table, timing, study)


def with_sampling(table: pd.DataFrame, complete: pd.DataFrame) -> pd.DataFrame:
    """Add the test set's own sampling interval of one network with the mean accuracy."""
    right = complete[complete["test_accuracy"] > 0]
    images = (right["test_correct"] / right["test_accuracy"]).groupby(
        right["configuration"], observed=True
    )
    images = images.median().round().reindex(table.index)
    ends = [
        sampling_interval(round(mean * n), int(n)) if pd.notna(n) else (math.nan, math.nan)
        for mean, n in zip(table["test_accuracy_mean"], images, strict=True)
    ]
    table["test_images"] = images.astype("Int64")
    table[["test_set_low", "test_set_high"]] = pd.DataFrame(ends, index=table.index)
    return table


def with_predictions(table: pd.DataFrame, complete: pd.DataFrame) -> pd.DataFrame:
    """Add, where a single run is reported, the interval for one more of ours, and if it is in."""
    for metric in DISTRIBUTIONS:
        reported = table[f"reported_{metric}"]
        found = mean_estimates(
            complete, ["configuration"], metric, bounds=SUMMARY[metric], new_run=True
        )
        low, high = (
            found[end].reindex(table.index).where(reported.notna()) for end in ("low", "high")
        )
        table[f"{metric}_new_run_low"], table[f"{metric}_new_run_high"] = low, high
        inside = reported.between(low, high).astype(object)
        table[f"reported_{metric}_inside"] = inside.where(low.notna())
    return table


def with_reported(table: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Add what is reported elsewhere for a model and norm, where it is.

    Not where an axis of the study has another value than its default, the exercise's: such a
    configuration is not the one that was reported. The accuracy has the interval that its test
    images alone leave open.
    """
    columns = ["test_accuracy", "test_loss", "test_set_low", "test_set_high"]
    reported = pd.DataFrame(
        [
            (
                entry["model"],
                entry["norm"],
                entry["test_correct"] / entry["test_images"],
                entry.get("test_loss", math.nan),
                *sampling_interval(entry["test_correct"], entry["test_images"]),
            )
            for entry in study.get("reported", [])
        ],
        columns=["model", "norm", *(f"reported_{column}" for column in columns)],
    )
    merged = table.merge(reported, on=["model", "norm"], how="left", validate="many_to_one")
    merged = merged.set_index(table.index)
    axes = list(study["axes"])
    other = {
        configuration_name({"model": run["model"], "norm": run["norm"], **run["axes"]}, axes)
        for run in study["runs"]
        if not all(has_default(run["specification"], axis) for axis in axes)
    }
    merged.loc[merged.index.isin(other), reported.columns[2:]] = math.nan
    return merged


def with_costs(
    table: pd.DataFrame, complexity: pd.DataFrame, study: Mapping[str, Any]
) -> pd.DataFrame:
    """Add parameters, multiply-adds and norm operations of each configuration's network."""
    on = [column for column in configuration_columns(study) if column in complexity]
    try:
        return table.merge(complexity[on + COSTS], on=on, how="left", validate="many_to_one")
    except (KeyError, pd.errors.MergeError) as error:
        raise InputError(f"complexity.csv: {error}; it has one row per network") from None


def with_times(table: pd.DataFrame, timing: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Add medians over the repeats of timing.csv, with intervals, and the peak memory."""
    on = [column for column in configuration_columns(study) if column in timing]
    times = timing.groupby(on, sort=False, dropna=False).agg(
        timing_repeats=("repeat", "count"),
        untimed_reason=("reason", "first"),
        timing_device=("device_name", "first"),
        peak_memory_bytes=("peak_memory_bytes", "max"),
        energy_source=("energy_source", energy_source),
    )
    for column, name in TIMES.items():
        estimates = median_estimates(timing, on, column)
        for statistic in ("median", "low", "high"):
            times[f"{name}_{statistic}"] = estimates[statistic]
    return table.merge(times.reset_index(), on=on, how="left", validate="many_to_one")


def energy_source(repeats: pd.Series) -> str | None:
    """What the energy of some repeats is of, or why there is none: one of them may lack it."""
    told = list(repeats.dropna())
    measured = [source for source in told if not source.startswith("not measured")]
    return next(iter([*measured, *told]), None)


def people_table(table: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Turn the summary into text cells under (name, unit) headers."""
    interval = "[95 % interval]"
    cells = {
        (column.replace("_", " "), ""): table[column] for column in configuration_columns(study)
    }
    cells[("n", "")] = table.apply(count_text, axis=1)
    cells[("test accuracy", f"% {interval}")] = estimate_text(table, "test_accuracy", 2, 100)
    if table["reported_test_accuracy"].notna().any():
        cells[("reported accuracy", "% (one more run of ours)")] = reported_text(
            table, "test_accuracy", 2, 100
        )
    cells[("test loss", f"nats {interval}")] = estimate_text(table, "test_loss", 3)
    if table["reported_test_loss"].notna().any():
        cells[("reported loss", "nats (one more run of ours)")] = reported_text(
            table, "test_loss", 3
        )
    cells[("parameters", "")] = number_text(table["params"], 0)
    cells[("MACs (1 MAC = 1 multiply-add)", "million")] = number_text(table["macs"] / 1e6, 2)
    cells[("time per epoch", f"s {interval}")] = estimate_text(
        table, "seconds_per_epoch", 2, center="median"
    )
    return pd.DataFrame(cells).fillna(EMPTY)


def count_text(row: pd.Series) -> str:
    """Number of runs in the means, and how many are not and why: "2 (1 diverged)"."""
    lost = lost_runs(row)
    return f"{row['n']} ({lost})" if lost else str(row["n"])


def number_text(numbers: pd.Series, digits: int) -> pd.Series:
    """Numbers with `digits` decimals and thousands separators; empty cells as a dash."""
    return numbers.map(lambda number: EMPTY if pd.isna(number) else f"{number:,.{digits}f}")


def estimate_text(
    table: pd.DataFrame, metric: str, digits: int, scale: float = 1, center: str = "mean"
) -> pd.Series:
    """A metric's mean and interval as text, times `scale`; one run, or equal ones, have none."""
    mean, low, high = (
        number_text(table[f"{metric}_{part}"] * scale, digits) for part in (center, "low", "high")
    )
    text = mean.where(table[f"{metric}_low"].isna(), mean + " [" + low + ", " + high + "]")
    equal = table[f"{metric}_sd"] == 0 if center == "mean" else pd.Series(False, table.index)
    return text.mask(equal, mean + f" [{EQUAL}]")


def reported_text(table: pd.DataFrame, metric: str, digits: int, scale: float = 1) -> pd.Series:
    """The reported number, and the interval for one more run of ours: "78.39 (76.10 to 79.90)"."""
    number, low, high = (
        number_text(table[column] * scale, digits)
        for column in (f"reported_{metric}", f"{metric}_new_run_low", f"{metric}_new_run_high")
    )
    return number.where(low == EMPTY, number + " (" + low + " to " + high + ")")


def note(
    table: pd.DataFrame, runs: pd.DataFrame, timing: pd.DataFrame, study: Mapping[str, Any]
) -> str:
    """What a reader of the table has to know, in a few sentences."""
    complete = runs[runs["status"] == "ok"]
    chosen_on = "/".join(sorted(complete["best_chosen_on"].dropna().unique())) or "test"
    last = "/".join(str(epoch) for epoch in sorted(complete["epoch"].astype(int).unique()))
    sentences = [
        f"{study['dataset']['name']}, after the last epoch ({last or study['epochs']}): "
        "mean over n seeds, and the 95 % interval of that mean (Student's t; none for n = 1).",
        "The test set chose nothing here; the best epoch's accuracy in the csv file was chosen on "
        f"the {chosen_on} images.",
        "1 MAC = 1 multiply-add of a convolution or linear layer, for one image.",
    ]
    if (table[[f"{metric}_sd" for metric in DISTRIBUTIONS]] == 0).any(axis=None):
        sentences.append(
            f"[{EQUAL}]: all runs gave this number, so their spread is not known; what the test "
            "images alone leave open is in the csv file."
        )
    if (table[["test_accuracy_low", "test_loss_low"]] == 0).any(axis=None) or (
        table["test_accuracy_high"] == 1
    ).any():
        sentences.append("Intervals are cut at 0 and 100 %, and at a loss of 0.")
    timed = timing[timing["repeat"].notna()]
    if len(timed):
        many = (timing["repeat"].fillna(1) == 1).sum() > MOST_ALIVE  # one row per configuration
        in_groups = f" (within groups of {MOST_ALIVE} configurations at most)" if many else ""
        sentences.append(
            f"Time: training alone, with nothing else on the device ({timed_on(timed)}), median of "
            f"{timing_repeats(table)} interleaved repeats{in_groups} and its 95 % interval."
        )
    if untimed := untimed_configurations(table, study):
        sentences.append(f"{untimed}.")
    if study.get("reported"):
        sentences.append(
            "Reported: what the exercise's write-up says of its single runs; in brackets, where "
            "one more run like ours lies with 95 % (prediction interval), to compare it with."
        )
    if (runs["status"] != "ok").any():
        sentences.append(f"Runs that diverged or failed are in no mean: {absent_runs(runs)}.")
    return " ".join(sentences)


def timed_on(timed: pd.DataFrame) -> str:
    """Name the devices, precisions and threads; several of them make times incomparable."""
    places = timed[["device_name", "resolved_precision", "cpu_threads"]].drop_duplicates()
    names = [
        f"{device or 'unknown device'}, {precision}, CPU threads: {threads}"
        for device, precision, threads in places.fillna("").itertuples(index=False)
    ]
    mixed = " (several environments: compare no times across them)" if len(names) > 1 else ""
    return "; ".join(names) + mixed


def markdown(cells: pd.DataFrame, title: str, text: str) -> str:
    """The table as Markdown, with the note under it."""
    headers = [
        f"{name}, {unit}" if unit and not unit.startswith("[") else f"{name} {unit}".strip()
        for name, unit in cells.columns
    ]
    escaped = cells.set_axis(headers, axis=1).map(lambda cell: str(cell).replace("|", r"\|"))
    body = escaped.to_markdown(index=False, disable_numparse=True)
    heading = html.escape(" ".join(title.split()), quote=False)  # Markdown takes HTML as it is
    return f"# {heading}\n\n{body}\n\n{text}\n"


def latex(cells: pd.DataFrame, title: str, text: str, label: str) -> str:
    """The table as a LaTeX float, with the note under it; needs the package booktabs."""
    columns = [(name.split(" (")[0], unit) for name, unit in cells.columns]  # the note explains
    escaped = cells.map(latex_escape)
    escaped.columns = pd.MultiIndex.from_tuples(
        [(latex_escape(name), latex_escape(unit)) for name, unit in columns]
    )
    words = [name for name, _ in columns].index("n")  # the configuration, before the numbers
    table = escaped.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="l" * words + "r" * (len(columns) - words),
        caption=latex_escape(title),
        label=label,
        position="htbp",
        position_float="centering",
    )
    head, tail = "\\begin{tabular}", "\\end{table}"
    table = table.replace(head, f"\\scriptsize\\setlength{{\\tabcolsep}}{{2pt}}\n{head}")
    table = table.replace(tail, f"\\par\\smallskip\\raggedright {latex_escape(text)}\n{tail}")
    return f"% needs \\usepackage{{booktabs}}\n{table}"


def latex_escape(text: object) -> str:
    """Text with LaTeX's special characters escaped."""
    return str(text).translate(LATEX)


def main(argv: list[str] | None = None) -> int | None:
    parser = make_parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json")
    parser.add_argument("--curves", type=Path, required=True, help="curves.csv of collect_runs")
    parser.add_argument("--runs", type=Path, required=True, help="runs.csv of collect_runs")
    parser.add_argument("--complexity", type=Path, required=True, help="csv: one row per network")
    parser.add_argument("--timing", type=Path, required=True, help="csv of time_training")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args(argv)
    study = read_study(arguments.study)
    runs = read_table(arguments.runs, study)
    complexity, timing = (
        read_cells(path, study["axes"]) for path in (arguments.complexity, arguments.timing)
    )
    table = summary(runs, complexity, timing, study)
    curves = read_table(arguments.curves, study)
    write_table(bands(curves, table, study), arguments.out / "bands.csv")
    write_table(table, arguments.out / "summary.csv")
    cells, text = people_table(table, study), note(table, runs, timing, study)
    write_text(arguments.out / "summary.md", markdown(cells, study["title"], text))
    write_text(
        arguments.out / "summary.tex",
        latex(cells, study["title"], text, f"tab:{study['study']}"),
    )
    print(f"{arguments.out}: bands.csv, summary.csv, summary.md, summary.tex")


if __name__ == "__main__":
    run_command(main)
