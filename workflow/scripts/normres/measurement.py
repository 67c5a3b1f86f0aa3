"""Seconds of training steps and of predictions, peak memory and energy of one configuration."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from normres.constraints import check_last_batch
from normres.devices import choose_computation, choose_device, lacks_memory, say_uncompiled
from normres.energy import find_meter
from normres.environment import describe
from normres.images import open_images
from normres.seeding import generator
from normres.training import TrainingRun

LATENCY_BATCHES = (1, 128)  # images per prediction
STEP, LAST_STEP = "step", "last_step"  # of training: a full batch, and the short last one

# How long the calls of a repeat take together, so that the clock's resolution is nothing to it.
LEAST_SECONDS = {STEP: 0.05, LAST_STEP: 0.05}
LEAST_LATENCY_SECONDS = 0.02
# Between two looks at an energy counter, where steps are shorter; without any change of it until it
# counts as standing still.
LOOK_SECONDS, STILL_SECONDS = 0.005, 2.0
STANDS_STILL = "not measured: the counter of energy stands still"


class Measurement:
    """One configuration, measured in this process: `warm_up`, then `prepare`, then `repeat`s.

    `specification` is a run's, `data` a folder of prepared images, `device` and `gpus` those of
    devices.choose_device. Raises InputError and DeviceError as a run does.
    """

    def __init__(self, specification: Mapping[str, Any], data: str, device: str, gpus: int | None):
        images = open_images(data)
        self.computation = choose_computation(specification, choose_device(device, gpus))
        # An optimiser imports it when it is first made; on a CPU it would count as the training's.
        import_module("torch._dynamo")
        self.memory_before = resident_bytes("VmRSS")
        say_uncompiled(specification, self.computation)
        self.run = TrainingRun(specification, images, self.computation)
        n = self.train_images = len(self.run.sets["train"])
        check_last_batch(n, specification)
        size = min(specification["batch_size"], n)
        self.sizes = {STEP: size} | ({LAST_STEP: n % size} if n % size else {})
        self.sizes |= {f"latency_{images}": images for images in LATENCY_BATCHES}
        self.positions = {name: self._positions(size) for name, size in self.sizes.items()}
        self.first_seconds: dict[str, float] = {}  # of each kind's first call
        self.calls: dict[str, int] = {}  # of each kind in a repeat
        self.meter, self.energy_source = find_meter(gpu_uuid(self.computation.device))
        self.peak_bytes: int | None = None

    def _positions(self, size: int) -> Iterator[torch.Tensor]:
        """Positions (size,) of training images, in random orders of all, as training draws them."""
        left, source = torch.empty(0, dtype=torch.int64), generator(0, "timing", size)
        while True:
            while len(left) < size:
                left = torch.cat([left, torch.randperm(self.train_images, generator=source)])
            yield left[:size].to(self.computation.device)
            left = left[size:]

    def _seconds(self, name: str, calls: int) -> float:
        """Mean seconds of `calls` calls: of steps of training, or of predictions.

        A step is all that training does with a batch, a prediction the network's output for images
        that are on the device as float32, in evaluation mode.
        """
        positions = self._draw(name, calls)
        if name in (STEP, LAST_STEP):
            self.run.working.module.train()
            return self._clock(self.run.step, positions, wait=False)
        batches = [self.run.sets["train"].batch(chosen)[0] for chosen in positions]
        self.run.working.module.eval()
        with torch.no_grad():
            return self._clock(self._predict, batches, wait=True)

    def _draw(self, name: str, calls: int) -> list[torch.Tensor]:
        return [next(self.positions[name]) for _ in range(calls)]

    def _predict(self, batch: torch.Tensor) -> torch.Tensor:
        with self.computation.autocast():
            return self.run.working.module(batch)

    def _clock(
        self, call: Callable[[torch.Tensor], Any], inputs: Sequence[torch.Tensor], wait: bool
    ) -> float:
        """Mean seconds of a call; `wait`: until its answer is there, before the next one begins."""
        self.computation.synchronize()
        started = time.perf_counter()
        for value in inputs:
            call(value)
            if wait:
                self.computation.synchronize()
        self.computation.synchronize()
        return (time.perf_counter() - started) / len(inputs)

    def warm_up(self) -> None:
        """Call everything: it compiles, captures graphs, allocates, chooses kernels."""
        self.run.working.module.train()
        for _ in range(2):  # the optimiser's state is there from the second step on
            self._forget_peak()
            # Not captured: what a CUDA graph needs while it is replayed counts as free.
            self.run.step.eager(next(self.positions[STEP]))
        self.peak_bytes = self._read_peak()
        for name in list(self.sizes):
            try:
                self.first_seconds[name] = self._seconds(name, 1)
            except RuntimeError as error:
                if name in (STEP, LAST_STEP) or not lacks_memory(error):
                    raise
                del self.sizes[name]  # a larger batch than it is trained with: no such latency

    def prepare(self) -> dict[str, Any]:
        """Fix how often a repeat calls what; say what the times rest on."""
        made_code = self.computation.compiled or self.computation.graphed
        for name in self.sizes:
            least = LEAST_SECONDS.get(name, LEAST_LATENCY_SECONDS)
            # A first call is slower than the next ones, but not ten times, unless it made code.
            if self.first_seconds[name] > 10 * least and not made_code:
                self.calls[name] = 1
            else:
                self.calls[name] = math.ceil(least / self._seconds(name, 1))
        if self.meter is not None and self._joules(self._seconds(STEP, 1)) is None:
            self.meter, self.energy_source = None, STANDS_STILL
        return {
            "energy_source": self.energy_source,
            "environment": describe(self.computation),
            "peak_memory_bytes": self.peak_bytes,
            "train_images": self.train_images,
            "batch_sizes": self.sizes,
            "calls_a_repeat": self.calls,
        }

    def _forget_peak(self) -> None:
        if self.computation.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.computation.device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak is what is now

    def _read_peak(self) -> int | None:
        """Most memory that a training step needed; None where the system does not tell.

        On CUDA what PyTorch has allocated: weights, optimiser, activations, and the images that are
        kept there. On Linux what the process has in memory beyond what it had before there was a
        network; what was used once and not given back to the system counts, as by a compiler.
        """
        if self.computation.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.computation.device)
        peak = resident_bytes("VmHWM")
        return peak - self.memory_before if peak and self.memory_before else None

    def _joules(self, step_seconds: float) -> float | None:
        """Mean joules of a training step, of steps back to back between two updates of the counter.

        None without a meter, and where the counter stands still, as of some virtual machines. What
        is counted from one update to another does not depend on how rarely there are any.
        """
        if self.meter is None:
            return None
        positions = self._draw(STEP, math.ceil(LOOK_SECONDS / step_seconds))  # the device idles
        self.run.working.module.train()
        steps, first, mean = 0, None, None
        done = self._launch_steps(positions)  # on a CPU, it is done when this returns
        last, changed = self.meter.joules(), time.perf_counter()
        while mean is None and (steps == 0 or time.perf_counter() - changed < STILL_SECONDS):
            following = self._launch_steps(positions)  # so that a GPU is busy while it is read
            done()
            done = following
            steps += len(positions)
            joules, now = self.meter.joules(), time.perf_counter()
            if joules == last:
                continue
            last, changed = joules, now
            if first is None:
                first = (joules, now, steps)
            elif now - first[1] >= self.meter.least_seconds:
                mean = (joules - first[0]) / (steps - first[2])
        done()  # another process has the device next
        return mean

    def _launch_steps(self, positions: Sequence[torch.Tensor]) -> Callable[[], None]:
        """Start steps of training; what is returned waits until the device has done them."""
        for chosen in positions:
            self.run.step(chosen)
        if self.computation.device.type != "cuda":
            return lambda: None
        event = torch.cuda.Event()
        event.record()
        return event.synchronize

    def repeat(self) -> dict[str, float | str | None]:
        """Seconds of each kind of call, once more, and joules of a training step, of what."""
        if self.computation.device.type == "cuda":
            # Uncounted: another process had the device. On a CPU it makes no difference: steps of
            # 22, 119 and 240 ms took within 2.5 % of the next ones when the caches were overwritten
            # before (median of 12; one thread of an AMD EPYC, torch 2.14.1).
            self._seconds(STEP, self.calls[STEP])
        seconds = {name: self._seconds(name, calls) for name, calls in self.calls.items()}
        joules = self._joules(seconds[STEP])
        stood = self.meter is not None and joules is None
        source = STANDS_STILL if stood else self.energy_source
        return seconds | {"step_joules": joules, "energy_source": source}


def gpu_uuid(device: torch.device) -> str | None:
    """How NVML calls the GPU that a CUDA device is; None for other devices."""
    if device.type != "cuda":
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def resident_bytes(field: str) -> int | None:
    """A size in bytes of this process from Linux's /proc/self/status; None elsewhere."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return 1024 * int(line.split()[1])
    return None
