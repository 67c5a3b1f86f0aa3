"""Write a study's report: one HTML file that opens offline and asks no server for anything.

    python workflow/scripts/render_report.py --study results/S/study.json \\
        --runs results/S/runs.csv --summary results/S/summary.csv \\
        --comparisons results/S/comparisons.csv \\
        --complexity results/S/complexity.csv --layers results/S/layers.csv \\
        --timing results/S/timing.json --claims results/S/claims.csv \\
        --dataset results/data/D/dataset.json \\
        --figures results/S/figures/*.svg --out results/S/report.html

Reads the run.json files beside study.json, too. It computes no statistic: the tables have them. The
words and the look are those of workflow/report/report.html.j2, the captions those of figure.rst.
"""

import argparse
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from normres import gallery
from normres.command_line import make_parser
from normres.comparison_tables import read_comparisons, report_section
from normres.errors import run_command
from normres.files import read_json, write_text
from normres.protocol import settings
from normres.report_abstract import abstract, main_numbers
from normres.report_claims import claims_section, read_claims_table
from normres.report_tables import (
    complexity_columns,
    configuration_cells,
    configuration_label,
    estimate_column,
    layer_tables,
    number_column,
    row_attributes,
    summary_columns,
    switches,
    texts_by_network,
)
from normres.svg import embed_svg
from normres.tables import (
    axis_text,
    configurations,
    in_drawing_order,
    read_cells,
    read_study,
    read_table,
    timing_repeats,
    untimed_configurations,
)
from normres.timing import MOST_ALIVE
from normres.validation import value_text
from normres.wording import CALL, duration, study_call

TEMPLATES = Path(__file__).parents[1] / "report"
FORMATS = ("png", "svg", "pdf", "csv")

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
# What the times rest on, beside the study's own options.
TIMED_WITH = ("device_name", "precision", "memory_format", "compiled", "cpu_threads", "torch")


def timing_section(
    summary: pd.DataFrame, details: Mapping[str, Any], study: Mapping[str, Any]
) -> dict[str, Any]:
    """The table of times, one row per configuration that was timed, and what the times rest on."""
    timed = details["configurations"]
    axes = [axis for axis in study["axes"] if any(axis in entry["axes"] for entry in timed)]
    rows = summary[summary["timing_repeats"] > 0].drop_duplicates(["model", "norm", *axes])
    kept = {**study, "axes": {axis: study["axes"][axis] for axis in axes}}
    shown = {
        "seconds_per_step": ("training step", "ms", 1, 1e3),
        "seconds_per_epoch": ("training epoch", "s", 2, 1),
        "images_per_second": ("training", "images/s", 0, 1),
        "latency_1_seconds": ("prediction, 1 image", "ms", 2, 1e3),
        "latency_128_seconds": ("prediction, 128 images", "ms", 1, 1e3),
    }
    if rows["joules_per_epoch_median"].notna().any():
        shown["joules_per_epoch"] = ("energy of an epoch", "J", 1, 1)
    columns = [*configuration_cells(rows, kept)]
    columns += [estimate_column(rows, key, *how, center="median") for key, how in shown.items()]
    columns.append(number_column(rows["peak_memory_bytes"], "peak memory", "MB", 0, 1e-6))
    environments = [entry["environment"] for entry in timed if entry.get("environment")]
    found = {
        ENVIRONMENT[key]: sorted({value_text(e[key]) for e in environments if key in e})
        for key in TIMED_WITH
    }
    return {
        "columns": columns if len(rows) else [],
        "rows": row_attributes(rows, kept),
        "repeats": timing_repeats(summary),
        "most": MOST_ALIVE if len(timed) > MOST_ALIVE else None,
        "untimed": untimed_configurations(summary, study, shown=len(summary)),
        "environment": {name: values for name, values in found.items() if values},
        "started": details["started"],
        "energy": sorted(rows["energy_source"].dropna().unique()),
    }


# ---- What the data say in words ----


