"""Options of training against plain references: ghost batches, seeds, learning rates, gradients."""

import math

import pytest
import torch
from torch import nn

from conftest import read_history, read_record, small_run
from normres import catalog, history
from normres.config import read_config
from normres.devices import choose_computation
from normres.errors import InputError
from normres.evaluation import gradient_norms
from normres.history import GRADIENT_NORMS, read_gradient_norms, write_history
from normres.models import build_network, initialize
from normres.norms.batch import GhostBatchNorm2d
from normres.options import option_schemas, resolve
from normres.pipeline import Pipeline
from normres.training import TrainingRun, effective_learning_rate
from train import main as train_command


def train(specification, images):
    run = TrainingRun(specification, images, choose_computation(specification, "cpu"))
    list(run.train())
    return run


def same_weights(one, other):
    other = other.weights()
    return all(torch.equal(value, other[name]) for name, value in one.weights().items())


# Ghost batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "images, seen, sizes",
    [(8, 4, [4, 4]), (7, 2, [2, 2, 3]), (8, 3, [3, 3, 2]), (5, 4, [5]), (4, 4, [4]), (3, 4, [3])],
)
def test_ghost_batches_are_batch_norm_of_each_part(images, seen, sizes, affine):
    """Outputs, gradients and running statistics are those of PyTorch's own layer a part."""
    torch.manual_seed(0)
    batch = torch.randn(images, 6, 5, 3) * 2 + 1
    batch = batch.contiguous(memory_format=torch.channels_last)
    ghost, plain = GhostBatchNorm2d(6, seen, affine), nn.BatchNorm2d(6, affine=affine)
    for layer in (ghost, plain) if affine else ():
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.5, 2, 6))
            layer.bias.copy_(torch.linspace(-1, 1, 6))
    weights, means, variances = torch.randn(images, 6, 5, 3), [], []
    given, expected = batch.clone().requires_grad_(), batch.clone().requires_grad_()
    output = ghost(given)
    parts = []
    for part in expected.split(sizes):
        parts.append(plain(part))
        means.append(part.mean((0, 2, 3)))
        variances.append(part.var((0, 2, 3)))
    torch.testing.assert_close(output, torch.cat(parts), rtol=1e-5, atol=1e-5)
    assert output.is_contiguous(memory_format=torch.channels_last)
    (output * weights).sum().backward()
    (torch.cat(parts) * weights).sum().backward()
    torch.testing.assert_close(given.grad, expected.grad, rtol=1e-4, atol=1e-5)
    for one, other in zip(ghost.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ghost.running_mean, 0.1 * torch.stack(means).mean(0))
    torch.testing.assert_close(ghost.running_var, 0.9 + 0.1 * torch.stack(variances).mean(0))
    assert ghost.num_batches_tracked == 1


def test_ghost_batch_norm_evaluates_as_batch_norm():
    layer, batch = GhostBatchNorm2d(3, 2), torch.randn(5, 3, 4, 4)
    layer(batch)
    plain = nn.BatchNorm2d(3)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(batch), plain.eval()(batch))


def test_the_whole_batch_is_pytorchs_own_layer():
    assert type(catalog.load("norms", "batch").build(8, statistics_images=0)) is nn.BatchNorm2d


def test_ghost_batches_train_as_smaller_batches_see_them(digits):
    """One step on 16 images in ghosts of 4: the mean gradient of four batches of 4."""
    specification = small_run("resnet", "batch", statistics_images=4, depth=1)
    computation = choose_computation(specification, "cpu")
    run = TrainingRun(specification, digits, computation)
    plain = build_network({**specification, "statistics_images": 0}, 3, 32, 10)
    initialize(plain, 0, "default")
    images, labels = run.sets["train"].batch(torch.arange(16))
    run.network.train()
    nn.functional.cross_entropy(run.network(images), labels).backward()
    for part, target in zip(images.split(4), labels.split(4), strict=True):
        (nn.functional.cross_entropy(plain.train()(part), target) / 4).backward()
    for one, other in zip(run.network.parameters(), plain.parameters(), strict=True):
        assert (one.grad - other.grad).norm() <= 0.01 * other.grad.norm() + 1e-6


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_ghost_batches_resume_to_the_same_bytes(digits, precision):
    specification = small_run("convnet", "batch", statistics_images=3, precision=precision)
    whole, computation = train(specification, digits), choose_computation(specification, "cpu")
    first = train({**specification, "epochs": 1}, digits)
    second = TrainingRun(specification, digits, computation)
    second.load_state_dict(first.state_dict())
    list(second.train())
    assert same_weights(whole, second)
    assert whole.history[-1][GRADIENT_NORMS] == second.history[-1][GRADIENT_NORMS]


