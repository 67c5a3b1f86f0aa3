"""What a machine needs at least for a step of a network: its layers alone, and a copy's speed."""

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

# First, since it puts the project's package on the path.
from speed_tables import BATCH, specify  # isort: skip
from normres.devices import choose_computation
from normres.graphs import capture
from normres.images import open_images
from normres.layers import Classifier, PaddedConv2d, SmallMapConv2d
from normres.training import TrainingRun

CALLS_A_GRAPH = 10  # of a layer on CUDA, so that starting the graph is nothing to them


def bounds(
    cells: Sequence[tuple], data: Path, device: str, threads: int
) -> list[tuple[float, float]]:
    """The bound() of each cell; those with the same layers time them once."""
    known: dict[tuple, float] = {}
    return [bound(cell, data, device, threads, known) for cell in cells]


def bound(
    cell: tuple, data: Path, device: str, threads: int, known: dict[tuple, float]
) -> tuple[float, float]:
    """Seconds that a step needs at least on this machine, and its copy bandwidth in bytes/s.

    `known`: seconds of layers, which are added to.
    """
    specification = specify(cell, threads, device)
    computation = choose_computation(specification, device)
    images = open_images(data)
    network = TrainingRun(specification, images, computation).network
    free_kernels()  # a bound is one for all of them
    inputs: dict[nn.Module, torch.Size] = {}
    hooks = [
        module.register_forward_hook(lambda m, given, _: inputs.update({m: given[0].shape}))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    height, width, channels = images.shape
    network.eval()(torch.zeros(BATCH, channels, height, width, device=device))
    for hook in hooks:
        hook.remove()
    first = next(iter(inputs))
    dtype = torch.bfloat16 if computation.precision == "bfloat16" else torch.float32
    seconds = 0.0
    for module, shape in inputs.items():
        kept = torch.float32 if isinstance(module, Classifier) else dtype
        key = (repr(module), shape, kept, module is first)
        if key not in known:
            known[key] = layer_seconds(module, shape, kept, module is not first)
        seconds += known[key]
    bandwidth = copy_bandwidth(device)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # Adam reads weights, gradients and two moments, and writes weights and moments: 7 x 4 bytes.
    return seconds + 28 * parameters / bandwidth, bandwidth


def layer_seconds(module: nn.Module, shape: torch.Size, dtype: torch.dtype, inner: bool) -> float:
    """Seconds for a layer forward and backward, in its fastest form; `inner`: not the first one."""
    forms = [module]
    device = next(module.parameters()).device
    if isinstance(module, nn.Conv2d):
        for form, helps in (
            (SmallMapConv2d, shape[2:] == (2, 2)),
            (PaddedConv2d, device.type == "cuda"),
        ):
            if helps and form.fits(module):
                forms.append(copy.deepcopy(module))
                forms[-1].__class__ = form
    formats = [torch.channels_last, torch.contiguous_format] if len(shape) == 4 else [None]
    best = []
    for form, layout in itertools.product(forms, formats):
        form = form.to(device, dtype)
        images = torch.randn(shape, device=device, dtype=dtype)
        if layout is not None:
            form, images = form.to(memory_format=layout), images.to(memory_format=layout)
        images.requires_grad_(inner)
        gradient = torch.randn_like(form(images))

        def both(form=form, images=images, gradient=gradient) -> None:
            form.zero_grad()
            images.grad = None
            form(images).backward(gradient)

        best.append(fastest(both, device))
    return min(best)


def copy_bandwidth(device: str, size: int = 1 << 28) -> float:
    """Bytes a second, read and written, of a copy of 256 MB."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / fastest(lambda: target.copy_(source), torch.device(device))


def fastest(action: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    """The fewest seconds of some repeats, after two that are not counted.

    On CUDA of a graph of several calls, without what launching each kernel costs.
    """
    if device.type == "cuda":
        return _graphed(action, repeats)
    seconds = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds[2:])


def _graphed(action: Callable[[], Any], repeats: int) -> float:
    """Seconds of a call within a CUDA graph, the fewest of some repeats."""
    graph, _ = capture(action, torch.device("cuda"), CALLS_A_GRAPH)
    seconds = []
    for _ in range(repeats + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - started) / CALLS_A_GRAPH)
    return min(seconds[2:])


def free_kernels() -> None:
    """Let CUDA take any kernels, tried at first use, from here on in this process."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True
