"""What a run was computed with and on, for run.json."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from normres.devices import Computation, cpp_compiler

# What a run's bytes depend on beside its specification and code: where one of these differs
# between two parts of a run, the run is not an exact continuation.
EXACT = (
    "torch",
    "torch_commit",
    "cuda",
    "cudnn",
    "cpu_capability",
    "instruction_sets",
    "device",
    "device_name",
    "precision",
    "memory_format",
    "compiled",
    "compiler",
    "cuda_graphs",
    "dense_products",
)


def describe(computation: Computation) -> dict[str, Any]:
    """Hardware, versions and computation, as JSON values."""
    device = computation.device
    return {
        "device": device.type,
        "device_name": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
        ),
        "node": platform.node(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": [
            name for name, there in sorted(torch.cpu.get_capabilities().items()) if there is True
        ],
        "cpu_threads": torch.get_num_threads(),
        "precision": computation.precision,
        "memory_format": str(computation.memory_format).removeprefix("torch."),
        "compiled": computation.compiled,
        "cuda_graphs": computation.graphed,
        "dense_products": computation.dense_products,
        "compiler": compiler_version(device.type) if computation.compiled else None,
        "torch": str(torch.__version__),
        "torch_commit": torch.version.git_version,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "torchvision": _version("torchvision"),
        "platform": platform.platform(),
        "git_commit": git_commit(),
    }


def processor_name() -> str:
    """The processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def compiler_version(device: str) -> str | None:
    """What torch.compile makes its code with: Triton on CUDA, else the C++ compiler."""
    if device == "cuda":
        return f"triton {_version('triton')}"
    said = subprocess.run([cpp_compiler(), "--version"], capture_output=True, text=True)
    return said.stdout.partition("\n")[0]


def git_commit() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None without git."""
    folder = Path(__file__).parent
    try:
        answers = [
            subprocess.run(
                ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    commit, changes = answers
    return f"{commit}+changes" if changes else commit


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
