"""Energy from the hardware's own counters: NVML on an NVIDIA GPU, RAPL on a CPU.

Both count all that a GPU or a processor takes, idle power included, whoever makes it work. So they
are read only where one configuration is measured at a time with nothing else on the device.
"""

import os
import re
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")  # Linux: powercap/intel-rapl, of AMD's processors, too


class NotMeasured(Exception):
    """Why there is no energy: a reason in a few words."""


class Meter(Protocol):
    """An energy counter. `source` says what it counts.

    `least_seconds` is how long a measurement has to take, from one update of the counter to
    another, so that its noise is little to it.
    """

    source: str
    least_seconds: float

    def joules(self) -> float:
        """Joules since some moment before the first call, as of the counter's last update."""


class GpuMeter:
    """The counter of one GPU (nvmlDeviceGetTotalEnergyConsumption, in mJ; from Volta on).

    Its sensor is read every 20 to 100 ms, on some GPUs for a quarter of the time (Yang, Adamek &
    Armour 2024, "Accurate and convenient energy measurements for GPUs", SC24). `uuid` is the GPU's,
    as "GPU-...". Raises NotMeasured.
    """

    source = "NVML: the whole GPU, idle power included"
    least_seconds = 0.2

    def __init__(self, uuid: str):
        try:
            import pynvml
        except ImportError:
            raise NotMeasured("the package nvidia-ml-py is not installed") from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.joules()
        except pynvml.NVMLError as error:
            raise NotMeasured(f"NVML does not tell this GPU's energy ({error})") from None

    def joules(self) -> float:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device) / 1e3


class CpuMeter:
    """The counters of all processor packages (RAPL): cores, caches, memory controller; no DRAM.

    They are updated about every millisecond (Intel SDM, volume 3, "Platform Specific Power
    Management Support") and start again from 0 after `max_energy_range_uj`. Raises NotMeasured.
    """

    least_seconds = 0.2

    def __init__(self, folder: Path = POWERCAP):
        if "SLURM_JOB_ID" in os.environ:
            raise NotMeasured("other jobs may share the processor of a cluster's node")
        zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if is_package(zone)]
        if not zones:
            raise NotMeasured("this machine has no energy counter of its processor (RAPL)")
        self._counters = [zone / "energy_uj" for zone in zones]
        try:
            self._ranges = [int((zone / "max_energy_range_uj").read_text()) + 1 for zone in zones]
            self._last, self._total = self._read(), 0
        except PermissionError:
            raise NotMeasured(f"only root may read {self._counters[0]}") from None
        except (OSError, ValueError) as error:
            raise NotMeasured(f"{self._counters[0]} cannot be read ({error})") from None
        packages = f"{len(zones)} processor package{'s' if len(zones) > 1 else ''}"
        self.source = f"RAPL: {packages} without DRAM, idle power included"

    def _read(self) -> list[int]:
        return [int(counter.read_text()) for counter in self._counters]

    def joules(self) -> float:
        now = self._read()
        parts = zip(now, self._last, self._ranges, strict=True)
        self._total += sum((value - before) % wraps_at for value, before, wraps_at in parts)
        self._last = now
        return self._total / 1e6


def is_package(zone: Path) -> bool:
    """Whether a powercap zone is a whole processor package, and not a part of one or the board.

    Zones of "intel-rapl-mmio" count the same packages once more.
    """
    try:
        name = (zone / "name").read_text().strip()
    except OSError:
        return False
    return re.fullmatch(r"package-\d+", name) is not None


def find_meter(gpu_uuid: str | None) -> tuple[Meter | None, str]:
    """The meter of a GPU, or of the CPU where there is none, and what it counts.

    Without one it is None, and the text says why: "not measured: ...".
    """
    try:
        meter = GpuMeter(gpu_uuid) if gpu_uuid else CpuMeter()
    except NotMeasured as reason:
        return None, f"not measured: {reason}"
    return meter, meter.source
