"""The training loop against an independent plain one, and what a seed fixes."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import functional as transforms

from conftest import small_run, stop_at
from normres import catalog
from normres.devices import can_compile, choose_computation, choose_device
from normres.errors import InputError
from normres.evaluation import batch_size as evaluation_batch
from normres.evaluation import evaluate
from normres.history import COLUMNS, GRADIENT_NORMS
from normres.images import split
from normres.models import build_network, initialize
from normres.seeding import derive, generator
from normres.training import TrainingRun

MODELS = ["convnet", "vgg11", "resnet", "plainnet"]
NORMS = ["none", "batch", "group", "layer", "instance"]


def train(specification, images):
    run = TrainingRun(specification, images, choose_computation(specification, "cpu"))
    list(run.train())
    return run


def plain_optimizer(network, specification):
    """PyTorch's, a parameter after another, with all that the specification says of it."""
    kind, options = {
        "sgd": (torch.optim.SGD, ["momentum"]),
        "adam": (torch.optim.Adam, ["beta1", "beta2", "epsilon"]),
        "adamw": (torch.optim.AdamW, ["beta1", "beta2", "epsilon"]),
    }[specification["optimizer"]]
    momentum, *rest = (specification[option] for option in options)
    own = {"betas": (momentum, rest[0]), "eps": rest[1]} if rest else {"momentum": momentum}
    common = {"lr": specification["learning_rate"], "weight_decay": specification["weight_decay"]}
    return kind(network.parameters(), **common, **own, foreach=False, fused=False)


