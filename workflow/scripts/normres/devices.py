"""Where and how a network is computed: device, precision, memory layout, compilation, threads."""

import os
import platform
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._triton import has_triton

from normres.errors import DeviceError, InputError, first_sentence
from normres.promises import may_use_gpu

# How a network is computed follows from its norm and the device, by measurement (the table is in
# docs/performance.md; benchmarks/training_speed.py --choices makes it again). On a CPU,
# channels_last but for norms over groups of channels that are not compiled, for which PyTorch has
# no fast kernel in that layout: ConvNet with group norm in bfloat16 trained at 662 images/s in
# channels_last and 2064 contiguous, without norm at 2649 and 2496 (median of 5 turns; two cores of
# an AMD EPYC with AVX512-BF16, torch 2.14.1).
CONTIGUOUS_NORMS = {"group", "layer", "instance"}
# In bfloat16 compiled code was never more than a few percent ahead there, in float32 in one case of
# three, by 15 %. Where a processor has AMX, bfloat16 convolutions are so fast that what lies
# between them is worth fusing: 1.05 to 1.37 times as fast as the eager layout that is best (two
# cores of an Intel Xeon, torch 2.14.1); VGG11, and ConvNet without norm, were not faster.
COMPILED_WITH_AMX = {
    *(("convnet", norm) for norm in ("batch", "group")),
    *((network, norm) for network in ("resnet", "plainnet") for norm in ("none", "batch", "group")),
}
# On CUDA compiled steps were 1.1 to 2.5 times as fast as graphs of PyTorch's own kernels, in either
# layout (one H100, torch 2.11.0): all are compiled, in channels_last.

# How PyTorch's CPU allocator, CUDA with its driver and Triton, and CUDA's libraries (cuBLAS, cuDNN
# 9) say that there is too little memory.
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|ALLOC(ATION)?_FAILED")


@dataclass(frozen=True)
class Computation:
    """What a run's numbers depend on beside its specification; written into run.json."""

    device: torch.device
    precision: str  # "float32" or "bfloat16"
    memory_format: torch.memory_format
    compiled: bool
    graphed: bool  # steps are replayed from CUDA graphs

    @property
    def dense_products(self) -> bool:
        """Whether convolutions on the smallest maps are computed as dense products."""
        return self.device.type == "cpu"

    def autocast(self) -> torch.autocast:
        """The context in which networks are evaluated: bfloat16 where the precision says so."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked to do, so that a clock may be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def choose_device(wanted: str, promised: int | None) -> str:
    """Resolve `wanted` ("auto", "cpu" or "cuda") to "cpu" or "cuda".

    `promised` is how many GPUs a scheduler has promised, None where there is no scheduler. Raises
    DeviceError where one is promised and not there: a run must not take a hundred times as long
    without a word. Raises InputError where "cuda" is wanted without a promise and not there; within
    a SLURM job DeviceError, for another node may have one.
    """
    if not may_use_gpu(wanted, promised):
        return "cpu"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    where = f"on {platform.node()} (CUDA_VISIBLE_DEVICES: {visible or 'empty'})"
    if torch.cuda.is_available():
        try:
            check_capability()  # the first that starts CUDA
        except RuntimeError as error:  # another process has it, or it is broken
            said = first_sentence(error)
            raise DeviceError(f"torch cannot use the GPU {where}: {said}") from None
        return "cuda"
    if promised:
        raise DeviceError(
            f"a GPU was promised, but torch sees none {where}; "
            "check the node's driver, or set `device: cpu`"
        )
    if wanted == "cuda":
        kind = DeviceError if "SLURM_JOB_ID" in os.environ else InputError
        raise kind(f"device: cuda, but torch sees no CUDA device {where}; use auto or cpu")
    return "cpu"


def check_capability() -> None:
    """Raise DeviceError where the GPU is older than all that PyTorch's build has kernels for."""
    kernels = [re.fullmatch(r"sm_(\d+)(\d)", name) for name in torch.cuda.get_arch_list()]
    oldest = min(((int(found[1]), int(found[2])) for found in kernels if found), default=(0, 0))
    found = torch.cuda.get_device_capability()
    if found < oldest:
        raise DeviceError(
            f"{torch.cuda.get_device_name()} has compute capability {found[0]}.{found[1]}, the "
            f"kernels of this build of PyTorch begin at {oldest[0]}.{oldest[1]}; install another "
            "build, or set `device: cpu`"
        )


