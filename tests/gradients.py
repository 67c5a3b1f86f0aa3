"""Gradients that a first step of training takes, against those of plain layers in float32."""

import statistics

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from normres.devices import choose_computation
from normres.training import TrainingRun

IMAGES = 16


def without_dropout(network):
    """Training mode; other masks, as another device draws, would give other gradients."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.train()


def gradients_of_a_step(run):
    """What the first step gives the weights, by name."""
    without_dropout(run.working.module)
    run.step(torch.arange(IMAGES, device=run.computation.device))
    return {name: value.grad.cpu() for name, value in run.network.named_parameters()}


def plain_gradients(specification, images):
    """Those of nn.Conv2d and the like: on the CPU, float32, contiguous, nothing compiled."""
    plain = {**specification, "precision": "float32", "compile": False}
    run = TrainingRun(plain, images, choose_computation(plain, "cpu"))
    network = without_dropout(run.network.to(memory_format=torch.contiguous_format))
    batch, labels = run.sets["train"].batch(torch.arange(IMAGES))
    cross_entropy(network(batch.contiguous()), labels).backward()
    return {name: value.grad for name, value in network.named_parameters()}


def assert_close(ours, plain, precision):
    """Each parameter's gradient in float32, most of them in bfloat16, to what rounding makes of it.

    Measured on a CPU: in float32 at most 0.07 of its norm (batch norm, where ReLUs are near 0), in
    bfloat16 0.31 in the median. A gradient of zeros would be off by 1. What is below a thousandth
    of the largest is rounding itself, as for a bias before batch norm.
    """
    floor = 1e-3 * max(float(value.norm()) for value in plain.values())
    errors = {
        name: float((ours[name] - value).norm()) / max(float(value.norm()), floor)
        for name, value in plain.items()
    }
    if precision == "float32":
        assert max(errors.values()) < 0.1, errors
    else:
        assert statistics.median(errors.values()) < 0.5, errors