def plain_losses(specification, images, epochs=1):
    """The losses of a plain loop over torchvision's transforms, and its weights."""
    torch.set_num_threads(1)
    network = build_network(specification, 3, 32, 10)
    initialize(network, specification["seed"], specification["initialization"])
    optimizer = plain_optimizer(network, specification)
    chosen = split(images, train_images=specification["train_images"]).train
    network.train()
    losses = []
    for epoch in range(1, epochs + 1):
        order = torch.randperm(
            len(chosen), generator=generator(specification["seed"], "order", epoch)
        )
        torch.manual_seed(derive(specification["seed"], "dropout", epoch))
        for positions in order.split(specification["batch_size"]):
            tensors = [transforms.to_tensor(np.array(images.images[chosen[i]])) for i in positions]
            batch = transforms.normalize(torch.stack(tensors), [0.5] * 3, [0.5] * 3)
            labels = torch.tensor([images.labels[chosen[i]] for i in positions])
            loss = nn.functional.nll_loss(network(batch).log_softmax(1), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append((loss.item(), len(positions)))
    return losses, network.state_dict()


def assert_epoch_is_that_of_a_plain_loop(specification, images, tolerance):
    history = train(specification, images).history
    losses, _ = plain_losses(specification, images)
    assert [size for _, size in losses] == [16, 16, 16, 10]
    mean = sum(loss * size for loss, size in losses) / 58
    assert history[1]["train_loss"] == pytest.approx(mean, rel=tolerance)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("norm", NORMS)
def test_an_epoch_is_that_of_a_plain_loop(digits, model, norm):
    """At a small learning rate: sums over pixels make ResNet's first logits so large that rounding
    (its layout in memory differs from the plain loop's) grows from step to step."""
    specification = small_run(
        model, norm, epochs=1, normalize="half", optimizer="sgd", momentum=0.0, learning_rate=1e-6
    )
    assert_epoch_is_that_of_a_plain_loop(specification, digits, tolerance=3e-4)


@pytest.mark.parametrize("model", ["convnet", "resnet"])
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_an_epoch_with_adam_is_that_of_a_plain_loop(digits, model, norm):
    """Adam's first step is the gradient's sign, which rounding turns where a gradient is near 0."""
    specification = small_run(model, norm, epochs=1, normalize="half", learning_rate=1e-4)
    assert_epoch_is_that_of_a_plain_loop(specification, digits, tolerance=5e-3)


# Far from the defaults, so that each shows; Adam's epsilon keeps rounding from turning a step.
ADAM = {"learning_rate": 1e-3, "beta1": 0.7, "beta2": 0.9, "epsilon": 1e-2, "weight_decay": 0.1}
SGD = {"optimizer": "sgd", "learning_rate": 0.01}


@pytest.mark.parametrize(
    "options, tolerance",
    [
        ({**SGD, "momentum": 0.0}, 1e-3),
        ({**SGD, "momentum": 0.7, "weight_decay": 0.1}, 1e-3),
        ({**ADAM, "optimizer": "adam"}, 5e-3),
        ({**ADAM, "optimizer": "adamw"}, 5e-3),
    ],
    ids=["sgd", "momentum", "adam", "adamw"],
)
def test_two_epochs_end_at_the_weights_of_a_plain_loop(digits, options, tolerance):
    """Two epochs in two orders, and no gradient left over from one step to the next."""
    specification = small_run("convnet", "none", epochs=2, normalize="half", **options)
    _, expected = plain_losses(specification, digits, epochs=2)
    start = build_network(specification, 3, 32, 10)
    initialize(start, specification["seed"], "default")
    for name, value in train(specification, digits).weights().items():
        moved = (expected[name] - start.state_dict()[name]).norm()
        assert (value - expected[name]).norm() < tolerance * moved, name


def test_losses_are_sums_over_images_not_means_of_batch_means(digits, monkeypatch):
    monkeypatch.setattr("normres.evaluation.TEST_BATCH", 16)  # 30 images: 16 and 14
    specification = small_run("convnet", "none")
    run = TrainingRun(specification, digits, choose_computation(specification, "cpu"))
    images = run.sets["test"]
    result = evaluate(run.network, images, run.computation)
    batch, labels = images.batch(torch.arange(len(images)))
    with torch.no_grad():
        logits = run.network.eval()(batch)
    assert result.loss == pytest.approx(
        float(nn.functional.cross_entropy(logits, labels)), rel=1e-6
    )
    assert result.correct == int((logits.argmax(1) == labels).sum())


def test_the_rows_of_the_history(digits):
    run = train(small_run(epochs=2, validation_images=20), digits)
    first, *others = run.history
    assert [row["epoch"] for row in run.history] == [0, 1, 2]
    assert all(tuple(row) == (*COLUMNS, GRADIENT_NORMS) for row in run.history)
    assert first["train_loss"] is None and first["train_seconds"] == 0
    assert first["train_eval_loss"] == pytest.approx(math.log(10), abs=0.1)
    for row in others:
        assert row["test_accuracy"] == row["test_correct"] / 30
        assert row["validation_accuracy"] * 20 == pytest.approx(
            round(row["validation_accuracy"] * 20)
        )
        assert row["first_conv_grad_norm"] > 0 and row["last_conv_grad_norm"] > 0
    assert others[0]["train_seconds"] < others[1]["train_seconds"]
    logits = run.test_logits()
    assert logits.shape == (30, 10) and logits.dtype == np.float16


@pytest.mark.parametrize("model, norm", [("vgg11", "batch"), ("resnet", "group")])
def test_a_seed_fixes_every_byte(digits, model, norm):
    a, b = (train(small_run(model, norm, epochs=1), digits) for _ in range(2))
    other = train(small_run(model, norm, epochs=1, seed=1), digits)
    assert (
        a.history[1]["train_loss"] == b.history[1]["train_loss"] != other.history[1]["train_loss"]
    )
    assert all(torch.equal(a.weights()[name], b.weights()[name]) for name in a.weights())


def test_what_is_measured_does_not_change_what_is_trained(digits, monkeypatch):
    specification = small_run("vgg11", "batch", epochs=1)
    measured = train(specification, digits)
    monkeypatch.setattr("normres.training.gradient_norms", lambda *_: [0.0, 0.0])
    unmeasured = train({**specification, "train_eval_images": 10}, digits)
    weights = unmeasured.weights()
    assert all(torch.equal(value, weights[name]) for name, value in measured.weights().items())


def test_a_run_that_stops_within_an_epoch_goes_on_with_its_dropout(digits):
    """VGG11's, the one that has some; masks are drawn step by step, from the seed and the epoch."""
    specification = small_run("vgg11", "none", epochs=1)
    whole = train(specification, digits)
    stopped = TrainingRun(specification, digits, whole.computation)
    stop_at(stopped, images=32)
    torch.manual_seed(1)  # another process has drawn other numbers
    again = TrainingRun(specification, digits, whole.computation)
    again.load_state_dict(copy.deepcopy(stopped.state_dict()))
    list(again.train())
    weights = again.weights()
    assert all(torch.equal(value, weights[name]) for name, value in whole.weights().items())


def test_weights_have_the_strides_of_the_contiguous_layout(digits):
    """Also 1x1 kernels, which are contiguous in both layouts, so that files depend on values."""
    run = train(small_run("resnet", "none", epochs=1), digits)
    kernels = [value for value in run.network.state_dict().values() if value.dim() == 4]
    assert any(value.stride() != torch.empty(value.shape).stride() for value in kernels)
    for value in run.weights().values():
        assert value.stride() == torch.empty(value.shape).stride()


@pytest.mark.parametrize("scheme", ["default", "he"])
def test_networks_that_share_a_layer_start_from_the_same_weights(scheme):
    def start(model, norm, **options):
        network = build_network(small_run(model, norm, **options), 3, 32, 10)
        initialize(network, 5, scheme)
        return network.state_dict()

    none = start("resnet", "none")
    for other in (start("resnet", "batch"), start("resnet", "none", conv_bias=True)):
        assert all(torch.equal(value, other[name]) for name, value in none.items())
    plain = start("plainnet", "none")
    assert all(torch.equal(value, none[name]) for name, value in plain.items())
    deep = start("resnet", "none", depth=5)
    assert torch.equal(deep["stages.0.1.conv1.weight"], none["stages.0.1.conv1.weight"])


@pytest.mark.parametrize("model", MODELS)
def test_the_default_initialisation_is_pytorchs(model):
    network = build_network(small_run(model, "batch"), 3, 32, 10)
    initialize(network, 0, "default")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert module.weight.abs().max() <= bound
            assert module.weight.abs().max() > 0.9 * bound
            assert float(module.weight.detach().std()) == pytest.approx(
                bound / math.sqrt(3), rel=0.15
            )
            assert module.bias is None or module.bias.abs().max() <= bound


def test_he_initialisation():
    network = build_network(small_run("vgg11", "none"), 3, 32, 10)
    initialize(network, 0, "he")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            assert float(module.weight.detach().std()) == pytest.approx(
                math.sqrt(2 / fan_in), rel=0.05
            )
            assert not module.bias.any()


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_zero_initialised_residuals_start_as_their_shortcuts(norm):
    network = build_network(small_run("resnet", norm, zero_init_residual=True), 3, 32, 10)
    initialize(network, 0, "default")
    block = network.stages[0][1].eval()
    images = torch.rand(2, 32, 8, 8)
    assert torch.equal(block(images), images)


def test_a_run_that_diverges_ends_as_diverged(digits):
    run = train(small_run("convnet", "none", epochs=5, learning_rate=1e30), digits)
    assert run.diverged and run.epoch < 5


def test_going_on_from_a_state_gives_the_same_bytes(digits):
    whole = train(small_run("vgg11", "batch", epochs=3), digits)
    first = train(small_run("vgg11", "batch", epochs=1), digits)
    second = TrainingRun(small_run("vgg11", "batch", epochs=3), digits, first.computation)
    second.load_state_dict(first.state_dict())
    list(second.train())
    weights = second.weights()
    assert all(torch.equal(value, weights[name]) for name, value in whole.weights().items())
    losses = [[row["test_loss"] for row in run.history] for run in (whole, second)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_stays_close_to_float32(digits, norm):
    few = {"depth": 1, "train_images": 26, "test_images": 10, "train_eval_images": 10}
    specification = small_run("resnet", norm, epochs=1, learning_rate=1e-4, **few)
    exact = train(specification, digits)
    rough = train({**specification, "precision": "bfloat16"}, digits)
    assert exact.history[0]["test_loss"] != rough.history[0]["test_loss"]
    assert rough.history[1]["train_loss"] == pytest.approx(exact.history[1]["train_loss"], rel=0.02)


def test_normalisation_of_pixels(digits):
    for normalize, mean, deviation in [
        ("none", 0, 1),
        ("half", 0.5, 0.5),
        ("dataset", np.array(digits.channel_mean), np.array(digits.channel_std)),
    ]:
        run = TrainingRun(
            small_run("convnet", "none", normalize=normalize),
            digits,
            choose_computation(small_run(), "cpu"),
        )
        batch, _ = run.sets["test"].batch(torch.arange(3))
        pixels = digits.images[np.asarray(run.sets["test"].indices[:3])] / 255
        expected = ((pixels - mean) / deviation).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(batch.numpy(), expected, atol=1e-6)


def test_cuda_that_is_not_there_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InputError, match="no CUDA device"):
        choose_device("cuda", None)


def test_every_network_takes_part_in_these_tests():
    assert set(MODELS) == set(catalog.names("networks"))
    assert set(NORMS) == set(catalog.names("norms"))


@pytest.mark.skipif(not can_compile("cpu"), reason="no C++ compiler")
def test_a_compiled_network_trains_the_same(digits):
    specification = small_run("convnet", "batch", epochs=1, learning_rate=1e-4)
    eager = train(specification, digits)
    compiled = train({**specification, "compile": True}, digits)
    assert compiled.computation.compiled and not eager.computation.compiled
    assert compiled.history[1]["train_loss"] == pytest.approx(
        eager.history[1]["train_loss"], rel=1e-3
    )


@pytest.mark.parametrize("lacking", ["compiler", "headers"])
def test_without_what_it_takes_a_network_is_not_compiled(monkeypatch, tmp_path, lacking):
    """A C++ compiler called as torch.compile calls it, and Python.h."""
    (tmp_path / "Python.h").touch()
    for name in ("g++", "clang++"):  # on Linux and on macOS
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert can_compile("cpu")
    if lacking == "headers":
        (tmp_path / "Python.h").unlink()
    else:
        monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    assert not can_compile("cpu")


def test_triton_needs_a_c_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr("normres.devices.has_triton", lambda: True)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert not can_compile("cuda")
    (tmp_path / "clang").touch(mode=0o755)
    assert can_compile("cuda")
    monkeypatch.setenv("CC", "absent")
    assert not can_compile("cuda")


@pytest.mark.parametrize("batch_size, compiled", [(100, [58]), (16, [16, 16, 16])])
def test_full_batches_are_compiled_and_the_short_last_one_is_not(
    digits, monkeypatch, batch_size, compiled
):
    """Also one of all images, as of a batch_size beyond their number."""
    sizes = []

    def compile(loss, dynamic):
        def called(positions):
            sizes.append(len(positions))
            return loss(positions)

        return called

    monkeypatch.setattr("torch.compile", compile)
    monkeypatch.setattr("normres.devices.can_compile", lambda device: True)
    specification = small_run("convnet", compile=True, batch_size=batch_size, epochs=1)
    run = train(specification, digits)
    assert run.computation.compiled and len(run.sets["train"]) == 58
    assert sizes == compiled


def test_larger_images_are_evaluated_fewer_at_a_time():
    def size(side):
        return evaluation_batch(SimpleNamespace(pixels=np.zeros((1, side, side, 3), np.uint8)))

    assert [size(side) for side in (28, 32, 64, 224, 2000)] == [1024, 1024, 256, 20, 1]


def test_without_a_compiler_a_network_is_not_compiled(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    assert not choose_computation(small_run("convnet", compile=True), "cpu").compiled
