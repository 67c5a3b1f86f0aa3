"""Seconds and memory of norm layers by themselves, on the shapes that networks give them."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from normres import catalog
from normres.devices import Computation
from normres.errors import first_sentence
from normres.graphs import WARM_UP_CALLS, capture

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
LEAST_SECONDS = 0.02  # of the calls of a repeat together
CALLS_A_GRAPH = 20  # on CUDA, where launching a small norm's kernels takes longer than they do
FORWARD, TRAINING = "forward_seconds", "training_seconds"


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
        layer = catalog.load("norms", case.norm).build(case.channels, **dict(case.options))
        self.layer = layer.to(computation.device).train()
        self.computation = computation
        with torch.no_grad():  # on CUDA autocast may give another type than that of the images
            self.gradient = torch.randn_like(self.forward())
        # Of each kind, what is called, how many calls of the layer that is, and how often.
        self.kinds: dict[str, tuple[Callable[[], Any], int]] = {}
        self.times: dict[str, int] = {}

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

    def prepare(self, pool: Any = None) -> None:
        """Warm up, and fix how often a repeat calls what; `pool`: of graphs.capture, on CUDA."""
        for name, call in ((FORWARD, self.only_forward), (TRAINING, self.train)):
            for _ in range(WARM_UP_CALLS):
                call()
            self.kinds[name] = call, 1
            if self.computation.graphed:
                graph, _ = capture(call, self.computation.device, CALLS_A_GRAPH, pool)
                self.kinds[name] = graph.replay, CALLS_A_GRAPH
            least = LEAST_SECONDS / self.kinds[name][1]
            self.times[name] = math.ceil(least / max(self._seconds(name, 1), 1e-9))

    def repeat(self) -> dict[str, float]:
        """Mean seconds of a call of each kind, once more."""
        return {name: self._seconds(name, self.times[name]) for name in self.kinds}

    def _seconds(self, name: str, times: int) -> float:
        """Mean seconds of a call of the layer."""
        call, calls = self.kinds[name]
        self.computation.synchronize()
        started = time.perf_counter()
        for _ in range(times):
            call()
        self.computation.synchronize()
        return (time.perf_counter() - started) / (times * calls)


def measure_cases(
    cases: Sequence[Case],
    computation: Computation,
    repeats: int,
    after_round: Callable[[float], None] = lambda fraction: None,
) -> list[dict[str, Any]]:
    """Time cases in `repeats` rounds, each in an order of its own; one row per case and repeat.

    Activations have the computation's precision. `after_round` is told what part is done. A case
    that cannot be computed has one row, with the `reason`, and whether it may be `again`.
    """
    dtype = torch.bfloat16 if computation.precision == "bfloat16" else torch.float32
    timers, rows, order = {}, [], random.Random(0)
    pool = torch.cuda.graph_pool_handle() if computation.graphed else None
    for case in cases:
        cells = {**vars(case), "options": dict(case.options)}
        try:
            timer = CaseTimer(case, computation, dtype)
            timer.prepare(pool)
            cells["kept_bytes"] = timer.kept_bytes()
        except (ValueError, RuntimeError) as error:  # instance norm of one pixel; no memory
            again = not isinstance(error, ValueError)
            rows.append({**cells, "reason": first_sentence(error), "again": again})
        else:
            timers[case] = timer, cells
    for number in range(1, repeats + 1):
        for timer, cells in order.sample(list(timers.values()), len(timers)):
            rows.append({**cells, "repeat": number, **timer.repeat()})
        after_round(number / repeats)
    return rows
