"""How much of this machine's memory the jobs of a call may take."""

from pathlib import Path

import psutil

# What a run takes of the machine's memory (not of a GPU's) at batch 128 of 32 x 32 pixels:
# on a CPU up to 1.9 GB were measured (VGG11, ResNet; docs/performance.md).
RUN_MB = {"cpu": 2000, "cuda": 4000}

CGROUPS = Path("/sys/fs/cgroup")


def share_memory(workflow) -> int:
    """Limit the memory of all jobs together to what is free here; returns the limit in MB.

    Else many cores with little memory would start as many runs as cores. Snakemake's own limit
    (`--resources mem_mb=N`) stays where it was given.
    """
    limit = workflow.global_resources.get("mem_mb").value
    if limit is None:
        limit = free_mb()
        workflow.register_resource("mem_mb", limit)
    return limit


def free_mb() -> int:
    """Memory in MB that is free, or would be for the asking, and that this process may have."""
    group = own_cgroup()
    bounds = [bound for place in (group, *group.parents) if (bound := cgroup_bytes(place))]
    return min([psutil.virtual_memory().available, *bounds]) // 10**6


def own_cgroup() -> Path:
    """The control group of this process; where there is none, the root of all."""
    try:
        *_, path = Path("/proc/self/cgroup").read_text().strip().partition("0::/")
    except OSError:
        path = ""
    return CGROUPS / path


def cgroup_bytes(group: Path) -> int | None:
    """The limit of a control group (v2) in bytes; None where it has none."""
    try:
        limit = (group / "memory.max").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else int(limit)
