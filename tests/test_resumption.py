"""A run that was stopped or killed, at any instant, ends with the bytes of an uninterrupted one."""

import itertools
import os
import random
import shutil
import signal
import time

import pytest
import torch

import interrupted
from conftest import read_record
from interrupted import Runs, kill_at_random
from normres.devices import can_compile
from normres.errors import INTERRUPTED, STOPPED
from normres.interruption import STOP_SIGNALS
from normres.store import StoredRun

MODELS = ("convnet", "vgg11", "resnet")
NORMS = ("none", "batch", "group")
STEPS = 2  # an epoch


def folders(runs, name):
    """The one folder in the store of a run."""
    return next(path for path in (runs.folder / f"{name}-store").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def convnet(tmp_path_factory, digits_folder):
    """ConvNet with batch norm, which has buffers and a short last batch; trained once."""
    runs = Runs(tmp_path_factory.mktemp("convnet"), digits_folder, "convnet", "batch")
    runs.finish("whole")
    return runs


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("counts", [(1, 2), pytest.param((3, 3, 3), marks=pytest.mark.slow)])
def test_killed_at_random_instants(tmp_path, digits_folder, model, norm, counts):
    """27 kills over all networks and norms; 81 more in the slow version."""
    runs = Runs(tmp_path, digits_folder, model, norm)
    duration = runs.finish("whole")
    chance = random.Random(f"{model} {norm} {len(counts)}")
    for number, kills in enumerate(counts):
        kill_at_random(runs, f"cut{number}", duration, kills, chance)
        runs.assert_same("whole", f"cut{number}")
        assert read_record(tmp_path / f"cut{number}")["exact"] is True


@pytest.mark.parametrize(
    "patch, arguments",
    [
        (interrupted.signal_in_step, (1, signal.SIGKILL)),
        (interrupted.signal_in_step, (2 * STEPS, signal.SIGKILL)),  # a short last batch
        (interrupted.signal_in_evaluation, (1, signal.SIGKILL)),
        (interrupted.kill_in_write, ("state",)),
        (interrupted.kill_at_move, ("state.pt", False)),
        (interrupted.kill_at_move, ("state.pt", True)),
        (interrupted.kill_in_write, ("model",)),
        (interrupted.kill_at_move, ("run.json", False)),  # state written, outputs not
        (interrupted.kill_at_move, ("epochs-2", False)),
        (interrupted.kill_at_move, ("epochs-2", True)),
        (interrupted.kill_at_move, ("test_logits.npy", True)),
    ],
)
def test_killed_at_chosen_instants(convnet, request, patch, arguments):
    name = request.node.name
    attempt = convnet.start(name, patch, *arguments)
    assert attempt.end() == -signal.SIGKILL
    convnet.finish(name)
    convnet.assert_same("whole", name)
    leftovers = [path.name for path in (convnet.folder / name).iterdir()]
    assert len(leftovers) == 4, leftovers


@pytest.mark.parametrize("sent", STOP_SIGNALS)
@pytest.mark.parametrize("step, place", [(3, "16 of 26 images of epoch 2"), (4, "26 of 26")])
def test_a_signal_finishes_the_step_and_saves(convnet, request, sent, step, place):
    name = request.node.name
    attempt = convnet.start(name, interrupted.signal_in_step, step, sent)
    assert attempt.end() == (INTERRUPTED if sent == signal.SIGINT else STOPPED)
    assert f"saved {place}" in convnet.log(name)
    assert convnet.log(name).rstrip().endswith(f"stopped by {sent.name}")
    assert not (convnet.folder / name).exists()
    convnet.finish(name)
    assert f"goes on after {place}" in convnet.log(name)
    convnet.assert_same("whole", name)
    assert read_record(convnet.folder / name)["attempts"] == 2


def test_a_signal_during_evaluation(convnet):
    """The third evaluation is the one on the test images after epoch 1."""
    attempt = convnet.start("e", interrupted.signal_in_evaluation, 3, signal.SIGTERM)
    assert attempt.end() == STOPPED
    convnet.finish("e")
    assert "goes on after 26 of 26 images of epoch 1" in convnet.log("e")
    convnet.assert_same("whole", "e")


def test_a_signal_before_anything_is_trained(convnet):
    attempt = convnet.start("early", interrupted.signal_in_evaluation, 1, signal.SIGTERM)
    assert attempt.end() == STOPPED
    convnet.finish("early")
    assert convnet.log("early").count("starts afresh") == 2
    convnet.assert_same("whole", "early")


@pytest.mark.parametrize("seed", range(4))
def test_signals_at_random_instants(convnet, seed):
    chance, name = random.Random(seed), f"signals{seed}"
    for _ in range(2):
        attempt = convnet.start(name)
        time.sleep(chance.uniform(0, 2))
        attempt.send(signal.SIGTERM)
        assert attempt.end() in (0, STOPPED, -signal.SIGTERM, 128 + signal.SIGTERM)
    convnet.finish(name)
    convnet.assert_same("whole", name)


def test_training_time_is_that_of_all_attempts_and_nothing_else(convnet):
    attempt = convnet.start("timed", interrupted.signal_in_step, 2, signal.SIGTERM)
    assert attempt.end() == STOPPED
    key = folders(convnet, "timed").name
    progress = StoredRun(convnet.folder / "timed-store", key).load_state()["run"]["progress"]
    assert progress["images"] == 26 and 0 < progress["seconds"] < 60
    pause = 3.0
    time.sleep(pause)
    second = convnet.finish("timed")
    record = read_record(convnet.folder / "timed")
    trained = record["train_seconds"]
    assert progress["seconds"] < trained < progress["seconds"] + second


def test_one_training_a_run_at_a_time(convnet):
    """The second process waits for the first, and then has nothing to train."""
    first = convnet.start("both")
    while not (convnet.folder / "both-store").exists():
        time.sleep(0.01)
    second = convnet.start("both")
    assert (first.end(), second.end()) == (0, 0)
    log = convnet.log("both")
    assert "waiting: another process trains run" in log and "already trained" in log
    convnet.assert_same("whole", "both")
    assert read_record(convnet.folder / "both")["attempts"] == 1


# Damaged states ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(convnet):
    """A stored state, and its bytes."""
    run = StoredRun(convnet.folder / "whole-store", folders(convnet, "whole").name)
    return run, run.state_file.read_bytes()


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_a_flipped_bit_is_noticed_or_without_effect(stored, tmp_path, capsys):
    run, content = stored
    copy = StoredRun(tmp_path, run.key)
    copy.folder.mkdir()
    chance = random.Random(0)
    size = len(content)
    places = [chance.randrange(size) for _ in range(40)]
    places += [chance.randrange(3000) for _ in range(40)]  # the structure
    places += [size - 1 - chance.randrange(8000) for _ in range(40)]  # the archive's directory
    whole, refused = run.load_state(), 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        copy.state_file.write_bytes(damaged)
        state = copy.load_state()
        if state is None:
            refused += 1
            assert copy.state_file.with_suffix(".unreadable").read_bytes() == damaged
            assert not copy.state_file.exists()
        else:
            assert equal(state, whole), place
    assert refused > 60
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == refused
    assert all("not a state of this run" in line for line in lines)


def test_a_state_of_another_run_is_refused(convnet, stored, digits_folder):
    runs = Runs(convnet.folder, digits_folder, "convnet", "batch", seed=1)
    runs.finish("other")
    foreign = folders(runs, "other") / "state.pt"
    run, content = stored
    foreign.write_bytes(content)
    shutil.rmtree(foreign.parent / "epochs-2")
    runs.finish("other")
    assert f"of another run, {run.key}); kept as state.unreadable" in runs.log("other")
    runs.finish("again")
    runs.assert_same("again", "other")


def test_other_conditions_go_on_but_are_marked(convnet):
    attempt = convnet.start("moved", interrupted.signal_in_step, 3, signal.SIGTERM)
    assert attempt.end() == STOPPED
    folder = folders(convnet, "moved")
    run = StoredRun(folder.parent, folder.name)
    state = run.load_state()
    state["environments"][0]["cpu_capability"] = "SSE2"  # torch names no machine so
    del state["key"]
    run.save_state(state)
    convnet.finish("moved")
    assert "not an exact continuation: cpu_capability was SSE2, is " in convnet.log("moved")
    assert read_record(convnet.folder / "moved")["exact"] is False


def test_logits_that_were_made_under_other_conditions_are_marked(convnet):
    """Nothing was left to train, but the files of the run were lost."""
    convnet.finish("lost")
    folder = folders(convnet, "lost")
    run = StoredRun(folder.parent, folder.name)
    state = run.load_state()
    state["environments"][0]["cpu_capability"] = "SSE2"
    del state["key"]
    run.save_state(state)
    shutil.rmtree(folder / "epochs-2")
    convnet.finish("lost")
    record = read_record(convnet.folder / "lost")
    assert record["environment"]["cpu_capability"] == "SSE2" and record["attempts"] == 1
    assert record["exact"] is False


# Compiled ---------------------------------------------------------------------------------------

needs_compiler = pytest.mark.skipif(not can_compile("cpu"), reason="no C++ compiler")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, digits_folder):
    """A compiled ConvNet, trained once with a compiler cache of its own."""
    folder = tmp_path_factory.mktemp("compiled")
    runs = Runs(folder, digits_folder, "convnet", "batch", compile=True)
    attempt = runs.start("whole", interrupted.use_compiler_cache, folder / "own-cache")
    assert attempt.end() == 0, runs.log("whole")
    assert read_record(folder / "whole")["environment"]["compiled"] is True
    return runs


