"""Times of many configurations that are to be compared: each in a process of its own, in turns.

So threads, memory and caches of one do not touch another's, and one computes at a time. Rounds are
interleaved: what changes on the machine meanwhile (temperature, other users) meets all alike that
are measured together, which are not more than MOST_ALIVE: see `together`.
"""

import itertools
import multiprocessing
import random
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from normres.errors import DeviceError, InputError, first_sentence
from normres.promises import may_use_gpu

MOST_ALIVE = 12  # processes at a time, for the sake of memory; more are timed group by group
END_SECONDS = 2  # for a process to end by itself, so that a compiler's helpers end with it
# Imported once, by the process that all others are forked from. None of it may start CUDA, which
# forked processes could not use then; torch._dynamo, which takes as long as torch itself and is
# imported when an optimiser is first made, is therefore left to each process where there is a GPU.
PRELOADED = ["normres.measurement", "normres.tables"]
PRELOADED_ON_CPU = ["torch._dynamo"]

# Why a configuration has no times: something happened; it cannot be trained. And why none has: a
# GPU was promised and is not there; another device than this machine has is asked for.
FAILED, REFUSED, NO_DEVICE, WRONG_DEVICE = "failed", "refused", "no device", "wrong device"


def serve(connection, *arguments: Any) -> None:
    """Be the process of one Measurement: answer (None, value) or (why there is none, reason).

    `arguments` are those of Measurement.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends, and with it the requests
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from normres.devices import choose_device  # torch: not in the process that gives turns
    from normres.measurement import Measurement

    *_, device, gpus = arguments
    measurement, refusal = None, WRONG_DEVICE
    with suppress(EOFError, OSError):
        while True:
            asked = connection.recv()
            try:
                if measurement is None:
                    choose_device(device, gpus)
                    refusal = REFUSED
                    measurement = Measurement(*arguments)
                answer = (None, getattr(measurement, asked)())
            except DeviceError as error:
                answer = (NO_DEVICE, str(error))
            except InputError as error:
                answer = (refusal, str(error))
            except Exception as error:
                answer = (FAILED, f"{type(error).__name__}: {first_sentence(error)}")
            connection.send(answer)


class Turns:
    """A configuration's process, as the one that gives turns sees it."""

    def __init__(self, context, arguments: Sequence[Any]):
        self.connection, others = context.Pipe()
        self.process = context.Process(target=serve, args=(others, *arguments))
        self.process.start()
        others.close()
        self.facts: dict[str, Any] | None = None
        self.repeats: list[dict[str, Any]] = []
        self.failure: tuple[str, str] | None = None  # why there are no times, and the reason

    def take(self, asked: str) -> None:
        """Let the process do what is `asked`, and wait for it.

        Raises DeviceError or InputError where there is no device to measure on.
        """
        if self.failure:
            return
        try:
            self.connection.send(asked)
            why, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            why, value = FAILED, f"its process ended (exit code {self.process.exitcode})"
        if why in (NO_DEVICE, WRONG_DEVICE):
            raise (DeviceError if why == NO_DEVICE else InputError)(value)
        if why is not None:
            self.failure = (why, value)
            self.end()
        elif asked == "prepare":
            self.facts = value
        elif asked == "repeat":
            self.repeats.append(value)

    def end(self) -> None:
        """End the process and wait until its memory is free; an idle one ends by itself."""
        self.connection.close()
        self.process.join(END_SECONDS)
        self.process.kill()
        self.process.join()

    def result(self) -> dict[str, Any]:
        """`facts` and seconds of each of the `repeats`; `reason`: None, or why there are none.

        `again`: whether another attempt may succeed where this one did not.
        """
        if self.failure:
            why, reason = self.failure
            return {"reason": reason, "again": why != REFUSED, "facts": None, "repeats": []}
        return {"reason": None, "again": False, "facts": self.facts, "repeats": self.repeats}


