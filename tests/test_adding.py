"""docs/adding.md: its examples, saved where it says, are a norm, network, data, study and claim."""

import csv
import json
import shutil
import subprocess
import sys

import pytest

from conftest import read_record
from documentation import example
from normres import catalog, dataset_facts, options
from normres.config import read_config
from normres.datasets import read_dataset
from normres.errors import InputError
from normres.plans import make_plan
from snakemake_project import TINY, Project

PAGE = "adding.md"
PACKAGE = "workflow/scripts/normres"


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The page's study, run in a copy of the project with its examples and nothing else added."""
    project = Project.create(tmp_path_factory.mktemp("project") / "p", tiny=TINY)
    saved = {
        f"{PACKAGE}/norms/mynorm.py": example(PAGE, "A norm", "python"),
        f"{PACKAGE}/networks/mynet.py": example(PAGE, "A network", "python"),
        "make_bars.py": example(PAGE, "A data set", "python"),
        "mine.yaml": example(PAGE, "A study", "yaml") + example(PAGE, "A claim", "yaml"),
    }
    for path, text in saved.items():
        (project.folder / path).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "make_bars.py"], cwd=project.folder, check=True)
    project.run("--configfile", "mine.yaml")
    return project


def table(project, name):
    with (project.results("mine") / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_norm_and_the_network_are_trained_and_counted(mine):
    for run in ("mynet/mynorm/seed1", "convnet/mynorm/seed0", "mynet/none/seed0"):
        assert read_record(mine.results("mine") / "runs" / run)["status"] == "ok"
    counts = {(row["model"], row["norm"]): row for row in table(mine, "complexity.csv")}
    channels, classes, side = 32, 2, 16
    weights = 9 * channels + channels + channels * classes + classes  # of grey images
    assert int(counts["mynet", "none"]["params"]) == weights
    assert int(counts["mynet", "mynorm"]["params"]) == weights + 2 * channels
    macs = 9 * channels * (side - 2) ** 2 + channels * classes
    assert int(counts["mynet", "none"]["macs"]) == macs


def test_the_data_set_is_prepared(mine):
    (path,) = (mine.folder / "results" / "data").glob("bars-*/dataset.json")
    said = json.loads(path.read_text(encoding="utf-8"))
    assert (said["n_train"], said["n_test"]) == (80, 40)
    assert said["class_names"] == ["level", "upright"]


def test_the_study_has_its_comparisons_figures_and_report(mine):
    declared = [row for row in table(mine, "comparisons.csv") if row["kind"] == "declared"]
    assert [(row["of"], row["against"]) for row in declared] == [
        ("convnet/mynorm", "convnet/none"),
        ("mynet/mynorm", "mynet/none"),
    ]
    assert (mine.results("mine") / "figures" / "final_accuracy.png").exists()
    report = (mine.results("mine") / "report.html").read_text(encoding="utf-8")
    assert "Does my norm help my network to tell how a bar lies?" in report


def test_the_claim_has_its_verdict(mine):
    (row,) = [row for row in table(mine, "claims.csv") if row["id"] == "mynet-smaller"]
    assert row["verdict"] == "supported"
    assert "(exact)" in row["evidence"]


def test_all_that_a_built_in_data_set_needs_is_there_for_each():
    """The facts, and a reader: what the page says that one takes."""
    assert set(dataset_facts.SIZES) == set(dataset_facts.SHAPES) == set(dataset_facts.CLASSES)
    with pytest.raises(InputError) as error:
        read_dataset("nonsense", ".")
    names = str(error.value).partition("is not one of ")[2].split(", ")
    assert names == list(dataset_facts.SIZES)


@pytest.mark.parametrize(
    "constants, words",
    [
        ("CHANNELS = (8,)", "MIN_SIDE has to be a number of pixels from 1, not None"),
        ("MIN_SIDE = 1", "CHANNELS has to be the channel counts"),
        ("CHANNELS = 8\nMIN_SIDE = 1", "not 8"),
        ("CHANNELS = ()\nMIN_SIDE = 1", "not ()"),
        ("CHANNELS = (8,)\nMIN_SIDE = 1", "`build` takes 'width', which is no option of"),
    ],
)
def test_a_network_that_lacks_something_is_named_before_anything_starts(
    tmp_path, monkeypatch, constants, words
):
    """The pipeline reads these from the file; without them it stopped in a traceback."""
    shutil.copytree(catalog.PACKAGE / "norms", tmp_path / "norms")
    (tmp_path / "networks").mkdir()
    text = f"{constants}\ndef build(channels, side, classes, norm, *, conv_bias, width=2): ..."
    (tmp_path / "networks" / "own.py").write_text(text)
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    monkeypatch.setattr(catalog, "_statements", catalog._statements.__wrapped__)
    monkeypatch.setattr(options, "_claimed", options._claimed.__wrapped__)
    study = {"dataset": "digits", "models": ["own"], "norms": ["none"], "seeds": [0], "epochs": 1}
    with pytest.raises(InputError) as in_study:
        read_config({"study": "s", "studies": {"s": study}})
    with pytest.raises(InputError) as by_hand:
        make_plan({"model": "own", "norm": "none", "seed": 0, "epochs": 1})
    for caught in (in_study, by_hand):
        line = str(caught.value)
        assert "own.py: " in line and words in line and "\n" not in line