def left_out(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """The combinations that are not in the study, by the reason that it gives."""
    reasons: dict[str, list[str]] = {}
    for entry in study.get("excluded", []):
        label = configuration_label(dict.fromkeys(study["axes"]) | entry, study)
        reasons.setdefault(entry["reason"], []).append(label)
    return reasons


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
            value_text(record["environment"][key])
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


# ---- The page ----


def figure_entry(
    path: Path, number: int, folder: Path, templates: jinja2.Environment
) -> dict[str, Any]:
    """A figure as the template shows it; its links are relative to the report's folder."""
    place = Path(os.path.relpath(path, folder)).as_posix()
    caption = templates.get_template("figure.rst")
    finding = path.with_suffix(".txt")
    return {
        "title": path.stem.replace("_", " ").replace("macs", "MACs"),
        "svg": embed_svg(path, f"f{number}-"),
        "caption": caption.render(snakemake={"wildcards": {"figure": path.stem}}).strip(),
        "over_seeds": gallery.is_over_seeds(path.stem),
        "finding": finding.read_text(encoding="utf-8").strip() if finding.exists() else "",
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
    templates.filters["axis_text"] = axis_text
    return templates


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    study, dataset = read_study(arguments.study), read_json(arguments.dataset)
    runs, summary = (read_table(path, study) for path in (arguments.runs, arguments.summary))
    complexity, layers = (
        in_drawing_order(read_cells(path, study["axes"]), study)
        for path in (arguments.complexity, arguments.layers)
    )
    comparisons = read_comparisons(arguments.comparisons)
    records = read_records(study, arguments.study.parent)
    origin = provenance(records, study, dataset["checksum"])
    images, options = used_images(study, dataset), settings(study)
    anchors = {path.stem: f"figure-{n}" for n, path in enumerate(arguments.figures, start=1)}
    claims = claims_section(read_claims_table(arguments.claims), anchors)
    templates = load_templates()
    page = templates.get_template("report.html.j2").render(
        study=study,
        dataset=dataset,
        images=images,
        configurations=len(configurations(study)),
        excluded=left_out(study),
        absent=absent_rows(runs),
        abstract=abstract(
            study,
            dataset,
            images,
            {"runs": runs, "summary": summary, "comparisons": comparisons},
            claims,
            {
                "settings": len(options),
                "differing": sum(row["differs"] for row in options),
                "mixed": any(origin[key] for key in ("mixed", "inexact", "other_data")),
            },
        ),
        numbers=main_numbers(summary, study),
        switches=switches(study),
        figures=[
            figure_entry(path, number, arguments.out.parent, templates)
            for number, path in enumerate(arguments.figures, start=1)
        ],
        summary=summary_columns(summary, runs, study),
        summary_rows=row_attributes(summary, study),
        comparisons=report_section(comparisons, study),
        complexity=complexity_columns(complexity, study),
        complexity_rows=row_attributes(complexity, study),
        claims=claims,
        timing=timing_section(summary, read_json(arguments.timing), study),
        uncounted=texts_by_network(complexity, "unsupported", study),
        memory_method=texts_by_network(complexity, "peak_training_method", study),
        layers=layer_tables(layers, study),
        call=study_call(arguments.call, study["study"]),
        by_make=arguments.call == CALL,
        settings=options,
        provenance=origin,
    )
    write_text(arguments.out, page)
    print(f"wrote {arguments.out} ({len(page.encode()) / 1e6:.1f} MB)")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    for name, what in {
        "study": "study.json, beside runs/",
        "runs": "runs.csv of collect_runs",
        "summary": "summary.csv of summarize_runs",
        "comparisons": "comparisons.csv of compare_configurations",
        "complexity": "complexity.csv of count_complexity",
        "layers": "layers.csv of count_complexity",
        "timing": "timing.json of time_training",
        "claims": "claims.csv of check_claims",
        "dataset": "dataset.json of the prepared data set",
        "out": "the HTML file to write",
    }.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    parser.add_argument(
        "--figures", type=Path, nargs="*", default=[], help="SVG files, in the order to show them"
    )
    parser.add_argument(
        "--call", default=CALL, metavar="COMMAND", help=f"made all this, but for the study [{CALL}]"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