def measure(
    specifications: Sequence[Mapping[str, Any]],
    data: Path,
    device: str,
    gpus: int | None,
    repeats: int,
    cores: int,
    after_turn: Callable[[float], None] = lambda fraction: None,
) -> list[dict[str, Any]]:
    """Measure configurations, each `repeats` times; see Turns.result for what it gives of each.

    `data`, `device` and `gpus` are those of Measurement. What is not timed, the warm-up, may take
    place side by side on `cores` CPU cores. `after_turn` is told what part of all is done. A
    configuration that fails beside others, as where memory is short, is tried again alone. Raises
    DeviceError where a GPU was promised and is not there, InputError where one is asked for that
    is not there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED + PRELOADED_ON_CPU * (not may_use_gpu(device, gpus)))
    arguments = [(specification, str(data), device, gpus) for specification in specifications]
    done, total = 0, len(arguments) * (repeats + 2)
    counting = threading.Lock()  # warm-ups end side by side

    def count() -> None:
        nonlocal done
        with counting:
            done += 1
            after_turn(min(done / total, 1.0))

    results: list[dict[str, Any]] = [{}] * len(arguments)
    for members in together(specifications):
        timed = _measure_group(context, [arguments[i] for i in members], repeats, cores, count)
        for i, turns in zip(members, timed, strict=True):
            if turns.failure and turns.failure[0] == FAILED and len(members) > 1:
                (turns,) = _measure_group(context, [arguments[i]], repeats, cores, count)
            results[i] = turns.result()
    return results


def together(specifications: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Which configurations take turns: groups of at most MOST_ALIVE, by their places in the list.

    A network with a norm stays in one group with all values of the axes, if it has not too many: so
    both precisions of the study `precision` are measured within the same minutes. Norms of a
    network are in one group where there is room; a drift of the machine is a part of the difference
    of what is in two.
    """

    def network(place: int) -> tuple[str, str]:
        return specifications[place]["model"], specifications[place]["norm"]

    groups: list[list[int]] = []
    for _, members in itertools.groupby(sorted(range(len(specifications)), key=network), network):
        family = list(members)
        for start in range(0, len(family), MOST_ALIVE):
            some = family[start : start + MOST_ALIVE]
            if not groups or len(groups[-1]) + len(some) > MOST_ALIVE:
                groups.append([])
            groups[-1] += some
    return groups


def _measure_group(
    context, arguments: Sequence[Any], repeats: int, cores: int, count: Callable[[], None]
) -> list[Turns]:
    """Measure configurations that live side by side, in rounds, each in an order of its own."""
    threads = max(specification["cpu_threads"] for specification, *_ in arguments)
    order = random.Random(0)
    with ExitStack() as stack:
        group = []
        for each in arguments:
            group.append(Turns(context, each))
            stack.callback(group[-1].end)

        def take(turns: Turns, asked: str) -> None:
            turns.take(asked)
            count()

        with ThreadPoolExecutor(max(1, cores // threads)) as pool:
            try:
                list(pool.map(take, group, ["warm_up"] * len(group)))
            except BaseException:  # a signal: the pool would wait for all warm-ups to end
                for turns in group:
                    turns.process.kill()
                raise
        for asked in ["prepare"] + ["repeat"] * repeats:
            for turns in order.sample(group, len(group)):
                take(turns, asked)
    return group


def timing_rows(
    axes: Mapping[str, Any],
    timed: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The rows of timing.csv: one a configuration and repeat, or one with the reason of none.

    `axes` are those of the study that are timed, `timed` as timed.read_timed gives it.
    """
    rows = []
    for entry, result in zip(timed, results, strict=True):
        specification = entry["specification"]
        cells = {"model": entry["model"], "norm": entry["norm"]}
        cells |= {axis: entry["axes"].get(axis) for axis in axes}
        for option in ("batch_size", "cpu_threads"):
            cells.setdefault(option, specification[option])
        measured = [
            {"repeat": number, **_times(seconds, result["facts"]), "reason": None}
            for number, seconds in enumerate(result["repeats"], start=1)
        ]
        for times in measured or [dict.fromkeys(MEASURED) | {"reason": result["reason"]}]:
            rows.append(cells | times)
    return rows


MEASURED = (
    *("repeat", "device", "device_name", "resolved_precision", "compiled", "train_images"),
    *("step_seconds", "last_step_seconds", "epoch_seconds", "images_per_second"),
    *("latency_1_seconds", "latency_128_seconds", "peak_memory_bytes"),
    *("step_joules", "epoch_joules", "energy_source"),
)


def _times(seconds: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of one repeat. An epoch is all its full batches, and the short last one's.

    For its energy, all images count as those of full batches do.
    """
    environment, images = facts["environment"], facts["train_images"]
    step, last = seconds["step"], seconds.get("last_step")
    epoch = images // facts["batch_sizes"]["step"] * step + (last or 0.0)
    joules = seconds.get("step_joules")
    return {
        "device": environment["device"],
        "device_name": environment["device_name"],
        "resolved_precision": environment["precision"],
        "compiled": environment["compiled"],
        "train_images": images,
        "step_seconds": step,
        "last_step_seconds": last,
        "epoch_seconds": epoch,
        "images_per_second": images / epoch,
        "latency_1_seconds": seconds.get("latency_1"),
        "latency_128_seconds": seconds.get("latency_128"),
        "peak_memory_bytes": facts["peak_memory_bytes"],
        "step_joules": joules,
        "epoch_joules": joules and joules * images / facts["batch_sizes"]["step"],
        "energy_source": seconds["energy_source"],
    }
