"""The curves in other tools: event files, read back by TensorBoard's own reader, and pandas."""

import csv
import math
import re
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import export_tensorboard
import synthetic
from conftest import PROJECT
from normres.errors import InputError
from normres.history import COLUMNS
from normres.tables import read_cells

DIVERGED = "resnet/none/batch_size=32/seed1"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return synthetic.aggregate(
        synthetic.write_study(folder, "batch-size", status={DIVERGED: "diverged"})
    )


def export(files, out):
    arguments = [f"--{name}={files[name]}" for name in ("study", "curves")]
    export_tensorboard.main([*arguments, f"--out={out}"])
    return out


@pytest.fixture(scope="module")
def events(files):
    return export(files, files["study"].parent / "tensorboard")


def scalars(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}


def test_every_run_and_number_is_there(files, events):
    with open(files["curves"], newline="") as table:
        rows = list(csv.DictReader(table))
    runs = {path.parent.relative_to(events).as_posix() for path in events.rglob("*tfevents*")}
    assert len(runs) == 8 and "resnet/group/batch_size=128/seed0" in runs
    read = scalars(events / "resnet" / "group" / "batch_size=128" / "seed0")
    mine = [
        row
        for row in rows
        if (row["norm"], row["batch_size"], row["seed"]) == ("group", "128", "0")
    ]
    assert [event.step for event in read["accuracy/test"]] == list(range(13))
    for column, tag in [("test_accuracy", "accuracy/test"), ("train_seconds", "seconds/train")]:
        expected = [float(row[column]) for row in mine]
        assert [event.value for event in read[tag]] == pytest.approx(expected, rel=1e-6)
    times = [event.wall_time for event in read["accuracy/test"]]
    assert times == pytest.approx([float(row["train_seconds"]) for row in mine])
    assert [event.step for event in read["loss/train"]] == list(range(1, 13))  # no cell at epoch 0
    assert not [tag for tag in read if "validation" in tag]  # no cell at all
    assert {"gradient_norm/first_conv", "other/test_correct"} <= set(read)


def test_a_diverged_run_ends_with_what_it_is(events):
    read = scalars(events / DIVERGED)
    assert math.isnan(read["loss/test"][-1].value)
    assert len(read["loss/test"]) == 7


def test_the_same_curves_give_the_same_bytes_and_lost_runs_leave(files, events, tmp_path):
    again = tmp_path / "events"
    (again / "resnet" / "none" / "seed9").mkdir(parents=True)
    export(files, again)
    one, two = (
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        for top in (events, again)
    )
    assert one == two
    assert not (again / "resnet" / "none" / "seed9").exists()


def test_foreign_curves_are_refused(files, tmp_path):
    curves = tmp_path / "curves.csv"
    curves.write_text(files["curves"].read_text().replace(",group,", ",layer,"))
    with pytest.raises(InputError, match="does not have: resnet/layer/batch_size="):
        export(files | {"curves": curves}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_package_one_line_says_what_to_install(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        export(files, tmp_path / "out")


def test_the_documents_example_for_pandas_gives_the_means(files):
    text = (PROJECT / "docs" / "interchange.md").read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].strip().splitlines()
    lines[-1] = f"means = {lines[-1]}"
    names = {}
    source = "\n".join(lines).replace("results/quickstart/curves.csv", str(files["curves"]))
    exec(source, names)  # of this project's own documents
    bands = read_cells(files["bands"], {"batch_size": None})
    ends = bands[(bands["metric"] == "test_accuracy") & (bands["epoch"] == 12)]
    pooled = ends[ends["norm"] == "group"]["mean"].mean()  # over batch sizes, 2 seeds each
    assert names["means"]["resnet", "group", 12] == pytest.approx(pooled)
    assert ("resnet", "none", 12) in names["means"]


def test_every_column_is_documented():
    table = (PROJECT / "docs" / "interchange.md").read_text().partition("## curves.csv")[2]
    assert [column for column in COLUMNS if f"`{column}`" not in table] == []
