"""How much of this machine's memory the jobs of a call may take."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

# What a run takes of the machine's memory (not of a GPU's) at batch 128 of 32 x 32 pixels:
# on a CPU up to 1.9 GB were measured (VGG11, ResNet; docs/performance.md).
RUN_MB = {"cpu": 2000, "cuda": 4000}

OWN_GROUPS, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # cgroups(7)
# A control group's files of its limit and of what it uses, and what of that its memory.stat calls
# free for the asking: of version 2, and of the controller `memory` of version 1.
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def share_memory(workflow) -> None:
    """Limit the memory of all jobs together to what is free here.

    Else many cores with little memory would start as many runs as cores. Snakemake's own limit
    (`--resources mem_mb=N`) stays where it was given.
    """
    if workflow.global_resources.get("mem_mb").value is None:
        workflow.register_resource("mem_mb", free_mb())


def free_mb() -> int:
    """Memory in MB that this process may still have: free, or free for the asking."""
    left = [psutil.virtual_memory().available, *_left_in_groups()]
    return max(min(left) // 10**6, 1)


def _left_in_groups() -> Iterator[int]:
    """Bytes that are left to each control group above this process that has a limit."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, names = CGROUPS, V2
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", V1
        else:
            continue
        group = root / path.lstrip("/")
        for place in (group, *group.parents):
            if place.is_relative_to(root):
                with suppress(OSError, ValueError):  # not there, or "max"
                    yield _left(place, *names)


def _left(group: Path, limit: str, used: str, spare: str) -> int:
    most, now = (int((group / name).read_text()) for name in (limit, used))
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return most - now + int(stat.get(spare, 0))