@pytest.mark.parametrize("seen", [1, 17])
def test_impossible_ghost_batches_are_refused(seen):
    study = {"dataset": "digits", "models": ["convnet"], "norms": ["batch"], "seeds": [0]}
    study |= {"epochs": 1, "batch_size": 16, "statistics_images": seen}
    with pytest.raises(InputError, match=f"statistics_images: {seen} of 16 images.*2 to 16"):
        read_config({"study": "s", "studies": {"s": study}})


# Learning rate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size, factor", [(128, 1.0), (32, 0.5), (2, 0.125), (512, 2.0)])
def test_sqrt_scaling(batch_size, factor):
    given = {"batch_size": batch_size, "learning_rate": 3e-4}
    plain = resolve("convnet", "none", 0, 1, given)
    scaled = resolve("convnet", "none", 0, 1, given | {"learning_rate_scaling": "sqrt"})
    assert effective_learning_rate(plain) == 3e-4
    assert effective_learning_rate(scaled) == pytest.approx(factor * 3e-4, rel=1e-12)


def test_a_scaled_run_is_the_run_with_that_learning_rate(digits_folder, tmp_path):
    common = f"--data {digits_folder} --model convnet --norm none --epochs 1 --batch_size 32 "
    common += "--train_images 64 --test_images 30 --device cpu --out "
    scaled, plain = tmp_path / "scaled", tmp_path / "plain"
    train_command(f"{common}{scaled} --learning_rate 1e-3 --learning_rate_scaling sqrt".split())
    train_command(f"{common}{plain} --learning_rate 5e-4".split())
    assert read_history(scaled) == read_history(plain)
    assert (scaled / "model.pt").read_bytes() == (plain / "model.pt").read_bytes()
    assert read_record(scaled)["effective_learning_rate"] == 5e-4
    assert read_record(scaled)["specification"]["learning_rate"] == 1e-3


def test_sgd_has_no_square_root_rule():
    assert "learning_rate_scaling" not in resolve("convnet", "none", 0, 1, {"optimizer": "sgd"})


# Seeds -----------------------------------------------------------------------------------------


def test_seeds_of_initialisation_and_order(digits):
    """Weights follow the one, order and dropout the other; the run's own seed then does nothing."""

    def start_and_end(seed, **options):
        specification = small_run("convnet", seed=seed, epochs=1, **options)
        run = TrainingRun(specification, digits, choose_computation(specification, "cpu"))
        start = run.weights()["classifier.weight"].clone()
        list(run.train())
        return start, run.history[1]["train_loss"]

    start, loss = start_and_end(3)
    other_order, other_loss = start_and_end(3, order_seed=4)
    other_start, _ = start_and_end(3, initialization_seed=4)
    assert torch.equal(start, other_order) and loss != other_loss
    assert not torch.equal(start, other_start)
    same, same_loss = start_and_end(9, initialization_seed=3, order_seed=3)
    assert torch.equal(start, same) and loss == same_loss


def test_dropout_follows_the_order_seed(digits):
    """With one batch an epoch, the order changes little: what differs is dropout."""
    options = {"train_images": 20, "batch_size": 20, "initialization_seed": 0}
    losses = [
        train(small_run("vgg11", seed=seed, epochs=1, **options), digits).history[1]["train_loss"]
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] and abs(losses[0] - losses[2]) > 1e-4


def expand(**changes):
    study = {"dataset": "digits", "models": ["convnet"], "norms": ["none"], "seeds": [0, 1]}
    return read_config({"study": "s", "studies": {"s": {**study, "epochs": 1, **changes}}})


def test_the_runs_own_seed_named_is_the_same_run():
    (plain,) = expand(seeds=[2]).studies
    (named,) = expand(seeds=[2], initialization_seed=2, order_seed="seed").studies
    assert [run.specification for run in plain.runs] == [run.specification for run in named.runs]
    (several,) = expand().studies
    assert [run.specification["order_seed"] for run in several.runs] == [0, 1]
    (fixed,) = expand(order_seed=7).studies
    assert [run.specification["initialization_seed"] for run in fixed.runs] == [0, 1]
    assert [run.specification["order_seed"] for run in fixed.runs] == [7, 7]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"initialization_seed": [0, 1], "order_seed": [0, 1]}, ["seeds", "take one seed"]),
        ({"order_seed": "sed"}, ["order_seed", "'sed'", "seed"]),
        ({"order_seed": -1}, ["order_seed", "-1 is too small"]),
        ({"learning_rate_scaling": "linear"}, ["'linear'", "constant, sqrt"]),
    ],
)
def test_mistakes_of_seeds_and_scaling(change, words):
    with pytest.raises(InputError) as caught:
        expand(**change)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# Gradient norms --------------------------------------------------------------------------------


