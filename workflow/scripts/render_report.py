"""Write a study's report: one HTML file that opens offline and asks no server for anything.

    python workflow/scripts/render_report.py --study results/S/study.json \\
        --runs results/S/runs.csv --summary results/S/summary.csv \\
        --complexity results/S/complexity.csv --layers results/S/layers.csv \\
        --dataset results/data/D/dataset.json --figures results/S/figures/*.svg \\
        --out results/S/report.html

Reads the run.json files beside study.json, too. It computes no statistic: the tables have them. The
words and the look are those of workflow/report/report.html.j2, the captions those of figure.rst.
"""

import argparse
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from normres.errors import run_command
from normres.files import read_json, write_text
from normres.protocol import settings
from normres.svg import embed_svg
from normres.tables import (
    axes_label,
    configuration_columns,
    configurations,
    norm_title,
    read_cells,
    read_study,
    read_table,
)
from normres.wording import duration, lost_runs

TEMPLATES = Path(__file__).parents[1] / "report"
FORMATS = ("png", "svg", "pdf", "csv")
EMPTY, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

ENVIRONMENT = {
    "device": "device",
    "device_name": "name of the device",
    "precision": "precision",
    "memory_format": "memory format",
    "compiled": "compiled",
    "cpu_threads": "CPU threads",
    "cpu_count": "CPUs of the machine",
    "cpu_capability": "instruction set",
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "cuda": "CUDA",
    "python": "Python",
    "platform": "platform",
    "git_commit": "git commit",
}
# What makes numbers or times of two runs incomparable where the study itself did not ask for it.
COMPARABLE = ("device", "device_name", "precision", "compiled", "cpu_threads", "cpu_capability")
COMPARABLE += ("torch", "numpy", "cuda", "python")


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, a line under it (an interval), and what its column is sorted by."""

    text: str
    under: str = ""
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table; `note` is its unit or what else belongs into the header."""

    name: str
    note: str
    cells: Sequence[Cell]

    @property
    def numeric(self) -> bool:
        return any(isinstance(cell.value, float) for cell in self.cells)


# ---- Tables ----


def number_text(number: float, digits: int) -> str:
    """A number with `digits` decimals and thousands separators; a dash where there is none."""
    return EMPTY if pd.isna(number) else f"{number:,.{digits}f}".replace("-", MINUS)


def number_column(
    numbers: pd.Series, name: str, note: str = "", digits: int = 0, scale: float = 1
) -> Column:
    """A column of numbers, times `scale`."""
    cells = [
        Cell(number_text(number * scale, digits), value=None if pd.isna(number) else float(number))
        for number in numbers
    ]
    return Column(name, note, cells)


def estimate_column(
    table: pd.DataFrame, metric: str, name: str, unit: str, digits: int, scale: float = 1
) -> Column:
    """A column of means with their intervals, times `scale`; one run has no interval."""
    parts = (table[f"{metric}_{part}"] for part in ("mean", "low", "high"))
    cells = []
    for mean, low, high in zip(*parts, strict=True):
        ends = f"[{number_text(low * scale, digits)}, {number_text(high * scale, digits)}]"
        value = None if pd.isna(mean) else float(mean)
        cells.append(Cell(number_text(mean * scale, digits), "" if pd.isna(low) else ends, value))
    return Column(name, unit, cells)


def configuration_cells(table: pd.DataFrame, study: Mapping[str, Any]) -> list[Column]:
    """The columns of `table` that name a configuration: model, norm and the axes it has."""
    columns = [name for name in configuration_columns(study) if name in table]
    return [
        Column(name.replace("_", " "), "", [axis_cell(value) for value in table[name]])
        for name in columns
    ]


def axis_cell(value: Any) -> Cell:
    """A cell of a model, norm or axis value; numbers are sorted as numbers."""
    if pd.isna(value):
        return Cell(EMPTY)
    try:
        return Cell(str(value), value=float(value))
    except ValueError:
        return Cell(str(value), value=str(value))


