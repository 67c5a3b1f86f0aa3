"""What the commands that make a study's own tables share: arguments, groups of runs, cells."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from normres.analyses import ANALYSES, lacking_axes
from normres.command_line import make_parser
from normres.errors import InputError
from normres.inference import FREE, Bounds, Difference, mean_interval
from normres.tables import configuration_columns, read_study, read_table, write_table

LEAST_NORM = 1.4e-45  # the smallest positive float32; a gradient's smaller norm has become 0


@dataclass(frozen=True)
class Inputs:
    """What such a command reads. `runs` and `curves` hold complete runs only, `asked` all."""

    study: Mapping[str, Any]
    folder: Path  # of the study, with runs/
    asked: pd.DataFrame  # runs.csv: one row per run, with its status
    runs: pd.DataFrame  # one row per run, at its last epoch
    curves: pd.DataFrame  # curves.csv: one row per run and epoch
    data: Path  # the folder of the prepared images
    out: Path

    def write(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Write the table, with its columns also where it has no row, and say so."""
        write_table(pd.DataFrame(rows, columns=list(columns)), self.out)
        print(f"{self.out}: {len(rows)} rows from {len(self.runs)} complete runs")


def read_inputs(doc: str, argv: Sequence[str] | None, table: str = "") -> Inputs:
    """Parse the command line and read the tables; `doc` is the command's own documentation.

    Raises InputError where a table is missing or is not the study's, or the study lacks an axis
    that `table`, of ANALYSES, needs.
    """
    parser = make_parser(doc)
    parser.add_argument("--study", type=Path, required=True, help="study.json, beside runs/")
    parser.add_argument("--runs", type=Path, required=True, help="runs.csv of collect_runs")
    parser.add_argument("--curves", type=Path, required=True, help="curves.csv of collect_runs")
    parser.add_argument("--data", type=Path, required=True, help="folder made by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True, help="csv to write")
    arguments = parser.parse_args(argv)
    study = read_study(arguments.study)
    if table and (lacking := lacking_axes(ANALYSES[table], study["axes"])):
        raise InputError(f"{arguments.study}: {table} needs {' and '.join(lacking)}")
    runs, curves = read_table(arguments.runs, study), read_table(arguments.curves, study)
    return Inputs(
        study=study,
        folder=arguments.study.parent,
        asked=runs,
        runs=runs[runs["status"] == "ok"],
        curves=curves[curves["status"] == "ok"],
        data=arguments.data,
        out=arguments.out,
    )


def key_columns(study: Mapping[str, Any], without: Sequence[str] = ()) -> list[str]:
    """model, norm and the study's axes, but for those in `without`."""
    return [column for column in configuration_columns(study) if column not in without]


def groups(table: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows that agree in `by`, with these cells, in order of appearance.

    An empty cell, of an axis that does not apply, is a value like others.
    """
    if table.empty:
        return
    for cells, members in table.groupby(list(by), sort=False, dropna=False):
        yield dict(zip(by, cells, strict=True)), members


def estimate_columns(name: str) -> list[str]:
    """The columns of `estimate_cells`."""
    return [f"{name}_{part}" for part in ("mean", "sd", "low", "high")]


def estimate_cells(name: str, values: Sequence[float], bounds: Bounds = FREE) -> dict[str, float]:
    """Mean, sd and 95 % interval of the mean of one number per run; see inference.mean_interval."""
    found = mean_interval(values, bounds=bounds)
    numbers = (found.estimate, found.sd, found.low, found.high)
    return dict(zip(estimate_columns(name), numbers, strict=True))


def difference_cells(name: str, found: Difference) -> dict[str, float]:
    """A difference of means and its interval."""
    numbers = {"mean": found.estimate, "low": found.low, "high": found.high}
    return {f"{name}_{part}": value for part, value in numbers.items()}
