"""Pack a study as an RO-Crate: one zip that says what made each file, with what, and when.

    python workflow/scripts/export_crate.py --study results/quickstart/study.json \\
        --dataset results/data/digits/dataset.json --out results/quickstart/crate.zip

It holds the workflow, the study's tables, figures and report, and each run's record and history,
with the checksum of every file, as a Provenance Run Crate (https://w3id.org/ro/wfrun/provenance).
The images are not in it, but their checksum is. Nor are weights and test logits, of which run.json
has the checksums: --weights packs them. docs/provenance.md says how to validate it.
"""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

from normres import gallery
from normres.analyses import ANALYSES
from normres.command_line import make_parser
from normres.crate import StudyCrate
from normres.errors import InputError, run_command
from normres.files import read_json, replacing
from normres.gallery import FORMATS
from normres.grid import HISTORY, LOGITS, RECORD, WEIGHTS
from normres.tables import read_study
from normres.wording import study_call

PROJECT = Path(__file__).parents[2]
TABLES = ("*.csv", "*.json", "*.md", "*.tex", "report.html")
VERSIONS = ("python", "torch", "torchvision", "numpy", "cuda", "cudnn")  # in a run's environment


def result_files(study: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> list[Path]:
    """What of the study's folder is packed: tables, figures, and the files of its runs.

    Not what is left of analyses and figures that the study no longer has, where it is said which.
    """
    dropped = set(ANALYSES) - set(arguments.analyses)
    tables = [path for glob in TABLES for path in sorted(folder.glob(glob))]
    files = [path for path in tables if path.stem not in dropped]
    for path in sorted(folder.glob("figures/*.*")):
        asked = arguments.figures is None or path.stem in arguments.figures
        if asked and gallery.is_figure(path.stem) and path.suffix[1:] in FORMATS:
            files.append(path)
    kept = (RECORD, HISTORY, *((WEIGHTS, LOGITS) if arguments.weights else ()))
    files += [folder / "runs" / run["run"] / name for run in study["runs"] for name in kept]
    return [path for path in files if path.is_file() and not path.name.startswith(".")]


def description(
    study: dict[str, Any], records: dict[str, Any], weights: bool, call: str | None
) -> str:
    """What the crate is, what made it, and what it only refers to."""
    status = [record["status"] for record in records.values()]
    ended = ", ".join(f"{status.count(s)} {s}" for s in ("ok", "diverged", "failed") if s in status)
    made_by = f", called by `{study_call(call, study['study'])}`" if call else ""
    without = "The images" if weights else "The images, the trained weights and the test logits"
    return (
        f"Study {study['study']} of Norms and Residuals on {study['dataset']['name']}: "
        f"{len(study['runs'])} runs ({ended}), tables, figures and report, and the workflow that "
        f"made them{made_by}. {without} are not in the crate; their checksums are, in dataset.json "
        "and in each run's run.json. Start and end of the whole are those of the first and the "
        "last job that noted its times (training and timing)."
    )


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    study = read_study(arguments.study)
    folder = arguments.study.parent
    dataset = read_json(arguments.dataset)
    found = {run["run"]: folder / "runs" / run["run"] / RECORD for run in study["runs"]}
    records = {run: read_json(path) for run, path in found.items() if path.exists()}
    if not records:
        raise InputError(f"{folder / 'runs'}: no run has left its {RECORD}; train the study first")
    timing = read_json(folder / "timing.json")
    noted = [record["finished"] for record in (*records.values(), timing) if "finished" in record]
    if not noted:
        raise InputError(f"{folder / 'runs'}: no {RECORD} says when its run ended")
    crate = StudyCrate(PROJECT, study, max(noted), arguments.licence)
    crate.add_sources(version("snakemake"), arguments.configfiles)
    crate.add_data(arguments.dataset, dataset)
    crate.add_results(folder, result_files(study, folder, arguments))
    crate.add_timing(timing)
    for run, record in records.items():
        crate.add_run(run, record, VERSIONS)
    crate.describe_run(description(study, records, arguments.weights, arguments.call))
    with replacing(arguments.out) as temporary:
        crate.crate.write_zip(temporary)
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json of a finished study")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset.json of its data")
    parser.add_argument("--out", type=Path, required=True, help="the zip to write")
    parser.add_argument(
        "--configfiles",
        type=Path,
        nargs="*",
        default=[],
        help="configuration that was given on top of the project's; packed, too",
    )
    parser.add_argument(
        "--analyses",
        nargs="*",
        default=[*ANALYSES],
        help="analyses whose tables are packed [all that are there]",
    )
    parser.add_argument("--figures", nargs="*", help="figures to pack [all that are there]")
    parser.add_argument("--call", help="what made it, but for the study, for the description")
    parser.add_argument("--weights", action="store_true", help="pack weights and test logits, too")
    parser.add_argument(
        "--licence",
        default="https://spdx.org/licenses/MIT",
        help="URL of the licence of what is packed [that of this project, MIT]",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
