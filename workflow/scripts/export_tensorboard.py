"""Write a study's curves as TensorBoard event files, one folder per run.

    python workflow/scripts/export_tensorboard.py --study results/quickstart/study.json \\
        --curves results/quickstart/curves.csv --out results/quickstart/tensorboard
    tensorboard --logdir results/quickstart/tensorboard

Every number of an epoch is a scalar at that step: loss/test, accuracy/test, and so on; empty cells
are none. The time of a scalar is the run's seconds of training until then, counted from 0: choose
"Relative" as the horizontal axis ("Wall" starts in 1970). The same curves give the same bytes.
"""

import argparse
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from normres.command_line import make_parser
from normres.errors import InputError, run_command
from normres.files import read_rows, replacing
from normres.history import COLUMNS
from normres.tables import axis_text, read_study

FILE = "events.out.tfevents.0.normres"  # TensorBoard looks for "tfevents"
FORMAT = "brain.Event:2"  # the first record of every event file
GROUPS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "grad_norm": "gradient_norm",
    "seconds": "seconds",
}
SCALARS = tuple(column for column in COLUMNS if column != "epoch")


def tag(column: str) -> str:
    """A column's name in TensorBoard, which groups by what stands before the slash."""
    for ending, group in GROUPS.items():
        if column.endswith(f"_{ending}"):
            return f"{group}/{column.removesuffix(f'_{ending}')}"
    return f"other/{column}"


def write_events(rows: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write rows of curves.csv, those of one run, as an event file.

    Raises InputError where the package tensorboard is not installed.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise InputError(
            f"event files need the package tensorboard: pip install tensorboard ({error})"
        ) from None
    with replacing(path, durable=False) as temporary, open(temporary, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=0.0, file_version=FORMAT).SerializeToString())
        for row in rows:
            values = [
                Summary.Value(tag=tag(column), simple_value=float(row[column]))
                for column in SCALARS
                if row[column]
            ]
            event = Event(
                wall_time=float(row["train_seconds"] or 0.0),
                step=int(row["epoch"]),
                summary=Summary(value=values),
            )
            writer.write(event.SerializeToString())


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    study = read_study(arguments.study)
    names = {key(run, run["axes"]): run["run"] for run in study["runs"]}
    curves: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(arguments.curves):
        axes = {axis: row[axis] for axis in study["axes"] if row[axis]}
        try:
            curves.setdefault(names[key(row, axes)], []).append(row)
        except KeyError:
            raise InputError(
                f"{arguments.curves}: a run that {arguments.study} does not have: "
                f"{'/'.join(map(str, key(row, axes)))}"
            ) from None
    shutil.rmtree(arguments.out, ignore_errors=True)  # runs that are no more
    arguments.out.mkdir(parents=True)
    for run, rows in curves.items():
        write_events(rows, arguments.out / run / FILE)
    print(f"{arguments.out}: {len(curves)} runs; tensorboard --logdir {arguments.out}")


def key(run: Mapping[str, object], axes: Mapping[str, object]) -> tuple[str, ...]:
    """What tells a run from others, as text."""
    values = [f"{axis}={axis_text(value)}" for axis, value in sorted(axes.items())]
    return (str(run["model"]), str(run["norm"]), *values, f"seed{run['seed']}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json")
    parser.add_argument("--curves", type=Path, required=True, help="curves.csv of collect_runs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; is replaced")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
