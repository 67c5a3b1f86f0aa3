"""Whether the biases that a norm follows do anything: their gradient, and their effect.

A norm that subtracts a mean over positions takes away a constant that is added to a channel. So a
bias before batch norm gets no gradient and has no effect in training (Ioffe & Szegedy 2015, section
3.2); before group norm it has, unless a group is a single channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from normres.layers import Classifier
from normres.models import build_network, initialize

NORM_LAYERS = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
IMAGES = 2


@dataclass(frozen=True)
class BiasRedundancy:
    """Measures of the biases of convolutions that a norm directly follows; None without any.

    bias_gradient: their largest gradient over the largest of the same convolutions' weights.
    bias_effect: the largest change of the training output when they are set to 0, over its largest
    value.
    """

    bias_gradient: float | None = None
    bias_effect: float | None = None


def measure_bias_redundancy(
    specification: Mapping[str, Any], input_shape: tuple[int, int, int], classes: int
) -> BiasRedundancy:
    """Measure them in a network's first training step, on random images.

    Convolutions and norms compute in float64; the last linear layer, and so the output, in float32.
    Nothing is measured where a norm does not admit float64.
    """
    channels, _, side = input_shape
    with torch.random.fork_rng(devices=[]):
        network = build_network(specification, channels, side, classes)
        initialize(network, 0, "default")
        network.double().train()
        for module in network.modules():
            if isinstance(module, Classifier):
                module.float()
        torch.manual_seed(0)
        images = torch.rand(IMAGES, *input_shape, dtype=torch.float64)
        try:
            output, convolutions = _step(network, images)
        except RuntimeError:  # a norm of one's own that computes in float32
            return BiasRedundancy()
        if not convolutions:
            return BiasRedundancy()
        cross_entropy(output, torch.arange(IMAGES) % classes).backward()
        of_biases, of_weights = (
            max(float(getattr(c, name).grad.abs().max()) for c in convolutions)
            for name in ("bias", "weight")
        )
        with torch.no_grad():
            for convolution in convolutions:
                convolution.bias.zero_()
            changed = (_step(network, images)[0] - output).abs().max() / output.abs().max()
        return BiasRedundancy(of_biases / of_weights, float(changed))


def _step(network: nn.Module, images: Tensor) -> tuple[Tensor, list[nn.Conv2d]]:
    """The output (N, classes) and the biased convolutions whose output a norm takes in."""
    made: list[tuple[Tensor, nn.Conv2d]] = []
    found: list[nn.Conv2d] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            made.append((output, module))
        elif isinstance(module, NORM_LAYERS):
            found.extend(convolution for tensor, convolution in made if tensor is inputs[0])

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        torch.manual_seed(1)  # dropout
        return network(images), found
    finally:
        for hook in hooks:
            hook.remove()