def summary_columns(
    summary: pd.DataFrame, runs: pd.DataFrame, study: Mapping[str, Any]
) -> list[Column]:
    """The table of results, a row a configuration."""
    chosen_on = "/".join(sorted(runs["best_chosen_on"].dropna().unique())) or "test"
    columns = [*configuration_cells(summary, study), count_column(summary)]
    columns.append(estimate_column(summary, "test_accuracy", "test accuracy", "%", 2, 100))
    reported = summary["reported_test_accuracy"]
    if reported.notna().any():
        columns.append(number_column(reported, "reported accuracy", "%, one run", 2, 100))
    columns.append(estimate_column(summary, "test_loss", "test loss", "nats", 3))
    if reported.notna().any():
        losses = summary["reported_test_loss"]
        columns.append(number_column(losses, "reported loss", "nats, one run", 3))
    return [
        *columns,
        estimate_column(summary, "train_loss", "training loss", "nats", 4),
        estimate_column(summary, "gap", f"training {MINUS} test accuracy", "points", 2, 100),
        estimate_column(
            summary, "best_test_accuracy", "test accuracy at the best epoch",
            f"%, chosen on the {chosen_on} images", 2, 100,
        ),
        estimate_column(summary, "seconds_per_epoch", "training time an epoch", "s", 2),
    ]  # fmt: skip


def count_column(summary: pd.DataFrame) -> Column:
    """Number of runs in the means, and how many are in none and why."""
    cells = [Cell(str(row["n"]), lost_runs(row), float(row["n"])) for _, row in summary.iterrows()]
    return Column("n", "seeds", cells)


def complexity_columns(complexity: pd.DataFrame, study: Mapping[str, Any]) -> list[Column]:
    """The table of costs, a row a network; costs that were not counted are left out."""
    shown = {
        "params": ("parameters", "", 0, 1),
        "macs": ("MACs", "million, 1 MAC = 1 multiply-add", 2, 1e-6),
        "norm_ops": ("norm operations", "million, in evaluation", 3, 1e-6),
        "norm_ops_training": ("norm operations", "million, in training", 3, 1e-6),
        "activations": ("activations", "elements", 0, 1),
        "weight_bytes": ("weights", "MB", 2, 1e-6),
    }
    columns = configuration_cells(complexity, study)
    if "input" in complexity:
        sizes = [Cell(text.replace("x", TIMES), value=text) for text in complexity["input"]]
        columns.append(Column("input", f"C {TIMES} H {TIMES} W", sizes))
    columns += [
        number_column(complexity[key], *how) for key, how in shown.items() if key in complexity
    ]
    if "peak_training_bytes" in complexity:
        peaks = complexity[["peak_training_bytes", "peak_training_batch"]].itertuples(index=False)
        cells = [
            Cell(number_text(peak / 1e6, 1), f"batches of {batch}", float(peak))
            for peak, batch in peaks
        ]
        columns.append(Column("peak memory of training", "MB", cells))
    return columns


def layer_tables(layers: pd.DataFrame, study: Mapping[str, Any]) -> list[tuple[str, list[Column]]]:
    """A table of layers for each network, with the network's name."""
    keys = [name for name in configuration_columns(study) if name in layers]
    numbers = ("params", "macs", "norm_ops", "norm_ops_training", "activations")
    tables = []
    for cells, part in layers.groupby(keys, sort=False, dropna=False):
        named = dict.fromkeys(study["axes"]) | dict(zip(keys, cells, strict=True))
        columns = [
            Column(name.replace("_", " "), "", [Cell(str(cell)) for cell in part[name].fillna("")])
            for name in ("layer", "type", "output_shape")
        ]
        columns += [number_column(part[name], LAYER_NAMES[name]) for name in numbers]
        tables.append((configuration_label(named, study), columns))
    return tables