def choose_computation(specification: Mapping[str, Any], device: str) -> Computation:
    """Resolve the specification's precision and layout on `device`, "cpu" or "cuda".

    Sets the number of threads and switches TF32 off, for the whole process; on CUDA it takes
    deterministic kernels from then on, without a trial of cuDNN's.
    """
    torch.set_num_threads(specification["cpu_threads"])
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if device == "cuda":
        use_deterministic_kernels()

    precision = specification["precision"]
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16_units(device) else "float32"
    compiled = wants_compilation(specification, device, precision) and can_compile(device)
    if compiled:
        share_compiled_code(specification["cpu_threads"])
    return Computation(
        device=torch.device(device),
        precision=precision,
        memory_format=memory_format(specification["norm"], device, compiled),
        compiled=compiled,
        graphed=device == "cuda",
    )


def memory_format(norm: str, device: str, compiled: bool) -> torch.memory_format:
    """The layout of images and weights in memory, from the table above."""
    contiguous = device == "cpu" and not compiled and norm in CONTIGUOUS_NORMS
    return torch.contiguous_format if contiguous else torch.channels_last


def wants_compilation(specification: Mapping[str, Any], device: str, precision: str) -> bool:
    """Whether the network shall be compiled: what the specification says, or the table above."""
    if specification["compile"] != "auto":
        return specification["compile"]
    if device == "cuda":
        return True
    cell = (specification["model"], specification["norm"])
    return precision == "bfloat16" and has_amx() and cell in COMPILED_WITH_AMX


def say_uncompiled(specification: Mapping[str, Any], computation: Computation) -> None:
    """Print what was missing, where the network should be compiled and is not."""
    wanted = wants_compilation(specification, computation.device.type, computation.precision)
    if wanted and not computation.compiled:
        print(
            "not compiled: torch.compile needs a C++ compiler (on CUDA: a C compiler and Triton), "
            "Python's headers, and a folder for its code that is not mounted noexec"
        )


@contextmanager
def short_of_memory(advice: str) -> Iterator[None]:
    """Raise a MemoryError of one line, with the advice, where a device has too little memory."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        # Within a graph's capture what is raised last is that the capture has failed.
        while cause is not None and not lacks_memory(cause):
            cause = cause.__context__
        if cause is None:
            raise
        said = str(cause).rpartition("DefaultCPUAllocator: ")[2]  # after file and line of its code
        lines = said.splitlines() or [""]
        line = next(filter(NO_MEMORY.search, lines), lines[0])  # a compiler has a line before
        raise MemoryError(f"{line.partition('. ')[0]}; {advice}") from None


def lacks_memory(error: BaseException) -> bool:
    """Whether an error is one of the forms in which PyTorch says that there is too little memory.

    The allocator for CUDA has a class of its own; the others have only words.
    """
    said = isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
    return said or isinstance(error, torch.OutOfMemoryError)


def has_amx() -> bool:
    """Whether this processor multiplies matrices in bfloat16 by units of their own (AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def share_compiled_code(threads: int) -> None:
    """Let all runs of a user on this machine share the code that torch.compile makes.

    The first run pays for it. Code is apart by what it is made for: the number of threads stands in
    it, and a folder may outlive a change of processor or of PyTorch. A variable that is set stays.
    """
    processor = torch.backends.cpu.get_cpu_capability() + "-AMX" * has_amx()
    made_for = f"{torch.__version__}-{processor}-{threads}"
    folder = Path(tempfile.gettempdir()) / f"normres-compiled-{os.getuid()}" / made_for
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def use_deterministic_kernels() -> None:
    """Make CUDA give the same bytes for the same seed; the CPU kernels used here always do.

    Filling fresh memory would only help to find reads of uninitialised values, at a price in time.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False


def has_bfloat16_units(device: str) -> bool:
    """Whether bfloat16 is computed by units of its own, not emulated, on "cpu" or "cuda".

    On a CPU it is oneDNN that uses them; PyTorch's builds for macOS come without it.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.mkldnn.is_available():
        return False
    return any("bf16" in name and there for name, there in torch.cpu.get_capabilities().items())


def can_compile(device: str) -> bool:
    """Whether torch.compile has what it needs: a compiler, Python's headers; on CUDA Triton, too.

    Triton's own code is for the GPU, but what starts it is C, compiled at first use. Code is loaded
    from where it is kept, which the folder's mount must allow.
    """
    compiler = cpp_compiler() if device == "cpu" else c_compiler()
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        return False
    kept = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir()))
    there = next(folder for folder in (kept, *kept.absolute().parents) if folder.exists())
    if os.statvfs(there).f_flag & getattr(os, "ST_NOEXEC", 0):  # 0 on macOS
        return False
    return device == "cpu" or has_triton()


def cpp_compiler() -> str | None:
    """The path of the C++ compiler that torch.compile takes, or None where it is not there."""
    usual = "clang++" if platform.system() == "Darwin" else "g++"
    return shutil.which(os.environ.get("CXX", usual))


def c_compiler() -> str | None:
    """The path of the C compiler that Triton takes, or None where it is not there."""
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return next(filter(None, map(shutil.which, names)), None)
