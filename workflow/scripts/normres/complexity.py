"""What a network costs: parameters, multiply-adds, norm operations, activations and memory.

1 MAC = 1 multiply-add. MACs are those of convolutions and linear layers, for one image. fvcore
counts them, and two others check it layer by layer: torch.utils.flop_counter, which counts 2
operations a MAC, and a closed form from each layer's weight and output shape. Norm layers are
counted apart, in fvcore's operations per element: 2 for batch norm in evaluation mode, 5 in
training mode and for the norms that always compute statistics, 1 less without scale and shift.
Activations are output elements of convolutions and linear layers (Radosavovic et al. 2020, section
3.1).
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.flop_counter import FlopCounterMode

from normres.errors import InputError
from normres.models import build_network
from normres.training import build_optimizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore compiles a loss by torch.jit.script
    from fvcore.nn import ActivationCountAnalysis, jit_handles
    from fvcore.nn.jit_analysis import JitModelAnalysis

# fvcore's handles, split into what is a MAC and what is a norm operation. The other operators that
# it could count (poolings, upsampling) stay out, so that they are listed as not counted.
MAC_HANDLES = {
    "aten::_convolution": jit_handles.conv_flop_jit,
    "aten::linear": jit_handles.linear_flop_jit,
    "aten::addmm": jit_handles.addmm_flop_jit,
    "aten::mm": jit_handles.matmul_flop_jit,
    "aten::matmul": jit_handles.matmul_flop_jit,
    "aten::bmm": jit_handles.bmm_flop_jit,
    "aten::einsum": jit_handles.einsum_flop_jit,
}
NORM_HANDLES = {
    "aten::batch_norm": jit_handles.batchnorm_flop_jit,
    "aten::group_norm": jit_handles.norm_flop_counter(2),
    "aten::layer_norm": jit_handles.norm_flop_counter(2),
    "aten::instance_norm": jit_handles.norm_flop_counter(1),
}

# Layers whose closed forms are known.
WEIGHTED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORM_LAYERS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)

PEAK_TRAINING_METHOD = (
    "live tensor storage over two training steps in float32: MemTracker under FakeTensorMode; "
    "without the data set, workspaces of libraries and rounding of allocators"
)


@dataclass(frozen=True)
class Layer:
    """One layer's cost for one image; `output_shape` is without the batch, e.g. "32x16x16"."""

    layer: str
    type: str
    output_shape: str
    params: int
    macs: int
    norm_ops: int
    norm_ops_training: int
    activations: int


@dataclass(frozen=True)
class Complexity:
    """A network's cost for one image; each count is the sum of that of its `layers`.

    `norm_ops` are those in evaluation mode, `norm_ops_training` those in training mode;
    `weight_bytes` are those of parameters and buffers. `unsupported` names the operators that are
    in no count, each with its number of calls and its share of all operations, where they are
    taken to need one operation an element. Comparisons (ReLU) are not operations, as in fvcore.
    """

    params: int
    macs: int
    norm_ops: int
    norm_ops_training: int
    activations: int
    weight_bytes: int
    unsupported: str
    layers: tuple[Layer, ...]
    bias_gradient: float | None = None  # see bias.py
    bias_effect: float | None = None


