"""A step of training: the fast forms against the plain ones, bit for bit or to rounding."""

import contextlib
import copy
import dataclasses
import gc
import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

from conftest import small_run
from gradients import IMAGES, assert_close, gradients_of_a_step, plain_gradients
from normres.devices import Computation, choose_computation
from normres.layers import Classifier, FusableGroupNorm, PaddedConv2d, SmallMapConv2d
from normres.steps import GraphedStep
from normres.training import TrainingRun
from normres.working_copy import WorkingCopy

MODELS = ["convnet", "vgg11", "resnet", "plainnet"]
NORMS = ["none", "batch", "group"]
BATCHES = [slice(0, 6), slice(6, 12), slice(12, 16)]  # the last one is shorter


def begin(images, model, norm, **options):
    specification = small_run(model, norm, normalize="half", **options)
    run = TrainingRun(specification, images, choose_computation(specification, "cpu"))
    run.working.module.train()
    return run


def step_all(run):
    torch.manual_seed(0)  # dropout
    return [float(run.step(torch.arange(58)[batch])) for batch in BATCHES]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_copies_give_the_bytes_of_autocast(digits, monkeypatch, model, norm):
    """The reference casts every weight in every pass. Dense products are left out: they sum the
    gradient of a weight in the type of the weight."""
    monkeypatch.setattr(Computation, "dense_products", False)
    run, reference = (begin(digits, model, norm, precision="bfloat16") for _ in range(2))
    network = reference.network.train()
    torch.manual_seed(0)
    expected = []
    for batch in BATCHES:
        images, labels = reference.sets["train"].batch(torch.arange(58)[batch])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        loss = cross_entropy(logits, labels)
        reference.optimizer.zero_grad()
        loss.backward()
        reference.optimizer.step()
        expected.append(float(loss.detach()))
    assert step_all(run) == expected
    weights = run.weights()
    assert all(torch.equal(value, weights[name]) for name, value in reference.weights().items())


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-4), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_first_losses_are_those_of_plain_layers(digits, model, norm, precision, tolerance):
    """float32, contiguous, nn.Conv2d, SGD written out; small steps, since rounding grows in large
    ones (ResNet sums over pixels)."""
    options = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1e-7}
    run = begin(digits, model, norm, precision=precision, **options)
    plain = begin(digits, model, norm, **options)
    network = plain.network.to(memory_format=torch.contiguous_format).train()
    torch.manual_seed(0)
    expected = []
    for batch in BATCHES:
        images, labels = plain.sets["train"].batch(torch.arange(58)[batch])
        loss = cross_entropy(network(images.contiguous()), labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= options["learning_rate"] * gradient
        expected.append(float(loss.detach()))
    assert step_all(run) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_first_gradients_are_those_of_plain_layers(digits, model, norm, precision):
    if model == "plainnet" and precision == "bfloat16":
        pytest.skip("without skips every layer multiplies the rounding of the one before")
    run = begin(digits, model, norm, precision=precision, batch_size=IMAGES)
    plain = plain_gradients(run.specification, digits)
    assert_close(gradients_of_a_step(run), plain, precision)


def test_the_float32_weights_take_steps_too_small_for_bfloat16(digits):
    """A bfloat16 weight of 0.1 cannot move by less than 0.0002; hundreds of small steps can."""
    run = begin(digits, "convnet", "none", precision="bfloat16", learning_rate=1e-6)
    before = {name: value.clone() for name, value in run.weights().items()}
    step_all(run)
    moved = [not torch.equal(value, before[name]) for name, value in run.weights().items()]
    assert all(moved)
    rounded = dict(run.working.module.named_parameters())
    assert rounded["features.0.weight"].dtype == torch.bfloat16
    for name, value in run.network.named_parameters():
        assert torch.equal(rounded[name], value.to(rounded[name].dtype)), name


def test_what_is_shared_stays_shared(digits):
    """Norms, their running statistics and the classifier are float32 and exist once."""
    run = begin(digits, "resnet", "batch", precision="bfloat16")
    once, copied = dict(run.network.named_parameters()), dict(run.working.module.named_parameters())
    assert {name for name in once if once[name] is copied[name]} == {
        name for name in once if "norm" in name or "classifier" in name or "shortcut.1" in name
    }
    buffers = dict(run.working.module.named_buffers())
    assert all(value is buffers[name] for name, value in run.network.named_buffers())
    whole = begin(digits, "resnet", "batch")
    theirs = dict(whole.working.module.named_parameters())
    assert all(value is theirs[name] for name, value in whole.network.named_parameters())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_small_maps_are_convolved_as_others(side, bias):
    torch.manual_seed(0)
    small = SmallMapConv2d(5, 7, 3, padding=1, bias=bias).double()
    images = torch.randn(4, 5, side, side, dtype=torch.float64, requires_grad=True)
    expected = conv2d(images, small.weight, small.bias, padding=1)
    output = small(images)
    torch.testing.assert_close(output, expected)
    inputs = [images, *small.parameters()]
    pull = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(output, inputs, pull),
        torch.autograd.grad(expected, inputs, pull),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_small_maps_in_bfloat16_have_gradients_to_its_rounding():
    """Up to four products are added to a weight's gradient, each rounded to 8 bits."""
    torch.manual_seed(0)
    exact = nn.Conv2d(64, 64, 3, padding=1)
    images, pull = torch.randn(32, 64, 2, 2), torch.randn(32, 64, 2, 2)
    exact(images).backward(pull)
    rough = SmallMapConv2d(64, 64, 3, padding=1)
    rough.load_state_dict(exact.state_dict())
    rough.bfloat16()(images.bfloat16()).backward(pull.bfloat16())
    for ours, theirs in zip(rough.parameters(), exact.parameters(), strict=True):
        error = (ours.grad.float() - theirs.grad).norm() / theirs.grad.norm()
        assert 1e-5 < float(error) < 2**-7


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_state_of_another_layout_goes_on(digits, precision, optimizer):
    """As where a run moves from a GPU to a CPU; fused optimisers do not look at strides."""
    specification = small_run("convnet", "group", precision=precision, optimizer=optimizer)
    contiguous = choose_computation(specification, "cpu")
    other = dataclasses.replace(contiguous, memory_format=torch.channels_last)
    first = TrainingRun({**specification, "epochs": 1}, digits, other)
    list(first.train())
    ends = []
    for computation in (other, contiguous):
        run = TrainingRun(specification, digits, computation)
        run.load_state_dict(copy.deepcopy(first.state_dict()))
        moments = [m for s in run.optimizer.state.values() for m in s.values() if m.ndim == 4]
        assert len(moments) == (6 if optimizer == "adam" else 3)
        assert all(m.is_contiguous(memory_format=computation.memory_format) for m in moments)
        list(run.train())
        ends.append(run.history[2]["train_loss"])
    assert ends[0] == pytest.approx(ends[1], rel=5e-3 if precision == "float32" else 3e-2)


def test_weights_that_are_shared_frozen_or_unused_in_bfloat16():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight
            self.frozen, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.frozen(self.two(self.one(x)))

    network = Odd()
    working = WorkingCopy(network, "bfloat16")
    assert working.module.one.weight is working.module.two.weight
    with torch.autocast("cpu", torch.bfloat16):
        working.module(torch.randn(2, 4)).sum().backward()
    working.update_gradients()
    assert (
        network.one.weight.grad.abs().sum() > 0 and network.one.weight.grad.dtype == torch.float32
    )
    assert network.unused.weight.grad is None and network.frozen.weight.grad is None


@pytest.mark.parametrize(
    "other", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 4}, {"kernel_size": 1}]
)
def test_other_convolutions_stay_what_they_are(other):
    options = {"kernel_size": 3, "padding": 1} | other
    assert not SmallMapConv2d.fits(nn.Conv2d(4, 4, **options))
    assert SmallMapConv2d.fits(nn.Conv2d(4, 4, 3, padding=1))


