"""Timing: what is timed, what is measured, and what happens where it cannot be measured."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

import record_untimed
import time_training
from conftest import PROJECT
from normres import leases, measurement, timing
from normres.config import read_config
from normres.devices import choose_device
from normres.distinct import list_timed
from normres.errors import DeviceError, InputError
from normres.files import read_rows
from normres.grid import Study
from normres.measurement import Measurement
from normres.norm_timing import LAYOUTS
from normres.options import resolve
from normres.pipeline import Pipeline, canonical
from normres.timed import read_timed
from normres.timing import measure, timing_rows

SMALL = {"batch_size": 16, "train_images": 58}
STUDY = {
    "dataset": "digits",
    "models": ["convnet", "resnet"],
    "norms": ["none", "batch"],
    "seeds": [0, 1],
    "epochs": 2,
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few calls per repeat: what is tested are no speeds. No timing waits for another test's."""
    monkeypatch.setattr(leases, "lease_machine", lambda while_waiting: None)
    monkeypatch.setattr(leases, "lease_cpu", lambda while_waiting: None)
    monkeypatch.setattr(measurement, "LEAST_SECONDS", {})
    monkeypatch.setattr(measurement, "LEAST_LATENCY_SECONDS", 1e-9)
    monkeypatch.setattr(measurement, "LATENCY_BATCHES", (1, 128))


def study(**changes) -> Study:
    config = {"study": "s", "studies": {"s": {**STUDY, **changes}}}
    return Pipeline(read_config(config)).studies["s"]


def small(model="convnet", norm="none", **options):
    return resolve(model, norm, 0, 1, {**SMALL, **options})


# ---- What is timed ----


def test_what_changes_no_time_is_not_in_the_list():
    base = list_timed(study(), 10)
    assert len(base["timed"]) == 4
    for change in (
        {"seeds": [0, 1, 2]},
        {"epochs": 9},
        {"title": "Why?"},
        {"learning_rate": [1e-3, 1e-4], "weight_decay": 0.1, "beta1": 0.8},
        {"initialization": "he", "zero_init_residual": True},
        {
            "learning_rate_scaling": "sqrt",
            "initialization_seed": 3,
            "order_seed": [0, 1],
            "seeds": [0],
        },
        {"test_images": 50, "train_eval_images": 10},
        {"models": ["resnet", "convnet"]},
    ):
        assert canonical(list_timed(study(**change), 10)) == canonical(base), change


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 64},
        {"precision": "bfloat16"},
        {"compile": True},
        {"cpu_threads": 2},
        {"optimizer": "sgd"},
        {"depth": 1},
        {"affine": False},
        {"norms": ["none", "batch"], "statistics_images": 4},
        {"conv_bias": "false"},
        {"pooling": "mean"},
        {"normalize": "half"},
        {"train_images": 500},
        {"validation_images": 100},
        {"dataset": "svhn"},
        {"norms": ["none", "group"]},
    ],
)
def test_what_changes_times_is_in_the_list(change):
    assert canonical(list_timed(study(**change), 10)) != canonical(list_timed(study(), 10))


def test_a_list_gives_the_specifications_of_the_runs(tmp_path):
    """All options are those of the study's runs, but for the options that are not timed."""
    made = study(
        batch_size=[16, 32],
        groups=8,
        norms=["none", "group"],
        optimizer="sgd",
        overrides={"convnet": {"batch_size": 64}},
        learning_rate=0.1,
    )
    path = tmp_path / "timed.json"
    path.write_text(canonical(list_timed(made, 3)))
    listed = read_timed(path)
    assert listed["repeats"] == 3 and listed["axes"] == {"batch_size": [16, 32]}
    got = {
        (e["model"], e["norm"], *e["axes"].values()): e["specification"] for e in listed["timed"]
    }
    assert len(got) == 6
    for run in made.runs:
        found = got[run.model, run.norm, *run.axes.values()]
        other = {k for k, v in run.specification.items() if found.get(k) != v}
        untimed = {"seed", "initialization_seed", "order_seed", "epochs", "learning_rate"}
        assert other <= untimed and set(found) == set(run.specification)


def test_no_list_is_refused(tmp_path):
    path = tmp_path / "timed.json"
    path.write_text('{"timed": [{"model": "resnet"}]}')
    with pytest.raises(InputError, match=r"timed\.json: not a list of configurations"):
        read_timed(path)


# ---- What is measured ----