def count(network: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Count the costs of `network` for one image of `input_shape` (channels, height, width).

    Leaves the network in evaluation mode. Raises InputError that names the layer where fvcore,
    torch's flop counter and the closed form disagree, and where the network refuses the images.
    """
    network.eval()
    image = torch.zeros(1, *input_shape)
    layers = _closed_form(network, image)
    handles = MAC_HANDLES | NORM_HANDLES
    analysis = _quiet(JitModelAnalysis(network, image).set_op_handle(**handles))
    counted = {
        "macs": {
            "fvcore": _totals(analysis, MAC_HANDLES),
            "torch.utils.flop_counter": _flop_counter_macs(network, image),
        },
        "norm_ops": {"fvcore": _totals(analysis, NORM_HANDLES)},
        "norm_ops_training": {"fvcore": _training_norm_ops(network, input_shape)},
        "activations": {"fvcore": _quiet(ActivationCountAnalysis(network, image)).by_module()},
    }
    for what, counts in counted.items():
        _check(network, layers, what, counts)
    state = [*network.parameters(), *network.buffers()]
    return Complexity(
        params=sum(parameter.numel() for parameter in network.parameters()),
        macs=sum(layer.macs for layer in layers),
        norm_ops=sum(layer.norm_ops for layer in layers),
        norm_ops_training=sum(layer.norm_ops_training for layer in layers),
        activations=sum(layer.activations for layer in layers),
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state),
        unsupported=_unsupported(analysis),
        layers=tuple(layers),
    )


def peak_training_bytes(
    specification: Mapping[str, Any], input_shape: tuple[int, int, int], classes: int
) -> int:
    """Most bytes that a training step of a run holds at once (see PEAK_TRAINING_METHOD).

    Images, parameters, gradients, optimiser state and what the backward pass keeps, at the batch
    size and with the optimiser of `specification`. Nothing is allocated or computed. Each step
    begins without gradients; those of runs (steps.py) drop the last step's after the forward pass,
    which raises the peak where weights outweigh activations: VGG11 with batch norm needs 4 % more
    so, 665.7 instead of 638.5 MB at batch 128, ResNet and ConvNet less than 0.1 %.
    """
    channels, _, side = input_shape
    batch_size = specification["batch_size"]
    with FakeTensorMode():
        network = build_network(specification, channels, side, classes)
        optimizer = build_optimizer(network, specification)
        images = torch.zeros(batch_size, *input_shape)
        labels = torch.zeros(batch_size, dtype=torch.int64)
        tracker = MemTracker()
        tracker.track_external(network, optimizer, images, labels)
        with tracker:
            for _ in range(2):  # the optimiser's state takes part from the second step on
                cross_entropy(network(images), labels).backward()
                optimizer.step()
                optimizer.zero_grad()
                tracker.reset_mod_stats()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return peak["Total"]


def _closed_form(network: nn.Module, image: Tensor) -> list[Layer]:
    """The layers in the network's order, counted from their weights and output shapes.

    A layer is a module without children or with parameters of its own. Identities are left out.
    """
    shapes: dict[nn.Module, list[torch.Size]] = {}
    named = {
        name: module
        for name, module in network.named_modules()
        if not isinstance(module, nn.Identity)
        and (list(module.parameters(recurse=False)) or not list(module.children()))
    }
    hooks = [
        module.register_forward_hook(
            lambda module, _, output: shapes.setdefault(module, []).append(output.shape)
        )
        for module in named.values()
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [_layer(name, module, shapes.get(module, [])) for name, module in named.items()]


def _layer(name: str, module: nn.Module, shapes: list[torch.Size]) -> Layer:
    elements = sum(map(math.prod, shapes))
    weighted = isinstance(module, WEIGHTED_LAYERS)
    norm_ops = norm_ops_training = 0
    if isinstance(module, NORM_LAYERS):
        norm_ops_training = elements * (4 if module.weight is None else 5)
        fixed = isinstance(module, _BatchNorm) and module.track_running_stats
        norm_ops = norm_ops_training - 3 * elements if fixed else norm_ops_training
    return Layer(
        layer=name,
        type=type(module).__name__,
        output_shape="x".join(map(str, shapes[-1][1:])) if shapes else "",
        params=sum(parameter.numel() for parameter in module.parameters(recurse=False)),
        macs=elements * module.weight[0].numel() if weighted else 0,
        norm_ops=norm_ops,
        norm_ops_training=norm_ops_training,
        activations=elements if weighted else 0,
    )


def _quiet(analysis: JitModelAnalysis) -> JitModelAnalysis:
    """Silence fvcore's log: `_unsupported` lists what it would warn of."""
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def _totals(analysis: JitModelAnalysis, handles: Iterable[str]) -> dict[str, int]:
    """Each module's count, its children's included, over the operators of `handles`."""
    # A convolution's handle names its operator "conv".
    operators = {name.removeprefix("aten::") for name in handles} | (
        {"conv"} if "aten::_convolution" in handles else set()
    )
    return {
        name: sum(number for operator, number in counts.items() if operator in operators)
        for name, counts in analysis.by_module_and_operator().items()
    }


def _flop_counter_macs(network: nn.Module, image: Tensor) -> dict[str, int]:
    """Each module's MACs, its children's included, by torch's flop counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    root = type(network).__name__
    return {
        name.removeprefix(root).removeprefix("."): sum(counts.values()) // 2
        for name, counts in counter.get_flop_counts().items()
        if name != "Global"
    }


def _training_norm_ops(network: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, int]:
    """Each module's norm operations for one image in training mode, by fvcore."""
    # Two images: batch norm cannot train on one where a layer's output is a single pixel.
    images = torch.zeros(2, *input_shape)
    network.train()
    analysis = _quiet(JitModelAnalysis(network, images).set_op_handle(**NORM_HANDLES))
    totals = _totals(analysis, NORM_HANDLES)
    network.eval()
    return {name: number // 2 for name, number in totals.items()}


def _check(
    network: nn.Module, layers: list[Layer], what: str, counted: Mapping[str, Mapping[str, int]]
) -> None:
    """Compare each module's counts with the closed forms of its layers.

    Layers come first, then the modules around them, the innermost first: these differ where a
    module computes with a weight outside any layer.
    """
    modules = [name for name, _ in network.named_modules()]
    for name in dict.fromkeys([layer.layer for layer in layers] + modules[::-1]):
        inside = f"{name}." if name else ""
        closed_form = sum(
            getattr(layer, what)
            for layer in layers
            if layer.layer == name or layer.layer.startswith(inside)
        )
        counts = {counter: numbers.get(name, 0) for counter, numbers in counted.items()}
        if any(number != closed_form for number in counts.values()):
            counts["the closed form"] = closed_form
            raise InputError(
                f"{type(network).__name__}: counts of {what} disagree in layer {name or '(root)'}: "
                + ", ".join(f"{number:,} by {counter}" for counter, number in counts.items())
                + "; normres/complexity.py must know the closed form of each layer with a weight"
            )


def _unsupported(analysis: JitModelAnalysis) -> str:
    """Operators without a handle: "operator calls share of operations", in that order."""
    calls = analysis.unsupported_ops()
    operations = analysis.set_op_handle(**dict.fromkeys(calls, _elements)).by_operator()
    total = sum(operations.values())
    shares = {name: 100 * operations[name.removeprefix("aten::")] / total for name in calls}
    return "; ".join(
        f"{name} {calls[name]} {shares[name]:.2g} %" for name in sorted(calls, key=shares.get)[::-1]
    )


def _elements(inputs: list[torch._C.Value], outputs: list[torch._C.Value]) -> int:
    """A handle of fvcore: the elements of the largest tensor that an operator reads or writes."""
    shapes = map(jit_handles.get_shape, [*inputs, *outputs])
    return max((math.prod(shape) for shape in shapes if shape is not None), default=0)