class RecordedGraph:
    """A CUDA graph's part, played on the CPU: what is captured is run, and run again at replay."""

    def __init__(self):
        self.action = None

    def pool(self):
        return self

    def replay(self):
        self.action()


@pytest.fixture
def graphs_on_the_cpu(monkeypatch):
    """Let GraphedStep capture on the CPU, so that what it does around a capture can be tested."""
    captured = []

    @contextlib.contextmanager
    def graph(recorded, pool):
        captured.append(pool)
        assert not gc.isenabled()  # a graph of an earlier run must not be destroyed meanwhile
        yield

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    capture = GraphedStep._capture

    def record(self, positions):
        recorded, input_positions, loss = capture(self, positions)

        def replay():
            loss.copy_(self.eager(input_positions))

        recorded.action = replay
        return recorded, input_positions, loss

    monkeypatch.setattr(GraphedStep, "_capture", record)
    return captured


@pytest.mark.parametrize(
    "model, precision, optimizer",
    [
        *itertools.product(["convnet"], ["float32", "bfloat16"], ["adam", "adamw", "sgd"]),
        ("vgg11", "float32", "adam"),
    ],
)
def test_what_a_capture_changes_is_undone(digits, graphs_on_the_cpu, model, precision, optimizer):
    """Warm-ups for both batch sizes, the second in the midst of training; dropout, running
    statistics and the optimiser's moments come out as without them."""
    specification = small_run(model, "batch", precision=precision, optimizer=optimizer)
    eager = choose_computation(specification, "cpu")
    ends = []
    for graphed in (False, True):
        computation = dataclasses.replace(eager, graphed=graphed)
        run = TrainingRun(specification, digits, computation)
        list(run.train())
        ends.append((run.weights(), [row["train_loss"] for row in run.history]))
    assert len(graphs_on_the_cpu) == 2  # 16 and 10 images
    assert graphs_on_the_cpu[0] is None and graphs_on_the_cpu[1] is not None  # one pool of memory
    assert ends[0][1] == ends[1][1]
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())


