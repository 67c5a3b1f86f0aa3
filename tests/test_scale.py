"""What must not grow with the number of runs: command lines, tasks of Snakemake, each redrawing."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from conftest import PROJECT
from normres.errors import InputError
from normres.grid import RUN_FILES
from normres.progress import Display
from pipelines import pipeline, workflow

RUN = "results/many/runs/resnet/batch/learning_rate=0.0001/seed9/"


@pytest.fixture(scope="module")
def ten_thousand():
    start = time.perf_counter()
    made = pipeline(100)
    assert time.perf_counter() - start < 10
    assert len(made.runs) == 10_000
    return made


def test_command_lines_do_not_grow_with_runs(ten_thousand):
    few = pipeline(10)
    assert ten_thousand.listed("networks", "many") == few.listed("networks", "many")
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


def asked_for(pipeline):
    """What targets and collect_runs ask for of one run."""
    asked = pipeline.deliverables(None) + pipeline.run_files(SimpleNamespace(study="many"))
    return sorted(path.removeprefix(RUN) for path in asked if path.startswith(RUN))


def test_a_run_that_is_not_there_is_asked_for_by_what_collects_it(
    ten_thousand, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert asked_for(ten_thousand) == ["history.csv", "run.json"]
    asked = ten_thousand.deliverables(None) + ten_thousand.run_files(SimpleNamespace(study="many"))
    assert len(asked) == len(set(asked)) < 2 * 10_000 + 100


def test_every_lost_file_of_a_run_is_asked_for(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(RUN).mkdir(parents=True)
    for name in RUN_FILES:
        Path(RUN, name).touch()
    assert asked_for(ten_thousand) == ["history.csv", "run.json"]
    for name in RUN_FILES:
        Path(RUN, name).unlink()
        assert asked_for(ten_thousand) == sorted(["history.csv", "run.json", name])
        Path(RUN, name).touch()


def test_a_lost_run_is_asked_for_where_the_runs_are_collected(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results/many").mkdir(parents=True)
    for name in ("curves.csv", "runs.csv"):
        assert asked_for(ten_thousand) == ["history.csv", "run.json"]
        Path("results/many", name).touch()
    assert asked_for(ten_thousand) == sorted([*RUN_FILES, "history.csv", "run.json"])


def test_what_is_the_same_for_all_runs_is_no_function(ten_thousand):
    assert ten_thousand.constant(ten_thousand.run_threads) == 1
    assert ten_thousand.constant(ten_thousand.dataset_file) == "results/data/digits/dataset.json"
    mixed = pipeline(2, cpu_threads=[1, 2], learning_rate=1e-4)
    assert mixed.constant(mixed.run_threads) == mixed.run_threads
    for run in ("cpu_threads=1/seed0", "cpu_threads=2/seed1"):
        wildcards = SimpleNamespace(study="many", run=f"convnet/none/{run}")
        assert mixed.run_threads(wildcards) == int(run.split("/")[0][-1])


def test_more_networks_than_a_command_line_holds_are_refused_in_one_line():
    sizes = [size for size in range(20, 420) if 1000 % size != 1]
    with pytest.raises(InputError, match=r"studies.many: too many different networks \(\d+\)") as e:
        pipeline(1, batch_size=sizes, learning_rate=1e-4, train_images=1000)
    assert "\n" not in str(e.value)
    pipeline(1, batch_size=sizes[:40], learning_rate=1e-4, train_images=1000)


def test_redrawing_takes_no_longer_with_ten_thousand_runs(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = SimpleNamespace(verbose=False, printshellcmds=False, quiet=None)
    display = Display(workflow(output_settings=output), ten_thousand)
    display.to_train = set(ten_thousand.runs)
    monkeypatch.setattr(display, "_show", lambda: None)
    display.start()
    whole = display._left([])
    start = time.perf_counter()
    for _ in range(100):
        display._line()
        display._picture()
    assert (time.perf_counter() - start) / 100 < 0.01
    start = time.perf_counter()
    for key in list(ten_thousand.runs)[:20]:
        display.time_left.end_run(key)
        display._line()
    assert (time.perf_counter() - start) / 20 < 0.1
    for number, (study, run) in enumerate(list(ten_thousand.runs)):
        wildcards = {"study": study, "run": run}
        display.jobs[number] = SimpleNamespace(rule_name="train", wildcards=wildcards)
        display._finish(number)
    assert whole != "0 s" and display._left([]) == "0 s"


def test_only_some_of_many_runs_in_training_are_shown(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    display = Display(workflow(), ten_thousand)
    state = {"epoch": 1, "epochs": 5, "fraction": 0.2, "train_loss": 1.5, "test_accuracy": 0.5}
    state["seconds_left"] = 60
    display.estimate()
    states = [(study, run, state) for study, run in list(ten_thousand.runs)[:40]]
    monkeypatch.setattr(display, "_training", lambda: states)
    assert display._line().count("epoch 1/5") == 12
    assert display._line().endswith("; and 28 more in training")


@pytest.mark.parametrize("dryrun", [True, False])
def test_a_dry_run_leaves_the_progress_of_runs_in_training(tmp_path, monkeypatch, dryrun):
    monkeypatch.chdir(tmp_path)
    file = Path("results/many/logs/convnet/none/seed0.progress.json")
    file.parent.mkdir(parents=True)
    file.touch()
    display = Display(workflow(dryrun=dryrun), pipeline(1))
    wildcards = {"study": "many", "run": "convnet/none/seed0"}
    event = {"event": LogEvent.JOB_INFO, "jobid": 1}
    display.emit(SimpleNamespace(**event, rule_name="train", wildcards=wildcards))
    assert file.exists() == dryrun


def test_a_run_that_ended_while_snakemake_was_stopped_is_not_called_failed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    display = Display(workflow(), pipeline(1))
    monkeypatch.setattr(display.console, "print", lambda text: said.append(str(text)))
    stopped = ("saved epoch 5\nstopped by SIGINT", "stopped by SIGINT")
    for last in ("wrote results/many/runs/convnet/none/seed0", *stopped):
        Path("train.log").write_text(f"epoch 5\n{last}\n")
        failed = {"jobid": 1, "rule_name": "train", "rule_msg": "training it", "log": ["train.log"]}
        display._explain_failure(SimpleNamespace(**failed))
    assert said == [
        "Stopped: train; its result is kept, the next call takes it",
        "Stopped: train; its state is saved, the next call goes on",
        "Stopped: train; the next call starts it again",
    ]


@pytest.mark.slow
def test_the_benchmark_of_large_studies(tmp_path):
    text = measured(tmp_path / "many.csv", "--seeds", "1", "--small")
    for step in ("dry run, nothing there", "all jobs", "collect_runs", "reset_runs", "clean_store"):
        assert step in text


@pytest.mark.slow
def test_the_benchmark_of_what_a_person_waits_for(tmp_path):
    rows = measured(tmp_path / "overhead.csv", "--small").splitlines()
    assert len(rows) == 6 and rows[0].startswith("step,n,median,minimum,maximum,goal,met")


def measured(out, *arguments):
    """What benchmarks/pipeline_overhead.py writes."""
    command = [sys.executable, str(PROJECT / "benchmarks" / "pipeline_overhead.py"), *arguments]
    subprocess.run([*command, "--repeats", "1", "--out", str(out)], check=True)
    return out.read_text()