def test_a_measurement_calls_steps_and_predictions_of_its_sizes(digits_folder, monkeypatch):
    """58 images in batches of 16 leave 10; predictions are of 1 and 128 images, in evaluation."""
    made = Measurement(small(norm="batch"), str(digits_folder), "cpu", None)
    called, network = [], made.run.working.module
    step, predict = made.run.step, made._predict

    def recorded_step(positions):
        called.append(("step", len(positions), network.training, torch.is_grad_enabled()))
        return step(positions)

    def recorded_predict(batch):
        called.append(("predict", len(batch), network.training, torch.is_grad_enabled()))
        assert batch.dtype == torch.float32
        return predict(batch)

    recorded_step.eager = step.eager
    monkeypatch.setattr(made.run, "step", recorded_step)
    monkeypatch.setattr(made, "_predict", recorded_predict)
    made.warm_up()
    facts = made.prepare()
    assert facts["batch_sizes"] == {"step": 16, "last_step": 10, "latency_1": 1, "latency_128": 128}
    called.clear()
    made.calls = {"step": 3, "last_step": 2, "latency_1": 2, "latency_128": 1}
    made.meter = None  # of the energy: it would take steps of its own
    seconds = made.repeat()
    assert seconds.pop("step_joules") is None and seconds.pop("energy_source")
    assert set(seconds) == set(made.calls) and all(value > 0 for value in seconds.values())
    assert called == [
        *[("step", 16, True, True)] * 3,
        *[("step", 10, True, True)] * 2,
        *[("predict", 1, False, False)] * 2,
        ("predict", 128, False, False),
    ]


def test_calls_fill_the_least_time(digits_folder, monkeypatch):
    """What took ten times that long when it was called first is not called to find that out."""
    monkeypatch.setattr(measurement, "LEAST_SECONDS", {"step": 1.0, "last_step": 0.1})
    made = Measurement(small(), str(digits_folder), "cpu", None)
    called = []
    monkeypatch.setattr(made, "_seconds", lambda name, calls: called.append(name) or 0.3)
    made.warm_up()
    assert called == ["step", "last_step", "latency_1", "latency_128"]
    expected = {"step": 4, "last_step": 1, "latency_1": 1, "latency_128": 1}
    assert made.prepare()["calls_a_repeat"] == expected
    assert called[4:] == ["step", "last_step"]
    made.computation = dataclasses.replace(made.computation, compiled=True)  # in the first call
    assert made.prepare()["calls_a_repeat"] == expected
    assert called[6:] == ["step", "last_step", "latency_1", "latency_128"]


def test_positions_are_whole_random_orders(digits_folder):
    made = Measurement(small(), str(digits_folder), "cpu", None)
    drawn = torch.cat([next(made.positions["step"]) for _ in range(29)])  # 464 = 8 * 58
    counts = torch.bincount(drawn, minlength=58)
    assert (counts == 8).all()
    assert drawn[:58].tolist() != drawn[58:116].tolist()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells peak memory")
def test_peak_memory_holds_weights_gradients_and_moments(digits_folder):
    """VGG11 with Adam: 28 M parameters of 4 bytes, 4 times. In a process of its own, as it is
    measured: this one reuses memory of earlier tests."""
    (result,) = measure([small("vgg11")], digits_folder, "cpu", None, repeats=1, cores=1)
    assert 4 * 4 * 28e6 < result["facts"]["peak_memory_bytes"] < 1_400_000_000


def test_an_epoch_is_its_full_batches_and_the_last_one():
    facts = {
        "environment": {
            "device": "cpu",
            "device_name": "x",
            "precision": "float32",
            "compiled": False,
        },
        "train_images": 58,
        "batch_sizes": {"step": 16, "last_step": 10},
        "peak_memory_bytes": None,
    }
    repeats = [{"step": 2.0, "last_step": 1.5, "latency_1": 0.1}]
    repeats[0] |= {"step_joules": 32.0, "energy_source": "RAPL"}
    entry = {"model": "resnet", "norm": "none", "axes": {}, "specification": small("resnet")}
    (row,) = timing_rows({"depth": [1, 3]}, [entry], [{"facts": facts, "repeats": repeats}])
    assert row["epoch_seconds"] == 3 * 2 + 1.5
    assert row["images_per_second"] == 58 / 7.5
    assert (row["step_joules"], row["epoch_joules"]) == (32.0, 58 * 2.0)
    assert row["energy_source"] == "RAPL"
    assert row["latency_1_seconds"] == 0.1 and row["latency_128_seconds"] is None
    assert (row["batch_size"], row["depth"], row["repeat"]) == (16, None, 1)


# ---- In processes ----


