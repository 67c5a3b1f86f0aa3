"""Which of this machine's GPUs runs may use, found out without torch: its import takes seconds.

What PyTorch's build asks of driver and GPU is compared before anything is promised to a run, so
that a machine whose GPU is too old for it trains on its CPU, and says so.
"""

import ctypes
import itertools
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

# By the first number of a CUDA version, the oldest compute capability that its compiler and
# libraries support (CUDA 13.0's release notes). Of other versions the run finds out.
OLDEST_CAPABILITY = {13: (7, 5)}


def visible_gpus() -> list[str]:
    """The GPUs that runs may use, as CUDA_VISIBLE_DEVICES would name them.

    Those that the variable names, where it is set, unseen; else those of nvidia-smi that PyTorch
    can use, by their place on the PCI bus. As in CUDA, a name that can be no GPU's hides all
    that come after it. A GPU that is named twice counts once: each run is given one name.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return _find_gpus()[0]
    names = (name.strip() for name in named.split(","))
    return list(dict.fromkeys(itertools.takewhile(_may_be_a_gpu, names)))


def gpu_trouble() -> str | None:
    """Why runs can use no GPU, where nvidia-smi fails or PyTorch is too new for what it lists."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return None
    usable, trouble = _find_gpus()
    return None if usable else trouble


def mps_is_running() -> bool:
    """Whether NVIDIA's Multi-Process Service runs here, by its control pipe.

    With it, processes compute on a GPU at once; without it they take turns.
    """
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
    return Path(folder, "control").exists()


def _may_be_a_gpu(name: str) -> bool:
    return name not in ("", "NoDevFiles") and not name.startswith("-")


def _find_gpus() -> tuple[list[str], str | None]:
    """What nvidia-smi lists and PyTorch can use; and what keeps it from using the others."""
    if not shutil.which("nvidia-smi"):
        return [], None
    listed = _ask("index")
    # Beside the list there may be warnings, with exit codes of their own: a GPU whose infoROM is
    # corrupted computes all the same.
    gpus = re.findall(r"^(\d+)\s*$", listed.stdout, re.MULTILINE)
    if not gpus:
        said = (listed.stdout + listed.stderr).split("\n")[0].strip()
        if not said and not listed.returncode:
            return [], None
        return [], f"nvidia-smi lists no GPU: {said or f'exit code {listed.returncode}'}"
    if (build := _torch_cuda()) is None:
        return gpus, None
    if not build:
        return [], "this build of PyTorch has no CUDA"
    wanted, driver = int(build.partition(".")[0]), _driver_cuda()
    if driver and driver[0] < wanted:
        old = f"NVIDIA's driver (CUDA {driver[0]}.{driver[1]}) is too old"
        return [], f"{old} for this build of PyTorch (CUDA {build})"
    if wanted not in OLDEST_CAPABILITY:
        return gpus, None
    return _without_old(gpus, OLDEST_CAPABILITY[wanted], build)


def _without_old(
    gpus: list[str], oldest: tuple[int, int], build: str
) -> tuple[list[str], str | None]:
    """Those of `gpus` that are not older than the `oldest` compute capability, and why not all."""
    listed, usable, trouble = _ask("index,compute_cap,name"), [], None
    found = re.findall(r"^(\d+), (\d+)\.(\d+), (.*)", listed.stdout, re.MULTILINE)
    if len(found) < len(gpus):
        return gpus, None  # it does not tell: the run will
    for index, major, minor, name in found:
        if (int(major), int(minor)) >= oldest:
            usable.append(index)
        else:
            has = f"{name} has compute capability {major}.{minor}"
            trouble = f"{has}, PyTorch's CUDA {build} begins at {oldest[0]}.{oldest[1]}"
    return usable, trouble


def _ask(fields: str) -> subprocess.CompletedProcess:
    """What nvidia-smi says of each GPU."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True)


def _torch_cuda() -> str | None:
    """The CUDA version of PyTorch's build, empty for one without; None where it cannot be told.

    That is where Snakemake's environment has no PyTorch: jobs have one of their own then.
    """
    if (spec := find_spec("torch")) is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text()
    found = re.search(r"^cuda\b[^=]*=\s*(?:'([\d.]+)'|None)", text, re.MULTILINE)
    return found and (found[1] or "")


def _driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA version that the driver supports; None where it cannot be asked.

    Asked of the driver's library, since that is the one of NVIDIA's forward-compatibility packages
    where PyTorch would use those, too.
    """
    version = ctypes.c_int()
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10
