"""Which GPUs runs are promised: by a pretended nvidia-smi, driver and build of PyTorch."""

import os
import shutil
import subprocess
import sys

import pytest

from conftest import PROJECT
from normres import gpus
from normres.gpus import gpu_trouble, visible_gpus
from normres.leases import lease_gpu

# Answers for two GPUs, as nvidia-smi does for each list of fields.
NVIDIA_SMI = """#!/bin/sh
case "$1" in
    --query-gpu=index) printf '0\\n1\\n' ;;
    --query-gpu=index,compute_cap,name)
        printf '0, {0}, NVIDIA GeForce GTX 1080\\n1, {1}, NVIDIA GeForce RTX 3060\\n' ;;
    *) exit 2 ;;
esac
"""
TOO_OLD = "NVIDIA's driver (CUDA 12.4) is too old for this build of PyTorch (CUDA 13.0)"
NEW = NVIDIA_SMI.format("8.6", "8.6")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with what is called, its driver and PyTorch's build as given; no GPU is named."""

    def make(nvidia_smi=NEW, driver=(13, 0), build="13.0"):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(nvidia_smi)
        tool.chmod(0o755)
        monkeypatch.setattr(gpus, "_driver_cuda", lambda: driver)
        monkeypatch.setattr(gpus, "_torch_cuda", lambda: build)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return make


@pytest.mark.parametrize(
    "value, named",
    [
        ("0, 2", ["0", "2"]),
        ("GPU-8932f937,GPU-2", ["GPU-8932f937", "GPU-2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,2,-1,1", ["0", "2"]),  # of CUDA's documentation: 1 is hidden, as all after -1
        ("0,,1", ["0"]),
        ("1,1", ["1"]),
    ],
)
def test_what_is_named_is_taken_unseen(machine, monkeypatch, value, named):
    machine(driver=(12, 4))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == named and gpu_trouble() is None


def test_without_nvidia_smi_there_is_none(machine):
    assert visible_gpus() == [] and gpu_trouble() is None


def test_what_nvidia_smi_lists(machine):
    machine()
    assert visible_gpus() == ["0", "1"] and gpu_trouble() is None
    machine("#!/bin/sh\n")
    assert visible_gpus() == [] and gpu_trouble() is None
    machine("#!/bin/sh\necho 'NVIDIA-SMI has failed'\necho 'more'\nexit 9\n")
    assert visible_gpus() == []
    assert gpu_trouble() == "nvidia-smi lists no GPU: NVIDIA-SMI has failed"
    machine("#!/bin/sh\nexit 9\n")
    assert gpu_trouble() == "nvidia-smi lists no GPU: exit code 9"
    machine("#!/bin/sh\necho 'No devices were found'\n")  # as some versions do, with exit code 0
    assert visible_gpus() == []
    assert gpu_trouble() == "nvidia-smi lists no GPU: No devices were found"


def test_warnings_of_nvidia_smi_hide_no_gpu(machine):
    """A corrupted infoROM, by which a GPU computes as before, is a line more and exit code 14."""
    warning = "\necho 'WARNING: infoROM is corrupted at gpu 0000:00:1E.0'\n"
    machine(NEW + warning)
    assert visible_gpus() == ["0", "1"] and gpu_trouble() is None
    machine(NVIDIA_SMI.format("6.1", "8.6") + warning + "exit 14\n")
    assert visible_gpus() == ["1"] and gpu_trouble() is None
    lost = "#!/bin/sh\necho 'Unable to determine the device handle for GPU1: GPU is lost'\n"
    machine(lost + "exit 15\n")
    assert visible_gpus() == [] and "GPU is lost" in gpu_trouble()


@pytest.mark.parametrize(
    "driver, build, trouble",
    [
        (
            (12, 4),
            "13.0",
            "NVIDIA's driver (CUDA 12.4) is too old for this build of PyTorch (CUDA 13.0)",
        ),
        ((13, 1), "", "this build of PyTorch has no CUDA"),
        ((13, 1), "13.0", None),
        ((13, 1), "12.8", None),  # drivers run what was built for older versions
        ((12, 0), "12.8", None),  # and for newer ones with the same first number
        (None, "13.0", None),  # it cannot be told
        ((12, 4), None, None),
    ],
)
def test_a_driver_that_is_too_old_for_pytorch(machine, driver, build, trouble):
    machine(driver=driver, build=build)
    assert visible_gpus() == ([] if trouble else ["0", "1"])
    assert gpu_trouble() == trouble


def test_gpus_that_are_too_old_for_pytorch(machine, monkeypatch):
    machine(NVIDIA_SMI.format("6.1", "8.6"))
    assert visible_gpus() == ["1"] and gpu_trouble() is None
    machine(NVIDIA_SMI.format("6.1", "7.5"))
    assert visible_gpus() == ["1"]
    machine(NVIDIA_SMI.format("6.1", "7.0"))
    assert visible_gpus() == []
    assert gpu_trouble() == (
        "NVIDIA GeForce RTX 3060 has compute capability 7.0, PyTorch's CUDA 13.0 begins at 7.5"
    )
    machine(NVIDIA_SMI.format("6.1", "7.0"), build="12.8")
    assert visible_gpus() == ["0", "1"]  # that build may have kernels for them
    machine(NVIDIA_SMI.format("[N/A]", "[N/A]"))
    assert visible_gpus() == ["0", "1"]


def test_a_lease_counts_gpus_as_nvidia_smi_does(machine, monkeypatch, tmp_path):
    """CUDA itself counts from the fastest: its 1 would be the old one."""
    monkeypatch.setattr("normres.leases.held", [])
    monkeypatch.setattr("normres.leases.tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    machine(NVIDIA_SMI.format("6.1", "8.6"))
    lease_gpu(1, pytest.fail)
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"
    assert os.environ.pop("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"


def test_the_build_of_pytorch_that_is_installed():
    import torch

    assert gpus._torch_cuda() == (torch.version.cuda or "")


def test_what_the_first_line_of_a_call_says(tmp_path):
    """A driver of CUDA 12.4, asked through its library, beside PyTorch for CUDA 13."""
    if not (compiler := shutil.which("cc")) or not (gpus._torch_cuda() or "").startswith("13."):
        pytest.skip("needs a C compiler, and PyTorch for CUDA 13")
    source, library = tmp_path / "driver.c", tmp_path / "libcuda.so.1"
    source.write_text("int cuDriverGetVersion(int *version) { *version = 12040; return 0; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(NEW)
    tool.chmod(0o755)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "COLUMNS": "200"}
    environment["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    call = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "--snakefile"]
    done = subprocess.run(
        [*call, str(PROJECT / "Snakefile")],
        cwd=PROJECT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    expected = "on 2 cores, since NVIDIA's driver (CUDA 12.4) is too old for this build of PyTorch"
    assert expected in " ".join(done.stderr.split())
