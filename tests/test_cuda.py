"""What only a GPU can show: graphs, compilation and resumption there."""

import copy
import dataclasses
import time

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from conftest import small_run, stop_at
from gradients import IMAGES, assert_close, gradients_of_a_step, plain_gradients
from normres.devices import choose_computation, choose_device
from normres.measurement import Measurement
from normres.norm_timing import FORWARD, TRAINING, Case, CaseTimer, measure_cases
from normres.training import TrainingRun

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(autouse=True)
def compile_anew():
    """What earlier tests compiled counts against the most that torch compiles in a process."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield


NETWORKS = [(m, n) for m in ("convnet", "vgg11", "resnet") for n in ("none", "batch", "group")]


def train(specification, images, device="cuda", dropout=True, **changes):
    computation = dataclasses.replace(choose_computation(specification, device), **changes)
    run = TrainingRun(specification, images, computation)
    for module in run.working.module.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    list(run.train())
    return run


def assert_same(a, b):
    weights = b.weights()
    assert all(torch.equal(value, weights[name]) for name, value in a.weights().items())
    assert [row["train_loss"] for row in a.history] == [row["train_loss"] for row in b.history]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model, norm", NETWORKS)
def test_graphs_give_the_bytes_of_single_kernels(digits, model, norm, precision):
    specification = small_run(model, norm, precision=precision, compile=False)
    assert_same(train(specification, digits), train(specification, digits, graphed=False))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "model, norm, options",
    [
        ("resnet", "batch", {"statistics_images": 8}),
        ("plainnet", "layer", {}),
        ("resnet", "instance", {}),
        ("convnet", "none", {"optimizer": "sgd", "momentum": 0.9}),
        ("convnet", "batch", {"optimizer": "adamw", "weight_decay": 0.01}),
    ],
)
def test_graphs_give_these_bytes_with_other_options_too(digits, model, norm, options, compiled):
    specification = small_run(model, norm, precision="bfloat16", compile=compiled, **options)
    run = train(specification, digits)
    assert run.computation.compiled == compiled
    assert_same(run, train(specification, digits, graphed=False))


@pytest.mark.parametrize("start", ["cpu", "cuda"])
def test_a_run_goes_on_on_another_device(digits, start):
    """Not to the same bytes, but to about the same loss."""
    specification = small_run("resnet", "batch", compile=False)
    stopped = TrainingRun(specification, digits, choose_computation(specification, start))
    stop_at(stopped, images=32)
    other = "cuda" if start == "cpu" else "cpu"
    again = TrainingRun(specification, digits, choose_computation(specification, other))
    again.load_state_dict(copy.deepcopy(stopped.state_dict()))
    list(again.train())
    expected = train(specification, digits, "cpu").history
    assert len(again.history) == len(expected)
    assert again.history[1]["train_loss"] == pytest.approx(expected[1]["train_loss"], rel=0.05)


def test_the_device_is_chosen_and_its_kernels_are_there():
    assert choose_device("auto", None) == choose_device("cuda", 1) == "cuda"
    assert choose_device("auto", 0) == "cpu"


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model, norm", NETWORKS)
def test_losses_are_those_of_the_cpu(digits, model, norm, precision, compiled):
    """Without dropout: other masks, as another device draws, change VGG11's loss by 3 to 4 %."""
    specification = small_run(
        model, norm, epochs=1, compile=compiled, optimizer="sgd", momentum=0.0, learning_rate=1e-7
    )
    expected = train({**specification, "compile": False}, digits, "cpu", dropout=False)
    run = train({**specification, "precision": precision}, digits, dropout=False)
    assert run.computation.compiled == compiled
    assert run.history[1]["train_loss"] == pytest.approx(
        expected.history[1]["train_loss"], rel=1e-3 if precision == "float32" else 3e-2
    )


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model, norm", NETWORKS)
def test_gradients_are_those_of_the_cpu(digits, model, norm, precision, compiled):
    specification = small_run(
        model, norm, precision=precision, compile=compiled, batch_size=IMAGES, normalize="half"
    )
    run = TrainingRun(specification, digits, choose_computation(specification, "cuda"))
    assert run.computation.compiled == compiled
    assert_close(gradients_of_a_step(run), plain_gradients(specification, digits), precision)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("model, norm", [("vgg11", "batch"), ("resnet", "group")])
def test_stopped_within_an_epoch(digits, model, norm, compiled):
    specification = small_run(model, norm, compile=compiled)
    whole = train(specification, digits)
    stopped = TrainingRun(specification, digits, whole.computation)
    stop_at(stopped, images=32)
    again = TrainingRun(specification, digits, whole.computation)
    again.load_state_dict(copy.deepcopy(stopped.state_dict()))
    list(again.train())
    assert_same(whole, again)


def test_peak_memory_grows_by_what_more_images_keep(digits_folder):
    """At least the outputs of the convolutions; cuDNN's workspaces may be larger than all else."""
    peaks = []
    for batch_size in (32, 512):
        specification = small_run("convnet", batch_size=batch_size, train_images=0)
        measured = Measurement(specification, str(digits_folder), "cuda", None)
        measured.warm_up()
        peaks.append(measured.peak_bytes)
    kept = 4 * (32 * 30**2 + 64 * 14**2 + 128 * 12**2)  # bytes per image
    assert peaks[1] - peaks[0] > (512 - 32) * kept


@pytest.mark.parametrize("compiled", [False, True])
def test_energy_is_that_of_steps_back_to_back(digits_folder, compiled):
    """The GPU's idle power at least, its limit at most, and about the same each time."""
    specification = small_run("resnet", batch_size=128, train_images=0, compile=compiled)
    measured = Measurement(specification, str(digits_folder), "cuda", None)
    measured.warm_up()
    facts = measured.prepare()
    if measured.meter is None:
        pytest.skip(facts["energy_source"])
    repeats = [measured.repeat() for _ in range(4)]
    watts = [repeat["step_joules"] / repeat["step"] for repeat in repeats]
    assert all(30 < power < 1500 for power in watts)
    assert max(watts) < 1.3 * min(watts)
    assert {repeat["energy_source"] for repeat in repeats} == {measured.meter.source}


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "instance"])
def test_norm_layers_are_timed_without_their_launches(norm):
    """Less than Python needs to start one: eight images of 8 x 8 pixels are nothing to a GPU."""
    options = (("groups", 8),) if norm == "group" else ()
    case = Case(norm, options, 8, 32, 8, "channels_last")
    computation = choose_computation(small_run("resnet", norm, precision="bfloat16"), "cuda")
    rows = measure_cases([case], computation, 3)
    assert [row.get("reason") for row in rows] == [None] * 3
    least = {kind: min(row[kind] for row in rows) for kind in (FORWARD, TRAINING)}
    assert 0 < least[FORWARD] < least[TRAINING] < 1e-3
    timer = CaseTimer(case, computation, torch.bfloat16)
    timer.prepare()
    launched = min(eager_seconds(timer.only_forward) for _ in range(5))
    assert least[FORWARD] < launched


def eager_seconds(call, calls=20):
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


@pytest.mark.parametrize("compute", [torch.matmul, conv2d])
def test_float32_is_not_tf32(compute):
    """Products by default are not, convolutions are: TF32 has 10 bits, an error of about 1e-3."""
    choose_computation(small_run(), "cuda")
    shape = (512, 512) if compute is torch.matmul else (64, 64, 8, 8)
    a, b = (torch.randn(shape, device="cuda") for _ in range(2))
    exact = compute(a.double(), b.double())
    error = compute(a, b).double() - exact
    assert float(error.abs().max() / exact.abs().max()) < 1e-5
