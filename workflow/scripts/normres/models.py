"""From a run's specification to a network with its initial weights."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from normres import catalog
from normres.errors import InputError
from normres.seeding import derive

Shape = tuple[int, int]  # channels, side in pixels


def build_network(
    specification: Mapping[str, Any], in_channels: int, side: int, classes: int
) -> nn.Module:
    """The network of a run, mapping (N, in_channels, side, side) to (N, classes).

    Reads `model`, `norm` and the options that these two take. Raises InputError where the
    architecture, or the norm in it, does not admit the image side.
    """
    model, norm = specification["model"], specification["norm"]
    smallest = catalog.constant("networks", model, "MIN_SIDE")
    if side < smallest:
        raise InputError(
            f"{model} needs images of {smallest} x {smallest} pixels or more, not {side} x {side}: "
            f"set `image_size: {smallest}` or more in the study"
        )
    _check_maps(specification, in_channels, side)
    norm_options = {key: specification[key] for key in catalog.options("norms", norm)}
    options = {key: specification[key] for key in catalog.options("networks", model)}
    if options.get("conv_bias") == "default":
        options["conv_bias"] = None
    norm_layer = partial(catalog.load("norms", norm).build, **norm_options)
    return catalog.load("networks", model).build(in_channels, side, classes, norm_layer, **options)


class _Recorder(nn.Identity):
    """Stands where a norm stands, and counts the shapes that it sees."""

    def __init__(self, seen: Counter[Shape]):
        super().__init__()
        self.seen = seen

    def forward(self, images: Tensor) -> Tensor:
        self.seen[images.shape[1], images.shape[2]] += 1
        return images


def norm_shapes(specification: Mapping[str, Any], channels: int, side: int) -> Counter[Shape]:
    """How many norm layers a network has of each shape, for images of channels x side x side."""
    seen: Counter[Shape] = Counter()
    model = specification["model"]
    options = {key: specification[key] for key in catalog.options("networks", model)}
    options["conv_bias"] = None  # biases change no shape
    build = catalog.load("networks", model).build
    network = build(channels, side, 10, lambda _: _Recorder(seen), **options)
    with torch.no_grad():
        network.eval()(torch.zeros(1, channels, side, side))
    return seen


def _check_maps(specification: Mapping[str, Any], in_channels: int, side: int) -> None:
    """Raise InputError where the norm would compute a mean and variance of too few values.

    They are of the pixels of one channel, or of all channels of a group where there are `groups`.
    """
    model, norm, groups = specification["model"], specification["norm"], specification.get("groups")
    least = catalog.constant("norms", norm, "LEAST_PIXELS", 1)

    def together(channels: int) -> int:
        return channels // groups if groups else 1

    if min(map(together, catalog.constant("networks", model, "CHANNELS"))) >= least:
        return  # on any map; to see its maps a network has to be built, which takes its time
    shapes = norm_shapes(specification, in_channels, side)
    channels, smallest = min(shapes, key=lambda shape: together(shape[0]) * shape[1] ** 2)
    if together(channels) * smallest**2 < least:
        wanted, of, advice = f"maps of {least} pixels", "", ""
        if groups:
            wanted, of = f"groups of {least} values", f", {channels} channels in {groups} groups"
            advice = " or fewer `groups`"
        raise InputError(
            f"norm: {norm} needs {wanted} or more, but images of {side} x {side} become maps of "
            f"{smallest} x {smallest} in {model}{of}: set a larger `image_size`{advice}"
        )


@torch.no_grad()
def initialize(network: nn.Module, seed: int, scheme: str) -> None:
    """Draw every parameter from `seed` and the name of its layer, in place.

    `scheme` "default" is PyTorch's own initialisation of each layer; "he" draws weights of
    convolutions and linear layers from N(0, 2 / fan_in) with zero biases (He et al. 2015, eq. 10).
    A layer's values do not depend on the layers before it, so variants that share a layer start
    from the same weights there; a layer's weight is drawn before its bias, so it does not depend
    on whether there is one. So different networks of one seed, which also see the images in one
    order, share the weights of layers with the same name and shape: ConvNet's and ResNet's
    classifier are the same. The CPU's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        for name, module in network.named_modules():
            if not hasattr(module, "reset_parameters"):
                continue
            torch.manual_seed(derive(seed, "initialization", name))
            if scheme == "he" and isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            else:
                module.reset_parameters()
        if hasattr(network, "finish_initialization"):
            network.finish_initialization()