def test_configurations_take_turns(digits_folder, tmp_path):
    """Rows of all repeats, in the list's order; a configuration that cannot train has a reason."""
    made = study(batch_size=16, train_images=34, models=["convnet"], norms=["none", "batch"])
    text = canonical(list_timed(made, 2))  # 33 = 2 * 16 + 1 leave no last batch for batch norm
    (tmp_path / "timed.json").write_text(text.replace('"train_images":34', '"train_images":33'))
    out, failures = tmp_path / "timing.csv", tmp_path / "failures.txt"
    options = ["--data", str(digits_folder), "--out", str(out), "--failures", str(failures)]
    time_training.main(["--timed", str(tmp_path / "timed.json"), *options, "--device", "cpu"])
    batch, *none = read_rows(out)
    assert (batch["norm"], batch["repeat"], batch["step_seconds"]) == ("batch", "", "")
    assert "33 training images" in batch["reason"]
    assert [(row["norm"], row["repeat"], row["reason"]) for row in none] == [
        ("none", "1", ""),
        ("none", "2", ""),
    ]
    for row in none:
        steps = 2 * float(row["step_seconds"]) + float(row["last_step_seconds"])
        assert float(row["epoch_seconds"]) == pytest.approx(steps)
        assert row["device"] == "cpu" and row["resolved_precision"] == "float32"
    assert not failures.exists()  # another try would be refused, too
    details = json.loads((tmp_path / "timing.json").read_text())
    assert [c["reason"] is None for c in details["configurations"]] == [False, True]
    assert details["configurations"][1]["environment"]["torch"] == torch.__version__
    assert details["configurations"][1]["calls_a_repeat"]["latency_128"] >= 1


def test_a_configuration_that_breaks_is_tried_again_alone_and_then_named(digits_folder):
    """As where memory is short for one: the others have their times, and it has a second chance."""
    hungry = small(train_images=58) | {"batch_size": "no number"}
    turns = []
    results = measure(
        [small(), hungry], digits_folder, "cpu", None, repeats=1, cores=2, after_turn=turns.append
    )
    assert len(turns) == 9  # warm-up, preparation and a repeat of both, and of the one again
    assert results[1]["again"] and not results[0]["again"]
    assert results[0]["reason"] is None and len(results[0]["repeats"]) == 1
    assert "TypeError" in results[1]["reason"] and results[1]["repeats"] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(digits_folder, monkeypatch):
    """It says nothing of the configurations, so that the next call tries again."""
    with pytest.raises(DeviceError, match="a GPU was promised"):
        measure([small()], digits_folder, "auto", 1, repeats=1, cores=1)
    with pytest.raises(InputError, match="device: cuda, but torch sees no CUDA device"):
        measure([small()], digits_folder, "cuda", 0, repeats=1, cores=1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(DeviceError, match="device: cuda, but torch sees no CUDA device"):
        choose_device("cuda", 0)


class Recorder:
    """In the place of Turns: notes who was asked for what, and that nobody computed beside it."""

    log, at_work, lock = [], [], threading.Lock()

    def __init__(self, context, arguments):
        specification, *_ = arguments
        self.name = f"{specification['model']}/{specification['norm']}/{specification['precision']}"
        self.failure = None

    def take(self, asked):
        self.at_work.append(self.name)
        time.sleep(0.002)
        beside = [name for name in self.at_work if name != self.name]
        self.at_work.remove(self.name)
        with self.lock:
            self.log.append((asked, self.name, beside))

    def end(self):
        pass

    def result(self):
        return {"reason": None}


def test_rounds_are_interleaved_and_one_configuration_computes_at_a_time(monkeypatch, tmp_path):
    """Eighteen in two groups; both precisions of a network and norm take turns with each other."""
    monkeypatch.setattr(timing, "Turns", Recorder)
    listed = [
        resolve(model, norm, 0, 1, {"precision": precision})
        for precision in ("float32", "bfloat16")
        for model in ("convnet", "vgg11", "resnet")
        for norm in ("none", "batch", "group")
    ]
    measure(listed, tmp_path, "cpu", None, repeats=4, cores=2)
    parts = [list(part) for _, part in itertools.groupby(Recorder.log, lambda entry: entry[0])]
    assert [part[0][0] for part in parts] == ["warm_up", "prepare", "repeat"] * 2
    groups = []
    for part in parts:
        names = [name for _, name, _ in part]
        size = len(set(names))
        rounds = [names[i : i + size] for i in range(0, len(names), size)]
        assert len(rounds) == (4 if part[0][0] == "repeat" else 1)
        assert all(set(one) == set(names) for one in rounds)
        assert len({tuple(one) for one in rounds}) == len(rounds)  # each in an order of its own
        if part[0][0] != "warm_up":
            assert not any(beside for *_, beside in part)
        if part[0][0] == "repeat":
            groups.append(set(names))
    assert [len(group) for group in groups] == [12, 6]
    for group in groups:
        assert {name.replace("float32", "bfloat16") for name in group} <= group


def test_more_values_of_axes_than_may_be_alive_are_several_groups():
    listed = [resolve("resnet", "batch", 0, 1, {"batch_size": size}) for size in range(2, 32)]
    assert [len(group) for group in timing.together(listed)] == [12, 12, 6]
    assert sorted(itertools.chain(*timing.together(listed))) == list(range(30))
    assert timing.together([]) == []


def test_processes_end_with_the_one_that_started_them(digits_folder, tmp_path):
    """In a temporary folder with a short name: sockets lie in it (unix(7): 107 bytes at most)."""
    command = [sys.executable, str(PROJECT / "workflow/scripts/time_training.py")]
    command += ["--data", str(digits_folder), "--out", str(tmp_path / "t.csv"), "--device", "cpu"]
    command += ["--model", "convnet", "--norm", "none", "batch", "--repeats", "100000"]
    with tempfile.TemporaryDirectory() as short:
        for number in (signal.SIGKILL, signal.SIGINT):
            process = subprocess.Popen(
                [*command, "--progress", str(tmp_path / "p.json")],
                env={**os.environ, "TMPDIR": short},
            )
            deadline = time.monotonic() + 100
            while not (tmp_path / "p.json").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            children = descendants(process.pid)
            assert len(children) >= 3  # the server, and a process a configuration
            process.send_signal(number)
            process.wait(20)
            while any(is_running(child) for child in children) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not [child for child in children if is_running(child)]
            (tmp_path / "p.json").unlink()
    assert not (tmp_path / "t.csv").exists()


def descendants(pid):
    found = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True).stdout
    parents = [tuple(map(int, line.split())) for line in found.splitlines()[1:]]
    below = {pid}
    for _ in range(5):
        below |= {child for child, parent in parents if parent in below}
    return below - {pid}


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- The commands ----


