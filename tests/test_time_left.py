"""How long it is said to take: estimates of runs and timings, and what is left as they go on."""

import json
import random
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from normres import estimates
from normres.config import read_config
from normres.devices import has_bfloat16_units
from normres.estimates import (
    BFLOAT16_CPU,
    FLOAT32_CPU,
    GPU,
    JOB_SECONDS,
    SHARING_GAIN,
    Estimates,
    reference,
)
from normres.pipeline import Pipeline
from normres.progress import Display
from normres.time_left import BELIEVED_SECONDS, TimeLeft, record_of
from pipelines import pipeline, workflow
from project_copy import LARGE_GRID

RESNET = {"models": ["resnet"], "norms": ["none"], "batch_size": 32, "learning_rate": 1e-4}


def time_left(made, to_train=None, **settings):
    to_train = made.runs if to_train is None else to_train
    return TimeLeft(workflow(**settings), made, to_train, [], made.run_mb)


@pytest.mark.parametrize("gpus, places", [(0, 8), (4, 4)])
def test_the_time_left_follows_the_runs_in_training(tmp_path, monkeypatch, gpus, places):
    """Four runs are half-way after what the whole run should take; so the others take twice it."""
    monkeypatch.chdir(tmp_path)
    many = pipeline(80, models=["convnet"], norms=["none"], batch_size=32, learning_rate=1e-4)
    left = time_left(many, gpus=gpus)
    ((each, _),) = left.count
    assert left.seconds(80) == pytest.approx(80 * each.seconds / places)
    start = left.estimates.reference.start
    trains = each.whole
    state = {"seconds_left": trains, "fraction": 0.5}
    found = left.seconds(80, [(*run, state) for run in list(many.runs)[:4]])
    assert found == pytest.approx((76 * (start + 2 * trains) + 4 * trains) / places, rel=0.2)


def test_a_run_as_estimated_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    many = pipeline(80, models=["convnet"], norms=["none"], batch_size=32, learning_rate=1e-4)
    left = time_left(many, gpus=4)
    ((each, _),) = left.count
    half = each.whole / 2
    states = [(*run, {"seconds_left": half, "fraction": 0.5}) for run in list(many.runs)[:4]]
    assert left.seconds(80, states) == pytest.approx((76 * each.seconds + 4 * half) / 4)


def test_a_linked_run_is_no_new_evidence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = pipeline(2, **RESNET)
    prepare_digits()
    first, second = made.runs
    record = Path("results/store/key/epochs-30/run.json")
    record.parent.mkdir(parents=True)
    write_record(made, *first, 100, path=record)
    left = time_left(made)
    assert not left.estimates.learn(record)
    write_record(made, *second, 300)
    assert left.estimates.learn(record_of(*second))
    assert not left.estimates.learn(record_of(*second))
    assert not left.estimates.learn(Path("nowhere"))
    left._estimate()
    ((each, _),) = left.count
    assert each.seconds == pytest.approx(200 + left.estimates.reference.start)


def test_a_run_that_two_studies_have_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    twin = {"studies": {name: {**LARGE_GRID, "seeds": [0]} for name in ("many", "twin")}}
    made = Pipeline(read_config({"study": "many,twin", **twin}))
    left = time_left(made)
    assert left.linked == len(made.runs) / 2 == 100
    alone = time_left(pipeline(1))
    assert alone.linked == 0
    assert left.seconds(200) < alone.seconds(100) + 101  # at a second each


def test_the_plan_says_why_no_gpu_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("normres.progress.gpu_trouble", lambda: "the driver is too old")
    display = Display(workflow(cores=2), pipeline(1, **RESNET))
    display.to_train = set(display.pipeline.runs)
    display.estimate()
    assert "driver" not in display.describe_plan()  # --resources gpu=0: nobody looked
    display.pipeline.gpus_looked_for = True
    expected = "on 2 cores, since the driver is too old ("
    assert expected in display.describe_plan()


