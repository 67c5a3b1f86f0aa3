"""Biases that a norm follows: no gradient and no effect before batch norm, both elsewhere."""

import pytest
import torch

from normres.bias import measure_bias_redundancy
from normres.options import resolve


def measure(model, norm, **options):
    return measure_bias_redundancy(resolve(model, norm, 0, 1, options), (3, 32, 32), 10)


@pytest.mark.parametrize("model", ["resnet", "convnet"])
def test_batch_norm_makes_biases_redundant(model):
    found = measure(model, "batch", conv_bias=True)
    assert 0 <= found.bias_gradient < 1e-11
    assert 0 <= found.bias_effect < 1e-6


def test_means_over_several_channels_do_not_and_of_single_ones_do():
    found = measure("convnet", "group")  # 1, 2 and 4 channels a group
    assert found.bias_gradient > 0.01 and found.bias_effect > 0.001
    assert measure("convnet", "instance").bias_gradient < 1e-11


@pytest.mark.parametrize("model, norm", [("convnet", "none"), ("resnet", "batch")])
def test_without_such_biases_there_is_nothing_to_measure(model, norm):
    found = measure(model, norm)  # the ResNet's stem has a bias, and no norm
    assert found.bias_gradient is None and found.bias_effect is None


def test_ghost_batches_and_dropout_are_no_obstacle():
    assert measure("resnet", "batch", conv_bias=True, statistics_images=2).bias_gradient < 1e-11
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    measure("convnet", "batch")
    assert torch.rand(1) == expected  # the generator is left as it was
