"""From a run's specification to a network with its initial weights."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from normres import catalog
from normres.errors import InputError
from normres.seeding import derive


def build_network(
    specification: Mapping[str, Any], in_channels: int, side: int, classes: int
) -> nn.Module:
    """The network of a run, mapping (N, in_channels, side, side) to (N, classes).

    Reads `model`, `norm` and the options that these two take. Raises InputError where the
    architecture does not admit the image side.
    """
    model, norm = specification["model"], specification["norm"]
    smallest = catalog.constant("networks", model, "MIN_SIDE")
    if side < smallest:
        raise InputError(
            f"{model} needs images of {smallest} x {smallest} pixels or more, not {side} x {side}: "
            f"set `image_size: {smallest}` or more in the study"
        )
    norm_options = {key: specification[key] for key in catalog.options("norms", norm)}
    options = {key: specification[key] for key in catalog.options("networks", model)}
    if options.get("conv_bias") == "default":
        options["conv_bias"] = None
    norm_layer = partial(catalog.load("norms", norm).build, **norm_options)
    return catalog.load("networks", model).build(in_channels, side, classes, norm_layer, **options)


@torch.no_grad()
def initialize(network: nn.Module, seed: int, scheme: str) -> None:
    """Draw every parameter from `seed` and the name of its layer, in place.

    `scheme` "default" is PyTorch's own initialisation of each layer; "he" draws weights of
    convolutions and linear layers from N(0, 2 / fan_in) with zero biases (He et al. 2015, eq. 10).
    A layer's values do not depend on the layers before it, so variants that share a layer start
    from the same weights there; a layer's weight is drawn before its bias, so it does not depend
    on whether there is one. The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        for name, module in network.named_modules():
            if not hasattr(module, "reset_parameters"):
                continue
            torch.manual_seed(derive(seed, "initialization", name))
            module.reset_parameters()
            if scheme == "he" and isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if hasattr(network, "finish_initialization"):
            network.finish_initialization()