def test_the_first_seconds_of_a_run_say_little(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = pipeline(1, **RESNET)
    (run,) = made.runs
    left = time_left(made)
    before = left.seconds(1)
    state = {"seconds_left": 20 * before * 0.9999, "fraction": 0.0001}
    assert left.seconds(1, [(*run, state)]) < 2 * before
    state = {"seconds_left": 20 * before * 0.5, "fraction": 0.5}
    assert left.seconds(1, [(*run, state)]) == pytest.approx(10 * before, rel=0.1)


def test_the_last_run_is_waited_for_however_many_cores_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = pipeline(1, models=["convnet", "resnet"], norms=["none"], learning_rate=1e-4)
    left = time_left(made, cores=64)
    deep, small = ("many", "resnet/none/seed0"), ("many", "convnet/none/seed0")
    alone = left.estimates.seconds(deep[0], made.runs[deep])
    assert left.seconds(2) == pytest.approx(alone)
    half = (alone - left.estimates.reference.start) / 2
    state = {"seconds_left": half, "fraction": 0.5}
    assert left.seconds(2, [(*deep, state)]) == pytest.approx(half)
    left.end_run(deep)
    assert left.seconds(1) < alone / 2 and left.to_train == {small}
    assert left.believed == BELIEVED_SECONDS  # it has no record, as one that failed


def write_record(made, study, run, seconds, checksum="sha256:a", path=None):
    """What a run writes that has taken `seconds`."""
    specification = made.runs[study, run].specification
    final = {"epoch": specification["epochs"], "train_seconds": 0.8 * seconds}
    record = {
        "environment": {"device": "cpu"},
        "final": final | {"eval_seconds": 0.2 * seconds},
        "data": {"checksum": checksum},
        "specification": specification,
    }
    record["checksum"] = f"{specification} {run} {seconds} {checksum}"
    path = path or record_of(study, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def prepare_digits():
    Path("results/data/digits").mkdir(parents=True)
    description = {"n_train": 1297, "n_test": 500, "shape": [32, 32, 3], "checksum": "sha256:a"}
    Path("results/data/digits/dataset.json").write_text(json.dumps(description))


def test_runs_that_have_ended_tell_how_long_the_others_take(tmp_path, monkeypatch):
    """The same configuration takes as long; another one of the network is as much off."""
    monkeypatch.chdir(tmp_path)
    made = pipeline(2, models=["vgg11"], norms=["none", "batch"], learning_rate=1e-4)
    left = time_left(made)  # before the data is prepared, as at a first call
    prepare_digits()
    ended, alike = ("many", "vgg11/none/seed0"), ("many", "vgg11/none/seed1")
    start = left.estimates.reference.start
    guess = left.estimates.seconds("many", made.runs[ended]) - start
    write_record(made, *ended, 3 * guess)
    left.end_run(ended)
    assert left.seconds(3) == pytest.approx(3 * guess + start)
    ((each, places),) = left.count
    assert (each.seconds, places) == (pytest.approx(3 * guess + start), 1)
    write_record(made, *alike, guess)
    left.end_run(alike)
    left.seconds(2)
    ((each, _),) = left.count  # of the norm that was not tried
    assert each.seconds == pytest.approx(2 * guess + start)


# Of the reference's seconds: what quickstart's runs took on two cores of an AMD EPYC with AVX2.
TOOK = {
    "convnet": {"none": 0.8, "batch": 0.8, "group": 2.8},
    "vgg11": {"none": 1.6, "batch": 1.0, "group": 1.8},
    "resnet": {"none": 0.55, "batch": 1.3, "group": 0.9},
}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_to_be_left_comes_true(tmp_path, monkeypatch, seed):
    """A study in a random order on two cores; each run takes up to 10 % more or less."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("normres.estimates.reference", lambda device: FLOAT32_CPU)
    made = pipeline(3, models=list(TOOK), norms=list(TOOK["resnet"]), learning_rate=1e-4)
    prepare_digits()
    left = time_left(made, cores=2)
    chance = random.Random(seed)
    queue, takes = list(made.runs), {}
    chance.shuffle(queue)
    for (study, name), run in made.runs.items():
        factor = TOOK[run.model][run.norm] * chance.uniform(0.9, 1.1)
        takes[study, name] = factor * left.estimates.seconds(study, run)
    training, now, said, start = {}, 0.0, [], left.estimates.reference.start
    while queue or training:
        while queue and len(training) < 2:
            training[queue.pop(0)] = now
        ends = {key: began + takes[key] for key, began in training.items()}
        while now < min(ends.values()):
            states = []
            for key, began in training.items():
                trained = now - began - start  # what a run says of itself
                if trained < 0:
                    continue
                fraction = trained / (takes[key] - start)
                seconds = ends[key] - now if fraction else None
                states.append((*key, {"fraction": fraction, "seconds_left": seconds}))
            said.append((now, left.seconds(len(queue) + len(training), states)))
            now += 30
        now = min(ends.values())
        first = min(ends, key=ends.get)
        del training[first]
        write_record(made, *first, takes[first] - start)
        left.end_run(first)
    wrong = [(at / now, (at + seconds) / now - 1) for at, seconds in said]
    assert len(said) > 30
    assert all(abs(error) < 0.5 for _, error in wrong)
    assert all(abs(error) < 0.2 for at, error in wrong if at > 0.25)
    assert all(abs(error) < 0.1 for at, error in wrong if at > 0.5)


def test_the_time_left_counts_timings_tables_and_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    display = Display(workflow(cores=2), pipeline(1, models=["convnet"], norms=["none"]))
    timing = ("time_training", "many")
    display.to_time, display.total = {timing}, 21
    display.estimate()
    shown = []
    monkeypatch.setattr("normres.progress.duration", shown.append)
    display._left([])
    estimated = display.time_left.to_time[timing]
    assert estimated > 5 and shown == [pytest.approx(estimated + 20 * JOB_SECONDS / 2)]

    def job(rule):
        return SimpleNamespace(rule_name=rule, rule_msg=rule, wildcards={"study": "many"})

    display.jobs = {1: job("time_training"), 2: job("plot_figure")}
    display.job_started = {1: time.monotonic(), 2: time.monotonic() - 8}
    Path("results/many/logs").mkdir(parents=True)
    Path("results/many/logs/time_training.progress.json").write_text('{"seconds_left": 3}')
    display._left([])
    assert shown[1] == pytest.approx(3 + 20 * JOB_SECONDS / 2)
    Path("results/many/logs/time_training.progress.json").write_text('{"seconds_left": null}')
    display._left([])
    assert shown.pop() == shown[0]  # before it can tell, what was estimated
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
    said = []
    for cores in (1, 64):
        display = Display(workflow(cores=cores), pipeline(1, **RESNET))
        display.to_train = set(display.pipeline.runs)
        display.estimate()
        said += [re.search(r"about (.*?) on", display.describe_plan())[1]]
    assert said[0] == said[1]


def test_only_runs_that_cost_the_same_tell_how_long_one_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_digits()

    def trained(made):
        (run,) = made.runs.values()
        estimates = Estimates(made)
        return estimates.seconds("many", run) - estimates.reference.start

    def write_stored(made, key, seconds, checksum="sha256:a"):
        record = Path(f"results/store/{key}/epochs-30/run.json")
        record.parent.mkdir(parents=True)
        write_record(made, *next(iter(made.runs)), seconds, checksum, record)

    like = pipeline(1, **RESNET)
    guess = trained(like)
    write_stored(like, "elsewhere", 10, "sha256:b")
    assert trained(like) == guess
    write_stored(like, "like", 2 * guess)
    assert Estimates(like).source == "from earlier runs here"
    assert trained(like) == pytest.approx(2 * guess)
    for change in ({"depth": 18}, {"batch_size": 64}, {"precision": "bfloat16"}):
        other = pipeline(1, **RESNET | change)
        write_stored(other, str(change), 50)
        assert trained(other) == pytest.approx(50)
    assert trained(like) == pytest.approx(2 * guess)


def test_larger_images_and_deeper_networks_take_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def trained(**changes):
        made = pipeline(1, **RESNET | changes)
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
        display.estimate()
        estimates = display.time_left.estimates
        seconds = estimates.seconds("many", run) - estimates.reference.start
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