def entries(folder):
    """All files and folders below a folder in which others work: some vanish meanwhile."""
    return {(place, name) for place, *names in os.walk(folder) for name in itertools.chain(*names)}


@needs_compiler
def test_compiled_and_killed(compiled):
    """Kills while it compiles leave a cut cache behind, which may only cost time."""
    runs = compiled
    cache, chance = runs.folder / "cut-cache", random.Random(0)
    for _ in range(3):
        before, more = entries(cache), chance.randint(1, 8)
        attempt = runs.start("cut", interrupted.use_compiler_cache, cache)
        while len(entries(cache) - before) < more and attempt.process.is_alive():
            time.sleep(0.01)
        attempt.send(signal.SIGKILL)
        assert attempt.end() == -signal.SIGKILL, runs.log("cut")
    assert runs.start("cut", interrupted.use_compiler_cache, cache).end() == 0, runs.log("cut")
    runs.assert_same("whole", "cut")


@needs_compiler
def test_compiled_and_stopped_within_an_epoch(compiled):
    """What was compiled first, for which sizes, differs after a resumption; the bytes do not."""
    runs = compiled
    cache = runs.folder / "own-cache"
    attempt = runs.start("stopped", stop_compiled, cache, 3, signal.SIGTERM)
    assert attempt.end() == STOPPED, runs.log("stopped")
    assert runs.start("stopped", interrupted.use_compiler_cache, cache).end() == 0
    assert "goes on after 16 of 26 images of epoch 2" in runs.log("stopped")
    runs.assert_same("whole", "stopped")


def stop_compiled(cache, step, sent):
    interrupted.use_compiler_cache(cache)
    interrupted.signal_in_step(step, sent)


@needs_compiler
def test_two_compile_into_one_cache(compiled):
    runs = compiled
    cache = runs.folder / "shared-cache"
    names = ("one", "two")
    attempts = [runs.start(name, interrupted.use_compiler_cache, cache) for name in names]
    assert [attempt.end() for attempt in attempts] == [0, 0]
    for name in names:
        runs.assert_same("whole", name)