@pytest.mark.parametrize("model, convolutions", [("convnet", 3), ("resnet", 7), ("plainnet", 7)])
def test_gradient_norms_of_every_convolution(digits, tmp_path, model, convolutions):
    """Those of a plain backward pass, in order of depth; 1x1 convolutions do not count."""
    options = {"depth": 1} if model != "convnet" else {}
    run = train(small_run(model, "batch", epochs=1, **options), digits)
    write_history(run.history, tmp_path / "history.csv")
    norms = read_gradient_norms(tmp_path / "history.csv")
    assert [len(epoch) for epoch in norms] == [convolutions, convolutions]
    batch, labels = next(run.sets["probe"].in_order(32))
    network = run.network.train()
    network.zero_grad()
    nn.functional.cross_entropy(network(batch), labels).backward()
    weights = [value for name, value in network.named_parameters() if value.ndim == 4]
    expected = [float(w.grad.norm()) for w in weights if w.shape[2:] != (1, 1)]
    assert norms[-1] == pytest.approx(expected, rel=1e-3)
    last = run.history[-1]
    assert norms[-1][0] == pytest.approx(last["first_conv_grad_norm"], rel=1e-3)
    assert norms[-1][-1] == pytest.approx(last["last_conv_grad_norm"], rel=1e-3)


class TwoConvolutions(nn.Module):
    """The second one is "trained", "frozen" or "unused"."""

    def __init__(self, second):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.second.requires_grad_(second != "frozen")
        self.used = second != "unused"
        self.classifier = nn.Linear(8, 10)

    def forward(self, images):
        maps = self.first(images)
        return self.classifier((self.second(maps) if self.used else maps).mean((2, 3)))


@pytest.mark.parametrize("second, measured", [("trained", 2), ("frozen", 1), ("unused", 1)])
def test_only_convolutions_that_are_trained_have_gradient_norms(digits, second, measured):
    run = TrainingRun(small_run(), digits, choose_computation(small_run(), "cpu"))
    norms = gradient_norms(TwoConvolutions(second), run.sets["probe"], 0, run.computation)
    assert len(norms) == measured and all(norm > 0 for norm in norms)


def test_a_network_without_convolutions_is_trained(digits, tmp_path, monkeypatch):
    """Its gradient norms are empty cells, which the tables' readers know."""
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    monkeypatch.setattr("normres.training.build_network", lambda *_: plain)
    run = train(small_run(epochs=1), digits)
    write_history(run.history, tmp_path / "history.csv")
    assert read_gradient_norms(tmp_path / "history.csv") == [[], []]
    rows = history.read_history(tmp_path / "history.csv")
    assert [row["last_conv_grad_norm"] for row in rows] == [None, None]
    assert rows[1]["train_loss"] < rows[0]["train_eval_loss"]


@pytest.mark.parametrize("model", ["resnet", "plainnet"])
def test_depth_and_initialisation_show_in_the_gradients(digits, model):
    """Without norm: default initialisation starves a deep plain net, He's makes the sum explode."""

    def first_norm(**options):
        specification = small_run(model, epochs=1, depth=9, train_images=32, **options)
        run = TrainingRun(specification, digits, choose_computation(specification, "cpu"))
        rows = run.train()
        return next(rows)["first_conv_grad_norm"]

    default, he = first_norm(), first_norm(initialization="he")
    if model == "plainnet":
        assert default < 1e-10 and 1e-3 < he < 1e3
    else:
        assert 1e-3 < default < 1e3 and he > 1e3 * default
        scaled = first_norm(initialization="he", zero_init_residual=True)
        assert math.isfinite(scaled) and scaled < he / 100


@pytest.mark.parametrize("option, changes", [("weight_decay", True), ("depth", False)])
def test_another_default_is_another_study_where_it_is_used(monkeypatch, option, changes):
    """study.json would keep the old one else, and the runs be refused as stale for ever."""
    study = {"dataset": "digits", "models": ["convnet"], "norms": ["none"], "seeds": [0]}
    config = {"study": "s", "studies": {"s": {**study, "epochs": 1}}}
    before = Pipeline(read_config(config)).definition("s")
    schemas = {name: dict(schema) for name, schema in option_schemas().items()}
    schemas[option]["default"] += 1
    monkeypatch.setattr("normres.pipeline.option_schemas", lambda: schemas)
    assert (Pipeline(read_config(config)).definition("s") != before) == changes
