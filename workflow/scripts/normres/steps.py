"""One step of training: a batch, the passes forward and backward, the optimiser's update."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from normres.batches import ImageSet
from normres.devices import Computation
from normres.graphs import capture
from normres.seeding import random_states, restore_random_states
from normres.working_copy import WorkingCopy, state_tensors


class Step:
    """A step on the images at given positions; nothing in it waits for the device.

    What is compiled, where `computation` says so, is the loss of a batch of `full_size` images,
    from the stored pixels on. The short last batch of an epoch is not: compiling for one more size
    takes longer than it could ever save.
    """

    def __init__(
        self,
        network: nn.Module,
        working: WorkingCopy,
        optimizer: torch.optim.Optimizer,
        images: ImageSet,
        computation: Computation,
        full_size: int,
    ):
        self.network, self.working, self.optimizer = network, working, optimizer
        self.images, self.computation, self.full_size = images, computation, full_size
        # Static shapes: the code must not depend on which sizes were met before it was compiled.
        compiled = computation.compiled
        self._full_loss = torch.compile(self.loss, dynamic=False) if compiled else self.loss

    def __call__(self, positions: Tensor) -> Tensor:
        """Train on the images at `positions` (B,), on the device; returns their mean loss there."""
        return self.eager(positions)

    def loss(self, positions: Tensor) -> Tensor:
        """The mean loss of the images at `positions`, as the passes are to compute it."""
        batch, labels = self.images.batch(positions)
        with self.computation.autocast():
            logits = self.working.module(batch)
        return cross_entropy(logits.float(), labels)

    def eager(self, positions: Tensor) -> Tensor:
        """The step, kernel by kernel."""
        loss = (self._full_loss if len(positions) == self.full_size else self.loss)(positions)
        self.working.module.zero_grad(set_to_none=True)
        loss.backward()
        self.working.update_gradients()
        self.optimizer.step()
        self.working.refresh()
        return loss.detach()


class GraphedStep(Step):
    """A step replayed from a CUDA graph, one for each batch size.

    A small network's step is hundreds of kernels of a few microseconds each, which Python cannot
    launch as fast as the device ends them; a graph launches them all at once. It is captured at the
    first step with a size, and warmed up before; what that changed is undone. The returned loss is
    overwritten by the next step, of any size: the graphs share memory.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, positions: Tensor) -> Tensor:
        if len(positions) not in self._captured:
            self._captured[len(positions)] = self._capture(positions)
        graph, input_positions, loss = self._captured[len(positions)]
        input_positions.copy_(positions)
        graph.replay()
        return loss

    def _capture(self, positions: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        positions, device = positions.clone(), self.computation.device
        random = random_states(device)
        begun = bool(self.optimizer.state)
        before = [tensor.clone() for tensor in state_tensors(self.network, self.optimizer)]
        shared = next((graph.pool() for graph, *_ in self._captured.values()), None)
        graph, loss = capture(lambda: self.eager(positions), device, pool=shared)
        self._restore(before, begun)
        restore_random_states(random, device)
        return graph, positions, loss

    @torch.no_grad()
    def _restore(self, before: list[Tensor], begun: bool) -> None:
        """Undo the warm-up, in place: the graph holds the addresses of all these tensors."""
        after = state_tensors(self.network, self.optimizer)
        if not begun:  # the optimiser's state, which starts at zero, did not exist
            before = before + [torch.zeros_like(tensor) for tensor in after[len(before) :]]
        for tensor, value in zip(after, before, strict=True):
            tensor.copy_(value)
        self.working.refresh()