def test_by_hand(digits_folder, tmp_path):
    chosen = ["--model", "convnet", "--norm", "none", "group", "--groups", "8", "--batch_size", "9"]
    files = ["--data", str(digits_folder), "--out", str(tmp_path / "t.csv")]
    time_training.main([*files, *chosen, "--train_images", "27", "--repeats", "1"])
    assert [(row["norm"], row["batch_size"]) for row in read_rows(tmp_path / "t.csv")] == [
        ("none", "9"),
        ("group", "9"),
    ]
    with pytest.raises(InputError, match="--depth: applies to none of these"):
        time_training.main([*files, *chosen, "--depth", "2"])


def attempt_at(digits_folder, tmp_path):
    """The arguments of record_untimed that all timings share."""
    (tmp_path / "timed.json").write_text(canonical(list_timed(study(), 10)))
    (tmp_path / "log").write_text("error: a GPU was promised\n")
    options = {
        "--timed": tmp_path / "timed.json",
        "--log": tmp_path / "log",
        "--data": digits_folder,
        "--failures": tmp_path / "failures" / "time_training.txt",
        "--attempts": 3,
    }
    return [str(part) for pair in options.items() for part in pair]


def test_a_timing_that_fails_for_good_is_recorded(digits_folder, tmp_path):
    arguments = attempt_at(digits_folder, tmp_path)
    arguments += ["--out", str(tmp_path / "timing.csv")]
    arguments += ["--details", str(tmp_path / "timing.json")]
    assert record_untimed.main([*arguments, "--code", "69", "--attempt", "2"]) == 69
    assert not (tmp_path / "timing.csv").exists()
    assert record_untimed.main([*arguments, "--code", "69", "--attempt", "3"]) == 0
    written = read_rows(tmp_path / "timing.csv")
    assert [row["reason"] for row in written] == ["a GPU was promised"] * 4
    assert (tmp_path / "failures" / "time_training.txt").read_text().count("\n") == 1


def test_a_norm_timing_that_fails_for_good_is_recorded(digits_folder, tmp_path):
    out = tmp_path / "norm_cost.csv"
    arguments = [*attempt_at(digits_folder, tmp_path), "--out", str(out)]
    assert record_untimed.main([*arguments, "--code", "69", "--attempt", "2"]) == 69
    assert not out.exists()
    assert record_untimed.main([*arguments, "--code", "2", "--attempt", "1"]) == 0  # no use to try
    assert {row["reason"] for row in read_rows(out)} == {"a GPU was promised"}  # as the log says
    assert record_untimed.main([*arguments, "--code", "137", "--attempt", "3"]) == 0
    written = read_rows(out)
    assert {row["n"] for row in written} == {"0"} and len(written) == 6 * len(LAYOUTS)
    assert {row["reason"] for row in written} == {"killed by SIGKILL; was there enough memory?"}
