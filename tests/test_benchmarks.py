"""The benchmarks of training: what they refuse, and which of their processes have huge pages."""

import csv
import os
import signal
from argparse import Namespace

import numpy as np
import pytest
import torch

import concurrent_runs
import equivalence
import layer_bounds
import speed_tables
import training_speed
from conftest import small_run
from layer_bounds import bounds
from normres.batches import ImageSet
from normres.devices import choose_computation
from normres.errors import InputError
from normres.images import open_images
from normres.preparation import ImageSource, write_images
from plain_loop import PlainLoop
from preparing import random_images


@pytest.mark.parametrize(
    ("script", "given", "allowed"),
    [
        (training_speed, "--models resnett", "resnet"),
        (training_speed, "--norms bach", "batch"),
        (training_speed, "--precisions auto", "bfloat16"),
        (training_speed, "--workers -1", "from 0 on"),
        (training_speed, "--threads 0", "from 1 on"),
        (training_speed, "--repeats 2.5", "from 1 on"),
        (training_speed, "--seconds nan", "above 0"),
        (concurrent_runs, "--models resnett", "resnet"),
        (concurrent_runs, "--repeats 0", "from 1 on"),
        (concurrent_runs, "--seconds 0", "above 0"),
        (equivalence, "--norms bach", "batch"),
        (equivalence, "--epochs 0", "from 1 on"),
        (equivalence, "--learning-rate -1", "above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(script, given, allowed, capsys):
    with pytest.raises(SystemExit) as end:
        script.parse(given.split())
    assert end.value.code == 2
    option, value = given.split()
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: " in line
    assert repr(value) in line and allowed in line


@pytest.mark.parametrize("script", [training_speed, concurrent_runs, equivalence])
def test_defaults_are_allowed(script):
    arguments = script.parse([])
    assert script.parse(["--models", *arguments.models, "--norms", *arguments.norms]) == arguments


def test_processes_apart_have_huge_pages_and_this_one_stays_as_it_is(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert speed_tables.apart(os.getenv, "GLIBC_TUNABLES") == speed_tables.HUGE_PAGES
    assert "GLIBC_TUNABLES" not in os.environ
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert speed_tables.apart(os.getenv, "GLIBC_TUNABLES") == "glibc.malloc.check=0"
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=0"


@pytest.fixture
def called_apart(monkeypatch):
    """What was called in a process of its own; here it is not called at all."""
    called = []

    def apart(function, *arguments):
        called.append(function)
        return {"channels_last": [1.0]} if function is training_speed.compare_choices else [(1, 1)]

    monkeypatch.setattr(training_speed, "apart", apart)
    return called


def test_choices_are_measured_with_huge_pages(called_apart, capsys):
    training_speed.main(["--choices", "--device", "cpu", "--models", "vgg11", "--norms", "batch"])
    assert called_apart == [training_speed.compare_choices] * 2
    assert "bfloat16 vgg11 batch | channels_last 1 images/s" in capsys.readouterr().out


class Ready:
    """A stand-in for a Worker, ready at once."""

    def __init__(self, *arguments):
        pass

    def wait(self):
        return {"cpu_threads": 1, "instruction_sets": []}

    def turn(self):
        return 1.0

    def end(self):
        pass


def test_the_bound_is_measured_with_huge_pages(called_apart, monkeypatch, tmp_path):
    monkeypatch.setattr(training_speed, "Worker", Ready)
    options = Namespace(free_kernels=False, repeats=1, threads=1, workers=0)
    training_speed.measure([("float32", "resnet", "none")], tmp_path, "cpu", options)
    assert called_apart == [bounds]


def write_data(folder, shape, n_train):
    """Prepared data of 3 classes: `n_train` images to train on and 6 to test on."""
    labels = np.arange(n_train + 6) % 3
    source = ImageSource(
        name="noise",
        source="made up",
        class_names=["a", "b", "c"],
        labels=labels,
        n_train=n_train,
        shape=shape,
        blocks=[random_images(len(labels), *shape)],
    )
    write_images(folder, source)
    return folder


@pytest.mark.parametrize("shape", [(28, 28, 1), (10, 10, 3)])
def test_the_bound_is_that_of_the_layers_on_the_given_images(monkeypatch, tmp_path, shape):
    monkeypatch.setattr(layer_bounds, "layer_seconds", lambda *arguments: 1.0)
    monkeypatch.setattr(layer_bounds, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(layer_bounds, "free_kernels", lambda: None)
    data, known = write_data(tmp_path, shape, 9), {}
    layer_bounds.bound(("float32", "convnet", "none"), data, "cpu", 1, known)
    first, *_, last = known
    height, width, channels = shape
    assert first[1] == (speed_tables.BATCH, channels, height, width)
    assert "out_features=3" in last[0]


@pytest.mark.parametrize("script", [training_speed, concurrent_runs])
def test_fewer_images_than_a_step_takes_are_refused_at_once(script, tmp_path):
    write_data(tmp_path, (10, 10, 3), speed_tables.BATCH - 1)
    with pytest.raises(InputError, match=f"{tmp_path}: 127 training images; 128 or more make"):
        script.main(["--device", "cpu", "--data", str(tmp_path)])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_plain_loop_sees_what_ours_sees_grey_or_not(tmp_path, channels):
    images = open_images(write_data(tmp_path, (10, 10, channels), 9))
    specification = small_run("convnet", batch_size=4, normalize="half")
    loop = PlainLoop(specification, images, "cpu")
    everything = ImageSet(images, range(15), "half", choose_computation(specification, "cpu"))
    expected, labels = everything.batch(torch.arange(15))
    seen, named = zip(*map(loop.loader.dataset.__getitem__, range(15)), strict=True)
    torch.testing.assert_close(torch.stack(seen), expected)
    assert list(named) == labels.tolist()
    assert np.isfinite(loop.train(3))
    with torch.no_grad():
        predicted = loop.network.eval()(expected[9:]).argmax(1)
    assert loop.accuracy() == (predicted == labels[9:]).double().mean()


def test_a_process_that_ends_early_is_named_and_can_be_ended(tmp_path):
    worker = training_speed.Worker("plain", None, tmp_path, "cpu", None)
    os.kill(worker.process.pid, signal.SIGKILL)
    for action in (worker.wait, worker.turn):
        with pytest.raises(ChildProcessError, match="'plain' ended early, with exit code -9"):
            action()
    worker.end()


@pytest.mark.slow
def test_the_benchmark_of_training(tmp_path, capsys):
    cell = "--models convnet --norms none --precisions float32 --device cpu --threads 1"
    assert not training_speed.main(f"{cell} --repeats 1 --seconds 0.1 --out {tmp_path}".split())
    (path,) = tmp_path.glob("training_speed-*-1threads-float32-torch*.csv")
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert list(row) == list(training_speed.COLUMNS)
    assert float(row["images_per_second"]) > 0
    assert 0.1 < float(row["share_of_bound"]) < 10
    assert "of the bound" in capsys.readouterr().out
