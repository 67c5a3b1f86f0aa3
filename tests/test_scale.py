"""What must not grow with the number of runs: command lines, tasks of Snakemake, each redrawing."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from conftest import PROJECT
from normres import estimates
from normres.config import read_config
from normres.devices import has_bfloat16_units
from normres.errors import InputError
from normres.estimates import (
    BFLOAT16_CPU,
    FLOAT32_CPU,
    GPU,
    JOB_SECONDS,
    SHARING_GAIN,
    Estimates,
    reference,
)
from normres.grid import RUN_FILES
from normres.pipeline import Pipeline
from normres.progress import Display
from project_copy import LARGE_GRID

RUN = "results/many/runs/resnet/batch/learning_rate=0.0001/seed9/"


def pipeline(seeds, settings=None, **changes):
    study = {**LARGE_GRID, "seeds": list(range(seeds)), **changes}
    return Pipeline(read_config({"study": "many", "studies": {"many": study}, **(settings or {})}))


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


def workflow(gpus=0, **settings):
    """As much of Snakemake's as a display looks at."""
    slots = {"gpu": SimpleNamespace(value=gpus)}
    defaults = {"nodes": None, "cores": 8, "dryrun": False, "global_resources": slots}
    return SimpleNamespace(**defaults | settings)


@pytest.mark.parametrize("gpus, places", [(0, 8), (4, 4)])
def test_the_time_left_follows_the_runs_in_training(tmp_path, monkeypatch, gpus, places):
    """Four runs are half-way after 100 seconds; so each of the others will take 200."""
    monkeypatch.chdir(tmp_path)
    many = pipeline(80, models=["convnet"], norms=["none"], batch_size=32, learning_rate=1e-4)
    display = Display(workflow(gpus), many)
    display.to_train = set(many.runs)
    display._estimate()
    shown = []
    monkeypatch.setattr("normres.progress.duration", shown.append)
    state = {"seconds_left": 100, "fraction": 0.5}
    display._left([(*run, state) for run in list(many.runs)[:4]])
    assert shown == [pytest.approx((len(many.runs) - 4) * 200 / places + 100)]
    display._left([])  # between two runs the pace is still known
    assert shown[1] == pytest.approx(len(many.runs) * 200 / places)


def test_the_time_left_counts_timings_tables_and_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    display = Display(workflow(cores=2), pipeline(1, models=["convnet"], norms=["none"]))
    timing = ("time_training", "many")
    display.to_time, display.total = {timing: 0.0}, 21
    display._estimate()
    shown = []
    monkeypatch.setattr("normres.progress.duration", shown.append)
    display._left([])
    estimated = display.to_time[timing]
    assert estimated > 5 and shown == [pytest.approx(estimated + 20 * JOB_SECONDS / 2)]

    def job(rule):
        return SimpleNamespace(rule_name=rule, rule_msg=rule, wildcards={"study": "many"})

    display.jobs = {1: job("time_training"), 2: job("plot_figure")}
    display.job_started = {1: time.monotonic(), 2: time.monotonic() - 8}
    Path("results/many/logs").mkdir(parents=True)
    Path("results/many/logs/time_training.progress.json").write_text('{"seconds_left": 3}')
    display._left([])
    assert shown[1] == pytest.approx(3 + 20 * JOB_SECONDS / 2)
    display._finish(1)
    display._finish(2)
    display.done = 2
    display._left([])
    assert shown[2] == pytest.approx(19 * 8 / 2, rel=0.01)  # as long as the one that was done


@pytest.mark.parametrize("flags, machine", [("avx2", FLOAT32_CPU), ("amx_bf16", BFLOAT16_CPU)])
def test_estimates_are_those_of_a_processor_like_this_one(tmp_path, monkeypatch, flags, machine):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("normres.estimates.PROCESSOR", tmp_path / "cpuinfo")
    assert reference("cpu") is BFLOAT16_CPU  # where there is no such file
    Path("cpuinfo").write_text(f"flags : fpu {flags}\n")
    assert reference("cpu") is machine and reference("cuda") is GPU
    assert machine.machine in Estimates(pipeline(1)).source


def test_a_run_takes_its_time_however_many_cores_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = {"models": ["resnet"], "norms": ["none"], "batch_size": 32, "learning_rate": 1e-4}
    said = []
    for cores in (1, 64):
        display = Display(workflow(cores=cores), pipeline(1, **one))
        display.to_train = set(display.pipeline.runs)
        display._estimate()
        said += [re.search(r"about (.*?) on", display.describe_plan())[1]]
        monkeypatch.setattr("normres.progress.duration", lambda seconds: f"{seconds:.3f}")
        assert display._left([]) == f"{sum(display.core_seconds.values()):.3f}"
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
    assert said[0] == said[1]


