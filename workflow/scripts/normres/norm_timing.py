"""Seconds and memory of norm layers by themselves, on the shapes that networks give them."""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normres import catalog
from normres.devices import Computation

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
LEAST_SECONDS = 0.02  # of the calls of a repeat together
WARM_UP_CALLS = 3
FORWARD, TRAINING = "forward_seconds", "training_seconds"

Shape = tuple[int, int]  # channels, side in pixels


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


@dataclass(frozen=True)
class Case:
    """A norm, with its options, on one shape of layer, batch size and memory layout."""

    norm: str
    options: tuple[tuple[str, Any], ...]
    batch_size: int
    channels: int
    side: int
    layout: str


class CaseTimer:
    """Calls one case's layer, in training mode, with images of one fixed random batch."""

    def __init__(self, case: Case, computation: Computation, dtype: torch.dtype):
        shape = (case.batch_size, case.channels, case.side, case.side)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(shape, generator=generator).to(computation.device, dtype)
        self.images = images.contiguous(memory_format=LAYOUTS[case.layout]).requires_grad_()
        self.gradient = torch.randn_like(self.images)
        layer = catalog.load("norms", case.norm).build(case.channels, **dict(case.options))
        self.layer = layer.to(computation.device).train()
        self.computation = computation
        self.calls: dict[str, int] = {}

    def forward(self) -> Tensor:
        """The layer's output, as it is computed within a network."""
        with self.computation.autocast():
            return self.layer(self.images)

    def only_forward(self) -> None:
        with torch.no_grad():
            self.forward()

    def train(self) -> None:
        """Forward and backward, to the gradients of the images and of the layer's parameters."""
        wanted = [self.images, *self.layer.parameters()]
        torch.autograd.grad(self.forward(), wanted, self.gradient)

    def kept_bytes(self) -> int:
        """Bytes that the layer keeps from forward for backward, its parameters aside.

        Its input counts where it keeps it; a convolution after it would keep its output anyway.
        """
        kept: dict[int, int] = {}
        own = {p.untyped_storage().data_ptr() for p in self.layer.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = self.forward()  # alive until all is counted: addresses are not used twice
        del output
        return sum(kept.values())

    def prepare(self) -> None:
        """Warm up, and fix how many calls a repeat has."""
        for name, call in self._kinds():
            for _ in range(WARM_UP_CALLS):
                call()
            self.calls[name] = math.ceil(LEAST_SECONDS / max(self._seconds(call, 1), 1e-9))

    def repeat(self) -> dict[str, float]:
        """Mean seconds of a call of each kind, once more."""
        return {name: self._seconds(call, self.calls[name]) for name, call in self._kinds()}

    def _kinds(self) -> list[tuple[str, Callable[[], None]]]:
        return [(FORWARD, self.only_forward), (TRAINING, self.train)]

    def _seconds(self, call: Callable[[], None], calls: int) -> float:
        self.computation.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        self.computation.synchronize()
        return (time.perf_counter() - started) / calls


def measure_cases(
    cases: Sequence[Case],
    computation: Computation,
    repeats: int,
    after_round: Callable[[float], None] = lambda fraction: None,
) -> list[dict[str, Any]]:
    """Time cases in `repeats` rounds, each in an order of its own; a row a case and repeat.

    Activations have the computation's precision. `after_round` is told what part is done. A case
    that cannot be computed has one row, with the `reason`.
    """
    dtype = torch.bfloat16 if computation.precision == "bfloat16" else torch.float32
    timers, rows, order = {}, [], random.Random(0)
    for case in cases:
        cells = {**vars(case), "options": dict(case.options)}
        try:
            timer = CaseTimer(case, computation, dtype)
            timer.prepare()
        except (ValueError, RuntimeError) as error:  # instance norm of one pixel; no memory
            rows.append({**cells, "reason": " ".join(str(error).split()).partition(". ")[0]})
        else:
            timers[case] = timer, {**cells, "kept_bytes": timer.kept_bytes()}
    for number in range(1, repeats + 1):
        for timer, cells in order.sample(list(timers.values()), len(timers)):
            rows.append({**cells, "repeat": number, **timer.repeat()})
        after_round(number / repeats)
    return rows