def test_a_state_begun_without_graphs_goes_on_with_them(digits, graphs_on_the_cpu):
    specification = small_run("convnet", "batch", epochs=3, statistics_images=4)
    eager = choose_computation(specification, "cpu")
    whole = TrainingRun(specification, digits, eager)
    rows = list(whole.train())
    first = TrainingRun({**specification, "epochs": 1}, digits, eager)
    list(first.train())
    second = TrainingRun(specification, digits, dataclasses.replace(eager, graphed=True))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert [row["train_loss"] for row in second.train()] == [row["train_loss"] for row in rows[2:]]
    assert all(group["capturable"] for group in second.optimizer.param_groups)


@pytest.mark.parametrize("channels, groups", [(32, 32), (64, 32), (64, 1)])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_that_can_be_fused(monkeypatch, channels, groups, affine):
    norm = nn.GroupNorm(groups, channels, affine=affine).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    other = copy.deepcopy(norm)
    other.__class__ = FusableGroupNorm
    images = torch.randn(4, channels, 6, 6).to(memory_format=torch.channels_last)
    assert torch.equal(other.float()(images), norm.float()(images))  # not compiled: the library's
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_alike(other, norm, images, 1e-5)
    assert other(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride, bias", [(1, True), (2, False)])
def test_padded_channels_change_nothing(stride, bias):
    plain = nn.Conv2d(3, 16, 3, stride=stride, padding=1, bias=bias)
    padded = copy.deepcopy(plain)
    padded.__class__ = PaddedConv2d
    assert_alike(padded, plain, torch.randn(4, 3, 9, 9), 1e-5)


def test_summed_products_are_the_classifier():
    classifier = Classifier(128, 10)
    features = torch.randn(16, 128)
    torch.testing.assert_close(classifier.summed_products(features), classifier(features))


def test_what_is_computed_in_forms_for_compiled_code(digits):
    """Only a first layer has few channels; in float32 there is nothing to gain from padding."""
    for padded in (True, False):
        working = WorkingCopy(begin(digits, "resnet", "group").network, "bfloat16")
        working.use_compilable_forms(padded)
        kinds = [type(module) for module in working.module.modules()]
        assert kinds.count(PaddedConv2d) == padded
        assert kinds.count(FusableGroupNorm) == 20 and nn.GroupNorm not in kinds


def assert_alike(ours, theirs, images, tolerance):
    """Outputs and gradients of two modules."""
    gradients = []
    outputs = []
    for module in (ours, theirs):
        given = images.clone().requires_grad_()
        outputs.append(module(given))
        torch.manual_seed(1)
        outputs[-1].backward(torch.randn_like(outputs[-1]))
        gradients.append([given.grad, *(parameter.grad for parameter in module.parameters())])
    torch.testing.assert_close(outputs[0], outputs[1], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(gradients[0], gradients[1], atol=10 * tolerance, rtol=10 * tolerance)