def test_only_runs_that_cost_the_same_tell_how_long_one_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = {"models": ["resnet"], "norms": ["none"], "batch_size": 32, "learning_rate": 1e-4}
    like = pipeline(1, **one)
    (run,) = like.runs.values()
    Path("results/data/digits").mkdir(parents=True)
    description = {"n_train": 1297, "shape": [32, 32, 3], "checksum": "sha256:a"}
    Path("results/data/digits/dataset.json").write_text(json.dumps(description))
    guess = Estimates(like).seconds("many", run)
    final = {"images_per_second": 10.0, "train_seconds": 129.7, "eval_seconds": 0.0}
    record = {"environment": {"device": "cpu"}, "final": final, "data": {"checksum": "sha256:a"}}
    record["specification"] = dict(run.specification)
    Path("results/store/key/epochs-1").mkdir(parents=True)
    file = Path("results/store/key/epochs-1/run.json")
    file.write_text(json.dumps(record))
    told = Estimates(like)
    assert told.source == "from earlier runs here"
    trained = run.specification["epochs"] * 129.7
    assert told.seconds("many", run) == pytest.approx(told.reference.start + trained)
    for change in ({"depth": 18}, {"batch_size": 64}, {"precision": "bfloat16"}):
        other = pipeline(1, **one | change)
        (run,) = other.runs.values()
        assert Estimates(other).seconds("many", run) != pytest.approx(
            told.reference.start + trained
        )
    file.write_text(json.dumps(record | {"data": {"checksum": "sha256:b"}}))
    (run,) = like.runs.values()
    assert Estimates(like).seconds("many", run) == guess


def test_larger_images_and_deeper_networks_take_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = {"models": ["resnet"], "norms": ["none"], "batch_size": 32, "learning_rate": 1e-4}

    def trained(**changes):
        made = pipeline(1, **one | changes)
        (run,) = made.runs.values()
        estimates = Estimates(made)
        return estimates.seconds("many", run) - estimates.reference.start

    assert trained(image_size=64) == pytest.approx(4 * trained())
    assert trained(depth=18) == pytest.approx(6 * trained())


def test_runs_share_a_gpu_by_mps_and_else_take_turns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    one = {"models": ["vgg11"], "norms": ["none"], "learning_rate": 1e-4}

    def plan(runs_per_gpu=4, **settings):
        made = pipeline(1, {"runs_per_gpu": runs_per_gpu}, **one)
        (run,) = made.runs.values()
        display = Display(workflow(gpus=runs_per_gpu, **settings), made)
        display.to_train = set(made.runs)
        display._estimate()
        seconds = display.estimates.seconds("many", run) - display.estimates.reference.start
        return seconds, display.describe_plan()

    alone, said = plan(cores=1)
    assert "with 1 run at a time (" in said
    assert plan(nodes=8)[0] == alone  # on a cluster each has a GPU

    turns, said = plan()
    assert turns == pytest.approx(alone * 4 / SHARING_GAIN["turns"][2])
    assert "at a time that take turns on a GPU, since NVIDIA's MPS does not run" in said
    (tmp_path / "control").touch()
    at_once, said = plan()
    assert at_once == pytest.approx(alone * 4 / SHARING_GAIN["MPS"][4])
    assert "take turns" not in said
    assert plan(runs_per_gpu=2)[0] == pytest.approx(alone * 2 / SHARING_GAIN["MPS"][2])


def test_a_timing_takes_longer_where_energy_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = pipeline(1, models=["convnet"], norms=["none", "batch"], learning_rate=1e-4)
    (study,) = made.studies.values()
    seconds = {}
    for meter in (None, object()):
        monkeypatch.setattr("normres.estimates.find_meter", lambda uuid, meter=meter: (meter, ""))
        seconds[meter is None] = Estimates(made).timing_seconds(study, 10, 2)
    energy = 10 * len(estimates.timed_configurations(study)) * estimates.ENERGY_SECONDS
    assert seconds[False] - seconds[True] == pytest.approx(energy)


def test_units_for_bfloat16_are_told_without_torch_as_with_it():
    there = has_bfloat16_units("cpu")
    assert reference("cpu") is (BFLOAT16_CPU if there else FLOAT32_CPU)


def test_redrawing_takes_no_longer_with_ten_thousand_runs(ten_thousand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = SimpleNamespace(verbose=False, printshellcmds=False)
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
    display.estimates = Estimates(ten_thousand)
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
    for last in ("wrote results/many/runs/convnet/none/seed0", "stopped by SIGINT"):
        Path("train.log").write_text(f"epoch 5\n{last}\n")
        failed = {"jobid": 1, "rule_name": "train", "rule_msg": "training it", "log": ["train.log"]}
        display._explain_failure(SimpleNamespace(**failed))
    assert said == [
        "Stopped: train; its result is kept, the next call takes it",
        "Stopped: train; its state is saved, the next call goes on",
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
