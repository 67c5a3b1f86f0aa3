"""What must not grow with the number of runs: command lines, tasks of Snakemake, each redrawing."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from conftest import PROJECT
from normres.config import read_config
from normres.errors import InputError
from normres.pipeline import Pipeline
from normres.progress import Display

MANY = {
    "dataset": "digits",
    "models": ["convnet", "vgg11", "resnet", "plainnet"],
    "norms": ["none", "batch", "group", "layer", "instance"],
    "learning_rate": [1e-4, 2e-4, 3e-4, 4e-4, 5e-4],
    "epochs": 5,
}


def pipeline(seeds, **changes):
    study = {**MANY, "seeds": list(range(seeds)), **changes}
    return Pipeline(read_config({"study": "many", "studies": {"many": study}}))


@pytest.fixture(scope="module")
def ten_thousand():
    start = time.perf_counter()
    made = pipeline(100)
    assert time.perf_counter() - start < 10
    assert len(made.runs) == 10_000
    return made


def test_command_lines_do_not_grow_with_runs(ten_thousand):
    few = pipeline(10)
    assert ten_thousand.networks("many") == few.networks("many")
    more = len(ten_thousand.definition("many")) - len(few.definition("many"))
    assert more < 300  # the 90 other seeds as numbers, once
    names = [
        len(
            made.run_parameter(
                SimpleNamespace(study="many", run="resnet/batch/learning_rate=0.0001/seed9")
            )
        )
        for made in (few, ten_thousand)
    ]
    assert names[0] == names[1] < 2000


def test_each_file_of_a_run_is_asked_for_once(ten_thousand):
    asked = ten_thousand.deliverables(None) + ten_thousand.run_files(SimpleNamespace(study="many"))
    assert len(asked) == len(set(asked))
    run = "results/many/runs/resnet/batch/learning_rate=0.0001/seed9/"
    assert sorted(path.removeprefix(run) for path in asked if path.startswith(run)) == [
        "history.csv",
        "model.pt",
        "run.json",
        "test_logits.npy",
    ]


def test_more_networks_than_a_command_line_holds_are_refused_in_one_line():
    sizes = [size for size in range(20, 420) if 1000 % size != 1]
    with pytest.raises(InputError, match=r"studies.many: too many different networks \(\d+\)") as e:
        pipeline(1, batch_size=sizes, learning_rate=1e-4, train_images=1000)
    assert "\n" not in str(e.value)
    pipeline(1, batch_size=sizes[:40], learning_rate=1e-4, train_images=1000)


def test_redrawing_takes_no_longer_with_ten_thousand_runs(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = SimpleNamespace(verbose=False, printshellcmds=False)
    display = Display(
        SimpleNamespace(nodes=None, cores=8, dryrun=False, output_settings=output), ten_thousand
    )
    display.to_train = set(ten_thousand.runs)
    monkeypatch.setattr(display, "_show", lambda: None)
    display.start()
    whole = display._left([])
    start = time.perf_counter()
    for _ in range(100):
        display._line()
        display._picture()
    assert (time.perf_counter() - start) / 100 < 0.01
    for number, (study, run) in enumerate(list(ten_thousand.runs)):
        wildcards = {"study": study, "run": run}
        display.jobs[number] = SimpleNamespace(rule_name="train", wildcards=wildcards)
        display._finish(number)
    assert whole != "0 s" and display._left([]) == "0 s"


def test_only_some_of_many_runs_in_training_are_shown(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    display = Display(SimpleNamespace(nodes=None, cores=8), ten_thousand)
    state = {"epoch": 1, "epochs": 5, "train_loss": 1.5, "test_accuracy": 0.5, "seconds_left": 60}
    states = [(study, run, state) for study, run in list(ten_thousand.runs)[:40]]
    monkeypatch.setattr(display, "_training", lambda: states)
    assert display._line().count("epoch 1/5") == 12
    assert display._line().endswith("; and 28 more in training")


@pytest.mark.slow
def test_the_benchmark_of_bookkeeping(tmp_path):
    out = tmp_path / "bookkeeping.csv"
    command = [sys.executable, str(PROJECT / "benchmarks" / "bookkeeping.py")]
    subprocess.run([*command, "--seeds", "1", "--repeats", "1", "--out", str(out)], check=True)
    text = out.read_text()
    for step in ("dry run, nothing there", "all jobs", "collect_runs", "reset_runs", "clean_store"):
        assert step in text
