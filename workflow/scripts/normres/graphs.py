"""CUDA graphs: what would be many launches of kernels is launched at once."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

WARM_UP_CALLS = 3  # before a capture, as PyTorch's documentation of CUDA graphs advises


def capture(
    call: Callable[[], Any], device: torch.device, calls: int = 1, pool: Any = None
) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A graph of `calls` calls of `call`, and what the last one returned, overwritten by a replay.

    Before, `call` is done WARM_UP_CALLS times. Graphs that share a `pool` share their memory, so of
    those only one may be replayed at a time, and what others returned is lost.
    """
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_CALLS):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with _no_collections(), torch.cuda.graph(graph, pool=pool):
        for _ in range(calls):
            returned = call()
    return graph, returned


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keep Python from collecting garbage, which may be the graph of an earlier run.

    CUDA refuses a capture during which another graph is destroyed.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