LAYER_NAMES = {
    "params": "parameters",
    "macs": "MACs",
    "norm_ops": "norm operations (evaluation)",
    "norm_ops_training": "norm operations (training)",
    "activations": "activations",
}


def texts_by_network(
    complexity: pd.DataFrame, column: str, study: Mapping[str, Any]
) -> dict[str, list[str]]:
    """The different texts of a column, each with the networks that have it."""
    networks: dict[str, list[str]] = {}
    if column in complexity:
        for row in complexity[complexity[column].notna()].to_dict("records"):
            label = configuration_label(dict.fromkeys(study["axes"]) | row, study)
            networks.setdefault(row[column], []).append(label)
    return networks


def configuration_label(configuration: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Words for a configuration: "resnet, batch norm, batch size 32"."""
    words = [configuration["model"], norm_title(configuration["norm"])]
    return ", ".join([*words, *filter(None, [axes_label(configuration, study)])])


# ---- What the data say in words ----


def main_numbers(summary: pd.DataFrame, study: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration with the highest mean accuracy, and how the others' intervals lie to it.

    Overlapping intervals do not order two configurations; the template claims no more than that.
    None where no run is complete.
    """
    labels = pd.Series(
        [configuration_label(row, study) for row in summary.to_dict("records")], summary.index
    )
    measured = summary["n"] > 0
    if not measured.any():
        return None
    first = summary.loc[measured, "test_accuracy_mean"].idxmax()
    others = summary[measured].drop(first)
    overlaps = others["test_accuracy_high"] >= summary.loc[first, "test_accuracy_low"]
    unknown = others["test_accuracy_high"].isna() | pd.isna(summary.loc[first, "test_accuracy_low"])
    best = {
        part: number_text(100 * summary.loc[first, f"test_accuracy_{part}"], 2)
        for part in ("mean", "low", "high")
        if pd.notna(summary.loc[first, f"test_accuracy_{part}"])
    }
    return {
        "best": best | {"label": labels[first], "n": int(summary.loc[first, "n"])},
        "measured": int(measured.sum()),
        "overlapping": labels[others.index[overlaps & ~unknown]].tolist(),
        "below": int((~overlaps & ~unknown).sum()),
        "unknown": labels[others.index[unknown]].tolist(),
        "unmeasured": labels[~measured].tolist(),
        "fewer": {
            labels[i]: int(summary.loc[i, "n"])
            for i in summary.index
            if summary.loc[i, "n"] < len(study["seeds"])
        },
    }


def absent_rows(runs: pd.DataFrame) -> list[dict[str, str]]:
    """The runs that are in no mean: run, status and reason."""
    absent = runs.loc[runs["status"] != "ok", ["run", "status", "reason"]]
    return absent.astype(object).fillna("").to_dict("records")


def used_images(study: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, str]:
    """How many images the runs were trained, tested and validated on; several where they differ."""
    numbers: dict[str, set[int]] = {"train": set(), "test": set(), "validation": set()}
    for run in study["runs"]:
        options = run["specification"]
        validation = options.get("validation_images", 0)
        numbers["validation"].add(validation)
        numbers["train"].add(options.get("train_images") or dataset["n_train"] - validation)
        numbers["test"].add(options.get("test_images") or dataset["n_test"])
    return {
        part: " or ".join(f"{number:,}" for number in sorted(found) if number)
        for part, found in numbers.items()
    }


# ---- Where the numbers come from ----


def read_records(study: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The run.json of each run that left one, by run."""
    paths = {run["run"]: folder / "runs" / run["run"] / "run.json" for run in study["runs"]}
    return {run: read_json(path) for run, path in paths.items() if path.exists()}


def provenance(
    records: Mapping[str, Mapping[str, Any]], study: Mapping[str, Any], checksum: str
) -> dict[str, Any]:
    """Where and with what the runs were trained, and what keeps them from being comparable."""
    trained = {run: record for run, record in records.items() if record.get("environment")}
    values = {
        key: Counter(
            version_text(record["environment"][key])
            for record in trained.values()
            if record["environment"].get(key) is not None
        )
        for key in ENVIRONMENT
    }
    times = [record.get(key) for record in trained.values() for key in ("started", "finished")]
    times = sorted(filter(None, times))
    return {
        "runs": len(trained),
        "values": [
            (ENVIRONMENT[key], count.most_common()) for key, count in values.items() if count
        ],
        "mixed": [
            ENVIRONMENT[key]
            for key in COMPARABLE
            if len(values[key]) > 1 and key not in study["axes"]
        ],
        "inexact": [run for run, record in trained.items() if record.get("exact") is False],
        "other_data": [
            run for run, record in trained.items()
            if (record.get("data") or {}).get("checksum", checksum) != checksum
        ],
        "commits": [commit for commit, _ in values["git_commit"].most_common()],
        "seconds": sum(record.get("train_seconds") or 0 for record in trained.values()),
        "between": [times[0], times[-1]] if times else [],
    }  # fmt: skip


def version_text(value: Any) -> str:
    """A value of an environment as text; a version stays as it is, unlike a number: 13.0."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- The page ----


def figure_entry(
    path: Path, number: int, folder: Path, templates: jinja2.Environment
) -> dict[str, Any]:
    """A figure as the template shows it; its links are relative to the report's folder."""
    place = Path(os.path.relpath(path, folder)).as_posix()
    caption = templates.get_template("figure.rst")
    return {
        "title": path.stem.replace("_", " ").replace("macs", "MACs"),
        "svg": embed_svg(path, f"f{number}-"),
        "caption": caption.render(snakemake={"wildcards": {"figure": path.stem}}).strip(),
        "links": {kind: quote(f"{place.removesuffix('.svg')}.{kind}") for kind in FORMATS},
    }


def load_templates() -> jinja2.Environment:
    """The templates of workflow/report; everything put into HTML is escaped."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: not (name or "").endswith(".rst"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["duration"] = duration
    return templates


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    study, dataset = read_study(arguments.study), read_json(arguments.dataset)
    runs, summary = (read_table(path, study) for path in (arguments.runs, arguments.summary))
    complexity, layers = (
        read_cells(path, study["axes"]) for path in (arguments.complexity, arguments.layers)
    )
    records = read_records(study, arguments.study.parent)
    templates = load_templates()
    page = templates.get_template("report.html.j2").render(
        study=study,
        dataset=dataset,
        images=used_images(study, dataset),
        configurations=len(configurations(study)),
        excluded=[
            (configuration_label(dict.fromkeys(study["axes"]) | entry, study), entry["reason"])
            for entry in study.get("excluded", [])
        ],
        absent=absent_rows(runs),
        numbers=main_numbers(summary, study),
        figures=[
            figure_entry(path, number, arguments.out.parent, templates)
            for number, path in enumerate(arguments.figures, start=1)
        ],
        summary=summary_columns(summary, runs, study),
        complexity=complexity_columns(complexity, study),
        uncounted=texts_by_network(complexity, "unsupported", study),
        memory_method=texts_by_network(complexity, "peak_training_method", study),
        layers=layer_tables(layers, study),
        settings=settings(study),
        provenance=provenance(records, study, dataset["checksum"]),
    )
    write_text(arguments.out, page)
    print(f"wrote {arguments.out} ({len(page.encode()) / 1e6:.1f} MB)")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, what in {
        "study": "study.json, beside runs/",
        "runs": "runs.csv of collect_runs",
        "summary": "summary.csv of summarize_runs",
        "complexity": "complexity.csv of count_complexity",
        "layers": "layers.csv of count_complexity",
        "dataset": "dataset.json of the prepared data set",
        "out": "the HTML file to write",
    }.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    parser.add_argument(
        "--figures", type=Path, nargs="*", default=[], help="SVG files, in the order to show them"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
